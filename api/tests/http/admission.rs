//! Reviews and their answers: what is judged, what passes, what is refused, and how people are told.

use std::time::Duration;

use serde_json::{Value, json};

use crate::peers::Peers;
use crate::reviews;
use crate::support::{BOUND, Registry, header, problem};
use crate::webhook::{HOSTNAMES, Webhook, allowing, set_policy};

const WEB: &str = "image \"docker.io/library/app:1\" (container \"web\")";
const PREPARE: &str = "(container \"prepare\")";
const MODEL: &str = "image \"ghcr.io/acme/model:v3\" (container \"model\")";

#[tokio::test]
async fn every_kind_is_judged_and_what_changes_no_image_passes() {
    let registry = Registry::start().await;
    let webhook = Webhook::start(&registry).await;
    for (name, review) in reviews::all() {
        assert_eq!(webhook.validate(&review).await, None, "{name} is denied before there is a policy");
    }
    set_policy(&registry, "version: 1\ndefault: deny\n").await;
    for (name, review) in reviews::all() {
        let denied: &[&str] = match name {
            "pod-create" | "pod-create-dry-run" | "deployment-create" => &[WEB, PREPARE, MODEL],
            "pod-update-image" | "deployment-update-image" => {
                &["image \"docker.io/library/app:2\" (container \"web\")"]
            }
            "pod-ephemeral-container" => {
                &["image \"docker.io/library/busybox:latest\" (container \"debugger\")"]
            }
            "statefulset-create"
            | "daemonset-create"
            | "replicaset-create"
            | "replicationcontroller-create"
            | "job-create"
            | "cronjob-create" => &[WEB],
            "pod-update-labels"
            | "pod-status"
            | "pod-delete"
            | "pod-exec"
            | "deployment-scale-down"
            | "deployment-scale"
            | "deployment-delete"
            | "service-create" => &[],
            other => panic!("nobody says what {other} gets"),
        };
        let message = webhook.validate(&review).await;
        let parts: Vec<&str> = message.as_deref().map(|all| all.split("; ").collect()).unwrap_or_default();
        assert_eq!(parts.len(), denied.len(), "{name}: {message:?}");
        for (part, image) in parts.iter().zip(denied) {
            assert!(part.contains(image) && part.contains(" denied by default: "), "{name}: {part}");
        }
    }
}

#[tokio::test]
async fn a_denial_names_the_rule_and_what_to_do() {
    let registry = Registry::start().await;
    let webhook = Webhook::start(&registry).await;
    let policy = "version: 1\ndefault: deny\nforbidTags: [latest]\nallow:\n  - image: docker.io/library/*\n  - image: \
                  quay.io/**\n    requireDigest: true\ndeny:\n  - image: docker.io/library/old-*\n";
    set_policy(&registry, policy).await;
    for (image, begins) in [
        (
            "old-x:1",
            "image \"docker.io/library/old-x:1\" (container \"web\") denied by deny[0] \"docker.io/library/old-*\": ",
        ),
        ("ghcr.io/a/b:1", "image \"ghcr.io/a/b:1\" (container \"web\") denied by default: "),
        (
            "nginx",
            "image \"docker.io/library/nginx:latest\" (container \"web\") denied by forbidTags \"latest\": ",
        ),
        ("quay.io/a/b:1", "image \"quay.io/a/b:1\" (container \"web\") denied by requireDigest: "),
        (
            "quay.io.evil.example/a/b:1",
            "image \"quay.io.evil.example/a/b:1\" (container \"web\") denied by default: ",
        ),
    ] {
        let message =
            webhook.validate(&reviews::of_image(image)).await.unwrap_or_else(|| panic!("{image} is let in"));
        let advice = message.strip_prefix(begins).unwrap_or_else(|| panic!("{message}"));
        assert!(!advice.is_empty(), "{message}");
    }
    assert_eq!(webhook.validate(&reviews::of_image("nginx:1.27")).await, None);
    for unreadable in ["Nginx", "nginx:", "a b", "", "nginx@sha256:00", " nginx"] {
        let message = webhook.validate(&reviews::of_image(unreadable)).await;
        let message = message.unwrap_or_else(|| panic!("{unreadable:?} is let in"));
        assert!(message.contains("(container \"web\") denied by "), "{message}");
        assert_eq!(message.ends_with(": the container names no image"), unreadable.is_empty(), "{message}");
    }
    let message = webhook.validate(&reviews::of_image("trow.test/hub/old-x:1")).await.expect("it is let in");
    let begins = "image \"docker.io/library/old-x:1\" (container \"web\") denied by deny[0] ";
    let ends = " (written trow.test/hub/old-x:1)";
    assert!(message.starts_with(begins) && message.ends_with(ends), "{message}");
}

