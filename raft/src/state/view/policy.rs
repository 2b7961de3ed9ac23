//! What a view shows of admission: the policy, verdicts on signatures, and sealed secrets.

use super::{View, unreadable};
use crate::digest::Digest;
use crate::state::StateError;
use crate::state::key::{self, Table, meta};
use crate::state::row::{PolicyRow, SealedRow, VerdictRow};
use crate::state::rows::Rows as _;

impl View {
    /// The current revision of the policy, if one was ever set. Costs less than the policy.
    pub fn policy_revision(&self) -> Result<Option<u64>, StateError> {
        let revision = self.rows.number(Table::Meta, meta::POLICY)?;
        Ok((revision > 0).then_some(revision))
    }

    /// The current policy, if one was ever set. One that was set and is not there is an error.
    pub fn policy(&self) -> Result<Option<PolicyRow>, StateError> {
        let Some(revision) = self.policy_revision()? else { return Ok(None) };
        let document = self.rows.get(Table::Policy, &key::index(revision))?;
        let document = document.ok_or_else(|| unreadable(Table::Policy))?.into();
        Ok(Some(PolicyRow { revision, document }))
    }

    /// The names of keys of the current policy that are known to have signed the manifest, ascending.
    pub fn verdict(&self, digest: &Digest) -> Result<Option<Vec<String>>, StateError> {
        let row: Option<VerdictRow> = self.rows.row(Table::Verdict, &key::digest(digest))?;
        Ok(row.map(|row| row.signed_by))
    }

    /// The secret of this name, encrypted.
    pub fn sealed(&self, name: &str) -> Result<Option<SealedRow>, StateError> {
        self.rows.row(Table::Sealed, name.as_bytes())
    }
}
