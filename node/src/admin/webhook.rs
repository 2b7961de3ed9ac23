//! `webhook/ca`: what callers of the webhook are to trust.

use axum::response::Response;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::document::{WebhookCaDocument, WebhookCertificate};
use super::{ACTOR, Admin, AdminError, CONFIRM, SPREAD, json};
use crate::webhook::{Bundle, KeepError, TrustError};

impl Admin {
    /// The bundle as it is agreed, or without a quorum as this node knows it.
    pub(super) async fn webhook_ca(&self) -> Result<Response, AdminError> {
        let view = match self.metadata.read(CONFIRM).await {
            Ok(view) => view,
            Err(_) => self.metadata.local(),
        };
        Ok(json(document(self.trust.bundle(&view)?)))
    }

    /// Another authority in the place of all that there are; the bundle with it.
    pub(super) async fn replace_webhook_ca(&self) -> Result<Response, AdminError> {
        let index = self.trust.replace(ACTOR).await?;
        self.metadata.wait_applied_everywhere(index, SPREAD).await;
        tracing::warn!(
            index,
            "the webhook's certificate authority was replaced: callers need the new caBundle"
        );
        let view = self.metadata.read(CONFIRM).await?;
        Ok(json(document(self.trust.bundle(&view)?)))
    }
}

fn document(bundle: Bundle) -> WebhookCaDocument {
    let shown = |at: i64| OffsetDateTime::from_unix_timestamp(at).ok()?.format(&Rfc3339).ok();
    let certificates = bundle.certificates.into_iter().map(|(subject, from, to)| WebhookCertificate {
        subject,
        not_before: shown(from),
        not_after: shown(to),
    });
    WebhookCaDocument {
        source: if bundle.files { "files" } else { "own" }.to_owned(),
        certificates: certificates.collect(),
        pem: bundle.pem,
    }
}

impl From<TrustError> for AdminError {
    fn from(error: TrustError) -> Self {
        match error {
            TrustError::NoWebhook => AdminError::NotFound(error.to_string()),
            TrustError::Own(KeepError::State(error)) => AdminError::State(error),
            TrustError::Own(KeepError::Propose(error)) => error.into(),
            TrustError::Own(KeepError::Unborn) => AdminError::Unavailable(error.to_string()),
            other => AdminError::Conflict(other.to_string()),
        }
    }
}
