//! As much of Markdown as the repository's documents use: fenced blocks, code spans, links and
//! headings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One document.
pub struct Document {
    /// Where it lies.
    pub path: PathBuf,
    /// The lines of its fenced blocks that have no language, with continued lines joined.
    shell: Vec<String>,
    /// Its text outside of fenced blocks.
    text: Vec<String>,
    /// All of it.
    whole: String,
}

impl Document {
    pub fn read(path: &Path) -> Document {
        let text =
            std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Document::of(path, &text)
    }

    pub fn of(path: impl AsRef<Path>, whole: &str) -> Document {
        let (mut shell, mut text) = (Vec::new(), Vec::new());
        let mut language: Option<&str> = None;
        let mut continued = false;
        for line in whole.lines() {
            match (line.trim_start().strip_prefix("```"), language) {
                (Some(word), None) => language = Some(word.trim()),
                (Some(_), Some(_)) => language = None,
                (None, None) => text.push(line.to_owned()),
                (None, Some("" | "sh" | "bash" | "console")) => {
                    let part = line.trim().trim_end_matches('\\').trim_end();
                    match shell.last_mut() {
                        Some(last) if continued => *last = format!("{last} {part}"),
                        _ => shell.push(part.to_owned()),
                    }
                    continued = line.ends_with('\\');
                }
                (None, Some(_)) => {}
            }
        }
        assert!(language.is_none(), "{}: a block does not end", path.as_ref().display());
        Document { path: path.as_ref().to_owned(), shell, text, whole: whole.to_owned() }
    }

    /// What stands between backquotes in a line of text.
    pub fn spans(&self) -> Vec<String> {
        let spans = self.text.iter().flat_map(|line| line.split('`').skip(1).step_by(2));
        spans.map(str::to_owned).collect()
    }

    /// The arguments of each call of `trow`, in blocks and in code spans that show one whole.
    pub fn commands(&self) -> Vec<Vec<String>> {
        let partial = |span: &String| span.contains(['|', '…']) || *span == "trow";
        let spans = self.spans().into_iter().filter(|span| !partial(span));
        self.shell.iter().cloned().chain(spans).filter_map(|line| arguments(&line)).collect()
    }

    /// Targets of links.
    pub fn links(&self) -> Vec<String> {
        let mut links = Vec::new();
        for line in &self.text {
            let prose: Vec<&str> = line.split('`').step_by(2).collect();
            let prose = prose.join("`");
            for part in prose.split("](").skip(1) {
                links.push(part.split(')').next().unwrap().to_owned());
            }
        }
        links
    }

    /// The anchors that GitHub makes of its headings.
    pub fn anchors(&self) -> BTreeSet<String> {
        let headings = self.text.iter().filter(|line| line.starts_with('#'));
        headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
    }

    /// Variables of the program that it names anywhere.
    pub fn variables(&self) -> BTreeSet<String> {
        let word = |c: char| c.is_ascii_uppercase() || c == '_';
        let words = self.whole.split(|c| !word(c)).filter(|word| word.starts_with("TROW_"));
        words.filter(|word| !word.ends_with('_')).map(str::to_owned).collect()
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The arguments of a line that calls the program, by its name or through cargo; the variables
/// before it and where its input and output go are the shell's.
fn arguments(line: &str) -> Option<Vec<String>> {
    let line = line.replace("cargo run --release -- ", "trow ");
    let words = line.split_whitespace().skip_while(|word| word.contains('='));
    let mut words = words.take_while(|word| !matches!(*word, "<" | ">" | "|" | "#" | "&"));
    (words.next()? == "trow").then(|| words.map(str::to_owned).collect())
}
