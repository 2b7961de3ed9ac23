//! How a node comes to belong to a cluster: by being born with it, or by joining it.
//!
//! Owns the rounds of hellos until this node is a member, and the answer that binds it. Always
//! holds: what [`mod@decide`] says, in the order that it needs: bound on disk before anyone is told,
//! told by all before consensus starts. Never does: give up; a node that cannot be born safely
//! waits and says for what.

mod bound;
pub mod decide;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use trow_raft::command::LEVEL;
use trow_raft::{ClusterId, Member, MemberState, Metadata, NodeId, Planted, Refusal};

use crate::identity;
use crate::peer::{Card, Failure, HelloAnswer, Peers};
pub use bound::BoundError;
use bound::{Bound, Joined};
use decide::{Decision, Own, Set, Waiting, decide};

/// How often the peers are asked.
const ROUND: Duration = Duration::from_millis(200);
/// How often it is said what this node waits for.
const COMPLAINT: Duration = Duration::from_secs(10);

/// What a node is to belong to.
pub struct Birth {
    /// Where the bound answer is kept.
    pub data_dir: PathBuf,
    /// How many nodes a cluster is born of, this one included; `None` only joins.
    pub expect: Option<usize>,
    /// The replication factor of a newborn cluster.
    pub rf: u32,
    /// The wrong rule in force, in a test build.
    pub planted: Planted,
}

/// A node cannot come to belong to a cluster.
#[derive(Debug, thiserror::Error)]
pub enum BirthError {
    /// This node was removed: [`forget`] and start again.
    #[error("{by} says that this node was removed from its cluster")]
    Removed {
        /// Who says so.
        by: NodeId,
    },
    /// The cluster is at a feature level that this program does not support.
    #[error(
        "the cluster does not take this node in: it is at a higher feature level than {LEVEL}, the highest that \
         this version of Trow supports; start the version that its members run"
    )]
    TooOld,
    /// The answer that binds cannot be kept.
    #[error(transparent)]
    Bound(#[from] BoundError),
}

/// Returns once this node is a member of a cluster and knows its id; the state may still be on
/// its way. Waits without limit. The peer listener must be serving: the others need this node's
/// answers.
///
/// # Errors
/// See [`BirthError`].
pub async fn run(peers: &Peers, metadata: &Metadata, birth: Birth) -> Result<ClusterId, BirthError> {
    let bound = Bound::load(&birth.data_dir, peers.id())?;
    let mut unborn =
        Unborn { peers, metadata, birth, bound, proposal: None, complaint: Complaint::default() };
    unborn.recall();
    // Names the cluster and its first members once consensus has begun. That takes several
    // entries, so it goes on when the id is there already, and after a restart in the middle.
    let mut naming = JoinSet::new();
    loop {
        unborn.present();
        let known = metadata.local().cluster().ok().flatten();
        if let Some(cluster) = known {
            peers.set_cluster(cluster);
            if !unborn.is_bound() {
                return Ok(cluster);
            }
        }
        if metadata.has_log() && unborn.is_bound() && naming.is_empty() {
            let (metadata, rf, set) = (metadata.clone(), unborn.birth.rf, unborn.bound.set.clone());
            naming.spawn(async move { metadata.birth(rf, set).await });
        }
        let next = if known.is_some() { Next::Later } else { unborn.round().await? };
        match next {
            Next::Member(cluster) => return Ok(cluster),
            Next::AtOnce => {}
            Next::Later => tokio::select! {
                Some(Ok(cluster)) = naming.join_next() => {
                    tracing::info!(%cluster, "born with the cluster");
                    peers.set_cluster(cluster);
                    return Ok(cluster);
                }
                () = tokio::time::sleep(ROUND) => {}
            },
        }
    }
}

enum Next {
    Member(ClusterId),
    AtOnce,
    Later,
}

struct Unborn<'a> {
    peers: &'a Peers,
    metadata: &'a Metadata,
    birth: Birth,
    bound: Bound,
    proposal: Option<Set>,
    complaint: Complaint,
}

