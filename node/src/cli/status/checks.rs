//! What may be wrong with a cluster, one check each.
//!
//! Always holds: whatever is found comes with what to do about it, or with that nothing is to be
//! done.

use super::super::{counted, human_bytes, human_duration};
use super::verdict::{Severity, Verdict, nodes};
use crate::admin::document::{MemberDocument, StatusDocument};

/// Less free disk than this share of the whole is said.
const FREE: f64 = 0.1;
/// A member that is further behind than this many entries is said to be.
const BEHIND: u64 = 1024;

impl Verdict {
    /// Finds that there is no cluster.
    pub(super) fn not_born(&mut self) {
        self.find(Severity::NotBorn, "this node belongs to no cluster yet".to_owned());
        self.advise("start the nodes that it waits for; its log names them");
    }

    /// Finds everything that is wrong with a cluster that was born.
    pub(super) fn check(&mut self, status: &StatusDocument) {
        self.quorum(status);
        self.lost(status);
        status.members.iter().filter(|member| is_down(member)).for_each(|member| self.down(status, member));
        self.copies(status);
        self.members(status);
        self.few(status);
    }

    fn quorum(&mut self, status: &StatusDocument) {
        if status.quorum {
            return;
        }
        let voters: Vec<&MemberDocument> = status.members.iter().filter(|m| m.role == "voter").collect();
        let silent: Vec<&str> = voters.iter().filter(|m| is_down(m)).map(|m| m.name.as_str()).collect();
        let answer = voters.len() - silent.len();
        self.find(Severity::NoQuorum, format!("{answer} of {} voters answer this node", voters.len()));
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
            self.find(Severity::DataLost, format!("{lost} {are} on no member"));
            self.advise(
                "start the node that still holds them, or push them again; the nodes' logs name them (\"recorded as lost\")",
            );
        }
    }

    fn down(&mut self, status: &StatusDocument, member: &MemberDocument) {
        let name = &member.name;
        self.find(
            Severity::Degraded,
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
            (false, _) => {
                let are = if up == 1 { "one that is up is" } else { &format!("{up} that are up are") };
                let copies = status.rf;
                format!(
                    "start {name} again, or add a node: the {are} too few for {copies} copies of each blob"
                )
            }
        });
        self.advise(format!("if {name} is gone for good: trow cluster remove {name}"));
    }

    fn copies(&mut self, status: &StatusDocument) {
        let blobs = &status.blobs;
        let members = status.members.iter().filter(|member| member.state != "joining").count() as u64;
        let goal = u64::from(status.rf).min(members);
        let down = status.members.iter().any(is_down);
        let worst = if down { Severity::Degraded } else { Severity::Repairing };
        let moving = status.partitions.moving;
        if blobs.under_replicated == 0 && blobs.away == 0 && moving == 0 {
            return;
        }
        if blobs.under_replicated > 0 {
            let copies = if goal == 1 { "copy".to_owned() } else { format!("{goal} copies") };
            self.find(worst, format!("{} below {copies}", there(blobs.under_replicated, "blob")));
        }
        if blobs.away > 0 {
            self.find(Severity::Repairing, format!("{} not with its owners yet", there(blobs.away, "blob")));
        }
        if moving > 0 {
            self.find(Severity::Repairing, format!("{} moving", there(moving, "partition")));
        }
        self.advise(match self.is_advised() {
            true => {
                "nothing else: copies follow by themselves; `trow cluster wait --for settled` returns when they have"
            }
            false => {
                "nothing: it goes on by itself; `trow cluster wait --for settled` returns when it is done"
            }
        });
    }

    /// Fewer members than copies are wanted: all is as it can be, which is less than was asked for.
    fn few(&mut self, status: &StatusDocument) {
        let members = status.members.iter().filter(|member| member.state != "joining").count() as u64;
        let wanted = u64::from(status.rf);
        // Of those that are down, it is said with what to do about them.
        if members >= wanted || status.members.iter().any(is_down) {
            return;
        }
        let (on, more) = (nodes(members), wanted - members);
        self.find(
            Severity::TooFew,
            format!("each blob is on {on}, and replication.factor asks for {wanted}"),
        );
        let meanwhile = match members {
            1 => "until then what its disk loses is lost",
            2 => "until then nothing can be pushed while either node is down",
            _ => "until then fewer nodes may be lost at once than you asked for",
        };
        self.advise(format!(
            "start {more} more with `--join HOST:PORT` of this one and a copy of its cluster directory, see \
             docs/operations/add-and-remove-nodes.md; {meanwhile}"
        ));
    }

    fn members(&mut self, status: &StatusDocument) {
        for member in &status.members {
            let name = &member.name;
            match member.state.as_str() {
                "joining" => {
                    self.find(Severity::Changing, format!("{name} is joining"));
                    self.advise("nothing: it becomes a full member when it has caught up");
                }
                "draining" => {
                    self.find(Severity::Changing, format!("{name} is leaving"));
                    self.advise(format!(
                        "leave {name} running until it has left; `trow cluster drain {name}` waits for that"
                    ));
                }
                _ => {}
            }
            let behind = member.applied.map_or(0, |applied| status.applied.saturating_sub(applied));
            if behind > BEHIND {
                self.find(Severity::Changing, format!("{name} is {behind} log entries behind"));
                self.advise(format!(
                    "nothing while it catches up; if it does not, look at the disk and the log of {name}"
                ));
            }
            if let Some(disk) = member.disk.filter(|disk| (disk.free as f64) < disk.total as f64 * FREE) {
                self.find(Severity::Degraded, format!("{name} has {} of disk left", human_bytes(disk.free)));
                self.advise(format!(
                    "make room on the disk of {name} or add a node: when it is full, pushes are answered 507"
                ));
            }
        }
    }
}

fn is_down(member: &MemberDocument) -> bool {
    // A draining or joining member that does not answer shows no applied index.
    member.state == "down" || member.applied.is_none()
}

/// So many are, or one is.
fn there(count: u64, what: &str) -> String {
    format!("{} {}", counted(count, what), if count == 1 { "is" } else { "are" })
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => "the voters".to_owned(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
