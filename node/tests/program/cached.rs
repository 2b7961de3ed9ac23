//! What one registry pulls through another, seen and changed by the administrator.

use crate::run::{Node, ask, ask_with, push_blob, trow_json, until};

#[test]
fn what_was_pulled_through_is_listed_kept_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (up, down) = (dir.path().join("up"), dir.path().join("down"));
    std::fs::create_dir_all(&up).unwrap();
    std::fs::create_dir_all(&down).unwrap();
    let upstream = Node::serve(&up, &[]);
    upstream.until_ready();
    let host = upstream.client();
    let config = push_blob(host, "a/b", "{}");
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let of_config =
        format!(r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}}"#);
    let manifest = format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{of_config},"layers":[]}}"#);
    let head = format!("Content-Type: {kind}\r\n");
    let put = ask_with(host, "PUT", "/v2/a/b/manifests/v1", &head, &manifest).unwrap();
    assert_eq!(put.status, 201, "{}", put.body);

    let settings = down.join("trow.toml");
    // However full the disk of this machine is.
    let text = format!(
        "[cache]\nhigh = \"100%\"\nlow = \"99%\"\n[upstream.\"{host}\"]\nendpoint = \"http://{host}\"\ninsecure = true\nallow_private = true\n"
    );
    std::fs::write(&settings, text).unwrap();
    let node = Node::serve(&down, &["--config", settings.to_str().unwrap()]);
    node.until_ready();
    let pulled = ask(node.client(), "GET", &format!("/v2/f/{host}/a/b/manifests/v1"), None).unwrap();
    assert_eq!((pulled.status, pulled.body.as_str()), (200, manifest.as_str()));
    let pulled = ask(node.client(), "GET", &format!("/v2/f/{host}/a/b/blobs/{config}"), None).unwrap();
    assert_eq!((pulled.status, pulled.body.as_str()), (200, "{}"));

    let list = || trow_json(&node.with_server(&["cache", "list", "--host", host, "--output", "json"]), 0);
    // It is recorded and kept behind the pull.
    let listed = until("the image to be listed with its blob", || {
        Some(list()).filter(|listed| listed["images"][0]["cached_bytes"] == 2)
    });
    let image = &listed["images"][0];
    assert_eq!(image["repository"], format!("{host}/a/b"));
    assert_eq!((&image["tags"], &image["size"]), (&serde_json::json!(["v1"]), &2.into()));
    assert_eq!(image["nodes"][0]["bytes"], 2);
    assert_eq!(image["pinned"], false);

    let named = format!("{host}/a/b:v1");
    node.cli(&["cache", "pin", &named]).expect(0);
    assert_eq!(list()["images"][0]["pinned"], true);
    assert!(node.cli(&["cache", "purge", &named]).expect(1).err.contains("is pinned"));
    assert!(node.cli(&["cache", "purge", "--all"]).expect(0).out.contains("1 manifest left, since pinned"));
    node.cli(&["cache", "unpin", &named]).expect(0);
    assert_eq!(node.cli(&["cache", "purge", &named]).expect(0).out, "1 manifest forgotten\n");
    assert_eq!(list()["images"], serde_json::json!([]));
    let again = ask(node.client(), "GET", &format!("/v2/f/{host}/a/b/manifests/v1"), None).unwrap();
    assert_eq!((again.status, again.body.as_str()), (200, manifest.as_str()), "the registry is asked again");
}
