//! `trow cluster status` for people: first the verdict and what to do, then the figures.
//!
//! Always holds: the first line says whether anything is wrong; whatever is named as wrong is
//! followed by what to do about it, or by that nothing is to be done. Never does: ask.

use super::{Table, human_bytes};
use crate::admin::document::{MemberDocument, StatusDocument};

/// Less free disk than this share of the whole is said.
const FREE: f64 = 0.1;
/// A member that is further behind than this many entries is said to be.
const BEHIND: u64 = 1024;

/// How it is, worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    Healthy,
    Changing,
    Repairing,
    Degraded,
    DataLost,
    NoQuorum,
    NotBorn,
}

impl Word {
    fn as_str(self) -> &'static str {
        match self {
            Word::Healthy => "healthy",
            Word::Changing => "changing",
            Word::Repairing => "repairing",
            Word::Degraded => "DEGRADED",
            Word::DataLost => "DATA LOST",
            Word::NoQuorum => "NO QUORUM",
            Word::NotBorn => "NOT BORN",
        }
    }
}

/// What is to be said of a cluster.
struct Verdict {
    word: Word,
    findings: Vec<String>,
    advice: Vec<String>,
}

impl Verdict {
    fn find(&mut self, word: Word, finding: String) {
        self.word = self.word.max(word);
        self.findings.push(finding);
    }

    fn advise(&mut self, advice: impl Into<String>) {
        let advice = advice.into();
        if !self.advice.contains(&advice) {
            self.advice.push(advice);
        }
    }

    fn of(status: &StatusDocument) -> Verdict {
        let mut verdict = Verdict { word: Word::Healthy, findings: Vec::new(), advice: Vec::new() };
        if status.cluster_id.is_none() {
            verdict.find(Word::NotBorn, "this node belongs to no cluster yet".to_owned());
            verdict.advise("start the nodes that it waits for; its log names them");
            return verdict;
        }
        verdict.quorum(status);
        verdict.lost(status);
        status
            .members
            .iter()
            .filter(|member| is_down(member))
            .for_each(|member| verdict.down(status, member));
        verdict.copies(status);
        verdict.members(status);
        verdict
    }

    fn quorum(&mut self, status: &StatusDocument) {
        if status.quorum {
            return;
        }
        let voters: Vec<&MemberDocument> = status.members.iter().filter(|m| m.role == "voter").collect();
        let silent: Vec<&str> = voters.iter().filter(|m| is_down(m)).map(|m| m.name.as_str()).collect();
        let answer = voters.len() - silent.len();
        self.find(Word::NoQuorum, format!("{answer} of {} voters answer this node", voters.len()));
        if answer > voters.len() / 2 {
            self.advise("a leader is being elected, which takes a second: ask again; if it stays so, see the nodes' logs");
        } else {
            let who = listed(&silent);
            self.advise(format!(
                "start {who}, or mend the network between the nodes: everything goes on by itself"
            ));
        }
        self.advise("until then writes are refused, content by digest is served, and tags and this answer may be stale");
    }

    fn lost(&mut self, status: &StatusDocument) {
        let lost = status.blobs.lost;
        if lost > 0 {
            let are = if lost == 1 { "blob is" } else { "blobs are" };
            self.find(Word::DataLost, format!("{lost} {are} on no member"));
            self.advise(
                "start the node that still holds them, or push them again; the nodes' logs name them (\"recorded as lost\")",
            );
        }
    }

    fn down(&mut self, status: &StatusDocument, member: &MemberDocument) {
        let name = &member.name;
        self.find(
            Word::Degraded,
            match member.last_seen_ms {
                Some(ms) => format!("{name} has not been heard of for {}", human_duration(ms)),
                None => format!("{name} has not been heard of since this node started"),
            },
        );
        if !status.quorum {
            return;
        }
        let up = status.members.iter().filter(|member| member.state == "up").count() as u64;
        let room = up >= u64::from(status.rf);
        self.advise(match (room, member.repair_in_ms) {
            (true, Some(0)) => format!("start {name} again; meanwhile its copies are made on other nodes"),
            (true, Some(ms)) => {
                format!("start {name} again: in {} its copies are made on other nodes", human_duration(ms))
            }
            (true, None) => format!("start {name} again"),
            (false, _) => format!(
                "start {name} again, or add a node: the {up} that are up are too few for {} copies of each blob",
                status.rf
            ),
        });
        self.advise(format!("if {name} is gone for good: trow cluster remove {name}"));
    }

