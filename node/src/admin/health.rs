//! `GET health`: whether the cluster is healthy or settled, at the moment asked.
//!
//! Always holds: the answer covers everything that was acknowledged before the question, because
//! it starts from a confirmed read and asks every member about the index of that read or a later
//! one.

use std::collections::BTreeSet;

use trow_raft::metadata::View;
use trow_raft::{MemberState, NodeId, StateError, placement};

use super::document::HealthDocument;
use super::report::MemberReport;
use super::{ASK, Admin, AdminError, CONFIRM, SPREAD, audit};

impl Admin {
    pub(super) async fn health(&self, query: &str) -> Result<HealthDocument, AdminError> {
        let condition = match query {
            "for=healthy" => "healthy",
            "for=settled" => "settled",
            other => {
                return Err(AdminError::BadRequest(format!(
                    "expected for=healthy or for=settled, not {other:?}"
                )));
            }
        };
        let view = self.metadata.read(CONFIRM).await?;
        let index = view.applied()?;
        // Members that are a moment behind are not unhealthy: give them that moment.
        self.metadata.wait_applied_everywhere(index, SPREAD).await;
        let answers = (self.survey)(ASK).await;
        // What came in between counts too: nothing may be planned or missing in the latest state.
        let problem = match unhealthy(&view, index, &answers)? {
            Some(why) => Some(why),
            None if condition == "settled" => unsettled(&view, &answers)?,
            None => None,
        };
        Ok(HealthDocument {
            condition: condition.to_owned(),
            met: problem.is_none(),
            why: problem.unwrap_or_default(),
        })
    }
}

fn unhealthy(view: &View, index: u64, answers: &[MemberReport]) -> Result<Option<String>, StateError> {
    if view.cluster()?.is_none() {
        return Ok(Some("the cluster is not born yet".to_owned()));
    }
    for member in view.members()? {
        let name = &member.name;
        let report =
            answers.iter().find(|answer| answer.node == member.id).and_then(|answer| answer.report.as_ref());
        let why = match (member.state, report) {
            (MemberState::Joining, _) => format!("{name} is joining"),
            (_, None) => format!("{name} does not answer"),
            (MemberState::Retired, _) => format!("{name} is coming back"),
            (_, Some(report)) if report.audit.is_none() => format!("{name} does not say what it holds"),
            (_, Some(report)) if report.applied < index => {
                format!("{name} is behind: at {} of {index}", report.applied)
            }
            _ => continue,
        };
        return Ok(Some(why));
    }
    Ok(None)
}

fn unsettled(view: &View, answers: &[MemberReport]) -> Result<Option<String>, StateError> {
    let (members, partitions) = (view.members()?, view.partitions()?);
    let live: BTreeSet<NodeId> =
        answers.iter().filter(|answer| answer.report.is_some()).map(|answer| answer.node).collect();
    let planned = placement::plan(&members, &partitions, view.rf()?, &live).len();
    if planned > 0 {
        return Ok(Some(counted(
            planned as u64,
            "partition is about to move",
            "partitions are about to move",
        )));
    }
    if members.iter().any(|member| member.state == MemberState::Draining) {
        return Ok(Some("a member is leaving".to_owned()));
    }
    let moving = partitions.iter().filter(|partition| !audit::is_settled(partition)).count();
    if moving > 0 {
        return Ok(Some(counted(moving as u64, "partition is moving", "partitions are moving")));
    }
    let away = view.away_count()?;
    if away > 0 {
        return Ok(Some(counted(away, "blob is away from its owners", "blobs are away from their owners")));
    }
    let missing: u64 = answers.iter().map(MemberReport::missing).sum();
    if missing > 0 {
        return Ok(Some(counted(missing, "copy is missing", "copies are missing")));
    }
    let strays: u64 = answers.iter().map(MemberReport::strays).sum();
    if strays > 0 {
        return Ok(Some(counted(
            strays,
            "copy is where it does not belong",
            "copies are where they do not belong",
        )));
    }
    Ok(None)
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
