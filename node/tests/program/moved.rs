//! A member that is started again with other settings, or stands still: what the cluster knows of it,
//! and what it comes to hold.

use crate::dev::Dev;
use crate::run::{ask, push_blob, trow_json, until};

#[test]
fn a_node_that_comes_back_in_another_zone_is_known_there_and_every_blob_stays() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), 4);
    let content = |number: u32| format!("content {number}");
    let pushed: Vec<String> =
        (0..32).map(|number| push_blob(dev.field(0, "client"), "a/b", &content(number))).collect();
    dev.cli(0, &["cluster", "wait", "--for", "settled", "--timeout", "120s"]).expect(0);

    dev.kill(3);
    let _moved = dev.restart_with(3, &["--zone", "b"]);
    until("the cluster to know the zone", || {
        let status = dev.status(0);
        let members = status["members"].as_array().unwrap();
        members.iter().any(|member| member["name"] == "n4" && member["zone"] == "b").then_some(())
    });
    dev.cli(0, &["cluster", "wait", "--for", "settled", "--timeout", "120s"]).expect(0);

    // Owners lie in two zones, and n4 is the only one in its own.
    for (number, digest) in (0..).zip(&pushed) {
        let found = until("every member to say whether it holds a blob", || {
            let found = trow_json(&dev.with_server(0, &["blob", "locate", digest, "--output", "json"]), 0);
            found["silent"].as_array().unwrap().is_empty().then_some(found)
        });
        let owners = found["owners"].as_array().unwrap();
        assert!(owners.len() == 3 && owners.contains(&"n4".into()), "{found}");
        assert_eq!(found["holders"].as_array().unwrap().len(), 3, "{found}");
        let got = ask(dev.field(3, "client"), "GET", &format!("/v2/a/b/blobs/{digest}"), None).unwrap();
        assert_eq!((got.status, got.body), (200, content(number)));
    }
}

/// A node that stands still until this is dropped.
struct Paused<'a>(&'a Dev, usize);

impl<'a> Paused<'a> {
    fn node(dev: &'a Dev, node: usize) -> Self {
        dev.pause(node);
        Paused(dev, node)
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.resume(self.1);
    }
}

#[test]
fn a_short_wait_names_the_node_that_stands_still() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), 3);
    let _paused = Paused::node(&dev, 2);
    // An election may come first; from then on it is known who is silent.
    let said = until("the silent node to be named", || {
        let run = dev.cli(0, &["cluster", "wait", "--for", "healthy", "--timeout", "2s"]).expect(1);
        run.err.contains("n3").then_some(run.err)
    });
    assert!(said.starts_with("trow: time is up: not "), "{said}");
}