    fn copies(&mut self, status: &StatusDocument) {
        let blobs = &status.blobs;
        let members = status.members.iter().filter(|member| member.state != "joining").count() as u64;
        let goal = u64::from(status.rf).min(members);
        let down = status.members.iter().any(is_down);
        let worst = if down { Word::Degraded } else { Word::Repairing };
        let moving = status.partitions.moving;
        if blobs.under_replicated > 0 {
            let copies = if goal == 1 { "copy".to_owned() } else { format!("{goal} copies") };
            self.find(worst, format!("{} below {copies}", counted(blobs.under_replicated, "blob")));
        }
        if blobs.away > 0 {
            self.find(Word::Repairing, format!("{} not with its owners yet", counted(blobs.away, "blob")));
        }
        if moving > 0 {
            self.find(
                Word::Repairing,
                format!("{moving} of {} partitions are moving", status.partitions.total),
            );
        }
        if self.word == Word::Repairing {
            self.advise(
                "nothing: it goes on by itself; `trow cluster wait --for settled` returns when it is done",
            );
        }
    }

    fn members(&mut self, status: &StatusDocument) {
        for member in &status.members {
            let name = &member.name;
            match member.state.as_str() {
                "joining" => {
                    self.find(Word::Changing, format!("{name} is joining"));
                    self.advise("nothing: it becomes a full member when it has caught up");
                }
                "draining" => {
                    self.find(Word::Changing, format!("{name} is leaving"));
                    self.advise(format!(
                        "leave {name} running until it has left; `trow cluster drain {name}` waits for that"
                    ));
                }
                _ => {}
            }
            let behind = member.applied.map_or(0, |applied| status.applied.saturating_sub(applied));
            if behind > BEHIND {
                self.find(Word::Changing, format!("{name} is {behind} log entries behind"));
                self.advise(format!(
                    "nothing while it catches up; if it does not, look at the disk and the log of {name}"
                ));
            }
            if let Some(disk) = member.disk.filter(|disk| (disk.free as f64) < disk.total as f64 * FREE) {
                self.find(Word::Degraded, format!("{name} has {} of disk left", human_bytes(disk.free)));
                self.advise(format!(
                    "make room on the disk of {name} or add a node: when it is full, pushes are answered 507"
                ));
            }
        }
    }

    fn line(&self, status: &StatusDocument) -> String {
        let findings = match self.word {
            Word::Healthy => {
                let count = status.members.len();
                let (nodes, answer) = if count == 1 { ("node", "answers") } else { ("nodes", "answer") };
                format!("{count} {nodes} {answer}, every blob has its copies")
            }
            _ => self.findings.join("; "),
        };
        let advice: String = self.advice.iter().map(|advice| format!("\n  to do: {advice}")).collect();
        format!("{}: {findings}{advice}", self.word.as_str())
    }
}

fn is_down(member: &MemberDocument) -> bool {
    // A draining or joining member that does not answer shows no applied index.
    member.state == "down" || member.applied.is_none()
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what} is") } else { format!("{count} {what}s are") }
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => "the voters".to_owned(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A time as people say it: `9 min 40 s`.
fn human_duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes, seconds % 60) {
        (0, 0, 0, 0) => "less than 1 s".to_owned(),
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (1, hours, ..) => format!("1 day {hours} h"),
        (days, hours, ..) => format!("{days} days {hours} h"),
    }
}

