//! The client speaks the distribution-spec, shown on a registry that is not Trow.

use chaos_tests::content::Content;
use chaos_tests::image::Image;
use chaos_tests::registry::Registry;
use chaos_tests::{audit, require};

#[tokio::test]
async fn pushes_and_pulls_work_with_another_registry() {
    if !require::tools(&["docker-registry"]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let registry = Registry::start(scratch.path()).await.unwrap();
    let client = registry.client();

    let image = Image::random(&[100_000, 0]);
    assert_eq!(image.push(&client, "some/image", "v1").await.unwrap().status, 201);
    let content = Content::random(200_001);
    let pushed = client.push_blob_by_patch("some/image", content, &content.digest()).await.unwrap();
    assert_eq!(pushed.status, 201);
    audit::blob(&client, "some/image", &content.digest()).await.unwrap();

    let read = client.manifest("some/image", "v1").await.unwrap();
    assert_eq!((read.status, read.body), (200, image.manifest.clone()));
    let part = client.blob_range("some/image", &content.digest(), 65_530, 65_541).await.unwrap();
    assert_eq!((part.status, &part.body[..]), (206, &content.bytes()[65_530..65_542]));
    let missing = client.manifest("some/image", "v2").await.unwrap();
    assert_eq!((missing.status, missing.code().as_deref()), (404, Some("MANIFEST_UNKNOWN")));
    let wrong = client.push_blob("some/image", Content::random(10), &content.digest()).await.unwrap();
    assert!(wrong.status >= 400, "{}", wrong.status);
}
