//! Manifests that are not as pushed ones must be.

use trow_api::pull::PullError;

use super::world::{World, name};

#[tokio::test]
async fn what_cannot_be_read_is_served_as_it_came_and_not_recorded() {
    let world = World::new().await;
    for (tag, media_type, bytes) in [
        ("twice", super::fake::IMAGE, "{\"schemaVersion\":2,\"schemaVersion\":2}"),
        ("future", "application/vnd.example.manifest.v9+json", "{\"schemaVersion\":9}"),
        ("text", super::fake::IMAGE, "hello"),
    ] {
        let digest = world.upstream.says("app", tag, media_type, bytes);
        for node in [1, 2, 3] {
            for reference in [tag, &digest.to_string()] {
                let pulled = world.get(node, "app", reference).await.unwrap();
                assert_eq!((pulled.digest, pulled.media_type.as_str()), (digest, media_type));
                assert_eq!(pulled.bytes.as_deref(), Some(bytes.as_bytes()));
            }
        }
        assert_eq!(world.tag("app", tag), None);
        assert!(world.view().manifest(name("app").local(), &digest).unwrap().is_none());
        assert_eq!(world.upstream.count(&format!("GET app/manifests/{digest}")), 1, "{tag}");
    }
}

#[tokio::test]
async fn dockers_first_schema_is_refused_and_it_is_said_why() {
    let world = World::new().await;
    let first = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let digest = world.upstream.says("app", "old", first, "{\"schemaVersion\":1}");
    for node in [1, 2] {
        for reference in ["old", &digest.to_string()] {
            for answer in [world.head(node, "app", reference).await, world.get(node, "app", reference).await]
            {
                match answer {
                    Err(PullError::Bad(why)) => assert!(why.contains("schema version 1"), "{why}"),
                    // It is not asked for again at once.
                    Err(PullError::Unavailable { why, .. }) => {
                        assert!(why.contains("schema version 1"), "{why}")
                    }
                    other => panic!("{reference}: {other:?}"),
                }
            }
        }
    }
}