fn members(status: &StatusDocument) -> Table {
    let none = || "-".to_owned();
    let mut members = Table::new([
        "NAME", "ID", "ZONE", "ROLE", "STATE", "CLIENT", "PEER", "APPLIED", "SEEN", "FREE", "UPLOADS",
    ]);
    for member in &status.members {
        members.row([
            member.name.clone(),
            member.id.clone(),
            if member.zone.is_empty() { none() } else { member.zone.clone() },
            member.role.clone(),
            member.state.clone(),
            member.client.clone().unwrap_or_else(none),
            member.peer.clone().unwrap_or_else(none),
            member.applied.map_or_else(none, |applied| applied.to_string()),
            member.last_seen_ms.map_or_else(none, |ms| match ms {
                0 => "now".to_owned(),
                ms => format!("{} ago", human_duration(ms)),
            }),
            member.disk.map_or_else(none, |disk| {
                format!("{} of {}", human_bytes(disk.free), human_bytes(disk.total))
            }),
            member.uploads.map_or_else(none, |uploads| {
                format!("{} ({})", uploads.sessions, human_bytes(uploads.bytes))
            }),
        ]);
    }
    members
}

/// Which members keep the feature level from rising to what others support.
fn held_back(status: &StatusDocument) -> Option<String> {
    let highest = status.members.iter().map(|member| member.max_level).max()?;
    let lagging = status.members.iter().filter(|member| member.max_level < highest);
    let lagging: Vec<&str> = lagging.map(|member| member.name.as_str()).collect();
    (!lagging.is_empty()).then(|| {
        let names = lagging.join(", ");
        format!("the level stays {} until a version that supports {highest} runs on {names}", status.level)
    })
}

