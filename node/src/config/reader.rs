//! Looks settings up in flags, variables and the file, in this order.
//!
//! Always holds: every problem is collected, none ends the reading; what nobody asked for is a
//! problem too, so that a misspelt key is not silently ignored. Never does: cross-field rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use toml::Value;

use super::value::Setting;

/// A flag's value for a setting: which setting, which flag, and what it was given.
#[derive(Clone, Debug)]
pub struct FlagValue {
    /// The setting, as `section.key`.
    pub key: &'static str,
    /// The flag as typed.
    pub flag: &'static str,
    /// One value, or several for a list.
    pub values: Vec<String>,
}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting, and where it was found.
    pub setting: String,
    /// What is wrong and what to do.
    pub why: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.why)
    }
}

/// Variables that begin as a section does but are not settings: those of the command line, and
/// those that Kubernetes sets for a Service named `trow-<section>`.
fn is_foreign(name: &str) -> bool {
    let service = |name: &str| {
        let rest = name.rsplit_once("_PORT").map(|(_, rest)| rest);
        name.ends_with("_SERVICE_HOST")
            || name.contains("_SERVICE_PORT")
            || rest.is_some_and(|r| r.is_empty() || r.contains("_TCP") || r.contains("_UDP"))
            || name.contains("_TCP_")
            || name.contains("_UDP_")
    };
    name == "TROW_SERVER" || service(name)
}

/// A setting as it was given.
#[derive(Clone, Debug)]
struct Given {
    path: Vec<String>,
    /// The setting, and where it was found.
    source: String,
    value: Value,
}

/// The settings as they were given, waiting to be asked for.
pub(super) struct Reader {
    flags: Vec<FlagValue>,
    env: BTreeMap<String, String>,
    file_name: String,
    file: BTreeMap<Vec<String>, Value>,
    /// The tables of the file, those that are empty included.
    tables: BTreeSet<Vec<String>>,
    asked: BTreeSet<Vec<String>>,
    set: BTreeMap<String, Given>,
    problems: Vec<Problem>,
}

impl Reader {
    pub(super) fn new(
        flags: Vec<FlagValue>,
        env: BTreeMap<String, String>,
        file_name: String,
        table: toml::Table,
    ) -> Self {
        let (mut file, mut tables) = (BTreeMap::new(), BTreeSet::new());
        name_tables(&mut tables, &mut Vec::new(), &table);
        flatten(&mut file, &mut Vec::new(), table);
        let (asked, set) = (BTreeSet::new(), BTreeMap::new());
        Reader { flags, env, file_name, file, tables, asked, set, problems: Vec::new() }
    }

    /// The setting's value; without one, or with a bad one, nothing.
    pub(super) fn optional<T: Setting>(&mut self, key: &str) -> Option<T> {
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        self.at(&path)
    }

