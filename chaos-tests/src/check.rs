//! Judges a recorded history: pure functions from events to violations.
//!
//! The oracle is the log id that answers about tags carry: the index of the entry that last moved the
//! tag. It turns linearizability of a tag into a check that is linear in the history's length:
//!
//! - an id belongs to one digest, and to one move;
//! - an operation that began after another ended has seen no less than it (a write: strictly more);
//! - what is read was written, by a write that had begun.
//!
//! By digest, what was acknowledged is read back, always and whole: through a live node such a read
//! does not fail while a quorum and a holder live. A node is excused from `kill` to `ready` and from
//! `pause` to `resume`. A scenario that takes quorum or holders away passes [`Expect::no_failed_reads`]
//! as false.

use std::collections::BTreeMap;
use std::fmt;

use crate::history::{Event, Kind, Op};

/// What a scenario may expect of its history.
#[derive(Clone, Copy, Debug)]
pub struct Expect {
    /// A quorum and a holder of every acknowledged content lived all the time.
    pub no_failed_reads: bool,
    /// At least so many faults fired.
    pub faults: usize,
    /// At least so many operations of each kind that occurs were acknowledged.
    pub acknowledged: usize,
}

/// A promise that was broken, with the event that shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: &'static str,
    /// What happened, in words.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// One operation: its invocation and, if there was one, its completion.
#[derive(Clone, Copy, Debug)]
struct Operation<'a> {
    invoke: &'a Event,
    end: Option<&'a Event>,
}

impl Operation<'_> {
    fn ok(&self) -> Option<&Event> {
        self.end.filter(|end| end.kind == Kind::Ok)
    }
}

/// Every violation in `events`; none is what a scenario wants.
pub fn check(events: &[Event], expect: Expect) -> Vec<Violation> {
    let mut found = Vec::new();
    let operations = pair(events, &mut found);
    let mut tags: BTreeMap<(&str, &str), Vec<Operation>> = BTreeMap::new();
    for operation in &operations {
        if let Some(tag) = &operation.invoke.tag {
            tags.entry((&operation.invoke.repo, tag)).or_default().push(*operation);
        }
    }
    for ((repo, tag), operations) in &tags {
        check_tag(&format!("{repo}:{tag}"), operations, &mut found);
    }
    check_content(&operations, &Excused::of(events), expect, &mut found);
    check_coverage(events, &operations, expect, &mut found);
    found
}

/// Matches completions with invocations; a completion without one is a broken harness.
fn pair<'a>(events: &'a [Event], found: &mut Vec<Violation>) -> Vec<Operation<'a>> {
    let mut open: BTreeMap<u64, usize> = BTreeMap::new();
    let mut operations: Vec<Operation> = Vec::new();
    for event in events.iter().filter(|event| event.f != Op::Fault) {
        if event.kind == Kind::Invoke {
            if open.insert(event.proc, operations.len()).is_some() {
                found.push(broken(event, "begins an operation within another"));
            }
            operations.push(Operation { invoke: event, end: None });
        } else if let Some(index) = open.get(&event.proc) {
            operations[*index].end = Some(event);
            // A proc whose outcome is unknown keeps its operation open: it has retired.
            if event.kind != Kind::Info || !mutates(event.f) {
                open.remove(&event.proc);
            }
        } else {
            found.push(broken(event, "completes what was not begun"));
        }
    }
    operations
}

fn mutates(op: Op) -> bool {
    matches!(op, Op::PushBlob | Op::PutTag)
}

fn broken(event: &Event, what: &str) -> Violation {
    Violation { rule: "well-formed", what: format!("proc {} {what} at {}", event.proc, event.t) }
}

fn check_tag(name: &str, operations: &[Operation], found: &mut Vec<Violation>) {
    let mut complain = |rule, what: String| found.push(Violation { rule, what: format!("{name}: {what}") });

    // An id belongs to one digest, and to one acknowledged write.
    let mut digest_of: BTreeMap<u64, &str> = BTreeMap::new();
    let mut moves: BTreeMap<u64, u64> = BTreeMap::new();
    for (operation, end) in operations.iter().filter_map(|op| Some((op, op.ok()?))) {
        let (Some(id), Some(digest)) = (end.log_id, end.digest.as_deref()) else {
            complain("log id given", format!("{:?} through {} has no log id or digest", end.f, end.node));
            continue;
        };
        if *digest_of.entry(id).or_insert(digest) != digest {
            complain("one digest per log id", format!("{id} is {digest} and {}", digest_of[&id]));
        }
        if operation.invoke.f == Op::PutTag && moves.insert(id, end.proc).is_some() {
            complain("one move per log id", format!("two acknowledged writes have {id}"));
        }
    }

    // What is read was written by a write that had begun.
    for end in operations.iter().filter(|op| op.invoke.f == Op::GetTag).filter_map(Operation::ok) {
        let written = operations.iter().any(|op| {
            op.invoke.f == Op::PutTag
                && op.invoke.digest == end.digest
                && op.invoke.t < end.t
                && op.end.is_none_or(|end| end.kind != Kind::Fail)
        });
        if !written {
            complain(
                "reads return writes",
                format!("{:?} was read through {} at {}", end.digest, end.node, end.t),
            );
        }
    }

    real_time(operations, &mut complain);
}

