//! Content of upstream registries, by each way to name it, and what goes wrong with it.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use trow_api::Settings;
use trow_api::auth::{Auth, Htpasswd, Users};
use trow_api::pull::memory::Repo;
use trow_api::pull::{PullError, Relayed, UpstreamName};
use trow_raft::{Digest, NodeId};

use crate::support::{
    IMAGE, INDEX, LOOP, Registry, TOKEN, evidence, header, image, log_id, next_page, problem,
};

const HOST: &str = "registry.example.com:5000";
/// The ways to name `team/app` of that registry.
const WAYS: [(&str, &str); 4] = [
    ("team/app", "registry.example.com:5000"),
    ("f/registry.example.com:5000/team/app", ""),
    ("f/registry.example.com__5000/team/app", "registry.example.com:5000"),
    ("mirror/example/team/app", ""),
];

fn name(host: &str, repo: &str) -> UpstreamName {
    UpstreamName::new(host.parse().unwrap(), &repo.parse().unwrap()).unwrap()
}

fn settings() -> Settings {
    Settings {
        hostnames: vec!["trow.example.com".into()],
        prefixes: [("mirror/example", HOST), ("hub", "docker.io")]
            .map(|(prefix, host)| (prefix.parse().unwrap(), host.parse().unwrap()))
            .into(),
        ..Settings::default()
    }
}

/// A repository with an image of one layer under `v1`.
fn repo(layer: &Bytes) -> Repo {
    let mut repo = Repo::default();
    let text = image("layer").to_string();
    let digest = Digest::sha256(text.as_bytes());
    repo.manifests.insert(digest, (IMAGE.into(), text.into()));
    repo.tags.insert("v1".parse().unwrap(), digest);
    repo.blobs.insert(Digest::sha256(layer), layer.clone());
    repo
}

fn layer() -> Bytes {
    (0..200_000u32).map(|i| (i % 241) as u8).collect()
}

async fn started(repo: Repo) -> Registry {
    let registry = Registry::with(settings()).await;
    registry.upstreams.put(name(HOST, "team/app"), repo);
    registry
}

fn path(way: (&str, &str), rest: &str) -> String {
    let (repo, ns) = way;
    let sign = if rest.contains('?') { '&' } else { '?' };
    let ns = if ns.is_empty() { String::new() } else { format!("{sign}ns={ns}") };
    format!("/v2/{repo}/{rest}{ns}")
}

#[tokio::test]
async fn every_way_to_name_it_leads_to_the_same_content() {
    let registry = started(repo(&layer())).await;
    let text = image("layer").to_string();
    let (manifest, blob) = (Digest::sha256(text.as_bytes()), Digest::sha256(&layer()));
    for way in WAYS {
        for reference in ["v1".to_owned(), manifest.to_string()] {
            let path = path(way, &format!("manifests/{reference}"));
            let head = registry.head(&path).await;
            let got = registry.get(&path).await;
            for response in [&head, &got] {
                assert_eq!(response.status(), 200, "{path}");
                assert_eq!(header(response, "content-type"), IMAGE);
                assert_eq!(header(response, "content-length"), text.len().to_string());
                assert_eq!(header(response, "docker-content-digest"), manifest.to_string());
                assert_eq!(header(response, "etag"), format!("\"{manifest}\""));
                assert_eq!(header(response, "oci-namespace"), HOST);
                assert_eq!((log_id(response), header(response, "warning")), (1, ""));
                assert_eq!(header(response, "x-content-type-options"), "nosniff");
            }
            assert_eq!(got.text().await.unwrap(), text);
        }
        let path = path(way, &format!("blobs/{blob}"));
        let head = registry.head(&path).await;
        let got = registry.get(&path).await;
        for response in [&head, &got] {
            assert_eq!(response.status(), 200, "{path}");
            assert_eq!(header(response, "content-type"), "application/octet-stream");
            assert_eq!(header(response, "content-length"), "200000");
            assert_eq!(header(response, "accept-ranges"), "bytes");
            assert_eq!(header(response, "docker-content-digest"), blob.to_string());
            assert_eq!(header(response, "oci-namespace"), HOST);
            assert_eq!(header(response, "x-content-type-options"), "nosniff");
        }
        assert_eq!(got.bytes().await.unwrap(), layer());
    }
    let asked = registry.upstreams.asked();
    assert!(asked.iter().all(|line| line.contains(" registry.example.com:5000/team/app ")), "{asked:?}");
    // HEAD asks for no more than that.
    assert_eq!(asked.iter().filter(|line| line.starts_with("get ")).count(), 8);
    assert_eq!(asked.iter().filter(|line| line.starts_with("head ")).count(), 8);
    assert_eq!(asked.iter().filter(|line| line.starts_with("blob ")).count(), 4);
}

