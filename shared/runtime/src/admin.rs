//! The admin listener for operators and their tools: `/healthz`, `/readyz`, `/metrics`, `/status`,
//! on loopback only.
//!
//! It asks the agent through [`Report`] and changes nothing. It still answers during a drain, so
//! that a load balancer sees `/readyz` fail. [`get`] is the client side, for the `status` command.

use std::future::IntoFuture as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request as AxumRequest, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get as on_get;
use axum::{Json, Router};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::interval;

use crate::clock::unix_now;
use crate::expiry::{self, Expiry, Warner};
use crate::fields;
use crate::shutdown::Shutdown;
use crate::telemetry::metrics::Metrics;

/// Timeout of a request on loopback.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Interval of the search for certificates and lists that expire soon, which are logged.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Largest answer that is accepted: more than any status or scrape.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Source of an agent's state. Both methods without a default may be called at any time and must
/// not block.
pub trait Report: Send + Sync + 'static {
    /// Returns why the agent cannot serve now, each reason as a sentence; empty if it can. Expired
    /// items of [`Self::expiries`] are added automatically.
    fn obstacles(&self) -> Vec<String>;

    /// Returns problems to know of although the agent serves, each as a sentence. Items that expire
    /// soon are added automatically.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns the items that expire.
    fn expiries(&self) -> Vec<Expiry> {
        Vec::new()
    }

    /// Returns the agent's state for people and scripts, without personal data and secrets.
    fn status(&self) -> Value;
}

#[derive(Clone)]
struct Admin {
    metrics: Arc<Metrics>,
    report: Arc<dyn Report>,
    shutdown: Shutdown,
}

/// Serves requests on `listener` and warns of items that expire soon. Dropping the future ends it.
///
/// # Errors
///
/// Fails if the listener cannot be served.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    report: Arc<dyn Report>,
    shutdown: Shutdown,
) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz", on_get(healthz))
        .route("/readyz", on_get(readyz))
        .route("/metrics", on_get(metrics_text))
        .route("/status", on_get(status))
        .layer(middleware::from_fn(of_one_meaning))
        .with_state(Admin { metrics, report: report.clone(), shutdown });
    tokio::select! {
        served = axum::serve(listener, router).into_future() => served,
        () = keep_warning(&*report) => Ok(()),
    }
}

async fn keep_warning(report: &dyn Report) {
    let mut warner = Warner::default();
    let mut look = interval(LOOK_EVERY);
    loop {
        look.tick().await;
        warner.warn(&report.expiries());
    }
}

