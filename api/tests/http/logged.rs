//! What a review leaves in the log: lines that nobody who writes a review can make up.

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::reviews;
use crate::support::Registry;
use crate::webhook::{Webhook, set_policy};

/// What is logged in one test.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A line as a node writes it, and what ends the one before it or moves the cursor back.
const FORGED: &str = "x\n1999-01-01T00:00:00.000000Z  INFO forged: an image was judged verdict=\"allow\"\r\u{1b}[1A\u{1b}[2K\u{0}\
                      \u{85}\u{2028}\u{202e}\u{9b}1A";

#[tokio::test]
async fn no_text_of_a_review_forges_a_line_of_the_log() {
    let lines = Lines::default();
    let writer = lines.clone();
    // As a node's own, but for the colours.
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let registry = Registry::start().await;
    let webhook = Webhook::start(&registry).await;
    set_policy(&registry, "version: 1\ndefault: deny\n").await;
    // Of this thread, on which the webhook runs too.
    let guard = tracing::subscriber::set_default(subscriber);
    let mut events = 0;
    for pointer in [
        "/request/uid",
        "/request/userInfo/username",
        "/request/namespace",
        "/request/name",
        "/request/object/spec/containers/0/name",
        "/request/object/spec/containers/0/image",
        "/request/operation",
        "/request/object/spec",
    ] {
        let mut review = reviews::of_image("nginx:1");
        *review.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = json!(FORGED);
        let answer = webhook.ask("/validate-image", &review).await;
        assert_eq!(answer["allowed"], false, "{pointer}");
        assert!(!answer["status"]["message"].as_str().unwrap().contains(['\n', '\r', '\u{1b}']), "{answer}");
        let text = lines.text();
        let told = text.matches("an image was judged uid=").count() + text.matches("not understood").count();
        assert_eq!(told, events + 1, "{pointer}: {text}");
        events = told;
    }
    drop(guard);
    let text = lines.text();
    assert!(text.contains("\\n1999-01-01T00:00:00.000000Z"), "what was written is told: {text}");
    for line in text.lines() {
        // A time of this century, whatever else the line says.
        assert!(line.starts_with('2') && line.get(10..11) == Some("T"), "{line:?} in {text}");
    }
    let hidden = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202e}');
    assert!(!text.contains(hidden), "{text:?}");
}
