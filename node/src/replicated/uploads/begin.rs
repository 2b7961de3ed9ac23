//! A session begins: a file here, and mirrors that are ready to follow.

use trow_raft::{Algorithm, RepoName};

use super::super::fault::store_fault;
use super::super::sessions::{Content, Session, SessionStatus};
use super::super::token::UploadId;
use super::Uploads;
use crate::peer_blobs::wire::{Claimed, Fault};

impl Uploads {
    /// Begins a session with this node as its home.
    ///
    /// # Errors
    /// The limits, the disk, or too few members that could be mirrors.
    pub async fn begin(&self, repo: &RepoName, hint: Option<Algorithm>) -> Result<Claimed, Fault> {
        let reservation = self.inner.sessions.reserve()?;
        let staged = self.inner.store.stage(hint).await.map_err(store_fault)?;
        let content = Content::Open { staged: Box::new(staged), reservation };
        let status = SessionStatus::new(1, self.inner.me);
        let who = (UploadId::random(), repo.clone(), hint);
        let session = Session::new(who, status, content, self.expiry());
        let mut state = session.lock().await?;
        if let Err(fault) = self.catch_up(&session, &mut state).await {
            // Those that did become its mirrors need not wait for its expiry.
            self.forget(&session, &mut state);
            return Err(fault);
        }
        drop(state);
        self.inner.sessions.insert(session.clone());
        Ok(self.claimed(&session))
    }
}
