//! Who may, on the running program: users, their rights, certificates, and what is refused at
//! the start.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::run::{Node, Reply, Run, ask_with, trow, until};

/// alice with the password wonderland, then looking-glass; made by Apache's `htpasswd -nbB -C 4`.
const WONDERLAND: &str = "alice:$2y$04$VvDsMnW0.oBqz.3G9rj.cuKX4PVTlKJJUH3EaYgHislgv61kOEmU.";
const LOOKING_GLASS: &str = "alice:$2y$04$Io9aVTOuKyOUCED/3FVy4.PABpqMmFBhbPJFgwDPi54TNUFYMz/xu";

const INDEX: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
const INDEX_TYPE: &str = "Content-Type: application/vnd.oci.image.index.v1+json\r\n";

fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

/// Asks with further header lines.
fn request(node: &Node, method: &str, path: &str, headers: &str) -> Reply {
    ask_with(node.client(), method, path, headers, "").unwrap()
}

fn push(node: &Node, tag: &str, headers: &str) -> u16 {
    let headers = format!("{headers}{INDEX_TYPE}");
    ask_with(node.client(), "PUT", &format!("/v2/a/b/manifests/{tag}"), &headers, INDEX).unwrap().status
}

/// Writes a configuration; its path.
fn configuration(dir: &Path, text: &str) -> String {
    let file = dir.join("trow.toml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// A node with one user, and further lines in `[auth]`.
fn with_users(dir: &Path, more: &str) -> (Node, PathBuf) {
    let users = dir.join("users");
    std::fs::write(&users, format!("{WONDERLAND}\n")).unwrap();
    let file = configuration(dir, &format!("[auth]\nhtpasswd = {users:?}\n{more}"));
    let node = Node::serve(dir, &["--config", &file]);
    node.until_ready();
    (node, users)
}

#[test]
fn beyond_loopback_takes_users_or_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let serve = |more: &[&str]| -> Run {
        let data = dir.path().join("data");
        let listen = ["serve", "--listen", "0.0.0.0:0", "--data-dir", data.to_str().unwrap()];
        trow(&[&listen[..], more].concat())
    };
    // Not just the check: the program does not start.
    for more in [&[][..], &["--check"]] {
        let refused = serve(more).expect(2);
        assert!(refused.err.contains("auth.anonymous_push"), "{}", refused.err);
    }
    assert!(!dir.path().join("data").exists());
    let users = dir.path().join("users");
    std::fs::write(&users, format!("{WONDERLAND}\n")).unwrap();
    for auth in [format!("htpasswd = {users:?}"), "anonymous_push = true".to_owned()] {
        let file = configuration(dir.path(), &format!("[auth]\n{auth}\n"));
        serve(&["--check", "--config", &file]).expect(0);
    }
}

#[test]
fn bad_files_are_named_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (users, cert) = (dir.path().join("users"), dir.path().join("cert"));
    let hash = WONDERLAND.strip_prefix("alice:").unwrap();
    std::fs::write(&users, format!("{WONDERLAND}\nbob:{{SHA}}c2VjcmV0\nadmin:{hash}\n")).unwrap();
    std::fs::write(&cert, "no certificate").unwrap();
    let text = format!(
        "[auth]\nhtpasswd = {users:?}\n[server]\ntls.cert = {cert:?}\ntls.key = \"/nowhere\"\n[raft]\nheartbeat = \"x\"\n"
    );
    let file = configuration(dir.path(), &text);
    for more in [&[][..], &["--check"]] {
        let refused = trow(&[&["serve", "--config", &file][..], more].concat()).expect(2);
        for part in [
            "users line 2: ",
            "users line 3: ",
            "server.tls.cert",
            "server.tls.key",
            "/nowhere",
            "raft.heartbeat",
        ] {
            assert!(refused.err.contains(part), "{part} is missing in:\n{}", refused.err);
        }
        for secret in ["c2VjcmV0", hash] {
            assert!(!refused.err.contains(secret), "{}", refused.err);
        }
    }
}

