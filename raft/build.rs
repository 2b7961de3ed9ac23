//! Compiles the protobuf files without protoc.

use std::path::{Path, PathBuf};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    println!("cargo:rerun-if-changed=proto");
    let mut includes = vec![PathBuf::from("proto")];
    if std::env::var_os("CARGO_FEATURE_NEXT_LEVEL").is_some() {
        includes.insert(0, next_level(Path::new(&std::env::var("OUT_DIR")?))?);
    }
    let files = protox::compile(["entry.proto", "state.proto", "raft.proto", "control.proto"], includes)?;
    tonic_prost_build::configure().bytes(".").compile_fds(files)?;
    Ok(())
}

/// The directory of an `entry.proto` that has one command more, for the test build of the next level.
fn next_level(out: &Path) -> Result<PathBuf, Failure> {
    let known = std::fs::read_to_string("proto/entry.proto")?;
    let (head, tail) = known.split_once("oneof command {").ok_or("entry.proto has no commands")?;
    let dir = out.join("next-level");
    std::fs::create_dir_all(&dir)?;
    let next = format!("{head}oneof command {{\n    Nothing probe = 1000;{tail}");
    std::fs::write(dir.join("entry.proto"), next)?;
    Ok(dir)
}
