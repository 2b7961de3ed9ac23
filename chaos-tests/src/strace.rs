//! System calls of a running node: seen, and made to fail.
//!
//! strace is attached to the running process and detached when the handle is dropped. A failing call is
//! chosen by the path it works on, since strace counts calls for each thread on its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Every call that makes data durable.
pub const SYNC: &str = "fsync,fdatasync,syncfs,sync_file_range";

/// strace, attached.
#[derive(Debug)]
pub struct Strace {
    tracer: Child,
    log: PathBuf,
}

impl Strace {
    /// Records the sync calls of process `pid` in `log`.
    pub fn watch(pid: Pid, log: &Path) -> Result<Self> {
        Strace::attach(pid, log, &["-y".to_owned(), "-e".to_owned(), format!("trace={SYNC}")])
    }

    /// Lets every sync call of process `pid` on one of `paths` fail with EIO, without being carried out.
    pub fn fail(pid: Pid, log: &Path, paths: &[PathBuf]) -> Result<Self> {
        let mut options = vec!["-y".to_owned(), "-e".to_owned(), format!("inject={SYNC}:error=EIO")];
        for path in paths {
            options.extend(["-P".to_owned(), path.display().to_string()]);
        }
        Strace::attach(pid, log, &options)
    }

    /// Lets every sync call of process `pid` take `delay` longer before it is carried out.
    pub fn delay(pid: Pid, log: &Path, delay: Duration) -> Result<Self> {
        let inject = format!("inject={SYNC}:delay_enter={}us", delay.as_micros());
        Strace::attach(pid, log, &["-y".to_owned(), "-e".to_owned(), inject])
    }

    fn attach(pid: Pid, log: &Path, options: &[String]) -> Result<Self> {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(log).args(options).args(["-p", &pid.to_string()]);
        let tracer = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut strace = Strace { tracer: tracer.context("start strace")?, log: log.to_owned() };
        let until = Instant::now() + Duration::from_secs(10);
        while !traced(pid, strace.tracer.id()) {
            if Instant::now() > until || strace.tracer.try_wait()?.is_some() {
                bail!("strace does not attach to {pid}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(strace)
    }

    /// The paths that were synced so far, in order; calls that failed are marked `true`.
    pub fn synced(&self) -> Vec<(PathBuf, bool)> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().filter_map(parse).collect()
    }

    /// How many calls were made to fail so far.
    pub fn injected(&self) -> usize {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().filter(|line| line.contains("(INJECTED)")).count()
    }
}

/// Whether every thread of `pid` is traced by `tracer`.
fn traced(pid: Pid, tracer: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let by = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        by.is_some_and(|by| by.trim() == tracer.to_string())
    })
}

/// A line such as `12 fdatasync(7</data/log.redb>) = 0`; the second half of a call that another thread
/// interrupted names no path and is left out.
fn parse(line: &str) -> Option<(PathBuf, bool)> {
    let call = line.split_once('(')?.0.rsplit(' ').next()?;
    if !SYNC.split(',').any(|known| known == call) {
        return None;
    }
    let path = line.split_once('<')?.1.split_once('>')?.0;
    Some((PathBuf::from(path), line.contains("= -1")))
}

impl Drop for Strace {
    fn drop(&mut self) {
        // On SIGINT strace lets go of the process; killed, it would leave it stopped.
        if let Some(pid) = Pid::from_raw(self.tracer.id() as i32) {
            let _ = kill_process(pid, Signal::INT);
        }
        let until = Instant::now() + Duration::from_secs(5);
        while matches!(self.tracer.try_wait(), Ok(None)) {
            if Instant::now() > until {
                let _ = self.tracer.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_strace_gives_the_path_and_the_outcome() {
        let parsed = |line| parse(line).map(|(path, failed)| (path.display().to_string(), failed));
        let file = "/data/log.redb".to_owned();
        assert_eq!(parsed("12 fdatasync(7</data/log.redb>) = 0"), Some((file.clone(), false)));
        assert_eq!(
            parsed("12 fsync(7</data/log.redb>) = -1 EIO (Input/output error) (INJECTED)"),
            Some((file.clone(), true))
        );
        assert_eq!(parsed("12 fsync(7</data/log.redb> <unfinished ...>"), Some((file, false)));
        assert_eq!(parsed("12 <... fsync resumed>) = 0"), None);
        assert_eq!(parsed("12 write(1</x>, \"a\", 1) = 1"), None);
    }
}
