//! What is typed: where the mirrors are, and which registries they stand for.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use trow_api::pull::Host;

/// A node of Trow, as the runtime reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mirror {
    /// `host:port`, or `host` alone with the scheme's own port.
    pub(super) address: String,
    pub(super) tls: bool,
}

impl FromStr for Mirror {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected an address such as http://10.0.0.10:30500, not {text:?}");
        let url = Url::parse(text).map_err(|_| expected())?;
        let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        let nobody = url.username().is_empty() && url.password().is_none();
        let host = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https") && bare && nobody);
        let host = host.ok_or_else(expected)?;
        let address = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Ok(Mirror { address, tls: url.scheme() == "https" })
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }
}

/// What is pulled through the mirrors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Upstream {
    /// One registry.
    Of {
        host: Host,
        /// It speaks plain HTTP.
        plain: bool,
    },
    /// Every one that is not named.
    Default,
}

impl Upstream {
    pub(super) fn is_docker(&self) -> bool {
        matches!(self, Upstream::Of { host, .. } if host.is_docker())
    }
}

impl FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "_default" {
            return Ok(Upstream::Default);
        }
        let (plain, host) = match text.split_once("://") {
            Some(("http", host)) => (true, host),
            Some(("https", host)) => (false, host),
            Some(_) => return Err(format!("expected a registry such as quay.io, not {text:?}")),
            None => (false, text),
        };
        let host = host.trim_end_matches('/').parse::<Host>().map_err(|error| error.to_string())?;
        Ok(Upstream::Of { host, plain })
    }
}
