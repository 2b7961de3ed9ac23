//! The rules between settings, and those about the files that they name.
//!
//! Always holds: each broken rule is one problem that names the setting to change. Never does:
//! stop at the first.

use std::time::Duration;

use super::reader::Reader;
use super::tree::{Cluster, Config};
use super::upstream;
use crate::{certificate, users, webhook};
use trow_raft::limits::VOTERS_MAX;

/// The most copies of a blob that can be asked for.
const FACTOR_MAX: u32 = 9;

/// Checks every rule.
pub(super) fn rules(config: &Config, r: &mut Reader) {
    cluster(&config.cluster, r);
    listeners(config, r);
    timers(config, r);
    files(config, r);
    if !(1..=FACTOR_MAX).contains(&config.factor) {
        r.problem("replication.factor", format!("expected 1 to {FACTOR_MAX} copies"));
    }
    for (key, limit) in [
        ("uploads.max_sessions", config.uploads.max_sessions),
        ("uploads.max_bytes", config.uploads.max_bytes.0),
    ] {
        if limit == 0 {
            r.problem(key, "must be more than 0, or nothing can be pushed");
        }
    }
    upstream::rules(config, r);
    if config.cache.low >= config.cache.high {
        r.problem("cache.low", "must be below cache.high");
    }
    names(config, r);
}

fn cluster(cluster: &Cluster, r: &mut Reader) {
    for (key, value) in [("cluster.name", &cluster.name), ("cluster.zone", &cluster.zone)] {
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let named = key == "cluster.zone" || !value.is_empty();
        if !named || value.len() > 63 || !value.chars().all(word) {
            r.problem(key, format!("{value:?} is not 1 to 63 letters, digits, '.', '-' or '_'"));
        }
    }
    let expect = cluster.bootstrap_expect;
    if expect.is_some_and(|n| n == 0 || n > VOTERS_MAX as u64) {
        let why = format!("expected 1 to {VOTERS_MAX}: nodes beyond {VOTERS_MAX} join without it");
        r.problem("cluster.bootstrap_expect", why);
    }
    if expect.is_some_and(|n| n > 1) && cluster.join.is_empty() {
        r.problem("cluster.join", "needed with cluster.bootstrap_expect: where the other nodes are found");
    }
    for address in &cluster.join {
        if !is_host_port(address) {
            r.problem("cluster.join", format!("expected host:port, not {address:?}"));
        }
    }
    for (name, address) in &cluster.dial {
        if !is_host_port(address) {
            r.problem(format!("cluster.dial.{name}"), format!("expected host:port, not {address:?}"));
        }
    }
    match &cluster.peer_advertise {
        Some(address) if !is_host_port(address) => {
            r.problem("cluster.peer_advertise", format!("expected host:port, not {address:?}"));
        }
        None if cluster.peer_listen.ip().is_unspecified() => {
            let why = format!(
                "needed because cluster.peer_listen is {}: the host:port at which other nodes reach this one",
                cluster.peer_listen
            );
            r.problem("cluster.peer_advertise", why);
        }
        _ => {}
    }
    let alone = cluster.join.is_empty();
    if !alone && !cluster.dir.join("ca.crt").exists() {
        let why = format!(
            "{} is no cluster directory, and the nodes to join have one: copy it here, or make one for all \
             with `trow cluster init --out DIR`",
            cluster.dir.display()
        );
        r.problem("cluster.dir", why);
    }
}

/// `host:port`, the host a name or an address in the form of a URL.
pub(super) fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let v6 = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host = match v6 {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_host(host),
    };
    host && port.parse::<u16>().is_ok_and(|port| port > 0)
}

pub(super) fn is_host(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !text.is_empty() && text.len() <= 253 && text.chars().all(word) && !text.starts_with(['.', '-'])
}

