//! `trow blob`: where blobs are.

use clap::Subcommand;
use reqwest::Method;

use super::{Failure, Output, Server, block_on, human_bytes, print_json, print_line};
use crate::admin::document::BlobDocument;

/// `trow blob`.
#[derive(Debug, Subcommand)]
pub enum Blob {
    /// Say which nodes hold a blob; the nodes are asked, not assumed
    Locate {
        /// As sha256:<64 hex digits>
        digest: String,
        /// A table for people, or one line of JSON for programs
        #[arg(long, default_value = "table")]
        output: Output,
        #[command(flatten)]
        server: Server,
    },
}

impl Blob {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Blob::Locate { digest, output, server } = self;
        let digest: trow_raft::Digest =
            digest.parse().map_err(|error| Failure::Usage(format!("{digest:?} is no digest: {error}")))?;
        let client = server.client()?;
        let found: BlobDocument = block_on(async {
            client.ask(Method::GET, &format!("blobs/{digest}")).await.map_err(Failure::from)
        })?;
        match output {
            Output::Json => print_json(&found),
            Output::Table => print_line(&shown(&found)),
        }
    }
}

fn shown(blob: &BlobDocument) -> String {
    let names = |names: &[Option<String>]| {
        let shown: Vec<&str> = names.iter().map(|name| name.as_deref().unwrap_or("(unknown)")).collect();
        if shown.is_empty() { "-".to_owned() } else { shown.join(", ") }
    };
    let holders: Vec<Option<String>> = blob.holders.iter().map(|holder| holder.node.clone()).collect();
    let repos = if blob.repos.is_empty() { "-".to_owned() } else { blob.repos.join(", ") };
    // Only when there is something to say.
    let silent = match blob.silent.as_slice() {
        [] => String::new(),
        silent => format!("\nsilent   {} (did not answer, may hold it too)", names(silent)),
    };
    format!(
        "digest   {}\nsize     {} ({} bytes)\ndurable  {}\nrepos    {repos}\nowners   {}\nsources  {}\naway     {}\nholders  {}{silent}",
        blob.digest,
        human_bytes(blob.size),
        blob.size,
        blob.durable,
        names(&blob.owners),
        names(&blob.sources),
        names(&blob.away),
        names(&holders),
    )
}
