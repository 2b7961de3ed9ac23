//! Where requests lead, and where they must not.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use trow_raft::Digest;

use super::fake::{Fake, host_named, name, settled, status, tag, with};
use crate::upstream::{HostSettings, Lookup, Marker, Proxies, Registries, UpstreamError, UpstreamSettings};

/// Names that resolve as a test says, each time to the next of its addresses.
#[derive(Default)]
pub struct Names(Mutex<HashMap<String, Vec<IpAddr>>>);

impl Names {
    pub fn of(names: &[(&str, &[&str])]) -> Arc<Names> {
        let parse = |addresses: &[&str]| addresses.iter().map(|address| address.parse().unwrap()).collect();
        Arc::new(Names(Mutex::new(names.iter().map(|(name, to)| ((*name).to_owned(), parse(to))).collect())))
    }
}

impl Lookup for Names {
    fn lookup(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let mut names = self.0.lock().unwrap();
        let found = names.get_mut(&name).map(|addresses| {
            let first = addresses[0];
            addresses.rotate_left(1);
            vec![first]
        });
        Box::pin(async move { found.ok_or_else(|| io::Error::other("no such name")) })
    }
}

fn with_names(host: HostSettings, names: Arc<Names>) -> Registries {
    let hosts = [(host_named("registry.test"), host)].into();
    let settings = UpstreamSettings { hosts, ..UpstreamSettings::default() };
    Registries::with(settings, names, Proxies::none())
}

fn digest() -> Digest {
    Digest::sha256(b"x")
}

#[track_caller]
fn refused(error: &UpstreamError, why: &str) {
    assert!(
        matches!(error, UpstreamError::Bad(text) if text.contains(why)),
        "{error:?} is not about {why:?}"
    );
}

#[tokio::test]
async fn private_addresses_are_not_asked_unless_that_is_meant() {
    let fake = Fake::start(|_| with(200, &[], "x")).await;
    let port = fake.address.port();
    let names = Names::of(&[("private.test", &["127.0.0.1"]), ("metadata.test", &["169.254.169.254"])]);
    let ask = async |host: &str, allow_private: bool| {
        let endpoint = format!("http://{host}:{port}").parse().ok();
        let settings = HostSettings { endpoint, allow_private, ..fake.settings() };
        with_names(settings, names.clone()).blob_size(&name("app"), &digest()).await
    };
    for host in ["127.0.0.1", "private.test", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"] {
        refused(&ask(host, false).await.unwrap_err(), "private address");
    }
    for host in
        ["metadata.test", "169.254.169.254", "0.0.0.0", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]"]
    {
        refused(&ask(host, true).await.unwrap_err(), "where no registry is");
    }
    assert_eq!(fake.asked(), Vec::<String>::new());
    for host in ["127.0.0.1", "private.test"] {
        assert_eq!(ask(host, true).await, Ok(1));
    }
}

