//! Traces for an OpenTelemetry collector, when one is named.
//!
//! Each request is a span, and so is what another node does for it; `traceparent` carries the trace
//! from the client to the node and from node to node. Always holds: without a collector nothing is
//! dialled and nothing is recorded; with one that is gone, which is logged, or slow, which is not,
//! spans are dropped, and no request waits. Never does: decide what is recorded, which the client's `traceparent` does.

mod collector;

use std::sync::OnceLock;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, TraceContextExt as _, TraceState, TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::{Builder, Runtime};
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, filter};

/// A batch that the collector did not take within this time is dropped.
const EXPORT: Duration = Duration::from_secs(5);
/// How long the end of the process waits for the last batch.
const LAST: Duration = Duration::from_secs(2);

/// What sends spans, once there is a collector; it has threads of its own, so that neither delays
/// the other.
static TRACES: OnceLock<Traces> = OnceLock::new();

struct Traces {
    provider: SdkTracerProvider,
    _runtime: Runtime,
}

/// Whether `endpoint` is an address that spans can go to.
///
/// # Errors
/// It is not: why.
pub fn check(endpoint: &str) -> Result<(), String> {
    if endpoint.starts_with("http://") {
        return Ok(());
    }
    Err(format!("traces go without TLS, to an address such as http://127.0.0.1:4317, not {endpoint:?}"))
}

/// Records spans for the collector at `endpoint`. To be called once.
///
/// # Errors
/// The endpoint is not one that can be spoken to.
pub fn layer<S>(endpoint: &str) -> Result<impl Layer<S>, String>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    check(endpoint)?;
    let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("otlp").enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let provider = {
        let _within = runtime.enter();
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT);
        let exporter = exporter.build().map_err(|error| error.to_string())?;
        let resource = Resource::builder().with_service_name("trow").build();
        let exporter = collector::Watched::new(exporter, endpoint);
        SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()
    };
    let tracer = provider.tracer("trow");
    if TRACES.set(Traces { provider, _runtime: runtime }).is_err() {
        return Err("traces are sent already".to_owned());
    }
    let own = filter::filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("trow"));
    Ok(tracing_opentelemetry::layer().with_tracer(tracer).with_filter(own))
}

/// Makes `span` a part of the trace that a request's headers name.
pub fn adopt(span: &Span, headers: &HeaderMap) {
    if TRACES.get().is_none() {
        return;
    }
    let parent = TraceContextPropagator::new().extract(&Headers(headers));
    let named = parent.span().span_context().clone();
    if named.is_valid() {
        // What else the client says of its trace would travel on to peers: up to 16 KiB of headers.
        let (trace, span_id, flags) = (named.trace_id(), named.span_id(), named.trace_flags());
        let parent = SpanContext::new(trace, span_id, flags, true, TraceState::default());
        // A span that began already is a trace of its own.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
}

/// Names the trace of the current span in a request to a peer.
pub fn name_in(headers: &mut HeaderMap) {
    inject(&mut HeadersOut(headers));
}

/// Names the trace of the current span in a call to a peer.
pub fn name_in_call(metadata: &mut MetadataMap) {
    inject(&mut MetadataOut(metadata));
}

fn inject(carrier: &mut dyn Injector) {
    if TRACES.get().is_some() {
        TraceContextPropagator::new().inject_context(&Span::current().context(), carrier);
    }
}

/// Sends what was not sent yet, for a bounded while.
pub fn finish() {
    if let Some(traces) = TRACES.get() {
        // A collector that is gone gets nothing.
        let _ = traces.provider.shutdown_with_timeout(LAST);
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct HeadersOut<'a>(&'a mut HeaderMap);

impl Injector for HeadersOut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(key, value);
        }
    }
}

struct MetadataOut<'a>(&'a mut MetadataMap);

impl Injector for MetadataOut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) =
            (MetadataKey::from_bytes(key.as_bytes()), MetadataValue::try_from(value))
        {
            self.0.insert(key, value);
        }
    }
}
