//! The first words on a peer connection, after TLS and before HTTP.
//!
//! ```text
//! dialler:  trow/1 <raft|control|blob> <cluster id or -> <proof>\n
//! listener: ok <cluster id or -> <proof>\n      or      no <why>\n
//! ```
//!
//! Owns the proof of the join secret and the comparison of cluster ids; a request need not repeat
//! either, since nothing gets onto the connection without them. A proof is an HMAC over both node
//! ids, the cluster id, who speaks, and key material exported from this very TLS session, so that
//! it is worth nothing elsewhere. Never does: membership.

use std::str::FromStr;
use std::time::Duration;

use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use trow_raft::{ClusterId, NodeId};

use super::traffic::Kind;
use crate::cluster_dir::ClusterDir;

/// The longest line, in bytes.
const LINE_MAX: usize = 256;
/// A greeting that takes longer is given up.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// Label of the exported key material (RFC 8446, section 7.5).
pub(super) const EXPORTER: &[u8] = b"EXPORTER-trow-peer-greeting";

/// The greeting failed.
#[derive(Debug, thiserror::Error)]
pub enum GreetingError {
    /// The connection broke.
    #[error("the greeting broke off: {0}")]
    Io(#[from] std::io::Error),
    /// It took too long.
    #[error("the greeting took too long")]
    Slow,
    /// The other side speaks something else.
    #[error("the greeting is not one of a Trow peer")]
    Garbled,
    /// The other side does not know the join secret of this cluster directory.
    #[error("the join secret is not this cluster's; is the other node's cluster directory stale?")]
    Secret,
    /// The other side belongs to another cluster.
    #[error("the other node belongs to cluster {theirs}, this one to {ours}")]
    OtherCluster {
        /// Its cluster.
        theirs: ClusterId,
        /// This node's.
        ours: ClusterId,
    },
    /// The other side refused, and said why.
    #[error("refused: {0}")]
    Refused(String),
}

/// Both ends of a connection and what binds a proof to it.
pub(super) struct Session<'a> {
    pub(super) secret: &'a ClusterDir,
    pub(super) dialler: NodeId,
    pub(super) listener: NodeId,
    pub(super) exported: [u8; 32],
}

/// What a dialler wants, proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Greeted {
    pub(super) kind: Kind,
    pub(super) cluster: Option<ClusterId>,
}

impl Session<'_> {
    pub(super) fn proof(&self, speaker: &str, cluster: &str) -> String {
        let (dialler, listener) = (self.dialler.0.to_be_bytes(), self.listener.0.to_be_bytes());
        let parts = [b"greeting".as_slice(), speaker.as_bytes(), cluster.as_bytes(), &dialler, &listener];
        hex::encode(self.secret.mac(&[&parts[..], &[&self.exported]].concat()))
    }

    fn check(&self, speaker: &str, cluster: &str, proof: &str) -> Result<(), GreetingError> {
        let right = self.proof(speaker, cluster);
        if right.as_bytes().ct_eq(proof.as_bytes()).into() { Ok(()) } else { Err(GreetingError::Secret) }
    }

    /// Greets as the dialler; gives the listener's cluster.
    pub(super) async fn dial<S>(
        &self,
        stream: &mut S,
        ours: Greeted,
    ) -> Result<Option<ClusterId>, GreetingError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let cluster = text(ours.cluster);
        let line = format!("trow/1 {} {cluster} {}\n", ours.kind.as_str(), self.proof("dialler", &cluster));
        stream.write_all(line.as_bytes()).await?;
        stream.flush().await?;
        let reply = line_of(stream).await?;
        if let Some(why) = reply.strip_prefix("no ") {
            return Err(GreetingError::Refused(why.to_owned()));
        }
        let words: Vec<&str> = reply.split(' ').collect();
        let ["ok", cluster, proof] = words[..] else { return Err(GreetingError::Garbled) };
        self.check("listener", cluster, proof)?;
        same(parse(cluster)?, ours.cluster)
    }

    /// Greets as the listener. A refusal is sent before it is returned.
    pub(super) async fn listen<S>(
        &self,
        stream: &mut S,
        ours: Option<ClusterId>,
    ) -> Result<Greeted, GreetingError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let result = line_of(stream).await.and_then(|line| self.judge(&line, ours));
        let reply = match &result {
            Ok(_) => format!("ok {} {}\n", text(ours), self.proof("listener", &text(ours))),
            Err(GreetingError::Garbled) => "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n".to_owned(),
            Err(error) => format!("no {error}\n"),
        };
        stream.write_all(reply.as_bytes()).await?;
        stream.flush().await?;
        result
    }

    pub(super) fn judge(&self, line: &str, ours: Option<ClusterId>) -> Result<Greeted, GreetingError> {
        let words: Vec<&str> = line.split(' ').collect();
        let ["trow/1", kind, cluster, proof] = words[..] else { return Err(GreetingError::Garbled) };
        self.check("dialler", cluster, proof)?;
        let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind);
        let kind = kind.ok_or(GreetingError::Garbled)?;
        Ok(Greeted { kind, cluster: same(parse(cluster)?, ours)? })
    }
}

