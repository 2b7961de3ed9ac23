//! The program as people and scripts use it: real processes, real exit codes.

#[path = "program/cached.rs"]
mod cached;
#[path = "program/dev.rs"]
mod dev;
#[path = "program/moved.rs"]
mod moved;
#[path = "program/node_config.rs"]
mod node_config;
#[path = "program/policy.rs"]
mod policy;
#[path = "program/policy_size.rs"]
mod policy_size;
#[path = "program/run.rs"]
mod run;
#[path = "program/typed.rs"]
mod typed;
#[path = "program/webhook.rs"]
mod webhook;
#[path = "program/who.rs"]
mod who;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use dev::Dev;
use run::{Node, ask, push_blob, put_index, trow, trow_json, until};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/trow.toml");

#[test]
fn help_names_every_command() {
    let help = trow(&["--help"]).expect(0);
    let commands =
        ["serve", "dev", "cluster", "blob", "cache", "policy", "webhook", "node-config", "completions"];
    for command in commands {
        assert!(help.out.contains(&format!("\n  {command} ")), "{command} is missing in:\n{}", help.out);
    }
    let help = trow(&["cluster", "--help"]).expect(0);
    for command in ["init", "status", "wait", "drain", "remove"] {
        assert!(help.out.contains(&format!("\n  {command} ")), "{command} is missing in:\n{}", help.out);
    }
    let help = trow(&["cache", "--help"]).expect(0);
    for command in ["list", "pin", "unpin", "purge"] {
        assert!(help.out.contains(&format!("\n  {command} ")), "{command} is missing in:\n{}", help.out);
    }
    trow(&["frobnicate"]).expect(2);
    assert!(trow(&["completions", "bash"]).expect(0).out.contains("trow"));
}

#[test]
fn check_accepts_the_sample_and_names_every_bad_value() {
    trow(&["serve", "--check", "--config", SAMPLE]).expect(0);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trow.toml");
    std::fs::write(&file, "[raft]\nheartbeat = \"now\"\n[srver]\nlisten = \"x\"\n").unwrap();
    let refused =
        trow(&["serve", "--check", "--config", file.to_str().unwrap(), "--listen", "0.0.0.0:5000"]).expect(2);
    for part in ["raft.heartbeat", "srver.listen", "auth.anonymous_push"] {
        assert!(refused.err.contains(part), "{part} is missing in:\n{}", refused.err);
    }
}

#[test]
fn cluster_directory_is_secret_and_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("cluster");
    trow(&["cluster", "init", "--out", out.to_str().unwrap()]).expect(0);
    let mode = |name: &str| out.join(name).metadata().unwrap().permissions().mode() & 0o777;
    for name in ["ca.key", "join.secret", "admin.token"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    assert!(out.join("ca.crt").exists());
    trow(&["cluster", "init", "--out", out.to_str().unwrap()]).expect(1);
}

#[test]
fn nobody_answering_is_exit_code_3() {
    let closed = ["--server", "http://127.0.0.1:1"];
    let digest = format!("sha256:{}", "0".repeat(64));
    trow(&["cluster", "status", closed[0], closed[1]]).expect(3);
    trow(&["blob", "locate", &digest, closed[0], closed[1]]).expect(3);
    trow(&["cluster", "wait", "--for", "healthy", "--timeout", "500ms", closed[0], closed[1]]).expect(3);
    trow(&["cache", "list", closed[0], closed[1]]).expect(3);
    trow(&["cache", "pin", "nginx", closed[0], closed[1]]).expect(3);
    trow(&["cache", "purge", "--all", closed[0], closed[1]]).expect(3);
    // One of the three must be named, and not two.
    trow(&["cache", "purge", closed[0], closed[1]]).expect(2);
    trow(&["cache", "purge", "nginx", "--all", closed[0], closed[1]]).expect(2);
    trow(&["cache", "pin", "Nginx", closed[0], closed[1]]).expect(2);
    trow(&["cache", "list", "--host", "https://docker.io", closed[0], closed[1]]).expect(2);
    trow(&["blob", "locate", "sha256:short", closed[0], closed[1]]).expect(2);
    trow(&["cluster", "status", "--token-file", "/nowhere", closed[0], closed[1]]).expect(2);
}

