//! Small ext4 disks in files, in a mount namespace of their own, whose power can be cut.
//!
//! A [`Room`] is a process that does nothing but hold a mount namespace; disks are mounted there, nodes
//! are started there with `nsenter`, and the harness looks in through `/proc/<pid>/root`. When the room
//! goes, the mounts and the loop devices go with it, whatever happened before.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::shutdown;

/// A mount namespace.
#[derive(Debug)]
pub struct Room {
    holder: Child,
}

impl Room {
    /// A new one; what is mounted in it is seen nowhere else.
    pub fn new() -> Result<Self> {
        let mut command = Command::new("unshare");
        // `cat` ends when the harness does, since its input closes then, even after a kill -9.
        command.args(["--mount", "--propagation", "private", "cat"]);
        let holder = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().context("unshare")?;
        let room = Room { holder };
        let until = Instant::now() + Duration::from_secs(10);
        // The namespace is there once unshare has become cat.
        while std::fs::read_to_string(format!("/proc/{}/comm", room.pid())).unwrap_or_default().trim()
            != "cat"
        {
            if Instant::now() > until {
                bail!("unshare does not start");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(room)
    }

    fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// The words to put before a command so that it runs in the room.
    pub fn enter(&self) -> Vec<String> {
        ["nsenter", "--mount", "--target"]
            .map(str::to_owned)
            .into_iter()
            .chain([self.pid().to_string(), "--".into()])
            .collect()
    }

    /// Where the harness finds what is `path` in the room.
    pub fn seen(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.pid(), path.display()))
    }

    fn run(&self, words: &[&str]) -> Result<()> {
        let enter = self.enter();
        let output = Command::new(&enter[0]).args(&enter[1..]).args(words).output().context("nsenter")?;
        if !output.status.success() {
            bail!("{} fails: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// An ext4 file system in a file, mounted in a room.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    /// Where it is mounted, as seen in the room.
    pub mounted: PathBuf,
}

impl Disk {
    /// Makes a file system of `size` bytes in `image` and mounts it at `at`.
    ///
    /// Nothing is written back on its own for minutes, so that what was not synced is not on the disk by
    /// luck when the power goes.
    pub fn new(room: &Room, image: &Path, size: u64, at: &Path) -> Result<Self> {
        std::fs::File::create(image)?.set_len(size)?;
        let text = image.display().to_string();
        let made = Command::new("mkfs.ext4").args(["-q", "-m", "0", &text]).output().context("mkfs.ext4")?;
        if !made.status.success() {
            bail!("mkfs.ext4 fails: {}", String::from_utf8_lossy(&made.stderr));
        }
        std::fs::create_dir_all(room.seen(at))?;
        let disk = Disk { image: image.to_owned(), mounted: at.to_owned() };
        disk.mount(room)?;
        Ok(disk)
    }

    /// Mounts it.
    pub fn mount(&self, room: &Room) -> Result<()> {
        let (image, at) = (self.image.display().to_string(), self.mounted.display().to_string());
        room.run(&["mount", "-t", "ext4", "-o", "loop,commit=600,noauto_da_alloc", &image, &at])
    }

    /// Unmounts it. Everybody who uses it must be gone; a process that was killed may take a moment.
    pub fn unmount(&self, room: &Room) -> Result<()> {
        let at = self.mounted.display().to_string();
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            match room.run(&["umount", &at]) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Cuts the power: from now on nothing reaches the disk, and what was not synced never will.
    pub fn cut(&self, room: &Room) -> Result<()> {
        shutdown::cut(&room.seen(&self.mounted)).context("cut the power")
    }

    /// Switches it on again, after a [`cut`](Self::cut) and the death of its users.
    pub fn power_on(&self, room: &Room) -> Result<()> {
        self.unmount(room)?;
        self.mount(room)
    }
}
