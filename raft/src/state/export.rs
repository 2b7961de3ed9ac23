//! One view's rows as a stream of bytes: what a snapshot is on its way.
//!
//! Each row is its table's number, the lengths of key and value (four bytes each, the highest
//! first), key and value; tables ascend, and keys within each. Always holds: memory does not grow
//! with the state. Never does: writing a database, which [`super::import`] does on the other side.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use sha2::Digest as _;

use super::key::Table;
use super::rows::Rows as _;
use super::{Exported, StateError, View};
use crate::digest::{Algorithm, Digest};

/// How rows are written here; another way takes another number.
pub(crate) const FORMAT: u32 = 1;
/// Bytes of a row's head.
pub(super) const HEAD: usize = 9;
/// Whoever waits is asked whether to go on after about this many bytes.
const STEP: u64 = 1 << 20;

/// See [`super::State::export`].
pub(super) fn to_file(
    view: &View,
    to: &Path,
    go_on: &mut dyn FnMut(u64) -> io::Result<()>,
) -> Result<Exported, StateError> {
    let file = BufWriter::with_capacity(256 << 10, File::create_new(to)?);
    let mut hashed = Hashed { to: file, hasher: sha2::Sha256::new(), len: 0 };
    write(view, &mut hashed, go_on)?;
    hashed.flush()?;
    let digest = Digest::new(Algorithm::Sha256, &hashed.hasher.finalize());
    let digest = digest.map_err(|_| StateError::Row { table: "export" })?;
    Ok(Exported { digest, len: hashed.len })
}

/// Writes all rows of `view`. `go_on` hears how many bytes were written and may end it.
pub(super) fn write(
    view: &View,
    to: &mut impl Write,
    go_on: &mut dyn FnMut(u64) -> io::Result<()>,
) -> Result<(), StateError> {
    let (mut written, mut asked) = (0, 0);
    go_on(written)?;
    for table in Table::ALL {
        view.rows().scan(*table, &[], None, &mut |key, value| {
            let too_long = |_| StateError::Row { table: table.name() };
            to.write_all(&[*table as u8])?;
            for part in [key, value] {
                to.write_all(&u32::try_from(part.len()).map_err(too_long)?.to_be_bytes())?;
            }
            to.write_all(key)?;
            to.write_all(value)?;
            written += (HEAD + key.len() + value.len()) as u64;
            if written - asked >= STEP {
                asked = written;
                go_on(written)?;
            }
            Ok(true)
        })?;
    }
    Ok(())
}

/// Counts and hashes what is written.
struct Hashed<W> {
    to: W,
    hasher: sha2::Sha256,
    len: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
