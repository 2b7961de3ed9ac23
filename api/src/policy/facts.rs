//! What a decision may need to know about an image beyond its name, and what is known.

use trow_raft::Digest;

/// What must be found out before a decision; nothing for most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Whether the image is there.
    pub exists: bool,
    /// Whether all of it lies on all its nodes.
    pub replicated: bool,
    /// What its tag resolves to.
    pub digest: bool,
    /// Which of these keys, by name, signed it; any of them is enough.
    pub signed_by: Vec<String>,
}

impl Needs {
    /// Whether the name alone decides.
    pub fn is_empty(&self) -> bool {
        *self == Needs::default()
    }

    /// The needs in words, as a rule states them.
    pub fn words(&self) -> Vec<String> {
        let required = [(self.exists, "exists"), (self.replicated, "replicated"), (self.digest, "resolves")];
        let required = required.into_iter().filter(|(needed, _)| *needed).map(|(_, word)| word.to_owned());
        let signed =
            (!self.signed_by.is_empty()).then(|| format!("signed by {}", self.signed_by.join(" or ")));
        required.chain(signed).collect()
    }
}

/// Something about an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fact<T> {
    /// Nobody asked.
    #[default]
    NotAsked,
    /// It is so.
    Known(T),
    /// It could not be found out, and why, in words for a user.
    Unknown(String),
}

impl<T> Fact<T> {
    /// What is known, else why it is not.
    pub(super) fn known(&self) -> Result<&T, &str> {
        match self {
            Fact::Known(value) => Ok(value),
            Fact::Unknown(why) => Err(why),
            Fact::NotAsked => Err("it was not looked up"),
        }
    }
}

/// Whether an image has the copies that it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copies {
    /// It has.
    Enough,
    /// It has not: what is missing and what to do about it, in words for a user.
    Missing(String),
}

/// What is known about an image. What is needed and not known denies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether it is there.
    pub exists: Fact<bool>,
    /// Whether all of it lies on its nodes.
    pub replicated: Fact<Copies>,
    /// What its tag resolves to; none when there is no such tag.
    pub digest: Fact<Option<Digest>>,
    /// The names of the keys, of those asked for, that signed it.
    pub signed_by: Fact<Vec<String>>,
}
