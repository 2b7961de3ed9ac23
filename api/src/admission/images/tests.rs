use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::admission::review::{self, API_VERSION, KIND};

fn asked(request: Value) -> Asked {
    let mut whole = json!({ "uid": "u", "operation": "CREATE", "namespace": "team" });
    for (key, value) in request.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let review = json!({ "apiVersion": API_VERSION, "kind": KIND, "request": whole });
    review::parse(review.to_string().as_bytes()).unwrap().asked.unwrap()
}

fn pod(spec: Value) -> Value {
    json!({ "kind": { "kind": "Pod" }, "object": { "spec": spec } })
}

fn found(request: Value) -> Vec<String> {
    match subject(&asked(request)).unwrap() {
        Subject::Nothing => Vec::new(),
        Subject::Images { images, .. } => {
            images.iter().map(|named| format!("{} {} {}", named.name, named.image, named.pointer)).collect()
        }
    }
}

/// A spec with an image of each sort.
fn full() -> Value {
    json!({
        "containers": [{ "name": "a", "image": "i1" }, { "name": "b", "image": "i2" }],
        "initContainers": [{ "name": "c", "image": "i3" }],
        "ephemeralContainers": [{ "name": "d", "image": "i4", "targetContainerName": "a" }],
        "volumes": [
            { "name": "none", "emptyDir": {} },
            { "name": "e", "image": { "reference": "i5", "pullPolicy": "Always" } },
        ],
    })
}

#[test]
fn ephemeral_containers_of_an_unknown_kind_are_not_let_in() {
    let debugged = json!({ "kind": { "kind": "EphemeralContainers" }, "subResource": "ephemeralcontainers", "object": {} });
    let why = subject(&asked(debugged.clone())).unwrap_err();
    assert!(why.contains("the unknown kind \"EphemeralContainers\""), "{why}");
    let mut deleted = debugged.clone();
    deleted["operation"] = "DELETE".into();
    assert_eq!(subject(&asked(deleted)), Ok(Subject::Nothing));
    let mut other = debugged;
    other["subResource"] = "binding".into();
    assert_eq!(subject(&asked(other)), Ok(Subject::Nothing));
}

#[test]
fn only_so_many_images_are_found() {
    let many = |count| pod(json!({ "containers": vec![json!({ "name": "a", "image": "i" }); count] }));
    assert_eq!(found(many(IMAGES_MAX)).len(), IMAGES_MAX);
    assert!(subject(&asked(many(IMAGES_MAX + 1))).unwrap_err().contains("more than 1000 images"));
}

#[test]
fn every_sort_of_image_is_found() {
    assert_eq!(
        found(pod(full())),
        [
            "a i1 /spec/containers/0/image",
            "b i2 /spec/containers/1/image",
            "c i3 /spec/initContainers/0/image",
            "d i4 /spec/ephemeralContainers/0/image",
            "e i5 /spec/volumes/1/image/reference",
        ]
    );
}

#[test]
fn every_kind_is_looked_into() {
    let template = json!({ "template": { "spec": full() } });
    for (group, kind, spec, at) in [
        ("apps", "Deployment", template.clone(), "/spec/template/spec"),
        ("apps", "StatefulSet", template.clone(), "/spec/template/spec"),
        ("apps", "DaemonSet", template.clone(), "/spec/template/spec"),
        ("apps", "ReplicaSet", template.clone(), "/spec/template/spec"),
        ("", "ReplicationController", template.clone(), "/spec/template/spec"),
        ("batch", "Job", template.clone(), "/spec/template/spec"),
        (
            "batch",
            "CronJob",
            json!({ "jobTemplate": { "spec": template } }),
            "/spec/jobTemplate/spec/template/spec",
        ),
    ] {
        let request = json!({ "kind": { "group": group, "kind": kind }, "object": { "spec": spec } });
        let all = found(request.clone());
        assert_eq!(all.len(), 5, "{kind}");
        assert!(all.iter().all(|one| one.contains(&format!(" {at}/"))), "{all:?}");
        let Subject::Images { is_pod, .. } = subject(&asked(request)).unwrap() else { panic!("{kind}") };
        assert!(!is_pod, "{kind}");
    }
    for (group, kind) in [("", "Service"), ("example.com", "Pod"), ("autoscaling", "Scale"), ("", "Binding")]
    {
        let request = json!({ "kind": { "group": group, "kind": kind }, "object": { "spec": full() } });
        assert_eq!(subject(&asked(request)), Ok(Subject::Nothing), "{group}/{kind}");
    }
}

