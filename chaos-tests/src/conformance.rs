//! The official conformance program of the distribution-spec: running it, and what it reports.
//!
//! No API or DATA switch is turned off: the program gets no setting but those of [`Run`], and what it
//! says it ran with is checked. Its word is read from the reports that it writes, every test of them,
//! so that a program which ended early is never taken for one that found nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

/// The version of the spec that is asked for: its HEAD.
const VERSION: &str = "dev";
/// How many APIs and kinds of data it can be told to leave out.
const SWITCHES: usize = 30;

/// One run of the program.
#[derive(Clone, Debug)]
pub struct Run {
    /// The program.
    pub program: PathBuf,
    /// `host:port` of the registry, plain HTTP.
    pub registry: String,
    /// What deletes: the password of the Basic user `admin`.
    pub token: String,
    /// Also manifests that name what was never pushed, which a registry may refuse.
    pub sparse: bool,
    /// Where the reports go, and where the program works.
    pub results: PathBuf,
}

impl Run {
    /// Runs it to its end.
    ///
    /// # Errors
    /// It takes longer than `limit`, or leaves no complete report.
    pub async fn report(&self, limit: Duration) -> Result<Report> {
        std::fs::create_dir_all(&self.results)?;
        let mut command = Command::new(&self.program);
        // Settings of whoever runs the tests would change what is tested; so would a file here.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("OCI_") {
                command.env_remove(name);
            }
        }
        command
            .env("OCI_CONFIGURATION", "/dev/null")
            .env("OCI_REGISTRY", &self.registry)
            .env("OCI_TLS", "disabled")
            .env("OCI_VERSION", VERSION)
            .env("OCI_USERNAME", "admin")
            .env("OCI_PASSWORD", &self.token)
            .env("OCI_RESULTS_DIR", &self.results)
            .env("OCI_LOG", "error");
        if self.sparse {
            command.env("OCI_DATA_SPARSE", "true");
        }
        for old in ["results.yaml", "junit.xml", "report.html"] {
            let _ = std::fs::remove_file(self.results.join(old));
        }
        let output = std::fs::File::create(self.results.join("output.txt"))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .context("start the conformance program")?;
        let ended = tokio::time::timeout(limit, child.wait()).await;
        let status = ended.with_context(|| format!("the conformance program takes over {limit:?}"))??;
        let report = Report::read(&self.results)
            .with_context(|| format!("{status}, reports in {}", self.results.display()))?;
        report.is_of(self.sparse)?;
        ensure!(status.success() || !report.faults().is_empty(), "{status}, but no test failed");
        Ok(report)
    }
}

/// What the program reports.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many of each there were, as it states.
    pub totals: Totals,
    /// Each test, in order.
    tests: Vec<Test>,
    /// The lines of `results.yaml`: a dotted path and a value.
    settings: BTreeMap<String, String>,
}

/// How many tests ended in which way. A test that asks for several things counts for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// What passed.
    pub passed: usize,
    /// What failed.
    pub failed: usize,
    /// What went wrong in the program itself.
    pub errors: usize,
    /// What it left out.
    pub skipped: usize,
    /// What it was told to leave out.
    pub disabled: usize,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { passed, failed, errors, skipped, disabled } = self;
        write!(f, "{passed} passed, {failed} failed, {errors} errors, {skipped} skipped, {disabled} disabled")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Test {
    name: String,
    /// `passed`, `failure`, `error` or `skipped`.
    status: String,
}

impl Report {
    /// Reads the reports in `dir`.
    ///
    /// # Errors
    /// One is missing or cut short.
    pub fn read(dir: &Path) -> Result<Self> {
        // The program writes down bodies as they are, and blobs of random bytes are no UTF-8.
        let text = |name: &str| -> Result<String> {
            let bytes =
                std::fs::read(dir.join(name)).with_context(|| format!("the program left no {name}"))?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let (junit, yaml, html) = (text("junit.xml")?, text("results.yaml")?, text("report.html")?);
        ensure!(html.trim_end().ends_with("</html>"), "report.html is cut short");
        Ok(Report { totals: totals(&junit)?, tests: tests(&junit)?, settings: flat(&yaml) })
    }

    /// What is not as it must be: whatever failed or went wrong, and the APIs and kinds of data that did
    /// not pass, but for those that were `skipped` as a choice of the registry.
    pub fn faults(&self) -> Vec<String> {
        let bad = |status: &str| status != "passed" && status != "skipped";
        let tests = self.tests.iter().filter(|test| bad(&test.status));
        let mut faults: Vec<String> = tests.map(|test| format!("{}: {}", test.name, test.status)).collect();
        for (part, status) in &self.settings {
            let judged = part.starts_with("apis.") || part.starts_with("data.");
            if judged && !matches!(status.as_str(), "Pass" | "Disabled") {
                faults.push(format!("{part}: {status}"));
            }
        }
        if self.totals.failed + self.totals.errors > 0 {
            faults.push(self.totals.to_string());
        }
        faults
    }

    /// That every switch was on, but sparse data unless it was asked for.
    fn is_of(&self, sparse: bool) -> Result<()> {
        let version = self.settings.get("config.version");
        ensure!(version.is_some_and(|version| version == VERSION), "it ran as version {version:?}");
        let switches = self
            .settings
            .iter()
            .filter(|(path, _)| path.starts_with("config.apis.") || path.starts_with("config.data."));
        let mut count = 0;
        for (path, value) in switches {
            let on = path != "config.data.sparse" || sparse;
            ensure!(*value == on.to_string(), "{path} is {value}");
            count += 1;
        }
        ensure!(count >= SWITCHES, "only {count} switches are reported");
        let disabled = self.settings.iter().filter(|(_, status)| *status == "Disabled");
        for (part, _) in disabled {
            ensure!(part == "data.Sparse Manifests" && !sparse, "{part} was switched off");
        }
        Ok(())
    }
}

/// The totals that a JUnit report states.
fn totals(junit: &str) -> Result<Totals> {
    ensure!(junit.trim_end().ends_with("</testsuites>"), "junit.xml is cut short");
    let suite = tags(junit, "testsuite").next().context("junit.xml has no suite")?;
    let number = |name: &str| match attribute(suite, name) {
        Some(text) => text.parse::<usize>().with_context(|| format!("{name} in junit.xml")),
        // Zero is left out, but of the numbers that matter.
        None if matches!(name, "skipped" | "disabled") => Ok(0),
        None => bail!("junit.xml states no {name}"),
    };
    let [failed, errors] = [number("failures")?, number("errors")?];
    let [skipped, disabled] = [number("skipped")?, number("disabled")?];
    let passed = number("tests")?.checked_sub(failed + errors + skipped + disabled);
    Ok(Totals {
        passed: passed.context("junit.xml states too few tests")?,
        failed,
        errors,
        skipped,
        disabled,
    })
}

fn tests(junit: &str) -> Result<Vec<Test>> {
    let tests = tags(junit, "testcase").map(|tag| {
        let text =
            |name| attribute(tag, name).map(str::to_owned).context("a test without its name or status");
        Ok(Test { name: text("name")?, status: text("status")? })
    });
    tests.collect()
}

/// The start tags of the elements `name`. Text that looks like one is escaped in a report.
fn tags<'x>(xml: &'x str, name: &'x str) -> impl Iterator<Item = &'x str> {
    let rest = xml.split('<').filter_map(move |piece| piece.strip_prefix(name));
    rest.filter(|tag| tag.starts_with(' ')).filter_map(|tag| Some(&tag[..tag.find('>')?]))
}

fn attribute<'x>(tag: &'x str, name: &str) -> Option<&'x str> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

