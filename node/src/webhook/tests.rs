//! The authority through its years, nodes that agree on one, and real TLS.

mod callers;
mod years;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Instant;

use axum::Router;
use axum::routing::get;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use trow_raft::{Command, Generation, Member, MemberState, Metadata, NodeId, Outcome};

use super::authority::{Authorities, RETIREMENT, SUCCESSION, VALIDITY};
use super::*;
use crate::cluster_dir;
use callers::{Ca, Pair};

const BOUND: std::time::Duration = std::time::Duration::from_secs(60);

fn day(n: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap() + Duration::days(n)
}

#[test]
fn callers_that_fetch_the_bundle_now_and_then_trust_every_leaf_for_years() {
    let mut authorities = Authorities::default();
    let (mut bundles, mut made) = (Vec::new(), 0);
    for now in (0..1_500).map(day) {
        if authorities.is_due(now) {
            authorities = authorities.with_another(now).unwrap();
            made += 1;
            assert!(!authorities.is_due(now));
        }
        bundles.push(authorities.bundle(now));
        let signing = authorities.signing(now).unwrap();
        assert!(signing.from <= now && signing.to - now > RETIREMENT, "what signs leaves does not end soon");
        let fetched = bundles.len().saturating_sub(60);
        let trusted: Vec<_> = CertificateDer::pem_slice_iter(bundles[fetched].as_bytes()).flatten().collect();
        assert!(trusted.contains(signing.certificate()), "it signs before it was published long enough");
        assert!(trusted.len() <= 2);
    }
    // The next one is made 90 days before the end.
    assert_eq!(made, 1_500 / (VALIDITY - SUCCESSION).whole_days() + 1);
}

#[test]
fn a_cluster_that_was_off_for_years_begins_anew_and_a_clock_ahead_takes_nothing_away() {
    let first = Authorities::default().with_another(day(0)).unwrap();
    let trusted = first.bundle(day(0));
    assert!(first.is_due(day(800)) && first.signing(day(800)).is_none() && first.bundle(day(800)).is_empty());
    // A node whose clock is years ahead makes one that is not valid yet.
    let both = first.with_another(day(800)).unwrap();
    assert!(!both.is_due(day(800)) && !both.is_due(day(1)));
    assert!(both.bundle(day(1)).starts_with(&trusted), "callers have both before the other one is valid");
    assert_eq!(both.hands_over(day(1)), None);
    assert_eq!(both.signing(day(1)).unwrap().to, day(0) + VALIDITY);
    assert_eq!(both.signing(day(800)).unwrap().to, day(800) + VALIDITY);
}

#[test]
fn what_is_sealed_is_read_again_and_nothing_else_is() {
    let authorities = Authorities::default().with_another(day(0)).unwrap();
    let encoded = authorities.encode();
    let again = Authorities::decode(&encoded).unwrap();
    assert_eq!(again.bundle(day(0)), authorities.bundle(day(0)));
    assert!(again.signing(day(0)).unwrap().issuer().is_ok());
    let other = Authorities::default().with_another(day(0)).unwrap().encode();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let key = |bytes: &[u8]| text(bytes).split("\"key\":").nth(1).unwrap().to_owned();
    let mixed = text(&encoded).replace(&key(&encoded), &key(&other));
    for bad in ["", "{}", "[]", "{\"authorities\":[{\"certificate\":\"x\",\"key\":\"y\"}]}", &mixed] {
        let error = Authorities::decode(bad.as_bytes()).err().expect(bad).to_string();
        assert!(!error.contains("PRIVATE"), "{error}");
    }
}

#[test]
fn names_are_those_that_a_certificate_can_hold() {
    let given = ["n1", "Trow.Example.org:8443", "10.0.0.1:5", "[::1]:5003", "a b", "", "n_2", "n1"];
    let names = leaf::Names::of(given.map(str::to_owned));
    let minted = Authorities::default().with_another(day(0)).unwrap();
    let leaf = leaf::Leaf::mint(&names, minted.signing(day(0)).unwrap(), day(0)).unwrap();
    let expected = ["n1", "trow.example.org", "10.0.0.1", "::1", "n_2"].map(str::to_owned);
    assert_eq!(*leaf.names(), BTreeSet::from(expected));
}

/// One node's agreed state.
struct World {
    metadata: Metadata,
    cluster: Arc<ClusterDir>,
    dir: tempfile::TempDir,
}