#[test]
fn what_changes_no_image_passes() {
    let old = json!({ "spec": full() });
    let update = |object: Value| {
        let kind = json!({ "kind": "Pod" });
        json!({ "kind": kind, "operation": "UPDATE", "object": object, "oldObject": old })
    };
    assert_eq!(found(update(old.clone())), Vec::<String>::new());

    let mut changed = old.clone();
    changed["spec"]["initContainers"][0]["image"] = "i9".into();
    assert_eq!(found(update(changed)), ["c i9 /spec/initContainers/0/image"]);

    // The same image in another container is another decision: it was not running there.
    let mut moved = old.clone();
    moved["spec"]["containers"].as_array_mut().unwrap().push(json!({ "name": "z", "image": "i1" }));
    moved["spec"]["initContainers"][0] = json!({ "name": "a", "image": "i1" });
    assert_eq!(found(update(moved)), ["z i1 /spec/containers/2/image", "a i1 /spec/initContainers/0/image"]);

    // An update that does not say what was before, or says it so that nobody understands it, hides nothing.
    let mut request = update(old.clone());
    for before in [Value::Null, json!(7), json!({ "spec": { "containers": 7 } })] {
        request["oldObject"] = before;
        assert_eq!(found(request.clone()).len(), 5);
    }
    // What is created has nothing before it, whatever the review says.
    let mut request = update(old.clone());
    request["operation"] = "CREATE".into();
    assert_eq!(found(request).len(), 5);
}

#[test]
fn deletes_connects_and_status_pass() {
    for (operation, sub_resource) in [
        ("DELETE", ""),
        ("CONNECT", "exec"),
        ("UPDATE", "status"),
        ("CREATE", "status"),
        ("DELETE", "status"),
    ] {
        let mut request = pod(full());
        request["operation"] = operation.into();
        request["subResource"] = sub_resource.into();
        assert_eq!(subject(&asked(request)), Ok(Subject::Nothing), "{operation} {sub_resource}");
    }
    for sub_resource in ["", "ephemeralcontainers", "resize", "unheard-of"] {
        let mut request = pod(full());
        request["operation"] = "UPDATE".into();
        request["subResource"] = sub_resource.into();
        assert_eq!(found(request).len(), 5, "{sub_resource}");
    }
}

#[test]
fn what_is_not_understood_is_no_nothing() {
    let pods = [
        json!({ "containers": { "name": "a", "image": "i" } }),
        json!({ "containers": "i" }),
        json!({ "containers": [["a", "i"]] }),
        json!({ "containers": [{ "name": "a", "image": 1 }] }),
        json!({ "containers": [{ "name": 1, "image": "i" }] }),
        json!({ "containers": [{ "name": "a", "image": ["i"] }] }),
        json!({ "containers": [], "initContainers": 1 }),
        json!({ "containers": [], "ephemeralContainers": {} }),
        json!({ "containers": [], "volumes": [{ "name": "v", "image": "i" }] }),
        json!({ "containers": [], "volumes": [{ "name": "v", "image": { "reference": 1 } }] }),
        json!([]),
        json!("x"),
    ];
    for spec in pods {
        assert!(subject(&asked(pod(spec.clone()))).is_err(), "{spec}");
    }
    let deployment =
        |object: Value| json!({ "kind": { "group": "apps", "kind": "Deployment" }, "object": object });
    for object in [json!(null), json!([]), json!({ "spec": 1 }), json!({ "spec": { "template": [] } })] {
        assert!(subject(&asked(deployment(object.clone()))).is_err(), "{object}");
    }
    // Rules of the namespace would be passed by.
    let mut request = pod(full());
    request["namespace"] = "".into();
    assert!(subject(&asked(request)).is_err());
}

