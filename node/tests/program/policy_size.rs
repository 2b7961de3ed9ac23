//! How large a policy may be, over HTTP.

use crate::run::{Node, ask_with};

#[test]
fn a_policy_is_as_large_as_is_said_and_no_larger() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::serve(dir.path(), &[]);
    node.until_ready();
    let put = |length: usize| {
        let document = "version: 1\ndefault: allow\n#";
        let document = format!("{document}{}", "x".repeat(length - document.len()));
        let headers = format!("Authorization: Bearer {}\r\n", node.token());
        ask_with(node.client(), "PUT", "/-/trow/v1/policy", &headers, &document).unwrap()
    };
    let large = put((1 << 20) + 1);
    assert_eq!(large.status, 413, "{}", large.body);
    assert!(large.body.contains("a policy has at most 1048576 bytes"), "{}", large.body);
    let none = node.admin("GET", "policy", Some(node.token())).body;
    assert!(none.contains("\"revision\":null"), "what is refused is not set: {none}");
    let largest = put(1 << 20);
    assert_eq!(largest.status, 200, "{}", largest.body);
}
