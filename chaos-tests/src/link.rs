//! The way to one listener: it passes bytes, counts those towards the listener, and can stop after some.
//!
//! What is held stays held, as on a link that went silent; nothing is lost or changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// A running link; it ends when it is dropped.
#[derive(Debug)]
pub struct Link {
    /// Where it is dialled, `host:port`.
    pub address: String,
    passed: Arc<AtomicU64>,
    most: watch::Sender<u64>,
    serving: JoinHandle<()>,
}

impl Link {
    /// A link to `target`, `host:port`, which need not listen yet.
    ///
    /// # Errors
    /// There is no port.
    pub async fn to(target: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (passed, most) = (Arc::new(AtomicU64::new(0)), watch::Sender::new(u64::MAX));
        let (target, count, limit) = (target.to_owned(), Arc::clone(&passed), most.subscribe());
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (target, count, limit) = (target.clone(), Arc::clone(&count), limit.clone());
                connections.spawn(async move {
                    // Whoever dialled sees a connection that is closed at once.
                    let Ok(there) = TcpStream::connect(&target).await else { return };
                    let (mut from, mut to) = stream.into_split();
                    let (mut back, mut forth) = there.into_split();
                    let forward = pass(&mut from, &mut forth, &count, limit);
                    tokio::select! {
                        () = forward => {}
                        _ = tokio::io::copy(&mut back, &mut to) => {}
                    }
                });
            }
        });
        Ok(Link { address, passed, most, serving })
    }

    /// Bytes passed towards the listener since the link began.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    /// From now on passes only until it has passed `bytes` in all.
    pub fn hold_at(&self, bytes: u64) {
        self.most.send_replace(bytes);
    }

    /// Passes everything again.
    pub fn release(&self) {
        self.most.send_replace(u64::MAX);
    }
}

async fn pass(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    count: &AtomicU64,
    mut most: watch::Receiver<u64>,
) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        // The link may be gone: then nothing more is passed.
        if most.wait_for(|most| *most > count.load(Ordering::SeqCst)).await.is_err() {
            return;
        }
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => {
                if to.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
                count.fetch_add(read as u64, Ordering::SeqCst);
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