    /// The setting's value, or its default.
    pub(super) fn or<T: Setting>(&mut self, key: &str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// As [`Reader::optional`], for a key whose parts may contain dots.
    pub(super) fn at<T: Setting>(&mut self, path: &[String]) -> Option<T> {
        self.asked.insert(path.to_vec());
        let key = shown(path);
        let (source, value) = self.find(path, &key)?;
        let given = Given { path: path.to_vec(), source: source.clone(), value: value.clone() };
        self.set.insert(key, given);
        match T::read(&value) {
            Ok(value) => Some(value),
            Err(why) => {
                self.problem(source, why);
                None
            }
        }
    }

    fn find(&self, path: &[String], key: &str) -> Option<(String, Value)> {
        if let Some(flag) = self.flags.iter().find(|flag| flag.key == key && !flag.values.is_empty()) {
            let value = match flag.values.as_slice() {
                [one] => Value::String(one.clone()),
                many => Value::Array(many.iter().cloned().map(Value::String).collect()),
            };
            return Some((format!("{key} ({})", flag.flag), value));
        }
        let name = variable(path);
        if let Some(text) = self.env.get(&name).filter(|text| !text.is_empty()) {
            return Some((format!("{key} ({name})"), Value::String(text.clone())));
        }
        let value = self.file.get(path)?;
        Some((format!("{key} ({})", self.file_name), value.clone()))
    }

    /// A table with keys of the user's choosing; in a variable, an inline TOML table.
    pub(super) fn map<T: Setting>(&mut self, key: &str) -> BTreeMap<String, T> {
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        self.asked.insert(path.clone());
        let name = variable(&path);
        if let Some(text) = self.env.get(&name).filter(|text| !text.is_empty()) {
            match toml::from_str::<toml::Table>(&format!("value = {text}"))
                .ok()
                .as_ref()
                .and_then(|t| t.get("value"))
            {
                Some(Value::Table(table)) => {
                    self.file.retain(|found, _| !found.starts_with(&path));
                    flatten(&mut self.file, &mut path.clone(), table.clone());
                }
                _ => self.problem(
                    format!("{key} ({name})"),
                    "expected an inline table such as { name = \"value\" }".to_owned(),
                ),
            }
        }
        let keys: Vec<_> =
            self.file.keys().filter(|k| k.len() == path.len() + 1 && k.starts_with(&path)).cloned().collect();
        keys.into_iter().filter_map(|full| Some((full[path.len()].clone(), self.at(&full)?))).collect()
    }

    /// The tables directly below `key`.
    pub(super) fn tables(&self, key: &str) -> BTreeSet<String> {
        self.tables
            .iter()
            .filter(|path| path.len() == 2 && path[0] == key)
            .map(|path| path[1].clone())
            .collect()
    }

    /// Notes what is wrong with a setting, and where it was given if it was.
    pub(super) fn problem(&mut self, setting: impl Into<String>, why: impl Into<String>) {
        let setting = setting.into();
        let setting = self.set.get(&setting).map_or(setting, |given| given.source.clone());
        self.problems.push(Problem { setting, why: why.into() });
    }

    /// The keys that were given a value.
    pub(super) fn set(&self) -> impl Iterator<Item = &str> {
        self.set.keys().map(String::as_str)
    }

    /// A reader of nothing but what was given for `key`.
    pub(super) fn only(&self, key: &str) -> Reader {
        let given = self.set.get(key);
        let mut reader = Reader::new(Vec::new(), BTreeMap::new(), String::new(), toml::Table::new());
        reader.file = given.map(|given| (given.path.clone(), given.value.clone())).into_iter().collect();
        reader
    }

    /// The keys that were asked for.
    #[cfg(test)]
    pub(super) fn asked(&self) -> impl Iterator<Item = String> + '_ {
        self.asked.iter().map(|path| shown(path))
    }

    /// Everything that was wrong, with the keys that nobody asked for.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        let unknown: Vec<_> =
            self.file.keys().filter(|path| !self.asked.contains(*path)).map(|p| shown(p)).collect();
        for key in unknown {
            self.problem(format!("{key} ({})", self.file_name), "there is no such setting");
        }
        let known: BTreeSet<String> = self.asked.iter().map(|path| variable(path)).collect();
        let sections: BTreeSet<String> = self
            .asked
            .iter()
            .filter(|path| path.len() > 1)
            .map(|path| format!("TROW_{}_", path[0].to_uppercase()))
            .collect();
        let strange = |name: &&String| {
            sections.iter().any(|s| name.starts_with(s.as_str()))
                && !known.contains(*name)
                && !is_foreign(name)
        };
        let unknown: Vec<_> = self.env.keys().filter(strange).cloned().collect();
        for name in unknown {
            self.problem(name, "there is no such setting");
        }
        self.problems
    }
}

fn flatten(into: &mut BTreeMap<Vec<String>, Value>, at: &mut Vec<String>, table: toml::Table) {
    for (key, value) in table {
        at.push(key);
        match value {
            Value::Table(inner) => flatten(into, at, inner),
            value => {
                into.insert(at.clone(), value);
            }
        }
        at.pop();
    }
}

fn name_tables(into: &mut BTreeSet<Vec<String>>, at: &mut Vec<String>, table: &toml::Table) {
    for (key, value) in table {
        if let Value::Table(inner) = value {
            at.push(key.clone());
            into.insert(at.clone());
            name_tables(into, at, inner);
            at.pop();
        }
    }
}

/// The variable of a setting: `raft.heartbeat` is `TROW_RAFT_HEARTBEAT`.
fn variable(path: &[String]) -> String {
    let upper = |part: &String| part.to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    format!("TROW_{}", path.iter().map(upper).collect::<Vec<_>>().join("_"))
}

/// The key as it is written in the file.
pub(super) fn shown(path: &[String]) -> String {
    let part = |part: &String| if part.contains('.') { format!("{part:?}") } else { part.clone() };
    path.iter().map(part).collect::<Vec<_>>().join(".")
}