impl World {
    async fn born() -> World {
        let (dir, me) = (tempfile::tempdir().unwrap(), NodeId(1));
        let raft = dir.path().join("raft");
        std::fs::create_dir_all(&raft).unwrap();
        let metadata = Metadata::open(trow_raft::Settings::alone(me, &raft)).await.unwrap();
        metadata.initialize(BTreeSet::from([me])).await.unwrap();
        let member = Member {
            id: me,
            name: "n1".into(),
            zone: String::new(),
            state: MemberState::Active,
            generation: Generation(1),
            max_level: trow_raft::command::LEVEL,
            weight: 1,
            client: String::new(),
            peer: String::new(),
        };
        tokio::time::timeout(BOUND, metadata.birth(1, vec![member])).await.unwrap();
        let cluster = Arc::new(cluster_dir::create(&dir.path().join("cluster")).unwrap());
        World { metadata, cluster, dir }
    }

    fn keeper(&self) -> Keeper {
        self.keeper_with(self.cluster.clone())
    }

    fn keeper_with(&self, cluster: Arc<ClusterDir>) -> Keeper {
        let keyring = Keyring { agreement: (&self.metadata).into(), cluster };
        Keeper { keyring, known: known(), presented: Presented::default(), held: None }
    }

    fn trust(&self) -> Trust {
        Trust::new((&self.metadata).into(), self.cluster.clone(), true, None)
    }

    async fn put(&self, base: u64, ciphertext: &'static [u8]) {
        let command = Command::PutSealed { name: keep::NAME.into(), base, ciphertext: ciphertext.into() };
        assert_eq!(self.metadata.propose("test", command).await.unwrap().outcome, Outcome::Done);
    }

    fn row(&self) -> Option<trow_raft::SealedRow> {
        self.metadata.local().sealed(keep::NAME).unwrap()
    }

    /// The listener over it, with these settings.
    async fn serve(&self, tls: Option<Tls>, client_ca: Option<PathBuf>, client_names: &[&str]) -> Served {
        let client_names = client_names.iter().map(|name| (*name).to_owned()).collect();
        let closing = CancellationToken::new();
        let settings = Settings { known: known(), tls, client_ca, client_names };
        let tls = super::serve(settings, (&self.metadata).into(), self.cluster.clone(), &closing).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "here" }));
        let limits = crate::listener::Limits::default();
        tokio::spawn(crate::listener::serve(
            listener,
            router,
            Some(tls.accepts.clone()),
            limits,
            closing.clone(),
        ));
        Served { address, tls, closing }
    }
}

