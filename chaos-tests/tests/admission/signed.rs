//! Images that the real cosign signed, required by a policy: of our own repositories and of another registry's,
//! by bundle and by tag, with keys of ECDSA, Ed25519 and RSA. What nobody signed, or another key, is denied; what
//! was seen once counts on every node when the other registry is gone.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::image::Image;
use chaos_tests::registry::Registry;
use chaos_tests::report::scenario;
use chaos_tests::require;
use chaos_tests::tool::Tool;
use chaos_tests::webhook::{Verdict, Webhook};
use serde_json::{Value, json};

use super::site::{reviewed, set, webhooks};

const OURS: &str = "registry.trow.test";
const THEIRS: &str = "registry.example";
const SIGN: [&str; 5] =
    ["sign", "--yes", "--allow-http-registry", "--use-signing-config=false", "--tlog-upload=false"];
const BY_TAG: &[&str] = &["--new-bundle-format=false"];
const BY_BUNDLE: &[&str] = &[];
/// That an image is not signed may be believed for seconds.
const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cosign_signed_is_let_in_by_every_node_and_nothing_else() {
    if require::tools(&["cosign", "docker-registry", "openssl"]) {
        scenario("signed images", Duration::from_secs(300), run()).await;
    }
}

async fn run() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let registry = Registry::start(&dir.path().join("registry")).await?;
    let mut cluster = Cluster::dev(Plan::of(3).config(&settings(&registry))).await?;
    let webhooks = webhooks(&cluster).await?;
    let cosign = keys(Tool::new("cosign", dir.path())?, dir.path()).await?;
    set(&cluster, 0, &policy(&cosign)?).await?;

    let (ours, theirs) = (cluster.nodes[1].client.clone(), registry.address.clone());
    let (own_client, their_client) = (cluster.clients().remove(2), registry.client());
    let cases = [
        (OURS, "team/by-bundle", "release", BY_BUNDLE),
        (OURS, "team/by-tag", "release", BY_TAG),
        (OURS, "ed25519/by-bundle", "ed25519", BY_BUNDLE),
        (OURS, "ed25519/by-tag", "ed25519", BY_TAG),
        (OURS, "rsa/by-bundle", "rsa", BY_BUNDLE),
        (OURS, "rsa/by-tag", "rsa", BY_TAG),
        (THEIRS, "team/by-tag", "release", BY_TAG),
        (THEIRS, "team/by-bundle", "release", BY_BUNDLE),
    ];
    let mut signed = Vec::new();
    for (host, repo, key, form) in cases {
        let of = || format!("{host}/{repo} by {key} with {form:?}");
        let image = Image::random(&[1_000]);
        let (client, address) = if host == OURS { (&own_client, &ours) } else { (&their_client, &theirs) };
        ensure!(image.push(client, repo, "v1").await?.status == 201, "the push of {}", of());
        let review = reviewed(&format!("{host}/{repo}:v1"))?;
        denied(&webhooks[0], &review).await.with_context(of)?;
        let at = format!("{address}/{repo}@{}", image.digest);
        // The signature of a key that the policy has for other images does not count.
        if key == "release" {
            cosign.run(&[&SIGN, form, &["--key", "other.key", &at]].concat()).await?;
            denied(&webhooks[1], &review).await.with_context(of)?;
        }
        cosign.run(&[&SIGN, form, &["--key", &format!("{key}.key"), &at]].concat()).await?;
        for webhook in &webhooks {
            allowed(webhook, &review).await.with_context(of)?;
        }
        signed.push(reviewed(&format!("{host}/{repo}@{}", image.digest))?);
    }

    drop(registry);
    for webhook in &webhooks {
        for review in &signed {
            allowed(webhook, review).await.context("with the other registry gone")?;
        }
    }
    // What was seen for the keys of one policy says nothing of another key by the same name.
    let renamed = cosign.home().join("unused.pub");
    std::fs::rename(renamed, cosign.home().join("release.pub"))?;
    set(&cluster, 2, &policy(&cosign)?).await?;
    for webhook in &webhooks {
        denied(webhook, &signed[0]).await.context("by a key that signed nothing")?;
    }
    cluster.done();
    Ok(())
}

/// With `registry` as the upstream of a name, which is asked again at each look.
fn settings(registry: &Registry) -> String {
    format!(
        "cache.high = \"100%\"\ncache.low = \"99%\"\n[server]\nhostnames = [\"{OURS}\"]\n[upstream.\"{THEIRS}\"]\n\
         endpoint = \"http://{}\"\ninsecure = true\nallow_private = true\nfreshness = \"1s\"\n",
        registry.address
    )
}

/// Pairs of keys in cosign's home: made by cosign, and imported from what OpenSSL made.
async fn keys(cosign: Tool, dir: &Path) -> Result<Tool> {
    let cosign = cosign.env("COSIGN_PASSWORD", "");
    for name in ["release", "other", "unused"] {
        cosign.run(&["generate-key-pair", "--output-key-prefix", name]).await?;
    }
    let openssl = Tool::new("openssl", dir)?;
    for (name, kind) in [("ed25519", &["ED25519"][..]), ("rsa", &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"])]
    {
        let pem = openssl.home().join(name).display().to_string();
        openssl.run(&[&["genpkey", "-out", &pem, "-algorithm"], kind].concat()).await?;
        cosign.run(&["import-key-pair", "--key", &pem, "--output-key-prefix", name]).await?;
    }
    Ok(cosign)
}

/// Each team's images are let in when its key signed them, wherever they are from.
fn policy(cosign: &Tool) -> Result<String> {
    let key = |name: &str| std::fs::read_to_string(cosign.home().join(format!("{name}.pub")));
    let rule = |image: &str, key: &str| json!({"image": image, "signedBy": [key]});
    let document = json!({
        "version": 1,
        "default": "deny",
        "allow": [
            {"image": "quay.io/tools/**"},
            {"image": "ghcr.io/acme/**"},
            rule(&format!("{OURS}/team/*"), "release"),
            rule(&format!("{OURS}/ed25519/*"), "ed25519"),
            rule(&format!("{OURS}/rsa/*"), "rsa"),
            rule(&format!("{THEIRS}/team/*"), "release"),
            rule("other.example/**", "other"),
        ],
        "keys": {
            "release": key("release")?, "ed25519": key("ed25519")?, "rsa": key("rsa")?, "other": key("other")?,
        },
    });
    Ok(document.to_string())
}

async fn denied(webhook: &Webhook, review: &Value) -> Result<()> {
    match webhook.validate(review).await? {
        Verdict::Denied(why) if why.contains("it has no signature by") => Ok(()),
        other => bail!("{other:?}"),
    }
}

/// Let in soon.
async fn allowed(webhook: &Webhook, review: &Value) -> Result<()> {
    let until = Instant::now() + SOON;
    loop {
        match webhook.validate(review).await? {
            Verdict::Allowed => return Ok(()),
            Verdict::Denied(why) if Instant::now() > until => bail!("denied still: {why}"),
            Verdict::Denied(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
