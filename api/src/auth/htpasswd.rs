//! A file of users as `htpasswd -B` writes it: `name:bcrypt-hash` a line.
//!
//! Always holds: refusing takes the same work whether the name is known or not, whatever the
//! costs of the hashes in the file; an empty password lets nobody in. Never does: name a hash, or
//! anything else of a line, in a problem.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use bcrypt::HashParts;

use super::Caller;

/// Longest name, in bytes; as long as `htpasswd` accepts.
const NAME_MAX: usize = 255;
/// Highest cost: one more doubles the time, and a check at this one takes seconds. `htpasswd`
/// goes as far.
const COST_MAX: u32 = 17;

/// Users and the hashes of their passwords.
#[derive(Default)]
pub struct Htpasswd {
    users: BTreeMap<String, Hash>,
    /// The highest cost of any hash: what a check costs.
    cost: u32,
}

struct Hash {
    text: String,
    cost: u32,
}

/// A line that is not a user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub why: &'static str,
}

/// What a check took: rounds of bcrypt, 2^cost for each hash that was computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work(pub u64);

/// bcrypt's lowest cost; also the cost of a check when there are no users at all.
const COST_MIN: u32 = 4;

impl Htpasswd {
    /// Reads the whole file. Empty lines, and those that begin with `#`, do not count.
    ///
    /// # Errors
    /// Every bad line.
    pub fn parse(text: &str) -> Result<Htpasswd, Vec<BadLine>> {
        let mut file = Htpasswd { users: BTreeMap::new(), cost: COST_MIN };
        let mut bad = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match user(line) {
                Ok((name, _)) if file.users.contains_key(name) => {
                    bad.push(BadLine { line: index + 1, why: "the user has a line already" });
                }
                Ok((name, hash)) => {
                    file.cost = file.cost.max(hash.cost);
                    file.users.insert(name.to_owned(), hash);
                }
                Err(why) => bad.push(BadLine { line: index + 1, why }),
            }
        }
        if bad.is_empty() { Ok(file) } else { Err(bad) }
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether nobody can log in.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Whether the password is the user's, and what it took to find out. Slow on purpose: not for
    /// a thread that serves others.
    pub fn check(&self, name: &str, password: &[u8]) -> (bool, Work) {
        let decoy = Hash::decoy(self.cost.max(COST_MIN));
        let (known, hash) = match self.users.get(name) {
            Some(hash) => (true, hash),
            None => (false, &decoy),
        };
        let mut work = Work::default();
        let same = hash.verify(password, &mut work);
        if same && known && !password.is_empty() {
            return (true, work);
        }
        // 2^c + (2^c + 2^(c+1) + … + 2^(max-1)) = 2^max, whatever c is.
        for cost in hash.cost..self.cost {
            Hash::decoy(cost).verify(password, &mut work);
        }
        (false, work)
    }
}

/// The user of a line, or what is wrong with it.
fn user(line: &str) -> Result<(&str, Hash), &'static str> {
    let (name, hash) = line.split_once(':').ok_or("expected name:hash, as `htpasswd -B` writes it")?;
    if name.is_empty() || name.len() > NAME_MAX {
        return Err("the name must have 1 to 255 bytes");
    }
    if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("the name has white space or control characters in it");
    }
    if name == Caller::ADMIN {
        return Err("admin is the administrator, whose password is the admin token: choose another name");
    }
    if Caller::RESERVED.contains(&name) {
        return Err("the name is one that Trow uses itself: choose another");
    }
    Ok((name, hash.parse()?))
}

impl FromStr for Hash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if !["$2y$", "$2b$", "$2a$"].iter().any(|prefix| text.starts_with(prefix)) {
            return Err("the password is not hashed with bcrypt: use `htpasswd -B`");
        }
        let parts: HashParts = text.parse().map_err(|_| "the bcrypt hash is damaged")?;
        let cost = parts.get_cost();
        if !(COST_MIN..=COST_MAX).contains(&cost) {
            return Err("the cost of the bcrypt hash is not 4 to 17");
        }
        Ok(Hash { text: text.to_owned(), cost })
    }
}