#[test]
fn secrets_that_are_none_refuse_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = dir.path().join("cluster");
    trow(&["cluster", "init", "--out", cluster.to_str().unwrap()]).expect(0);
    for (name, secret) in [("admin.token", ""), ("admin.token", "admin\n"), ("join.secret", "  \n")] {
        let kept = std::fs::read(cluster.join(name)).unwrap();
        std::fs::write(cluster.join(name), secret).unwrap();
        let data = dir.path().join("data");
        let refused = trow(
            &[
                &["serve", "--cluster-dir", cluster.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]
                    [..],
                &["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"],
            ]
            .concat(),
        )
        .expect(1);
        assert!(refused.err.contains(name), "{}", refused.err);
        std::fs::write(cluster.join(name), kept).unwrap();
    }
}

#[test]
fn users_push_the_administrator_deletes_and_nobody_else_gets_in() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = with_users(dir.path(), "anonymous_pull = false\n");
    let alice = basic("alice", "wonderland");
    let admin = format!("Authorization: Bearer {}\r\n", node.token());
    assert_eq!(push(&node, "v1", ""), 401);
    assert_eq!(push(&node, "v1", &basic("alice", "wrong")), 401);
    assert_eq!(push(&node, "v1", &alice), 201);
    for path in ["/v2/", "/v2/_catalog", "/v2/a/b/tags/list", "/v2/a/b/manifests/v1", "/v2/a/c/manifests/v1"]
    {
        let anonymous = request(&node, "GET", path, "");
        assert_eq!(anonymous.status, 401, "{path}");
        assert!(anonymous.header("www-authenticate").unwrap().starts_with("Basic realm="), "{path}");
    }
    assert_eq!(request(&node, "GET", "/v2/a/b/manifests/v1", &alice).status, 200);

    // The administration and what is internal.
    for path in ["status", "", "no/such/path"] {
        let path = format!("/-/trow/v1/{path}");
        assert_eq!(request(&node, "GET", &path, "").status, 401, "{path}");
        assert_eq!(request(&node, "GET", &path, &basic("admin", "wonderland")).status, 401, "{path}");
        assert_eq!(request(&node, "GET", &path, &alice).status, 401, "{path}");
    }
    assert_eq!(request(&node, "GET", "/-/trow/v1/status", &admin).status, 200);
    assert_eq!(request(&node, "GET", "/-/trow/v1/status", &basic("admin", node.token())).status, 200);
    for (method, path) in [
        ("POST", "/trow.raft.Raft/Vote"),
        ("POST", "/trow.peer.Control/Hello"),
        ("GET", "/metrics"),
        ("GET", "/healthz"),
        ("GET", "/blobs/sha256/00"),
        ("PUT", "/uploads/0"),
    ] {
        assert_eq!(request(&node, method, path, &admin).status, 404, "{path}");
    }

    for (headers, status) in [("", 401), (alice.as_str(), 403), (admin.as_str(), 202)] {
        assert_eq!(request(&node, "DELETE", "/v2/a/b/manifests/v1", headers).status, status);
    }
}

