//! Rewriting the images of a Pod: a tag is given the digest that a pull gets now, and an image of another registry
//! the name that it has in this one.
//!
//! Always holds: what was rewritten is not rewritten again; the tag stays beside the digest, so that rules for tags
//! hold; the image as it was written is in an annotation, which says nothing else that anybody wrote into it; only
//! what is there, and what the policy may let run, is rewritten. Never does: touch templates, which whoever keeps them elsewhere would see as changed, or mirror Pods,
//! which a kubelet shows of what it runs anyway.

use std::collections::{BTreeMap, HashMap};

use futures::{StreamExt, stream};
use serde_json::{Value, json};

use super::facts::Of;
use super::images::{self, Named};
use super::judge::{AT_ONCE, Case, Judge};
use super::names::{Meant, Whose};
use crate::policy::{Fact, Mutate};
use crate::pull::{Host, ImageName, UpstreamName};

/// The annotation that has the images as they were written: an object by container, in JSON.
pub const ORIGINAL_IMAGES: &str = "trow.io/original-images";
/// What a kubelet's mirror Pods have.
const MIRROR_POD: &str = "kubernetes.io/config.mirror";

/// The operations of a JSON Patch that rewrite `images` of `pod`; none when there is nothing to rewrite.
pub(super) async fn patch(judge: &Judge, case: Case<'_>, pod: &Value, images: &[Named]) -> Vec<Value> {
    let mutate = case.standing.policy.mutate();
    let annotations = pod.pointer("/metadata/annotations");
    let is_mirror_pod = annotations.and_then(|all| all.get(MIRROR_POD)).is_some();
    if is_mirror_pod || *mutate == Mutate::default() {
        return Vec::new();
    }
    // By its place, as decisions are made.
    let rewritings = (0..images.len()).map(|at| rewrite(judge, case, mutate, &images[at].image));
    let rewritten: Vec<Option<String>> = stream::iter(rewritings).buffered(AT_ONCE).collect().await;
    let rewritten = images.iter().zip(rewritten).filter_map(|(named, image)| Some((named, image?)));
    let rewritten: Vec<(&Named, String)> = rewritten.filter(|(named, image)| named.image != *image).collect();
    let replace =
        |(named, image): &(&Named, String)| json!({ "op": "replace", "path": named.pointer, "value": image });
    let mut operations: Vec<Value> = rewritten.iter().map(replace).collect();
    operations.extend(annotate(judge, case, pod, annotations, rewritten.iter().map(|(named, _)| *named)));
    operations
}

/// What an image is called from now on; none when it stays as it is written.
async fn rewrite(judge: &Judge, case: Case<'_>, mutate: &Mutate, text: &str) -> Option<String> {
    let (written, meant) = judge.meant(text, case.others).ok()?;
    let pin = mutate.tag_to_digest && written.digest.is_none();
    let moved = mutate.mirror.as_ref().and_then(|mirror| at_mirror(mirror, &written, &meant));
    if !(pin || moved.is_some()) || !judge.may_run(case, &meant) {
        return None;
    }
    // A mirror that does not have it would make a Pod fail that starts without.
    let of = Of { image: &meant.judged, whose: &meant.whose };
    let Fact::Known(Some(digest)) = judge.sources.pulled(of, case.deadline).await else { return None };
    let mut image = moved.unwrap_or(written);
    if pin {
        image.digest = Some(digest);
    }
    Some(image.to_string())
}

/// The name that an image of another registry has at `mirror`.
fn at_mirror(mirror: &Host, written: &ImageName, meant: &Meant) -> Option<ImageName> {
    let Whose::Upstream(upstream) = &meant.whose else { return None };
    // What is written with a name of ours comes through us already.
    let is_direct = UpstreamName::new(written.host.clone(), &written.path).as_ref() == Some(upstream);
    is_direct.then(|| ImageName { host: mirror.clone(), path: upstream.local().clone(), ..written.clone() })
}

/// Records what was written, beside what an earlier rewriting recorded; none when the Pod has that already.
fn annotate<'n>(
    judge: &Judge,
    case: Case<'_>,
    pod: &Value,
    annotations: Option<&Value>,
    rewritten: impl Iterator<Item = &'n Named>,
) -> Option<Value> {
    let recorded = annotations.and_then(|all| all.get(ORIGINAL_IMAGES));
    let earlier = recorded.and_then(Value::as_str);
    let earlier = earlier.and_then(|text| serde_json::from_str::<BTreeMap<String, String>>(text).ok());
    let mut originals = earlier.clone().unwrap_or_default();
    // Whoever makes a Pod writes its annotations as well.
    let images: HashMap<String, String> =
        images::of_pod(pod).into_iter().map(|named| (named.place(), named.image)).collect();
    originals.retain(|place, original| {
        images.get(place).is_some_and(|image| may_have_been(judge, case, original, image))
    });
    originals.extend(rewritten.map(|named| (named.place(), named.image.clone())));
    let path = format!("/metadata/annotations/{}", ORIGINAL_IMAGES.replace('/', "~1"));
    match (recorded, annotations) {
        (None, _) if originals.is_empty() => None,
        (Some(_), _) if earlier.as_ref() == Some(&originals) && !originals.is_empty() => None,
        (Some(_), _) if originals.is_empty() => Some(json!({ "op": "remove", "path": path })),
        (_, Some(Value::Object(_))) => {
            Some(json!({ "op": "add", "path": path, "value": json!(originals).to_string() }))
        }
        _ => {
            let annotations = json!({ ORIGINAL_IMAGES: json!(originals).to_string() });
            Some(json!({ "op": "add", "path": "/metadata/annotations", "value": annotations }))
        }
    }
}

/// Whether a rewriting can have made `image` of `original`: it is the same one, whose digest was added or that is named
/// as it is in this registry.
fn may_have_been(judge: &Judge, case: Case<'_>, original: &str, image: &str) -> bool {
    let meant = |text| judge.meant(text, case.others);
    let (Ok((_, before)), Ok((written, now))) = (meant(original), meant(image)) else { return false };
    let (before, now) = (before.judged, now.judged);
    let same = (&before.host, &before.path, &before.tag) == (&now.host, &now.path, &now.tag);
    let pinned = before.digest.is_none() && now.digest.is_some();
    let moved = written.host != now.host;
    same && (pinned || (moved && before.digest == now.digest))
}