impl Unborn<'_> {
    /// Takes up what an earlier process of this node committed itself to.
    fn recall(&self) {
        self.peers.expect_members(&self.bound.set);
        if let Some(joined) = &self.bound.joined {
            self.peers.expect_members(&joined.members);
            self.peers.set_cluster(joined.cluster);
        }
    }

    fn present(&self) {
        self.peers.present(Card {
            expect: self.birth.expect,
            ever_member: self.metadata.has_log(),
            proposal: self.proposal.clone(),
            bound: self.bound.ids(),
        });
    }

    /// Whether this node is of the first set of a cluster.
    fn is_bound(&self) -> bool {
        !self.bound.set.is_empty()
    }

    async fn round(&mut self) -> Result<Next, BirthError> {
        let (answers, failures) = self.peers.hello_all().await;
        let own = Own {
            id: self.peers.id(),
            expect: self.birth.expect,
            ever_member: self.metadata.has_log(),
            bound: self.bound.ids(),
            planted: self.birth.planted,
        };
        let decision = decide(&own, &answers);
        tracing::debug!(?decision, "birth");
        match decision {
            Decision::Removed { by } => Err(BirthError::Removed { by }),
            Decision::Member { cluster, by } => self.taken_in(cluster, by, &answers),
            Decision::Join { cluster, through } => {
                // The leader speaks as soon as it has taken this node in, before the answer does.
                let members = answers.iter().filter(|answer| answer.cluster == Some(cluster));
                members.for_each(|answer| self.peers.expect_members(&answer.members));
                self.join(cluster, through, &answers, &failures).await
            }
            Decision::Bind(set) => {
                self.bound.set = cards(&set, self.peers.me(), &answers);
                self.bound.save(&self.birth.data_dir)?;
                self.peers.expect_members(&self.bound.set);
                tracing::info!(nodes = ?set, "agreed to be born together with these nodes");
                Ok(Next::AtOnce)
            }
            Decision::Initialize(set) => {
                if self.bound.set.is_empty() {
                    // Only a planted rule comes here unbound.
                    self.bound.set = cards(&set, self.peers.me(), &answers);
                    self.peers.expect_members(&self.bound.set);
                }
                // Another of the set may have been faster and reached this node's log already.
                if let Err(error) = self.metadata.initialize(set).await
                    && !self.metadata.has_log()
                {
                    self.complaint.say(&error.to_string(), &failures);
                    return Ok(Next::Later);
                }
                Ok(Next::AtOnce)
            }
            Decision::Wait { proposal, why } => {
                let changed = self.proposal != proposal;
                self.proposal = proposal;
                let text = match (&why, self.bound.set.len()) {
                    // It never was one: it is being born.
                    (Waiting::Consensus, 1) => {
                        "its first election, as the only node of a new cluster".to_owned()
                    }
                    (Waiting::Consensus, count @ 2..) => {
                        format!("an election among the {count} nodes that its cluster begins with")
                    }
                    _ => in_words(&why, &failures),
                };
                self.complaint.say(&text, &failures);
                Ok(if changed { Next::AtOnce } else { Next::Later })
            }
        }
    }

    async fn join(
        &mut self,
        cluster: ClusterId,
        through: NodeId,
        answers: &[HelloAnswer],
        failures: &[Failure],
    ) -> Result<Next, BirthError> {
        match self.peers.join_through(through).await {
            Ok(joined) if joined == cluster => {
                tracing::info!(%cluster, %through, "joined the cluster");
                self.taken_in(cluster, through, answers)
            }
            Ok(_) => Ok(Next::Later),
            Err(why) if why.contains(&Refusal::LevelUnsupported.to_string()) => Err(BirthError::TooOld),
            Err(why) => {
                if is_name_taken(&why) {
                    let name = &self.peers.me().name;
                    self.complaint.warn(&name_taken(name), failures);
                } else {
                    self.complaint.say(&format!("{through} does not take this node in: {why}"), failures);
                }
                Ok(Next::Later)
            }
        }
    }

    /// The cluster counts this node. One that joins notes it down until the state says so itself;
    /// one that was born with it has its set, and helps to finish the birth.
    fn taken_in(
        &mut self,
        cluster: ClusterId,
        by: NodeId,
        answers: &[HelloAnswer],
    ) -> Result<Next, BirthError> {
        let teller = answers.iter().find(|answer| answer.node.id == by);
        let members = teller.map(|answer| answer.members.clone()).unwrap_or_default();
        self.peers.expect_members(&members);
        self.peers.set_cluster(cluster);
        if self.is_bound() {
            return Ok(Next::Later);
        }
        self.bound.joined = Some(Joined { cluster, members });
        self.bound.save(&self.birth.data_dir)?;
        Ok(Next::Member(cluster))
    }
}

