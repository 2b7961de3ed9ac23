//! The file of users, read again when it changes.
//!
//! Always holds: what cannot be read leaves those in place who can log in already. Never does:
//! check a password, or write a hash or a line of the file anywhere.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;
use trow_api::auth::{Htpasswd, Users};

use crate::follow::{self, Content};

/// Most problems that are told of one file: one that is no file of users has one in each line.
const TOLD_MAX: usize = 20;

/// The users of a file.
///
/// # Errors
/// Everything that is wrong with it, with the file's name and the line.
pub fn read(path: &Path) -> Result<Htpasswd, Vec<String>> {
    parse(path, &follow::read(path))
}

fn parse(path: &Path, content: &Content) -> Result<Htpasswd, Vec<String>> {
    let path = path.display();
    let bytes = content.as_ref().map_err(|why| vec![format!("{path} {why}")])?;
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        vec![format!("{path} line {line}: it is not UTF-8 text")]
    })?;
    Htpasswd::parse(text).map_err(|bad| {
        let more = bad.len().saturating_sub(TOLD_MAX);
        let told = bad.iter().take(TOLD_MAX).map(|bad| format!("{path} {bad}"));
        told.chain((more > 0).then(|| format!("{path}: {more} more bad lines"))).collect()
    })
}

/// The users of the file, as it is until `closing`.
///
/// # Errors
/// As [`read`].
pub fn serve(path: PathBuf, closing: CancellationToken) -> Result<Users, Vec<String>> {
    let content = follow::read(&path);
    let file = parse(&path, &content)?;
    warn_when_empty(&path, &file);
    let users = Users::new(file);
    let following = users.clone();
    tokio::spawn(follow::follow([path.clone()], [content], closing, move |[content]| {
        match parse(&path, content) {
            Ok(file) => {
                tracing::info!(file = %path.display(), users = file.len(), "the users were read again");
                warn_when_empty(&path, &file);
                following.replace(file);
            }
            Err(problems) => {
                for problem in problems {
                    tracing::error!(
                        problem,
                        "auth.htpasswd changed and cannot be used: the users stay as they were; correct the file, it is read again"
                    );
                }
            }
        }
    }));
    Ok(users)
}

fn warn_when_empty(path: &Path, file: &Htpasswd) {
    if file.is_empty() {
        tracing::warn!(file = %path.display(), "auth.htpasswd has no users: nobody but the administrator can log in; add some with htpasswd -B");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_name_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let problems = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            read(&path).unwrap_err().join("\n").replace(&path.display().to_string(), "FILE")
        };
        assert!(problems(b"# x\nbob:plain\n").starts_with("FILE line 2: the password is not hashed"));
        assert_eq!(problems(b"# x\n\n\xff:x\n"), "FILE line 3: it is not UTF-8 text");
        let many = problems("x\n".repeat(100).as_bytes());
        assert_eq!(many.lines().count(), TOLD_MAX + 1);
        assert!(many.ends_with("FILE: 80 more bad lines"), "{many}");
        let missing = read(&dir.path().join("missing")).unwrap_err();
        assert!(missing[0].contains("cannot be read"), "{missing:?}");
    }
}