#[test]
fn one_node_is_a_complete_registry_that_stops_cleanly() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::serve(dir.path(), &[]);
    node.until_ready();

    let second = trow(&[
        "serve",
        "--data-dir",
        node.data_dir(),
        "--listen",
        "127.0.0.1:0",
        "--peer-listen",
        "127.0.0.1:0",
        "--ops-listen",
        "127.0.0.1:0",
    ])
    .expect(1);
    assert!(second.err.contains("in use"), "{}", second.err);

    let unauthorised = node.admin("GET", "status", None);
    assert_eq!((unauthorised.status, node.admin("GET", "no/such/path", None).status), (401, 401));
    assert!(unauthorised.header("trow-node").is_some() && unauthorised.header("x-request-id").is_some());
    assert_eq!(node.admin("GET", "no/such/path", Some(node.token())).status, 404);
    // One that is not even text, too.
    assert_eq!(node.admin("GET", "%ff", None).status, 401);
    assert_eq!(node.admin("GET", "%ff", Some(node.token())).status, 404);
    assert_eq!(node.admin("PUT", "status", Some(node.token())).status, 405);

    node.cli(&["cluster", "wait", "--for", "settled", "--timeout", "120s"]).expect(0);
    let status = trow_json(&node.with_server(&["cluster", "status", "--output", "json"]), 0);
    assert_eq!(status["quorum"], true);
    assert_eq!(status["stale"], false);
    assert_eq!(status["members"].as_array().unwrap().len(), 1);
    let member = &status["members"][0];
    assert_eq!((&member["role"], &member["state"]), (&"voter".into(), &"up".into()));
    assert_eq!(member["client"], node.client());
    assert_eq!(member["max_level"], status["level"]);
    assert!(member["disk"]["total"].as_u64().unwrap() > 0);
    assert_eq!(status["partitions"]["total"], 1024);
    assert_eq!(status["partitions"]["ready"], 1024);
    assert_eq!(status["cluster_id"].as_str().unwrap().len(), 16);
    assert_eq!(status["state_hash"].as_str().unwrap().len(), 16);
    for key in ["durable", "bytes", "under_replicated", "away", "lost", "cached"] {
        assert_eq!(status["blobs"][key], 0, "{key}");
    }
    assert!(node.cli(&["cluster", "status"]).expect(0).out.contains("voter"));

    let digest = format!("sha256:{}", "0".repeat(64));
    node.cli(&["blob", "locate", &digest]).expect(1);
    let server = |scheme: &str| format!("{scheme}://{}", node.client());
    let wrong = trow(&["cluster", "status", "--server", &server("http"), "--token-file", "/dev/null"]);
    assert!(wrong.expect(1).err.contains("the admin token in /dev/null"));
    let wrong =
        trow(&["cluster", "status", "--server", &server("https"), "--token-file", "/dev/null"]).expect(3);
    assert!(wrong.err.contains(&format!("name it as {}", server("http"))), "{}", wrong.err);
    node.cli(&["cluster", "drain", "nobody"]).expect(1);
    // Neither would end with a registry that goes on.
    let name = member["name"].as_str().unwrap();
    let refused = node.cli(&["cluster", "drain", name]).expect(1);
    assert!(refused.err.contains(&format!("{name} is the only member: add a node first")), "{}", refused.err);
    assert!(node.cli(&["cluster", "remove", name]).expect(1).err.contains("is the only voter"));
    let after = trow_json(&node.with_server(&["cluster", "status", "--output", "json"]), 0);
    assert_eq!(after["members"][0]["state"], "up");
    // The other listener that speaks HTTP.
    let server = format!("http://{}", node.ops_address());
    let wrong =
        trow(&["cluster", "status", "--server", &server, "--token-file", node.token_file()]).expect(1);
    assert!(wrong.err.contains(&format!("{server} is no client listener of Trow")), "{}", wrong.err);

    let digest = push_blob(node.client(), "a/b", "content");
    let found = trow_json(&node.with_server(&["blob", "locate", &digest, "--output", "json"]), 0);
    assert_eq!(
        (&found["digest"], &found["size"], &found["durable"]),
        (&digest.as_str().into(), &7.into(), &true.into())
    );
    assert_eq!(found["repos"], serde_json::json!(["a/b"]));
    assert_eq!(found["owners"], serde_json::json!([status["members"][0]["name"]]));
    assert_eq!(found["holders"][0]["node"], found["owners"][0]);
    assert_eq!((&found["sources"], &found["away"]), (&serde_json::json!([]), &serde_json::json!([])));
    assert!(node.cli(&["blob", "locate", &digest]).expect(0).out.contains("a/b"));
    pins_by_command_line(&node);

    let hex = digest.strip_prefix("sha256:").unwrap();
    let file = Path::new(node.data_dir()).join("blobs/sha256").join(&hex[..2]).join(hex);
    assert_eq!(std::fs::read(file).unwrap(), b"content");

    node.terminate(Duration::from_secs(30));
}

