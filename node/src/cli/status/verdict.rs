//! What is to be said of a cluster in one line, and what to do about it.
//!
//! Always holds: the worst that was found is the first word. Never does: look for what is wrong;
//! `checks` does.

use crate::admin::document::StatusDocument;

/// How it is, worst last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    #[default]
    Healthy,
    TooFew,
    Changing,
    Repairing,
    Degraded,
    DataLost,
    NoQuorum,
    NotBorn,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Severity::Healthy => "healthy",
            Severity::TooFew => "too few nodes",
            Severity::Changing => "changing",
            Severity::Repairing => "repairing",
            Severity::Degraded => "DEGRADED",
            Severity::DataLost => "DATA LOST",
            Severity::NoQuorum => "NO QUORUM",
            Severity::NotBorn => "NOT BORN",
        }
    }
}

/// What is to be said of a cluster; by default, that nothing is wrong.
#[derive(Default)]
pub(super) struct Verdict {
    severity: Severity,
    findings: Vec<String>,
    advice: Vec<String>,
}

impl Verdict {
    /// Notes what was found.
    pub(super) fn find(&mut self, severity: Severity, finding: String) {
        self.severity = self.severity.max(severity);
        self.findings.push(finding);
    }

    /// Notes what to do, once.
    pub(super) fn advise(&mut self, advice: impl Into<String>) {
        let advice = advice.into();
        if !self.advice.contains(&advice) {
            self.advice.push(advice);
        }
    }

    /// Whether there is something to do by what was found up to now.
    pub(super) fn is_advised(&self) -> bool {
        !self.advice.is_empty()
    }

    /// The verdict in one line.
    pub(super) fn summary(&self, status: &StatusDocument) -> String {
        let findings = match self.severity {
            Severity::Healthy => {
                let count = status.members.len() as u64;
                let answer = if count == 1 { "answers" } else { "answer" };
                format!("{} {answer}, every blob has its copies", nodes(count))
            }
            _ => self.findings.join("; "),
        };
        format!("{}: {findings}", self.severity.as_str())
    }

    /// The same, and under it the advice.
    pub(super) fn line(&self, status: &StatusDocument) -> String {
        let advice: String = self.advice.iter().map(|advice| format!("\n  to do: {advice}")).collect();
        format!("{}{advice}", self.summary(status))
    }
}

/// So many nodes, in words.
pub(super) fn nodes(count: u64) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}