#[tokio::test]
async fn modes_say_what_comes_of_a_denial() {
    let registry = Registry::start().await;
    let webhook = Webhook::start(&registry).await;
    let policy =
        |mode: &str| format!("version: 1\ndefault: deny\nnamespaces:\n  - match: [te*]\n    mode: {mode}\n");
    let review = reviews::all().remove("pod-create").unwrap();

    set_policy(&registry, &policy("warn")).await;
    let warned = webhook.ask("/validate-image", &review).await;
    assert_eq!(warned["allowed"], true);
    let warnings = warned["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 3);
    assert!(warnings[0].as_str().unwrap().starts_with(WEB), "{warnings:?}");

    set_policy(&registry, &policy("audit")).await;
    let audited = webhook.ask("/validate-image", &review).await;
    assert_eq!((audited["allowed"] == true, audited.get("warnings")), (true, None));
    let annotations = audited["auditAnnotations"].as_object().unwrap();
    assert!(annotations["would-deny"].as_str().unwrap().contains(WEB), "{annotations:?}");
    assert!(annotations["policy-revision"].as_str().unwrap().parse::<u64>().unwrap() > 0);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    assert!(annotations.keys().all(|key| key.len() <= 63 && key.chars().all(plain)), "{annotations:?}");

    set_policy(&registry, &policy("enforce")).await;
    assert!(webhook.validate(&review).await.is_some());
    let page = page(&webhook);
    for verdict in ["warn", "audit", "deny"] {
        let line = format!("trow_admission_decisions_total{{verdict=\"{verdict}\",rule=\"default\"}} 3");
        assert!(page.contains(&line), "no {line} in {page}");
    }
}

fn page(webhook: &Webhook) -> String {
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &webhook.counters).unwrap();
    page
}

