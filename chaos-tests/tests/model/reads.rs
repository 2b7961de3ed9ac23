//! Every read a client can make, and that it gives what the model has.

use anyhow::{Context, Result, ensure};
use chaos_tests::client::{Answer, Client};
use reqwest::Method;
use reqwest::header::{ACCEPT, RANGE};
use serde_json::{Value, json};

use crate::content::{self, BLOBS, Content, INDEX, MANIFESTS, REPOS, TAGS};
use crate::state::Model;

/// Whom to ask, about what.
pub struct Reader<'a> {
    pub client: &'a Client,
    pub content: &'a Content,
}

/// The status and, of an error, the code.
pub fn expect(answer: &Answer, status: u16, code: Option<&str>) -> Result<()> {
    let node = answer.header("trow-node").unwrap_or("nobody");
    ensure!(answer.status == status, "{node} answers {answer}, not {status}");
    if let Some(code) = code {
        ensure!(answer.code().as_deref() == Some(code), "{node} answers {answer}, not {code}");
    }
    Ok(())
}

impl Reader<'_> {
    async fn ask(&self, method: Method, path: &str) -> Result<Answer> {
        let what = format!("{method} {path}");
        Ok(self.client.send(&what, self.client.request(method, path)).await?)
    }

    /// HEAD, GET and a range.
    pub async fn blob(&self, model: &Model, repo: u8, blob: u8) -> Result<()> {
        let path = format!("/v2/{}/blobs/{}", self.content.repo(repo), self.content.blob_digest(blob));
        let (head, get) = (self.ask(Method::HEAD, &path).await?, self.ask(Method::GET, &path).await?);
        if !model.repo(repo).blobs.contains(&blob) {
            expect(&head, 404, None)?;
            return expect(&get, 404, Some("BLOB_UNKNOWN"));
        }
        let bytes = self.content.blob(blob);
        expect(&head, 200, None)?;
        ensure!(head.header("content-length") == Some(&bytes.len().to_string()), "{:?}", head.headers);
        expect(&get, 200, None)?;
        ensure!(get.body == bytes, "{} other bytes of blob {blob}", get.body.len());
        let from = bytes.len() / 2;
        let part = self.client.request(Method::GET, &path).header(RANGE, format!("bytes={from}-"));
        let part = self.client.send("GET a range", part).await?;
        expect(&part, 206, None)?;
        ensure!(part.body == bytes.slice(from..), "other bytes of blob {blob} from {from}");
        Ok(())
    }

    pub async fn manifest(&self, model: &Model, repo: u8, manifest: u8) -> Result<()> {
        let known = model.repo(repo).manifests.get(&manifest).map(|index| (manifest, *index));
        self.named(model, repo, &self.content.digest(manifest).to_string(), known).await
    }

    pub async fn tag(&self, model: &Model, repo: u8, tag: u8) -> Result<()> {
        let known = model.repo(repo).tags.get(&tag).copied();
        self.named(model, repo, &content::tag(tag), known).await
    }

    /// HEAD and GET of a manifest by a name, which is known to be this one, made so at that index.
    async fn named(&self, model: &Model, repo: u8, name: &str, known: Option<(u8, u64)>) -> Result<()> {
        let path = format!("/v2/{}/manifests/{name}", self.content.repo(repo));
        let head = self.ask(Method::HEAD, &path).await?;
        let get = self.client.request(Method::GET, &path).header(ACCEPT, "*/*");
        let get = self.client.send(&format!("GET {path}"), get).await?;
        let Some((manifest, index)) = known else {
            expect(&head, 404, None)?;
            expect(&get, 404, Some("MANIFEST_UNKNOWN"))?;
            return self.confirmed(model, &get);
        };
        let digest = self.content.digest(manifest).to_string();
        for answer in [&head, &get] {
            expect(answer, 200, None)?;
            let found = answer.header("docker-content-digest");
            ensure!(found == Some(&digest), "{name} is {found:?}, not manifest {manifest}");
            ensure!(answer.header("content-type") == Some(content::media_type(manifest)), "{answer}");
            let at = answer.log_id();
            ensure!(at == Some(index), "{name} became manifest {manifest} at {index}, not {at:?}");
        }
        ensure!(get.body == self.content.manifest(manifest), "manifest {manifest} has other bytes");
        Ok(())
    }

    /// The answer was read from a state with every change in it, and is not stale.
    fn confirmed(&self, model: &Model, answer: &Answer) -> Result<()> {
        let at = answer.log_id().context("no Trow-Log-Id")?;
        ensure!(at >= model.last, "read at {at}, after a change at {}", model.last);
        ensure!(!answer.stale(), "stale with a quorum");
        Ok(())
    }

    /// The tags, page by page.
    pub async fn tags(&self, model: &Model, repo: u8, page: usize) -> Result<()> {
        let name = self.content.repo(repo);
        let first = format!("/v2/{name}/tags/list?n={page}");
        if !model.repo(repo).exists() {
            return expect(&self.ask(Method::GET, &first).await?, 404, Some("NAME_UNKNOWN"));
        }
        let mut expected: Vec<String> = model.repo(repo).tags.keys().map(|tag| content::tag(*tag)).collect();
        expected.sort();
        let listed = self.pages(model, first, "tags", page, expected.len().div_ceil(page)).await?;
        ensure!(listed == expected, "the tags of {name} are {listed:?}, not {expected:?}");
        Ok(())
    }

    /// The repositories of the run, page by page.
    pub async fn catalog(&self, model: &Model, page: usize) -> Result<()> {
        let first = format!("/v2/_catalog?n={page}&last={}", self.content.prefix());
        let exists = (0..REPOS).filter(|repo| model.repo(*repo).exists());
        let expected: Vec<String> = exists.map(|repo| self.content.repo(repo)).collect();
        let listed = self.pages(model, first, "repositories", page, expected.len().div_ceil(page)).await?;
        ensure!(listed == expected, "the repositories are {listed:?}, not {expected:?}");
        Ok(())
    }

    /// A list, following its links; it must have this many pages, or one that is empty.
    async fn pages(
        &self,
        model: &Model,
        first: String,
        key: &str,
        page: usize,
        count: usize,
    ) -> Result<Vec<String>> {
        let (mut next, mut all, mut read) = (Some(first), Vec::<String>::new(), 0);
        while let Some(path) = next {
            let answer = self.ask(Method::GET, &path).await?;
            expect(&answer, 200, None)?;
            self.confirmed(model, &answer)?;
            let mut body: Value = serde_json::from_slice(&answer.body)?;
            let listed: Vec<String> = serde_json::from_value(body[key].take())?;
            ensure!(listed.len() <= page, "{} entries in a page of {page}", listed.len());
            all.extend(listed);
            let link = answer.header("link").and_then(|link| link.strip_prefix('<')?.split_once('>'));
            next = link.map(|(path, _)| path.to_owned());
            read += 1;
            ensure!(read <= count.max(1), "more than {count} pages");
        }
        ensure!(read == count.max(1), "{read} pages, not {count}");
        Ok(all)
    }

    /// What refers to a manifest, with each kind as a filter and without one.
    pub async fn referrers(&self, model: &Model, repo: u8, subject: u8) -> Result<()> {
        let digest = self.content.digest(subject);
        let path = format!("/v2/{}/referrers/{digest}", self.content.repo(repo));
        let kinds = (0..MANIFESTS).filter_map(content::artifact_type).map(Some);
        for wanted in kinds.chain([None]) {
            let query = wanted.map(|kind| format!("?artifactType={kind}")).unwrap_or_default();
            let answer = self.ask(Method::GET, &format!("{path}{query}")).await?;
            expect(&answer, 200, None)?;
            self.confirmed(model, &answer)?;
            ensure!(answer.header("content-type") == Some(INDEX), "{:?}", answer.headers);
            let filtered = answer.header("oci-filters-applied") == Some("artifactType");
            ensure!(filtered == wanted.is_some(), "filtered: {filtered}");
            let body: Value = serde_json::from_slice(&answer.body)?;
            let mut listed = body["manifests"].as_array().context("manifests")?.clone();
            let by_digest = |entry: &Value| entry["digest"].as_str().map(str::to_owned);
            listed.sort_by_key(by_digest);
            let referrers = model.repo(repo).referrers(subject);
            let referrers =
                referrers.filter(|referrer| wanted.is_none() || content::artifact_type(*referrer) == wanted);
            let mut expected: Vec<Value> = referrers.map(|referrer| self.referrer(referrer)).collect();
            expected.sort_by_key(by_digest);
            ensure!(listed == expected, "{listed:?} refer to manifest {subject}, not {expected:?}");
        }
        Ok(())
    }

    fn referrer(&self, manifest: u8) -> Value {
        let bytes = self.content.manifest(manifest);
        let document: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        json!({
            "mediaType": content::media_type(manifest),
            "digest": self.content.digest(manifest),
            "size": bytes.len(),
            "artifactType": content::artifact_type(manifest),
            "annotations": document["annotations"],
        })
    }

    /// All of the above.
    pub async fn everything(&self, model: &Model) -> Result<()> {
        for repo in 0..REPOS {
            for blob in 0..BLOBS {
                self.blob(model, repo, blob).await?;
            }
            for manifest in 0..MANIFESTS {
                self.manifest(model, repo, manifest).await?;
            }
            for tag in 0..TAGS {
                self.tag(model, repo, tag).await?;
            }
            self.tags(model, repo, 100).await?;
            self.referrers(model, repo, 0).await?;
        }
        self.catalog(model, 2).await
    }
}
