//! Tests of traces of real processes. The storefront's trace continues in spans of both agents,
//! which reach its collector. Nothing else reaches the collector, and nothing personal does.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::common::{Shop, configure, order_at, plan, until};
use anyhow::{Result, ensure};
use bridge_tests::testkit::database::Database;
use bridge_tests::testkit::http::{Client, HttpAnswer};
use bridge_tests::testkit::payers::TestGateway;
use bridge_tests::testkit::process::Programs;
use bridge_tests::testkit::sandbox::{Rates, SECRET_KEY};
use bridge_tests::testkit::site::Site;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

/// The storefront's trace and span ids.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// The parts of OTLP's `ExportTraceServiceRequest` that the tests read, by field number
/// (opentelemetry-proto, collector/trace/v1).
mod export {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Request {
        #[prost(message, repeated, tag = "1")]
        pub(super) resources: Vec<ResourceSpans>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ResourceSpans {
        #[prost(message, optional, tag = "1")]
        pub(super) resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        pub(super) scopes: Vec<ScopeSpans>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Resource {
        #[prost(message, repeated, tag = "1")]
        pub(super) attributes: Vec<Attribute>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Attribute {
        #[prost(string, tag = "1")]
        pub(super) key: String,
        #[prost(message, optional, tag = "2")]
        pub(super) value: Option<Value>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Value {
        #[prost(string, optional, tag = "1")]
        pub(super) text: Option<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ScopeSpans {
        #[prost(message, repeated, tag = "2")]
        pub(super) spans: Vec<Span>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Span {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) trace: Vec<u8>,
        #[prost(bytes = "vec", tag = "4")]
        pub(super) parent: Vec<u8>,
        #[prost(string, tag = "5")]
        pub(super) name: String,
        #[prost(message, repeated, tag = "9")]
        pub(super) attributes: Vec<Attribute>,
    }

    /// Returns the text of an attribute, or an empty text if there is none.
    pub(super) fn text(attributes: &[Attribute], key: &str) -> String {
        let found = attributes.iter().find(|attribute| attribute.key == key);
        found.and_then(|found| found.value.as_ref()?.text.clone()).unwrap_or_default()
    }
}

/// A span in the form that a test compares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    service: String,
    name: String,
    trace: String,
    parent: String,
    /// The value of the attribute that distinguishes two spans of the same name.
    of: String,
}

/// A collector, and the requests that it received.
#[derive(Clone)]
struct Collector {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl Collector {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let collector = Self { address: listener.local_addr()?, bodies: Arc::default() };
        let collecting = collector.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(collecting.clone().collect(stream));
            }
        });
        Ok(collector)
    }

