//! One trace spans the nodes that take part in a request; a collector that is gone disturbs nobody.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::client::Client;
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::content::Content;
use chaos_tests::process::Node;
use chaos_tests::report::scenario;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use reqwest::Method;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use trow_raft::Digest;

const REPO: &str = "traced/image";
const LIMIT: Duration = Duration::from_secs(30);
/// What the client says: the trace, its own span, and that it is recorded.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT: &str = "b7ad6b7169203331";

/// A span as the collector got it.
#[derive(Clone, Debug)]
struct Span {
    node: String,
    name: String,
    trace: String,
    id: String,
    parent: String,
}

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for from in request.into_inner().resource_spans {
            let attributes = from.resource.map(|resource| resource.attributes).unwrap_or_default();
            let instance = attributes.into_iter().find(|pair| pair.key == "service.instance.id");
            let node = match instance.and_then(|pair| pair.value).and_then(|value| value.value) {
                Some(Value::StringValue(name)) => name,
                _ => String::new(),
            };
            let spans = from.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let seen = spans.map(|span| Span {
                node: node.clone(),
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
            });
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(seen);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Waits for a span of the trace that `wanted` holds for.
    async fn span(&self, what: &str, wanted: impl Fn(&Span) -> bool) -> Result<Span> {
        let until = Instant::now() + LIMIT;
        loop {
            let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(span) = seen.iter().find(|span| span.trace == TRACE && wanted(span)) {
                return Ok(span.clone());
            }
            let of_trace: Vec<&Span> = seen.iter().filter(|span| span.trace == TRACE).collect();
            ensure!(Instant::now() < until, "no span of {what}; of the trace came {of_trace:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_spans_the_nodes_of_a_pull() {
    scenario("traces", Duration::from_secs(120), run()).await;
}

async fn run() -> Result<()> {
    // A runtime of its own, with which its open connections end too.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (collector, listener) = (Collector::default(), TcpListener::bind("127.0.0.1:0").await?);
    let endpoint = format!("http://{}", listener.local_addr()?);
    let listener = listener.into_std()?;
    let service = TraceServiceServer::new(collector.clone());
    runtime.spawn(async move {
        let incoming = TcpListenerStream::new(TcpListener::from_std(listener)?);
        let served = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
        served.await.map_err(anyhow::Error::from)
    });

    // A log that shows nothing does not keep anything from the collector.
    let plan = Plan::of(3).config("replication.factor = 1\n").env("TROW_LOG", "error");
    let mut cluster =
        Cluster::prepare(plan.env("TROW_OTLP_ENDPOINT", &endpoint).env("OTEL_BSP_SCHEDULE_DELAY", "200"))
            .await?;
    for node in &mut cluster.nodes {
        let name = format!("service.instance.id={}", node.name);
        node.env.push(("OTEL_RESOURCE_ATTRIBUTES".to_owned(), name));
    }
    cluster.start_all().await?;
    let nodes = cluster.clients();
    let content = Content::random(100_000);
    let digest = content.digest();
    ensure!(nodes[0].push_blob(REPO, content, &digest).await?.status == 201, "the push");
    cluster.settled(LIMIT).await?;
    let holds = |node: &Node| node.held().contains(&digest.hex());
    let holder = cluster.nodes.iter().position(holds).context("nobody holds the blob")?;
    let asked = (holder + 1) % 3;
    let (asks, holds) = (&cluster.nodes[asked].name, &cluster.nodes[holder].name);

    pull(&nodes[asked], &digest).await?;
    let first =
        collector.span("the node that was asked", |span| &span.node == asks && span.name == "request");
    let first = first.await?;
    ensure!(first.parent == CLIENT, "the request is no part of the client's span: {first:?}");
    let second = collector.span("the node that has the blob", |span| &span.node == holds);
    let second = second.await?;
    ensure!(second.name == "peer request" && second.parent == first.id, "{second:?} is not below {first:?}");

    // From here on nobody takes spans.
    runtime.shutdown_background();
    for _ in 0..50 {
        let began = Instant::now();
        pull(&nodes[asked], &digest).await?;
        ensure!(
            began.elapsed() < Duration::from_secs(2),
            "a pull without a collector took {:?}",
            began.elapsed()
        );
    }
    cluster.healthy(LIMIT).await?;
    cluster.done();
    Ok(())
}

async fn pull(client: &Client, digest: &Digest) -> Result<()> {
    let request = client.request(Method::GET, &format!("/v2/{REPO}/blobs/{digest}"));
    let answer =
        client.send("GET blob", request.header("traceparent", format!("00-{TRACE}-{CLIENT}-01"))).await?;
    ensure!(answer.status == 200, "the pull: {}", answer.status);
    Ok(())
}
