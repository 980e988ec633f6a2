//! Payments at the storefront: charge and read their state. An answer of 201 means that money moved
//! for certain.
//!
//! `submit_payment` shows a payment's whole way through this agent, one step in each line.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use bridge_protocol::domain::payment_body::PayRequest;
use bridge_protocol::domain::{Brand, KeyDigest, OrderId, PaymentId, PaymentState, RefundId, UnixMicros};
use bridge_protocol::order_link::sender::{BodyMark, CallerAnswer, Rejected};
use bridge_protocol::seal::sealing::Header;
use bridge_protocol::wire::order::{Refusal, to_idc};
use bridge_protocol::wire::payment::{self, AskPayment, Pay};
use bridge_runtime::clock;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use rand::RngExt as _;
use serde_json::{Value, json};

use super::problem::{Kind, Problem};
use super::request::extractors::{AskBy, InPath, idempotency_key, order_id};
use super::request::trace::trace;
use super::state::Worker;
use super::write::answer::mark_replayed;
use super::write::carry::carry_payment;
use super::write::refusals::{in_progress, not_told, refused, unavailable};
use crate::admission::NotAdmitted;

/// Time after which an unknown payment may be asked about.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// A payment of an order, as answers name it.
pub(super) struct PaymentReference<'a> {
    pub(super) brand: &'a Brand,
    pub(super) order: OrderId,
    pub(super) payment: PaymentId,
    /// Key that finds it whatever its id is.
    pub(super) key: Option<KeyDigest>,
}

/// `POST /v1/{brand}/orders/{order}/payments`: 201 paid, 202 if the outcome is unknown, 402
/// declined, or another problem.
pub(super) async fn submit_payment(
    State(worker): State<Arc<Worker>>,
    InPath((brand, order)): InPath<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let shop = worker.authenticate(&brand, &headers)?;
    let key = idempotency_key(&headers)?.digest(&shop.brand);
    let order = order_id(&order)?;
    let body = worker.read_body(&headers, body).await?;
    let request =
        PayRequest::parse(&body).map_err(|errors| Problem::of_fields(Kind::InvalidPayment, &errors))?;
    let slot = worker.admit_payment(shop)?;
    let payment = PaymentId::new(clock::now(), rand::rng().random());
    let pay = Pay {
        brand: shop.brand.as_str().to_owned(),
        order: Bytes::copy_from_slice(order.as_bytes()),
        key: Bytes::copy_from_slice(key.as_bytes()),
        payment: Bytes::copy_from_slice(payment.as_bytes()),
        amount: request.amount.amount(),
        currency: request.amount.currency().to_string(),
        payment_key: request.payment_key.as_str().to_owned(),
    };
    let header = Header { brand: shop.brand.clone(), order, key };
    let mark = worker.marks.of_payment(order, request.amount, request.payment_key.as_str());
    let kind = to_idc::Kind::Pay(pay);
    let answer = carry_payment(worker.clone(), slot, header, payment, kind, mark, trace(&headers)).await?;
    let place = PaymentReference { brand: &shop.brand, order, payment, key: Some(key) };
    let Some(stands) = stands(answer, &place)? else { return Ok(unknown(&place)) };
    let place = PaymentReference { payment: stands.payment, key: None, ..place };
    let mut response = match stands.state {
        PaymentState::Paid | PaymentState::PartiallyRefunded | PaymentState::Refunded => {
            let location = [(header::LOCATION, place.location())];
            (StatusCode::CREATED, location, Json(stands.json())).into_response()
        }
        PaymentState::Created | PaymentState::Confirming | PaymentState::Unknown => {
            in_doubt(&place, stands.json())
        }
        state @ (PaymentState::Declined
        | PaymentState::NotPaid
        | PaymentState::ChargedLate
        | PaymentState::Returned) => {
            let detail = match state {
                PaymentState::ChargedLate => {
                    "it was charged after it had been given up, and the money goes back by itself; place a new order"
                }
                PaymentState::Returned => {
                    "it was charged after it had been given up, and the money went back; place a new order"
                }
                _ => "no money moved; the order may be paid by another payment under a new key",
            };
            let code = stands.wire.code.as_deref().unwrap_or("OTHER");
            Problem::new(Kind::PaymentDeclined, detail)
                .order(order)
                .payment(place.payment)
                .code(code)
                .into_response()
        }
    };
    mark_replayed(&mut response, stands.wire.replayed);
    Ok(response)
}

/// `GET /v1/{brand}/orders/{order}/payments/{payment}`: 200 with its state and its refunds.
pub(super) async fn read_payment(
    State(worker): State<Arc<Worker>>,
    InPath((brand, order, payment)): InPath<(String, String, String)>,
    by: Result<Query<AskBy>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let shop = worker.authenticate(&brand, &headers)?;
    let (order, payment) = (order_id(&order)?, payment_id(&payment)?);
    let Query(by) = by.map_err(|_| unknown_payment())?;
    let key = match by.key.as_deref() {
        Some(digits) => Some(KeyDigest::from_hex(digits).ok_or_else(unknown_payment)?),
        None => None,
    };
    let ask = AskPayment {
        brand: shop.brand.as_str().to_owned(),
        order: Bytes::copy_from_slice(order.as_bytes()),
        payment: Bytes::copy_from_slice(payment.as_bytes()),
        key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
    };
    let place = PaymentReference { brand: &shop.brand, order, payment, key };
    let (kind, trace) = (to_idc::Kind::AskPayment(ask), trace(&headers));
    let slot = worker.question_slot(&worker.shared.payments, shop)?;
    match worker.shared.payments.submit(slot, order, kind, BodyMark::NONE, trace).await {
        Ok(CallerAnswer::Pending) => Ok(Json(place.unknown()).into_response()),
        Ok(CallerAnswer::Refused(Refusal::NotFound)) => Err(unknown_payment()),
        Ok(CallerAnswer::Unknown | CallerAnswer::NotSent) => Err(not_told()),
        answer => match stands(answer, &place)? {
            Some(stands) => Ok(Json(stands.json()).into_response()),
            None => Err(not_told()),
        },
    }
}

