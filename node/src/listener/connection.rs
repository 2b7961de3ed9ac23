//! One client's connection, from its first byte to its last.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::Limits;
use super::body::{Counted, Timely};
use super::refusal::Refusals;
use super::state::{Due, InFlight, Shared};
use super::watched::Watched;

/// While the listener closes, a connection without a request is closed after this long without a
/// byte: a request may be on its way on a connection that was kept alive. A client that is at work
/// is told with its next answer instead, so that no request of it meets the close.
const QUIET: Duration = Duration::from_millis(500);
/// HTTP/2: streams at once, bytes in flight to this node, bytes buffered to the client.
const STREAMS: u32 = 200;
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const SEND_BUFFER: usize = 256 << 10;
/// HTTP/2: how often a silent client is asked whether it is there.
const PING: Duration = Duration::from_secs(20);

/// What one connection is served with.
pub(super) struct Connection {
    pub(super) router: Router,
    pub(super) from: SocketAddr,
    pub(super) limits: Arc<Limits>,
    pub(super) closing: CancellationToken,
}

impl Connection {
    pub(super) async fn serve<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Connection { router, from, limits, closing } = self;
        let shared = Shared::new();
        let refusals = Refusals::new();
        let watched = Watched::new(stream, limits.head_bytes, shared.clone(), refusals.clone());
        let io = TokioIo::new(watched);
        let (counted, stall, ending) = (shared.clone(), limits.stall, closing.clone());
        let service = service_fn(move |mut request| {
            refusals.mark(&mut request);
            let (version, ending) = (request.version(), ending.clone());
            let reply = answer(router.clone(), request, from, stall, counted.begin());
            async move { reply.await.map(|reply| last(reply, version, &ending)) }
        });
        let builder = builder(&limits);
        let mut connection = pin!(builder.serve_connection(io, service));

        let short = limits.head_time.min(limits.idle).min(limits.stall) / 4;
        let (mut draining, mut finishing) = (None, false);
        // Kept across turns of the loop, so that nothing is missed in between.
        let mut flooded = pin!(shared.flooded());
        loop {
            let tick = if draining.is_some() { QUIET.min(short) / 5 } else { short };
            tokio::select! {
                // A request that has arrived is read before anything is concluded from silence.
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%from, cause = %error, "client connection ended");
                    }
                    return;
                }
                () = flooded.as_mut() => {
                    tracing::debug!(%from, "client connection given up: it gives up its requests");
                    return;
                }
                () = closing.cancelled(), if draining.is_none() => {
                    draining = Some((Instant::now(), QUIET));
                }
                () = sleep(tick) => {}
            }
            // HTTP/2 says so at any time. HTTP/1.1 says so at the head of an answer or not at all:
            // after one that had begun before, the connection is good for another request.
            let wanted = draining.is_some() && shared.is_http2();
            match shared.due(&limits, draining) {
                Due::Abort => {
                    tracing::debug!(%from, "client connection given up: it does not go on");
                    return;
                }
                // Asked to finish and did not, for as long as a body may stand still: the last
                // answer does not get through.
                Due::Finish if finishing && draining.is_none() => return,
                Due::Finish => {
                    finishing = true;
                    connection.as_mut().graceful_shutdown();
                }
                Due::Nothing if wanted && !finishing => {
                    finishing = true;
                    connection.as_mut().graceful_shutdown();
                }
                Due::Nothing => {}
            }
        }
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // hyper's own time limit for heads counts idle time too, so heads are watched here.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(limits.head_bytes)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        // What was given up before it was looked at: all that waits when a node stood still for seconds. With
        // h2's 20 the node would cut off its peers as it wakes, and the transfer of a state that was on its way.
        .max_pending_accept_reset_streams(STREAMS as usize)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    builder
}

/// An answer that is given while the listener closes is the last of its connection, and says so.
fn last(mut reply: Response<Counted>, version: Version, closing: &CancellationToken) -> Response<Counted> {
    if closing.is_cancelled() && version < Version::HTTP_2 {
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
    from: SocketAddr,
    stall: Duration,
    in_flight: InFlight,
) -> Result<Response<Counted>, Infallible> {
    let mut request = request.map(|body| Body::new(Timely::new(body, stall)));
    request.extensions_mut().insert(ConnectInfo(from));
    let Ok(reply) = router.oneshot(request).await;
    Ok(reply.map(|body| Counted::new(body, in_flight)))
}