#[tokio::test]
async fn a_mirror_whose_url_has_a_path_is_asked_below_it() {
    let registry = started(repo(&layer())).await;
    let direct = registry.get("/v2/mirror/example/team/app/manifests/v1").await.bytes().await.unwrap();
    for mirror in ["/mirror/example", "/f/registry.example.com:5000"] {
        assert_eq!(registry.get(&format!("{mirror}/v2/")).await.status(), 200);
        let response = registry.get(&format!("{mirror}/v2/team/app/manifests/v1")).await;
        assert_eq!(response.status(), 200, "{mirror}");
        assert_eq!(response.headers()["oci-namespace"], HOST);
        assert_eq!(response.bytes().await.unwrap(), direct);
    }
    for none in ["/own/v2/", "/own/v2/team/app/manifests/v1", "/f/v2/"] {
        assert_eq!(registry.get(none).await.status(), 404, "{none}");
    }
}

#[tokio::test]
async fn docker_hub_has_its_library_by_every_name() {
    let registry = Registry::with(settings()).await;
    registry.upstreams.put(name("docker.io", "nginx"), repo(&layer()));
    for (repo, ns) in [
        ("nginx", "docker.io"),
        ("library/nginx", "docker.io"),
        ("library/nginx", "registry-1.docker.io"),
        ("f/docker.io/nginx", ""),
        ("f/docker.io/library/nginx", "docker.io"),
        ("hub/nginx", ""),
        ("hub/library/nginx", "trow.example.com"),
    ] {
        let path = path((repo, ns), "manifests/v1");
        let response = registry.get(&path).await;
        assert_eq!(
            (response.status().as_u16(), header(&response, "oci-namespace")),
            (200, "docker.io"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn ranges_and_conditions_hold_as_for_our_own() {
    let registry = started(repo(&layer())).await;
    let (blob, content) = (Digest::sha256(&layer()), layer());
    let path = path(WAYS[0], &format!("blobs/{blob}"));
    let ask = async |name: &str, value: &str| {
        registry.request(Method::GET, &path).header(name, value).send().await.unwrap()
    };
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=65000-140000", 65_000, 140_000),
        ("bytes=199999-", 199_999, 199_999),
        ("bytes=-500", 199_500, 199_999),
        ("bytes=0-999999", 0, 199_999),
    ] {
        let response = ask("range", range).await;
        assert_eq!(response.status(), 206, "{range}");
        assert_eq!(header(&response, "content-range"), format!("bytes {first}-{last}/200000"));
        assert_eq!(response.bytes().await.unwrap(), content[first..=last], "{range}");
    }
    for range in ["bytes=200000-", "bytes=500-0", "bytes=-0"] {
        let response = ask("range", range).await;
        assert_eq!(header(&response, "content-range"), "bytes */200000", "{range}");
        assert_eq!(header(&response, "oci-namespace"), HOST);
        assert_eq!(problem(response).await, (416, "RANGE_INVALID".into()), "{range}");
    }
    for range in ["bytes=0-1,5-6", "lines=0-1"] {
        assert_eq!(ask("range", range).await.status(), 200, "{range}");
    }
    let other = registry.request(Method::GET, &path).header("range", "bytes=0-9");
    let other = other.header("if-range", "\"sha256:other\"").send().await.unwrap();
    assert_eq!(other.status(), 200);

    let before = registry.upstreams.asked().len();
    let known = ask("if-none-match", &format!("\"{blob}\"")).await;
    assert_eq!((known.status().as_u16(), header(&known, "oci-namespace")), (304, HOST));
    let asked = registry.upstreams.asked().split_off(before);
    assert_eq!(asked, [format!("size {HOST}/team/app {blob}")], "nothing is fetched for one who has it");
    let none = Digest::sha256(b"none");
    let absent = registry.request(Method::GET, &self::path(WAYS[0], &format!("blobs/{none}")));
    let absent = absent.header("if-none-match", "*").send().await.unwrap();
    assert_eq!(problem(absent).await, (404, "BLOB_UNKNOWN".into()));

    let manifest = self::path(WAYS[1], "manifests/v1");
    let digest = header(&registry.head(&manifest).await, "etag").to_owned();
    let known =
        registry.request(Method::GET, &manifest).header("if-none-match", digest).send().await.unwrap();
    assert_eq!((known.status().as_u16(), log_id(&known)), (304, 1));
    assert_eq!(known.text().await.unwrap(), "");
    // A manifest has one form, whatever is accepted.
    let accept = registry.request(Method::GET, &manifest).header("accept", INDEX).send().await.unwrap();
    assert_eq!((accept.status().as_u16(), header(&accept, "content-type")), (200, IMAGE));
}

#[tokio::test]
async fn old_answers_say_so() {
    let mut old = repo(&layer());
    old.stale = Some(format!("upstream {HOST}: \"down\" \\ since\r\n yesterday \u{e9}"));
    let registry = started(old).await;
    let warning = format!("299 - \"stale: upstream {HOST}: 'down' ? since?? yesterday ?\"");
    for rest in ["manifests/v1", "tags/list"] {
        for method in [Method::GET, Method::HEAD] {
            let response = registry.request(method, &path(WAYS[3], rest)).send().await.unwrap();
            assert_eq!(
                (response.status().as_u16(), header(&response, "warning")),
                (200, &*warning),
                "{rest}"
            );
        }
    }
}

#[tokio::test]
async fn a_type_that_a_browser_runs_is_not_passed_on() {
    let mut odd = Repo::default();
    for (tag, kind) in [("html", "text/html"), ("xhtml", "application/xhtml+xml"), ("odd", "a\u{1}b")] {
        let digest = Digest::sha256(tag.as_bytes());
        odd.manifests.insert(digest, (kind.into(), tag.into()));
        odd.tags.insert(tag.parse().unwrap(), digest);
    }
    let registry = started(odd).await;
    for tag in ["html", "xhtml", "odd"] {
        let response = registry.get(&path(WAYS[0], &format!("manifests/{tag}"))).await;
        assert_eq!(header(&response, "content-type"), "application/octet-stream", "{tag}");
    }
}

#[tokio::test]
async fn lists_are_the_upstreams_and_lead_on() {
    let mut listed = repo(&layer());
    let digest = *listed.tags.values().next().unwrap();
    for tag in ["v2", "v3", "v4"] {
        listed.tags.insert(tag.parse().unwrap(), digest);
    }
    let json = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }).to_string();
    listed.referrers = Some(Relayed { json: json.clone().into(), next: None, filtered: true, stale: None });
    let registry = started(listed).await;
    for way in WAYS {
        let all: Value = registry.get(&path(way, "tags/list")).await.json().await.unwrap();
        assert_eq!(all, json!({ "name": "team/app", "tags": ["v1", "v2", "v3", "v4"] }));
        let mut seen = Vec::new();
        let mut next = Some(path(way, "tags/list?n=3"));
        while let Some(page) = next {
            let response = registry.get(&page).await;
            assert_eq!(header(&response, "content-type"), "application/json");
            assert_eq!(header(&response, "oci-namespace"), HOST, "{page}");
            assert!(log_id(&response) > 0);
            next = next_page(&response);
            let tags: Value = response.json().await.unwrap();
            seen.push(tags["tags"].as_array().unwrap().len());
        }
        assert_eq!(seen, [3, 1], "{way:?}");

        let referrers = registry.get(&path(way, &format!("referrers/{digest}?artifactType=a/b"))).await;
        assert_eq!(header(&referrers, "content-type"), INDEX);
        assert_eq!(header(&referrers, "oci-filters-applied"), "artifactType");
        assert_eq!(header(&referrers, "oci-namespace"), HOST);
        assert_eq!(referrers.text().await.unwrap(), json);
        let all = registry.get(&path(way, &format!("referrers/{digest}"))).await;
        assert_eq!(header(&all, "oci-filters-applied"), "");
    }
    let bad = registry.get(&path(WAYS[0], "tags/list?n=x")).await;
    assert_eq!(problem(bad).await, (400, "PAGINATION_NUMBER_INVALID".into()));
}

#[tokio::test]
async fn what_upstreams_say_no_to_has_its_code() {
    let registry = started(Repo::default()).await;
    let digest = Digest::sha256(b"x");
    let unavailable = |millis| PullError::Unavailable {
        why: "upstream registry.example.com:5000: 429 Too Many Requests".into(),
        retry: Duration::from_millis(millis),
    };
    let endpoints = [
        ("manifests/v1".to_owned(), "MANIFEST_UNKNOWN"),
        (format!("manifests/{digest}"), "MANIFEST_UNKNOWN"),
        (format!("blobs/{digest}"), "BLOB_UNKNOWN"),
        ("tags/list".to_owned(), "NAME_UNKNOWN"),
        (format!("referrers/{digest}"), "MANIFEST_UNKNOWN"),
    ];
    for (fails, status, code, retry) in [
        (Some(PullError::NotFound), 404, "", ""),
        (Some(PullError::Offline), 404, "", ""),
        (Some(PullError::Denied("denied by upstream.deny".into())), 403, "DENIED", ""),
        (Some(PullError::LoginNeeded), 401, "UNAUTHORIZED", ""),
        (Some(unavailable(2500)), 503, "UNAVAILABLE", "3"),
        (Some(unavailable(0)), 503, "UNAVAILABLE", "1"),
        (
            Some(PullError::Bad("upstream registry.example.com:5000: no JSON".into())),
            502,
            "UPSTREAM_INVALID",
            "",
        ),
        (Some(PullError::Failed), 500, "UNKNOWN", ""),
    ] {
        let repo = Repo { fails: fails.clone(), ..Repo::default() };
        registry.upstreams.put(name(HOST, "team/app"), repo);
        for (rest, unknown) in &endpoints {
            for way in WAYS {
                let path = path(way, rest);
                let head = registry.head(&path).await;
                assert_eq!(head.status().as_u16(), status, "{path} {fails:?}");
                let response = registry.get(&path).await;
                assert_eq!(header(&response, "retry-after"), retry, "{path} {fails:?}");
                assert_eq!(
                    response.headers().get_all("retry-after").iter().count(),
                    usize::from(status == 503)
                );
                assert_eq!(header(&response, "oci-namespace"), HOST);
                assert_eq!(header(&response, "www-authenticate").is_empty(), status != 401, "{path}");
                assert_eq!(rest.contains("blobs"), header(&response, "trow-log-id").is_empty(), "{path}");
                let expected = if code.is_empty() { unknown } else { code };
                assert_eq!(problem(response).await, (status, expected.to_owned()), "{path} {fails:?}");
            }
        }
    }
}

/// What of a body came, and whether it ended as it should.
async fn body(mut response: Response) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return (bytes, true),
            Err(_) => return (bytes, false),
        }
    }
}

