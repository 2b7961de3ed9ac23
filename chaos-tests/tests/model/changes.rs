//! Every change a client can make: the request, the answer that the model expects, and the change of
//! the model.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use chaos_tests::client::{Answer, Client, location};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use reqwest::{Method, RequestBuilder};
use trow_raft::Digest;

use crate::content::{self, Content};
use crate::reads::expect;
use crate::state::{Condition, Model};
use crate::step::Form;

/// Who makes the changes, and of what.
pub struct Writer<'a> {
    pub client: &'a Client,
    /// What deletes.
    pub token: &'a str,
    pub content: &'a Content,
}

/// How many tags a push moved, in its answer.
fn moved_tags(answer: &Answer) -> Vec<&str> {
    let mut tags: Vec<&str> =
        answer.headers.get_all("oci-tag").iter().filter_map(|tag| tag.to_str().ok()).collect();
    tags.sort_unstable();
    tags
}

impl Writer<'_> {
    async fn send(&self, request: RequestBuilder) -> Result<Answer> {
        Ok(self.client.send("a change", request).await?)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, path)
    }

    async fn delete(&self, path: &str, condition: Condition) -> Result<Answer> {
        let request = self.request(Method::DELETE, path).bearer_auth(self.token);
        self.send(self.on(request, condition)).await
    }

    fn on(&self, request: RequestBuilder, condition: Condition) -> RequestBuilder {
        match condition {
            Condition::None => request,
            Condition::Absent => request.header(IF_NONE_MATCH, "*"),
            Condition::Is(manifest) => {
                request.header(IF_MATCH, format!("\"{}\"", self.content.digest(manifest)))
            }
        }
    }

    fn uploads(&self, repo: u8) -> String {
        format!("/v2/{}/blobs/uploads/", self.content.repo(repo))
    }

    /// Notes a change that took effect: no earlier one has its log id.
    fn changed(&self, model: &mut Model, answer: &Answer) -> Result<u64> {
        let index = answer.log_id().context("no Trow-Log-Id")?;
        ensure!(index > model.last, "changed at {index}, after a change at {}", model.last);
        model.last = index;
        Ok(index)
    }

    pub async fn push(&self, model: &mut Model, repo: u8, blob: u8, form: Form) -> Result<()> {
        let (bytes, digest) = (self.content.blob(blob), self.content.blob_digest(blob));
        let answer = match form {
            Form::Post => {
                let path = format!("{}?digest={digest}", self.uploads(repo));
                self.send(self.request(Method::POST, &path).body(bytes)).await?
            }
            Form::Put => self.finish(&self.begin(repo).await?, bytes, &digest).await?,
            Form::Stream => {
                let patched = self.patch(&self.begin(repo).await?, bytes.clone(), None).await?;
                expect(&patched, 202, None)?;
                let at = location(&patched).context("no Location")?;
                self.finish(&at, Bytes::new(), &digest).await?
            }
            Form::Chunks => self.chunks(&self.begin(repo).await?, bytes, &digest).await?,
        };
        expect(&answer, 201, None)?;
        let at = format!("/v2/{}/blobs/{digest}", self.content.repo(repo));
        ensure!(location(&answer).as_ref() == Some(&at), "{:?} is where blob {blob} is", answer.headers);
        model.change(repo).blobs.insert(blob);
        self.changed(model, &answer)?;
        Ok(())
    }

    async fn begin(&self, repo: u8) -> Result<String> {
        let begun = self.client.start_upload(&self.content.repo(repo)).await?;
        expect(&begun, 202, None)?;
        location(&begun).context("no Location")
    }

    async fn patch(&self, at: &str, bytes: Bytes, range: Option<(usize, usize)>) -> Result<Answer> {
        let request = self.request(Method::PATCH, at).header(CONTENT_TYPE, "application/octet-stream");
        let request = match range {
            Some((from, to)) => request.header(CONTENT_RANGE, format!("{from}-{to}")),
            None => request,
        };
        self.send(request.body(bytes)).await
    }

    async fn finish(&self, at: &str, bytes: Bytes, digest: &Digest) -> Result<Answer> {
        let mark = if at.contains('?') { '&' } else { '?' };
        let request = self.request(Method::PUT, &format!("{at}{mark}digest={digest}"));
        self.send(request.header(CONTENT_TYPE, "application/octet-stream").body(bytes)).await
    }

    /// Two chunks, one that is refused between them, a look at how far it got, and the rest in the PUT.
    async fn chunks(&self, at: &str, bytes: Bytes, digest: &Digest) -> Result<Answer> {
        let third = bytes.len() / 3;
        let mut at = at.to_owned();
        for from in [0, third] {
            let to = from + third;
            let ahead = self.patch(&at, bytes.slice(from..to), Some((from + 1, to))).await?;
            expect(&ahead, 416, None)?;
            let taken = self.patch(&at, bytes.slice(from..to), Some((from, to - 1))).await?;
            expect(&taken, 202, None)?;
            at = location(&taken).context("no Location")?;
            let looked = self.send(self.request(Method::GET, &at)).await?;
            expect(&looked, 204, None)?;
            let range = format!("0-{}", to - 1);
            for answer in [&taken, &looked] {
                ensure!(answer.header("range") == Some(&range), "{:?} is not {range}", answer.headers);
            }
            at = location(&looked).context("no Location")?;
        }
        self.finish(&at, bytes.slice(2 * third..), digest).await
    }

    pub async fn push_wrong(&self, repo: u8, blob: u8) -> Result<()> {
        let other = self.content.digest(0);
        let answer = self.finish(&self.begin(repo).await?, self.content.blob(blob), &other).await?;
        expect(&answer, 400, Some("DIGEST_INVALID"))
    }

    pub async fn cancel(&self, repo: u8, blob: u8) -> Result<()> {
        let patched = self.patch(&self.begin(repo).await?, self.content.blob(blob), None).await?;
        expect(&patched, 202, None)?;
        let at = location(&patched).context("no Location")?;
        expect(&self.send(self.request(Method::DELETE, &at)).await?, 204, None)?;
        expect(&self.send(self.request(Method::GET, &at)).await?, 404, Some("BLOB_UPLOAD_UNKNOWN"))?;
        let late = self.finish(&at, Bytes::new(), &self.content.digest(0)).await?;
        expect(&late, 404, Some("BLOB_UPLOAD_UNKNOWN"))
    }

    pub async fn mount(&self, model: &mut Model, repo: u8, from: Option<u8>, blob: u8) -> Result<()> {
        let source = from.map(|from| format!("&from={}", self.content.repo(from))).unwrap_or_default();
        let digest = self.content.blob_digest(blob);
        let path = format!("{}?mount={digest}{source}", self.uploads(repo));
        let answer = self.send(self.request(Method::POST, &path)).await?;
        let there = match from {
            Some(from) => model.repo(from).blobs.contains(&blob),
            None => model.anywhere(blob),
        };
        if there {
            expect(&answer, 201, None)?;
            model.change(repo).blobs.insert(blob);
            self.changed(model, &answer)?;
            return Ok(());
        }
        expect(&answer, 202, None)?;
        let at = location(&answer).context("no Location")?;
        expect(&self.send(self.request(Method::DELETE, &at)).await?, 204, None)
    }

    pub async fn delete_blob(&self, model: &mut Model, repo: u8, blob: u8) -> Result<()> {
        let path = format!("/v2/{}/blobs/{}", self.content.repo(repo), self.content.blob_digest(blob));
        let answer = self.delete(&path, Condition::None).await?;
        if model.repo(repo).uses(blob) {
            return expect(&answer, 405, Some("UNSUPPORTED"));
        }
        if !model.change(repo).blobs.remove(&blob) {
            return expect(&answer, 404, Some("BLOB_UNKNOWN"));
        }
        expect(&answer, 202, None)?;
        self.changed(model, &answer)?;
        Ok(())
    }

    pub async fn put(
        &self,
        model: &mut Model,
        repo: u8,
        tag: u8,
        manifest: u8,
        condition: Condition,
    ) -> Result<()> {
        let path = format!("/v2/{}/manifests/{}", self.content.repo(repo), content::tag(tag));
        let request = self.on(self.request(Method::PUT, &path), condition);
        let answer = self.send_manifest(request, manifest).await?;
        if !model.repo(repo).has_all_of(manifest) {
            return expect(&answer, 404, Some("MANIFEST_BLOB_UNKNOWN"));
        }
        if !condition.holds(model.repo(repo), tag) {
            return expect(&answer, 412, Some("PRECONDITION_FAILED"));
        }
        self.stored(model, repo, manifest, &[tag], &answer)
    }

    pub async fn put_tags(&self, model: &mut Model, repo: u8, manifest: u8, tags: &[u8]) -> Result<()> {
        let mut names: Vec<String> = tags.iter().map(|tag| content::tag(*tag)).collect();
        let query: Vec<String> = names.iter().map(|name| format!("tag={name}")).collect();
        let digest = self.content.digest(manifest);
        let path = format!("/v2/{}/manifests/{digest}?{}", self.content.repo(repo), query.join("&"));
        let answer = self.send_manifest(self.request(Method::PUT, &path), manifest).await?;
        if !model.repo(repo).has_all_of(manifest) {
            return expect(&answer, 404, Some("MANIFEST_BLOB_UNKNOWN"));
        }
        names.sort();
        ensure!(moved_tags(&answer) == names, "OCI-Tag: {:?}, not {names:?}", moved_tags(&answer));
        self.stored(model, repo, manifest, tags, &answer)
    }

    async fn send_manifest(&self, request: RequestBuilder, manifest: u8) -> Result<Answer> {
        let request = request.header(CONTENT_TYPE, content::media_type(manifest));
        self.send(request.body(self.content.manifest(manifest))).await
    }

    /// A push that was taken: what is so already keeps its log id.
    fn stored(&self, model: &mut Model, repo: u8, manifest: u8, tags: &[u8], answer: &Answer) -> Result<()> {
        expect(answer, 201, None)?;
        let subject = content::subject(manifest).map(|subject| self.content.digest(subject).to_string());
        ensure!(answer.header("oci-subject") == subject.as_deref(), "{:?}", answer.headers);
        let index = answer.log_id().context("no Trow-Log-Id")?;
        let old = model.repo(repo).clone();
        let stays = |tag: &&u8| old.tags.get(tag).is_some_and(|(there, _)| *there == manifest);
        let stay: Vec<u64> = tags.iter().filter(stays).filter_map(|tag| Some(old.tags.get(tag)?.1)).collect();
        let known = old.manifests.get(&manifest).copied();
        if known.is_some() && stay.len() == tags.len() {
            let so = stay.into_iter().max().or(known);
            ensure!(Some(index) == so, "so since {so:?}, not {index}");
            return Ok(());
        }
        self.changed(model, answer)?;
        let repo = model.change(repo);
        repo.manifests.entry(manifest).or_insert(index);
        for tag in tags.iter().filter(|tag| !stays(tag)) {
            repo.tags.insert(*tag, (manifest, index));
        }
        Ok(())
    }

    pub async fn put_wrong(&self, repo: u8, manifest: u8) -> Result<()> {
        let other = self.content.blob_digest(0);
        let path = format!("/v2/{}/manifests/{other}", self.content.repo(repo));
        let answer = self.send_manifest(self.request(Method::PUT, &path), manifest).await?;
        expect(&answer, 400, Some("DIGEST_INVALID"))
    }

    pub async fn delete_tag(&self, model: &mut Model, repo: u8, tag: u8, condition: Condition) -> Result<()> {
        let path = format!("/v2/{}/manifests/{}", self.content.repo(repo), content::tag(tag));
        let answer = self.delete(&path, condition).await?;
        if !condition.holds(model.repo(repo), tag) {
            return expect(&answer, 412, Some("PRECONDITION_FAILED"));
        }
        if model.change(repo).tags.remove(&tag).is_none() {
            return expect(&answer, 404, Some("MANIFEST_UNKNOWN"));
        }
        expect(&answer, 202, None)?;
        self.changed(model, &answer)?;
        Ok(())
    }

    pub async fn delete_manifest(&self, model: &mut Model, repo: u8, manifest: u8) -> Result<()> {
        let path = format!("/v2/{}/manifests/{}", self.content.repo(repo), self.content.digest(manifest));
        let answer = self.delete(&path, Condition::None).await?;
        if model.change(repo).manifests.remove(&manifest).is_none() {
            return expect(&answer, 404, Some("MANIFEST_UNKNOWN"));
        }
        model.change(repo).tags.retain(|_, (there, _)| *there != manifest);
        expect(&answer, 202, None)?;
        self.changed(model, &answer)?;
        Ok(())
    }
}
