//! Real TLS through the real listener.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

const BOUND: Duration = Duration::from_secs(20);

/// A certificate for localhost and its key, PEM.
struct Made {
    der: CertificateDer<'static>,
    cert: String,
    key: String,
}

fn made() -> Made {
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    Made { der: cert.der().clone(), cert: cert.pem(), key: key.serialize_pem() }
}

fn files(dir: &Path) -> Tls {
    Tls { cert: dir.join("tls.crt"), key: dir.join("tls.key"), of: Section::Server }
}

fn write(tls: &Tls, cert: &str, key: &str) {
    std::fs::write(&tls.cert, cert).unwrap();
    std::fs::write(&tls.key, key).unwrap();
}

struct Server {
    address: SocketAddr,
    closing: CancellationToken,
}

async fn start(tls: &Tls) -> Server {
    start_with(tls, crate::listener::Limits::default()).await
}

async fn start_with(tls: &Tls, limits: crate::listener::Limits) -> Server {
    let closing = CancellationToken::new();
    let config = serve(tls, closing.clone()).unwrap().config;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(|| async { "here" }));
    tokio::spawn(crate::listener::serve(listener, router, Some(config.into()), limits, closing.clone()));
    Server { address, closing }
}

impl Server {
    /// A connection of a client that trusts these certificates.
    async fn connect(&self, trusted: &[&Made], alpn: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        trusted.iter().for_each(|made| roots.add(made.der.clone()).unwrap());
        let provider = Arc::new(default_provider());
        let builder =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let tcp = TcpStream::connect(self.address).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), tcp).await
    }

    /// Connects until the certificate served is this one.
    async fn until_serves(&self, expected: &Made, trusted: &[&Made]) {
        let end = Instant::now() + BOUND;
        loop {
            let stream = self.connect(trusted, &[]).await.unwrap();
            if stream.get_ref().1.peer_certificates().unwrap()[0] == expected.der {
                return;
            }
            assert!(Instant::now() < end, "the certificate was not replaced");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

async fn ask(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let (mut reply, mut piece) = (Vec::new(), [0; 1024]);
    while !reply.ends_with(b"here") {
        let read = tokio::time::timeout(BOUND, stream.read(&mut piece)).await.unwrap().unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&reply));
        reply.extend_from_slice(&piece[..read]);
    }
}

#[tokio::test]
async fn new_connections_see_the_new_certificate_and_old_ones_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, old, new) = (files(dir.path()), made(), made());
    write(&tls, &old.cert, &old.key);
    let server = start(&tls).await;
    let mut kept = server.connect(&[&old], &["http/1.1"]).await.unwrap();
    ask(&mut kept).await;
    write(&tls, &new.cert, &new.key);
    server.until_serves(&new, &[&old, &new]).await;
    ask(&mut kept).await;
    // A client that does not know the new one notices.
    assert!(server.connect(&[&old], &[]).await.is_err());
}

#[tokio::test]
async fn half_a_pair_is_not_served_and_its_other_half_completes_it() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, old, new) = (files(dir.path()), made(), made());
    write(&tls, &old.cert, &old.key);
    let server = start(&tls).await;
    std::fs::write(&tls.cert, &new.cert).unwrap();
    // Longer than it takes to notice.
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        server.connect(&[&old], &[]).await.expect("the old certificate is served");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    std::fs::write(&tls.key, &new.key).unwrap();
    server.until_serves(&new, &[&old, &new]).await;
    // What is no certificate at all, or is gone, changes nothing either.
    std::fs::write(&tls.cert, "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
    std::fs::remove_file(&tls.key).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    server.connect(&[&new], &[]).await.expect("the last good certificate is served");
}

#[tokio::test]
async fn both_versions_of_http_are_offered() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, made) = (files(dir.path()), made());
    write(&tls, &made.cert, &made.key);
    let server = start(&tls).await;
    for (offered, chosen) in [(["h2", "http/1.1"], "h2"), (["x", "http/1.1"], "http/1.1")] {
        let stream = server.connect(&[&made], &offered).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(chosen.as_bytes()));
    }
}

