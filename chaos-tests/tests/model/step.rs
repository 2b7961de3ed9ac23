//! The requests that are drawn at random, changes more often than reads.

use proptest::prelude::*;

use crate::content::{BLOBS, MANIFESTS, REPOS, TAGS};
use crate::state::{Condition, Repo};

/// How a blob is pushed.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// One POST.
    Post,
    /// POST, and PUT with the bytes.
    Put,
    /// POST, PATCH without a range, PUT without bytes.
    Stream,
    /// POST, two PATCHes with a refused one in between, PUT with the rest.
    Chunks,
}

/// What a request on a tag supposes.
#[derive(Clone, Copy, Debug)]
pub enum Guess {
    Nothing,
    /// That the tag is not there.
    Absent,
    /// That it points to this manifest.
    Is(u8),
    /// That it points to where it does; to any manifest when it is not there.
    Right,
}

impl Guess {
    pub fn condition(self, repo: &Repo, tag: u8) -> Condition {
        match self {
            Guess::Nothing => Condition::None,
            Guess::Absent => Condition::Absent,
            Guess::Is(manifest) => Condition::Is(manifest),
            Guess::Right => Condition::Is(repo.tags.get(&tag).map_or(0, |(manifest, _)| *manifest)),
        }
    }
}

/// One call of a client, of one request or a few. Numbers name what [`crate::content`] has.
#[derive(Clone, Debug)]
pub enum Step {
    Push {
        repo: u8,
        blob: u8,
        form: Form,
    },
    /// Under the digest of something else.
    PushWrong {
        repo: u8,
        blob: u8,
    },
    /// Begun and cancelled.
    Cancel {
        repo: u8,
        blob: u8,
    },
    Mount {
        repo: u8,
        from: Option<u8>,
        blob: u8,
    },
    DeleteBlob {
        repo: u8,
        blob: u8,
    },
    Put {
        repo: u8,
        tag: u8,
        manifest: u8,
        guess: Guess,
    },
    /// By digest, with these tags.
    PutTags {
        repo: u8,
        manifest: u8,
        tags: Vec<u8>,
    },
    /// Under the digest of something else.
    PutWrong {
        repo: u8,
        manifest: u8,
    },
    DeleteTag {
        repo: u8,
        tag: u8,
        guess: Guess,
    },
    DeleteManifest {
        repo: u8,
        manifest: u8,
    },
    ReadBlob {
        repo: u8,
        blob: u8,
    },
    ReadManifest {
        repo: u8,
        manifest: u8,
    },
    ReadTag {
        repo: u8,
        tag: u8,
    },
    /// In pages of so many.
    Tags {
        repo: u8,
        page: usize,
    },
    /// In pages of so many.
    Catalog {
        page: usize,
    },
    Referrers {
        repo: u8,
        subject: u8,
    },
}

fn guess() -> impl Strategy<Value = Guess> {
    prop_oneof![
        4 => Just(Guess::Nothing),
        1 => Just(Guess::Absent),
        1 => (0..MANIFESTS).prop_map(Guess::Is),
        2 => Just(Guess::Right),
    ]
}

fn change() -> impl Strategy<Value = Step> {
    let (repos, blobs, manifests, tags) = (|| 0..REPOS, || 0..BLOBS, || 0..MANIFESTS, || 0..TAGS);
    let form = prop_oneof![Just(Form::Post), Just(Form::Put), Just(Form::Stream), Just(Form::Chunks)];
    let put = (repos(), tags(), manifests(), guess());
    let put_tags = (repos(), manifests(), proptest::collection::btree_set(tags(), 0..=4));
    prop_oneof![
        8 => (repos(), blobs(), form).prop_map(|(repo, blob, form)| Step::Push { repo, blob, form }),
        1 => (repos(), blobs()).prop_map(|(repo, blob)| Step::PushWrong { repo, blob }),
        1 => (repos(), blobs()).prop_map(|(repo, blob)| Step::Cancel { repo, blob }),
        4 => (repos(), proptest::option::of(repos()), blobs())
            .prop_map(|(repo, from, blob)| Step::Mount { repo, from, blob }),
        4 => (repos(), blobs()).prop_map(|(repo, blob)| Step::DeleteBlob { repo, blob }),
        9 => put.prop_map(|(repo, tag, manifest, guess)| Step::Put { repo, tag, manifest, guess }),
        5 => put_tags.prop_map(|(repo, manifest, tags)| {
            Step::PutTags { repo, manifest, tags: tags.into_iter().collect() }
        }),
        1 => (repos(), manifests()).prop_map(|(repo, manifest)| Step::PutWrong { repo, manifest }),
        3 => (repos(), tags(), guess())
            .prop_map(|(repo, tag, guess)| Step::DeleteTag { repo, tag, guess }),
        4 => (repos(), manifests()).prop_map(|(repo, manifest)| Step::DeleteManifest { repo, manifest }),
    ]
}

fn read() -> impl Strategy<Value = Step> {
    let repos = || 0..REPOS;
    prop_oneof![
        (repos(), 0..BLOBS).prop_map(|(repo, blob)| Step::ReadBlob { repo, blob }),
        (repos(), 0..MANIFESTS).prop_map(|(repo, manifest)| Step::ReadManifest { repo, manifest }),
        (repos(), 0..TAGS).prop_map(|(repo, tag)| Step::ReadTag { repo, tag }),
        (repos(), 1..4usize).prop_map(|(repo, page)| Step::Tags { repo, page }),
        (1..4usize).prop_map(|page| Step::Catalog { page }),
        (repos(), 0..MANIFESTS).prop_map(|(repo, subject)| Step::Referrers { repo, subject }),
    ]
}

/// The calls of one run.
pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(prop_oneof![3 => change(), 1 => read()], 1..100)
}

/// The calls that every run begins with: without them most pushes of manifests would be refused.
pub fn first() -> impl Iterator<Item = Step> {
    let forms = [Form::Post, Form::Put, Form::Stream, Form::Chunks];
    let pushes = (0..REPOS).flat_map(|repo| [(repo, 0), (repo, 1)]);
    pushes.zip(forms.into_iter().cycle()).map(|((repo, blob), form)| Step::Push { repo, blob, form })
}
