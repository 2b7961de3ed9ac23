//! Docker: two keys of `daemon.json`.
//!
//! Always holds: other keys of the file are not touched. Docker has mirrors of docker.io alone.

use serde_json::{Value, json};

use super::containers::cas;
use super::{Made, Replaces, Wanted};

pub(super) const DIRECTORY: &str = "/etc/docker";
/// The file whose other keys are somebody else's.
pub(super) const FILE: &str = "daemon.json";

pub(super) const TO_DO: [&str; 2] = [
    "Docker reads this when told: systemctl reload docker",
    "Docker asks mirrors for images of docker.io alone; mirrors with a path take Docker 24.0.8, 25 or newer, and an \
     older one does not start with them",
];

pub(super) fn files(wanted: &Wanted) -> Result<Vec<Made>, String> {
    if wanted.authorization.is_some() {
        return Err("--user is for containerd: Docker has no credentials for a mirror".to_owned());
    }
    if !wanted.upstreams.iter().all(|upstream| upstream.is_docker()) {
        return Err("--upstream: Docker has mirrors of docker.io alone".to_owned());
    }
    // Its classic image stores say nowhere else which registry they mean.
    let mirrors: Vec<String> = wanted.mirrors.iter().map(|mirror| format!("{mirror}/f/docker.io")).collect();
    let plain = wanted.mirrors.iter().filter(|mirror| !mirror.tls);
    let plain: Vec<&str> = plain.map(|mirror| mirror.address.as_str()).collect();
    let mut document = json!({ "registry-mirrors": mirrors });
    if !plain.is_empty() {
        document["insecure-registries"] = json!(plain);
    }
    Ok(cas(wanted).chain([Made::new(FILE, pretty(&document), Replaces::Nothing)]).collect())
}

/// What the file says once `ours` is added to what it said: the mirrors are ours, the insecure registries are
/// those of both.
///
/// # Errors
/// It is not one.
pub(super) fn merged(there: &str, ours: &str) -> Result<String, String> {
    let read = |text: &str| match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("it is no object of JSON".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let (mut all, ours) = (read(there)?, read(ours)?);
    for (key, value) in ours {
        match (all.get_mut(&key), value) {
            (Some(Value::Array(known)), Value::Array(more)) if key == "insecure-registries" => {
                for item in more {
                    if !known.contains(&item) {
                        known.push(item);
                    }
                }
            }
            (_, value) => drop(all.insert(key, value)),
        }
    }
    Ok(pretty(&Value::Object(all)))
}

fn pretty(document: &Value) -> String {
    format!("{document:#}\n")
}
