//! Runs a fuzz target's function over its committed corpus, as `cargo test` does in each crate.
//!
//! Included by path: no crate of the workspace depends on the fuzz crate.

use std::path::Path;

/// Runs `target` over every file of the corpus of that `name`; it must not panic, and must take
/// some inputs and refuse others: a parser that does only one of the two is not tested by it.
pub fn corpus(name: &str, target: impl Fn(&[u8]) -> bool) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../chaos-tests/fuzz/corpus").join(name);
    let files = std::fs::read_dir(&dir).unwrap_or_else(|why| panic!("{}: {why}", dir.display()));
    let (mut taken, mut refused) = (0, 0);
    for file in files {
        let path = file.expect("a directory that can be listed").path();
        let input = std::fs::read(&path).expect("a file that can be read");
        let run = std::panic::AssertUnwindSafe(|| target(&input));
        match std::panic::catch_unwind(run) {
            Ok(true) => taken += 1,
            Ok(false) => refused += 1,
            Err(_) => panic!("{} makes the target panic, see above", path.display()),
        }
    }
    println!("{name}: {taken} inputs taken, {refused} refused");
    assert!(taken > 0 && refused > 0, "{name}: {taken} inputs taken, {refused} refused");
}
