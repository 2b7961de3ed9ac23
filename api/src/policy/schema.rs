//! The published schema of a policy, for editors and for checks before anything is set.
//!
//! Always holds: it knows the same fields as the reader, which a test compares. Never does: read a policy; a
//! document that it takes may still be wrong in what patterns and keys are.

use std::collections::BTreeMap;

use schemars::{JsonSchema, generate::SchemaSettings};

use super::decision::{Mode, Verdict};

/// The schema, JSON Schema 2020-12, as it is published.
pub fn schema() -> serde_json::Value {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Policy>();
    schema.to_value()
}

/// Which images run in a cluster.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct Policy {
    /// The version of this language: 1.
    #[schemars(range(min = 1, max = 1))]
    version: u32,
    /// What comes of a denial: the image does not run (enforce), it runs with a warning (warn), or it runs and the
    /// denial is recorded (audit). Default: enforce.
    mode: Option<Mode>,
    /// What holds for images that no rule matches. Default: deny.
    default: Option<Verdict>,
    /// Tags that no allowed image may have; * stands for any part.
    forbid_tags: Option<Vec<TagPattern>>,
    /// Whether every allowed image must be named by digest. Default: false.
    require_digest: Option<bool>,
    /// Images that may run. Of all rules that match an image the most specific one decides; on a tie deny wins.
    allow: Option<Vec<Allow>>,
    /// Images that may not run.
    deny: Option<Vec<Deny>>,
    /// Public keys by the names that signedBy knows them by, each one PEM block.
    keys: Option<BTreeMap<String, String>>,
    /// What holds in some namespaces instead; the first that matches counts.
    namespaces: Option<Vec<Namespaces>>,
    /// What is changed about images before they run.
    mutate: Option<Mutate>,
}

/// What holds in some namespaces: what is stated here replaces what is stated for all.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct Namespaces {
    /// Names of namespaces; * stands for any part.
    #[schemars(inner(regex(pattern = r"^[a-z0-9*-]+$")))]
    r#match: Vec<String>,
    /// What comes of a denial.
    mode: Option<Mode>,
    /// What holds for images that no rule matches.
    default: Option<Verdict>,
    /// Tags that no allowed image may have.
    forbid_tags: Option<Vec<TagPattern>>,
    /// Whether every allowed image must be named by digest.
    require_digest: Option<bool>,
    /// Images that may run, instead of those that may elsewhere.
    allow: Option<Vec<Allow>>,
    /// Images that may not run, instead of those that may not elsewhere.
    deny: Option<Vec<Deny>>,
}

/// A rule that allows images.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct Allow {
    image: ImagePattern,
    /// Whether these images must be named by digest, whatever holds for others.
    require_digest: Option<bool>,
    /// What must be so of the image where it is pulled from.
    #[schemars(length(min = 1))]
    require: Option<Vec<Require>>,
    /// Names of keys, one of which must have signed the image.
    #[schemars(length(min = 1))]
    signed_by: Option<Vec<String>>,
}

/// A rule that denies images.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct Deny {
    image: ImagePattern,
}

/// What can be required of an image.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "only its schema is used")]
enum Require {
    /// It is there.
    Exists,
    /// All of it is on all its nodes.
    Replicated,
    /// Its tag stands for a digest: for the one beside it, if there is one.
    Resolves,
}

/// What is changed about images; nothing unless it is said here.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct Mutate {
    /// Whether a tag is given the digest that it stands for. Default: false.
    tag_to_digest: Option<bool>,
    /// The registry that images of others are pulled through, such as trow.example.com; empty for none.
    mirror: Option<String>,
}

/// host/path[:tag]: * stands for any part of a segment, ** for any number of segments.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct ImagePattern(
    #[schemars(regex(pattern = r"^[a-z0-9._:*/-]+(:[A-Za-z0-9._*-]+)?$"), length(max = 512))] String,
);

/// A tag; * stands for any part.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct TagPattern(#[schemars(regex(pattern = r"^[A-Za-z0-9._*-]+$"))] String);

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    /// The file in docs is written by `trow policy schema`.
    #[test]
    fn the_published_schema_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/policy.schema.json");
        let published: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(published, schema(), "write it anew: trow policy schema > docs/policy.schema.json");
    }

    #[test]
    fn the_schema_and_the_reader_know_the_same_fields() {
        let schema = schema();
        let fields = |object: &serde_json::Value| -> Vec<String> {
            assert_eq!(object["additionalProperties"], false, "{object}");
            let mut fields: Vec<String> = object["properties"].as_object().unwrap().keys().cloned().collect();
            fields.sort();
            fields
        };
        let sorted = |known: &[&str]| {
            let mut known: Vec<String> = known.iter().map(|field| (*field).to_owned()).collect();
            known.sort();
            known
        };
        assert_eq!(fields(&schema), sorted(read::TOP));
        for (part, known) in [
            ("Namespaces", read::OVERRIDE),
            ("Allow", read::ALLOW),
            ("Deny", read::DENY),
            ("Mutate", read::MUTATE),
        ] {
            assert_eq!(fields(&schema["$defs"][part]), sorted(known), "{part}");
        }
        let words = schema["$defs"]["Require"]["oneOf"].as_array().unwrap();
        let words: Vec<&str> = words.iter().map(|word| word["const"].as_str().unwrap()).collect();
        assert_eq!(words, read::REQUIRE);
    }
}
