//! `trow warm`: having images in the cluster before anybody asks for them.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Failure, Output, Server, Table, block_on, counted, human_bytes, print_json, print_line};
use crate::warm::event::{Event, Request};
use crate::warm::{Image, Platform};

const EXAMPLES: &str = "\
Examples:

  trow warm nginx:1.29 quay.io/org/app:v1
  trow warm --platform linux/amd64 --platform linux/arm64 registry.k8s.io/pause:3.10

Ends with 1 when an image failed; those that did not are here all the same. `trow cache list` shows
what is here, `trow cache pin` keeps it.";

/// `trow warm`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Warm {
    /// As docker pull takes them: nginx, quay.io/org/app:1.2, registry.k8s.io/pause@sha256:…
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<Image>,
    /// Of an image for several platforms pull this one; may be repeated [default: that of the node asked]
    #[arg(long, value_name = "OS/ARCH", conflicts_with = "all_platforms")]
    platform: Vec<Platform>,
    /// Pull every platform
    #[arg(long)]
    all_platforms: bool,
    /// A table for people, or one line of JSON for programs
    #[arg(long, default_value = "table")]
    output: Output,
    #[command(flatten)]
    server: Server,
}

/// What became of an image.
#[derive(Debug, Default, Serialize)]
struct Row {
    image: String,
    digest: Option<String>,
    blobs: u64,
    bytes: u64,
    /// Why it may not be what the upstream has now.
    stale: Option<String>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    images: &'a [Row],
}

/// How far each image is, and how far it is to be.
struct Progress {
    bar: ProgressBar,
    of: BTreeMap<String, (u64, u64)>,
}

impl Progress {
    fn new() -> Self {
        let bar = ProgressBar::new(0);
        let form = "{msg} {wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}";
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress { bar, of: BTreeMap::new() }
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Found { image, bytes, .. } => self.of.entry(image.clone()).or_default().1 = *bytes,
            Event::Progress { image, bytes } => self.of.entry(image.clone()).or_default().0 = *bytes,
            Event::Done { image, bytes, .. } => drop(self.of.insert(image.clone(), (*bytes, *bytes))),
            Event::Failed { image, .. } => drop(self.of.remove(image)),
        }
        let (came, all) = self.of.values().fold((0, 0), |(came, all), image| (came + image.0, all + image.1));
        self.bar.set_length(all);
        self.bar.set_position(came);
        self.bar.set_message(counted(self.of.len() as u64, "image"));
    }
}

impl Warm {
    pub(super) fn run(self) -> Result<(), Failure> {
        let request = Request {
            images: self.images.iter().map(ToString::to_string).collect(),
            platforms: self.platform.iter().map(ToString::to_string).collect(),
            all_platforms: self.all_platforms,
        };
        let client = self.server.client()?;
        let mut progress = Progress::new();
        let mut rows: Vec<Row> =
            request.images.iter().map(|image| Row { image: image.clone(), ..Row::default() }).collect();
        let heard = |event: Event| {
            progress.note(&event);
            take(&mut rows, event);
        };
        let ended = block_on(async { Ok(client.lines("cache/warm", &request, heard).await?) });
        progress.bar.finish_and_clear();
        ended?;
        // Whoever was asked went away before it had said what became of all.
        for row in rows.iter_mut().filter(|row| row.digest.is_none() && row.error.is_none()) {
            row.error = Some("the server went away".to_owned());
        }
        match self.output {
            Output::Json => print_json(&Document { images: &rows })?,
            Output::Table => print_line(&shown(&rows).to_string())?,
        }
        let failed: Vec<&str> =
            rows.iter().filter(|row| row.error.is_some()).map(|row| row.image.as_str()).collect();
        if failed.is_empty() {
            return Ok(());
        }
        let count = counted(rows.len() as u64, "image");
        Err(Failure::Failed(format!("{} of {count} failed: {}", failed.len(), failed.join(", "))))
    }
}

fn take(rows: &mut [Row], event: Event) {
    let (name, done) = match event {
        Event::Done { image, digest, blobs, bytes, stale } => {
            (image, Row { digest: Some(digest), blobs, bytes, stale, ..Row::default() })
        }
        Event::Failed { image, error } => (image, Row { error: Some(error), ..Row::default() }),
        Event::Found { .. } | Event::Progress { .. } => return,
    };
    // One that was named twice is done twice.
    let open = |row: &&mut Row| row.image == name && row.digest.is_none() && row.error.is_none();
    if let Some(row) = rows.iter_mut().find(open) {
        *row = Row { image: name, ..done };
    }
}

fn shown(rows: &[Row]) -> Table {
    let mut table = Table::new(["IMAGE", "BLOBS", "SIZE", "DIGEST"]);
    for row in rows {
        let failed = row.error.as_ref().map(|error| format!("FAILED: {error}"));
        let stale = row.stale.as_ref().map(|why| format!(" (stale: {why})")).unwrap_or_default();
        let done = row.digest.clone().unwrap_or_default() + &stale;
        let figures = |text: String| if failed.is_some() { "-".to_owned() } else { text };
        table.row([
            row.image.clone(),
            figures(row.blobs.to_string()),
            figures(human_bytes(row.bytes)),
            failed.clone().unwrap_or(done),
        ]);
    }
    table
}