#[test]
fn templates_may_leave_images_open_and_pods_may_not() {
    let open = json!({
        "containers": [{ "name": "a" }, { "name": "b", "image": "" }, { "name": "c", "image": null }],
        "volumes": [{ "name": "v", "image": {} }],
        "initContainers": null,
    });
    assert_eq!(found(pod(open.clone())).len(), 4);
    let request = json!({
        "kind": { "group": "batch", "kind": "Job" },
        "object": { "spec": { "template": { "spec": open } } },
    });
    assert_eq!(subject(&asked(request)), Ok(Subject::Nothing));
    let request =
        json!({ "kind": { "kind": "ReplicationController" }, "object": { "spec": { "replicas": 0 } } });
    assert_eq!(subject(&asked(request)), Ok(Subject::Nothing));
}

/// What each list of a Pod's spec has, by the sort of its images: names and images, the latter perhaps left out.
type Lists = [Vec<(String, Option<String>)>; 4];

fn lists() -> impl Strategy<Value = Lists> {
    let one = ("[a-z]{1,3}", proptest::option::of("[a-z]{1,2}"));
    let list = || proptest::collection::vec(one.clone(), 0..4);
    [list(), list(), list(), list()]
}

fn spec_of(lists: &Lists) -> Value {
    let mut spec = json!({ "restartPolicy": "Always" });
    for (bearer, list) in Bearer::ALL.into_iter().zip(lists) {
        let entries = list.iter().map(|(name, image)| match bearer {
            Bearer::Volume => json!({ "name": name, "image": { "reference": image } }),
            _ => json!({ "name": name, "image": image, "env": [{ "name": "image", "value": "i" }] }),
        });
        spec[bearer.list()] = entries.collect();
    }
    spec
}

proptest! {
    #[test]
    fn all_images_are_found_and_only_unchanged_ones_pass(old in lists(), new in lists(), update: bool) {
        let (operation, before) = if update { ("UPDATE", json!({ "spec": spec_of(&old) })) } else { ("CREATE", Value::Null) };
        let request = json!({
            "kind": { "kind": "Pod" }, "operation": operation, "object": { "spec": spec_of(&new) }, "oldObject": before,
        });
        let mut wanted = Vec::new();
        for (list, (old, new)) in old.iter().zip(&new).enumerate() {
            let is_new = |one: &&(String, Option<String>)| !(update && old.contains(one));
            wanted.extend(new.iter().filter(is_new).map(|(name, image)| (list, name.clone(), image.clone().unwrap_or_default())));
        }
        let found = match subject(&asked(request.clone())).unwrap() {
            Subject::Nothing => Vec::new(),
            Subject::Images { images, .. } => images,
        };
        for named in &found {
            let at = request["object"].pointer(&named.pointer).and_then(Value::as_str).unwrap_or_default();
            prop_assert_eq!(at, named.image.as_str());
        }
        let place = |bearer: Bearer| Bearer::ALL.iter().position(|one| *one == bearer).unwrap();
        let found: Vec<_> = found.into_iter().map(|named| (place(named.bearer), named.name, named.image)).collect();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn whatever_an_object_is_somebody_says_what_it_is(text in "[\\[\\]{}\",:a-z0-9 ]{0,60}") {
        let object = serde_json::from_str(&text).unwrap_or(Value::String(text));
        for spec in [object.clone(), json!({ "containers": object }), json!({ "containers": [object] })] {
            // No panic, and nothing that is odd is an image.
            if let Ok(Subject::Images { images, .. }) = subject(&asked(pod(spec))) {
                prop_assert!(images.iter().all(|named| named.pointer.starts_with("/spec/")));
            }
        }
    }
}
