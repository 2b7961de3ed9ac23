//! `trow cluster status` for people: first the verdict and what to do, then the figures.
//!
//! Always holds: the first line says whether anything is wrong; whatever is named as wrong is
//! followed by what to do about it, or by that nothing is to be done. Never does: ask.

mod checks;
#[cfg(test)]
mod tests;
mod verdict;

use super::{Table, human_bytes, human_duration};
use crate::admin::document::StatusDocument;
use verdict::Verdict;

/// How it is, in one line.
pub(super) fn summary(status: &StatusDocument) -> String {
    verdict(status).summary(status)
}

/// Everything that is to be said of it before the figures.
fn verdict(status: &StatusDocument) -> Verdict {
    let mut verdict = Verdict::default();
    match status.cluster_id {
        None => verdict.not_born(),
        Some(_) => verdict.check(status),
    }
    verdict
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
         blobs       {} durable ({}), factor {}, {} under-replicated, {} away, {} lost\n\
         policy      {}",
        verdict(status).line(status),
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
        match status.policy_revision {
            Some(revision) => format!("revision {revision}"),
            None => "no policy is set: every image is allowed".to_owned(),
        },
    )
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