#[tokio::test]
async fn versions_before_tls_1_2_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, made) = (files(dir.path()), made());
    write(&tls, &made.cert, &made.key);
    let server = start(&tls).await;
    for (version, expected) in [(3, &[22][..]), (2, &[21, 3, 3, 0, 2, 2, 70])] {
        let mut tcp = TcpStream::connect(server.address).await.unwrap();
        tcp.write_all(&client_hello(version)).await.unwrap();
        let mut reply = vec![0; expected.len()];
        tokio::time::timeout(BOUND, tcp.read_exact(&mut reply)).await.unwrap().unwrap();
        // A handshake goes on, or ends with the fatal alert protocol_version.
        assert_eq!(reply, expected, "TLS 1.{}", version - 1);
    }
}

/// A ClientHello that offers one version: 3 for TLS 1.2, 2 for TLS 1.1.
pub(crate) fn client_hello(version: u8) -> Vec<u8> {
    let mut hello = vec![3, version];
    hello.extend([7; 32]);
    // No session; ECDHE_ECDSA_WITH_AES_128_GCM_SHA256; no compression.
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    // x25519, uncompressed points, ecdsa_secp256r1_sha256.
    let extensions =
        [&[0, 10, 0, 4, 0, 2, 0, 0x1d][..], &[0, 11, 0, 2, 1, 0], &[0, 13, 0, 4, 0, 2, 4, 3]].concat();
    hello.extend([0, extensions.len() as u8]);
    hello.extend(extensions);
    let mut record = vec![22, 3, 1, 0, (hello.len() + 4) as u8, 1, 0, 0, hello.len() as u8];
    record.extend(hello);
    record
}

#[tokio::test]
async fn handshakes_that_do_not_go_on_are_closed_and_disturb_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, made) = (files(dir.path()), made());
    write(&tls, &made.cert, &made.key);
    let limits = crate::listener::Limits { head_time: Duration::from_secs(2), ..Default::default() };
    let server = start_with(&tls, limits).await;
    let begun = Instant::now();
    let mut slow = Vec::new();
    for n in 0..300 {
        let mut tcp = TcpStream::connect(server.address).await.unwrap();
        tcp.write_all(&client_hello(3)[..n % 40]).await.unwrap();
        slow.push(tcp);
    }
    let mut stream = server.connect(&[&made], &["http/1.1"]).await.unwrap();
    ask(&mut stream).await;
    for mut tcp in slow {
        let mut rest = Vec::new();
        // Closed or reset, with or without an alert.
        let _ = tokio::time::timeout(BOUND, tcp.read_to_end(&mut rest)).await.expect("it is closed");
    }
    assert!(begun.elapsed() >= Duration::from_secs(2), "closed early");
}

#[test]
fn files_that_are_no_pair_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, one, two) = (files(dir.path()), made(), made());
    let setting = |cert: &str, key: &str| {
        write(&tls, cert, key);
        read(&tls).map(|_| "").map_err(|error| error.to_string())
    };
    assert_eq!(setting(&one.cert, &one.key), Ok(""));
    assert_eq!(setting(&format!("{}{}", one.cert, two.cert), &one.key), Ok(""));
    for (cert, key, expected) in [
        (one.cert.as_str(), two.key.as_str(), ("server.tls.key", "is not the key of")),
        ("", &one.key, ("server.tls.cert", "holds no PEM certificate")),
        (&one.key, &one.key, ("server.tls.cert", "holds no PEM certificate")),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &one.key,
            ("server.tls.cert", "X.509"),
        ),
        (&one.cert, "", ("server.tls.key", "holds no private key")),
        ("", "", ("server.tls.cert", "server.tls.key")),
        (&one.cert, &one.cert, ("server.tls.key", "holds no private key")),
    ] {
        let error = setting(cert, key).unwrap_err();
        assert!(error.starts_with(expected.0) && error.contains(expected.1), "{error}");
    }
}
