//! Warming, over upstreams in memory.

use std::collections::BTreeSet;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use trow_api::pull::{Content, Relayed};
use trow_raft::Evidence;

use super::*;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What upstreams have, and what was read of it to the end.
#[derive(Default)]
struct Memory {
    manifests: BTreeMap<String, (&'static str, Bytes)>,
    blobs: BTreeMap<Digest, Bytes>,
    read: Arc<Mutex<BTreeSet<Digest>>>,
    most: Arc<Mutex<(usize, usize)>>,
    stale: Option<String>,
}

impl Memory {
    fn blob(&mut self, text: &str) -> serde_json::Value {
        let bytes = Bytes::from(text.to_owned());
        let digest = Digest::sha256(&bytes);
        self.blobs.insert(digest, bytes);
        json!({"mediaType": "application/octet-stream", "digest": digest.to_string(), "size": text.len()})
    }

    fn put(&mut self, media: &'static str, tag: Option<&str>, document: &serde_json::Value) -> Digest {
        let bytes = Bytes::from(document.to_string());
        let digest = Digest::sha256(&bytes);
        self.manifests.insert(digest.to_string(), (media, bytes.clone()));
        if let Some(tag) = tag {
            self.manifests.insert(tag.to_owned(), (media, bytes));
        }
        digest
    }

    fn image(&mut self, tag: Option<&str>, layers: &[&str]) -> Digest {
        let config = self.blob(&format!("config of {layers:?}"));
        let layers: Vec<_> = layers.iter().map(|layer| self.blob(layer)).collect();
        let document = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.put(MANIFEST, tag, &document)
    }

    fn index(&mut self, tag: &str, images: &[(Digest, serde_json::Value)]) -> Digest {
        let entry = |(digest, platform): &(Digest, serde_json::Value)| {
            let size = self.manifests[&digest.to_string()].1.len();
            let mut entry = json!({"mediaType": MANIFEST, "digest": digest.to_string(), "size": size});
            if !platform.is_null() {
                entry["platform"] = platform.clone();
            }
            entry
        };
        let entries: Vec<_> = images.iter().map(entry).collect();
        self.put(INDEX, Some(tag), &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}))
    }
}

#[async_trait]
impl Upstreams for Memory {
    fn needs_user(&self, _: &UpstreamName) -> bool {
        false
    }

    async fn manifest(&self, _: &UpstreamName, reference: &Reference, _: bool) -> Result<Pulled, PullError> {
        let (media, bytes) = self.manifests.get(&reference.to_string()).ok_or(PullError::NotFound)?;
        Ok(Pulled {
            digest: Digest::sha256(bytes),
            media_type: (*media).to_owned(),
            size: bytes.len() as u64,
            bytes: Some(bytes.clone()),
            index: 0,
            stale: self.stale.clone(),
        })
    }

    async fn blob_size(&self, _: &UpstreamName, digest: &Digest) -> Result<u64, PullError> {
        self.blobs.get(digest).map(|bytes| bytes.len() as u64).ok_or(PullError::NotFound)
    }

