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
    BUILT.get_or_init(|| from_env("TROW_BIN").unwrap_or_else(|| build("trow", &[], "debug"))).clone()
}

/// The program with the wrong rules compiled in; `TROW_PLANTED` in its environment chooses one.
///
/// # Panics
/// It does not build.
pub fn planted() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            from_env("TROW_PLANTED_BIN")
                .unwrap_or_else(|| build("trow", &["--features", "planted"], "planted"))
        })
        .clone()
}

fn from_env(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os(variable).filter(|value| !value.is_empty())?);
    assert!(path.is_file(), "{variable} names {}, which is no file", path.display());
    Some(std::path::absolute(path).expect("absolute path"))
}

/// Builds `package` into `target/` (or `target/<own>` for another feature set, so that the two do not
/// rebuild each other's objects).
fn build(package: &str, features: &[&str], own: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    if own != "debug" {
        target = target.join(own);
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(&root)
        .args(["build", "--quiet", "-p", package, "--bin", "trow"])
        .args(features)
        .arg("--target-dir")
        .arg(&target)
        .status()
        .expect("cargo runs");
    assert!(status.success(), "{package} does not build");
    std::path::absolute(target.join("debug/trow")).expect("absolute path")
}