fn known() -> Known {
    Known {
        service: "trow.trow".to_owned(),
        hostnames: vec!["hooks.example.org".to_owned()],
        me: "n1".to_owned(),
        listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

fn presented(keeper: &Keeper) -> Option<CertificateDer<'static>> {
    keeper.presented.leaf().map(|leaf| leaf.cert[0].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_make_an_authority_at_once_agree_on_one() {
    let world = World::born().await;
    let (mut one, mut two) = (world.keeper(), world.keeper());
    let (first, second) = tokio::join!(one.look(day(0)), two.look(day(0)));
    first.unwrap();
    second.unwrap();
    for keeper in [&mut one, &mut two] {
        keeper.look(day(0)).await.unwrap();
        let bundle = keeper.held.as_ref().unwrap().authorities.bundle(day(0));
        assert_eq!(CertificateDer::pem_slice_iter(bundle.as_bytes()).count(), 1);
        verify(&bundle, &presented(keeper).unwrap(), "trow.trow.svc", day(0)).unwrap();
    }
    let bundle = |keeper: &Keeper| keeper.held.as_ref().unwrap().authorities.bundle(day(0));
    assert_eq!(bundle(&one), bundle(&two));
    assert_ne!(presented(&one), presented(&two), "each has a leaf of its own");

    // What was agreed is nowhere in plain: neither as text nor as bytes.
    let plain = one.held.as_ref().unwrap().authorities.encode();
    let pem = serde_json::from_slice::<serde_json::Value>(&plain).unwrap()["authorities"][0]["key"].clone();
    let key = PrivateKeyDer::from_pem_slice(pem.as_str().unwrap().as_bytes()).unwrap();
    let secrets = [pem.as_str().unwrap().lines().nth(1).unwrap().as_bytes(), key.secret_der()];
    world.metadata.shutdown().await;
    let files = files(&world.dir.path().join("raft"));
    assert!(!files.is_empty());
    for (path, bytes) in files {
        for secret in secrets {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{}", path.display());
        }
    }
}

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| match path.is_dir() {
        true => files(&path),
        false => vec![(path.clone(), std::fs::read(&path).unwrap())],
    };
    entries.flat_map(read).collect()
}

/// Whether a client that trusts the bundle accepts the certificate for this name at that time.
fn verify(
    bundle: &str,
    leaf: &CertificateDer<'_>,
    name: &str,
    now: OffsetDateTime,
) -> Result<(), rustls::Error> {
    use rustls::client::danger::ServerCertVerifier as _;
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(
        Arc::new(roots(bundle)),
        Arc::new(default_provider()),
    );
    let since = std::time::Duration::from_secs(now.unix_timestamp() as u64);
    let now = rustls::pki_types::UnixTime::since_unix_epoch(since);
    let name = ServerName::try_from(name).unwrap();
    verifier.build().unwrap().verify_server_cert(leaf, &[], &name, &[], now).map(drop)
}

fn roots(pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    CertificateDer::pem_slice_iter(pem.as_bytes()).for_each(|one| roots.add(one.unwrap()).unwrap());
    roots
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_and_the_authority_are_renewed_in_time() {
    let world = World::born().await;
    let mut keeper = world.keeper();
    keeper.look(day(0)).await.unwrap();
    let bundle = |keeper: &Keeper, now| keeper.held.as_ref().unwrap().authorities.bundle(now);
    let (first, trusted) = (presented(&keeper).unwrap(), bundle(&keeper, day(0)));
    for name in ["trow.trow.svc", "n1", "hooks.example.org", "localhost", "127.0.0.1"] {
        verify(&trusted, &first, name, day(0)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert!(verify(&trusted, &first, "trow.example.org", day(0)).is_err());
    keeper.look(day(59)).await.unwrap();
    assert_eq!(presented(&keeper).unwrap(), first, "it is good for a month yet");
    keeper.look(day(61)).await.unwrap();
    let second = presented(&keeper).unwrap();
    assert_ne!(second, first);
    verify(&trusted, &second, "n1", day(149)).unwrap();
    assert!(verify(&trusted, &second, "n1", day(153)).is_err(), "a leaf counts for 90 days");

    assert_eq!(keeper.hands_over(day(61)), None);
    keeper.look(day(276)).await.unwrap();
    let both = bundle(&keeper, day(276));
    assert_eq!(CertificateDer::pem_slice_iter(both.as_bytes()).count(), 2);
    assert!(both.starts_with(&trusted));
    verify(&trusted, &presented(&keeper).unwrap(), "n1", day(276)).expect("the old one signs on");
    assert_eq!(keeper.hands_over(day(276)), Some(day(335)));
    keeper.look(day(336)).await.unwrap();
    let handed = presented(&keeper).unwrap();
    assert!(verify(&trusted, &handed, "n1", day(336)).is_err());
    verify(&both, &handed, "n1", day(336)).unwrap();
    assert_eq!(keeper.hands_over(day(336)), None);
    let last = bundle(&keeper, day(366));
    assert_eq!(CertificateDer::pem_slice_iter(last.as_bytes()).count(), 1, "the old one is gone at its end");
    verify(&last, &handed, "n1", day(366)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_this_node_cannot_open_is_left_alone_and_said() {
    let world = World::born().await;
    world.keeper().look(day(0)).await.unwrap();
    let row = world.row();
    let other = Arc::new(cluster_dir::create(&world.dir.path().join("other")).unwrap());
    let mut stranger = world.keeper_with(other);
    let error = stranger.look(day(0)).await.unwrap_err().to_string();
    assert!(error.contains("another join secret") && error.contains("join.secret"), "{error}");
    assert_eq!((presented(&stranger), world.row()), (None, row.clone()));

    for (damaged, says) in [(&b""[..], "damaged"), (b"\x01short", "damaged"), (b"\x07from later", "version")]
    {
        world.put(world.row().unwrap().index, damaged).await;
        let mut keeper = world.keeper();
        let error = keeper.look(day(0)).await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert_eq!(presented(&keeper), None);
        assert_eq!(world.row().unwrap().ciphertext, damaged, "nobody puts another one there by itself");
        assert!(world.trust().bundle(&world.metadata.local()).is_err());
    }
    let mut keeper = world.keeper();
    let index = world.trust().replace("admin").await.unwrap();
    assert_eq!(world.row().unwrap().index, index);
    let now = OffsetDateTime::now_utc();
    keeper.look(now).await.unwrap();
    let bundle = world.trust().bundle(&world.metadata.local()).unwrap();
    assert!(!bundle.files && bundle.certificates.len() == 1);
    verify(&bundle.pem, &presented(&keeper).unwrap(), "n1", now).unwrap();
}

struct Served {
    address: SocketAddr,
    tls: WebhookTls,
    closing: CancellationToken,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

impl Served {
    /// One request of a client that trusts the bundle, with its certificate if it has one.
    async fn ask(&self, bundle: &str, caller: Option<&Pair>) -> std::io::Result<()> {
        let mut kept = self.connect(bundle, caller, rustls::DEFAULT_VERSIONS).await?;
        ask(&mut kept).await
    }

    /// A connection of such a client, that speaks these versions.
    async fn connect(
        &self,
        bundle: &str,
        caller: Option<&Pair>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(roots(bundle));
        let config = match caller {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        };
        let tcp = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("trow.trow.svc").unwrap();
        let connected = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        tokio::time::timeout(BOUND, connected).await.expect("a connection, or its end")
    }
}

/// One request on a connection that is kept.
async fn ask(stream: &mut TlsStream<TcpStream>) -> std::io::Result<()> {
    let asked = async {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
        let (mut reply, mut piece) = (Vec::new(), [0; 1024]);
        while !reply.ends_with(b"here") {
            match stream.read(&mut piece).await? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                read => reply.extend_from_slice(&piece[..read]),
            }
        }
        Ok(())
    };
    tokio::time::timeout(BOUND, asked).await.expect("an answer, or the end of the connection")
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + BOUND;
    while !is_so().await {
        assert!(Instant::now() < end, "waited in vain for {what}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_the_bundle_alone_is_answered_and_without_a_leaf_nobody_is() {
    let world = World::born().await;
    let served = world.serve(None, None, &[]).await;
    until("a certificate", async || served.tls.has_looked()).await;
    let bundle = world.trust().bundle(&world.metadata.local()).unwrap().pem;
    served.ask(&bundle, None).await.unwrap();
    let other = Authorities::default().with_another(OffsetDateTime::now_utc()).unwrap();
    assert!(served.ask(&other.bundle(OffsetDateTime::now_utc()), None).await.is_err());

    let world = World::born().await;
    world.put(0, b"garbage").await;
    let served = world.serve(None, None, &[]).await;
    until("the trouble to be known", async || served.tls.has_looked()).await;
    assert!(served.ask(&bundle, None).await.is_err());
    // An older TLS ends with the alert protocol_version before a certificate is looked for.
    let mut tcp = TcpStream::connect(served.address).await.unwrap();
    tcp.write_all(&crate::certificate::tests::client_hello(2)).await.unwrap();
    let mut reply = [0; 7];
    tokio::time::timeout(BOUND, tcp.read_exact(&mut reply)).await.unwrap().unwrap();
    assert_eq!(reply, [21, 3, 3, 0, 2, 2, 70]);
    // And once there is one that can be used, it is used.
    world.trust().replace("admin").await.unwrap();
    let bundle = world.trust().bundle(&world.metadata.local()).unwrap().pem;
    until("an answer", async || served.ask(&bundle, None).await.is_ok()).await;
}

#[test]
fn files_show_the_authority_that_they_hold() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let tls = Tls { of: crate::config::Section::Webhook, cert: at("tls.crt"), key: at("tls.key") };
    let made = Ca::new();
    let (ca, (leaf, _)) = (made.cert.clone(), made.client(&[], &[]));
    for (chain, found) in [(format!("{leaf}{ca}"), Some(&ca)), (leaf.clone(), None), (ca.clone(), Some(&ca))]
    {
        std::fs::write(&tls.cert, chain).unwrap();
        let shown = shown::of_files(&tls);
        match found {
            Some(ca) => assert_eq!(roots(&shown.unwrap().pem).roots, roots(ca).roots),
            None => assert!(shown.unwrap_err().to_string().contains("put the CA that signed it")),
        }
    }
}
