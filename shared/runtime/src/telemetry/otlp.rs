//! Traces: continues a storefront's traces as spans in an OpenTelemetry collector (OTLP over plain
//! HTTP, protobuf).
//!
//! Only spans of our own crates are sent, without log lines, and only in traces that the storefront
//! records. They wait in a bounded queue for a thread of their own. A span that finds the queue
//! full is dropped, and nobody waits.

use std::time::Duration;

use bridge_protocol::domain::TraceParent;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider};
use tracing::{Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use super::Service;
use crate::config::CollectorUrl;

/// Most spans that wait to be sent.
const QUEUE: usize = 8_192;

/// Spans in one request.
const BATCH: usize = 512;

/// Interval of requests while there are fewer spans than a batch.
const EVERY: Duration = Duration::from_secs(1);

/// Timeout of a request. Its spans are then lost.
const REQUEST: Duration = Duration::from_secs(5);

/// Longest wait for the remaining spans at the end of the process.
const FLUSH: Duration = Duration::from_secs(2);

/// Reasons why there is no exporter.
pub(super) type Error = ExporterBuildError;

/// The sending thread with its queue. Dropping it sends the rest.
#[derive(Debug)]
pub(super) struct Exporter {
    provider: SdkTracerProvider,
}

impl Exporter {
    /// Starts the thread. The collector need not be reachable. Do not call it within an async
    /// runtime.
    pub(super) fn start(collector: &CollectorUrl, service: &Service<'_>) -> Result<Self, Error> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(collector.traces())
            .with_timeout(REQUEST)
            .build()?;
        let limits = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(EVERY);
        let about = [
            KeyValue::new("service.name", service.name),
            KeyValue::new("service.instance.id", service.instance.to_owned()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ];
        let provider = SdkTracerProvider::builder()
            .with_span_processor(
                BatchSpanProcessor::builder(exporter).with_batch_config(limits.build()).build(),
            )
            // A span is recorded only if the storefront records its own. A span outside a
            // storefront's trace is not.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)))
            .with_resource(Resource::builder_empty().with_attributes(about).build())
            .build();
        Ok(Self { provider })
    }

    /// Returns the layer that passes spans to the exporter.
    pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("bridge"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(is_exported))
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSH) {
            tracing::warn!(%error, "send the last traces");
        }
    }
}

/// Returns true for our own spans. Events belong to the log only.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target().starts_with("bridge_")
}

/// Makes a span a child of the storefront's span. The span must not be entered yet. It is sent when
/// it ends, if the storefront records the trace and `log.otlp` has a collector.
pub fn continue_trace(span: &Span, trace: TraceParent) {
    let (id, caller, flags) = trace.parts();
    let caller = SpanContext::new(
        TraceId::from_bytes(id),
        SpanId::from_bytes(caller),
        TraceFlags::new(flags),
        true,
        TraceState::NONE,
    );
    // It fails if there is no collector.
    let _not_exported = span.set_parent(Context::new().with_remote_span_context(caller));
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use tracing::{info, info_span};
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::registry;

    use super::*;
    use crate::config::Setting as _;

    const TRACE: [u8; 16] = *b"\x4b\xf9\x2f\x35\x77\xb3\x4d\xa6\xa3\xce\x92\x9d\x0e\x0e\x47\x36";

    fn parent(last: &str) -> TraceParent {
        TraceParent::parse(&format!("00-4bf92f3577b34da6a3ce929d0e0e47{last}")).unwrap()
    }

    /// Returns one request as a collector receives it: its head and its body.
    fn receive(listener: &TcpListener) -> (String, Vec<u8>) {
        let (stream, _) = listener.accept().unwrap();
        let mut stream = BufReader::new(stream);
        let (mut head, mut bytes) = (String::new(), 0);
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            let line = line.to_ascii_lowercase();
            if let Some(length) = line.strip_prefix("content-length:") {
                bytes = length.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
            head.push_str(&line);
        }
        let mut body = vec![0; bytes];
        stream.read_exact(&mut body).unwrap();
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        stream.into_inner().write_all(answer).unwrap();
        (head, body)
    }

    fn has(body: &[u8], what: &[u8]) -> bool {
        body.windows(what.len()).any(|window| window == what)
    }

    #[test]
    fn a_collector_gets_only_the_spans_of_a_recorded_trace() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let collector = CollectorUrl::parse(
            &format!("http://{}", listener.local_addr().unwrap()),
            &crate::config::BasePaths::default(),
        )
        .unwrap();
        let collecting = thread::spawn(move || receive(&listener));

        let service = Service { name: "bridge-test", instance: "front-1" };
        let exporter = Exporter::start(&collector, &service).unwrap();
        tracing::subscriber::with_default(registry().with(exporter.layer()), || {
            let request = info_span!("request", id = "r-1");
            continue_trace(&request, parent("36-00f067aa0ba902b7-01"));
            request.in_scope(|| {
                info!("a line with hunter2");
                let _foreign = info_span!(target: "sqlx::query", "select hunter2").entered();
            });
            let unrecorded = info_span!("unrecorded");
            continue_trace(&unrecorded, parent("37-00f067aa0ba902b7-00"));
            let _untraced = info_span!("untraced").entered();
        });
        drop(exporter);

        let (head, body) = collecting.join().unwrap();
        assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
        assert!(head.contains("content-type: application/x-protobuf"), "{head}");
        let caller = b"\x00\xf0\x67\xaa\x0b\xa9\x02\xb7";
        for sent in [&TRACE[..], caller, b"request", b"r-1", b"bridge-test", b"front-1"] {
            assert!(has(&body, sent), "{sent:?} is not in {body:?}");
        }
        for kept in [&b"hunter2"[..], b"select", b"unrecorded", b"untraced"] {
            assert!(!has(&body, kept), "{kept:?} is in {body:?}");
        }
    }
}