#[tokio::test]
async fn a_body_that_fails_is_broken_off() {
    let content = layer();
    let registry = started(repo(&content)).await;
    let path = path(WAYS[1], &format!("blobs/{}", Digest::sha256(&content)));
    for (breaks, range) in [
        ((100_000, Some(io::ErrorKind::InvalidData)), None),
        ((100_000, Some(io::ErrorKind::BrokenPipe)), None),
        ((100_000, None), None),
        ((50_000, Some(io::ErrorKind::InvalidData)), Some("bytes=1000-150000")),
        ((199_999, None), None),
    ] {
        registry.upstreams.put(name(HOST, "team/app"), Repo { breaks: Some(breaks), ..repo(&content) });
        let mut request = registry.request(Method::GET, &path);
        let mut first = 0;
        if let Some(range) = range {
            (request, first) = (request.header("range", range), 1000);
        }
        // Where all of it is there at once the connection may go before the status is sent.
        let Ok(response) = request.send().await else { continue };
        assert_eq!(response.status(), if range.is_some() { 206 } else { 200 });
        let (bytes, whole) = body(response).await;
        assert!(!whole, "{breaks:?} ended cleanly after {} bytes", bytes.len());
        assert_eq!(bytes, content[first..first + bytes.len()], "{breaks:?}");
    }
    // What fails before the first byte has a status.
    for (kind, status, code) in [
        (Some(io::ErrorKind::InvalidData), 502, "UPSTREAM_INVALID"),
        (None, 502, "UPSTREAM_INVALID"),
        (Some(io::ErrorKind::TimedOut), 503, "UNAVAILABLE"),
    ] {
        registry.upstreams.put(name(HOST, "team/app"), Repo { breaks: Some((0, kind)), ..repo(&content) });
        assert_eq!(problem(registry.get(&path).await).await, (status, code.into()));
    }
}

