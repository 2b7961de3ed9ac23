//! The program `trow`: one node of a registry cluster, and the commands to run and see one.
//!
//! A library only so that fuzz targets reach its parsers; nothing in it is for others to use.
//! Always holds: a panic ends the process, since a part that is gone must not be missed silently;
//! the exit code is 0 done, 1 failed, 2 usage or configuration, 3 no server or no quorum. Never does:
//! fail because nobody reads what it says; that is why nothing is printed with macros that panic.

#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod cli;
mod config;
mod dev;

mod bench;

mod data_dir;
mod node;

mod birth;
mod certificate;
mod cluster_dir;
mod follow;
mod identity;
mod listener;
mod peer;
mod sealed;
mod users;
mod verified;
mod webhook;

mod cache;
mod upstream;

mod copies;
mod evict;
mod forget;
mod peer_blobs;
mod repair;
mod replicated;
mod standstill;
mod store;
mod sweep;
mod warm;

mod admin;
mod metrics;
mod ops;
mod traces;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

use std::process::ExitCode;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use cli::{Cli, LogFormat, OtlpEndpoint};

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let cli = Cli::of_process();
    if let Err(why) = log(&cli.log, cli.log_format, cli.collector()) {
        cli::note(&why);
        return ExitCode::from(2);
    }
    end_on_panic();
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider was installed before");
    }
    let code = cli.run();
    traces::finish();
    code
}

/// A level alone, or before further directives, is Trow's: a dependency's chatter has its own.
fn directives(filter: &str) -> String {
    let (level, rest) = filter.split_once(',').map_or((filter, None), |(level, rest)| (level, Some(rest)));
    if level.contains('=') {
        return filter.to_owned();
    }
    let own = format!(
        "warn,openraft=error,rustls_platform_verifier=off,trow={level},trow_api={level},trow_raft={level}"
    );
    rest.map_or_else(|| own.clone(), |rest| format!("{own},{rest}"))
}

/// Log lines go to standard error. One that cannot be written is lost, and not the node with it: the
/// complaint about it would go to standard error as well, by a macro that panics.
fn log(filter: &str, format: LogFormat, collector: Option<OtlpEndpoint>) -> Result<(), String> {
    let filter = directives(filter);
    let filter = EnvFilter::try_new(&filter).map_err(|error| format!("--log: {error}"))?;
    if let Some(endpoint) = collector {
        // Each with a filter of its own: what is traced does not depend on what is logged.
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
        let lines = match format {
            LogFormat::Text => lines.with_ansi(is_terminal()).boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        let traces = traces::layer(&endpoint.url).map_err(|why| endpoint.refused(&why))?;
        let both = tracing_subscriber::registry().with(lines.with_filter(filter)).with(traces);
        return both.try_init().map_err(|error| error.to_string());
    }
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let lines = lines.log_internal_errors(false);
    match format {
        LogFormat::Text => lines.with_ansi(is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    }
    .map_err(|error| error.to_string())
}

fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
}

/// A task that panicked would leave the rest of the node running without it.
fn end_on_panic() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        default(panic);
        tracing::error!(panic = %panic, "a part of this node failed and the process ends; nothing acknowledged is lost: start it again, and report this line");
        std::process::exit(1);
    }));
}

#[cfg(test)]
mod tests {
    use super::directives;

    #[test]
    fn a_level_is_trows_and_what_follows_is_added() {
        assert!(directives("info").ends_with("trow=info,trow_api=info,trow_raft=info"));
        assert!(directives("info,trow::access=off").ends_with("trow_raft=info,trow::access=off"));
        assert_eq!(directives("trow=debug,hyper=info"), "trow=debug,hyper=info");
    }
}
