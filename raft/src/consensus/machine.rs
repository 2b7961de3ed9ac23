//! The state machine: committed entries into the [`State`], in batches.
//!
//! Always holds: apply and installation exclude each other, and so do checkpoint and installation;
//! entries are applied while a checkpoint is written; the state becomes durable only up to what the
//! log has flushed, so that a crash never leaves a state ahead of its log (followers apply entries
//! before their own flush). An entry that does not decode, or a state that does not write, ends the
//! process. Never does: fsync per entry.

use std::io;
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use tokio::sync::{Mutex, watch};

use super::apply_cost::ApplyCost;
use super::background;
use super::disk::fatal;
use super::meter::Meter;
use super::reserve::Reserve;
use super::snapshot::{FilesError, SnapshotData, StateFiles};
use super::too_old::too_old;
use super::types::{Encoded, Entry, LogId, SnapshotMeta, StoredMembership, TypeConfig};
use super::wire;
use crate::changes::Changes;
use crate::codec;
use crate::id::NodeId;
use crate::planted::{Planted, Variant};
use crate::state::{ApplyEntry, Import, ImportError, State, View};

/// A batch is at most this many entries, or about [`BATCH_BYTES`].
const BATCH: usize = 512;
const BATCH_BYTES: usize = 4 << 20;
/// With so much in memory that no checkpoint has begun to write, the next batch waits for one, in
/// bytes.
const PENDING_MAX: usize = 32 << 20;

type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotData>;
type Responders = Vec<Option<ApplyResponder<TypeConfig>>>;

/// The state machine of one node. Clones share it.
#[derive(Clone)]
pub(crate) struct Machine(Arc<Inner>);

struct Inner {
    files: StateFiles,
    state: RwLock<Arc<State>>,
    planted: Planted,
    /// Held by whoever changes the state.
    turn: Mutex<()>,
    /// Held by whoever makes it durable or replaces it; taken before the turn.
    saving: Arc<Mutex<()>>,
    applied: watch::Sender<u64>,
    installed: watch::Sender<u64>,
    changes: Arc<Changes>,
    /// One past the index that the log has flushed.
    flushed: watch::Receiver<u64>,
    cost: ApplyCost,
    meter: Meter,
}

impl Machine {
    /// Whether a state was ever made in `dir`.
    pub(crate) fn exists(dir: &Path) -> bool {
        StateFiles::exist(dir)
    }

    /// Whether the state holds any entry.
    pub(crate) fn applied_any(&self) -> bool {
        match self.view().log_id() {
            Ok(log_id) => log_id.is_some(),
            Err(error) => fatal("read of the state", &error),
        }
    }

    /// The latest start of `node` whose proposals were applied.
    pub(crate) fn boot_of(&self, node: NodeId) -> Option<u64> {
        match self.view().boot_of(node) {
            Ok(boot) => boot,
            Err(error) => fatal("read of the state", &error),
        }
    }

    /// Opens the state in `dir`. `flushed` is one past the highest durable log index.
    pub(crate) fn open(
        dir: &Path,
        flushed: watch::Receiver<u64>,
        planted: Planted,
        reserve: Option<Arc<Reserve>>,
    ) -> Result<Machine, FilesError> {
        let (files, state) = StateFiles::open(dir, planted, reserve)?;
        let applied = watch::Sender::new(state.view()?.applied()?);
        Ok(Machine(Arc::new(Inner {
            files,
            state: RwLock::new(Arc::new(state)),
            planted,
            turn: Mutex::new(()),
            saving: Arc::default(),
            applied,
            installed: watch::Sender::new(0),
            changes: Arc::default(),
            flushed,
            cost: ApplyCost::default(),
            meter: Meter::default(),
        })))
    }

    /// The rows as they are now.
    pub(crate) fn view(&self) -> View {
        match self.state().view() {
            Ok(view) => view,
            Err(error) => fatal("read of the state", &error),
        }
    }

    /// Gives the rows as they are when it is asked, as long as anybody else has the machine.
    pub(super) fn rows(&self) -> impl Fn() -> Option<View> + Send + use<> {
        let inner = Arc::downgrade(&self.0);
        move || inner.upgrade().map(|inner| Machine(inner).view())
    }