#[tokio::test]
async fn nothing_of_theirs_can_be_changed() {
    let registry = started(repo(&layer())).await;
    let digest = Digest::sha256(b"x");
    for way in WAYS {
        for (method, rest) in [
            (Method::PUT, "manifests/v1".to_owned()),
            (Method::PUT, format!("manifests/{digest}")),
            (Method::DELETE, "manifests/v1".to_owned()),
            (Method::DELETE, format!("manifests/{digest}")),
            (Method::DELETE, format!("blobs/{digest}")),
            (Method::POST, "blobs/uploads/".to_owned()),
            (Method::POST, format!("blobs/uploads/?mount={digest}&from=app")),
            (Method::POST, format!("blobs/uploads/?digest={digest}")),
            (Method::PATCH, "blobs/uploads/session?_state=x".to_owned()),
            (Method::PUT, format!("blobs/uploads/session?_state=x&digest={digest}")),
            (Method::DELETE, "blobs/uploads/session".to_owned()),
            (Method::GET, "blobs/uploads/session".to_owned()),
            (Method::POST, "tags/list".to_owned()),
        ] {
            let path = path(way, &rest);
            // Nobody needs a right to hear it, and no right changes it.
            for token in [None, Some(TOKEN)] {
                let mut request = registry.request(method.clone(), &path).body("{}");
                if let Some(token) = token {
                    request = request.bearer_auth(token);
                }
                let response = request.send().await.unwrap();
                assert_eq!(header(&response, "allow"), "GET, HEAD", "{method} {path}");
                assert_eq!(header(&response, "oci-namespace"), HOST);
                assert_eq!(problem(response).await, (405, "UNSUPPORTED".into()), "{method} {path}");
            }
        }
    }
    assert_eq!(registry.upstreams.asked(), Vec::<String>::new());
    let catalog: Value = registry.get("/v2/_catalog").await.json().await.unwrap();
    assert_eq!(catalog["repositories"], json!([]));
}