#[tokio::test]
async fn what_is_no_review_gets_no_verdict() {
    let registry = Registry::start().await;
    let webhook = Webhook::start(&registry).await;
    let review = reviews::of_image("nginx:1");
    for path in ["/validate-image", "/mutate-image"] {
        let text = webhook.post(path).header("content-type", "text/plain").body(review.to_string());
        assert_eq!(problem(text.send().await.unwrap()).await.0, 415);
        assert_eq!(problem(webhook.post(path).body(review.to_string()).send().await.unwrap()).await.0, 415);
        let json = |body: String| webhook.post(path).header("content-type", "application/json").body(body);
        assert_eq!(problem(json("{".into()).send().await.unwrap()).await.0, 400);
        let large = format!("{}{}", review, " ".repeat(4 << 20));
        // This one is shorter, and takes as much memory as a hundred of them.
        let many = format!("[{}0]", "{\"\":0},".repeat(300_000));
        for body in [large, many] {
            assert_eq!(problem(json(body).send().await.unwrap()).await.0, 413);
        }
        let long = format!("{}{}", review, " ".repeat(1 << 20));
        assert_eq!(json(long).send().await.unwrap().status(), 200);
        for (key, value) in [
            ("apiVersion", json!("admission.k8s.io/v1beta1")),
            ("kind", json!("Pod")),
            ("request", json!(null)),
        ] {
            let mut wrong = review.clone();
            wrong[key] = value;
            assert_eq!(problem(webhook.send(path, &wrong).await).await.0, 400, "{key}");
        }
        assert_eq!(problem(webhook.get(path).send().await.unwrap()).await.0, 405);
    }
    assert_eq!(problem(webhook.get("/").send().await.unwrap()).await.0, 404);
    assert_eq!(problem(webhook.send("/validate-image/x", &review).await).await.0, 404);

    // With a uid there is an answer, and what nobody understands is not let in.
    for (pointer, value) in [
        ("/request/operation", json!("PATCH")),
        ("/request/kind", json!(7)),
        ("/request/namespace", json!("")),
        ("/request/object", json!(null)),
        ("/request/object/spec", json!("none")),
        ("/request/object/spec/containers", json!({ "web": "nginx" })),
        ("/request/object/spec/containers/0/image", json!(["nginx"])),
    ] {
        let mut odd = review.clone();
        *odd.pointer_mut(pointer).unwrap() = value;
        let message = webhook.validate(&odd).await.unwrap_or_else(|| panic!("{pointer} is let in"));
        assert!(message.contains("cannot be understood"), "{message}");
        assert_eq!(webhook.mutate(&odd).await.1, 0, "{pointer}");
    }
    let answer = webhook.send("/validate-image", &review).await;
    assert_eq!(header(&answer, "trow-node"), "n1");
}

