//! What is done to a node from outside, each recorded in the history.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::history::History;
use crate::process::Node;

/// kill -9; returns when the process is gone.
pub fn kill(node: &mut Node, history: &History) {
    history.fault(&node.name, "kill");
    node.kill();
}

/// Starts the node again, as it was.
pub fn restart(node: &mut Node, history: &History) -> Result<()> {
    history.fault(&node.name, "restart");
    node.start()
}

/// Waits until a node that was started again is ready: from then on it must answer.
pub async fn ready(node: &mut Node, history: &History, limit: Duration) -> Result<()> {
    node.ready(limit).await?;
    history.fault(&node.name, "ready");
    Ok(())
}

/// Stops the node in its tracks; it keeps its connections and its ideas of time.
pub fn pause(node: &Node, history: &History) {
    history.fault(&node.name, "pause");
    node.pause();
}

/// Lets a paused node go on.
pub fn resume(node: &Node, history: &History) {
    node.resume();
    history.fault(&node.name, "resume");
}

/// How a file on disk goes bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// One bit at this offset is the other way round.
    Flip(u64),
    /// The file ends at this offset.
    Truncate(u64),
    /// This many bytes from this offset on are zero.
    Zero(u64, u64),
}

/// Damages `file` behind the program's back.
pub fn damage(file: &Path, how: Damage) -> Result<()> {
    let mut open = std::fs::File::options().read(true).write(true).open(file)?;
    match how {
        Damage::Flip(at) => {
            let mut byte = [0];
            open.seek(SeekFrom::Start(at))?;
            open.read_exact(&mut byte)?;
            open.seek(SeekFrom::Start(at))?;
            open.write_all(&[byte[0] ^ 1])?;
        }
        Damage::Truncate(len) => open.set_len(len)?,
        Damage::Zero(at, len) => {
            open.seek(SeekFrom::Start(at))?;
            open.write_all(&vec![0; len as usize])?;
        }
    }
    Ok(open.sync_all()?)
}