#[tokio::test]
async fn names_that_only_upstreams_have_are_never_ours() {
    let registry = started(Repo::default()).await;
    for bad in ["f", "f/docker.io", "f/a_b/c", "f/host:0/c", "hub", "mirror/example"] {
        for (method, rest) in
            [(Method::GET, "tags/list"), (Method::PUT, "manifests/v1"), (Method::POST, "blobs/uploads/")]
        {
            let path = format!("/v2/{bad}/{rest}");
            let refused = registry.request(method, &path).send().await.unwrap();
            assert_eq!(problem(refused).await, (400, "NAME_INVALID".into()), "{path}");
        }
    }
    for ns in ["", "a_b", "https://docker.io", "docker.io:0", "a%2Fb"] {
        for path in ["/v2/", "/v2/_catalog", "/v2/app/tags/list", "/v2/app/manifests/v1"] {
            let refused = registry.get(&format!("{path}?ns={ns}")).await;
            assert_eq!(problem(refused).await, (400, "NAME_INVALID".into()), "{path} {ns:?}");
        }
    }
    // What is ours stays so beside them.
    registry.push_image("mirror/other", "v1", "layer").await;
    assert_eq!(registry.get("/v2/mirror/other/manifests/v1").await.status(), 200);
}

#[tokio::test]
async fn the_registry_answers_for_itself_in_any_namespace() {
    let registry = started(Repo::default()).await;
    for ns in ["docker.io", "registry.example.com:5000", "unheard.of"] {
        for path in ["/v2/", "/v2/_oci/ext/discover"] {
            let response = registry.get(&format!("{path}?ns={ns}")).await;
            assert_eq!((response.status().as_u16(), header(&response, "oci-namespace")), (200, ns), "{path}");
        }
        let catalog = registry.get(&format!("/v2/_catalog?ns={ns}")).await;
        assert_eq!(problem(catalog).await, (404, "UNSUPPORTED".into()));
        let post = registry.request(Method::POST, &format!("/v2/?ns={ns}")).send().await.unwrap();
        assert_eq!(problem(post).await, (405, "UNSUPPORTED".into()));
    }
}

