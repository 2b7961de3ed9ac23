//! The client of a node's administration, as the commands use it.
//!
//! Always holds: the token travels only to the server that was named, and redirects are not
//! followed. Never does: tables.

use std::path::PathBuf;
use std::time::Duration;

use bytes::BytesMut;
use clap::Args;
use futures::StreamExt as _;
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use trow_api::policy::Invalid;

use super::{Failure, reach};
use crate::admin::{NO_QUORUM, POLICY_INVALID};

/// Where the admin token lies when nobody says where: of `trow serve`, of `trow dev`.
const TOKEN_FILES: [&str; 2] = ["./data/cluster/admin.token", "./trow-dev/cluster/admin.token"];

/// How long nothing is said before nobody is believed to be there.
const SILENCE: Duration = Duration::from_secs(60);
/// Longer than any answer that goes on.
const ENDLESS: Duration = Duration::from_secs(7 * 24 * 3600);

/// Which server, and with what right.
#[derive(Clone, Debug, Args)]
pub struct Server {
    /// Any node of the cluster
    #[arg(long, value_name = "URL", env = "TROW_SERVER", default_value = "http://127.0.0.1:5000")]
    server: String,
    /// The admin token [default: ./data/cluster/admin.token, then ./trow-dev/cluster/admin.token]
    #[arg(long, value_name = "FILE", env = "TROW_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Trust this CA for an https server, PEM [default: the system's]
    #[arg(long, value_name = "FILE", env = "TROW_CA_FILE")]
    ca_file: Option<PathBuf>,
}

/// What a server said instead of what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// Nobody answers, or not in a way that can be understood.
    #[error("no server answers at {url}: {why}")]
    NoServer {
        /// Where.
        url: String,
        /// Why.
        why: String,
    },
    /// It has no quorum for this.
    #[error("{0}")]
    NoQuorum(String),
    /// It refused.
    #[error("{0}")]
    Refused(String),
    /// It refused a policy, which is wrong in these places.
    #[error("{}", .0.iter().map(Invalid::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Invalid>),
}

impl From<Unanswered> for Failure {
    fn from(error: Unanswered) -> Self {
        match error {
            Unanswered::Refused(_) | Unanswered::Invalid(_) => Failure::Failed(error.to_string()),
            Unanswered::NoServer { .. } | Unanswered::NoQuorum(_) => Failure::Unanswered(error.to_string()),
        }
    }
}

/// A server with a token, ready to be asked.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<Token>,
}

/// The admin token, and where it was found.
#[derive(Debug)]
struct Token {
    text: String,
    file: PathBuf,
}

impl Server {
    /// A client of the server.
    ///
    /// # Errors
    /// The address, the token file or the CA file is unusable.
    pub fn client(&self) -> Result<Client, Failure> {
        let usage = |why: String| Failure::Usage(why);
        let base = Url::parse(&self.server).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let base = base.ok_or_else(|| {
            usage(format!(
                "--server: expected an address such as http://127.0.0.1:5000, not {:?}",
                self.server
            ))
        })?;
        let mut builder = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(30))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if let Some(file) = &self.ca_file {
            let read = std::fs::read(file).map_err(|error| error.to_string());
            let ca =
                read.and_then(|pem| reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| e.to_string()));
            let ca = ca.map_err(|why| usage(format!("--ca-file {}: {why}", file.display())))?;
            builder = builder.tls_certs_only(ca);
        }
        let http = builder.build().map_err(|error| Failure::Failed(format!("prepare a client: {error}")))?;
        Ok(Client { http, base, token: self.token()? })
    }

    /// Without a token the server is asked all the same: that nobody answers is worth more to
    /// know than that there is no token.
    fn token(&self) -> Result<Option<Token>, Failure> {
        let read = |file: PathBuf| {
            let text = std::fs::read_to_string(&file).map(|text| text.trim().to_owned());
            text.map(|text| Token { text, file })
        };
        match &self.token_file {
            Some(file) => {
                let error = |error| Failure::Usage(format!("--token-file {}: {error}", file.display()));
                read(file.clone()).map(Some).map_err(error)
            }
            None => Ok(TOKEN_FILES.iter().find_map(|file| read(file.into()).ok())),
        }
    }
}