#[tokio::test]
async fn a_name_that_resolves_otherwise_the_next_moment_gains_nothing() {
    let fake = Fake::start(|_| with(200, &[], "x")).await;
    // Private at each second look: what is connected to is what was judged. Public ones of this range are no one's
    // that would answer, and the connection there is bounded.
    let names = Names::of(&[("rebind.test", &["127.0.0.1", "192.0.2.1"])]);
    let endpoint = format!("http://rebind.test:{}", fake.address.port()).parse().ok();
    let settings = HostSettings { endpoint, allow_private: false, ..fake.settings() };
    let registries = with_names(settings, names);
    for _ in 0..4 {
        refused(&registries.blob_size(&name("app"), &digest()).await.unwrap_err(), "private address");
    }
    assert_eq!(fake.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn each_hop_of_a_redirect_is_judged() {
    // The registry is at a private address by leave; what it leads to has the same leave but for some places.
    let fake = Fake::start(|seen| {
        let to = match seen.path.split('/').nth(2).unwrap() {
            "metadata" => "http://169.254.169.254/latest/meta-data/",
            "mapped" => "http://[::ffff:169.254.169.254]/",
            "file" => "file:///etc/passwd",
            "userinfo" => "http://user:password@127.0.0.1/",
            "loop" => "/v2/loop/blobs/again",
            "nothing" => "http://",
            _ => return with(200, &[], "x"),
        };
        with(307, &[("location", to)], "")
    })
    .await;
    let registries = fake.registries();
    for (repo, why) in [
        ("metadata", "where no registry is"),
        ("mapped", "where no registry is"),
        ("file", "no address"),
        ("userinfo", "no address"),
        ("nothing", "no address"),
        ("loop", "more than 5 times"),
    ] {
        refused(&registries.blob(&name(repo), &digest(), 0).await.unwrap_err(), why);
    }
    assert_eq!(fake.asked().iter().filter(|line| line.contains("/loop/")).count(), 6);
}

#[tokio::test]
async fn what_is_shown_to_a_registry_is_shown_to_no_other_port() {
    let elsewhere = Fake::start(|_| with(200, &[], "0123")).await;
    let to = format!("http://{}/cdn?signature=s3cret", elsewhere.address);
    let fake = Fake::start(move |seen| match (seen.header("authorization"), seen.path.contains("/here/")) {
        ("", _) => with(401, &[("www-authenticate", "Basic realm=x")], ""),
        (_, true) => with(302, &[("location", "/v2/there/blobs/x")], ""),
        _ => with(307, &[("location", &to)], ""),
    })
    .await;
    let registries = settled(&fake, r#"{"auths": {"registry.test": {"username": "u", "password": "p"}}}"#);
    for repo in ["app", "here"] {
        let arriving = registries.blob(&name(repo), &digest(), 0).await.unwrap();
        assert_eq!(arriving.size, Some(4));
    }
    let seen = elsewhere.seen();
    assert_eq!(seen.len(), 2);
    assert!(
        seen.iter().all(|seen| seen.header("authorization").is_empty() && seen.query == "signature=s3cret")
    );
    let here: Vec<_> = fake.seen().into_iter().filter(|seen| seen.path.starts_with("/v2/there/")).collect();
    assert_eq!(here.len(), 1);
    assert!(here[0].header("authorization").starts_with("Basic "), "the same origin is still the same");
}

#[tokio::test]
async fn what_a_hop_left_is_not_shown_again_when_it_comes_back() {
    let back = Arc::new(Mutex::new(String::new()));
    let there = back.clone();
    let elsewhere = Fake::start(move |_| with(307, &[("location", &there.lock().unwrap())], "")).await;
    let to = format!("http://{}/", elsewhere.address);
    let fake = Fake::start(move |seen| match (seen.path.as_str(), seen.header("authorization")) {
        ("/back", _) => with(200, &[], "x"),
        (_, "") => with(401, &[("www-authenticate", "Basic realm=x")], ""),
        _ => with(307, &[("location", &to)], ""),
    })
    .await;
    *back.lock().unwrap() = format!("http://{}/back", fake.address);
    let registries = settled(&fake, r#"{"auths": {"registry.test": {"username": "u", "password": "p"}}}"#);
    registries.blob(&name("app"), &digest(), 0).await.unwrap();
    assert_eq!(fake.seen().last().unwrap().header("authorization"), "");
}

#[tokio::test]
async fn ones_own_requests_are_known_when_they_come_back() {
    let fake = Fake::start(|seen| {
        let is_own = Marker::of("test").came_back(&seen.headers);
        status(if is_own { 508 } else { 404 })
    })
    .await;
    let registries = fake.registries();
    let ask = async || registries.manifest(&name("app"), &tag("1")).await.unwrap_err();
    assert_eq!(ask().await, UpstreamError::NotFound);
    registries.mark(Marker::of("test"));
    refused(&ask().await, "this registry itself");
    let seen = fake.seen();
    assert!(registries.came_back(&seen[1].headers) && !registries.came_back(&seen[0].headers));
}