fn pins_by_command_line(node: &Node) {
    assert_eq!(node.cli(&["cache", "list"]).expect(0).out, "nothing is cached\n");
    let pinned = trow_json(&node.with_server(&["cache", "pin", "nginx:1.27", "--output", "json"]), 0);
    assert_eq!(pinned["image"], "docker.io/library/nginx:1.27");
    assert!(pinned["pinned"] == true && pinned["log_id"].as_u64().is_some(), "{pinned}");
    let listed = trow_json(&node.with_server(&["cache", "list", "--output", "json"]), 0);
    assert_eq!(
        listed,
        serde_json::json!({ "images": [], "pins": ["docker.io/library/nginx:1.27"], "next": null })
    );
    assert!(node.cli(&["cache", "list"]).expect(0).out.contains("docker.io/library/nginx:1.27"));
    let other = trow_json(&node.with_server(&["cache", "list", "--host", "quay.io", "--output", "json"]), 0);
    assert_eq!(other["pins"], serde_json::json!([]));
    let gone = node.cli(&["cache", "unpin", "docker.io/library/nginx:1.27"]).expect(0);
    assert_eq!(gone.out, "docker.io/library/nginx:1.27 is no longer pinned\n");
    let refused = node.cli(&["cache", "unpin", "nginx:1.27"]).expect(1);
    assert!(refused.err.contains("docker.io/library/nginx:1.27 is not pinned"), "{}", refused.err);
    assert!(node.cli(&["cache", "purge", "nginx"]).expect(1).err.contains("is not cached"));
    assert_eq!(node.cli(&["cache", "purge", "--all"]).expect(0).out, "0 manifests forgotten\n");
    let purged = trow_json(&node.with_server(&["cache", "purge", "--host", "a:1", "--output", "json"]), 0);
    assert_eq!(purged, serde_json::json!({ "dropped": 0, "pinned": 0, "log_id": null, "next": null }));
    // What changes is for administrators, by whatever way it is asked for.
    for (method, path) in [("GET", "cache"), ("PUT", "cache/pins?image=a"), ("DELETE", "cache?all=true")] {
        assert_eq!(node.admin(method, path, None).status, 401, "{method} {path}");
    }
}

