//! Log append, vote, truncation and checkpoint each survive a power cut that comes right after they
//! said that they are done.
//!
//! In a whole node the next append would sync what an earlier step left out, so the steps are done one
//! at a time by `storage_probe`, an example program of the raft crate that stands still after each.
#![cfg(feature = "planted")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use chaos_tests::disk::{Disk, Room};
use chaos_tests::{binary, require};
use serde_json::Value;

/// A step, what it changes, and what must be read after the cut.
const STEPS: [(&str, &str, &str, i64); 4] = [
    ("append", "skip-fsync-log-append", "last", 11),
    ("vote", "skip-fsync-vote", "term", 2),
    ("truncate", "skip-fsync-truncate", "last", 5),
    ("checkpoint", "skip-fsync-checkpoint", "applied", 10),
];

/// The probe, running in a room.
struct Probe(Child);

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Probe {
    fn start(room: &Room, dir: &Path, step: &str, planted: &str, speak: &Path) -> Result<Self> {
        let (enter, program) = (room.enter(), binary::storage_probe());
        let mut command = Command::new(&enter[0]);
        command.args(&enter[1..]).arg(program).arg(dir).arg(step).env("TROW_PLANTED", planted);
        let said = std::fs::File::create(speak).context("where the probe speaks")?;
        Ok(Probe(command.stdin(Stdio::null()).stdout(said).spawn().context("start the probe")?))
    }
}

/// Waits for the probe's line; it is written outside the disk that is cut.
fn said(file: &Path) -> Result<String> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let text = std::fs::read_to_string(file)?;
        if text.ends_with('\n') {
            return Ok(text.trim().to_owned());
        }
        if Instant::now() > until {
            bail!("the probe says nothing");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Does `step` under `planted`, cuts the power when it is said to be done, and reads what is left.
fn after_the_cut(step: &str, planted: &str) -> Result<Value> {
    let scratch = tempfile::tempdir()?;
    let room = Room::new()?;
    let at: PathBuf = scratch.path().join("disk");
    let disk = Disk::new(&room, &scratch.path().join("disk.img"), 256 << 20, &at)?;
    let speak = scratch.path().join("said");
    drop(done(&room, &at, "prepare", "", &speak)?);
    // What was prepared is on the disk for good, whatever is planted.
    disk.power_on(&room)?;
    let probe = done(&room, &at, step, planted, &speak)?;
    disk.cut(&room)?;
    drop(probe);
    disk.power_on(&room)?;
    let _probe = Probe::start(&room, &at, "read", "", &speak)?;
    Ok(serde_json::from_str(&said(&speak)?)?)
}

fn done(room: &Room, dir: &Path, step: &str, planted: &str, speak: &Path) -> Result<Probe> {
    let probe = Probe::start(room, dir, step, planted, speak)?;
    let line = said(speak)?;
    ensure!(line == "done", "{step} says {line}");
    Ok(probe)
}

#[test]
fn each_durable_step_of_log_and_state_survives_a_power_cut() {
    if !require::loop_disks() {
        return;
    }
    for (step, _, field, expected) in STEPS {
        let left = after_the_cut(step, "").unwrap();
        assert_eq!(left[field], expected, "after {step}: {left}");
    }
}

#[test]
fn each_step_that_is_not_synced_is_caught() {
    if !require::loop_disks() {
        return;
    }
    for (step, variant, field, expected) in STEPS {
        let left = after_the_cut(step, variant).unwrap();
        assert_ne!(left[field], expected, "{variant} went unnoticed: {left}");
        eprintln!("{variant} is caught: after {step} the disk has {left}");
    }
}