impl Client {
    /// Asks for `path` below the administration.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, Unanswered> {
        self.answer(self.request(method, path)).await
    }

    /// Sends `body` to `path` below the administration.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<T, Unanswered> {
        self.answer(self.request(method, path).body(body)).await
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Unanswered> {
        let no_server = |error| self.no_server(&error);
        let reply = request.send().await.map_err(no_server)?;
        let status = reply.status();
        let body = reply.bytes().await.map_err(no_server)?;
        if !status.is_success() {
            return Err(self.refusal(status, &body));
        }
        serde_json::from_slice(&body).map_err(strange)
    }

    /// Posts `question` to `path` below the administration, and hands on what is said line by line, for as long
    /// as it goes on.
    ///
    /// # Errors
    /// See [`Unanswered`]; also, nothing more is said for a while.
    pub async fn lines<T: DeserializeOwned>(
        &self,
        path: &str,
        question: &impl Serialize,
        mut heard: impl FnMut(T),
    ) -> Result<(), Unanswered> {
        let no_server = |error| self.no_server(&error);
        let silent =
            |_| Unanswered::NoServer { url: self.base.to_string(), why: "it says nothing more".to_owned() };
        let request = self.request(Method::POST, path).json(question).timeout(ENDLESS);
        let reply = timeout(SILENCE, request.send()).await.map_err(silent)?.map_err(no_server)?;
        let status = reply.status();
        if !status.is_success() {
            return Err(self.refusal(status, &reply.bytes().await.map_err(no_server)?));
        }
        let (mut pieces, mut unread) = (reply.bytes_stream(), BytesMut::new());
        while let Some(piece) = timeout(SILENCE, pieces.next()).await.map_err(silent)? {
            unread.extend_from_slice(&piece.map_err(no_server)?);
            while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                heard(serde_json::from_slice(&unread.split_to(end + 1)).map_err(strange)?);
            }
        }
        Ok(())
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/-/trow/v1/{path}", self.base.as_str().trim_end_matches('/'));
        let request = self.http.request(method, &url);
        match &self.token {
            Some(token) => request.bearer_auth(&token.text),
            None => request,
        }
    }

    fn no_server(&self, error: &reqwest::Error) -> Unanswered {
        Unanswered::NoServer { url: self.base.to_string(), why: reach::why(&self.base, error) }
    }

    /// What an answer says that is none.
    fn refusal(&self, status: StatusCode, body: &[u8]) -> Unanswered {
        let answer = serde_json::from_slice::<serde_json::Value>(body).ok();
        if let Some(invalid) = answer.as_ref().and_then(wrong_places) {
            return Unanswered::Invalid(invalid);
        }
        match (status, answer.as_ref().and_then(messages)) {
            (StatusCode::UNAUTHORIZED, _) => Unanswered::Refused(match &self.token {
                Some(token) => format!(
                    "the server does not accept the admin token in {}: name the admin.token of its cluster \
                     directory with --token-file",
                    token.file.display()
                ),
                None => format!(
                    "the server wants the admin token, and there is none in {}: name the admin.token of its \
                     cluster directory with --token-file",
                    TOKEN_FILES.join(" or ")
                ),
            }),
            (StatusCode::SERVICE_UNAVAILABLE, said) => {
                Unanswered::NoQuorum(said.unwrap_or_else(|| NO_QUORUM.to_owned()))
            }
            (_, Some(said)) => Unanswered::Refused(said),
            // The ops listener, or something else altogether.
            (StatusCode::NOT_FOUND, None) => Unanswered::Refused(format!(
                "{} is no client listener of Trow: name server.listen, such as http://127.0.0.1:5000",
                self.base.as_str().trim_end_matches('/')
            )),
            (status, None) => Unanswered::Refused(format!("the server answered {status}")),
        }
    }
}

/// All that an answer's errors say, a line each; none when it has none.
fn messages(answer: &serde_json::Value) -> Option<String> {
    let errors = answer.get("errors")?.as_array()?.iter();
    let messages: Option<Vec<&str>> = errors.map(|error| error.get("message")?.as_str()).collect();
    messages.filter(|messages| !messages.is_empty()).map(|messages| messages.join("\n"))
}

/// The places of a policy that an answer calls wrong; none when it says something else.
fn wrong_places(answer: &serde_json::Value) -> Option<Vec<Invalid>> {
    let errors = answer.get("errors")?.as_array()?.iter();
    let places: Option<Vec<Invalid>> = errors
        .map(|error| {
            let detail = error.get("detail").filter(|_| error["code"] == POLICY_INVALID)?;
            serde_json::from_value(detail.clone()).ok()
        })
        .collect();
    places.filter(|places| !places.is_empty())
}

fn strange(error: serde_json::Error) -> Unanswered {
    Unanswered::Refused(format!("the server's answer is not understood: {error}"))
}