    async fn blob(
        &self,
        _: &UpstreamName,
        digest: &Digest,
        range: &(dyn for<'s> Fn(u64) -> Option<std::ops::Range<u64>> + Send + Sync),
    ) -> Result<Content, PullError> {
        let bytes = self.blobs.get(digest).cloned().ok_or(PullError::NotFound)?;
        let size = bytes.len() as u64;
        let range = range(size).ok_or(PullError::Range { size })?;
        let (read, most, digest) = (self.read.clone(), self.most.clone(), *digest);
        {
            let mut most = most.lock().unwrap();
            most.0 += 1;
            most.1 = most.1.max(most.0);
        }
        let body = stream::unfold(Some(bytes), move |left| {
            let (read, most) = (read.clone(), most.clone());
            async move {
                // Others have their turn in between.
                tokio::task::yield_now().await;
                match left {
                    Some(bytes) if bytes.starts_with(b"broken") => {
                        Some((Err(std::io::Error::other("it broke")), None))
                    }
                    Some(bytes) if !bytes.is_empty() => Some((Ok(bytes), Some(Bytes::new()))),
                    _ => {
                        read.lock().unwrap().insert(digest);
                        most.lock().unwrap().0 -= 1;
                        None
                    }
                }
            }
        });
        Ok(Content { size, range, body: Box::pin(body) })
    }

    async fn tags(&self, _: &UpstreamName, _: Option<usize>, _: Option<&str>) -> Result<Relayed, PullError> {
        Err(PullError::NotFound)
    }

    async fn referrers(&self, _: &UpstreamName, _: &Digest, _: Option<&str>) -> Result<Relayed, PullError> {
        Err(PullError::NotFound)
    }

    async fn hold(&self, _: &UpstreamName, _: &Digest) -> Option<(u64, Vec<Evidence>)> {
        None
    }
}

/// What is said in the end, by image, without how far each was.
async fn warmed(memory: Memory, images: &[&str], wanted: Wanted) -> BTreeMap<String, Event> {
    let images = images.iter().map(|image| image.parse().unwrap()).collect();
    let said: Vec<Event> = Warmer::new(Arc::new(memory)).warm(images, wanted).collect().await;
    let last = said.into_iter().filter_map(|event| match &event {
        Event::Done { image, .. } | Event::Failed { image, .. } => Some((image.clone(), event)),
        _ => None,
    });
    last.collect()
}

fn platforms(text: &[&str]) -> Wanted {
    Wanted::For(text.iter().map(|text| text.parse().unwrap()).collect())
}

fn for_platform(os: &str, architecture: &str, variant: Option<&str>) -> serde_json::Value {
    json!({"os": os, "architecture": architecture, "variant": variant})
}

#[tokio::test]
async fn an_image_that_fails_stops_no_other() {
    let mut memory = Memory::default();
    let good = memory.image(Some("good"), &["one", "two"]);
    memory.image(Some("bad"), &["broken", "three"]);
    let read = memory.read.clone();
    let said = warmed(memory, &["app:good", "app:bad", "app:none"], Wanted::All).await;
    let done = Event::Done {
        stale: None,
        image: "docker.io/library/app:good".to_owned(),
        digest: good.to_string(),
        blobs: 3,
        bytes: 6 + r#"config of ["one", "two"]"#.len() as u64,
    };
    assert_eq!(said["docker.io/library/app:good"], done);
    let error = |image: &str| match &said[image] {
        Event::Failed { error, .. } => error.clone(),
        other => panic!("{other:?}"),
    };
    assert!(error("docker.io/library/app:bad").ends_with("broke off: it broke"));
    assert_eq!(error("docker.io/library/app:none"), PullError::NotFound.to_string());
    assert!(read.lock().unwrap().contains(&Digest::sha256(b"two")));
}

#[tokio::test]
async fn an_image_that_may_be_old_is_said_to_be() {
    let mut memory = Memory { stale: Some("upstream docker.io: 500".to_owned()), ..Memory::default() };
    memory.image(Some("old"), &["one"]);
    let said = warmed(memory, &["app:old"], Wanted::All).await;
    match &said["docker.io/library/app:old"] {
        Event::Done { stale, .. } => assert_eq!(stale.as_deref(), Some("upstream docker.io: 500")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn of_an_index_what_is_asked_for_is_pulled() {
    for (wanted, layers) in [
        (platforms(&["linux/amd64"]), &["amd64", "any"][..]),
        (platforms(&["linux/arm"]), &["v6", "v7", "any"]),
        (platforms(&["linux/arm/v7", "linux/amd64"]), &["v7", "amd64", "any"]),
        (Wanted::All, &["amd64", "v6", "v7", "any", "windows"]),
    ] {
        let mut memory = Memory::default();
        let image = |memory: &mut Memory, name| memory.image(None, &[name]);
        let images = [
            (image(&mut memory, "amd64"), for_platform("linux", "amd64", None)),
            (image(&mut memory, "v6"), for_platform("linux", "arm", Some("v6"))),
            (image(&mut memory, "v7"), for_platform("linux", "arm", Some("v7"))),
            (image(&mut memory, "windows"), for_platform("windows", "amd64", None)),
            (image(&mut memory, "any"), json!(null)),
        ];
        memory.index("multi", &images);
        let read = memory.read.clone();
        let said = warmed(memory, &["app:multi"], wanted).await;
        assert!(matches!(said["docker.io/library/app:multi"], Event::Done { .. }), "{said:?}");
        let read = read.lock().unwrap();
        for layer in ["amd64", "v6", "v7", "any", "windows"] {
            assert_eq!(read.contains(&Digest::sha256(layer.as_bytes())), layers.contains(&layer), "{layer}");
        }
    }
    let mut memory = Memory::default();
    let image = memory.image(None, &["amd64"]);
    memory.index("multi", &[(image, for_platform("linux", "amd64", None))]);
    let said = warmed(memory, &["app:multi"], platforms(&["linux/s390x"])).await;
    let error = format!("{:?}", said["docker.io/library/app:multi"]);
    assert!(error.contains("nothing for linux/s390x; it has linux/amd64"), "{error}");
}

#[tokio::test]
async fn no_more_than_a_bounded_number_of_blobs_is_under_way() {
    let mut memory = Memory::default();
    let layers: Vec<String> = (0..60).map(|layer| format!("layer {layer}")).collect();
    for (tag, layers) in ["a", "b", "c"].iter().zip(layers.chunks(20)) {
        memory.image(Some(tag), &layers.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let (read, most) = (memory.read.clone(), memory.most.clone());
    let said = warmed(memory, &["app:a", "app:b", "app:c"], Wanted::All).await;
    assert!(said.values().all(|event| matches!(event, Event::Done { .. })), "{said:?}");
    assert_eq!(read.lock().unwrap().len(), 63);
    let (now, most) = *most.lock().unwrap();
    assert_eq!(now, 0);
    assert!((2..=BLOBS).contains(&most), "{most}");
}

#[test]
fn images_are_named_as_a_kubelet_names_them() {
    let digest = Digest::sha256(b"");
    for (text, name) in [
        ("nginx", "docker.io/library/nginx:latest".to_owned()),
        ("nginx:1", "docker.io/library/nginx:1".to_owned()),
        ("acme/app", "docker.io/acme/app:latest".to_owned()),
        ("localhost/app", "localhost/app:latest".to_owned()),
        ("localhost:5001/a/b:c", "localhost:5001/a/b:c".to_owned()),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10".to_owned()),
        (&format!("quay.io/a/b:1@{digest}"), format!("quay.io/a/b@{digest}")),
    ] {
        assert_eq!(text.parse::<Image>().unwrap().to_string(), name);
    }
    for bad in ["", "UPPER", "a:", "a@sha256:0", "quay.io/", ":tag", "a b", "a:b:c", "http://quay.io/a"] {
        assert!(bad.parse::<Image>().is_err(), "{bad:?}");
    }
    for bad in ["linux", "linux/", "linux/a/b/c", "", "Linux/amd64"] {
        assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
    }
}
