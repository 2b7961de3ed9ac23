//! Telling one's own requests when they come back: `Via`.
//!
//! An upstream that is this cluster itself, under whatever name or behind whatever proxy, would be asked by every
//! request that it is asked by. Each request to an upstream therefore says which cluster it comes from, by a name
//! that says nothing else of it; a request that says so of this cluster is to be refused with 508.

use http::header::VIA;
use http::{HeaderMap, HeaderValue};
use trow_raft::Digest;

/// What this cluster writes into `Via`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Marker {
    name: String,
    header: HeaderValue,
}

impl Marker {
    /// That of the cluster which `cluster` tells from all others; it cannot be found out from the marker.
    pub fn of(cluster: &str) -> Marker {
        let digest = Digest::sha256(format!("trow via {cluster}").as_bytes()).hex();
        let name = format!("trow-{}", &digest[..16]);
        let header =
            HeaderValue::try_from(format!("1.1 {name}")).unwrap_or(HeaderValue::from_static("1.1 trow"));
        Marker { name, header }
    }

    /// Says that a request comes from this cluster.
    pub(super) fn mark(&self, headers: &mut HeaderMap) {
        headers.insert(VIA, self.header.clone());
    }

    /// Whether a request was made by this cluster, so that answering it could ask it again. Whoever serves
    /// clients calls this before an upstream is asked, and refuses with 508 (Loop Detected).
    pub fn came_back(&self, headers: &HeaderMap) -> bool {
        let values = headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|hop| hop.split_whitespace().nth(1) == Some(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_knows_its_own_requests_behind_proxies_too() {
        let (own, other) = (Marker::of("1"), Marker::of("2"));
        let mut headers = HeaderMap::new();
        assert!(!own.came_back(&headers));
        own.mark(&mut headers);
        assert!(own.came_back(&headers) && !other.came_back(&headers));
        let through = format!("1.0 a, {}, 1.1 b (c)", headers[VIA].to_str().unwrap());
        headers.insert(VIA, through.parse().unwrap());
        assert!(own.came_back(&headers));
        headers.insert(VIA, "1.1 trow, trow".parse().unwrap());
        assert!(!own.came_back(&headers));
    }
}
