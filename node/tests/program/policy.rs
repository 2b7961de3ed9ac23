//! Which images may run, set and asked for by the administrator.

use std::path::Path;

use serde_json::json;

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
        (&"if exists: this needs the registry".into(), &serde_json::json!(["exists"]))
    );
    assert!(
        offline["message"].as_str().unwrap().ends_with(": if exists: this needs the registry"),
        "{offline}"
    );
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
    // Programs are told as well, each with the code that people see.
    let as_json = ["--output", "json"];
    let set = node.with_server(&[&["policy", "set", &wrong], &as_json[..]].concat());
    let diff = node.with_server(&[&["policy", "diff", &wrong], &as_json[..]].concat());
    let test = ["policy", "test", "--file", &wrong, "nginx", "--output", "json"].map(str::to_owned);
    for (typed, code) in [(&set[..], 1), (&diff[..], 2), (&test[..], 2)] {
        let said = trow_json(typed, code);
        let errors = said["errors"].as_array().unwrap();
        let places = errors.iter().map(|error| json!([error["field"], error["line"], error["column"]]));
        let places: Vec<_> = places.collect();
        assert_eq!(places, [json!(["defalt", 2, 1]), json!(["allow[0].image", 4, 12])], "{typed:?}");
        assert!(errors[0]["why"].as_str().unwrap().starts_with("there is no such field"), "{said}");
    }

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
    let late = node.with_server(&[&["policy", "set", &odd, "--revision", "1"], &as_json[..]].concat());
    let late = &trow_json(&late, 1)["errors"][0];
    assert!(late["line"].is_null() && late["why"].as_str().unwrap().contains("not 1"), "{late}");

    let large = write(dir.path(), "large.yaml", &format!("version: 1\n#{}\n", "x".repeat(1 << 20)));
    let said = node.cli(&["policy", "set", &large]).expect(1).err;
    assert!(said.contains("a policy has at most 1048576 bytes"), "{said}");

    trow(&["policy", "set", "/nowhere/policy.yaml"]).expect(2);
    trow(&["policy", "get", "--server", "http://127.0.0.1:1"]).expect(3);
    assert_eq!(ask(node.client(), "GET", "/-/trow/v1/policy", None).unwrap().status, 401);
    assert_eq!(ask(node.client(), "PUT", "/-/trow/v1/policy", None).unwrap().status, 401);
}

#[test]
fn offline_an_image_is_decided_about_as_the_cluster_does() {
    let dir = tempfile::tempdir().unwrap();
    let policy = "version: 1\ndefault: deny\nallow:\n  - image: docker.io/library/nginx\n  - image: trow.test/**\n    \
                  require: [exists, resolves]\ndeny: [{image: quay.io/**}]\n";
    let policy = write(dir.path(), "policy.yaml", policy);
    // Of a machine that has these files.
    let config = "[server]\nhostnames = [\"trow.test\", \"trow.test:5000\"]\ntls.cert = \"/nowhere/a\"\ntls.key = \"/nowhere/b\"\n[prefixes]\n\
                  hub = \"docker.io\"\n";
    let config = write(dir.path(), "trow.toml", config);
    let test =
        |more: &[&str], code| trow(&[&["policy", "test", "--file", &policy], more].concat()).expect(code);
    let known = ["--config", &config];

    for (image, unknown, code) in [
        ("trow.test/hub/nginx", 0, 0),
        ("trow.test:5000/f/docker.io/library/nginx", 1, 0),
        ("trow.test/f/quay.io/a", 0, 1),
    ] {
        // Without its names, an image of this registry is somebody else's.
        test(&[image], unknown);
        test(&[&[image], &known[..]].concat(), code);
    }
    test(&["trow.test/f/quay.io/a", "--hostname", "trow.test"], 1);
    test(&["10.0.0.1:5000/f/docker.io/library/nginx", "--hostname", "10.0.0.1:5000", "--hostname", "b"], 0);

    // What only the registry knows is named, or stated.
    let ours = "trow.test/app:1";
    let needed = test(&[ours], 0).out;
    assert!(needed.contains("if exists, resolves: this needs the registry"), "{needed}");
    test(&[ours, "--assume", "exists,resolves"], 0);
    let missing = test(&[ours, "--assume", "exists"], 1).out;
    assert!(missing.contains("its tag 1 is not there"), "{missing}");
    assert!(test(&[ours, "--assume", "none"], 1).out.contains("there is no such image"));
    let unknown = test(&[ours, "--assume", "signedBy=release"], 2).err;
    assert!(unknown.contains("the policy has no such key"), "{unknown}");
    test(&[ours, "--assume", "exist"], 2);

    let misspelt = write(dir.path(), "misspelt.toml", "[server]\nhostname = [\"a\"]\n");
    assert!(test(&[ours, "--config", &misspelt], 2).err.contains("there is no such setting"));
    let told = trow(&["policy", "test", ours, "--config", &config]).expect(2);
    assert!(told.err.contains("--file"), "{}", told.err);
}

#[test]
fn every_node_decides_by_a_policy_once_it_is_set_and_remembers_it_without_a_quorum() {
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
    dev.kill(1);
    dev.kill(2);
    remembers(&dev, dir.path());
}

/// The first node, alone, says what it knows of the policy, and that it may not be so any more.
fn remembers(dev: &Dev, dir: &Path) {
    let other = write(dir, "other.yaml", "version: 1\ndefault: allow\n");
    let asked = [
        &["policy", "get"][..],
        &["policy", "diff", &other],
        &["policy", "test", "a.example/x"],
        &["policy", "explain", "a.example/r4:1"],
    ];
    // Each waits for a quorum; they do so at the same time.
    let unset = std::thread::scope(|scope| {
        for asked in asked {
            scope.spawn(move || {
                let told = dev.cli(0, &[asked, &["--output", "json"]].concat()).expect(3);
                let stale: serde_json::Value = serde_json::from_str(&told.out).unwrap();
                assert_eq!((&stale["stale"], stale["revision"].is_u64()), (&true.into(), true), "{stale}");
                assert!(told.err.contains("no quorum"), "{asked:?}: {}", told.err);
            });
        }
        scope.spawn(|| {
            let printed = dev.cli(0, &["policy", "get"]).expect(3).out;
            let first = printed.lines().next().unwrap();
            assert!(first.starts_with("# revision: ") && first.ends_with(", stale: no quorum confirmed it"));
            assert!(printed.ends_with("a.example/r4}]\n"), "{printed}");
        });
        dev.cli(0, &["policy", "set", &other]).expect(3).err
    });
    // It may have been sent to a leader that died: that it is not known, or not made, is said by nodes' names.
    assert!(
        unset.contains("the policy was not set: ")
            || unset.contains("nobody knows whether the policy was set: "),
        "{unset}"
    );
    for node in &dev.nodes {
        assert!(!unset.contains(node["node_id"].as_str().unwrap()), "{unset}");
    }
}