/// State of a payment from an answer that is consistent.
pub(super) struct CheckedPayment {
    payment: PaymentId,
    state: PaymentState,
    pub(super) wire: payment::PaymentState,
}

/// Returns the payment's state in an answer; `None` if it is unknown.
pub(super) fn stands(
    answer: Result<CallerAnswer, Rejected>,
    place: &PaymentReference<'_>,
) -> Result<Option<CheckedPayment>, Problem> {
    match answer {
        Ok(CallerAnswer::Payment(wire)) => {
            let parts = (PaymentId::from_bytes(&wire.payment), PaymentState::from_code(wire.state_code()));
            let (Ok(payment), Some(state)) = parts else { return Ok(None) };
            let fits = wire.order == place.order.as_bytes().as_slice();
            Ok(fits.then_some(CheckedPayment { payment, state, wire }))
        }
        Ok(CallerAnswer::Refused(refusal)) => Err(refused(refusal, place.order)),
        Ok(CallerAnswer::InTheWay(refusal, payment)) => Err(refused(refusal, place.order).payment(payment)),
        Ok(
            CallerAnswer::Unknown | CallerAnswer::Pending | CallerAnswer::State(_) | CallerAnswer::Settled(_),
        ) => Ok(None),
        Ok(CallerAnswer::NotSent) => Err(unavailable(NotAdmitted::NoLink)),
        Err(Rejected::Full) => Err(unavailable(NotAdmitted::Full)),
        Err(Rejected::InProgress) => Err(in_progress(ASK_AGAIN_AFTER)),
        Err(Rejected::KeyReused) => Err(refused(Refusal::KeyReused, place.order)),
    }
}

impl CheckedPayment {
    pub(super) fn json(&self) -> Value {
        let wire = &self.wire;
        let order = OrderId::from_bytes(&wire.order).map(|order| order.to_string()).unwrap_or_default();
        let refunds: Vec<Value> =
            wire.refunds.iter().map(|refund| refund_json(refund, &wire.currency)).collect();
        let mut body = json!({
            "payment": self.payment.to_string(),
            "order": order,
            "state": self.state.code(),
            "amount": { "amount": wire.amount, "currency": wire.currency },
            "refunded": { "amount": wire.refunded, "currency": wire.currency },
            "created_at": UnixMicros::new(wire.created_at_micros).to_string(),
            "refunds": refunds,
        });
        if let Some(code) = &wire.code {
            body["code"] = json!(code);
        }
        body
    }
}

pub(super) fn refund_json(refund: &payment::RefundState, currency: &str) -> Value {
    let id = RefundId::from_bytes(&refund.refund).map(|id| id.to_string()).unwrap_or_default();
    let mut body = json!({
        "refund": id,
        "state": refund.state,
        "amount": { "amount": refund.amount, "currency": currency },
        "automatic": refund.automatic,
        "created_at": UnixMicros::new(refund.created_at_micros).to_string(),
    });
    if let Some(code) = &refund.code {
        body["code"] = json!(code);
    }
    body
}

impl PaymentReference<'_> {
    pub(super) fn location(&self) -> HeaderValue {
        let Self { brand, order, payment, .. } = self;
        let query = self.key.map(|key| format!("?key={}", key.to_hex())).unwrap_or_default();
        let place = format!("/v1/{brand}/orders/{order}/payments/{payment}{query}");
        HeaderValue::try_from(place).unwrap_or_else(|_| HeaderValue::from_static("/"))
    }

    fn unknown(&self) -> Value {
        json!({ "payment": self.payment.to_string(), "order": self.order.to_string(), "state": "unknown" })
    }
}

/// Returns 202 without a state: it is not even known if the request arrived.
pub(super) fn unknown(place: &PaymentReference<'_>) -> Response {
    in_doubt(place, place.unknown())
}

/// Returns 202: neither success nor failure, with a `Location` to ask.
pub(super) fn in_doubt(place: &PaymentReference<'_>, body: Value) -> Response {
    let again = HeaderValue::from(ASK_AGAIN_AFTER.as_secs());
    let headers = [(header::LOCATION, place.location()), (header::RETRY_AFTER, again)];
    (StatusCode::ACCEPTED, headers, Json(body)).into_response()
}

pub(super) fn payment_id(text: &str) -> Result<PaymentId, Problem> {
    text.parse().map_err(|_| unknown_payment())
}

pub(super) fn unknown_payment() -> Problem {
    Problem::new(Kind::UnknownPayment, "check the payment's id; it is found under its own order only")
}
