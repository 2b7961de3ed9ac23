//! A request and the redirects that it leads to.
//!
//! Always holds: each hop is judged before it is taken; what is shown to the first host is shown to no other, nor
//! to the first again once a hop has left it; HTTPS does not turn into HTTP unless that is meant. Never does: put
//! a query into a text, which may hold a signature.

use std::time::Duration;

use http::header::{AUTHORIZATION, LOCATION};
use http::{HeaderMap, HeaderValue, Method};
use reqwest::{Response, Url};
use tokio::time::timeout;

use super::clients::Clients;
use super::resolve::{ForProxy, Forbidden};

/// The most redirects that are followed.
const REDIRECTS_MAX: usize = 5;

/// What is sent.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    /// For the first host alone.
    pub(super) authorization: Option<HeaderValue>,
    /// A form, for token services that want one.
    pub(super) form: Option<String>,
}

/// Why there is no answer. The texts go after the name of the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// It may not be asked, or led where nobody may go.
    Refused(String),
    /// It could not be reached, or was too slow.
    Unreachable(String),
}

/// Sends it, and follows redirects.
pub(super) async fn follow(
    clients: &Clients,
    mut request: Request,
    insecure: bool,
    patience: Duration,
) -> Result<Response, NoAnswer> {
    for _ in 0..=REDIRECTS_MAX {
        let response = send(clients, &request, patience).await?;
        let redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
        let Some(location) = response.headers().get(LOCATION).filter(|_| redirect) else {
            return Ok(response);
        };
        let next = location.to_str().ok().and_then(|location| request.url.join(location).ok());
        let next =
            next.filter(|next| next.has_host() && next.username().is_empty() && next.password().is_none());
        let next = next.ok_or_else(|| NoAnswer::Refused("redirects to what is no address".to_owned()))?;
        let scheme = match next.scheme() {
            "https" => true,
            "http" => insecure,
            _ => false,
        };
        if !scheme {
            return Err(NoAnswer::Refused(format!("redirects to {}, which is not https", shown(&next))));
        }
        if next.origin() != request.url.origin() {
            request.authorization = None;
        }
        request.url = next;
    }
    Err(NoAnswer::Refused(format!("redirects more than {REDIRECTS_MAX} times")))
}

/// Sends it once.
pub(super) async fn send(
    clients: &Clients,
    request: &Request,
    patience: Duration,
) -> Result<Response, NoAnswer> {
    let url = &request.url;
    let refused = |why: Forbidden| NoAnswer::Refused(format!("{} {why}", shown(url)));
    clients.guard.judge(url).map_err(refused)?;
    let (client, proxied) = clients.of(url).map_err(|error| {
        tracing::warn!(cause = %chain(&error), "cannot make a client for upstreams");
        NoAnswer::Unreachable("cannot be asked by this node, whose log says why".to_owned())
    })?;
    if proxied {
        clients.guard.judge_for_proxy(url).await.map_err(|why| match why {
            ForProxy::Forbidden(why) => refused(why),
            ForProxy::Unknown => NoAnswer::Refused(format!(
                "{} resolves at the proxy alone, which takes allow_private = true",
                shown(url)
            )),
        })?;
    }
    let mut sent = client.request(request.method.clone(), url.clone()).headers(request.headers.clone());
    if let Some(authorization) = &request.authorization {
        let mut authorization = authorization.clone();
        authorization.set_sensitive(true);
        sent = sent.header(AUTHORIZATION, authorization);
    }
    if let Some(form) = &request.form {
        sent =
            sent.header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.clone());
    }
    match timeout(patience, sent.send()).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => {
            if let Some(why) = forbidden(&error) {
                return Err(refused(why));
            }
            let error = error.without_url();
            tracing::debug!(host = shown(url), cause = %chain(&error), "an upstream cannot be reached");
            Err(NoAnswer::Unreachable(format!("{} {}", shown(url), reason(&error))))
        }
        Err(_) => Err(NoAnswer::Unreachable(format!("{} does not answer in time", shown(url)))),
    }
}

/// The host and port of a URL, without anything that could be secret.
pub(super) fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// What of an error is fit for a client.
fn reason(error: &reqwest::Error) -> &'static str {
    let tls = || {
        causes(error).any(|cause| cause.is::<rustls::Error>() || cause.to_string().contains("certificate"))
    };
    match () {
        () if error.is_timeout() => "does not answer in time",
        () if tls() => "has no certificate that is trusted",
        () if error.is_connect() => "cannot be reached",
        () => "broke off",
    }
}

fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

fn forbidden(error: &reqwest::Error) -> Option<Forbidden> {
    causes(error).find_map(|cause| cause.downcast_ref::<Forbidden>().copied())
}

fn chain(error: &reqwest::Error) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