/// Refuses a request with an ambiguous head.
async fn of_one_meaning(request: AxumRequest, next: Next) -> Response {
    match fields::check(request.version(), request.uri(), request.headers(), &[]) {
        Ok(()) => next.run(request).await,
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

/// The answer itself proves that the process lives.
async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let mut obstacles = admin.obstacles();
    if admin.shutdown.is_draining() {
        obstacles.insert(0, "it is draining and takes no new work".to_owned());
    }
    let status = if obstacles.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let answer = json!({ "ready": obstacles.is_empty(), "because": obstacles, "notes": admin.notes() });
    (status, Json(answer)).into_response()
}

async fn metrics_text(State(admin): State<Admin>) -> Response {
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    expiry::measure(&admin.metrics, &admin.report.expiries(), unix_now());
    ([(header::CONTENT_TYPE, kind)], admin.metrics.encode()).into_response()
}

async fn status(State(admin): State<Admin>) -> Json<Value> {
    let mut status = admin.report.status();
    if let Value::Object(members) = &mut status {
        members.insert("obstacles".to_owned(), json!(admin.obstacles()));
        members.insert("notes".to_owned(), json!(admin.notes()));
        members.insert("expiries".to_owned(), expiry::table(&admin.report.expiries(), unix_now()));
    }
    Json(status)
}

impl Admin {
    fn obstacles(&self) -> Vec<String> {
        let ended = expiry::obstacles(&self.report.expiries(), unix_now());
        [self.report.obstacles(), ended].concat()
    }

    fn notes(&self) -> Vec<String> {
        let ending = expiry::notes(&self.report.expiries(), unix_now());
        [self.report.notes(), ending].concat()
    }
}

/// A request to the admin listener failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nothing listens there.
    #[error("no agent answers at {address}: {cause}; is it running, and is admin.listen this address?")]
    Unreachable {
        /// Address that was asked.
        address: SocketAddr,
        /// The system's error.
        cause: io::Error,
    },
    /// Something listens there but did not answer in time.
    #[error("the agent at {0} did not answer within {ANSWER_WITHIN:?}")]
    Late(SocketAddr),
    /// Something listens there but is not an agent.
    #[error("what answers at {address} is not an agent's admin listener: {cause}")]
    Garbled {
        /// Address that was asked.
        address: SocketAddr,
        /// The HTTP error.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Asks an agent's admin listener for `path` and returns the status and the body.
///
/// # Errors
///
/// Fails if nothing listens there, if it does not answer in time, or if it is not an agent.
pub async fn get(address: SocketAddr, path: &str) -> Result<(StatusCode, Bytes), AdminError> {
    tokio::time::timeout(ANSWER_WITHIN, exchange(address, path))
        .await
        .map_err(|_elapsed| AdminError::Late(address))?
}

async fn exchange(address: SocketAddr, path: &str) -> Result<(StatusCode, Bytes), AdminError> {
    let stream =
        TcpStream::connect(address).await.map_err(|cause| AdminError::Unreachable { address, cause })?;
    let garbled = |cause: Box<dyn std::error::Error + Send + Sync>| AdminError::Garbled { address, cause };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| garbled(error.into()))?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|error| garbled(error.into()))?;
    let response = sender.send_request(request).await.map_err(|error| garbled(error.into()))?;
    let status = response.status();
    let body =
        Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(garbled)?.to_bytes();
    connection.abort();
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Expiring;

    struct FixedReport {
        obstacles: Vec<String>,
        expiries: Vec<Expiry>,
    }

    impl Report for FixedReport {
        fn obstacles(&self) -> Vec<String> {
            self.obstacles.clone()
        }

        fn status(&self) -> Value {
            json!({ "links": 2 })
        }

        fn expiries(&self) -> Vec<Expiry> {
            self.expiries.clone()
        }
    }

    async fn start(obstacles: &[&str]) -> (SocketAddr, Shutdown) {
        start_with(obstacles, Vec::new()).await
    }

    async fn start_with(obstacles: &[&str], expiries: Vec<Expiry>) -> (SocketAddr, Shutdown) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let obstacles = obstacles.iter().map(|o| (*o).to_owned()).collect();
        let report = Arc::new(FixedReport { obstacles, expiries });
        tokio::spawn(serve(listener, Arc::new(Metrics::default()), report, shutdown.clone()));
        (address, shutdown)
    }

    #[tokio::test]
    async fn an_agent_without_obstacles_is_ready_until_it_drains() {
        let (address, shutdown) = start(&[]).await;
        assert_eq!(get(address, "/readyz").await.unwrap().0, StatusCode::OK);
        shutdown.start(Duration::from_secs(60));
        let (status, body) = get(address, "/readyz").await.unwrap();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(str::from_utf8(&body).unwrap().contains("draining"));
        assert_eq!(get(address, "/healthz").await.unwrap().0, StatusCode::OK);
    }

    #[tokio::test]
    async fn an_agent_that_is_not_ready_says_why() {
        let (address, _shutdown) = start(&["no link is up"]).await;
        let (status, body) = get(address, "/readyz").await.unwrap();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            serde_json::from_slice::<Value>(&body).unwrap(),
            json!({ "ready": false, "because": ["no link is up"], "notes": [] })
        );
    }

    /// Serves a revocation list that expires in this many seconds. Returns the readiness, the text
    /// of the answer and the metric.
    async fn with_list_that_ends_in(seconds: i64) -> (bool, String, f64) {
        let list = Expiry {
            what: Expiring::RevocationList,
            name: "crl.pem".to_owned(),
            ends_at: unix_now() + seconds,
        };
        let (address, _shutdown) = start_with(&[], vec![list]).await;
        let (status, body) = get(address, "/readyz").await.unwrap();
        let said: Value = serde_json::from_slice(&body).unwrap();
        let told = [&said["because"], &said["notes"]].map(|list| list.as_array().unwrap().clone()).concat();
        let (_, shown) = get(address, "/status").await.unwrap();
        let shown: Value = serde_json::from_slice(&shown).unwrap();
        assert_eq!(shown["expiries"][0]["what"], "revocation_list");
        let (_, metrics) = get(address, "/metrics").await.unwrap();
        let metrics = String::from_utf8(metrics.to_vec()).unwrap();
        assert!(metrics.contains("bridge_expires_in_seconds{what=\"sealing_key\"} NaN\n"), "{metrics}");
        let line = "bridge_expires_in_seconds{what=\"revocation_list\"} ";
        let left = metrics.lines().find_map(|text| text.strip_prefix(line)).unwrap().parse().unwrap();
        (status == StatusCode::OK, told.iter().map(Value::to_string).collect(), left)
    }

    #[tokio::test]
    async fn a_near_expiry_is_a_note_and_a_past_one_blocks() {
        let day = 24 * 3_600;
        let (ready, said, left) = with_list_that_ends_in(2 * day + 60).await;
        assert!(ready && said.contains("in 2 days") && left > 2.0 * 86_400.0, "{said} {left}");
        let (ready, said, left) = with_list_that_ends_in(-60).await;
        assert!(!ready && said.contains("ended on") && said.contains("bridge-certs crl"), "{said}");
        assert!((-120.0..=-60.0).contains(&left), "{left}");
        let (ready, said, _) = with_list_that_ends_in(20 * day).await;
        assert!(ready && said.is_empty(), "{said}");
    }

    #[tokio::test]
    async fn metrics_and_status_are_served() {
        let (address, _shutdown) = start(&[]).await;
        let (_, metrics) = get(address, "/metrics").await.unwrap();
        assert!(str::from_utf8(&metrics).unwrap().contains("bridge_links_up{transport=\"quic\"} 0\n"));
        let (_, status) = get(address, "/status").await.unwrap();
        let expected = json!({ "links": 2, "obstacles": [], "notes": [], "expiries": [] });
        assert_eq!(serde_json::from_slice::<Value>(&status).unwrap(), expected);
        assert_eq!(get(address, "/orders").await.unwrap().0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn an_agent_that_is_not_there_is_told_with_its_address() {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = get(address, "/status").await.err().unwrap();
        assert!(matches!(error, AdminError::Unreachable { .. }));
        assert!(error.to_string().contains(&address.to_string()));
    }
}
