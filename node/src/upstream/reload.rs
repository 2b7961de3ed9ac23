//! Settings of upstreams, and the files that they name, read again when they change.
//!
//! Always holds: what counts was found twice in a row, and is valid as a whole; what is not leaves what counted
//! before, and the log says why. Never does: change other settings than those of upstreams while a node runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::known::{Files, Known};
use super::{Registries, UpstreamSettings};
use crate::config::{Config, Sources};
use crate::follow::{self, Content};

/// How often the files are looked at: a change counts after two looks.
const LOOK: Duration = Duration::from_millis(500);

/// What was found in files.
type Found = BTreeMap<PathBuf, Content>;

/// What of the configuration counts.
struct Running {
    config: Config,
    /// The file holds something else, which was not valid when it was read.
    is_behind: bool,
}

impl Registries {
    /// Follows the files until `closing`: that of the configuration, which was `config` when it was read from
    /// `sources`, and those of credentials and authorities.
    pub async fn follow(self, sources: Sources, config: Config, closing: CancellationToken) {
        // What the start read is what counts; the file of the configuration may have changed since.
        let mut held = self.known.load().files.found.clone();
        let mut last = None;
        let mut running = Running { config, is_behind: false };
        loop {
            tokio::select! {
                () = closing.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let settings = self.known.load().settings.clone();
            let file = sources.file.clone();
            // A file system that hangs must not hold up what else this thread serves.
            let Ok(found) = tokio::task::spawn_blocking(move || look(file, &settings)).await else { return };
            if last.as_ref() == Some(&found) && found != held {
                self.changed(&sources, &mut running, &held, &found);
                held = found.clone();
            }
            last = Some(found);
        }
    }

    fn changed(&self, sources: &Sources, running: &mut Running, before: &Found, now: &Found) {
        let known = self.known.load();
        let mut settings = known.settings.clone();
        let file = sources.file.as_ref();
        // One that was not valid may be so by now, since it names other files.
        if running.is_behind || file.is_some_and(|file| before.get(file) != now.get(file)) {
            let loaded = Config::load(sources.clone());
            running.is_behind = loaded.is_err();
            match loaded {
                Err(problems) => {
                    tracing::error!(cause = %problems, "the changed configuration is not valid; the one before counts on");
                }
                Ok((config, _)) => {
                    settings = config.upstream.clone();
                    let mut others = config.clone();
                    others.upstream = running.config.upstream.clone();
                    if others != running.config {
                        tracing::warn!(
                            "settings changed that count from the next start of this node; those of upstreams count now"
                        );
                    }
                    running.config = config;
                }
            }
        }
        let is_same = |path: &Path| now.get(path).is_some_and(|now| known.files.found.get(path) == Some(now));
        if settings == known.settings && settings.auth_files().chain(settings.authorities()).all(is_same) {
            return;
        }
        let content = |path: &Path| now.get(path).cloned().unwrap_or_else(|| follow::read(path));
        let files = Files::read(&settings, &known.files, content);
        tracing::info!("the settings of upstreams, or files that they name, were read again");
        self.known.store(Arc::new(Known::new(settings, files, self.lasting.clone())));
    }
}

fn look(file: Option<PathBuf>, settings: &UpstreamSettings) -> Found {
    let named = settings.auth_files().chain(settings.authorities()).map(PathBuf::from);
    file.into_iter().chain(named).map(|path| (path.clone(), follow::read(&path))).collect()
}
