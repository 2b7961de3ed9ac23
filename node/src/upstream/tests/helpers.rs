//! Programs that know credentials.

use std::path::Path;

use super::fake::{Fake, manifest, name, settled, tag, with};
use crate::upstream::UpstreamError;

/// A program `docker-credential-<name>` in a directory. It is written by another process: one that this process had
/// open for writing could not be run while a child of another test has inherited it.
fn program(dir: &Path, name: &str, script: &str) {
    let path = dir.join(format!("docker-credential-{name}"));
    let written = std::process::Command::new("sh")
        .args(["-c", "printf '%s' \"$SCRIPT\" > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .env("SCRIPT", format!("#!/bin/sh\n{script}\n"))
        .status();
    assert!(written.unwrap().success());
}

#[tokio::test]
async fn a_helper_is_asked_by_its_protocol_and_not_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    program(
        dir.path(),
        "knows",
        &format!(
            "read server; echo \"$1 $server\" >> {at}/asked; echo '{{\"ServerURL\":\"\",\"Username\":\"user\",\"Secret\":\"hunter2\"}}'"
        ),
    );
    program(dir.path(), "none", "echo 'credentials not found in native keychain'; exit 1");
    program(dir.path(), "fails", "echo hunter2; echo hunter2 >&2; exit 3");
    program(dir.path(), "babbles", "while echo hunter2hunter2hunter2hunter2; do :; done");
    program(dir.path(), "lies", "echo hunter2");
    let fake = Fake::start(|seen| match seen.header("authorization") {
        "Basic dXNlcjpodW50ZXIy" => manifest("{}"),
        _ => with(401, &[("www-authenticate", "Basic realm=x")], ""),
    })
    .await;
    let ask = async |file: &str, repo: &str| {
        let registries = settled(&fake, file);
        registries.helpers_in(dir.path());
        registries.manifest(&name(repo), &tag("1")).await.map(|fetched| fetched.digest)
    };
    let registries = settled(&fake, r#"{"credHelpers": {"registry.test": "knows"}}"#);
    registries.helpers_in(dir.path());
    for repo in ["app", "other"] {
        registries.manifest(&name(repo), &tag("1")).await.unwrap();
    }
    assert!(registries.rules(&name("app")).needs_user);
    assert_eq!(std::fs::read_to_string(dir.path().join("asked")).unwrap(), "get registry.test\n");

    ask(r#"{"credsStore": "knows"}"#, "app").await.unwrap();
    let error = ask(r#"{"credsStore": "none"}"#, "app").await.unwrap_err();
    assert!(matches!(error, UpstreamError::Denied(_)), "{error:?}");
    for helper in ["fails", "babbles", "lies", "missing"] {
        let error = ask(&format!("{{\"credsStore\": \"{helper}\"}}"), "app").await.unwrap_err();
        assert!(
            matches!(&error, UpstreamError::Unavailable { why, .. } if why.contains(helper)),
            "{error:?}"
        );
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}
