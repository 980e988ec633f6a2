//! Orders at the storefront: place, cancel, and read their state.
//!
//! `submit_order` shows an order's whole way through this agent, one step in each line. `write` has
//! the way to the data centre and back.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Json, body::Body};
use bridge_protocol::domain::body::OrderRequest;
use bridge_protocol::domain::order::FieldError;
use bridge_protocol::domain::{KeyDigest, OrderId, UnixMicros};
use bridge_protocol::order_link::sender::{BodyMark, CallerAnswer, Rejected};
use bridge_protocol::seal::sealing::Header;
use bridge_protocol::stack::wiped;
use bridge_protocol::wire::order::{Ask, Cancel, Refusal, State as OrderState, to_idc};
use bridge_runtime::clock;
use bytes::Bytes;
use http::HeaderMap;
use rand::RngExt as _;
use serde_json::{Value, json};

use super::problem::{Kind, Problem};
use super::request::extractors::{AskBy, InPath, idempotency_key, order_class, order_id, unknown_order};
use super::request::trace::trace;
use super::state::{Shop, Worker};
use super::write::carry::carry;
use super::write::refusals::{not_told, refused};

/// `POST /v1/{brand}/orders`: 201 with a receipt, 202 if the outcome is unknown, or a problem.
pub(super) async fn submit_order(
    State(worker): State<Arc<Worker>>,
    InPath(brand): InPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let shop = worker.authenticate(&brand, &headers)?;
    let (key, class) = (idempotency_key(&headers)?.digest(&shop.brand), order_class(&headers)?);
    worker.check_credit(shop, class)?;
    let body = worker.read_body(&headers, body).await?;
    let request = worker.parse(shop, &body)?;
    let header = Header { brand: shop.brand.clone(), order: new_order_id(), key };
    let (admitted, slot) = worker.admit(shop, class, header, request)?;
    let sealed = worker.seal(&admitted)?;
    let (header, mark, trace) = (sealed.header().clone(), sealed.body(), trace(&headers));
    let kind = to_idc::Kind::Place(sealed.into_envelope());
    carry(worker.clone(), slot, header, kind, mark, Some(admitted), trace).await
}

/// `POST /v1/{brand}/orders/{order}/cancel`: 200, 202 if the outcome is unknown, or a problem.
pub(super) async fn cancel_order(
    State(worker): State<Arc<Worker>>,
    InPath((brand, order)): InPath<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let shop = worker.authenticate(&brand, &headers)?;
    let key = idempotency_key(&headers)?.digest(&shop.brand);
    let header = Header { brand: shop.brand.clone(), order: order_id(&order)?, key };
    let slot = worker.admit_cancellation(shop)?;
    let cancel = Cancel {
        brand: header.brand.as_str().to_owned(),
        order: Bytes::copy_from_slice(header.order.as_bytes()),
        key: Bytes::copy_from_slice(key.as_bytes()),
    };
    let mark = worker.marks.of_cancellation(header.order);
    carry(worker.clone(), slot, header, to_idc::Kind::Cancel(cancel), mark, None, trace(&headers)).await
}

/// `GET /v1/{brand}/orders/{order}`: 200 with state and lines, without personal data.
pub(super) async fn read_order(
    State(worker): State<Arc<Worker>>,
    InPath((brand, order)): InPath<(String, String)>,
    by: Result<Query<AskBy>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let shop = worker.authenticate(&brand, &headers)?;
    let order = order_id(&order)?;
    let Query(by) = by.map_err(|_| unknown_order())?;
    let key = match by.key.as_deref() {
        Some(digits) => Some(KeyDigest::from_hex(digits).ok_or_else(unknown_order)?),
        None => None,
    };
    let ask = Ask {
        brand: shop.brand.as_str().to_owned(),
        order: Bytes::copy_from_slice(order.as_bytes()),
        key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
    };
    let (kind, trace) = (to_idc::Kind::Ask(ask), trace(&headers));
    let slot = worker.question_slot(&worker.shared.link, shop)?;
    match worker.shared.link.submit(slot, order, kind, BodyMark::NONE, trace).await {
        Ok(CallerAnswer::State(state)) => Ok(Json(state_json(&state)).into_response()),
        Ok(CallerAnswer::Pending) => {
            Ok(Json(json!({ "order": order.to_string(), "state": "unknown" })).into_response())
        }
        Ok(CallerAnswer::Refused(refusal) | CallerAnswer::InTheWay(refusal, _)) => {
            Err(refused(refusal, order))
        }
        Ok(
            CallerAnswer::Settled(_)
            | CallerAnswer::Payment(_)
            | CallerAnswer::Unknown
            | CallerAnswer::NotSent,
        )
        | Err(Rejected::InProgress | Rejected::KeyReused) => Err(not_told()),
        Err(Rejected::Full) => Err(refused(Refusal::Busy, order)),
    }
}

impl Worker {
    fn parse(&self, shop: &Shop, body: &[u8]) -> Result<OrderRequest, Problem> {
        let request = wiped(|| OrderRequest::parse(body, self.shared.config.lines_max));
        let request = request.map_err(|errors| Problem::of_fields(Kind::InvalidOrder, &errors))?;
        if request.terms().currency() != shop.currency {
            let error = FieldError::new("/total/currency", format!("this brand sells in {}", shop.currency));
            return Err(Problem::of_fields(Kind::WrongCurrency, &[error]));
        }
        Ok(request)
    }
}

fn new_order_id() -> OrderId {
    OrderId::new(clock::now(), rand::rng().random())
}

fn state_json(state: &OrderState) -> Value {
    let order = OrderId::from_bytes(&state.order).map(|order| order.to_string()).unwrap_or_default();
    let mut body = json!({
        "order": order,
        "state": state.state,
        "position": state.position,
        "committed_at": UnixMicros::new(state.committed_at_micros).to_string(),
    });
    if let (Some(terms), Some(object)) = (&state.terms, body.as_object_mut()) {
        let amount = |amount: i64| json!({ "amount": amount, "currency": terms.currency });
        let line = |line: &bridge_protocol::wire::order::Line| json!({ "sku": line.sku, "quantity": line.quantity, "unit_price": amount(line.unit_price) });
        object.insert("lines".into(), terms.lines.iter().map(line).collect());
        object.insert("shipping_fee".into(), amount(terms.shipping_fee));
        object.insert("total".into(), amount(terms.total));
    }
    body
}