#[tokio::test]
async fn rules_hold_however_an_image_is_spelled() {
    let registry = Registry::start().await;
    let webhook = Webhook::start(&registry).await;
    // What is ours is allowed; of Docker Hub one image is.
    let ours = format!("{}/**", HOSTNAMES[0]);
    set_policy(&registry, &allowing(&[&ours, "docker.io/library/good"])).await;
    let bad = [
        "trow.test/f/docker.io/library/bad:1",
        "trow.test/f/docker.io/bad:1",
        "trow.test/f/index.docker.io/bad:1",
        "trow.test/f/docker.io__443/bad:1",
        "trow.test:443/f/docker.io/library/bad:1",
        "TROW.TEST/f/docker.io/library/bad:1",
        "trow.test:5000/hub/bad:1",
        "trow.test/hub/library/bad:1",
        "trow.test/hub:1",
        "trow.test/f/docker.io",
        "trow.test/f/trow.test/f/docker.io/bad:1",
        "bad:1",
        "docker.io:443/bad:1",
    ];
    for image in bad {
        assert!(webhook.validate(&reviews::of_image(image)).await.is_some(), "{image} is let in");
    }
    for image in ["trow.test/app:1", "good:1", "trow.test/f/docker.io/library/good:1", "trow.test/hub/good:1"]
    {
        assert_eq!(webhook.validate(&reviews::of_image(image)).await, None, "{image}");
    }
    // The other way round: all is allowed but these.
    let deny = json!([{ "image": "docker.io/library/bad" }, { "image": "trow.test/secret/**" }]);
    set_policy(&registry, &json!({ "version": 1, "default": "allow", "deny": deny }).to_string()).await;
    for image in bad.into_iter().chain([
        "trow.test/secret/a:1",
        "trow.test:5000/secret/a:1",
        "trow.test:443/secret/a:1",
    ]) {
        assert!(webhook.validate(&reviews::of_image(image)).await.is_some(), "{image} is let in");
    }
    for image in
        ["trow.test/app:1", "trow.test/f/quay.io/bad:1", "quay.io/library/bad:1", "trow.test/secrets/a:1"]
    {
        assert_eq!(webhook.validate(&reviews::of_image(image)).await, None, "{image}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_the_policy_holds_for_a_while_and_then_nothing_is_let_in() {
    let mut peers = Peers::start(2).await;
    let registry = peers.registry(1).await;
    let patient = Webhook::with(&registry, Duration::from_secs(3600)).await;
    let strict = Webhook::with(&registry, Duration::from_millis(1)).await;
    set_policy(&registry, &allowing(&["docker.io/library/good"])).await;
    let (good, bad) = (reviews::of_image("good:1"), reviews::of_image("bad:1"));
    assert_eq!(patient.validate(&good).await, None);
    assert!(patient.validate(&bad).await.is_some());
    assert_eq!(strict.validate(&good).await, None);

    peers.stop(2).await;
    let lost = async {
        while registry.metadata.leadership().quorum {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(BOUND, lost).await.unwrap();
    let answer = patient.ask("/validate-image", &good).await;
    assert_eq!(answer["allowed"], true);
    assert!(answer["auditAnnotations"]["policy-age"].as_str().unwrap().contains("no quorum"), "{answer}");
    assert!(patient.validate(&bad).await.unwrap().contains("denied by default"));

    let message = strict.validate(&good).await.expect("an old policy lets something in");
    for word in ["without a quorum", "namespaceSelector", "kubectl delete validatingwebhookconfiguration"] {
        assert!(message.contains(word), "{message}");
    }
    // One that started meanwhile never knew whether its policy is the current one.
    let late = Webhook::with(&registry, Duration::from_secs(3600)).await;
    assert!(late.validate(&good).await.unwrap().contains("found no quorum since it started"));
    let passing = reviews::all().into_iter().filter(|(name, _)| {
        ["pod-delete", "pod-update-labels", "deployment-scale-down", "pod-status"].contains(name)
    });
    for (name, review) in passing {
        assert_eq!(strict.validate(&review).await, None, "{name}");
    }
    assert_eq!(strict.mutate(&good).await.1, 0);
}

#[tokio::test]
async fn a_policy_that_nobody_here_can_read_lets_nothing_in() {
    let registry = Registry::start().await;
    let webhook = Webhook::start(&registry).await;
    set_policy(&registry, "version: 99\ndefault: allow\n").await;
    let message = webhook.validate(&reviews::of_image("nginx:1")).await.expect("it is let in");
    assert!(message.contains("cannot be read by this node"), "{message}");
    set_policy(&registry, &allowing(&["docker.io/**"])).await;
    assert_eq!(webhook.validate(&reviews::of_image("nginx:1")).await, None);
}

#[tokio::test]
async fn as_many_images_as_an_object_may_have_get_an_answer_of_a_bounded_size() {
    let registry = Registry::start().await;
    let webhook = Webhook::start(&registry).await;
    set_policy(&registry, "version: 1\nmode: warn\ndefault: deny\n").await;
    let mut containers: Vec<Value> =
        (0..1000).map(|n| json!({ "name": format!("c{n}"), "image": format!("quay.io/a/b:{n}") })).collect();
    let mut review = reviews::of_image("nginx:1");
    review["request"]["object"]["spec"]["containers"] = containers.clone().into();
    let answer = webhook.ask("/validate-image", &review).await;
    assert_eq!(answer["allowed"], true);
    let warnings: Vec<&str> =
        answer["warnings"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    assert!(warnings.iter().all(|warning| warning.chars().count() <= 256));
    assert!(warnings.iter().map(|warning| warning.chars().count()).sum::<usize>() <= 4096);
    assert!(answer.to_string().len() < 64 << 10, "{}", answer.to_string().len());
    set_policy(&registry, "version: 1\ndefault: deny\n").await;
    let message = webhook.validate(&review).await.unwrap();
    assert!(message.len() < 32 << 10 && message.contains(" more"), "{}", message.len());

    containers.push(json!({ "name": "one-more", "image": "nginx:1" }));
    review["request"]["object"]["spec"]["containers"] = containers.into();
    set_policy(&registry, "version: 1\ndefault: allow\n").await;
    let message = webhook.validate(&review).await.expect("a review without end is judged");
    assert!(message.contains("more than 1000 images"), "{message}");
}