/// The whole of it.
pub(super) fn shown(status: &StatusDocument) -> String {
    let blobs = &status.blobs;
    let quorum = if status.quorum { "yes" } else { "NO" };
    let stale = if status.stale { " (stale: what this node last knew)" } else { "" };
    let held_back = held_back(status).map_or_else(String::new, |why| format!("\nlevel       {why}"));
    format!(
        "{}\n\n{}\n\n\
         cluster     {}{stale}\n\
         quorum      {quorum}, leader {}, term {}, level {}, applied {}, state {} at {}{held_back}\n\
         partitions  {} of {} ready, {} moving\n\
         blobs       {} durable ({}), factor {}, {} under-replicated, {} away, {} lost, {} cached",
        Verdict::of(status).line(status),
        members(status),
        status.cluster_id.as_deref().unwrap_or("(not born yet)"),
        status.leader.as_deref().unwrap_or("-"),
        status.term,
        status.level,
        status.applied,
        status.state_hash,
        status.state_hash_at,
        status.partitions.ready,
        status.partitions.total,
        status.partitions.moving,
        blobs.durable,
        human_bytes(blobs.bytes),
        status.rf,
        blobs.under_replicated,
        blobs.away,
        blobs.lost,
        blobs.cached,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::document::{BlobsDocument, DiskDocument, PartitionsDocument};

    fn member(name: &str) -> MemberDocument {
        MemberDocument {
            id: "00000000000000a1".into(),
            name: name.into(),
            zone: String::new(),
            role: "voter".into(),
            state: "up".into(),
            client: Some("127.0.0.1:5000".into()),
            peer: Some("127.0.0.1:5001".into()),
            applied: Some(90),
            max_level: 1,
            last_seen_ms: Some(0),
            repair_in_ms: None,
            disk: Some(DiskDocument { total: 100 << 30, free: 50 << 30, blobs: 1 << 30 }),
            uploads: None,
        }
    }

    fn down(name: &str, silent: u64, repair: Option<u64>) -> MemberDocument {
        let gone = MemberDocument { state: "down".into(), applied: None, disk: None, ..member(name) };
        MemberDocument { last_seen_ms: Some(silent), repair_in_ms: repair, ..gone }
    }

    fn status(members: Vec<MemberDocument>) -> StatusDocument {
        StatusDocument {
            cluster_id: Some("00000000000000c1".into()),
            quorum: true,
            stale: false,
            leader: Some("n1".into()),
            term: 3,
            level: 1,
            rf: 3,
            applied: 90,
            state_hash: "0".into(),
            state_hash_at: 80,
            members,
            partitions: PartitionsDocument { total: 1024, ready: 1024, moving: 0 },
            blobs: BlobsDocument { durable: 9, bytes: 1, under_replicated: 0, away: 0, lost: 0, cached: 0 },
        }
    }

    /// The verdict, without the tables below it.
    fn said(status: &StatusDocument) -> String {
        shown(status).split("\n\n").next().unwrap().to_owned()
    }

    #[test]
    fn a_healthy_cluster_takes_one_line() {
        let healthy = status(["n1", "n2", "n3"].map(member).to_vec());
        assert_eq!(said(&healthy), "healthy: 3 nodes answer, every blob has its copies");
        assert_eq!(said(&status(vec![member("n1")])), "healthy: 1 node answers, every blob has its copies");
    }

    #[test]
    fn a_silent_node_is_named_with_the_time_that_is_left() {
        let members = vec![member("n1"), member("n2"), down("n3", 20_300, Some(579_700)), member("n4")];
        let mut degraded = status(members);
        degraded.blobs.under_replicated = 14;
        assert_eq!(
            said(&degraded),
            "DEGRADED: n3 has not been heard of for 20 s; 14 blobs are below 3 copies\n  \
             to do: start n3 again: in 9 min 39 s its copies are made on other nodes\n  \
             to do: if n3 is gone for good: trow cluster remove n3"
        );
        degraded.members[2].repair_in_ms = Some(0);
        assert!(said(&degraded).contains("start n3 again; meanwhile its copies are made on other nodes"));
        degraded.members.pop();
        assert!(
            said(&degraded).contains("the 2 that are up are too few for 3 copies"),
            "{}",
            said(&degraded)
        );
    }

    #[test]
    fn without_a_quorum_it_says_whom_to_start_and_what_goes_on() {
        let mut alone = status(vec![down("n1", 5000, None), down("n2", 61_000, None), member("n3")]);
        (alone.quorum, alone.stale, alone.leader) = (false, true, None);
        let said = said(&alone);
        assert!(said.starts_with("NO QUORUM: 1 of 3 voters answer this node; n1 has not"), "{said}");
        assert!(said.contains("to do: start n1 and n2, or mend the network"), "{said}");
        assert!(said.contains("writes are refused"), "{said}");
        assert!(!said.contains("remove"), "nobody may be removed without a quorum: {said}");
    }

    #[test]
    fn the_worst_comes_first_and_everything_is_said() {
        let mut bad = status(["n1", "n2", "n3"].map(member).to_vec());
        bad.blobs.away = 1;
        assert!(said(&bad).starts_with("repairing: 1 blob is not with its owners yet\n  to do: nothing"));
        bad.members[1].disk = Some(DiskDocument { total: 100 << 30, free: 3 << 30, blobs: 90 << 30 });
        assert!(said(&bad).starts_with("DEGRADED: 1 blob is"), "{}", said(&bad));
        assert!(said(&bad).contains("n2 has 3.0 GiB of disk left"), "{}", said(&bad));
        bad.blobs.lost = 2;
        assert!(said(&bad).starts_with("DATA LOST: 2 blobs are on no member; "), "{}", said(&bad));
        bad.members[2].state = "joining".into();
        assert!(said(&bad).contains("n3 is joining"), "{}", said(&bad));
        bad.cluster_id = None;
        assert!(said(&bad).starts_with("NOT BORN: "), "{}", said(&bad));
    }

    #[test]
    fn times_are_said_as_people_say_them() {
        for (ms, said) in [
            (999, "less than 1 s"),
            (12_999, "12 s"),
            (580_000, "9 min 40 s"),
            (3 * 3_600_000, "3 h 0 min"),
            (86_400_000, "1 day 0 h"),
            (200_000_000, "2 days 7 h"),
        ] {
            assert_eq!(human_duration(ms), said);
        }
    }
}