fn listeners(config: &Config, r: &mut Reader) {
    let listen = config.server.listen;
    let users = config.auth.htpasswd.is_some();
    if !listen.ip().is_loopback() && !users && !config.auth.anonymous_push {
        let why = format!(
            "server.listen is {listen}, beyond loopback, and there are no users: whoever reaches it could push. \
             Name users in auth.htpasswd, set auth.anonymous_push = true if everybody may push, or listen on loopback"
        );
        r.problem("auth.anonymous_push", why);
    }
    if config.auth.anonymous_push && !config.auth.anonymous_pull {
        let why = "whoever may push may pull: set it to true, or auth.anonymous_push to false";
        r.problem("auth.anonymous_pull", why);
    }
    let mut taken = vec![("server.listen", listen)];
    let mut others =
        vec![("cluster.peer_listen", config.cluster.peer_listen), ("ops.listen", config.ops_listen)];
    others.extend(config.webhook.listen.map(|address| ("webhook.listen", address)));
    for (key, address) in others {
        let clash = taken.iter().find(|(_, other)| *other == address && address.port() != 0);
        if let Some((other, _)) = clash {
            r.problem(key, format!("{address} is taken by {other}"));
        }
        taken.push((key, address));
    }
}

fn timers(config: &Config, r: &mut Reader) {
    let raft = &config.raft;
    if raft.heartbeat < Duration::from_millis(10) {
        r.problem("raft.heartbeat", "must be at least 10ms");
    } else if raft.election.start < raft.heartbeat * 2 {
        let why = "must begin at twice raft.heartbeat or later, or a late heartbeat deposes the leader";
        r.problem("raft.election", why);
    }
    if raft.log_limit.0 < 1 << 20 {
        r.problem("raft.log_limit", "must be at least 1MiB");
    }
    if config.gc_grace.is_zero() {
        r.problem("gc.grace", "must be more than 0s, or a blob may go before its manifest comes");
    }
    if config.uploads.expiry.is_zero() {
        r.problem("uploads.expiry", "must be more than 0s, or no upload can be finished");
    }
}

fn files(config: &Config, r: &mut Reader) {
    for tls in [&config.server.tls, &config.webhook.tls] {
        if let Some(Err(error)) = tls.as_ref().map(certificate::read) {
            error.0.into_iter().for_each(|half| r.problem(half.setting, half.why));
        }
    }
    if let Some(Err(problems)) = config.auth.htpasswd.as_deref().map(users::read) {
        problems.into_iter().for_each(|why| r.problem("auth.htpasswd", why));
    }
    if let Some(Err(why)) = config.webhook.client_ca.as_deref().map(webhook::check_client_ca) {
        r.problem("webhook.client_ca", why);
    }
    let data = &config.data_dir;
    if data.exists() && !data.is_dir() {
        r.problem("data_dir", format!("{} is not a directory", data.display()));
    }
}

/// Checks the names under which a node is called.
pub(super) fn names(config: &Config, r: &mut Reader) {
    let webhook = &config.webhook;
    for (key, names) in
        [("server.hostnames", &config.server.hostnames), ("webhook.hostnames", &webhook.hostnames)]
    {
        for name in names.iter().filter(|name| !is_host(name) && !is_host_port(name)) {
            r.problem(key, format!("expected a host name, not {name:?}"));
        }
    }
    let label = |text: &str| !text.is_empty() && is_host(text) && !text.contains('.');
    if !webhook.service.split_once('.').is_some_and(|(service, space)| label(service) && label(space)) {
        let why = format!("expected <service>.<namespace>, not {:?}", webhook.service);
        r.problem("webhook.service", why);
    }
    if webhook.client_names.iter().any(String::is_empty) {
        r.problem("webhook.client_names", "a name is empty");
    }
    if !webhook.client_names.is_empty() && webhook.client_ca.is_none() {
        let why = "needs webhook.client_ca: without it nobody is asked for a certificate";
        r.problem("webhook.client_names", why);
    }
    if webhook.max_staleness.is_zero() {
        r.problem("webhook.max_staleness", "must be more than 0s, or every election denies");
    }
}
