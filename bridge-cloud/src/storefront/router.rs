//! Routes of all paths except catalogue reads, with an id, a count and a log line for every
//! request.

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use bridge_protocol::domain::TraceParent;
use bridge_runtime::telemetry::continue_trace;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, VARY};
use http::{HeaderValue, Method};
use tracing::Instrument as _;

use super::paths::{CANCEL, PAY, PAYMENT, PLACE, READ, REFUND};
use super::problem::{Kind, Problem};
use super::request::id::{name, request_id};
use super::request::trace::trace;
use super::state::Worker;
use super::{openapi, orders, payments, refunds};
use crate::metrics::Route;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

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
        .route(REFUND, post(refunds::submit_refund))
        .fallback(async || Problem::new(Kind::NoSuchPath, "see the API's table of paths"))
        .method_not_allowed_fallback(async || Problem::new(Kind::MethodNotAllowed, "see the `Allow` header"))
        .layer(middleware::from_fn_with_state(worker.clone(), around))
        .with_state(worker)
}

/// Wraps every request.
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
        (_, &Method::POST) => {
            Some("Authorization, Bridge-Class, Content-Encoding, Content-Type, Idempotency-Key")
        }
        (_, _) => Some("Authorization"),
    };
    let mut response = next.run(request).instrument(span.clone()).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let kind = problem.kind();
        span.in_scope(|| tracing::debug!(?kind, "answered with a problem"));
        if let Some(refused) = problem.refused_credit() {
            worker.shared.link.pause(refused).await;
        }
        // `Allow` and `Idempotency-Replayed` were set beside the problem and belong to its
        // response.
        let beside = std::mem::take(response.headers_mut());
        response = problem.respond(&id);
        response.headers_mut().extend(beside);
    }
    if let Some(fields) = depends_on {
        // An order belongs to one shop, and its state changes, so no cache may keep it.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response.headers_mut().insert(VARY, HeaderValue::from_static(fields));
    }
    span.in_scope(|| tracing::debug!(status = response.status().as_u16(), "answered"));
    worker.shared.metrics.responses.of((route, response.status().into())).inc();
    name(&mut response, &id);
    response
}
