//! The webhook's listener on running nodes, met by a TLS client that knows a bundle and nothing else.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use crate::dev::Dev;
use crate::run::{Node, Run, trow, trow_json, until};

const SERVICE: &str = "trow.trow.svc";

/// A certificate and its key, PEM.
struct Pair {
    cert: String,
    key: String,
}

/// One request to the webhook at `address`, as `name`, of a client that trusts `bundle` alone; its status.
fn ask(address: &str, name: &'static str, bundle: &str, caller: Option<&Pair>) -> std::io::Result<u16> {
    let mut roots = RootCertStore::empty();
    CertificateDer::pem_slice_iter(bundle.as_bytes()).for_each(|one| roots.add(one.unwrap()).unwrap());
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let config = match caller {
        None => builder.with_no_client_auth(),
        Some(Pair { cert, key }) => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder
                .with_client_auth_cert(vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()], key)
                .unwrap()
        }
    };
    let tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(Duration::from_secs(60)))?;
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, tcp);
    let body = review("docker.io/library/fine:1").to_string();
    write!(
        stream,
        "POST /validate-image HTTP/1.1\r\nhost: trow\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let status = reply.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or(std::io::ErrorKind::InvalidData.into())
}

/// That the webhook completes the handshake and answers a review.
fn answers(address: &str, name: &'static str, bundle: &str) {
    assert_eq!(ask(address, name, bundle, None).unwrap(), 200, "{address} as {name}");
}

/// An API server's question about a Pod.
fn review(image: &str) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "namespace": "default",
            "operation": "CREATE",
            "userInfo": { "username": "admin" },
            "object": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": { "name": "p", "namespace": "default" },
                "spec": { "containers": [{ "name": "web", "image": image }] },
            },
        },
    })
}

/// What the webhook at `address` says of a Pod with this image: `None` if it may run, or why not.
fn verdict(address: &str, bundle: &str, image: &str) -> Option<String> {
    let trusted = reqwest::Certificate::from_pem_bundle(bundle.as_bytes()).unwrap();
    let work = async {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only(trusted);
        let client = client.timeout(Duration::from_secs(60)).build().unwrap();
        let url = format!("https://{address}/validate-image");
        let reply = client.post(url).json(&review(image)).send().await.unwrap();
        assert_eq!(reply.status(), 200);
        reply.json::<Value>().await.unwrap()
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(work);
    let response = &answer["response"];
    assert_eq!(response["uid"], review(image)["request"]["uid"]);
    match response["allowed"].as_bool() {
        Some(true) => None,
        _ => Some(response["status"]["message"].as_str().unwrap().to_owned()),
    }
}

const POLICY: &str = "version: 1\ndefault: deny\nallow:\n  - image: docker.io/library/fine\n";

#[test]
fn every_node_judges_by_the_policy_and_without_a_quorum_only_while_it_is_young() {
    let dir = tempfile::tempdir().unwrap();
    let staleness = Duration::from_secs(8);
    let dev = Dev::start_with(dir.path(), 3, &[("TROW_WEBHOOK_MAX_STALENESS", "8s")], &[]);
    let bundle = dev.cli(0, &["webhook", "ca"]).expect(0).out;
    let says = |node: usize, image: &str| verdict(dev.field(node, "webhook"), &bundle, image);
    assert_eq!(says(1, "evil:1"), None, "before the first policy everything is allowed");
    let file = dir.path().join("policy.yaml");
    std::fs::write(&file, POLICY).unwrap();
    dev.cli(2, &["policy", "set", file.to_str().unwrap()]).expect(0);
    for node in 0..3 {
        assert_eq!(says(node, "fine:1"), None, "n{}", node + 1);
        let why = says(node, "evil:1").expect("it counts on every node once it is set");
        assert!(
            why.starts_with("image \"docker.io/library/evil:1\" (container \"web\") denied by default"),
            "{why}"
        );
    }

    // The two others stand still: n1 knows the policy, and for how long it was not confirmed.
    let began = std::time::Instant::now();
    dev.pause(1);
    dev.pause(2);
    let (mut allowed, mut denied) = (0, String::new());
    until("the policy to be too old", || match says(0, "fine:1") {
        None => {
            allowed += 1;
            assert!(says(0, "evil:1").is_some());
            None
        }
        Some(why) => {
            denied = why;
            Some(())
        }
    });
    assert!(denied.contains("webhook.max_staleness"), "{denied}");
    assert!(allowed > 0, "it is judged by what is known here at first");
    assert!(began.elapsed() > staleness / 2, "denied after {:?}", began.elapsed());
    dev.resume(1);
    dev.resume(2);
    until("the quorum to be back", || says(0, "fine:1").is_none().then_some(()));
    assert!(says(0, "evil:1").is_some());
    dev.terminate();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn three_nodes_have_one_authority_and_a_later_one_has_it_too() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), 3);
    let bundle = dev.cli(0, &["webhook", "ca"]).expect(0).out;
    assert_eq!(bundle.matches("-----BEGIN CERTIFICATE-----").count(), 1, "{bundle}");
    let stranger = ca().0;
    for node in 0..3 {
        assert_eq!(dev.cli(node, &["webhook", "ca"]).expect(0).out, bundle);
        let address = dev.field(node, "webhook");
        for name in [SERVICE, "localhost", "127.0.0.1"] {
            answers(address, name, &bundle);
        }
        for name in ["n1", "n3"] {
            until("the names of all members", || ask(address, name, &bundle, None).ok());
        }
        assert!(ask(address, "trow.example.org", &bundle, None).is_err(), "it has no such name");
        assert!(ask(address, SERVICE, &stranger, None).is_err(), "another authority's bundle");
    }
    let shown = trow_json(&dev.with_server(1, &["webhook", "ca", "--output", "json"]), 0);
    assert_eq!((&shown["source"], &shown["pem"]), (&"own".into(), &bundle.as_str().into()));
    assert!(shown["certificates"][0]["not_after"].as_str().unwrap().ends_with('Z'), "{shown}");

    dev.kill(1);
    answers(dev.field(0, "webhook"), SERVICE, &bundle);
    dev.terminate();

    // All of them again, and one more.
    let dev = Dev::start(dir.path(), 4);
    for node in 0..4 {
        let address = dev.field(node, "webhook");
        assert_eq!(dev.cli(node, &["webhook", "ca"]).expect(0).out, bundle);
        answers(address, SERVICE, &bundle);
        until("the name of the new member", || ask(address, "n4", &bundle, None).ok());
    }
    let another = dev.cli(3, &["webhook", "ca", "--replace"]).expect(0).out;
    assert_ne!(another, bundle);
    for node in 0..4 {
        let address = dev.field(node, "webhook");
        until("a leaf of the other authority", || ask(address, SERVICE, &another, None).ok());
        assert!(ask(address, SERVICE, &bundle, None).is_err());
    }
    dev.terminate();

    // The key is in the state of each node, and in plain nowhere.
    for file in files(&dir.path().join("dev")) {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        let may = ["ca.key", "node.key"].iter().any(|name| file.ends_with(name));
        assert!(may || !text.contains("PRIVATE KEY"), "{}", file.display());
    }
}

