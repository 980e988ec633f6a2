//! Refunds at the storefront. An answer of 201 means that money went back for certain.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bridge_protocol::domain::payment_body::RefundRequest;
use bridge_protocol::domain::{RefundId, RefundState};
use bridge_protocol::order_link::sender::CallerAnswer;
use bridge_protocol::seal::sealing::Header;
use bridge_protocol::wire::order::{Refusal, to_idc};
use bridge_protocol::wire::payment::Refund;
use bridge_runtime::clock;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use rand::RngExt as _;

use super::payments::{
    PaymentReference, in_doubt, payment_id, refund_json, stands, unknown, unknown_payment,
};
use super::problem::{Kind, Problem};
use super::request::extractors::{InPath, idempotency_key, order_id};
use super::request::trace::trace;
use super::state::Worker;
use super::write::answer::mark_replayed;
use super::write::carry::carry_payment;

/// `POST /v1/{brand}/orders/{order}/payments/{payment}/refunds`: 201 refunded, 202 if the outcome
/// is unknown, or a problem.
pub(super) async fn submit_refund(
    State(worker): State<Arc<Worker>>,
    InPath((brand, order, payment)): InPath<(String, String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let shop = worker.authenticate(&brand, &headers)?;
    let key = idempotency_key(&headers)?.digest(&shop.brand);
    let (order, payment) = (order_id(&order)?, payment_id(&payment)?);
    let body = worker.read_body(&headers, body).await?;
    let request =
        RefundRequest::parse(&body).map_err(|errors| Problem::of_fields(Kind::InvalidPayment, &errors))?;
    let slot = worker.admit_payment(shop)?;
    let id = RefundId::new(clock::now(), rand::rng().random());
    let mark = worker.marks.of_refund(order, payment, request.amount, &request.reason);
    let refund = Refund {
        brand: shop.brand.as_str().to_owned(),
        order: Bytes::copy_from_slice(order.as_bytes()),
        key: Bytes::copy_from_slice(key.as_bytes()),
        payment: Bytes::copy_from_slice(payment.as_bytes()),
        refund: Bytes::copy_from_slice(id.as_bytes()),
        amount: request.amount.amount(),
        currency: request.amount.currency().to_string(),
        reason: request.reason,
    };
    let header = Header { brand: shop.brand.clone(), order, key };
    let kind = to_idc::Kind::Refund(refund);
    let answer = carry_payment(worker.clone(), slot, header, payment, kind, mark, trace(&headers)).await?;
    let place = PaymentReference { brand: &shop.brand, order, payment, key: None };
    if matches!(answer, Ok(CallerAnswer::Refused(Refusal::NotFound))) {
        return Err(unknown_payment());
    }
    let Some(stands) = stands(answer, &place)? else { return Ok(unknown(&place)) };
    let asked_for = stands.wire.refund.as_ref();
    let Some(refund) = stands.wire.refunds.iter().find(|refund| Some(&refund.refund) == asked_for) else {
        return Ok(unknown(&place));
    };
    let mut body = stands.json();
    body["refund"] = refund_json(refund, &stands.wire.currency);
    let mut response = match RefundState::from_code(&refund.state) {
        Some(RefundState::Done) => {
            (StatusCode::CREATED, [(header::LOCATION, place.location())], Json(body)).into_response()
        }
        Some(RefundState::Confirming | RefundState::Unknown) | None => in_doubt(&place, body),
        Some(RefundState::Refused) => {
            let code = refund.code.as_deref().unwrap_or("OTHER");
            let detail = "the gateway gave nothing back; another refund needs a new key";
            Problem::new(Kind::RefundRefused, detail).order(order).payment(payment).code(code).into_response()
        }
    };
    mark_replayed(&mut response, stands.wire.replayed);
    Ok(response)
}