#[test]
fn users_are_read_again_and_a_broken_file_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (node, users) = with_users(dir.path(), "");
    let (old, new) = (basic("alice", "wonderland"), basic("alice", "looking-glass"));
    assert_eq!((push(&node, "v1", &old), push(&node, "v1", &new)), (201, 401));
    // A rename over it, as an editor does it.
    let fresh = dir.path().join("fresh");
    std::fs::write(&fresh, format!("{LOOKING_GLASS}\n")).unwrap();
    std::fs::rename(&fresh, &users).unwrap();
    until("the new password to count", || (push(&node, "v1", &new) == 201).then_some(()));
    assert_eq!(push(&node, "v1", &old), 401);

    std::fs::write(&users, "# broken\nalice:{SHA}c2VjcmV0\n").unwrap();
    let said = until("the broken file to be noticed", || {
        node.log().into_iter().find(|line| line["level"] == "ERROR")
    });
    assert!(said.to_string().contains("users line 2: "), "{said}");
    assert!(!said.to_string().contains("c2VjcmV0"), "{said}");
    assert_eq!((push(&node, "v1", &new), push(&node, "v1", &old)), (201, 401));

    // As Kubernetes replaces a mounted Secret: a link to a directory is replaced.
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("..1")).unwrap();
    std::fs::write(at("..1").join("users"), format!("{WONDERLAND}\n")).unwrap();
    symlink("..1", at("..data")).unwrap();
    symlink("..data/users", at("link")).unwrap();
    std::fs::rename(at("link"), &users).unwrap();
    until("the link to be followed", || (push(&node, "v1", &old) == 201).then_some(()));
    std::fs::create_dir(at("..2")).unwrap();
    std::fs::write(at("..2").join("users"), format!("{LOOKING_GLASS}\n")).unwrap();
    symlink("..2", at("..tmp")).unwrap();
    std::fs::rename(at("..tmp"), at("..data")).unwrap();
    until("the other directory to count", || (push(&node, "v1", &new) == 201).then_some(()));
    assert_eq!(push(&node, "v1", &old), 401);
}

#[test]
fn log_lines_name_the_caller_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users");
    std::fs::write(&users, format!("{WONDERLAND}\n")).unwrap();
    let file = configuration(dir.path(), &format!("[auth]\nhtpasswd = {users:?}\n"));
    let node = Node::serve(dir.path(), &["--config", &file, "--log", "trace"]);
    node.until_ready();
    for headers in [basic("alice", "wonderland"), basic("alice", "canary-wrong")] {
        push(&node, "v1", &headers);
    }
    request(&node, "GET", "/-/trow/v1/status", &format!("Authorization: Bearer {}\r\n", node.token()));
    for caller in ["alice", "admin"] {
        until("the answered request to be logged", || {
            let of =
                |line: &serde_json::Value| line["message"] == "answered" && line["span"]["caller"] == caller;
            node.log().iter().any(of).then_some(())
        });
    }
    let encoded = |user: &str, password: &str| BASE64_STANDARD.encode(format!("{user}:{password}"));
    let text = node.log_text();
    for secret in [
        "wonderland",
        "canary-wrong",
        &encoded("alice", "wonderland"),
        &encoded("alice", "canary-wrong"),
        node.token(),
        "$2y$",
    ] {
        assert!(!text.contains(secret), "the log has {secret}");
    }
}

/// Writes a certificate of a new CA for 127.0.0.1 and its key; the CA's certificate.
fn write_pair(dir: &Path) -> Vec<u8> {
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_cert = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let cert =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(dir.join("tls.crt"), cert.pem()).unwrap();
    std::fs::write(dir.join("tls.key"), key.serialize_pem()).unwrap();
    ca_cert.pem().into_bytes()
}

#[test]
fn commands_trust_the_ca_they_are_given_and_certificates_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("ca1"), write_pair(dir.path())).unwrap();
    let node = Node::serve(dir.path(), &["--tls-cert", &at("tls.crt"), "--tls-key", &at("tls.key")]);
    node.until_ready();
    let server = format!("https://{}", node.client());
    let status = |ca: &[&str]| {
        let named = ["cluster", "status", "--server", &server, "--token-file", node.token_file()];
        trow(&[&named[..], ca].concat())
    };
    status(&["--ca-file", &at("ca1")]).expect(0);
    status(&[]).expect(3);
    let expiry = node.ops("/metrics").body;
    assert!(expiry.contains("\ntrow_tls_certificate_expiry_timestamp_seconds "), "{expiry}");

    std::fs::write(at("ca2"), write_pair(dir.path())).unwrap();
    until("the new certificate to be served", || {
        status(&["--ca-file", &at("ca2")]).succeeded().then_some(())
    });
    status(&["--ca-file", &at("ca1")]).expect(3);
    node.terminate(Duration::from_secs(30));
}
