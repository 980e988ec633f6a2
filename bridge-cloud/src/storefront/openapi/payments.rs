//! The paths of payments.

use http::StatusCode;
use serde_json::{Value, json};

use super::super::paths;
use super::super::problem::Kind;
use super::operation::{Operation, by_key, schema, text};
use super::orders::write;

pub(super) fn operations() -> Vec<Operation> {
    let mut pay = write("post", paths::PAY, "payOrder", "Charge for an order");
    pay.body = Some(schema("Pay"));
    pay.answer(StatusCode::CREATED, "Money moved, for certain", schema("Payment"));
    pay.problems.extend([
        Kind::PaymentDeclined,
        Kind::UnknownOrder,
        Kind::OrderNotPayable,
        Kind::WrongAmount,
        Kind::AlreadyPaid,
        Kind::PaymentInProgress,
    ]);
    for operation in ["readPayment", "refundPayment"] {
        let parameters = json!({
            "brand": "$request.path.brand", "order": "$request.path.order", "payment": "$response.body#/payment",
        });
        pay.link(StatusCode::CREATED, operation, parameters);
    }
    let mut refund = write("post", paths::REFUND, "refundPayment", "Give money back, all of it or a part");
    refund.body = Some(schema("RefundOf"));
    refund.answer(StatusCode::CREATED, "It is given back", schema("Refunded"));
    refund.problems.extend([
        Kind::UnknownPayment,
        Kind::UnknownOrder,
        Kind::RefundTooLarge,
        Kind::PaymentInProgress,
        Kind::RefundRefused,
    ]);
    for operation in [&mut pay, &mut refund] {
        operation.answer(
            StatusCode::ACCEPTED,
            "Nobody can tell yet: ask at its Location",
            json!({"anyOf": [schema("Payment"), schema("Refunded"), schema("PaymentUnknown")]}),
        );
        for status in [StatusCode::CREATED, StatusCode::ACCEPTED] {
            operation.header(status, "Location", "The payment", text());
        }
        operation.header(StatusCode::ACCEPTED, "Retry-After", "Seconds", json!({"type": "integer"}));
        operation.problems.extend([
            Kind::UnsupportedMediaType,
            Kind::BodyTooLarge,
            Kind::BodyTooSlow,
            Kind::BodyIncomplete,
            Kind::InvalidPayment,
        ]);
    }

    let mut read =
        Operation::new("get", paths::PAYMENT, "readPayment", "State of a payment and of its refunds");
    read.needs_token = true;
    read.parameters.push(by_key());
    let stands: Value = json!({"anyOf": [schema("Payment"), schema("PaymentUnknown")]});
    read.answer(StatusCode::OK, "Its state", stands);
    read.problems.extend([
        Kind::NoSuchPath,
        Kind::Unauthorized,
        Kind::UnknownBrand,
        Kind::UnknownOrder,
        Kind::UnknownPayment,
        Kind::Busy,
        Kind::Unavailable,
    ]);
    vec![pay, read, refund]
}
