//! The end of a listening socket.
//!
//! When it closes, the kernel resets whoever it has connected and nobody accepted, and a client
//! cannot tell that from a request that broke. So no connection is begun any more first: a filter
//! drops what would begin one, and its sender, which asks again after a second, is refused then.
//! Always holds: whoever was connected is accepted. Never does: wait for a request.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockFilter, SockRef};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout_at};

/// A handshake that was under way is over after this long, unless a packet of it was lost.
const SETTLE: Duration = Duration::from_millis(100);
/// Until another try, after an accept that failed.
const RETRY: Duration = Duration::from_millis(5);

/// Classic BPF over the TCP header, `bpf(2)`'s older kin: load the byte of flags, keep SYN and ACK
/// of it, and drop the segment where SYN stands alone.
const BEGINS_NONE: [SockFilter; 5] = [
    SockFilter::new(LOAD_BYTE, 0, 0, 13),
    SockFilter::new(AND, 0, 0, (SYN | ACK) as u32),
    SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN as u32),
    SockFilter::new(RETURN, 0, 0, 0),
    SockFilter::new(RETURN, 0, 0, u32::MAX),
];
const LOAD_BYTE: u16 = 0x30;
const AND: u16 = 0x54;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Closes `listener`, giving `take` whoever connected before.
pub(super) async fn close(listener: TcpListener, mut take: impl FnMut(TcpStream, SocketAddr)) {
    let until = match SockRef::from(&listener).attach_filter(&BEGINS_NONE) {
        Ok(()) => Instant::now() + SETTLE,
        Err(error) => {
            // Some sandboxes have no filters; then what is connected by now must do.
            tracing::debug!(cause = %error, "clients may connect until the listener is closed");
            Instant::now()
        }
    };
    while let Ok(accepted) = timeout_at(until, listener.accept()).await {
        match accepted {
            Ok((tcp, from)) => take(tcp, from),
            // One that left again, or no file to be had: neither says anything of the next one.
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_is_connected_who_is_not_accepted() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            for _ in 0..2 {
                let Ok(listener) = TcpListener::bind(address).await else { continue };
                let address = listener.local_addr().unwrap();
                let connecting: Vec<_> =
                    (0..4).map(|_| tokio::spawn(connect_until_refused(address))).collect();
                let mut accepted = 0;
                while accepted < 50 {
                    accepted += usize::from(listener.accept().await.is_ok());
                }
                close(listener, |_, _| accepted += 1).await;
                let mut connected = 0;
                for clients in connecting {
                    connected += clients.await.unwrap();
                }
                assert_eq!(connected, accepted);
            }
        }
    }

    /// How often it connected before it was refused, which is all that may end it.
    async fn connect_until_refused(address: SocketAddr) -> usize {
        let mut connected = 0;
        loop {
            match TcpStream::connect(address).await {
                Ok(_) => connected += 1,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return connected,
                Err(error) => panic!("after {connected} connections: {error}"),
            }
        }
    }
}