#[test]
fn metrics_are_there_from_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::serve(dir.path(), &[]);
    node.until_ready();
    let metrics = node.ops("/metrics").body;
    for name in [
        "trow_http_requests_total",
        "trow_http_request_seconds_bucket",
        "trow_blob_bytes_total{direction=\"in\"} 0",
        "trow_raft_term",
        "trow_raft_applied_index",
        "trow_raft_commit_index",
        "trow_raft_log_fsyncs_total",
        "trow_raft_applied_entries_total",
        "trow_raft_apply_seconds_total",
        "trow_raft_purged_index",
        "trow_raft_log_bytes",
        "trow_raft_installs_total 0",
        "trow_partitions{state=\"moving\"}",
        "trow_under_replicated_blobs 0",
        "trow_away_blobs 0",
        "trow_disk_bytes{kind=\"free\"}",
        "trow_peer_bytes_total{kind=\"raft\",direction=\"out\"}",
        "trow_uploads{role=\"home\"} 0",
        "trow_uploads{role=\"mirror\"} 0",
        "trow_upload_bytes 0",
    ] {
        assert!(metrics.contains(&format!("\n{name}")), "{name} is missing in:\n{metrics}");
    }
    assert_eq!(node.ops("/healthz").status, 200);
}

#[test]
fn data_directory_of_another_cluster_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::serve(dir.path(), &[]);
    node.until_ready();
    let data_dir = node.data_dir().to_owned();
    node.terminate(Duration::from_secs(30));
    let other = dir.path().join("other");
    trow(&["cluster", "init", "--out", other.to_str().unwrap()]).expect(0);
    let refused = trow(&[
        "serve",
        "--data-dir",
        &data_dir,
        "--cluster-dir",
        other.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--peer-listen",
        "127.0.0.1:0",
        "--ops-listen",
        "127.0.0.1:0",
    ])
    .expect(1);
    assert!(
        refused.err.contains("another cluster") && refused.err.contains("--cluster-dir"),
        "{}",
        refused.err
    );
}

#[test]
fn data_comes_back_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::serve(dir.path(), &[]);
    node.until_ready();
    let before = trow_json(&node.with_server(&["cluster", "status", "--output", "json"]), 0);
    node.terminate(Duration::from_secs(30));
    let node = Node::serve(dir.path(), &[]);
    node.until_ready();
    node.cli(&["cluster", "wait", "--for", "healthy", "--timeout", "120s"]).expect(0);
    let after = trow_json(&node.with_server(&["cluster", "status", "--output", "json"]), 0);
    assert_eq!(before["cluster_id"], after["cluster_id"]);
    assert_eq!(before["members"][0]["id"], after["members"][0]["id"]);
    assert!(Path::new(node.data_dir()).join("VERSION").exists());
}

