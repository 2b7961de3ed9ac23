//! Which images may run, set and asked for by the administrator.

use std::path::Path;

use crate::dev::Dev;
use crate::run::{Node, ask, put_index, trow, trow_json};

const POLICY: &str = "\
version: 1
default: deny
allow:
  - image: quay.io/**
  - image: registry.example.com/**
    require: [exists]
namespaces:
  - match: [free]
    default: allow
";

fn write(dir: &Path, name: &str, text: &str) -> String {
    let file = dir.join(name);
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_policy_is_set_read_compared_and_asked() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "policy.yaml", POLICY);
    let node = Node::serve(dir.path(), &[]);
    node.until_ready();
    let json = |arguments: &[&str], code| {
        trow_json(&node.with_server(&[arguments, &["--output", "json"]].concat()), code)
    };

    // Before the first one everything is allowed, and whoever asks is told.
    assert!(node.cli(&["policy", "get"]).expect(0).out.contains("no policy is set"));
    assert_eq!(json(&["policy", "get"], 0)["revision"], serde_json::Value::Null);
    assert!(node.cli(&["cluster", "status"]).expect(0).out.contains("no policy is set"));
    assert_eq!(json(&["cluster", "status"], 0)["policy_revision"], serde_json::Value::Null);
    assert!(node.cli(&["policy", "explain", "evil.example/x"]).expect(0).out.contains("no policy"));

    let set = json(&["policy", "set", &file, "--revision", "0"], 0);
    let revision = set["revision"].as_u64().unwrap();
    assert_eq!((&set["converted"], &set["warnings"]), (&false.into(), &serde_json::json!([])));
    assert_eq!(json(&["cluster", "status"], 0)["policy_revision"], revision);
    let printed = node.cli(&["policy", "get"]).expect(0).out;
    assert_eq!(printed, format!("# revision: {revision}\n{POLICY}"));

    // What is printed may be set again, over the revision that it has and over no other.
    let again = write(dir.path(), "again.yaml", &printed);
    assert_eq!(node.cli(&["policy", "diff", &again]).expect(0).out, "");
    let late = node.cli(&["policy", "set", &again, "--revision", "0"]).expect(1);
    assert!(late.err.contains(&format!("revision {revision}")), "{}", late.err);
    let kept = json(&["policy", "set", &again, "--revision", &revision.to_string()], 0);
    assert_eq!((&kept["revision"], &kept["log_id"]), (&revision.into(), &revision.into()), "nothing changes");
    let changed = write(dir.path(), "changed.yaml", &POLICY.replace("default: deny", "default: allow"));
    node.cli(&["policy", "set", &changed, "--revision", &revision.to_string()]).expect(0);
    let late = node.cli(&["policy", "set", &again, "--revision", &revision.to_string()]).expect(1);
    assert!(late.err.contains("look at what changed"), "{}", late.err);
    node.cli(&["policy", "set", &again]).expect(0);
    assert_eq!(node.cli(&["policy", "diff", &changed]).expect(0).out, "-default: deny\n+default: allow\n");
    assert_eq!(json(&["policy", "get"], 0)["document"], POLICY);

    // Decisions: of the server, by the same rules as of a file.
    for with in [&[][..], &["--file", &file]] {
        let test = |images: &[&str]| node.cli(&[&["policy", "test"], images, with].concat());
        test(&["quay.io/a", "quay.io/b:1"]).expect(0);
        let denied = test(&["quay.io/a", "nginx"]).expect(1);
        assert!(denied.err.contains("1 of 2 images denied: nginx"), "{}", denied.err);
        test(&["nginx", "--namespace", "free"]).expect(0);
        test(&["NGINX", "--namespace", "free"]).expect(1);
    }
    // What a rule requires is looked up by a server, and named without one.
    let ours = format!("{}/app:1", node.client());
    let rule = format!("version: 1\nallow:\n  - image: {}/**\n    require: [exists]\n", node.client());
    let required = write(dir.path(), "required.yaml", &rule);
    let offline = trow(&["policy", "test", "--file", &required, &ours]).expect(0);
    assert!(offline.out.contains("if exists"), "{}", offline.out);
    let asked = ["policy", "test", "--file", &required, &ours, "--output", "json"];
    let offline = trow_json(&asked.map(str::to_owned), 0);
    let offline = &offline["decisions"][0];
    assert_eq!(
        (&offline["why"], &offline["unchecked"]),
        (&"if exists".into(), &serde_json::json!(["exists"]))
    );
    assert!(offline["message"].as_str().unwrap().ends_with(": if exists"), "{offline}");
    node.cli(&["policy", "set", &required]).expect(0);
    let missing = node.cli(&["policy", "test", &ours]).expect(1);
    assert!(missing.out.contains("there is no such image"), "{}", missing.out);
    assert_eq!(put_index(node.client(), "app", "1").unwrap().status, 201);
    node.cli(&["policy", "test", &ours]).expect(0);
    node.cli(&["policy", "set", &file]).expect(0);

    let explained = json(&["policy", "explain", "nginx:1"], 0);
    let decision = &explained["decisions"][0];
    assert_eq!((&decision["verdict"], &decision["rule"]), (&"deny".into(), &"default".into()));
    assert_eq!(decision["name"], "docker.io/library/nginx:1");
    let message = decision["message"].as_str().unwrap();
    assert!(message.starts_with("image \"docker.io/library/nginx:1\" denied by default: "), "{message}");
    let explained = node.cli(&["policy", "explain", "quay.io/a"]).expect(0).out;
    assert!(
        explained.contains("verdict    allow") && explained.contains("allow[0] \"quay.io/**\""),
        "{explained}"
    );
}

#[test]
fn what_is_wrong_with_a_policy_is_named_and_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::serve(dir.path(), &[]);
    node.until_ready();
    let wrong = write(dir.path(), "wrong.yaml", "version: 1\ndefalt: deny\nallow:\n  - image: A/b\n");
    let offline = trow(&["policy", "test", "--file", &wrong, "nginx"]).expect(2);
    node.cli(&["policy", "diff", &wrong]).expect(2);
    for said in [node.cli(&["policy", "set", &wrong]).expect(1).err, offline.err] {
        assert!(said.contains("line 2, column 1: defalt: "), "{said}");
        assert!(said.contains("line 4, column 12: allow[0].image: "), "{said}");
    }
    assert!(node.cli(&["policy", "get"]).expect(0).out.contains("no policy is set"));

    let odd = write(dir.path(), "odd.yaml", "version: 1\ndefault: deny\nallow: [{image: nginx}]\n");
    let said = node.cli(&["policy", "set", &odd]).expect(0).err;
    assert!(said.contains("warning: allow[0] \"nginx\" never matches"), "{said}");

    let old = write(
        dir.path(),
        "old.yaml",
        "image_validation:\n  default: Deny\n  allow: [quay.io/]\n  deny: []\n",
    );
    assert!(node.cli(&["policy", "set", &old]).expect(0).out.contains("converted from image_validation"));
    let converted = trow(&["policy", "convert", &old]).expect(0).out;
    assert!(node.cli(&["policy", "get"]).expect(0).out.ends_with(&converted));
    assert_eq!(node.cli(&["policy", "diff", &old]).expect(0).out, "", "compared is what would be set");
    trow(&["policy", "convert", &odd]).expect(1);

    let large = write(dir.path(), "large.yaml", &format!("version: 1\n#{}\n", "x".repeat(1 << 20)));
    let said = node.cli(&["policy", "set", &large]).expect(1).err;
    assert!(said.contains("a policy has at most 1048576 bytes"), "{said}");

    trow(&["policy", "set", "/nowhere/policy.yaml"]).expect(2);
    trow(&["policy", "get", "--server", "http://127.0.0.1:1"]).expect(3);
    assert_eq!(ask(node.client(), "GET", "/-/trow/v1/policy", None).unwrap().status, 401);
    assert_eq!(ask(node.client(), "PUT", "/-/trow/v1/policy", None).unwrap().status, 401);
}

#[test]
fn every_node_decides_by_a_policy_once_it_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), 3);
    for round in 0..5 {
        let file =
            write(dir.path(), "policy.yaml", &format!("version: 1\ndeny: [{{image: a.example/r{round}}}]\n"));
        dev.cli(round % 3, &["policy", "set", &file]).expect(0);
        for node in 0..3 {
            let said = dev.cli(node, &["policy", "explain", &format!("a.example/r{round}:1")]).expect(0).out;
            assert!(
                said.contains(&format!("deny[0] \"a.example/r{round}\"")),
                "round {round}, node {node}: {said}"
            );
        }
    }
}