impl Hash {
    /// A hash of no password that anybody knows.
    fn decoy(cost: u32) -> Hash {
        Hash { text: format!("$2b${cost:02}${}", ".".repeat(53)), cost }
    }

    fn verify(&self, password: &[u8], work: &mut Work) -> bool {
        work.0 += 1 << self.cost;
        bcrypt::verify(password, &self.text).unwrap_or(false)
    }
}

impl fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Htpasswd({} users)", self.users.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by Apache's `htpasswd -nbB -C 5 alice wonderland`.
    const ALICE: &str = "alice:$2y$05$QCwViqGzgBLto1iwk6PA0.oO2aMraA4Cd4kKgGuyDXl5.tiApTw9u";

    fn hash(password: &str, cost: u32) -> String {
        bcrypt::hash(password, cost).unwrap()
    }

    #[test]
    fn users_of_the_usual_tools_are_let_in() {
        let file = Htpasswd::parse(&format!("# staff\n\n{ALICE}\r\n")).unwrap();
        assert!(file.check("alice", b"wonderland").0);
        for (name, password) in [("alice", "Wonderland"), ("alice", ""), ("Alice", "wonderland"), ("", "")] {
            assert!(!file.check(name, password.as_bytes()).0, "{name}:{password}");
        }
        for prefix in ["$2a$", "$2b$", "$2y$"] {
            let text = format!("bob:{}", hash("builder", 4).replacen("$2b$", prefix, 1));
            assert!(Htpasswd::parse(&text).unwrap().check("bob", b"builder").0, "{prefix}");
        }
    }

    #[test]
    fn nobody_has_an_empty_password() {
        let file = Htpasswd::parse(&format!("bob:{}", hash("", 4))).unwrap();
        assert!(!file.check("bob", b"").0);
        assert!(!Htpasswd::default().check("bob", b"").0);
    }

    #[test]
    fn refusing_takes_the_same_work_for_every_name() {
        let (cheap, dear) = (hash("a", 4), hash("b", 7));
        let file = Htpasswd::parse(&format!("cheap:{cheap}\ndear:{dear}\n")).unwrap();
        for name in ["cheap", "dear", "nobody", ""] {
            assert_eq!(file.check(name, b"wrong"), (false, Work(1 << 7)), "{name}");
        }
        assert_eq!(file.check("cheap", b""), (false, Work(1 << 7)));
        assert_eq!(file.check("cheap", b"a"), (true, Work(1 << 4)));
    }

    #[test]
    fn every_bad_line_is_named_without_its_hash() {
        let good = hash("x", 4);
        let lines = [
            "no colon".to_owned(),
            format!(":{good}"),
            format!("a b:{good}"),
            format!("{}:{good}", "n".repeat(256)),
            format!("admin:{good}"),
            format!("system:{good}"),
            format!("anonymous:{good}"),
            "md5:$apr1$abc$secret-hash".to_owned(),
            "plain:secret-hash".to_owned(),
            "sha:{SHA}secret-hash".to_owned(),
            "argon:$argon2id$v=19$m=65536,t=3,p=4$secret-hash".to_owned(),
            "short:$2y$05$secret-hash".to_owned(),
            format!("dear:{}", good.replacen("$04$", "$18$", 1)),
            format!("cheap:{}", good.replacen("$04$", "$03$", 1)),
            format!("twice:{good}"),
            format!("twice:{good}"),
            format!("fine:{good}"),
        ];
        let bad = Htpasswd::parse(&lines.join("\n")).unwrap_err();
        let expected: Vec<usize> = (1..=14).chain([16]).collect();
        assert_eq!(bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), expected);
        let said: Vec<String> = bad.iter().map(ToString::to_string).collect();
        assert!(said.iter().all(|line| !line.contains("secret") && !line.contains("$2")), "{said:?}");
        assert!(said[4].starts_with("line 5: admin is the administrator"), "{}", said[4]);
    }
}
