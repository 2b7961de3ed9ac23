//! A follower that was away until the log was cut, so that only the whole state brings it back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::client::Client;
use crate::cluster::Cluster;
use crate::metrics;

/// Settings with which a log is cut after a few pushes.
pub const SHORT_LOG: &str = "[raft]\nlog_limit = \"1MiB\"\n";
/// The media type of an OCI image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An index that names nothing, and is like no other of another `name`.
pub fn index(name: &str, padding: usize) -> Bytes {
    let annotations = json!({ "org.example.name": name, "org.example.padding": "x".repeat(padding) });
    let index =
        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": annotations });
    index.to_string().into()
}

/// The last entry that the node at `index` has applied.
pub async fn applied(cluster: &Cluster, index: usize) -> Result<u64> {
    Ok(metrics::read(&cluster.nodes[index], "trow_raft_applied_index", &[]).await? as u64)
}

/// Pushes one manifest again and again, which changes nothing, until every node but `away`, which
/// is down, has cut its log beyond the first of these pushes.
///
/// Not beyond what the node had applied: its log may go further than that, and up to its end it would come back
/// without the state.
pub async fn until_cut(cluster: &mut Cluster, away: usize) -> Result<()> {
    let others: Vec<usize> = (0..cluster.nodes.len()).filter(|index| *index != away).collect();
    let client = cluster.nodes[others[0]].client();
    let (filler, until) = (index("filler", 300_000), Instant::now() + Duration::from_secs(60));
    let mut first = None;
    loop {
        let answer = client.put_manifest("filler", "filler", INDEX, filler.clone()).await?;
        ensure!(answer.status == 201, "a push without the follower: {answer}");
        let beyond = match first {
            Some(index) => index,
            None => *first.insert(applied(cluster, others[0]).await?),
        };
        let mut cut = true;
        for other in &others {
            let purged = metrics::read(&cluster.nodes[*other], "trow_raft_purged_index", &[]).await?;
            cut &= purged as u64 > beyond;
        }
        if cut {
            return Ok(());
        }
        ensure!(Instant::now() < until, "the log is not cut beyond {beyond}");
    }
}

/// Waits until the node at `back` has applied what the node at `index` has now, and both report the same
/// state hash at the same index, which is returned.
pub async fn agree(cluster: &Cluster, index: usize, back: usize, limit: Duration) -> Result<u64> {
    let until = Instant::now() + limit;
    let of = async |node: usize| -> Result<Value> {
        let client: Client = cluster.nodes[node].client().within(Duration::from_secs(5));
        cluster.admin.status(&client).await
    };
    let target = of(index).await?["applied"].as_u64().context("applied")?;
    loop {
        let seen = match (of(index).await, of(back).await) {
            (Ok(here), Ok(there)) => {
                let field = |status: &Value, name: &str| status[name].as_u64();
                let at = field(&here, "state_hash_at").context("state_hash_at")?;
                if field(&there, "applied") >= Some(target) && field(&there, "state_hash_at") == Some(at) {
                    let hashes = (here["state_hash"].as_str(), there["state_hash"].as_str());
                    ensure!(
                        hashes.0.is_some() && hashes.0 == hashes.1,
                        "at {at} the states differ: {hashes:?}"
                    );
                    return Ok(at);
                }
                format!("applied {} of {target}", there["applied"])
            }
            (here, there) => {
                let failed = here.err().or(there.err());
                failed.map_or_else(String::new, |error| format!("{error:#}"))
            }
        };
        if Instant::now() > until {
            let node = &cluster.nodes[back];
            bail!("{} is not back after {limit:?} ({seen}):\n{}", node.name, node.log_tail(30));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
