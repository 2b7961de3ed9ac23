//! A registry that is measured: its addresses, and who asks.

use std::str::FromStr;

use base64::Engine as _;
use http::{HeaderValue, Uri};

use super::BenchError;
use super::connection::{Connection, ConnectionError};

/// Where a server listens for plain HTTP, as `http://host:port`.
#[derive(Clone, Debug)]
pub struct Address {
    authority: String,
    host: HeaderValue,
}

/// An address that cannot be measured.
#[derive(Debug, thiserror::Error)]
#[error("expected an address such as http://127.0.0.1:5000 (plain HTTP, no path), not {0:?}")]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let plain = uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/");
        if !plain || uri.query().is_some() || authority.as_str().contains('@') {
            return Err(wrong());
        }
        let port = authority.port_u16().unwrap_or(80);
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| wrong())?;
        Ok(Address { authority: format!("{}:{port}", authority.host()), host })
    }
}

impl Address {
    /// Host and port.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// What the `Host` header says.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// As it is typed.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.authority)
    }

    pub(super) async fn connect(&self) -> Result<Connection, BenchError> {
        Connection::open(self, None).await.map_err(|error| self.silent(&error))
    }

    fn silent(&self, error: &ConnectionError) -> BenchError {
        BenchError::NoServer { url: self.url(), why: error.to_string() }
    }
}

/// One registry, of one or more nodes.
#[derive(Clone, Debug)]
pub struct Target {
    addresses: Vec<Address>,
    authorization: Option<HeaderValue>,
}

impl Target {
    /// The registry behind `addresses`, of which there is at least one.
    pub fn new(addresses: Vec<Address>) -> Target {
        Target { addresses, authorization: None }
    }

    /// Asks as `user`.
    pub fn with_user(mut self, user: &str, password: &str) -> Target {
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        self.authorization = HeaderValue::try_from(format!("Basic {basic}")).ok();
        self
    }

    /// The addresses as they are typed.
    pub(super) fn urls(&self) -> Vec<String> {
        self.addresses.iter().map(Address::url).collect()
    }

    /// The first address as it is typed.
    pub(super) fn url(&self) -> String {
        self.addresses.first().map(Address::url).unwrap_or_default()
    }

    /// The connection of one of many clients: they are spread evenly.
    pub(super) async fn connect(&self, client: usize) -> Result<Connection, ConnectionError> {
        let address =
            self.addresses.get(client % self.addresses.len().max(1)).ok_or(ConnectionError::Closed)?;
        Connection::open(address, self.authorization.as_ref()).await
    }

    /// As [`Target::connect`], where it must succeed for anything to go on.
    pub(super) async fn reach(&self, client: usize) -> Result<Connection, BenchError> {
        let silent =
            |error: ConnectionError| BenchError::NoServer { url: self.url(), why: error.to_string() };
        self.connect(client).await.map_err(silent)
    }

    /// Each server answers.
    pub(super) async fn answers(&self) -> Result<(), BenchError> {
        for address in &self.addresses {
            address.connect().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_plain_http_without_a_path() {
        for good in ["http://127.0.0.1:5000", "http://registry/", "http://[::1]:5000"] {
            assert!(good.parse::<Address>().is_ok(), "{good}");
        }
        for bad in ["127.0.0.1:5000", "https://a", "http://a/v2/", "http://u@a", "http://a?b", "", "http://"]
        {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
        assert_eq!("http://registry".parse::<Address>().unwrap().authority(), "registry:80");
    }
}
