//! The listener for a gateway's webhooks. A webhook is only a hint: the agent asks the gateway
//! about the payment, and trusts nothing in the webhook itself. So a forged, repeated, late or
//! reordered webhook does no harm.

use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::domain::OrderId;
use bridge_runtime::accept;
use bridge_runtime::fields;
use bridge_runtime::shutdown::Shutdown;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::gateway::Gateway;
use super::service::Payments;
use crate::metrics::payments::WebhookUse;

/// Most bytes that are read of a webhook. A payment object has some kilobytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Most connections at a time. A further one waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;

/// Longest life of a connection. A gateway with more webhooks connects again.
const CONNECTION_TIME: Duration = Duration::from_secs(15);

/// Part of a webhook that is read: the order's id. Toss Payments has it in `data` for a changed
/// payment, and at the top level for a deposit
/// (docs.tosspayments.com/reference/using-api/webhook-events).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Webhook {
    order_id: Option<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    order_id: Option<String>,
}

/// Listens until the agent ends.
pub async fn listen<G: Gateway>(listener: TcpListener, payments: Arc<Payments<G>>, shutdown: Shutdown) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Some((stream, place)) = next(&listener, &room, &shutdown).await {
        let payments = payments.clone();
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(move |request| {
                let payments = payments.clone();
                async move { Ok::<_, std::convert::Infallible>(answer(&payments, request).await) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(5)).max_headers(64);
            // A caller that disconnects or stays too long loses only a hint.
            let _ended =
                timeout(CONNECTION_TIME, server.serve_connection(TokioIo::new(stream), service)).await;
        });
    }
}

/// Waits for room and returns the next connection. Returns `None` once the agent drains.
async fn next(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
    shutdown: &Shutdown,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let next = async {
        let place = room.clone().acquire_owned().await.ok()?;
        let (stream, _) = accept::next("a webhook's", || listener.accept()).await;
        Some((stream, place))
    };
    tokio::select! {
        next = next => next,
        _deadline = shutdown.started() => None,
    }
}

async fn answer<G: Gateway>(payments: &Payments<G>, request: Request<Incoming>) -> Response<Empty<Bytes>> {
    let (status, used) = judge(payments, request).await;
    payments.metrics.payments.webhooks.of(used).inc();
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    response
}

async fn judge<G: Gateway>(payments: &Payments<G>, request: Request<Incoming>) -> (StatusCode, WebhookUse) {
    if fields::check(request.version(), request.uri(), request.headers(), &[]).is_err() {
        return (StatusCode::BAD_REQUEST, WebhookUse::Ignored);
    }
    if request.method() != Method::POST {
        return (StatusCode::METHOD_NOT_ALLOWED, WebhookUse::Ignored);
    }
    let body = match Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return (StatusCode::PAYLOAD_TOO_LARGE, WebhookUse::Ignored);
        }
        Err(_) => return (StatusCode::BAD_REQUEST, WebhookUse::Ignored),
    };
    // The answer does not tell if the hint was useful, so a caller that guesses ids learns nothing.
    let Some(order) = order_of(&body) else { return (StatusCode::OK, WebhookUse::Ignored) };
    match payments.hint(order).await {
        Ok(true) => (StatusCode::OK, WebhookUse::Hint),
        Ok(false) => (StatusCode::OK, WebhookUse::Ignored),
        Err(error) => {
            tracing::error!(%error, "take a webhook");
            (StatusCode::SERVICE_UNAVAILABLE, WebhookUse::Refused)
        }
    }
}

fn order_of(body: &[u8]) -> Option<OrderId> {
    let webhook: Webhook = serde_json::from_slice(body).ok()?;
    webhook.data.and_then(|data| data.order_id).or(webhook.order_id)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_ends_the_listener_also_while_it_has_no_room() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _caller = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (room, shutdown) = (Arc::new(Semaphore::new(1)), Shutdown::new());
        let taken = next(&listener, &room, &shutdown).await.expect("there is room");
        let waits = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { next(&listener, &room, &shutdown).await.is_none() }
        });
        tokio::task::yield_now().await;
        shutdown.start(Duration::from_secs(60));
        let ended = timeout(Duration::from_secs(60), waits).await;
        assert!(ended.expect("it waits for a caller to go").unwrap());
        drop(taken);
    }

    #[test]
    fn an_orders_id_is_found_only_where_the_gateway_puts_it() {
        let id = "0193e4a2-0000-7000-8000-000000000001";
        for (body, found) in [
            (format!(r#"{{"eventType": "PAYMENT_STATUS_CHANGED", "data": {{"orderId": "{id}"}}}}"#), true),
            (format!(r#"{{"secret": "x", "status": "DONE", "orderId": "{id}"}}"#), true),
            (format!(r#"{{"data": {{"paymentKey": "{id}"}}}}"#), false),
            (r#"{"data": {"orderId": "' OR 1=1"}}"#.to_owned(), false),
            (r#"{"data": {"orderId": 7}}"#.to_owned(), false),
            ("[]".to_owned(), false),
            ("not JSON".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(order_of(body.as_bytes()).is_some(), found, "{body}");
        }
    }
}
