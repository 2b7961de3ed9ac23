//! Putting the files where the runtime looks for them.
//!
//! Always holds: nothing is written unless everything may be; a file is there as a whole or not at all; one that
//! somebody else made stays unless forced.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::{MARK, Made, Replaces, docker};

/// A file, after it was to be written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) path: PathBuf,
    pub(super) content: String,
    /// Whether it was another one before, or none.
    pub(super) changed: bool,
}

/// Writes `files` below `dir`; those that are there as they should be are left alone.
///
/// # Errors
/// Every file that must not be overwritten, by name; or what the system says.
pub(super) fn all(dir: &Path, files: Vec<Made>, force: bool) -> Result<Vec<Written>, String> {
    let (mut planned, mut foreign) = (Vec::new(), Vec::new());
    for file in files {
        let path = dir.join(&file.path);
        let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let there = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            // Not text, so not ours either.
            Err(error) if error.kind() == ErrorKind::InvalidData && force => None,
            Err(error) => return Err(failed(&error)),
        };
        let content = match (&there, file.replaces) {
            (Some(text), Replaces::Nothing) => {
                docker::merged(text, &file.content).map_err(|why| failed(&why))?
            }
            _ => file.content.clone(),
        };
        let changed = there.as_ref() != Some(&content) || loose(&path, &file);
        if let Some(text) = there.filter(|text| *text != content)
            && !force
            && !may_go(&text, file.replaces)
        {
            foreign.push(path.display().to_string());
        }
        planned.push((Written { path, content, changed }, file.secret));
    }
    if !foreign.is_empty() {
        return Err(format!(
            "not written, since these files were made by somebody else: {}; compare them with what is printed \
             without --write, then use --force",
            foreign.join(", ")
        ));
    }
    for (file, secret) in planned.iter().filter(|(file, _)| file.changed) {
        put(file, *secret).map_err(|error| format!("{}: {error}", file.path.display()))?;
    }
    Ok(planned.into_iter().map(|(file, _)| file).collect())
}

fn may_go(there: &str, replaces: Replaces) -> bool {
    match replaces {
        Replaces::Marked => there.starts_with(MARK),
        Replaces::Any => true,
        Replaces::Nothing => false,
    }
}

/// Whether more people may read the file than should.
fn loose(path: &Path, file: &Made) -> bool {
    file.secret && fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0)
}

fn put(file: &Written, secret: bool) -> io::Result<()> {
    let dir = file.path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let mut staged = NamedTempFile::new_in(dir)?;
    staged.write_all(file.content.as_bytes())?;
    staged.as_file().set_permissions(Permissions::from_mode(if secret { 0o600 } else { 0o644 }))?;
    staged.as_file().sync_all()?;
    staged.persist(&file.path).map_err(|error| error.error).map(drop)
}
