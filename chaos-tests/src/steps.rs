//! A node that stands still after each of its durable steps, so that it can be killed between any two.
//!
//! strace runs the node and lets a SIGSTOP follow each call that syncs or renames, whichever thread makes it:
//! a step that the program gains is met without a word here. Always holds: what comes after the last step
//! that was seen has not begun, but for what other threads do between their own steps.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::process::Node;
use crate::strace::SYNC;

const RENAME: &str = "rename,renameat,renameat2";

/// The steps of one process.
#[derive(Debug)]
pub struct Steps {
    log: PathBuf,
    seen: usize,
}

impl Steps {
    /// Starts `node`; what it does is written to the new file `log`.
    pub fn start(node: &mut Node, log: &Path) -> Result<Self> {
        let calls = format!("{SYNC},{RENAME}");
        let mut traced: Vec<String> =
            // With -D the node is our child, and strace nobody's.
            ["strace", "-D", "-f", "-qq", "-y", "-e", "signal=none", "-o"].map(str::to_owned).to_vec();
        traced.push(log.display().to_string());
        for option in [format!("trace={calls}"), format!("inject={calls}:signal=STOP")] {
            traced.extend(["-e".to_owned(), option]);
        }
        let command = node.command.clone();
        node.command = [traced, command.clone()].concat();
        let started = node.start();
        node.command = command;
        started?;
        Ok(Steps { log: log.to_owned(), seen: 0 })
    }

    /// The steps since the last call, once the node stands still after them; none when it has not by `until`.
    pub async fn next(&mut self, node: &mut Node, until: Instant) -> Result<Vec<String>> {
        loop {
            let steps = done(&std::fs::read_to_string(&self.log).unwrap_or_default());
            if steps.len() > self.seen && node.stands_still() {
                // Another thread may have come to the end of a step meanwhile.
                let steps = done(&std::fs::read_to_string(&self.log)?);
                let new = steps[self.seen..].to_vec();
                self.seen = steps.len();
                return Ok(new);
            }
            if !node.is_running() {
                bail!("{} ended by itself:\n{}", node.name, node.log_tail(20));
            }
            if Instant::now() > until {
                return Ok(Vec::new());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// The calls of strace's log that came to their end, each with what it worked on.
fn done(log: &str) -> Vec<String> {
    let (mut begun, mut done) = (HashMap::new(), Vec::new());
    for line in log.lines() {
        let Some((thread, call)) = line.trim_start().split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some(call) = call.strip_suffix("<unfinished ...>") {
            begun.insert(thread, call.trim_end());
        } else if call.starts_with("<... ") {
            done.extend(begun.remove(thread).map(str::to_owned));
        } else if let Some((call, _)) = call.rsplit_once(" = ") {
            done.push(call.trim_end().to_owned());
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::done;

    #[test]
    fn a_step_counts_when_its_call_has_ended() {
        let log = "7 fsync(3</d/a> <unfinished ...>\n\
                   8  rename(\"/d/b\", \"/d/c\")    = 0\n\
                   7 <... fsync resumed>)              = 0\n\
                   9 fdatasync(4</d/log> <unfinished ...>\n";
        assert_eq!(done(log), ["rename(\"/d/b\", \"/d/c\")", "fsync(3</d/a>"]);
    }
}
