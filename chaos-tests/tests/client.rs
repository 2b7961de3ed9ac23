//! The client speaks the distribution-spec, shown on a registry that is not Trow.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chaos_tests::client::Client;
use chaos_tests::content::Content;
use chaos_tests::image::Image;
use chaos_tests::{audit, require};

struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn pushes_and_pulls_work_with_another_registry() {
    if !require::tools(&["docker-registry"]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
        scratch.path().join("data").display()
    );
    std::fs::write(scratch.path().join("config.yml"), config).unwrap();
    let mut registry = Command::new("docker-registry");
    registry.arg("serve").arg(scratch.path().join("config.yml"));
    let registry = registry.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _registry = Registry(registry);
    let client = Client::new("registry", &format!("127.0.0.1:{port}"));
    let until = Instant::now() + Duration::from_secs(20);
    while client.tags("any").await.is_err() {
        assert!(Instant::now() < until, "docker-registry does not start");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

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
