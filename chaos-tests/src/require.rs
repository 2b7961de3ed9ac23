//! What a test needs of the machine it runs on.
//!
//! A test that lacks a tool or a right prints `not run: <why>` and returns; with `TROW_REQUIRE_ALL`
//! set it fails instead, so that a complete run cannot leave something out unnoticed.

use std::env;
use std::path::PathBuf;

/// Says that the calling test was not run, and why.
///
/// # Panics
/// `TROW_REQUIRE_ALL` is set to something other than `0`.
pub fn not_run(why: &str) {
    eprintln!("not run: {why}");
    if env::var_os("TROW_REQUIRE_ALL").is_some_and(|v| !v.is_empty() && v != "0") {
        panic!("not run: {why}; TROW_REQUIRE_ALL asks for every test");
    }
}

/// Where `name` is in `PATH`.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Where the Go program `name` is: where `go install` puts it, or in `PATH`. Says `not run` when it is
/// nowhere; `from` is what to install it from.
pub fn go_tool(name: &str, from: &str) -> Option<PathBuf> {
    let installed = ["GOBIN", "GOPATH", "HOME"].into_iter().zip(["", "bin", "go/bin"]);
    let mut dirs = installed.filter_map(|(dir, below)| Some(PathBuf::from(env::var_os(dir)?).join(below)));
    let found = dirs.find_map(|dir| Some(dir.join(name)).filter(|file| file.is_file()));
    let found = found.or_else(|| find(name));
    if found.is_none() {
        not_run(&format!("{name} is not installed (go install {from})"));
    }
    found
}

/// Whether every one of `tools` is installed; says `not run` when one is missing.
pub fn tools(tools: &[&str]) -> bool {
    match tools.iter().find(|tool| find(tool).is_none()) {
        Some(missing) => {
            not_run(&format!("{missing} is not installed"));
            false
        }
        None => true,
    }
}

/// Whether this is root on Linux with loop devices, which mounting a disk image takes.
pub fn loop_disks() -> bool {
    if !rustix::process::geteuid().is_root() {
        not_run("mounting a disk image takes root");
        return false;
    }
    if !std::path::Path::new("/dev/loop-control").exists() {
        not_run("there are no loop devices here");
        return false;
    }
    tools(&["unshare", "nsenter", "mkfs.ext4", "mount", "umount"])
}
