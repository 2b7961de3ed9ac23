//! `trow cache`: what is cached of other registries, which of it stays, and what goes.

use clap::{Args, Subcommand};
use reqwest::{Method, Url};
use trow_api::pull::{Host, Image};

use super::client::Client;
use super::{
    Failure, Output, Server, Table, block_on, counted, human_bytes, human_duration, print_json, print_line,
};
use crate::admin::document::cache::{CacheDocument, CachedDocument, PinDocument, PurgedDocument};

/// Characters of a digest that tell images apart well enough for people.
const DIGEST_SHOWN: usize = 19;

/// `trow cache`.
#[derive(Debug, Subcommand)]
pub enum Cache {
    /// List the images that are cached, which nodes have them, and the pins
    List {
        /// Only those of this registry
        #[arg(long, value_name = "HOST")]
        host: Option<Host>,
        #[command(flatten)]
        common: Common,
    },
    /// Keep an image whatever the disks need; it is not pulled by that
    Pin {
        /// As docker pull takes them: nginx, quay.io/org/app:1.2, registry.k8s.io/pause@sha256:…
        image: Image,
        #[command(flatten)]
        common: Common,
    },
    /// Let an image go again when it is not used
    Unpin {
        /// As it was pinned: by tag or by digest
        image: Image,
        #[command(flatten)]
        common: Common,
    },
    /// Forget images, so that the next pull asks the registry; what is pinned stays
    Purge {
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        common: Common,
    },
}

/// What every command takes.
#[derive(Debug, Args)]
pub struct Common {
    /// A table for people, or one line of JSON for programs
    #[arg(long, default_value = "table")]
    output: Output,
    #[command(flatten)]
    server: Server,
}

/// What goes; one of the three.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct What {
    /// One image, with all tags that lead to the same
    image: Option<Image>,
    /// All images of this registry
    #[arg(long, value_name = "HOST")]
    host: Option<Host>,
    /// All images of all registries
    #[arg(long)]
    all: bool,
}

impl Cache {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Cache::List { host, common } => list(host.as_ref(), &common),
            Cache::Pin { image, common } => pin(Method::PUT, &image, &common),
            Cache::Unpin { image, common } => pin(Method::DELETE, &image, &common),
            Cache::Purge { what, common } => purge(&what, &common),
        }
    }
}

/// `path` with a query of these.
fn with_query(path: &str, pairs: &[(&str, Option<String>)]) -> String {
    let pairs = pairs.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?)));
    // Any base will do: only the query is used.
    let url = Url::parse_with_params("http://query", pairs);
    match url.as_ref().ok().and_then(|url| url.query()) {
        Some(query) if !query.is_empty() => format!("{path}?{query}"),
        _ => path.to_owned(),
    }
}

fn list(host: Option<&Host>, common: &Common) -> Result<(), Failure> {
    let client = common.server.client()?;
    let all = block_on(async {
        let mut all = CacheDocument::default();
        loop {
            let host = host.map(ToString::to_string);
            let path = with_query("cache", &[("host", host), ("after", all.next.take())]);
            let page: CacheDocument = client.ask(Method::GET, &path).await?;
            all.images.extend(page.images);
            all.pins.extend(page.pins);
            all.next = page.next;
            if all.next.is_none() {
                return Ok(all);
            }
        }
    })?;
    match common.output {
        Output::Json => print_json(&all),
        Output::Table => print_line(&shown(&all)),
    }
}

fn pin(method: Method, image: &Image, common: &Common) -> Result<(), Failure> {
    let client = common.server.client()?;
    let path = with_query("cache/pins", &[("image", Some(image.to_string()))]);
    let done: PinDocument = block_on(async { client.ask(method, &path).await.map_err(Failure::from) })?;
    match common.output {
        Output::Json => print_json(&done),
        Output::Table if done.pinned => print_line(&format!("{} is pinned", done.image)),
        Output::Table => print_line(&format!("{} is no longer pinned", done.image)),
    }
}

fn purge(what: &What, common: &Common) -> Result<(), Failure> {
    let client = common.server.client()?;
    let done = block_on(purged(&client, what))?;
    match common.output {
        Output::Json => print_json(&done),
        Output::Table => {
            let left = match done.pinned {
                0 => String::new(),
                left => format!("; {} left, since pinned", counted(left, "manifest")),
            };
            print_line(&format!("{} forgotten{left}", counted(done.dropped, "manifest")))
        }
    }
}