#[test]
fn dev_runs_three_nodes_that_agree_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), 3);
    let client = |node: usize| dev.field(node, "client");
    for (number, node) in dev.nodes.iter().enumerate() {
        assert_eq!(node["name"], format!("n{}", number + 1));
        for field in ["node_id", "client", "peer", "ops", "webhook", "data_dir"] {
            assert!(node[field].is_string(), "{field} of {node}");
        }
        let command = node["serve_command"].as_array().unwrap();
        assert!(command[0].as_str().unwrap().starts_with('/') && command.len() > 2, "{node}");
    }
    dev.cli(0, &["cluster", "wait", "--for", "settled", "--timeout", "120s"]).expect(0);

    let put = put_index(client(0), "a/b", "v1").unwrap();
    assert_eq!(put.status, 201, "{}", put.body);
    let got = ask(client(2), "GET", "/v2/a/b/manifests/v1", None).unwrap();
    assert_eq!((got.status, got.header("trow-log-id")), (200, put.header("trow-log-id")));
    assert_eq!(got.header("trow-node").as_deref(), Some("n3"));

    let statuses: Vec<_> = (0..3).map(|node| dev.status(node)).collect();
    for status in &statuses {
        assert_eq!(status["cluster_id"], statuses[0]["cluster_id"]);
        assert_eq!(status["members"].as_array().unwrap().len(), 3);
        assert!(status["members"].as_array().unwrap().iter().all(|member| member["role"] == "voter"));
    }

    // Without a quorum a node remembers, and says that it does.
    dev.kill(1);
    dev.kill(2);
    let stale = trow_json(&dev.with_server(0, &["cluster", "status", "--output", "json"]), 3);
    assert_eq!((&stale["quorum"], &stale["stale"]), (&false.into(), &true.into()));
    let states: Vec<_> =
        stale["members"].as_array().unwrap().iter().map(|member| member["state"].clone()).collect();
    assert_eq!(states, ["up", "down", "down"]);
    assert_eq!(ask(dev.field(0, "ops"), "GET", "/readyz", None).unwrap().status, 200);
    let tag = ask(client(0), "GET", "/v2/a/b/manifests/v1", None).unwrap();
    assert!(
        tag.status == 200 && tag.header("warning").unwrap().starts_with("299 - \"stale: no quorum since ")
    );
    dev.cli(0, &["cluster", "wait", "--for", "healthy", "--timeout", "1s"]).expect(1);
    dev.cli(0, &["cluster", "drain", "n3"]).expect(3);

    let ids: Vec<_> = dev.nodes.iter().map(|node| node["node_id"].clone()).collect();
    dev.terminate();
    let dev = Dev::start(dir.path(), 3);
    assert_eq!(ids, dev.nodes.iter().map(|node| node["node_id"].clone()).collect::<Vec<_>>());
    // Ready is not yet led: on a busy machine the first election may take longer than a read waits.
    dev.cli(1, &["cluster", "wait", "--for", "healthy", "--timeout", "120s"]).expect(0);
    let got = ask(dev.field(1, "client"), "GET", "/v2/a/b/manifests/v1", None).unwrap();
    assert_eq!((got.status, got.header("warning")), (200, None));
    dev.terminate();
}

#[test]
fn removed_node_joins_again_under_a_new_id() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), 3);
    dev.kill(2);
    // It may have led.
    dev.status(0);
    dev.cli(0, &["cluster", "remove", "n3"]).expect(0);
    let status = dev.status(1);
    assert_eq!(status["members"].as_array().unwrap().len(), 2);
    let _restarted = dev.restart(2);
    let id = until("the node to join again", || {
        let status = dev.status(0);
        let members = status["members"].as_array().unwrap();
        members.iter().find(|member| member["name"] == "n3").map(|member| member["id"].clone())
    });
    assert_ne!(id, dev.nodes[2]["node_id"]);
    dev.cli(0, &["cluster", "wait", "--for", "settled", "--timeout", "120s"]).expect(0);
}

#[test]
fn three_nodes_shrink_to_one_with_their_data() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), 3);
    let digests: Vec<String> =
        (0..20).map(|n| push_blob(dev.field(n % 3, "client"), "a/b", &format!("blob {n}"))).collect();
    // Leaders leave too: what leads now is the first to go.
    let status = dev.status(0);
    let first = status["leader"].as_str().unwrap().to_owned();
    let names = ["n1", "n2", "n3"];
    let mut stay = (0..3).filter(|node| names[*node] != first);
    let (last, second) = (stay.next().unwrap(), stay.next().unwrap());
    for leaver in [first.as_str(), names[second]] {
        dev.cli(last, &["cluster", "drain", leaver, "--timeout", "120s"]).expect(0);
    }
    dev.cli(last, &["cluster", "wait", "--for", "settled", "--timeout", "120s"]).expect(0);
    let status = dev.status(last);
    assert_eq!(status["members"].as_array().unwrap().len(), 1);
    assert_eq!(status["blobs"]["durable"], 20);
    for (n, digest) in digests.iter().enumerate() {
        let got = ask(dev.field(last, "client"), "GET", &format!("/v2/a/b/blobs/{digest}"), None).unwrap();
        assert_eq!((got.status, got.body), (200, format!("blob {n}")));
    }
}