/// Nested maps of plain YAML as one map of dotted paths. Lists are left out.
fn flat(yaml: &str) -> BTreeMap<String, String> {
    let (mut flat, mut path) = (BTreeMap::new(), Vec::<(usize, String)>::new());
    for line in yaml.lines() {
        let text = line.trim_start();
        let Some((key, value)) = text.split_once(':') else { continue };
        let depth = line.len() - text.len();
        path.retain(|(outer, _)| *outer < depth);
        path.push((depth, key.trim_matches('"').to_owned()));
        if !value.trim().is_empty() {
            let names: Vec<&str> = path.iter().map(|(_, key)| key.as_str()).collect();
            flat.insert(names.join("."), value.trim().trim_matches('"').to_owned());
        }
    }
    flat
}

#[cfg(test)]
mod tests {
    use super::*;

    const JUNIT: &str = r#"<testsuites time="0.46" tests="7" failures="2" skipped="1">
      <testsuite name="OCI Conformance Test" tests="7" failures="2" errors="1" skipped="1" time="0.46">
        <testcase name="ping" classname="" time="0.1" status="passed"></testcase>
        <testcase name="push/blob" classname="" time="0.1" status="failure">
          <system-out>&lt;testcase name=&#34;no test&#34; status=&#34;error&#34;&gt;</system-out>
        </testcase>
        <testcase name="delete" classname="" time="0.1" status="skipped"></testcase>
      </testsuite>
    </testsuites>"#;

    const YAML: &str = "config:\n  version: dev\n  apis:\n    ping: true\n    blobs:\n      atomic: false\n  \
        data:\n    sparse: false\n  roData:\n    tags: []\napis:\n  Blob get range: Pass\n  \
        Tag listing: FAIL\ndata:\n  Sparse Manifests: Disabled\n  Image: Skip\n";

    fn report() -> Report {
        Report { totals: totals(JUNIT).unwrap(), tests: super::tests(JUNIT).unwrap(), settings: flat(YAML) }
    }

    #[test]
    fn a_report_is_read_and_its_faults_are_named() {
        let report = report();
        let totals = Totals { passed: 3, failed: 2, errors: 1, skipped: 1, disabled: 0 };
        assert_eq!(report.totals, totals);
        assert_eq!(report.tests.len(), 3);
        let faults = report.faults();
        assert_eq!(faults[..3], ["push/blob: failure", "apis.Tag listing: FAIL", "data.Image: Skip"]);
        assert_eq!(faults[3..], ["3 passed, 2 failed, 1 errors, 1 skipped, 0 disabled"]);
    }

    #[test]
    fn a_switch_that_is_off_is_noticed() {
        let mut report = report();
        assert!(report.is_of(false).unwrap_err().to_string().contains("config.apis.blobs.atomic is false"));
        for index in 0..SWITCHES {
            report.settings.insert(format!("config.apis.a{index}"), "true".to_owned());
        }
        report.settings.insert("config.apis.blobs.atomic".to_owned(), "true".to_owned());
        report.is_of(false).unwrap();
        assert!(report.is_of(true).unwrap_err().to_string().contains("config.data.sparse is false"));
        report.settings.insert("config.version".to_owned(), "1.1".to_owned());
        assert!(report.is_of(false).unwrap_err().to_string().contains("1.1"));
    }

    #[test]
    fn reports_that_are_empty_or_cut_short_are_none() {
        assert!(totals("").is_err());
        assert!(totals(JUNIT.trim_end_matches("</testsuites>")).is_err());
        assert!(totals("<testsuites></testsuites>").is_err());
        assert!(totals("<testsuites><testsuite name=\"x\" tests=\"7\"></testsuite></testsuites>").is_err());
    }
}
