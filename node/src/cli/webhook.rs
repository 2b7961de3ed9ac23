//! `trow webhook`: what the API server needs to trust the webhook.

use clap::Subcommand;
use reqwest::Method;

use super::{Failure, Output, Server, block_on, print, print_json};
use crate::admin::document::WebhookCaDocument;

/// `trow webhook`.
#[derive(Debug, Subcommand)]
pub enum Webhook {
    /// Print the certificates that belong into caBundle, as PEM
    Ca {
        /// Make another certificate authority first, in the place of all that there are: until callers have
        /// the new one they trust the webhook no more
        #[arg(long)]
        replace: bool,
        /// PEM, or one line of JSON for programs
        #[arg(long, default_value = "table")]
        output: Output,
        #[command(flatten)]
        server: Server,
    },
}

impl Webhook {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Webhook::Ca { replace, output, server } = self;
        let client = server.client()?;
        let method = if replace { Method::POST } else { Method::GET };
        let found: WebhookCaDocument =
            block_on(async { client.ask(method, "webhook/ca").await.map_err(Failure::from) })?;
        match output {
            Output::Json => print_json(&found),
            Output::Table => print(found.pem.as_bytes()),
        }
    }
}