/// In the order of beginnings, each operation sees at least what had ended before it began.
fn real_time(operations: &[Operation], complain: &mut impl FnMut(&'static str, String)) {
    let mut ends: Vec<&Event> =
        operations.iter().filter_map(Operation::ok).filter(|end| !end.stale).collect();
    ends.sort_by_key(|end| end.t);
    let mut begins: Vec<&Operation> = operations.iter().collect();
    begins.sort_by_key(|operation| operation.invoke.t);
    let (mut floor, mut written, mut next) = (0, false, 0);
    for operation in begins {
        while next < ends.len() && ends[next].t < operation.invoke.t {
            floor = floor.max(ends[next].log_id.unwrap_or(0));
            written = true;
            next += 1;
        }
        let (Some(end), f) = (operation.end, operation.invoke.f) else { continue };
        if f == Op::GetTag && end.kind == Kind::Fail && end.status == Some(404) && written {
            complain("acknowledged tags are found", format!("404 through {} at {}", end.node, end.t));
        }
        let Some(id) = end.log_id.filter(|_| end.kind == Kind::Ok && !end.stale) else { continue };
        let old = if f == Op::PutTag { id <= floor } else { id < floor };
        if old {
            let what = format!("{f:?} through {} got {id} when {floor} was seen before it began", end.node);
            complain("real-time order", what);
        }
    }
}

/// When each node need not answer.
struct Excused<'a>(BTreeMap<&'a str, Vec<(u64, u64)>>);

impl<'a> Excused<'a> {
    fn of(events: &'a [Event]) -> Self {
        let mut spans: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
        for event in events.iter().filter(|event| event.f == Op::Fault) {
            let spans = spans.entry(&event.node).or_default();
            match (event.repo.as_str(), spans.last_mut()) {
                ("kill" | "pause", Some((_, u64::MAX))) => (),
                ("kill" | "pause", _) => spans.push((event.t, u64::MAX)),
                ("ready" | "resume", Some((_, end))) => *end = event.t,
                _ => (),
            }
        }
        Excused(spans)
    }

    fn covers(&self, node: &str, from: u64, to: u64) -> bool {
        self.0.get(node).is_some_and(|spans| spans.iter().any(|(start, end)| *start <= to && from <= *end))
    }
}

/// Reads by digest: right, found, and not failing.
fn check_content(operations: &[Operation], excused: &Excused, expect: Expect, found: &mut Vec<Violation>) {
    let mut acknowledged: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for operation in operations {
        let Some(end) = operation.ok().filter(|_| mutates(operation.invoke.f)) else { continue };
        if let Some(digest) = &operation.invoke.digest {
            let at = acknowledged.entry((&operation.invoke.repo, digest)).or_insert(end.t);
            *at = end.t.min(*at);
        }
    }
    for operation in operations.iter().filter(|op| matches!(op.invoke.f, Op::PullBlob | Op::GetManifest)) {
        let (invoke, Some(end)) = (operation.invoke, operation.end) else { continue };
        let Some(digest) = invoke.digest.as_deref() else { continue };
        let mut complain = |rule, what: String| {
            found.push(Violation {
                rule,
                what: format!("{}@{digest} through {}: {what}", invoke.repo, end.node),
            });
        };
        if end.kind == Kind::Ok && end.digest.as_deref() != Some(digest) {
            complain("bytes match their digest", format!("got {:?}", end.digest));
        }
        let known = acknowledged.get(&(invoke.repo.as_str(), digest)).is_some_and(|at| *at < invoke.t);
        if !known || end.kind == Kind::Ok {
            continue;
        }
        if end.status == Some(404) {
            complain("acknowledged content is found", format!("404 at {}", end.t));
        } else if expect.no_failed_reads && !excused.covers(&end.node, invoke.t, end.t) {
            complain("reads by digest do not fail", format!("{:?} {:?} at {}", end.status, end.code, end.t));
        }
    }
}

/// A fault that never fired, or traffic that never was, proves nothing.
fn check_coverage(events: &[Event], operations: &[Operation], expect: Expect, found: &mut Vec<Violation>) {
    let faults = events.iter().filter(|event| event.f == Op::Fault).count();
    if faults < expect.faults {
        let what = format!("{faults} faults fired, at least {} were meant to", expect.faults);
        found.push(Violation { rule: "coverage", what });
    }
    for op in Op::EACH {
        let tried = operations.iter().filter(|operation| operation.invoke.f == op);
        let (tried, acknowledged) = (tried.clone().count(), tried.filter(|op| op.ok().is_some()).count());
        if tried > 0 && acknowledged < expect.acknowledged {
            let what = format!("only {acknowledged} of {tried} {op:?} were acknowledged");
            found.push(Violation { rule: "coverage", what });
        }
    }
}

#[cfg(test)]
mod tests;
