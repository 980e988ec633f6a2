//! Which path is whose, and what every request passes: an id, a count, a line in the log.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, MatchedPath, Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bridge_protocol::domain::TraceParent;
use bridge_runtime::fields;
use bridge_runtime::telemetry::continue_trace;
use bridge_runtime::telemetry::metrics::Route;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use rand::RngExt;
use serde::de::DeserializeOwned;
use tracing::Instrument as _;

use super::problem::{Kind, Problem};
use super::state::Worker;
use super::{openapi, orders, payments};

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(super) const PLACE: &str = "/v1/{brand}/orders";
pub(super) const READ: &str = "/v1/{brand}/orders/{order}";
pub(super) const CANCEL: &str = "/v1/{brand}/orders/{order}/cancel";
pub(super) const PAY: &str = "/v1/{brand}/orders/{order}/payments";
pub(super) const PAYMENT: &str = "/v1/{brand}/orders/{order}/payments/{payment}";
pub(super) const REFUND: &str = "/v1/{brand}/orders/{order}/payments/{payment}/refunds";

/// A problem on its way to becoming a response; the middleware adds the request's id.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::default();
        response.extensions_mut().insert(self);
        response
    }
}

/// The variable parts of a path of ours.
pub(super) struct InPath<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Path::from_request_parts(parts, state).await;
        let not_text = |_| Problem::new(Kind::NoSuchPath, "what its percent signs stand for is not UTF-8");
        read.map(|Path(parts)| Self(parts)).map_err(not_text)
    }
}

pub(super) fn router(worker: Worker) -> Router {
    let worker = Arc::new(worker);
    let brands = worker.shared.brands.keys().map(String::as_str);
    let document = openapi::bytes(brands, worker.shared.config.lines_max);
    Router::new()
        .route(PLACE, post(orders::submit_order))
        .route(READ, get(orders::read_order))
        .route(CANCEL, post(orders::cancel_order))
        .route(openapi::PATH, get(async move || ([(CONTENT_TYPE, JSON)], document)))
        .route(PAY, post(payments::submit_payment))
        .route(PAYMENT, get(payments::read_payment))
        .route(REFUND, post(payments::submit_refund))
        .fallback(async || Problem::new(Kind::NoSuchPath, "see the API's table of paths"))
        .method_not_allowed_fallback(async || Problem::new(Kind::MethodNotAllowed, "see the `Allow` header"))
        .layer(middleware::from_fn_with_state(worker.clone(), around))
        .with_state(worker)
}

/// Around every request.
async fn around(State(worker): State<Arc<Worker>>, request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let route = match request.extensions().get::<MatchedPath>().map(MatchedPath::as_str) {
        Some(PLACE) => Route::OrderPlace,
        Some(READ) => Route::OrderRead,
        Some(CANCEL) => Route::OrderCancel,
        Some(PAY) => Route::PaymentPlace,
        Some(PAYMENT) => Route::PaymentRead,
        Some(REFUND) => Route::RefundPlace,
        _ => Route::Other,
    };
    let trace = trace(request.headers());
    let trace_id = trace.map(TraceParent::trace_id);
    let span = tracing::info_span!("request", id, route = route.as_str(), trace_id);
    if let Some(trace) = trace {
        continue_trace(&span, trace);
    }
    let depends_on = match (route, request.method()) {
        (Route::Other, _) => None,
        (_, &Method::POST) => Some("Authorization, Content-Encoding, Content-Type, Idempotency-Key"),
        (_, _) => Some("Authorization"),
    };
    let mut response = next.run(request).instrument(span.clone()).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let kind = problem.kind();
        span.in_scope(|| tracing::debug!(?kind, "answered with a problem"));
        // `Allow` and `Idempotency-Replayed` were set beside the problem and belong to its response.
        let beside = std::mem::take(response.headers_mut());
        response = problem.respond(&id);
        response.headers_mut().extend(beside);
    }
    if let Some(fields) = depends_on {
        // One shop's order is nobody else's, and how it stands changes: no cache is to keep it.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response.headers_mut().insert(VARY, HeaderValue::from_static(fields));
    }
    span.in_scope(|| tracing::debug!(status = response.status().as_u16(), "answered"));
    worker.shared.metrics.responses.of((route, response.status().into())).inc();
    name(&mut response, &id);
    response
}

/// The value of a field that has one, if it is there.
pub(super) fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Problem> {
    let twice = |_twice| Problem::new(Kind::BadRequest, format!("`{name}` stands more than once"));
    fields::single(headers, name).map_err(twice)
}

/// The trace that a request belongs to, if the storefront says one: `traceparent`, once and in its form. Another one is
/// ignored and not refused, as the standard wants it (W3C Trace Context, section 4.3).
pub(super) fn trace(headers: &HeaderMap) -> Option<TraceParent> {
    TraceParent::parse(fields::single(headers, &TRACE_PARENT).ok()??.to_str().ok()?)
}

/// Puts a request's id on its response.
pub(super) fn name<B>(response: &mut http::Response<B>, id: &str) {
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
}

/// The storefront's own id for the request if it is short and plain, else a random one.
pub(super) fn request_id(headers: &HeaderMap) -> String {
    let plain = |value: &str| {
        (1..=64).contains(&value.len())
            && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    let own = fields::single(headers, &REQUEST_ID).ok().flatten();
    let own = own.and_then(|value| value.to_str().ok()).filter(|value| plain(value));
    own.map_or_else(|| format!("{:016x}", rand::rng().random::<u64>()), str::to_owned)
}
