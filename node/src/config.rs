//! The configuration: one typed tree, read once, wrong in as many places as it is wrong.
//!
//! Always holds: flags win over variables over the file over defaults; a [`Config`] that exists
//! satisfies every rule, files that it names included; every bad value is reported in one go.
//! Never does: look at the state, open a listener, change anything on disk.

mod check;
mod effect;
mod reader;
mod tree;
mod upstream;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use trow_api::pull::Prefixes;

pub use reader::{FlagValue, Problem};
pub use tree::{Config, Section, Tls};
pub use value::WithoutQuorum;

use reader::Reader;

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// What was given on the command line.
    pub flags: Vec<FlagValue>,
    /// The `TROW_…` variables.
    pub env: BTreeMap<String, String>,
    /// The file named by `--config`.
    pub file: Option<PathBuf>,
}

impl Sources {
    /// Flags and file, with the variables of this process.
    pub fn of_process(flags: Vec<FlagValue>, file: Option<PathBuf>) -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        };
        let env =
            std::env::vars_os().filter_map(text).filter(|(name, _)| name.starts_with("TROW_")).collect();
        Sources { flags, env, file }
    }
}

/// Everything that is wrong with a configuration; at least one problem.
#[derive(Debug)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "the configuration has {count} bad value{}:", if count == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}

impl Config {
    /// The names under which a node with this configuration is itself, `server.hostnames`, and `[prefixes]`. It may be
    /// another machine's: files that it names need not be here.
    ///
    /// # Errors
    /// Every bad value, of rules between settings only those about names.
    pub fn names(sources: Sources) -> Result<(Vec<String>, Prefixes), Problems> {
        let mut reader = reader(sources)?;
        let config = Config::read(&mut reader);
        check::names(&config, &mut reader);
        upstream::prefixes(&config, &mut reader);
        let problems = reader.finish();
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        // Each was found to be a name.
        let prefixes = config.upstream.prefixes.into_iter();
        let prefixes = prefixes.filter_map(|(prefix, host)| Some((prefix.parse().ok()?, host)));
        Ok((config.server.hostnames, prefixes.collect()))
    }

    /// Reads and checks the configuration; gives it with the keys that were set to something
    /// else than their default and have no effect in this version.
    ///
    /// # Errors
    /// Every bad value.
    pub fn load(sources: Sources) -> Result<(Config, Vec<String>), Problems> {
        let mut reader = reader(sources)?;
        let config = Config::read(&mut reader);
        check::rules(&config, &mut reader);
        let idle = effect::without(&reader);
        match reader.finish() {
            problems if problems.is_empty() => Ok((config, idle)),
            problems => Err(Problems(problems)),
        }
    }
}

fn reader(sources: Sources) -> Result<Reader, Problems> {
    let (file_name, table) = match &sources.file {
        None => (String::new(), toml::Table::new()),
        Some(path) => (path.display().to_string(), read_file(path)?),
    };
    Ok(Reader::new(sources.flags, sources.env, file_name, table))
}

fn read_file(path: &std::path::Path) -> Result<toml::Table, Problems> {
    let problem = |why: String| Problems(vec![Problem { setting: path.display().to_string(), why }]);
    let text = std::fs::read_to_string(path).map_err(|error| problem(format!("cannot be read: {error}")))?;
    text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let at = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        problem(format!("{at}{}", error.message().trim()))
    })
}