#[tokio::test]
async fn what_comes_by_a_login_goes_to_those_who_are_known() {
    let users =
        Users::new(Htpasswd::parse(&format!("alice:{}\n", bcrypt::hash("wonderland", 4).unwrap())).unwrap());
    for (anonymous_pull, needs_user, open) in
        [(true, true, false), (true, false, true), (false, false, false), (false, true, false)]
    {
        let auth = Auth { users: Some(users.clone()), anonymous_pull, anonymous_push: false };
        let registry = Registry::with(Settings { auth, ..settings() }).await;
        registry.upstreams.put(name(HOST, "team/app"), Repo { needs_user, ..repo(&layer()) });
        let digest = Digest::sha256(&layer());
        for rest in ["manifests/v1", "tags/list", &format!("blobs/{digest}"), &format!("referrers/{digest}")]
        {
            for way in WAYS {
                let path = path(way, rest);
                let anonymous = registry.get(&path).await;
                let what = format!("{path} {anonymous_pull} {needs_user}");
                if open {
                    assert_ne!(anonymous.status(), 401, "{what}");
                } else {
                    assert!(header(&anonymous, "www-authenticate").starts_with("Basic realm="), "{what}");
                    assert_eq!(problem(anonymous).await, (401, "UNAUTHORIZED".into()), "{what}");
                }
                let alice = registry.request(Method::GET, &path).basic_auth("alice", Some("wonderland"));
                let alice = alice.send().await.unwrap();
                assert_eq!(
                    alice.status().as_u16(),
                    if rest.contains("referrers") { 404 } else { 200 },
                    "{what}"
                );
            }
        }
        let asked = registry.upstreams.asked().len();
        registry.get(&path(WAYS[0], "manifests/none")).await;
        assert_eq!(registry.upstreams.asked().len() - asked, usize::from(open), "nobody is asked for them");
    }
}

