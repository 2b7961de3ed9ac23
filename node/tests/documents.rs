//! The documents say what is so: each command that they show is one that the program takes, each
//! link leads somewhere, each setting exists, and the code map names every file.

#[path = "documents/markdown.rs"]
mod markdown;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use markdown::Document;

/// The crates whose sources the code map shows.
const CRATES: [&str; 4] = ["raft", "api", "node", "chaos-tests"];

/// Variables that are no settings.
const OTHER_VARIABLES: [&str; 10] = [
    "TROW_CA_FILE",
    "TROW_CONFIG",
    "TROW_LOG",
    "TROW_LOG_FORMAT",
    "TROW_OTLP_ENDPOINT",
    "TROW_REVISION",
    "TROW_SECTION_KEY",
    "TROW_SERVER",
    "TROW_TOKEN_FILE",
    "TROW_PREFIXES",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Every document of the repository.
fn documents() -> Vec<Document> {
    let root = root();
    let mut paths = Vec::new();
    collect(&root, false, &mut paths);
    for dir in [".github", "docs", "raft", "api", "node", "chaos-tests", "charts"] {
        collect(&root.join(dir), true, &mut paths);
    }
    assert!(paths.len() > 20, "only {} documents were found", paths.len());
    paths.iter().map(|path| Document::read(path)).collect()
}

fn collect(dir: &Path, deep: bool, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && deep {
            collect(&path, deep, paths);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
}

/// Those that tell people how Trow is used, by the path below the root.
fn manuals() -> Vec<Document> {
    let root = root();
    let manual = |document: &Document| {
        let path = document.path.strip_prefix(&root).unwrap();
        path == Path::new("README.md") || (path.starts_with("docs") && !path.starts_with("docs/adr"))
    };
    documents().into_iter().filter(manual).collect()
}

/// What the program's own parser says of a command line that asks for help at its end.
fn refusal(words: &[String]) -> Option<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trow"));
    command.args(words).arg("--help").stdin(Stdio::null());
    let output = command.output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn every_command_in_the_documents_is_one_that_the_program_takes() {
    let mut seen = BTreeSet::new();
    for document in manuals() {
        for words in document.commands() {
            if let Some(why) = refusal(&words) {
                panic!("{}: trow {}: {why}", document.path.display(), words.join(" "));
            }
            seen.insert(words.into_iter().take_while(|word| !word.starts_with('-')).collect::<Vec<_>>());
        }
    }
    for command in ["serve", "dev", "cluster init", "cluster status", "cluster wait"] {
        let words: Vec<&str> = command.split(' ').collect();
        assert!(seen.iter().any(|seen| *seen == words), "no document shows `trow {command}`");
    }
    for with_argument in ["drain", "remove", "locate", "pin", "unpin", "purge", "completions"] {
        assert!(seen.iter().any(|seen| seen.iter().any(|word| word == with_argument)), "{with_argument}");
    }
}

#[test]
fn a_command_that_the_program_does_not_take_would_be_noticed() {
    let document =
        Document::of("x.md", "```\nFOO=1 trow serve --nane n1 \\\n    --join a:1\n```\nand `trow recover`");
    let commands = document.commands();
    assert_eq!(commands[0], ["serve", "--nane", "n1", "--join", "a:1"]);
    assert_eq!(commands[1], ["recover"]);
    assert!(commands.iter().all(|words| refusal(words).is_some()));
    assert!(refusal(&["serve".to_owned(), "--name".to_owned(), "n1".to_owned()]).is_none());
}

#[test]
fn every_link_within_the_repository_leads_to_a_file_and_a_heading() {
    let mut links = 0;
    for document in documents() {
        for link in document.links() {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            links += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => document.path.clone(),
                file => document.path.parent().unwrap().join(file),
            };
            let at = document.path.display();
            assert!(target.exists(), "{at}: {link} leads nowhere");
            if !anchor.is_empty() {
                let anchors = Document::read(&target).anchors();
                assert!(anchors.contains(anchor), "{at}: {link}: there is no such heading in {anchors:?}");
            }
        }
    }
    assert!(links > 50, "only {links} links were found");
}

#[test]
fn every_document_can_be_reached_from_the_first_one() {
    let root = root();
    let mut reached = BTreeSet::new();
    let mut next = vec![root.join("README.md")];
    while let Some(path) = next.pop() {
        if !reached.insert(path.clone()) {
            continue;
        }
        for link in Document::read(&path).links() {
            let target = path.parent().unwrap().join(link.split('#').next().unwrap());
            let Ok(target) = target.canonicalize() else { continue };
            let index = if target.is_dir() { target.join("README.md") } else { target };
            if index.extension().is_some_and(|extension| extension == "md") && index.exists() {
                next.push(index);
            }
        }
    }
    for document in documents() {
        // Decisions are found in their directory, which is linked as a whole.
        let is_decision = document.path.starts_with(root.join("docs/adr"));
        assert!(
            is_decision || reached.contains(&document.path),
            "{} is linked nowhere",
            document.path.display()
        );
    }
}

/// Keys of the sample, which another test keeps complete, with the sections before them.
fn settings() -> BTreeSet<String> {
    let sample = std::fs::read_to_string(root().join("docs/trow.toml")).unwrap();
    let mut section = String::new();
    let mut keys = BTreeSet::new();
    for line in sample.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            section = name.replace("\"docker.io\"", "<host>");
            keys.insert(section.clone());
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '.'))
        {
            let key = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
            keys.insert(key);
        }
    }
    // Those that stand for two.
    keys.insert("server.tls".to_owned());
    keys
}

#[test]
fn every_setting_in_the_documents_exists() {
    let settings = settings();
    let sections: BTreeSet<&str> = settings.iter().filter_map(|key| key.split('.').next()).collect();
    let variables: BTreeSet<String> =
        settings.iter().map(|key| format!("TROW_{}", key.replace('.', "_").to_uppercase())).collect();
    let mut seen = 0;
    for document in manuals() {
        let at = document.path.display();
        for span in document.spans() {
            let key = span.split([' ', '=']).next().unwrap();
            let of_a_section = key.split_once('.').is_some_and(|(section, _)| sections.contains(section));
            let is_file = [".rs", ".md", ".toml"].iter().any(|extension| key.ends_with(extension));
            if of_a_section && !is_file && !key.contains('/') {
                seen += 1;
                assert!(settings.contains(key), "{at}: there is no setting {key}");
            }
        }
        for word in document.variables() {
            let known = variables.contains(&word) || OTHER_VARIABLES.contains(&word.as_str());
            assert!(known, "{at}: there is no variable {word}");
        }
    }
    assert!(seen > 50, "only {seen} settings were found");
}

#[test]
fn the_code_map_names_every_file_of_the_first_level_and_no_other() {
    let root = root();
    let map = std::fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    for of in CRATES {
        let heading = format!("### {of}/src\n");
        let section = map.split(&heading).nth(1).unwrap_or_else(|| panic!("no section for {of}/src"));
        let section = section.split("\n#").next().unwrap();
        let first = |line: &str| line.split('|').nth(1).unwrap_or_default().to_owned();
        let named: String = section.lines().map(first).collect();
        let files = std::fs::read_dir(root.join(of).join("src")).unwrap();
        let files: BTreeSet<String> = files
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".rs") && name != "lib.rs")
            .collect();
        for file in &files {
            assert!(named.contains(&format!("`{file}`")), "the map does not name {of}/src/{file}");
        }
        for span in named.split('`').skip(1).step_by(2).filter(|span| !span.contains('/')) {
            assert!(files.contains(span), "the map names {of}/src/{span}, which does not exist");
        }
    }
}