    async fn collect(self, stream: TcpStream) {
        let take = service_fn(|request: Request<Incoming>| async {
            let to = request.uri().path().to_owned();
            let body = request.into_body().collect().await?.to_bytes();
            let known = to == "/v1/traces";
            if known {
                self.bodies.lock().unwrap_or_else(PoisonError::into_inner).push(body);
            }
            let mut answer = Response::new(Full::<Bytes>::default());
            *answer.status_mut() = if known { http::StatusCode::OK } else { http::StatusCode::NOT_FOUND };
            Ok::<_, hyper::Error>(answer)
        });
        // An agent that ends closes its connection, which is no error.
        let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), take).await;
    }

    /// Returns the bodies that arrived so far.
    fn bodies(&self) -> Vec<Bytes> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the spans in the bodies, sorted.
    fn spans(&self) -> Result<Vec<Span>> {
        let mut spans = Vec::new();
        for body in self.bodies() {
            for from in export::Request::decode(body)?.resources {
                let about = from.resource.unwrap_or_default().attributes;
                for span in from.scopes.into_iter().flat_map(|scope| scope.spans) {
                    let of = if span.name == "request" { "route" } else { "order" };
                    spans.push(Span {
                        service: export::text(&about, "service.name"),
                        name: span.name,
                        trace: hex(&span.trace),
                        parent: hex(&span.parent),
                        of: export::text(&span.attributes, of),
                    });
                }
            }
        }
        spans.sort();
        Ok(spans)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Places and pays an order of a pair of shoes, with a `traceparent` if one is given. Returns the
/// order's id.
async fn order_and_pay(site: &Site, shop: &mut Shop, trace_parent: Option<&str>) -> Result<String> {
    let mut client = Client::new(site.storefront);
    let placed = shop.order(&[(0, 1)]);
    let (orders, token) = (shop.orders(), shop.token().to_owned());
    let mut post = async |path: &str, key: &str, body: Bytes| -> Result<HttpAnswer> {
        let mut request = Request::post(path)
            .header("host", "bridge")
            .header("authorization", format!("Bearer {token}"))
            .header("idempotency-key", key)
            .header("content-type", "application/json");
        if let Some(trace_parent) = trace_parent {
            request = request.header("traceparent", trace_parent);
        }
        let answer = client.send(request.body(Full::new(body))?).await?;
        ensure!(answer.status == 201, "{path}: {} {:?}", answer.status, answer.json());
        Ok(answer)
    };
    let order = order_at(&post(&orders, &placed.key, placed.body).await?)?;
    let body = json!({
        "amount": { "amount": 222_000, "currency": "KRW" },
        "payment_key": format!("tgen_{order}"),
    });
    let key = format!("pay-{order}");
    post(&format!("{orders}/{order}/payments"), &key, body.to_string().into()).await?;
    Ok(order)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_trace_continues_in_both_agents_and_no_other_does() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let programs = Programs::build()?;
    let database = Database::Sqlite(dir.path().join("idc").join("ledger.db"));
    let site = Site::prepare(dir.path(), programs, database, &[("traced", "KRW")], 1).await?;
    site.import(&plan("traced")).await?;
    let _gateway = TestGateway::open(&site, Rates::default()).await?;
    let collector = Collector::start().await?;
    for config in [site.cloud_dir().join("bridge-cloud.toml"), site.idc_dir().join("bridge-idc.toml")] {
        configure(&config, "log.otlp", format!("http://{}", collector.address))?;
    }
    let mut bridge = site.start().await?;
    let mut shop = Shop::open(&site, "traced");

    let not_recorded = format!("00-{}-{CALLER}-00", TRACE.replace('4', "5"));
    let recorded = format!("00-{TRACE}-{CALLER}-01");
    order_and_pay(&site, &mut shop, None).await?;
    order_and_pay(&site, &mut shop, Some(&not_recorded)).await?;
    let order = order_and_pay(&site, &mut shop, Some(&recorded)).await?;
    order_and_pay(&site, &mut shop, None).await?;

    let span = |service: &str, name: &str, of: &str| Span {
        service: service.to_owned(),
        name: name.to_owned(),
        trace: TRACE.to_owned(),
        parent: CALLER.to_owned(),
        of: of.to_owned(),
    };
    let expected = [
        span("bridge-cloud", "request", "order_place"),
        span("bridge-cloud", "request", "payment_place"),
        span("bridge-idc", "commit", &order),
        span("bridge-idc", "payment", ""),
    ];
    until("the spans arrive while the agents run", async || Ok(collector.spans()?.len() >= expected.len()))
        .await?;
    // An agent sends its remaining spans before it ends.
    for agent in [&mut bridge.cloud, &mut bridge.idc] {
        ensure!(agent.terminate().await?.success(), "an agent did not end in order");
    }
    let spans = collector.spans()?;
    ensure!(spans == expected, "{spans:#?}");

    let (needles, token) = (shop.needles(), shop.token().to_owned());
    for body in collector.bodies() {
        ensure!(needles.count(&body) == 0, "a personal value left in a span");
        let text = String::from_utf8_lossy(&body);
        for secret in [&token, "tgen_", SECRET_KEY] {
            ensure!(!text.contains(secret), "{secret} left in a span");
        }
    }
    Ok(())
}
