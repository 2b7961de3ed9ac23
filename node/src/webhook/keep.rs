//! Keeps this node's certificate for the webhook: finds or makes the cluster's authority, has a leaf of
//! it, and renews both in time.
//!
//! Always holds: of nodes that make an authority at once all end with the same one; what cannot be
//! opened is left as it is, and said. Never does: listen, or hand out a private key.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use trow_raft::command::SYSTEM;
use trow_raft::metadata::ProposeError;
use trow_raft::{Command, Outcome, Refusal, StateError, View};

use super::authority::{Authorities, AuthorityError};
use super::leaf::{Leaf, LeafError, Names};
use crate::cluster_dir::ClusterDir;
use crate::replicated::Agreement;
use crate::sealed::{SealError, Sealer};

/// The name under which the authorities are in the state.
pub(super) const NAME: &str = "webhook-ca";
/// How often the state is looked at, before there is a leaf and after.
const SOON: std::time::Duration = std::time::Duration::from_millis(100);
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);
/// So many looks in a row may fail for want of a leader before that is said.
const PATIENCE: u32 = 3;
/// How often it is said that callers need a new bundle.
const REMIND: time::Duration = time::Duration::DAY;

/// There is no authority, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// No cluster, and so nobody to agree with.
    #[error("this node is not a member of a cluster yet")]
    Unborn,
    /// This node's state.
    #[error("the state cannot be read")]
    State(#[from] StateError),
    /// What is in the state.
    #[error("the webhook's certificate authority cannot be used by this node: {0}")]
    Sealed(#[from] SealError),
    /// What is in it.
    #[error("the webhook's certificate authority cannot be used: {0}")]
    Authority(#[from] AuthorityError),
    /// The leaf.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// Nobody to agree with now.
    #[error("the webhook's certificate authority cannot be made: {0}")]
    Propose(#[from] ProposeError),
    /// The state says no.
    #[error("the webhook's certificate authority cannot be made: {0}")]
    Refused(Refusal),
}

impl KeepError {
    /// Whether it is likely to pass by itself.
    fn may_pass(&self) -> bool {
        use ProposeError::{Busy, NoLeader, Unknown};
        matches!(self, KeepError::Propose(NoLeader | Busy | Unknown(_)))
    }
}

/// The authorities as they are agreed.
pub(super) struct Agreed {
    pub(super) authorities: Authorities,
    /// Which entry put them there; 0 for none.
    index: u64,
}

/// Finds the authorities in the state, and puts others there.
#[derive(Clone)]
pub(super) struct Keyring {
    pub(super) agreement: Agreement,
    pub(super) cluster: Arc<ClusterDir>,
}

impl Keyring {
    fn sealer(&self, view: &View) -> Result<Sealer, KeepError> {
        let id = view.cluster()?.ok_or(KeepError::Unborn)?;
        Ok(Sealer::new(&self.cluster, id, NAME))
    }

    /// What `view` has of them; none is an empty list.
    pub(super) fn read(&self, view: &View) -> Result<Agreed, KeepError> {
        let sealer = self.sealer(view)?;
        let Some(row) = view.sealed(NAME)? else {
            return Ok(Agreed { authorities: Authorities::default(), index: 0 });
        };
        let authorities = Authorities::decode(&sealer.open(&row.ciphertext)?)?;
        Ok(Agreed { authorities, index: row.index })
    }

    /// Puts a new authority in the place of all that there are, whether they can be opened or not: callers
    /// that trust those trust nothing any more. Which entry did, unless another node was faster.
    ///
    /// # Errors
    /// It cannot be agreed on.
    pub(super) async fn replace(&self, actor: &str, now: OffsetDateTime) -> Result<Option<u64>, KeepError> {
        let base = (self.agreement.view)()?.sealed(NAME)?.map_or(0, |row| row.index);
        self.put(actor, &Authorities::default().with_another(now)?, base).await
    }

    /// Puts `authorities` in the place of what the entry at `base` put there; which entry did so, unless
    /// another node put something there meanwhile.
    async fn put(&self, actor: &str, authorities: &Authorities, base: u64) -> Result<Option<u64>, KeepError> {
        // The view keeps memory, so it does not wait for an answer.
        let ciphertext = self.sealer(&(self.agreement.view)()?)?.seal(&authorities.encode())?;
        let command = Command::PutSealed { name: NAME.to_owned(), base, ciphertext: ciphertext.into() };
        let applied = (self.agreement.propose)(actor, command).await?;
        match applied.outcome {
            Outcome::Done => Ok(Some(applied.index)),
            Outcome::Refused(Refusal::RevisionDiffers { .. }) => Ok(None),
            Outcome::Refused(refusal) => Err(KeepError::Refused(refusal)),
        }
    }
}

/// What this node presents, for whoever serves it.
#[derive(Clone, Debug, Default)]
pub struct Presented(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    leaf: ArcSwapOption<Leaf>,
    /// When the authority that signed the leaf ends.
    authority_ends: AtomicI64,
    looked: AtomicBool,
}

impl Presented {
    /// Whether there is a leaf, or it is known that there is none now.
    pub fn has_looked(&self) -> bool {
        self.0.looked.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn leaf(&self) -> Option<Arc<CertifiedKey>> {
        self.0.leaf.load().as_ref().map(|leaf| Arc::clone(&leaf.certified))
    }

    /// When the leaf and its authority end, in seconds since 1970.
    pub fn ends(&self) -> Option<(i64, i64)> {
        let leaf = self.0.leaf.load();
        let leaf = leaf.as_ref()?.to.unix_timestamp();
        Some((leaf, self.0.authority_ends.load(Ordering::Relaxed)))
    }
}

impl ResolvesServerCert for Presented {
    /// Without a leaf the handshake fails.
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.leaf.load().as_ref().map(|leaf| Arc::clone(&leaf.certified))
    }
}

/// The names of this node's leaf, beside those of the members.
#[derive(Clone, Debug)]
pub struct Known {
    /// `<service>.<namespace>`.
    pub service: String,
    /// Further names.
    pub hostnames: Vec<String>,
    /// This node's name.
    pub me: String,
    /// Where the listener is.
    pub listen: IpAddr,
}

impl Known {
    fn names(&self, view: &View) -> Result<Names, StateError> {
        let members = view.members()?.into_iter().map(|member| member.name);
        let loopback = ["localhost".to_owned(), "127.0.0.1".to_owned(), self.listen.to_string()];
        let loopback = loopback.into_iter().filter(|_| self.listen.is_loopback());
        let service = [format!("{}.svc", self.service), self.me.clone()];
        Ok(Names::of(
            service.into_iter().chain(members).chain(self.hostnames.iter().cloned()).chain(loopback),
        ))
    }
}

/// Keeps what is [`Presented`].
pub(super) struct Keeper {
    pub(super) keyring: Keyring,
    pub(super) known: Known,
    pub(super) presented: Presented,
    /// What was opened last: opening it again at each look is for nothing.
    pub(super) held: Option<Agreed>,
}

impl Keeper {
    /// Looks once, and does what is due at `now`.
    pub(super) async fn look(&mut self, now: OffsetDateTime) -> Result<(), KeepError> {
        let agreed = self.agreed()?;
        let made = if agreed.authorities.is_due(now) { self.make(now).await } else { Ok(()) };
        self.present(now)?;
        made
    }

    /// What is agreed as this node knows it, opened.
    fn agreed(&mut self) -> Result<&Agreed, KeepError> {
        let view = (self.keyring.agreement.view)()?;
        let index = view.sealed(NAME)?.map_or(0, |row| row.index);
        let held = self.held.take().filter(|held| held.index == index && index > 0);
        let held = held.map_or_else(|| self.keyring.read(&view), Ok)?;
        Ok(self.held.insert(held))
    }

    /// Makes another authority, unless another node is faster; afterwards what is agreed is held.
    async fn make(&mut self, now: OffsetDateTime) -> Result<(), KeepError> {
        let agreed = self.keyring.read(&(self.keyring.agreement.view)()?)?;
        let (base, another) = (agreed.index, agreed.authorities.with_another(now)?);
        if self.keyring.put(SYSTEM, &another, base).await?.is_some() {
            tracing::info!(
                "made a certificate authority for the webhook: callers trust it by the output of `trow webhook ca`"
            );
        }
        self.agreed().map(drop)
    }

    /// Has a leaf of the authority that signs now, if there is one.
    fn present(&mut self, now: OffsetDateTime) -> Result<(), KeepError> {
        let names = self.known.names(&(self.keyring.agreement.view)()?)?;
        let Some(authority) = self.held.as_ref().and_then(|held| held.authorities.signing(now)) else {
            return Ok(());
        };
        let inner = &self.presented.0;
        if inner.leaf.load().as_ref().is_none_or(|leaf| leaf.is_due(&names, authority, now)) {
            let leaf = Leaf::mint(&names, authority, now)?;
            tracing::info!(names = ?leaf.names(), ends = %leaf.to, "made this node's certificate for the webhook");
            inner.authority_ends.store(authority.to.unix_timestamp(), Ordering::Relaxed);
            inner.leaf.store(Some(Arc::new(leaf)));
        }
        Ok(())
    }

    /// When the authority that signs hands over to a successor, while there are both.
    pub(super) fn hands_over(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        self.held.as_ref()?.authorities.hands_over(now)
    }

    /// Looks again and again until `closing`.
    pub(super) async fn run(mut self, closing: CancellationToken) {
        let (mut trouble, mut reminded) = (Trouble::default(), None::<OffsetDateTime>);
        loop {
            let now = OffsetDateTime::now_utc();
            let outcome = self.look(now).await;
            if let Some(at) = self.hands_over(now)
                && reminded.is_none_or(|last| now - last >= REMIND || now < last)
            {
                reminded = Some(now);
                tracing::warn!(%at, "another certificate authority is about to sign for the webhook: put the output of `trow webhook ca` into caBundle before, unless that was done");
            }
            let served = self.presented.0.leaf.load().is_some();
            trouble.note(outcome, served);
            if served || trouble.lasts() {
                self.presented.0.looked.store(true, Ordering::Relaxed);
            }
            tokio::select! {
                () = closing.cancelled() => return,
                () = tokio::time::sleep(if served || trouble.lasts() { LOOK } else { SOON }) => {}
            }
        }
    }
}

/// What went wrong at the last looks, one after another; said once.
#[derive(Default)]
struct Trouble {
    looks: u32,
    lasting: bool,
    said: Option<String>,
}

impl Trouble {
    fn note(&mut self, outcome: Result<(), KeepError>, served: bool) {
        let error = match outcome {
            Ok(()) => {
                *self = Trouble::default();
                return;
            }
            // It is being born or joins, which others say.
            Err(KeepError::Unborn) => return,
            Err(error) => error,
        };
        self.looks += 1;
        self.lasting = self.looks >= PATIENCE || !error.may_pass();
        let text = error.to_string();
        if self.lasting && self.said.as_ref() != Some(&text) {
            if served {
                tracing::warn!(
                    cause = text,
                    "the webhook's certificate is as it was; its renewal is tried again"
                );
            } else {
                tracing::error!(
                    cause = text,
                    "the webhook has no certificate and answers nobody; it is tried again"
                );
            }
            self.said = Some(text);
        }
    }

    fn lasts(&self) -> bool {
        self.lasting
    }
}
