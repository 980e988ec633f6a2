//! The paths of orders.

use http::StatusCode;
use serde_json::json;

use super::super::paths;
use super::super::problem::Kind;
use super::operation::{Operation, by_key, schema, text};

pub(super) fn operations() -> Vec<Operation> {
    let mut place = write("post", paths::PLACE, "placeOrder", "Place an order");
    place.body = Some(schema("Order"));
    place.parameters.push(json!({
        "name": "Bridge-Class", "in": "header", "required": false,
        "description": "`bulk` for an order of the shop's own batch job: it is refused before others",
        "schema": {"type": "string"},
    }));
    place.answer(StatusCode::CREATED, "Committed, and durable", schema("Receipt"));
    place.header(StatusCode::CREATED, "Location", "The order", text());
    for operation in ["readOrder", "cancelOrder"] {
        let parameters = json!({"brand": "$request.path.brand", "order": "$response.body#/order"});
        place.link(StatusCode::CREATED, operation, parameters);
    }
    place.problems.extend([
        Kind::UnsupportedMediaType,
        Kind::BodyTooLarge,
        Kind::BodyTooSlow,
        Kind::BodyIncomplete,
        Kind::InvalidOrder,
        Kind::WrongCurrency,
        Kind::UnknownSku,
        Kind::SoldOut,
        Kind::PriceChanged,
        Kind::LaunchNotOpen,
        Kind::LimitReached,
        Kind::Refused,
    ]);
    let mut cancel = write("post", paths::CANCEL, "cancelOrder", "Cancel an order");
    cancel.answer(StatusCode::OK, "Its units are for sale again", schema("Receipt"));
    cancel.problems.extend([Kind::UnknownOrder, Kind::NotCancellable, Kind::Refused]);
    for operation in [&mut place, &mut cancel] {
        operation.is_limited = true;
        operation.answer(StatusCode::ACCEPTED, "Nobody knows yet: ask at its Location", schema("Unknown"));
        operation.header(StatusCode::ACCEPTED, "Location", "Where to ask", text());
        operation.header(StatusCode::ACCEPTED, "Retry-After", "Seconds", json!({"type": "integer"}));
    }

    let mut read =
        Operation::new("get", paths::READ, "readOrder", "State of an order, without personal data");
    read.needs_token = true;
    read.parameters.push(by_key());
    read.answer(StatusCode::OK, "Its state, and its lines if it was placed", schema("OrderState"));
    read.problems.extend([
        Kind::NoSuchPath,
        Kind::Unauthorized,
        Kind::UnknownBrand,
        Kind::UnknownOrder,
        Kind::Busy,
        Kind::Unavailable,
    ]);
    vec![place, read, cancel]
}

/// Makes a write: it needs a token and an idempotency key.
pub(super) fn write(
    method: &'static str,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
) -> Operation {
    let mut operation = Operation::new(method, path, id, summary);
    operation.needs_token = true;
    operation.parameters.push(json!({
        "name": "Idempotency-Key", "in": "header", "required": true,
        "description": "One key has one effect: a request may be sent again under it",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    }));
    operation.problems.extend([
        Kind::NoSuchPath,
        Kind::Unauthorized,
        Kind::UnknownBrand,
        Kind::BadIdempotencyKey,
        Kind::KeyReused,
        Kind::InProgress,
        Kind::Busy,
        Kind::Unavailable,
        Kind::ShuttingDown,
        Kind::NotCommitted,
    ]);
    operation
}