#[tokio::test]
async fn a_registry_that_is_its_own_upstream_does_not_go_round() {
    let registry = started(repo(&layer())).await;
    registry.push_image("app", "v1", "layer").await;
    for path in [path(WAYS[0], "manifests/v1"), "/v2/app/manifests/v1".to_owned(), "/v2/".to_owned()] {
        let refused = registry.request(Method::GET, &path).header(LOOP, "1").send().await.unwrap();
        assert_eq!(problem(refused).await, (508, "UNSUPPORTED".into()), "{path}");
    }
    assert_eq!(registry.upstreams.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_cached_blob_is_mounted_once_enough_nodes_hold_it() {
    let registry = Registry::with(settings()).await;
    let (content, few) = (layer(), Bytes::from_static(b"few hold it"));
    let upstream = name(HOST, "team/app");
    let mut cached = repo(&content);
    cached.blobs.insert(Digest::sha256(&few), few.clone());
    cached.evidence = vec![evidence(NodeId(1))];
    registry.upstreams.put(upstream.clone(), cached.clone());
    let digest = Digest::sha256(&content);
    let mount = async |to: &str, digest: &Digest, from: &str| {
        let path = format!("/v2/{to}/blobs/uploads/?mount={digest}&from={from}");
        registry.request(Method::POST, &path).send().await.unwrap()
    };
    for (at, from) in [
        "f/registry.example.com:5000/team/app",
        "f%2Fregistry.example.com%3A5000%2Fteam%2Fapp",
        "f/registry.example.com__5000/team/app",
        "mirror/example/team/app",
    ]
    .iter()
    .enumerate()
    {
        let to = format!("to/{at}");
        let mounted = mount(&to, &digest, from).await;
        assert_eq!(mounted.status(), 201, "{from}");
        assert_eq!(header(&mounted, "location"), format!("/v2/{to}/blobs/{digest}"));
        assert_eq!(header(&mounted, "docker-content-digest"), digest.to_string());
        assert!(log_id(&mounted) > 0);
        assert_eq!(registry.head(&format!("/v2/{to}/blobs/{digest}")).await.status(), 200);
    }
    // Not here, of another repository, or by too few, or by the word of nodes that are fenced: sent.
    assert_eq!(mount("a", &Digest::sha256(b"none"), "mirror/example/team/app").await.status(), 202);
    assert_eq!(mount("a", &digest, "mirror/example/team/other").await.status(), 202);
    cached.evidence = Vec::new();
    registry.upstreams.put(upstream.clone(), cached.clone());
    assert_eq!(mount("a", &Digest::sha256(&few), "mirror/example/team/app").await.status(), 202);
    cached.evidence = vec![evidence(NodeId(7))];
    registry.upstreams.put(upstream.clone(), cached.clone());
    let session = mount("a", &Digest::sha256(&few), "mirror/example/team/app").await;
    assert_eq!(session.status(), 202);
    assert!(header(&session, "location").starts_with("/v2/a/blobs/uploads/"));
    assert_eq!(registry.head(&format!("/v2/a/blobs/{}", Digest::sha256(&few))).await.status(), 404);
    // Whoever may not have it hears what one hears of what is not there.
    cached.evidence = vec![evidence(NodeId(1))];
    cached.needs_user = true;
    registry.upstreams.put(upstream, cached);
    assert_eq!(mount("a", &Digest::sha256(&few), "mirror/example/team/app").await.status(), 202);
    assert_eq!(problem(mount("a", &digest, "hub").await).await, (400, "NAME_INVALID".into()));
    assert_eq!(problem(mount("a", &digest, "f/x").await).await, (400, "NAME_INVALID".into()));
}
