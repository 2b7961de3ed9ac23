//! Reviews that no API server sends, and what they may not come to: an image that runs unjudged.

use reqwest::Response;
use serde_json::{Value, json};

use crate::reviews;
use crate::support::{Registry, problem};
use crate::webhook::{Webhook, allowing, set_policy};

async fn started() -> (Registry, Webhook) {
    let registry = Registry::start().await;
    let webhook = Webhook::start(&registry).await;
    set_policy(&registry, &allowing(&["docker.io/library/good"])).await;
    (registry, webhook)
}

async fn send(webhook: &Webhook, body: String) -> Response {
    let request = webhook.post("/validate-image").header("content-type", "application/json");
    request.body(body).send().await.unwrap()
}

/// Whether the body lets something in: no answer does not.
async fn is_let_in(webhook: &Webhook, body: String) -> bool {
    let answer = send(webhook, body).await;
    if answer.status() != 200 {
        return false;
    }
    answer.json::<Value>().await.unwrap()["response"]["allowed"] == true
}

/// A key that is there twice counts once, for the decision and for whoever reads on: the last one, as for Go.
#[tokio::test]
async fn no_key_that_is_there_twice_hides_an_image() {
    let (_registry, webhook) = started().await;
    let twice = |key: &str, first: &Value, image: &str| {
        let review = reviews::of_image(image).to_string();
        // The review has a kind too, which is a text.
        let begin = if key == "kind" { "\"kind\":{".to_owned() } else { format!("\"{key}\":") };
        let at = review.find(&begin).unwrap_or_else(|| panic!("{key}"));
        format!("{}\"{key}\":{first},{}", &review[..at], &review[at..])
    };
    let good = reviews::of_image("good:1");
    for (key, at) in [
        ("request", "/request"),
        ("object", "/request/object"),
        ("spec", "/request/object/spec"),
        ("containers", "/request/object/spec/containers"),
        ("image", "/request/object/spec/containers/0/image"),
        ("operation", "/request/operation"),
        ("kind", "/request/kind"),
    ] {
        let first = match key {
            "operation" => json!("DELETE"),
            "kind" => json!({ "group": "", "kind": "Service", "version": "v1" }),
            _ => good.pointer(at).unwrap().clone(),
        };
        assert!(!is_let_in(&webhook, twice(key, &first, "bad:1")).await, "{key} hides an image");
    }
    let bad = reviews::of_image("bad:1");
    assert!(is_let_in(&webhook, twice("object", &bad["request"]["object"], "good:1")).await);
}

#[tokio::test]
async fn a_key_in_another_spelling_is_another_key() {
    let (_registry, webhook) = started().await;
    let bad = reviews::of_image("bad:1").to_string();
    for key in
        ["apiVersion", "request", "uid", "operation", "namespace", "object", "spec", "containers", "image"]
    {
        let renamed = bad.replace(&format!("\"{key}\":"), &format!("\"{}\":", key.to_uppercase()));
        assert_ne!(renamed, bad, "{key}");
        // A Pod without containers has no image, and an API server takes none.
        let passes = ["spec", "containers"].contains(&key);
        assert_eq!(is_let_in(&webhook, renamed).await, passes, "{key}");
    }
}

#[tokio::test]
async fn what_is_deep_large_or_broken_is_refused_and_the_node_goes_on() {
    let (_registry, webhook) = started().await;
    let good = reviews::of_image("good:1").to_string();
    let bad = reviews::of_image("bad:1").to_string();
    let beside = |text: &str, what: &str| text.replacen('{', &format!("{{\"x\":{what},"), 1);
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let objects = |n: usize| format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n));
    for (what, status) in [
        (deep(100), 200),
        (deep(1_000), 400),
        (deep(1_000_000), 413),
        (objects(1_000), 400),
        (objects(200_000), 400),
        (format!("[{}0]", "0,".repeat(100_000)), 200),
        (format!("[{}0]", "0,".repeat(1_000_000)), 413),
        (format!("\"{}\"", "\\u0000".repeat(100_000)), 200),
        (format!("\"{}\"", "\\ud800".repeat(10)), 400),
        ("1e400".to_owned(), 400),
        (format!("1{}", "0".repeat(100_000)), 400),
        ("NaN".to_owned(), 400),
        ("[1,]".to_owned(), 400),
        ("\"\u{1}\"".to_owned(), 400),
    ] {
        let answer = send(&webhook, beside(&good, &what)).await;
        let shown = &what[..what.len().min(60)];
        assert_eq!(answer.status(), status, "{shown}");
        if status != 200 {
            assert!(!problem(answer).await.1.is_empty());
        }
        assert!(!is_let_in(&webhook, beside(&bad, &what)).await, "{shown}");
    }
    for end in [1, bad.len() / 2, bad.len() - 1] {
        assert_eq!(send(&webhook, good[..end].to_owned()).await.status(), 400, "{end}");
    }
    for body in [
        format!("{good}{good}"),
        format!("{good}]"),
        format!("\u{feff}{good}"),
        format!("[{good}]"),
        String::new(),
    ] {
        assert_eq!(send(&webhook, body).await.status(), 400);
    }
    assert!(is_let_in(&webhook, format!(" \r\n\t{good}\n")).await);
}

#[tokio::test]
async fn images_that_do_not_parse_are_denied_with_the_reason() {
    let (registry, webhook) = started().await;
    for policy in [allowing(&["**"]), json!({ "version": 1, "default": "allow" }).to_string()] {
        set_policy(&registry, &policy).await;
        for image in [
            "",
            " ",
            "good:1 ",
            " good:1",
            "good :1",
            "good:1\n",
            "good:1\t",
            "\u{feff}good:1",
            "go\u{43e}d:1",
            "g\u{ff4f}od:1",
            "good\u{200b}:1",
            "quay.io./good:1",
            "quay..io/good:1",
            "[::1]:5000/good:1",
            "::1/good:1",
            "127.1:5000/good:1",
            "quay.io:/good:1",
            "quay.io:0/good:1",
            "quay.io:05000/good:1",
            "quay.io:65536/good:1",
            "quay_io.example/good:1",
            "GOOD:1",
            "docker.io/Library/good:1",
            "docker://good:1",
            "good:1@sha256:00",
            "good@sha256:",
            "good@",
            "sha256:0a",
            "good:",
            "good::1",
            "/good:1",
            "good/:1",
            "good//x:1",
            "../good:1",
            "trow.test/f/docker.io",
            "quay.io/f/quay.io/good:1",
        ] {
            let message = webhook.validate(&reviews::of_image(image)).await;
            let message = message.unwrap_or_else(|| panic!("{image:?} is let in"));
            assert!(
                message.contains("(container \"web\") denied by unreadable name: "),
                "{image:?}: {message}"
            );
        }
    }
}
