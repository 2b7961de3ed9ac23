//! Where the images of an object are, by its kind, and which of them are to be judged.
//!
//! Always holds: every image that a kubelet would run or mount for the object is found, or the object is not
//! understood; an image passes unseen only where it was, by the same name, before an update. What has no image
//! is nothing to be judged. Never does: read an image's name, or find more than [`IMAGES_MAX`] of them.

use std::collections::HashSet;

use serde_json::Value;

use super::review::{Asked, Operation};
use crate::route::shown;

/// The most images that an object has. Whoever may make a Pod has a review made, so that its work is bounded here.
pub(super) const IMAGES_MAX: usize = 1000;

/// An image that is named in an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// What bears it.
    pub(super) bearer: Bearer,
    /// The name of the container or volume.
    pub(super) name: String,
    /// The image as it is written.
    pub(super) image: String,
    /// Where that is: a JSON Pointer.
    pub(super) pointer: String,
}

impl Named {
    /// Where it is in a Pod, in words: `containers/web`.
    pub(super) fn place(&self) -> String {
        format!("{}/{}", self.bearer.list(), self.name)
    }

    fn same(&self) -> (Bearer, &str, &str) {
        (self.bearer, &self.name, &self.image)
    }
}

/// What an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Bearer {
    Container,
    InitContainer,
    EphemeralContainer,
    Volume,
}

impl Bearer {
    const ALL: [Bearer; 4] =
        [Bearer::Container, Bearer::InitContainer, Bearer::EphemeralContainer, Bearer::Volume];

    /// The list of them in a Pod's spec.
    pub(super) fn list(self) -> &'static str {
        match self {
            Bearer::Container => "containers",
            Bearer::InitContainer => "initContainers",
            Bearer::EphemeralContainer => "ephemeralContainers",
            Bearer::Volume => "volumes",
        }
    }

    /// Where the image's name is in one of them.
    fn image(self) -> &'static [&'static str] {
        match self {
            Bearer::Volume => &["image", "reference"],
            _ => &["image"],
        }
    }
}

/// What of an object is to be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// Nothing: it passes.
    Nothing,
    /// These images; of a Pod itself, or of a template that Pods are made from.
    Images { is_pod: bool, images: Vec<Named> },
}

/// Finds what is to be judged.
///
/// # Errors
/// The object cannot be understood; the text says what of it.
pub(super) fn subject(asked: &Asked) -> Result<Subject, String> {
    // Kubernetes takes no change of a spec through `status`.
    let unseen = matches!(asked.operation, Operation::Delete | Operation::Connect);
    if unseen || asked.sub_resource() == "status" {
        return Ok(Subject::Nothing);
    }
    let Some(path) = spec(&asked.kind.group, &asked.kind.kind) else {
        // It starts containers, whatever an API server calls what it sends there.
        if asked.sub_resource() == "ephemeralcontainers" {
            return Err(format!(
                "ephemeral containers are added by the unknown kind {:?}",
                shown(&asked.kind.kind)
            ));
        }
        return Ok(Subject::Nothing);
    };
    if asked.namespace().is_empty() {
        return Err(format!("the {} has no namespace", asked.kind.kind));
    }
    if !asked.object.is_object() {
        return Err(format!("there is no object, though a {} is to be judged", asked.kind.kind));
    }
    let is_pod = path.len() == 1;
    let mut images = named(&asked.object, path)?;
    if asked.operation == Operation::Update && asked.old_object.is_object() {
        // What cannot be understood of the old object lets nothing of the new one pass.
        let old = named(&asked.old_object, path).unwrap_or_default();
        let old: HashSet<_> = old.iter().map(Named::same).collect();
        images.retain(|new| !old.contains(&new.same()));
    }
    // A template may leave an image to whatever makes the Pods, which are judged in their turn.
    images.retain(|named| is_pod || !named.image.is_empty());
    Ok(if images.is_empty() { Subject::Nothing } else { Subject::Images { is_pod, images } })
}

/// Every image of a Pod; none when it cannot be understood.
pub(super) fn of_pod(pod: &Value) -> Vec<Named> {
    named(pod, &["spec"]).unwrap_or_default()
}

/// Where a kind has the spec of its Pods; none for kinds that have none.
fn spec(group: &str, kind: &str) -> Option<&'static [&'static str]> {
    Some(match (group, kind) {
        ("", "Pod") => &["spec"],
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("", "ReplicationController")
        | ("batch", "Job") => &["spec", "template", "spec"],
        ("batch", "CronJob") => &["spec", "jobTemplate", "spec", "template", "spec"],
        _ => return None,
    })
}

/// Every image below `path`, in the order in which they are written.
fn named(object: &Value, path: &[&str]) -> Result<Vec<Named>, String> {
    let (mut spec, mut at) = (object, String::new());
    for key in path {
        at = format!("{at}/{key}");
        // A template that is not there makes no Pods.
        match below(spec, key, &at)? {
            Some(next) => spec = next,
            None => return Ok(Vec::new()),
        }
    }
    let mut images = Vec::new();
    for bearer in Bearer::ALL {
        let at = format!("{at}/{}", bearer.list());
        let list = match below(spec, bearer.list(), &at)? {
            None => continue,
            Some(Value::Array(list)) => list,
            Some(_) => return Err(format!("{at} is no list")),
        };
        for (index, entry) in list.iter().enumerate() {
            images.extend(one(bearer, entry, format!("{at}/{index}"))?);
            if images.len() > IMAGES_MAX {
                return Err(format!("it has more than {IMAGES_MAX} images"));
            }
        }
    }
    Ok(images)
}

/// The image of a container; that of a volume, if it is one of an image.
fn one(bearer: Bearer, entry: &Value, at: String) -> Result<Option<Named>, String> {
    let name = match below(entry, "name", &at)? {
        Some(Value::String(name)) => name.clone(),
        None => String::new(),
        Some(_) => return Err(format!("{at}/name is no text")),
    };
    let (mut image, mut pointer) = (Some(entry), at);
    for key in bearer.image() {
        let Some(value) = image else { break };
        pointer = format!("{pointer}/{key}");
        image = below(value, key, &pointer)?;
        if bearer == Bearer::Volume && *key == "image" && image.is_none() {
            return Ok(None);
        }
    }
    let image = match image {
        Some(Value::String(image)) => image.clone(),
        None => String::new(),
        Some(_) => return Err(format!("{pointer} is no text")),
    };
    Ok(Some(Named { bearer, name, image, pointer }))
}

/// What an object has under a key; `null` is nothing.
fn below<'v>(value: &'v Value, key: &str, at: &str) -> Result<Option<&'v Value>, String> {
    match value {
        Value::Object(fields) => Ok(fields.get(key).filter(|value| !value.is_null())),
        _ => Err(format!("what should have {at} is no object")),
    }
}

#[cfg(test)]
mod tests;
