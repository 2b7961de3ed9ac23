//! Who may call, by real certificates.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};

use super::*;

/// A certificate of a client and its key, PEM.
pub(super) type Pair = (String, String);

/// One that signs certificates of clients.
pub(super) struct Ca {
    /// Its own, PEM.
    pub(super) cert: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub(super) fn new() -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).unwrap().pem();
        Ca { cert, issuer: Issuer::new(params, key) }
    }

    /// For a client with these common and these other names.
    pub(super) fn client(&self, common: &[&str], others: &[SanType]) -> Pair {
        self.signed(common, others, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn signed(&self, common: &[&str], others: &[SanType], purpose: ExtendedKeyUsagePurpose) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (at, name) in common.iter().enumerate() {
            // rcgen has one value of each type; a second common name is one under its number.
            let of = [DnType::CommonName, DnType::CustomDnType(vec![2, 5, 4, 3])];
            params.distinguished_name.push(of[at].clone(), *name);
        }
        params.subject_alt_names = others.to_vec();
        params.extended_key_usages = vec![purpose];
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_without_a_certificate_of_the_ca_are_refused_and_kept_connections_end_with_it() {
    let world = World::born().await;
    let file = world.dir.path().join("callers.crt");
    let (old, new) = (Ca::new(), Ca::new());
    let (caller, other) = (old.client(&[], &[]), new.client(&[], &[]));
    std::fs::write(&file, &old.cert).unwrap();
    check_client_ca(&file).unwrap();
    let served = world.serve(None, Some(file.clone()), &[]).await;
    until("a certificate", async || served.tls.has_looked()).await;
    let bundle = world.trust().bundle(&world.metadata.local()).unwrap().pem;
    served.ask(&bundle, Some(&caller)).await.unwrap();
    assert!(served.ask(&bundle, None).await.is_err());
    assert!(served.ask(&bundle, Some(&other)).await.is_err());
    let server = old.signed(&[], &[dns("n2")], ExtendedKeyUsagePurpose::ServerAuth);
    assert!(served.ask(&bundle, Some(&server)).await.is_err(), "a certificate for servers");

    let versions = [&rustls::version::TLS12, &rustls::version::TLS13];
    let mut kept = Vec::new();
    for version in versions {
        let mut stream = served.connect(&bundle, Some(&caller), &[version]).await.unwrap();
        ask(&mut stream).await.unwrap();
        kept.push(stream);
    }
    // What cannot be used changes nothing, for longer than it takes to notice.
    std::fs::write(&file, "").unwrap();
    assert!(check_client_ca(&file).is_err());
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    served.ask(&bundle, Some(&caller)).await.unwrap();
    for stream in &mut kept {
        ask(stream).await.expect("a connection goes on");
    }

    std::fs::write(&file, &new.cert).unwrap();
    until("the other CA to count", async || served.ask(&bundle, Some(&other)).await.is_ok()).await;
    assert!(served.ask(&bundle, Some(&caller)).await.is_err());
    for (mut stream, version) in kept.into_iter().zip(versions) {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(BOUND, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok() && rest.is_empty(), "let in by the CA before: {:?}", version.version);
    }
    let mut stream = served.connect(&bundle, Some(&other), rustls::DEFAULT_VERSIONS).await.unwrap();
    ask(&mut stream).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    ask(&mut stream).await.expect("a connection of the new term lasts");

    for bad in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &caller.1] {
        std::fs::write(&file, bad).unwrap();
        assert!(check_client_ca(&file).is_err(), "{bad}");
    }
    std::fs::remove_file(&file).unwrap();
    assert!(check_client_ca(&file).unwrap_err().contains("cannot be read"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_callers_with_a_certificate_of_the_ca_only_named_ones_are_answered() {
    let world = World::born().await;
    let file = world.dir.path().join("callers.crt");
    let (ca, foreign) = (Ca::new(), Ca::new());
    std::fs::write(&file, &ca.cert).unwrap();
    let names = ["kube-apiserver", "spiffe://cluster.local/apiserver"];
    let served = world.serve(None, Some(file), &names).await;
    until("a certificate", async || served.tls.has_looked()).await;
    let bundle = world.trust().bundle(&world.metadata.local()).unwrap().pem;
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let email = SanType::Rfc822Name("kube-apiserver".try_into().unwrap());
    for (caller, answered) in [
        (ca.client(&["kube-apiserver"], &[]), true),
        (ca.client(&["somebody"], &[dns("a.example"), dns("Kube-APIserver")]), true),
        (ca.client(&[], &[uri("spiffe://cluster.local/apiserver")]), true),
        (ca.client(&["system:node:n1"], &[dns("n1")]), false),
        (ca.client(&["Kube-apiserver"], &[]), false),
        (ca.client(&["kube-apiserver "], &[]), false),
        (ca.client(&["kube-apiserver", "kube-apiserver"], &[]), false),
        (ca.client(&["kube-apiserver-kubelet-client"], &[]), false),
        (ca.client(&[], &[dns("kube-apiserver.example.org"), dns("*")]), false),
        (ca.client(&[], &[email]), false),
        (ca.client(&[], &[uri("spiffe://cluster.local/apiserver/")]), false),
        (ca.client(&[], &[]), false),
        (foreign.client(&["kube-apiserver"], &[dns("kube-apiserver")]), false),
    ] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let asked = async {
                let mut stream = served.connect(&bundle, Some(&caller), &[version]).await?;
                ask(&mut stream).await
            };
            assert_eq!(asked.await.is_ok(), answered, "{:?}: {}", version.version, caller.0);
        }
    }
    assert!(served.ask(&bundle, None).await.is_err());
}
