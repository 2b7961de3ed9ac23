//! Names to addresses, without those where nobody may be led.
//!
//! Always holds: what is connected to was judged as the address that it is, so that a name which resolves to
//! another address the next moment gains nothing.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use super::address::{Place, place};

/// Names that are resolved at once. A resolver that does not answer holds threads which the blobs of this node
/// need too.
static LOOKUPS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(32)));
/// How long a name waits for its turn.
const TURN: Duration = Duration::from_secs(2);

/// How names become addresses.
pub trait Lookup: Send + Sync + 'static {
    /// All addresses of a name.
    fn lookup(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// As this machine resolves names.
pub struct System;

impl Lookup for System {
    fn lookup(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let busy = || io::Error::new(io::ErrorKind::TimedOut, "too many names are being resolved");
            let turn = tokio::time::timeout(TURN, Arc::clone(&LOOKUPS).acquire_owned()).await;
            let turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
            // The turn ends with the thread, which nobody can call back from a resolver that does not answer.
            let work = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                Ok((name.as_str(), 0).to_socket_addrs()?.map(|address| address.ip()).collect())
            });
            work.await.map_err(io::Error::other)?
        })
    }
}

/// The name, or address, leads where nobody may be led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forbidden(pub(super) Place);

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Place::Never => "is at an address where no registry is",
            _ => "is at a private address, which takes allow_private = true",
        })
    }
}

impl std::error::Error for Forbidden {}

/// Resolves names to the addresses that one may be led to.
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) lookup: Arc<dyn Lookup>,
    pub(super) allow_private: bool,
}

impl Guard {
    fn allows(&self, place: Place) -> bool {
        place == Place::Public || (place == Place::Private && self.allow_private)
    }

    /// Judges a URL whose host is an address, which is resolved by nobody.
    pub(super) fn judge(&self, url: &Url) -> Result<(), Forbidden> {
        let place = match url.host() {
            Some(url::Host::Ipv4(address)) => place(address.into()),
            Some(url::Host::Ipv6(address)) => place(address.into()),
            _ => return Ok(()),
        };
        if self.allows(place) { Ok(()) } else { Err(Forbidden(place)) }
    }

    /// Judges a URL that somebody else will connect to: all that its host resolves to here.
    pub(super) async fn judge_for_proxy(&self, url: &Url) -> Result<(), ForProxy> {
        self.judge(url).map_err(ForProxy::Forbidden)?;
        let Some(url::Host::Domain(name)) = url.host() else { return Ok(()) };
        match self.lookup.lookup(name.to_owned()).await {
            Ok(addresses) if !addresses.is_empty() => {
                let worst = addresses.into_iter().map(place).max().unwrap_or(Place::Never);
                if self.allows(worst) { Ok(()) } else { Err(ForProxy::Forbidden(Forbidden(worst))) }
            }
            _ if self.allow_private => Ok(()),
            _ => Err(ForProxy::Unknown),
        }
    }
}

/// Why a proxy is not asked for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ForProxy {
    /// It leads where nobody may be led.
    Forbidden(Forbidden),
    /// Only the proxy could say where it leads.
    Unknown,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let found = guard.lookup.lookup(name.as_str().to_owned()).await?;
            let best = found.iter().map(|address| place(*address)).min();
            let allowed: Vec<_> = found.into_iter().filter(|address| guard.allows(place(*address))).collect();
            match best {
                Some(best) if allowed.is_empty() => Err(Forbidden(best).into()),
                _ => Ok(Box::new(allowed.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs),
            }
        })
    }
}