    /// The index applied; changes with each batch.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.0.applied.subscribe()
    }

    /// How many snapshots were installed; after each, everything derived from rows is void.
    pub(crate) fn installed(&self) -> watch::Receiver<u64> {
        self.0.installed.subscribe()
    }

    /// How many of them it was so far.
    pub(crate) fn installs(&self) -> u64 {
        *self.0.installed.borrow()
    }

    /// What applied entries touched.
    pub(crate) fn changes(&self) -> &Arc<Changes> {
        &self.0.changes
    }

    /// Bytes of memory that hold what was applied since the last checkpoint, about.
    pub(crate) fn unsaved(&self) -> usize {
        self.state().pending()
    }

    /// Entries applied since the start of the process, and the time that it took.
    pub(crate) fn apply_cost(&self) -> (u64, Duration) {
        self.0.cost.total()
    }

    /// Where this node counts.
    pub(crate) fn meter(&self) -> &Meter {
        &self.0.meter
    }

    /// A path for a file under construction.
    pub(crate) fn scratch(&self, kind: &str) -> std::path::PathBuf {
        self.0.files.scratch(kind)
    }

    /// Whether `bytes` more on the disk of the state leave what the log may need.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.0.files.has_room(bytes)
    }

    /// Whether a received file is a state of this cluster that stands where `claimed` says; it is
    /// closed again.
    ///
    /// # Errors
    /// A level above this build's as the state's own error; everything else is the sender's doing.
    pub(crate) fn vet(&self, path: &Path, claimed: &SnapshotMeta) -> Result<(), ImportError> {
        let forged = |why: String| ImportError::Forged(why);
        let state = self.0.files.open_at(path, self.0.planted).map_err(|error| match error.is_too_old() {
            true => ImportError::State(error),
            false => forged(error.to_string()),
        })?;
        let view = state.view().map_err(|error| forged(error.to_string()))?;
        let found = position(&view).map_err(|error| forged(error.to_string()))?;
        if found != (claimed.last_log_id, claimed.last_membership.clone()) {
            return Err(forged("the snapshot does not stand where its header says".to_owned()));
        }
        let (theirs, ours) = (view.cluster(), self.view().cluster());
        let theirs = theirs.map_err(|error| forged(error.to_string()))?;
        let ours = ours.map_err(ImportError::State)?;
        if ours.is_some() && theirs != ours {
            return Err(forged("the snapshot is another cluster's".to_owned()));
        }
        Ok(())
    }

    /// Makes everything that is applied now durable, once the log is durable up to it, and returns
    /// it; nothing when the log was closed before. It goes to its end whether the asker waits or not.
    ///
    /// First it is settled what it has, and then the log is waited for: on a disk that is slower than
    /// the others' there are always entries that are applied and not flushed, and whoever waited for
    /// a moment without any might wait for ever, with all that is applied in memory.
    pub(crate) async fn checkpoint(&self) -> Option<View> {
        let saving = self.0.saving.clone().lock_owned().await;
        let turn = self.0.turn.lock().await;
        let state = self.state();
        let last = match state.view().and_then(|view| Ok((view.log_id()?, view.applied()?))) {
            Ok((log_id, applied)) => log_id.map(|_| applied),
            Err(error) => fatal("read of the state", &error),
        };
        let has_rows = state.freeze();
        drop(turn);
        let machine = self.clone();
        let write = tokio::spawn(async move {
            let _saving = saving;
            if has_rows && !machine.0.planted.is(Variant::C5CheckpointAhead) {
                let mut flushed = machine.0.flushed.clone();
                flushed.wait_for(|flushed| last.is_none_or(|last| *flushed > last)).await.ok()?;
            }
            let began = Instant::now();
            let saved = background::run("checkpoint", move || state.save()).await;
            machine.0.meter.checkpoint(began.elapsed());
            match saved {
                Ok(Ok(saved)) => Some(saved),
                Ok(Err(error)) => fatal("checkpoint of the state", &error),
                Err(error) => fatal("checkpoint of the state", &error),
            }
        });
        match write.await {
            Ok(saved) => saved,
            Err(error) => fatal("checkpoint of the state", &error),
        }
    }

    fn state(&self) -> Arc<State> {
        self.0.state.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    async fn apply_batch(&self, entries: Vec<Entry>, responders: Responders) {
        while self.unsaved() > PENDING_MAX && self.checkpoint().await.is_some() {}
        let last = entries.last().map_or(0, RaftEntry::index);
        let turn = self.0.turn.lock().await;
        let machine = self.clone();
        let applied = tokio::task::spawn_blocking(move || {
            let begin = Instant::now();
            let entries: Vec<ApplyEntry> = entries.iter().map(to_apply).collect();
            let envelopes = entries.iter().filter_map(|entry| entry.envelope.as_ref());
            let commands = envelopes.map(|envelope| &envelope.command);
            let applied = machine.0.changes.during(commands, || machine.state().apply(&entries));
            let applied = match applied {
                Ok(applied) => applied,
                Err(error) if error.is_too_old() => too_old(&error),
                Err(error) => fatal("write of the state", &error),
            };
            machine.0.cost.add(entries.len(), begin.elapsed());
            applied.iter().map(|applied| Encoded(codec::encode_applied(applied))).collect::<Vec<_>>()
        });
        let outcomes = match applied.await {
            Ok(outcomes) => outcomes,
            Err(error) => fatal("apply", &error),
        };
        drop(turn);
        self.0.applied.send_replace(last);
        for (responder, outcome) in responders.into_iter().zip(outcomes) {
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
    }

    /// The position of `view`, as consensus names it.
    fn meta(view: &View) -> io::Result<SnapshotMeta> {
        let (last_log_id, last_membership) = position(view)?;
        Ok(SnapshotMeta { last_log_id, last_membership })
    }
}

/// Which entry and membership `view` stands at.
fn position(view: &View) -> io::Result<(Option<LogId>, StoredMembership)> {
    let log_id = view.log_id().map_err(io::Error::other)?;
    let membership = view.membership().map_err(io::Error::other)?;
    let log_id = log_id.map(|bytes| wire::decode_log_id(&bytes)).transpose()?;
    let applied = view.applied().map_err(io::Error::other)?;
    if applied != log_id.map_or(0, |id: LogId| id.index) {
        return Err(io::Error::other(format!("the state has applied {applied} and names {log_id:?}")));
    }
    let membership = membership.map(|bytes| wire::decode_stored_membership(&bytes)).transpose()?;
    Ok((log_id, membership.unwrap_or_default()))
}

fn to_apply(entry: &Entry) -> ApplyEntry {
    let envelope =
        entry.payload.envelope.as_ref().map(|encoded| match codec::decode_envelope(encoded.0.clone()) {
            Ok(envelope) => envelope,
            Err(error) if error.is_newer() => too_old(&error),
            Err(error) => fatal("decoding of a committed entry", &error),
        });
    let membership = entry.payload.membership.clone().map(|membership| {
        wire::encode_stored_membership(&StoredMembership::new(Some(entry.log_id), membership))
    });
    ApplyEntry { index: entry.index(), log_id: wire::encode_log_id(&entry.log_id), envelope, membership }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Machine;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        position(&self.view())
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let (mut batch, mut responders, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(next) = entries.next().await {
            let (entry, responder): EntryResponder<TypeConfig> = next?;
            bytes += entry.payload.envelope.as_ref().map_or(0, |envelope| envelope.0.len());
            batch.push(entry);
            responders.push(responder);
            if batch.len() >= BATCH || bytes >= BATCH_BYTES {
                self.apply_batch(std::mem::take(&mut batch), std::mem::take(&mut responders)).await;
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            self.apply_batch(batch, responders).await;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Machine {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let _saving = self.0.saving.lock().await;
        let turn = self.0.turn.lock().await;
        let machine = self.clone();
        let expected = meta.last_log_id;
        let install = move || machine.0.changes.during_everything(|| machine.install(snapshot, expected));
        let installed = tokio::task::spawn_blocking(install).await;
        installed.map_err(io::Error::other)??;
        drop(turn);
        self.0.installed.send_modify(|count| *count += 1);
        self.0.applied.send_replace(meta.last_log_id.map_or(0, |id| id.index));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let view = self.view();
        let meta = Machine::meta(&view)?;
        Ok(meta.last_log_id.is_some().then_some(Snapshot { meta, snapshot: SnapshotData::Rows(view) }))
    }
}

impl Machine {
    fn install(&self, snapshot: SnapshotData, expected: Option<LogId>) -> io::Result<()> {
        let path = match snapshot {
            SnapshotData::File(path) => path,
            SnapshotData::Rows(view) => {
                let path = self.scratch("export");
                Import::copy(&view, &path).map_err(io::Error::other)?;
                path
            }
        };
        let state = self.0.files.install(&path, self.0.planted, |state| {
            let (found, _) = position(&state.view().map_err(io::Error::other)?)?;
            match found == expected {
                true => Ok(()),
                false => Err(io::Error::other("the snapshot does not stand where its header says")),
            }
        })?;
        self.state().retire();
        *self.0.state.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(state);
        Ok(())
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    type SnapshotData = SnapshotData;

    /// Nothing is built: the state itself, once durable, is the snapshot.
    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let closed = || io::Error::other("the log was closed");
        let view = self.checkpoint().await.ok_or_else(closed)?;
        let meta = Machine::meta(&view)?;
        Ok(Snapshot { meta, snapshot: SnapshotData::Rows(view) })
    }
}