/// Two nodes may talk when neither, or only one, knows of a cluster yet, or both of the same.
fn same(theirs: Option<ClusterId>, ours: Option<ClusterId>) -> Result<Option<ClusterId>, GreetingError> {
    match (theirs, ours) {
        (Some(theirs), Some(ours)) if theirs != ours => Err(GreetingError::OtherCluster { theirs, ours }),
        _ => Ok(theirs),
    }
}

fn text(cluster: Option<ClusterId>) -> String {
    cluster.map_or_else(|| "-".to_owned(), |cluster| cluster.to_string())
}

fn parse(text: &str) -> Result<Option<ClusterId>, GreetingError> {
    if text == "-" {
        return Ok(None);
    }
    ClusterId::from_str(text).map(Some).map_err(|_| GreetingError::Garbled)
}

/// Reads byte by byte: what follows the line belongs to HTTP.
async fn line_of<S: AsyncRead + Unpin>(stream: &mut S) -> Result<String, GreetingError> {
    let read = async {
        let mut line = Vec::with_capacity(128);
        loop {
            match stream.read_u8().await? {
                b'\n' => return String::from_utf8(line).map_err(|_| GreetingError::Garbled),
                _ if line.len() == LINE_MAX => return Err(GreetingError::Garbled),
                byte => line.push(byte),
            }
        }
    };
    tokio::time::timeout(LIMIT, read).await.map_err(|_| GreetingError::Slow)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_dir;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn dir() -> (tempfile::TempDir, ClusterDir) {
        let temp = tempfile::tempdir().unwrap();
        let made = cluster_dir::create(&temp.path().join("cluster")).unwrap();
        (temp, made)
    }

    async fn greet(
        dialler: (&ClusterDir, [u8; 32], Option<ClusterId>),
        listener: (&ClusterDir, [u8; 32], Option<ClusterId>),
    ) -> (Result<Option<ClusterId>, GreetingError>, Result<Greeted, GreetingError>) {
        let (mut near, mut far) = tokio::io::duplex(1024);
        let dial = Session { secret: dialler.0, dialler: A, listener: B, exported: dialler.1 };
        let listen = Session { secret: listener.0, dialler: A, listener: B, exported: listener.1 };
        let wanted = Greeted { kind: Kind::Raft, cluster: dialler.2 };
        tokio::join!(dial.dial(&mut near, wanted), listen.listen(&mut far, listener.2))
    }

    #[tokio::test]
    async fn same_secret_and_cluster_agree() {
        let (_temp, dir) = dir();
        let cluster = Some(ClusterId(7));
        let (dialled, listened) = greet((&dir, [1; 32], cluster), (&dir, [1; 32], cluster)).await;
        assert_eq!(dialled.unwrap(), cluster);
        assert_eq!(listened.unwrap(), Greeted { kind: Kind::Raft, cluster });
        let (dialled, listened) = greet((&dir, [1; 32], None), (&dir, [1; 32], cluster)).await;
        assert_eq!((dialled.unwrap(), listened.unwrap().cluster), (cluster, None));
    }

    #[tokio::test]
    async fn foreign_cluster_is_told_so() {
        let (_temp, dir) = dir();
        let (one, two) = (Some(ClusterId(1)), Some(ClusterId(2)));
        let (dialled, listened) = greet((&dir, [1; 32], one), (&dir, [1; 32], two)).await;
        assert!(matches!(dialled, Err(GreetingError::Refused(_))));
        assert!(matches!(listened, Err(GreetingError::OtherCluster { .. })));
    }

    #[tokio::test]
    async fn foreign_secret_and_replayed_proof_are_refused() {
        let ((_one, dir), (_two, other)) = (dir(), dir());
        let (dialled, listened) = greet((&dir, [1; 32], None), (&other, [1; 32], None)).await;
        assert!(matches!(dialled, Err(GreetingError::Refused(_))));
        assert!(matches!(listened, Err(GreetingError::Secret)));
        let (_, listened) = greet((&dir, [1; 32], None), (&dir, [2; 32], None)).await;
        assert!(matches!(listened, Err(GreetingError::Secret)));
    }

    #[tokio::test]
    async fn something_else_gets_a_400() {
        let (_temp, dir) = dir();
        let (mut near, mut far) = tokio::io::duplex(1024);
        let session = Session { secret: &dir, dialler: A, listener: B, exported: [0; 32] };
        near.write_all(b"GET /blob/../../etc/passwd HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(matches!(session.listen(&mut far, None).await, Err(GreetingError::Garbled)));
        drop(far);
        let mut reply = String::new();
        near.read_to_string(&mut reply).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 400 "), "{reply}");
    }
}