/// The set's nodes as they presented themselves, in the order of their ids: full members, since
/// a cluster is born of them.
fn cards(set: &Set, me: &Member, answers: &[HelloAnswer]) -> Vec<Member> {
    let nodes = answers.iter().map(|answer| &answer.node).chain([me]);
    let of_the_set = nodes.filter(|node| set.contains(&node.id));
    let mut found: Vec<Member> =
        of_the_set.map(|node| Member { state: MemberState::Active, ..node.clone() }).collect();
    found.sort_by_key(|node| node.id);
    found
}

/// What to tell whoever reads the log. A node that finds only strangers is not to found a cluster
/// of its own.
fn in_words(why: &Waiting, failures: &[Failure]) -> String {
    if *why == Waiting::NoCluster && failures.iter().any(|failure| failure.is_stranger) {
        return "nobody that answers has the cluster directory of this node; stop it, copy the directory of \
                the cluster that it is to join to where --cluster-dir says, and start it again"
            .to_owned();
    }
    why.to_string()
}

/// Whether this is why a member refused to take a node in. A refusal comes as text.
fn is_name_taken(why: &str) -> bool {
    why.contains(&Refusal::NameTaken { by: NodeId(0) }.to_string())
}

fn name_taken(name: &str) -> String {
    format!(
        "a running member of the cluster is called {name} already; start this node with another --name, or \
         stop that member if this node replaces it"
    )
}

/// Says what this node waits for: when it changes, and as a warning while it does not, or at once
/// when waiting alone will not help.
#[derive(Default)]
struct Complaint {
    last: Option<(String, Instant)>,
}

impl Complaint {
    fn say(&mut self, why: &str, failures: &[Failure]) {
        let hopeless = failures.iter().any(|failure| failure.is_stranger);
        self.log(why, failures, hopeless);
    }

    fn warn(&mut self, why: &str, failures: &[Failure]) {
        self.log(why, failures, true);
    }

    fn log(&mut self, why: &str, failures: &[Failure], at_once: bool) {
        let is_news = self.last.as_ref().is_none_or(|(text, _)| text != why);
        if !is_news && self.last.as_ref().is_some_and(|(_, at)| at.elapsed() < COMPLAINT) {
            return;
        }
        let unanswered: Vec<&str> = failures.iter().map(|failure| failure.why.as_str()).collect();
        match (is_news, at_once) {
            (true, false) => {
                tracing::info!(
                    waiting_for = why,
                    ?unanswered,
                    "not a member of a cluster yet; it goes on by itself when those it waits for are there"
                );
            }
            (true, true) => {
                tracing::warn!(
                    waiting_for = why,
                    ?unanswered,
                    "not a member of a cluster yet; it goes on by itself when those it waits for are there"
                );
            }
            (false, _) => {
                tracing::warn!(
                    waiting_for = why,
                    ?unanswered,
                    "still not a member of a cluster; start the nodes that do not answer, or correct --join"
                );
            }
        }
        self.last = Some((why.to_owned(), Instant::now()));
    }
}

/// Forgets who this node was: its key, its bound answer and everything in `consensus`, the
/// directory of log and state. Its blobs stay, as copies that the next node of this data
/// directory offers. The data directory must not be in use.
///
/// # Errors
/// Something cannot be removed durably.
pub fn forget(data_dir: &Path, consensus: &Path) -> io::Result<()> {
    // The key goes last: a crash before that leaves the same removed node, which comes here again.
    match fs::remove_dir_all(consensus) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other?,
    }
    Bound::remove(data_dir)?;
    identity::forget(data_dir).map_err(io::Error::other)
}
