//! The `trow` program under test: `TROW_BIN`, or built once per test process.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The program, as a release would have it.
///
/// # Panics
/// It does not build.
pub fn trow() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| from_env("TROW_BIN").unwrap_or_else(|| build(&["--bin", "trow"], "").join("trow")))
        .clone()
}

/// The program with the wrong rules compiled in; `TROW_PLANTED` in its environment chooses one. It
/// is of the next feature level: it supports one level and one command more than a release.
///
/// # Panics
/// It does not build.
pub fn planted() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let arguments = ["--bin", "trow", "--features", "trow/planted,trow/next-level"];
            from_env("TROW_PLANTED_BIN").unwrap_or_else(|| build(&arguments, "planted").join("trow"))
        })
        .clone()
}

/// The example program of the raft crate that does one durable step and stands still:
/// `TROW_STORAGE_PROBE`, or built.
///
/// # Panics
/// It does not build.
pub fn storage_probe() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let arguments =
                ["--features", "trow-raft/planted,trow-raft/next-level", "--example", "storage_probe"];
            let built = || build(&arguments, "planted").join("examples/storage_probe");
            from_env("TROW_STORAGE_PROBE").unwrap_or_else(built)
        })
        .clone()
}

fn from_env(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os(variable).filter(|value| !value.is_empty())?);
    assert!(path.is_file(), "{variable} names {}, which is no file", path.display());
    Some(std::path::absolute(path).expect("absolute path"))
}

/// Runs `cargo build` into `target/`, or `target/<own>` for another feature set, so that one does not
/// take the place of the other; the directory with the programs. The whole workspace is named so that
/// dependencies have the features that they were built with for the tests.
fn build(arguments: &[&str], own: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    target.push(own);
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(&root)
        .args(["build", "--quiet", "--workspace", "--target-dir"])
        .arg(&target)
        .args(arguments);
    assert!(command.status().expect("cargo runs").success(), "cargo build {} fails", arguments.join(" "));
    std::path::absolute(target.join("debug")).expect("absolute path")
}
