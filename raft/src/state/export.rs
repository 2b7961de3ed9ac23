//! A copy of one view's rows in a file of their own: what a snapshot is made of.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use sha2::Digest as _;

use super::key::Table;
use super::rows::Rows as _;
use super::{Exported, StateError, View, file};
use crate::digest::{Algorithm, Digest};
use crate::planted::Planted;

/// Rows are written in transactions of about this many bytes, so that redb need not hold them all.
const PART: usize = 8 << 20;

/// See [`super::State::export`].
pub(super) fn export(view: &View, to: &Path) -> Result<Exported, StateError> {
    if to.exists() {
        return Err(io::Error::from(io::ErrorKind::AlreadyExists).into());
    }
    let database = file::open(to, Planted::NONE, None)?;
    for table in Table::ALL {
        let mut from = Vec::new();
        loop {
            let mut rows = Vec::new();
            let mut bytes = 0;
            view.rows().scan(*table, &from, None, &mut |key, value| {
                bytes += key.len() + value.len();
                rows.push((key.to_vec(), value.to_vec()));
                Ok(bytes < PART)
            })?;
            let Some((last, _)) = rows.last() else { break };
            from.clone_from(last);
            from.push(0);
            let mut transaction = database.begin_write()?;
            transaction.set_durability(redb::Durability::Immediate)?;
            transaction.set_quick_repair(true);
            {
                let mut copy = transaction.open_table(table.definition())?;
                for (key, value) in &rows {
                    copy.insert(key.as_slice(), value.as_slice())?;
                }
            }
            transaction.commit()?;
        }
    }
    database.close()?;
    let written = File::open(to)?;
    written.sync_all()?;
    digest(written)
}

fn digest(mut file: File) -> Result<Exported, StateError> {
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut len = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => {
                hasher.update(&buffer[..read]);
                len += read as u64;
            }
        }
    }
    let digest = Digest::new(Algorithm::Sha256, &hasher.finalize());
    let digest = digest.map_err(|_| StateError::Row { table: "export" })?;
    Ok(Exported { digest, len })
}
