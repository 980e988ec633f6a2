//! Responses to writes of an order.

use axum::Json;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bridge_protocol::domain::outcome::LaunchRefusal;
use bridge_protocol::domain::{Brand, KeyDigest, OrderId, Outcome};
use bridge_protocol::order_link::sender::{CallerAnswer, Rejected};
use bridge_protocol::receipt::{Receipt, VerifiedReceipt};
use bridge_protocol::seal::sealing::Header;
use bridge_protocol::wire::order::{Refusal, Settled};
use bridge_runtime::telemetry::shared::OrderOutcome;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::refusals::{ASK_AGAIN_AFTER, in_progress, refused};
use crate::admission::NotAdmitted;
use crate::storefront::audit::{LoggedAnswer, WriteResult};
use crate::storefront::problem::{Kind, Problem};
use crate::storefront::state::Worker;

const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

impl Worker {
    /// Makes the response to a write. Only this code answers 201, and only with a verified receipt.
    pub(super) fn respond(&self, header: &Header, answer: LoggedAnswer) -> Result<Response, Problem> {
        let answer = match answer.into_write_result() {
            WriteResult::Settled(settled, verified) => return self.settled(&settled, &verified),
            WriteResult::Distrusted(why) => return Ok(self.distrust(header, &why)),
            WriteResult::Other(answer) => answer,
        };
        match answer {
            Ok(CallerAnswer::Refused(refusal) | CallerAnswer::InTheWay(refusal, _)) => {
                self.count(match refusal {
                    Refusal::KeyReused => OrderOutcome::KeyReused,
                    _ => OrderOutcome::Refused,
                });
                Err(refused(refusal, header.order))
            }
            Ok(
                CallerAnswer::Settled(_)
                | CallerAnswer::Unknown
                | CallerAnswer::State(_)
                | CallerAnswer::Payment(_)
                | CallerAnswer::Pending,
            ) => Ok(self.unknown(header)),
            Ok(CallerAnswer::NotSent) => Err(self.not_admitted(NotAdmitted::NoLink)),
            Err(Rejected::Full) => Err(self.not_admitted(NotAdmitted::Full)),
            Err(Rejected::InProgress) => Err(in_progress(ASK_AGAIN_AFTER)),
            Err(Rejected::KeyReused) => {
                self.count(OrderOutcome::KeyReused);
                Err(refused(Refusal::KeyReused, header.order))
            }
        }
    }

    fn settled(&self, settled: &Settled, verified: &VerifiedReceipt) -> Result<Response, Problem> {
        let receipt = verified.receipt();
        let signed = settled.receipt.as_ref().map(prost::Message::encode_to_vec).unwrap_or_default();
        let order = receipt.order;
        let (outcome, response) = match &receipt.outcome {
            Outcome::Placed => {
                let body = Json(receipt_json(receipt, &signed));
                let place = [(header::LOCATION, place_to_ask(&receipt.brand, order, None))];
                (OrderOutcome::Placed, Ok((StatusCode::CREATED, place, body).into_response()))
            }
            Outcome::Cancelled => {
                let body = Json(receipt_json(receipt, &signed));
                (OrderOutcome::Cancelled, Ok(body.into_response()))
            }
            Outcome::SoldOut { sku } => {
                let problem = Problem::new(Kind::SoldOut, "nothing of this order was allocated").sku(sku);
                (OrderOutcome::SoldOut, Err(problem))
            }
            Outcome::PriceChanged { sku, price } => {
                let detail = format!("one unit costs {price} now; nothing of this order was allocated");
                (
                    OrderOutcome::PriceChanged,
                    Err(Problem::new(Kind::PriceChanged, detail).sku(sku).price(*price)),
                )
            }
            Outcome::RefusedByLaunch { sku, reason: LaunchRefusal::NotOpen { opens_at } } => {
                let detail = format!("it opens at {opens_at}; nothing of this order was allocated");
                let problem = Problem::new(Kind::LaunchNotOpen, detail).sku(sku).opens_at(*opens_at);
                (OrderOutcome::LaunchNotOpen, Err(problem))
            }
            Outcome::RefusedByLaunch { sku, reason: LaunchRefusal::LimitReached { limit, bought } } => {
                let detail = "with this order the customer would have more units than one customer can buy; \
                              nothing of it was allocated";
                let problem = Problem::new(Kind::LimitReached, detail).sku(sku).limit(*limit, *bought);
                (OrderOutcome::LimitReached, Err(problem))
            }
            Outcome::UnknownSku { sku } => {
                let problem = Problem::new(Kind::UnknownSku, "nothing of this order was allocated").sku(sku);
                (OrderOutcome::UnknownSku, Err(problem))
            }
            Outcome::WrongCurrency => {
                let detail = "the data centre has another currency for this brand than this agent";
                (OrderOutcome::Refused, Err(Problem::new(Kind::WrongCurrency, detail)))
            }
            Outcome::NotCancellable => {
                let detail = "it was rejected when it was placed, so no units were allocated to it";
                (OrderOutcome::Refused, Err(Problem::new(Kind::NotCancellable, detail)))
            }
            Outcome::Later { code, sku } => {
                let detail = "nothing was allocated or changed; this agent is of an earlier release, so it \
                              does not know the reason";
                let problem = Problem::new(Kind::Refused, detail).code(code.as_str());
                let problem = sku.iter().fold(problem, Problem::sku);
                (OrderOutcome::Refused, Err(problem))
            }
        };
        self.count(if settled.replayed { OrderOutcome::Replayed } else { outcome });
        let mut response = response.unwrap_or_else(|problem| problem.order(order).into_response());
        mark_replayed(&mut response, settled.replayed);
        Ok(response)
    }

    /// A receipt that proves nothing says nothing about the order. Its outcome stays unknown.
    fn distrust(&self, header: &Header, why: &str) -> Response {
        self.shared.metrics.receipts_rejected.inc();
        tracing::error!(order = %header.order, why, "a receipt was not accepted: check the pinned verifier keys");
        self.unknown(header)
    }

    /// Returns 202: neither success nor failure, with a `Location` to ask.
    fn unknown(&self, header: &Header) -> Response {
        self.count(OrderOutcome::Unknown);
        let place = place_to_ask(&header.brand, header.order, Some(header.key));
        let headers =
            [(header::LOCATION, place), (header::RETRY_AFTER, HeaderValue::from(ASK_AGAIN_AFTER.as_secs()))];
        let body = json!({ "order": header.order.to_string(), "state": "unknown" });
        (StatusCode::ACCEPTED, headers, Json(body)).into_response()
    }
}

/// Marks an answer as replayed.
pub(in crate::storefront) fn mark_replayed(response: &mut Response, replayed: bool) {
    if replayed {
        response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
}

/// Returns the `Location` to ask about an order. With the key's digest it finds the order even if
/// an earlier attempt, whose answer was lost, committed it under another id.
fn place_to_ask(brand: &Brand, order: OrderId, key: Option<KeyDigest>) -> HeaderValue {
    let query = key.map(|key| format!("?key={}", key.to_hex())).unwrap_or_default();
    let place = format!("/v1/{brand}/orders/{order}{query}");
    HeaderValue::try_from(place).unwrap_or_else(|_| HeaderValue::from_static("/"))
}

fn receipt_json(receipt: &Receipt, signed: &[u8]) -> Value {
    json!({
        "order": receipt.order.to_string(),
        "state": receipt.outcome.code(),
        "position": receipt.position,
        "committed_at": receipt.committed_at.to_string(),
        "receipt": BASE64.encode(signed),
    })
}