/// Asks until it is done: a request does a bounded part.
async fn purged(client: &Client, what: &What) -> Result<PurgedDocument, Failure> {
    let mut all = PurgedDocument::default();
    loop {
        let path = with_query(
            "cache",
            &[
                ("image", what.image.as_ref().map(ToString::to_string)),
                ("host", what.host.as_ref().map(ToString::to_string)),
                ("all", what.all.then(|| "true".to_owned())),
                ("after", all.next.take()),
            ],
        );
        let part: PurgedDocument = client.ask(Method::DELETE, &path).await?;
        all.dropped += part.dropped;
        all.pinned += part.pinned;
        all.log_id = part.log_id.or(all.log_id);
        all.next = part.next;
        if all.next.is_none() {
            return Ok(all);
        }
    }
}

fn shown(all: &CacheDocument) -> String {
    let mut table = Table::new([
        "REPOSITORY",
        "TAG",
        "DIGEST",
        "SIZE",
        "CACHED",
        "NODES",
        "PINNED",
        "UNUSED",
        "RECORDED",
    ]);
    for image in &all.images {
        let size = |bytes| if image.blobs == 0 { "-".to_owned() } else { human_bytes(bytes) };
        table.row([
            image.repository.clone(),
            if image.tags.is_empty() { "-".to_owned() } else { image.tags.join(",") },
            image.digest.chars().take(DIGEST_SHOWN).collect(),
            size(image.size),
            size(image.cached_bytes),
            nodes(image),
            if image.pinned { "yes" } else { "no" }.to_owned(),
            human_duration(image.unused_ms),
            image.pushed_at.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    let mut text = match all.images.is_empty() {
        true => "nothing is cached".to_owned(),
        false => table.to_string(),
    };
    if !all.pins.is_empty() {
        text.push_str(&format!("\n\npins  {}", all.pins.join("\n      ")));
    }
    text
}

/// Those that have all of it by their names, others with what they have.
fn nodes(image: &CachedDocument) -> String {
    let nodes = image.nodes.iter().map(|node| {
        let name = node.node.as_deref().unwrap_or("(unknown)");
        if node.bytes == image.size {
            name.to_owned()
        } else {
            format!("{name} ({})", human_bytes(node.bytes))
        }
    });
    let nodes: Vec<String> = nodes.collect();
    if nodes.is_empty() { "-".to_owned() } else { nodes.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::document::cache::HeldDocument;

    #[test]
    fn a_list_shows_who_has_how_much_and_what_is_pinned() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let held = |node: &str, bytes| HeldDocument { node: Some(node.to_owned()), bytes };
        let layers = CachedDocument {
            repository: "docker.io/library/nginx".to_owned(),
            tags: vec!["1".to_owned(), "1.27".to_owned()],
            digest: digest.clone(),
            media_type: "m".to_owned(),
            blobs: 2,
            size: 2048,
            cached_bytes: 2048,
            nodes: vec![held("n1", 2048), held("n3", 512)],
            pinned: true,
            pushed_at: Some("2026-01-02T03:04:05Z".to_owned()),
            unused_ms: 61_000,
        };
        let index = CachedDocument {
            tags: vec![],
            blobs: 0,
            size: 0,
            cached_bytes: 0,
            nodes: vec![],
            pinned: false,
            pushed_at: None,
            ..layers.clone()
        };
        let all = CacheDocument {
            images: vec![layers, index],
            pins: vec!["docker.io/library/nginx:1".to_owned(), "quay.io/a:2".to_owned()],
            next: None,
        };
        assert_eq!(
            shown(&all),
            "\
REPOSITORY               TAG     DIGEST               SIZE     CACHED   NODES           PINNED  UNUSED     RECORDED
docker.io/library/nginx  1,1.27  sha256:abababababab  2.0 KiB  2.0 KiB  n1, n3 (512 B)  yes     1 min 1 s  2026-01-02T03:04:05Z
docker.io/library/nginx  -       sha256:abababababab  -        -        -               no      1 min 1 s  -

pins  docker.io/library/nginx:1
      quay.io/a:2"
        );
        assert_eq!(shown(&CacheDocument::default()), "nothing is cached");
    }

    #[test]
    fn what_is_asked_for_is_encoded() {
        assert_eq!(with_query("cache", &[("host", None), ("after", None)]), "cache");
        let after = Some("f/quay.io/a@sha256:00".to_owned());
        assert_eq!(
            with_query("cache", &[("host", Some("a:1".to_owned())), ("after", after)]),
            "cache?host=a%3A1&after=f%2Fquay.io%2Fa%40sha256%3A00"
        );
    }
}
