//! Pages of a subject that has more referrers than one page may look at.

use trow_raft::{ApplyEntry, Command, Envelope, NodeId, Planted, State};

use super::*;

#[test]
fn what_comes_after_any_text_is_sought_near_its_beginning() {
    let hex = |fill: &str, len: usize| fill.repeat(len);
    let of256 = |digits: String| Some(format!("sha256:{digits}").parse::<Digest>().unwrap());
    let of512 = |digits: String| Some(format!("sha512:{digits}").parse::<Digest>().unwrap());
    for (text, from) in [
        (String::new(), None),
        ("x".into(), None),
        ("sha256".into(), None),
        ("sha256:".into(), of256(hex("0", 64))),
        ("sha256:ab".into(), of256(format!("ab{}", hex("0", 62)))),
        ("sha256:abZ".into(), of256(format!("ab{}", hex("0", 62)))),
        ("sha256:abz".into(), of256(format!("ab{}", hex("f", 62)))),
        (format!("sha256:{}", hex("c", 64)), of256(hex("c", 64))),
        (format!("sha256:{}", hex("c", 90)), of256(hex("c", 64))),
        ("sha512:ä".into(), of512(hex("f", 128))),
        (format!("sha512:{}", hex("c", 90)), of512(format!("{}{}", hex("c", 90), hex("0", 38)))),
    ] {
        assert_eq!(seek(&text), from, "{text}");
        // Nothing that comes after the text is left out.
        for digest in [
            of256(hex("0", 64)),
            of256(format!("ab{}", hex("c", 62))),
            of256(hex("f", 64)),
            of512(hex("f", 128)),
        ] {
            let digest = digest.unwrap();
            assert!(digest.to_string() <= text || from.is_none_or(|from| from <= digest), "{text} {digest}");
        }
    }
}

const COUNT: u64 = LOOKED_AT as u64 + 500;

fn repo() -> RepoName {
    "r".parse().unwrap()
}

fn subject() -> Digest {
    Digest::sha256(b"subject")
}

/// A state with [`COUNT`] referrers, the last of which alone is `rare`; their digests in order.
fn filled(dir: &std::path::Path) -> (State, Vec<String>) {
    let text = |number: u64| format!("referrer {number}");
    let last = (0..COUNT).max_by_key(|number| Digest::sha256(text(*number).as_bytes())).unwrap();
    let mut digests = Vec::new();
    let entries: Vec<ApplyEntry> = (0..COUNT)
        .map(|number| {
            let bytes = Bytes::from(text(number));
            let digest = Digest::sha256(&bytes);
            digests.push(digest.to_string());
            let kind = if number == last { "rare" } else { "common" };
            let descriptor = serde_json::json!({ "digest": digest, "artifactType": kind }).to_string();
            let manifest = trow_raft::command::NewManifest {
                digest,
                media_type: INDEX.into(),
                artifact_type: Some(kind.into()),
                bytes,
                blobs: Vec::new(),
                children: Vec::new(),
                subject: Some(subject()),
                descriptor: Some(descriptor.into()),
            };
            let command = Command::PutManifest {
                repo: repo(),
                manifest,
                tags: Vec::new(),
                condition: None,
                sparse: true,
            };
            let (node, index) = (NodeId(1), number + 1);
            let envelope =
                Envelope { node, boot: 1, seq: index, now: 0, actor: String::new(), level: 1, command };
            ApplyEntry {
                index,
                log_id: Bytes::from_static(b"id"),
                envelope: Some(envelope),
                membership: None,
            }
        })
        .collect();
    let state = State::open(&dir.join("state.redb"), Planted::NONE).unwrap();
    state.apply(&entries).unwrap();
    digests.sort();
    (state, digests)
}

/// The digests that each page shows, until there is no next.
fn walk(view: &View, wanted: Option<&str>, query: &str) -> Vec<Vec<String>> {
    let (mut pages, mut after) = (Vec::new(), None::<String>);
    loop {
        let asked = match &after {
            Some(after) => format!("{query}&last={after}"),
            None => query.to_owned(),
        };
        let asked = Query::parse(Some(&asked)).unwrap();
        let page = Page::parse(&asked).unwrap();
        let listed = listed(view, &repo(), &subject(), wanted, &page).unwrap();
        let digest = |bytes: &Bytes| {
            let descriptor: Value = serde_json::from_slice(bytes).unwrap();
            descriptor["digest"].as_str().unwrap().to_owned()
        };
        pages.push(listed.shown.iter().map(digest).collect());
        assert!(listed.next.is_none() || listed.next > after, "no way forward");
        after = listed.next;
        if after.is_none() {
            return pages;
        }
    }
}

#[test]
fn a_page_ends_where_it_looked_at_enough_and_says_how_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (state, digests) = filled(dir.path());
    let view = state.view().unwrap();
    let nothing: Vec<String> = Vec::new();
    assert_eq!(
        walk(&view, Some("rare"), "n=10"),
        [nothing.clone(), vec![digests[COUNT as usize - 1].clone()]]
    );
    assert_eq!(walk(&view, Some("nobody"), "n=10"), [nothing.clone(), nothing]);
    assert_eq!(walk(&view, None, "n=4000").concat(), digests);
    let common = walk(&view, Some("common"), "n=4000");
    assert_eq!(common.concat(), digests[..COUNT as usize - 1]);
    assert_eq!(common.iter().map(Vec::len).collect::<Vec<_>>(), [4000, 4000, 2499]);
    // From the middle, wherever that is.
    for last in [digests[5000].clone(), digests[5000][..30].to_owned(), format!("{}Z", &digests[5000][..30])]
    {
        let asked = Query::parse(Some(&format!("n=3&last={last}"))).unwrap();
        let shown = listed(&view, &repo(), &subject(), None, &Page::parse(&asked).unwrap()).unwrap().shown;
        let from = digests.partition_point(|digest| *digest <= last);
        let expected = digests[from..from + 3].iter();
        for (descriptor, digest) in shown.iter().zip(expected) {
            assert!(std::str::from_utf8(descriptor).unwrap().contains(digest), "after {last}");
        }
        assert_eq!(shown.len(), 3);
    }
}
