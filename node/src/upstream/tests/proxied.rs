//! Proxies between the client and registries.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::fake::{Fake, host_named, manifest, name, tag};
use super::hops::Names;
use crate::upstream::{HostSettings, Lookup, Proxies, Registries, UpstreamError, UpstreamSettings};

/// A proxy that connects to one registry whatever it is asked for, and remembers the heads of requests.
struct Proxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start(to: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let told = heads.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, to, told.clone()));
            }
        });
        Proxy { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn pass(mut client: TcpStream, to: SocketAddr, told: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let text = String::from_utf8(head.clone()).unwrap();
    told.lock().unwrap().push(text.clone());
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    if text.starts_with("CONNECT ") {
        let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
    } else {
        let _ = server.write_all(&head).await;
    }
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

fn through(proxies: Proxies, host: HostSettings, names: Arc<dyn Lookup>) -> Registries {
    let hosts = [(host_named("registry.test"), host)].into();
    let settings = UpstreamSettings { hosts, ..UpstreamSettings::default() };
    Registries::with(settings, names, proxies)
}

fn at(endpoint: &str, allow_private: bool, fake: &Fake) -> HostSettings {
    HostSettings { endpoint: endpoint.parse().ok(), allow_private, ..fake.settings() }
}

#[tokio::test]
async fn a_proxy_is_asked_for_what_may_be_asked_and_for_nothing_else() {
    let fake = Fake::start(|_| manifest("{}")).await;
    let proxy = Proxy::start(fake.address).await;
    let names = Names::of(&[
        ("public.test", &["1.1.1.1"]),
        ("private.test", &["10.0.0.1"]),
        ("metadata.test", &["169.254.169.254"]),
    ]);
    let proxies = Proxies::all(&format!("http://user:word@{}", proxy.address), "direct.test,.direct.test");
    let ask = async |endpoint: &str, allow_private: bool| {
        let registries = through(proxies.clone(), at(endpoint, allow_private, &fake), names.clone());
        registries.manifest(&name("app"), &tag("1")).await
    };
    // The proxy is at a private address, where the registry may not be.
    ask("http://public.test", false).await.unwrap();
    let heads = proxy.heads();
    assert!(heads[0].starts_with("GET http://public.test/v2/app/manifests/1 "), "{heads:?}");
    assert!(heads[0].to_lowercase().contains("proxy-authorization: basic dxnlcjp3b3jk"), "{heads:?}");
    assert!(fake.seen()[0].header("authorization").is_empty());
    for (endpoint, allow_private, why) in [
        ("http://private.test", false, "private address"),
        ("http://127.0.0.1", false, "private address"),
        ("http://metadata.test", true, "where no registry is"),
        ("http://unknown.test", false, "at the proxy alone"),
    ] {
        let error = ask(endpoint, allow_private).await.unwrap_err();
        assert!(matches!(&error, UpstreamError::Bad(text) if text.contains(why)), "{endpoint}: {error:?}");
    }
    assert_eq!(proxy.heads().len(), 1);
    for endpoint in ["http://private.test", "http://unknown.test"] {
        ask(endpoint, true).await.unwrap();
    }
    assert_eq!(proxy.heads().len(), 3);
}

#[tokio::test]
async fn https_goes_through_a_tunnel() {
    let fake = Fake::start(|_| manifest("{}")).await;
    let proxy = Proxy::start(fake.address).await;
    let names = Names::of(&[("public.test", &["1.1.1.1"])]);
    let proxies = Proxies::all(&format!("http://{}", proxy.address), "");
    let registries = through(proxies, at("https://public.test", false, &fake), names);
    // The registry behind the tunnel speaks no TLS; that it was asked for is what counts.
    let error = registries.manifest(&name("app"), &tag("1")).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unavailable { .. }), "{error:?}");
    let heads = proxy.heads();
    assert!(heads[0].starts_with("CONNECT public.test:443 "), "{heads:?}");
}

#[tokio::test]
async fn what_no_proxy_lists_is_asked_directly() {
    let fake = Fake::start(|_| manifest("{}")).await;
    let proxy = Proxy::start(fake.address).await;
    let names = Names::of(&[("direct.test", &["127.0.0.1"])]);
    let endpoint = format!("http://direct.test:{}", fake.address.port());
    let proxies = Proxies::all(&format!("http://{}", proxy.address), "direct.test");
    let registries = through(proxies, at(&endpoint, true, &fake), names);
    registries.manifest(&name("app"), &tag("1")).await.unwrap();
    assert_eq!(proxy.heads(), Vec::<String>::new());
}
