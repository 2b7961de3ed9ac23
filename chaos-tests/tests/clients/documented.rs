//! docs/clients.md shows people no verb and no flag that the tests do not run.

use std::path::Path;

const DOCUMENT: &str = "../docs/clients.md";

/// Verbs that are followed by another.
const GROUPS: [&str; 11] = [
    "artifact", "auth", "blob", "content", "image", "images", "index", "manifest", "registry", "repo", "tag",
];

#[test]
fn every_documented_command_is_one_that_the_tests_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join(DOCUMENT)).unwrap();
    let mut commands = 0;
    for block in document.split("```").skip(1).step_by(2) {
        for line in block.strip_prefix('\n').unwrap_or_default().lines() {
            let words: Vec<&str> = line.split_whitespace().take_while(|word| *word != "<").collect();
            let (client, rest) = words.split_first().expect("no empty line in a block of commands");
            let file = if *client == "ctr" { "containerd" } else { client };
            let source = root.join("tests/clients").join(file).with_extension("rs");
            let source = std::fs::read_to_string(source).unwrap_or_else(|_| panic!("no test runs {line:?}"));
            let verbs = 1 + usize::from(GROUPS.contains(&rest[0]));
            let flags = rest[verbs..].iter().filter(|word| word.starts_with('-'));
            for word in rest[..verbs].iter().chain(flags) {
                assert!(
                    source.contains(&format!("\"{word}\"")),
                    "{file}.rs does not run {word:?} of {line:?}"
                );
            }
            commands += 1;
        }
    }
    assert!(commands > 50, "only {commands} commands were found");
}
