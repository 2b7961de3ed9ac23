//! Settings and files that change while requests are made.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::fake::{BOUND, Fake, manifest, name, tag, with};
use crate::config::{Config, Sources};
use crate::upstream::{Proxies, Registries, System};

/// Asks until the answer is as expected.
async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(BOUND, waited).await.is_ok(), "not within {BOUND:?}: {what}");
}

/// A client of a configuration file, which it follows.
fn following(file: &Path) -> (Registries, tokio_util::sync::DropGuard) {
    let sources = Sources { file: Some(file.to_owned()), ..Sources::default() };
    let (config, _) = Config::load(sources.clone()).unwrap();
    let registries = Registries::with(config.upstream.clone(), Arc::new(System), Proxies::none());
    let closing = CancellationToken::new();
    tokio::spawn(registries.clone().follow(sources, config, closing.clone()));
    (registries, closing.drop_guard())
}

#[tokio::test]
async fn credentials_settings_and_prefixes_count_when_they_change() {
    let fake = Fake::start(|seen| match seen.header("authorization") {
        "Basic dXNlcjpuZXc=" => manifest("{}"),
        _ => with(401, &[("www-authenticate", "Basic realm=x")], ""),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let (file, auth) = (dir.path().join("trow.toml"), dir.path().join("auth.json"));
    let login = |password: &str| {
        let json = format!(
            "{{\"auths\":{{\"registry.test\":{{\"username\":\"user\",\"password\":\"{password}\"}}}}}}"
        );
        std::fs::write(&auth, json).unwrap();
    };
    let settings = |more: &str| {
        let toml = format!(
            "[upstream.\"registry.test\"]\nendpoint = \"http://{}\"\ninsecure = true\nallow_private = true\n\
             auth_file = \"{}\"\n{more}\n",
            fake.address,
            auth.display()
        );
        std::fs::write(&file, toml).unwrap();
    };
    login("old");
    settings("");
    let (registries, _closing) = following(&file);
    let prefixes = registries.prefixes();
    let hub = || prefixes.get(&"hub".parse().unwrap());
    let pulls = async || registries.manifest(&name("app"), &tag("1")).await.is_ok();
    assert!(!pulls().await);
    login("new");
    until("the new password is used", pulls).await;
    // What is no file of credentials leaves those that were there.
    std::fs::write(&auth, "hunter2").unwrap();
    settings("freshness = \"7s\"");
    let freshness = async || registries.rules(&name("app")).freshness;
    login("new");
    until("the new freshness counts", async || freshness().await == Duration::from_secs(7)).await;
    assert!(pulls().await);
    // What is not valid changes nothing.
    settings("freshness = \"9s\"\nconcurrency = 0");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(freshness().await, Duration::from_secs(7));
    assert_eq!(hub(), None);
    settings("freshness = \"8s\"\n[prefixes]\nhub = \"docker.io\"");
    until("the prefix counts", async || hub().is_some_and(|host| host.is_docker())).await;
    assert!(freshness().await == Duration::from_secs(8) && pulls().await);
}
