//! The fault tools do what they say, shown on files and programs that have nothing to do with Trow.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chaos_tests::disk::{Disk, Room};
use chaos_tests::fault::{Damage, damage};
use chaos_tests::require;
use chaos_tests::strace::Strace;
use rustix::process::Pid;

fn write(file: &Path, synced: bool) {
    let mut open = File::create(file).unwrap();
    open.write_all(b"acknowledged").unwrap();
    if synced {
        open.sync_all().unwrap();
    }
}

fn sync_directory(directory: &Path) {
    File::open(directory).unwrap().sync_all().unwrap();
}

#[test]
fn a_power_cut_keeps_what_was_synced_and_nothing_else() {
    if !require::loop_disks() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let room = Room::new().unwrap();
    let disk =
        Disk::new(&room, &scratch.path().join("disk.img"), 64 << 20, &scratch.path().join("disk")).unwrap();
    let seen = room.seen(&disk.mounted);

    write(&seen.join("synced"), true);
    write(&seen.join("staged"), true);
    sync_directory(&seen);
    write(&seen.join("unsynced"), false);
    fs::rename(seen.join("staged"), seen.join("renamed")).unwrap();
    disk.cut(&room).unwrap();
    assert!(fs::write(seen.join("after"), b"x").is_err(), "the disk takes writes after the cut");
    disk.power_on(&room).unwrap();

    assert_eq!(fs::read(seen.join("synced")).unwrap(), b"acknowledged");
    assert!(!seen.join("unsynced").exists(), "a file nobody synced is there");
    assert!(seen.join("staged").exists(), "a rename whose directory nobody synced is not undone");
    assert!(!seen.join("renamed").exists());
    drop(room);
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(&scratch.path().display().to_string()), "a mount is left behind");
}

#[test]
fn a_small_disk_is_full_and_has_room_again() {
    if !require::loop_disks() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let room = Room::new().unwrap();
    let disk =
        Disk::new(&room, &scratch.path().join("disk.img"), 32 << 20, &scratch.path().join("disk")).unwrap();
    let filler = room.seen(&disk.mounted).join("filler");
    let full = fs::write(&filler, vec![0; 40 << 20]).and_then(|()| File::open(&filler)?.sync_all());
    assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    fs::remove_file(&filler).unwrap();
    fs::write(&filler, vec![0; 8 << 20]).unwrap();
}

/// Writes and syncs two files in turn, and notes in a third how each went.
struct Syncer(Child);

impl Syncer {
    fn start(dir: &Path) -> Self {
        let one = |name: &str| {
            format!("dd if=/dev/zero of={name} bs=1 count=1 conv=fsync 2>/dev/null; echo {name} $? >>log")
        };
        let script = format!("while [ -d . ]; do {}; {}; sleep 0.02; done", one("a"), one("b"));
        let child =
            Command::new("sh").args(["-c", &script]).current_dir(dir).stdin(Stdio::null()).spawn().unwrap();
        Syncer(child)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id() as i32).unwrap()
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn strace_fails_the_sync_of_the_named_file_and_no_other() {
    if !require::tools(&["strace"]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().canonicalize().unwrap();
    let log = || fs::read_to_string(dir.join("log")).unwrap_or_default();
    let syncer = Syncer::start(&dir);
    until("the program works", || log().contains("a 0") && log().contains("b 0"));
    assert!(!log().contains('1'), "a sync failed before anything was injected");

    let strace = Strace::fail(syncer.pid(), &dir.join("strace"), &[dir.join("a")]).unwrap();
    until("the sync of a fails", || log().contains("a 1"));
    until("it was injected", || strace.injected() > 0);
    assert!(strace.synced().contains(&(dir.join("a"), true)));
    assert!(!log().contains("b 1"), "the sync of b failed too");
    drop(strace);
    let lines = log().lines().count();
    until("the program goes on after strace let go", || log().lines().count() > lines + 4);
    assert!(log().ends_with("0\n") || log().ends_with("a 0"), "{}", log());
}

#[test]
fn strace_sees_each_sync_with_its_path_and_delays_it() {
    if !require::tools(&["strace"]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().canonicalize().unwrap();
    let syncer = Syncer::start(&dir);
    let strace = Strace::watch(syncer.pid(), &dir.join("strace")).unwrap();
    until("both files are seen", || {
        let synced: Vec<PathBuf> = strace.synced().into_iter().map(|(path, _)| path).collect();
        synced.contains(&dir.join("a")) && synced.contains(&dir.join("b"))
    });
    drop(strace);

    let lines = || fs::read_to_string(dir.join("log")).unwrap_or_default().lines().count();
    let _strace = Strace::delay(syncer.pid(), &dir.join("strace"), Duration::from_secs(600)).unwrap();
    // At most the two that were under way when strace attached are noted; then all stands still.
    std::thread::sleep(Duration::from_millis(500));
    let before = lines();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(lines(), before, "syncs went on");
}

#[test]
fn a_damaged_file_has_one_bit_turned_or_a_part_gone() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("file");
    let damaged = |how| {
        fs::write(&file, [7; 8]).unwrap();
        damage(&file, how).unwrap();
        fs::read(&file).unwrap()
    };
    assert_eq!(damaged(Damage::Flip(2)), [7, 7, 6, 7, 7, 7, 7, 7]);
    assert_eq!(damaged(Damage::Truncate(3)), [7; 3]);
    assert_eq!(damaged(Damage::Zero(1, 2)), [7, 0, 0, 7, 7, 7, 7, 7]);
}