/// A CA, and a certificate of it for servers and callers.
fn ca() -> (String, Pair) {
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let cert = ca.self_signed(&ca_key).unwrap().pem();
    let mut params = CertificateParams::new(vec![SERVICE.to_owned()]).unwrap();
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = params.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    (cert, Pair { cert: leaf.pem(), key: key.serialize_pem() })
}

#[test]
fn files_take_the_place_of_the_own_certificate_and_only_known_callers_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let write = |pair: &Pair, authority: &str| {
        std::fs::write(at("tls.crt"), format!("{}{authority}", pair.cert)).unwrap();
        std::fs::write(at("tls.key"), &pair.key).unwrap();
    };
    let ((old, first), (new, second), (callers, caller)) = (ca(), ca(), ca());
    write(&first, "");
    std::fs::write(at("callers.crt"), &callers).unwrap();
    let settings = format!(
        "[webhook]\ntls.cert = {:?}\ntls.key = {:?}\nclient_ca = {:?}\n",
        at("tls.crt"),
        at("tls.key"),
        at("callers.crt")
    );
    std::fs::write(at("trow.toml"), settings).unwrap();
    let config = at("trow.toml").to_str().unwrap().to_owned();
    let node = Node::serve(dir.path(), &["--config", &config, "--webhook-listen", "127.0.0.1:0"]);
    node.until_ready();
    let address = node.webhook();
    assert_eq!(ask(address, SERVICE, &old, Some(&caller)).unwrap(), 200);
    assert!(ask(address, SERVICE, &old, None).is_err(), "a caller without a certificate");
    assert!(ask(address, SERVICE, &old, Some(&second)).is_err(), "a caller with one of another CA");
    let refused = node.cli(&["webhook", "ca"]).expect(1);
    assert!(refused.err.contains("put the CA that signed it into caBundle"), "{}", refused.err);
    node.cli(&["webhook", "ca", "--replace"]).expect(1);
    let expires = |metrics: &str| {
        let line = metrics.lines().find(|line| line.starts_with("trow_webhook_certificate_expiry")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(expires(&node.ops("/metrics").body) > 1e9);

    write(&second, &new);
    until("the new certificate to be served", || ask(address, SERVICE, &new, Some(&caller)).ok());
    assert!(ask(address, SERVICE, &old, Some(&caller)).is_err());
    assert_eq!(node.cli(&["webhook", "ca"]).expect(0).out.trim(), new.trim());
    assert!(!node.log_text().contains("PRIVATE KEY"));
    node.terminate(Duration::from_secs(30));
}

#[test]
fn a_node_without_a_webhook_says_so_and_bad_settings_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::serve(dir.path(), &[]);
    node.until_ready();
    let refused = node.cli(&["webhook", "ca"]).expect(1);
    assert!(refused.err.contains("set webhook.listen"), "{}", refused.err);
    assert_eq!(node.admin("GET", "webhook/ca", None).status, 401);
    assert_eq!(node.admin("DELETE", "webhook/ca", Some(node.token())).status, 405);
    trow(&["webhook", "ca", "--server", "http://127.0.0.1:1"]).expect(3);
    let bad = "[webhook]\nservice = \"trow\"\ntls.cert = \"nowhere\"\nclient_ca = \"nowhere\"\nclient_names = [\"\"]\nmax_staleness = \"0s\"\n";
    std::fs::write(dir.path().join("bad.toml"), bad).unwrap();
    let refused: Run =
        trow(&["serve", "--check", "--config", dir.path().join("bad.toml").to_str().unwrap()]).expect(2);
    for part in [
        "webhook.service",
        "webhook.tls.key",
        "webhook.client_ca",
        "webhook.client_names",
        "webhook.max_staleness",
    ] {
        assert!(refused.err.contains(part), "{part} is missing in:\n{}", refused.err);
    }
}
