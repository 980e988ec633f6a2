//! Schemas of bodies, by name. Their limits are those that the code checks.

use bridge_protocol::domain::body::{
    ADDRESS_LINES_MAX, PERSONAL_CHARS_MAX, PERSONAL_PATTERN, TELLING_PATTERN,
};
use bridge_protocol::domain::country::COUNTRIES;
use bridge_protocol::domain::order::Quantity;
use bridge_protocol::domain::payment_body::{REASON_CHARS_MAX, REASON_PATTERN};
use bridge_protocol::domain::{Money, Outcome, PaymentKey, PaymentState, RefundState};
use serde_json::{Value, json};

use super::super::problem::Kind;
use super::operation::schema;

/// Printable ASCII, with blanks only inside.
const PRINTABLE: &str = "^[!-~]([ -~]*[!-~])?$";

/// Printable ASCII without blanks.
const VISIBLE: &str = "^[!-~]+$";

/// Returns every schema, for an agent that accepts so many lines in an order.
pub(super) fn all(lines_max: usize) -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let sealed = "Sealed. A card number in it is refused";
    let personal = json!({"type": "string", "maxLength": PERSONAL_CHARS_MAX, "pattern": PERSONAL_PATTERN, "description": sealed});
    let telling = json!({"type": "string", "minLength": 1, "maxLength": PERSONAL_CHARS_MAX, "pattern": TELLING_PATTERN,
        "description": sealed});
    let states: Vec<&str> = Outcome::CODES.into_iter().chain(["unknown"]).collect();
    let states = json!({"anyOf": [
        {"type": "string", "enum": states},
        {"type": "string", "pattern": "^[a-z0-9-]{1,64}$", "description": "A refusal of a later release"},
    ]});
    let moment = json!({"type": "string", "format": "date-time"});
    let moment_or_null = json!({"type": ["string", "null"], "format": "date-time"});
    let order = json!({"type": "string", "format": "uuid"});
    let id = json!({"type": "string", "format": "uuid"});
    let positive = json!({"allOf": [schema("Money"), {"properties": {"amount": {"minimum": 1}}}]});
    let payment_states: Vec<&str> = PaymentState::ALL.iter().map(|state| state.code()).collect();
    let refund_states: Vec<&str> = RefundState::ALL.iter().map(|state| state.code()).collect();
    let payment = json!({
        "payment": id, "order": order, "state": {"type": "string", "enum": payment_states}, "amount": schema("Money"),
        "refunded": schema("Money"), "created_at": moment, "refunds": {"type": "array", "items": schema("Refund")},
        "code": text("The gateway's reason, where it refused, or the one that an operator gave who ended a doubt"),
    });
    let mut refunded = payment.clone();
    refunded["refund"] = schema("Refund");
    let total = json!({"allOf": [schema("Money")],
        "description": "The sum of quantity x unit price over the lines, and the shipping fee; all of one currency"});
    let position = json!({"type": "integer", "description": "The ledger's number for the outcome"});
    json!({
        "Brand": {"type": "string", "pattern": "^[a-z0-9-]{1,32}$"},
        "Code": {"type": "string", "minLength": 1, "maxLength": 64, "description": "Printable ASCII"},
        "Sku": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": PRINTABLE,
            "description": "Printable ASCII, no space at either end"},
        "Money": closed(json!({
            "amount": {"type": "integer", "minimum": 0, "maximum": Money::AMOUNT_MAX,
                "description": "Minor units: won, yen, cents; written without a fraction"},
            "currency": {"type": "string", "pattern": "^[A-Z]{3}$", "description": "ISO 4217"},
        }), &["amount", "currency"]),
        "Texts": {"type": "object", "additionalProperties": {"type": "string"}, "description": "By language"},
        "Product": closed(json!({
            "product": schema("Code"), "brand": schema("Brand"), "names": schema("Texts"), "descriptions": schema("Texts"),
            "categories": {"type": "array", "items": schema("Code")},
            "images": {"type": "array", "items": {"type": "string"}},
            "published_from": moment_or_null, "published_until": moment_or_null,
            "variants": {"type": "array", "items": schema("Variant")},
            "document": {"type": "object", "description": "Whatever else the shop says about it"},
        }), &["product", "brand", "names", "descriptions", "categories", "images", "variants", "document"]),
        "Variant": closed(json!({
            "sku": schema("Sku"), "options": schema("Texts"), "price": schema("Money"),
        }), &["sku", "options", "price"]),
        "ProductSummary": closed(json!({
            "product": schema("Code"), "names": schema("Texts"), "image": {"type": ["string", "null"]},
            "price": {"anyOf": [{"type": "null"}, closed(json!({"min": schema("Money"), "max": schema("Money")}), &["min", "max"])]},
            "variants": {"type": "integer", "minimum": 0, "description": "How many there are"},
        }), &["product", "names", "image", "price", "variants"]),
        "ProductPage": closed(json!({
            "items": {"type": "array", "items": schema("ProductSummary")},
            "next_cursor": {"type": ["string", "null"]},
        }), &["items", "next_cursor"]),
        "ProductBatch": closed(json!({
            "items": {"type": "array", "items": schema("Product")},
            "missing": {"type": "array", "items": {"type": "string"}, "description": "Codes that the brand does not show"},
        }), &["items", "missing"]),
        "Categories": closed(json!({"categories": {"type": "array", "items": schema("Category")}}), &["categories"]),
        "Category": closed(json!({
            "category": schema("Code"), "parent": {"type": ["string", "null"]}, "names": schema("Texts"),
            "children": {"type": "array", "items": schema("Category")},
        }), &["category", "parent", "names", "children"]),
        "StockList": closed(json!({
            "items": {"type": "array", "items": schema("Stock")},
            "missing": {"type": "array", "items": {"type": "string"}},
        }), &["items", "missing"]),
        "Stock": closed(json!({
            "sku": schema("Sku"), "available": {"type": "integer", "minimum": 0, "description": "Units for sale"},
        }), &["sku", "available"]),
        "OrderLine": closed(json!({
            "sku": schema("Sku"), "quantity": {"type": "integer", "minimum": 1, "maximum": Quantity::MAX},
            "unit_price": schema("Money"),
        }), &["sku", "quantity", "unit_price"]),
        "Order": closed(json!({
            "lines": {"type": "array", "items": schema("OrderLine"), "minItems": 1, "maxItems": lines_max,
                "description": "Each SKU once"},
            "total": total,
            "shipping_fee": schema("Money"),
            "customer": schema("Customer"),
            "delivery": schema("Delivery"),
        }), &["lines", "total", "customer", "delivery"]),
        "Customer": closed(json!({
            "reference": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": VISIBLE, "description":
                "An opaque id of the storefront's; the only part that is not sealed. A card number of up to 16 digits in it is refused"},
            "name": personal, "phone": personal, "email": personal,
        }), &["reference"]),
        "Delivery": closed(json!({
            "name": telling, "phone": personal, "postal_code": personal,
            "address": {"type": "array", "items": telling, "minItems": 1, "maxItems": ADDRESS_LINES_MAX,
                "description": "Its lines, none of them empty"},
            "country": {"type": "string", "enum": COUNTRIES.as_slice(), "description": "ISO 3166-1 alpha-2"}, "note": personal,
        }), &["name", "address", "country"]),
        "Receipt": closed(json!({
            "order": order, "state": {"type": "string", "enum": ["placed", "cancelled"]}, "position": position,
            "committed_at": moment,
            "receipt": {"type": "string", "contentEncoding": "base64", "description": "Signed by the data centre"},
        }), &["order", "state", "position", "committed_at", "receipt"]),
        "Unknown": closed(json!({
            "order": order, "state": {"type": "string", "enum": ["unknown"]},
        }), &["order", "state"]),
        "OrderState": closed(json!({
            "order": order, "state": states, "position": position, "committed_at": moment,
            "lines": {"type": "array", "items": schema("OrderLine")}, "shipping_fee": schema("Money"), "total": schema("Money"),
        }), &["order", "state"]),
        "Pay": closed(json!({
            "amount": positive,
            "payment_key": {"type": "string", "minLength": 1, "maxLength": PaymentKey::CHARS_MAX, "pattern": VISIBLE,
                "description": "The gateway's token for this payment; a card number is refused"},
        }), &["amount", "payment_key"]),
        "RefundOf": closed(json!({
            "amount": positive,
            "reason": {"type": "string", "minLength": 1, "maxLength": REASON_CHARS_MAX, "pattern": REASON_PATTERN,
                "description": "Never personal. A card number in it is refused"},
        }), &["amount", "reason"]),
        "Payment": closed(payment, &["payment", "order", "state", "amount", "refunded", "created_at", "refunds"]),
        "Refunded": closed(
            refunded,
            &["payment", "order", "state", "amount", "refunded", "created_at", "refunds", "refund"],
        ),
        "Refund": closed(json!({
            "refund": id, "state": {"type": "string", "enum": refund_states}, "amount": schema("Money"),
            "automatic": {"type": "boolean", "description": "Bridge gave it back by itself, since the order cannot be honoured"},
            "created_at": moment, "code": text("The gateway's reason, where it refused, or the one that an operator gave who ended a doubt"),
        }), &["refund", "state", "amount", "automatic", "created_at"]),
        "PaymentUnknown": closed(json!({
            "payment": id, "order": order, "state": {"type": "string", "enum": ["unknown"]},
        }), &["payment", "order", "state"]),
        "Problem": problem(),
        "FieldError": closed(json!({
            "pointer": text("JSON pointer (RFC 6901) into the request's body"), "detail": text("What would be right"),
        }), &["pointer", "detail"]),
    })
}

/// Returns the schema of a problem.
fn problem() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let types: Vec<String> = Kind::ALL.iter().map(|kind| kind.uri()).collect();
    let about = "The payment that was refused, or the one that paid or may pay for the order: ask about it";
    let properties = json!({
        "type": {"type": "string", "enum": types}, "title": text("The same for every problem of its type"),
        "status": {"type": "integer"}, "detail": text("What is particular to this one; never a value that was sent"),
        "request_id": text("Names the request in logs"),
        "errors": {"type": "array", "items": schema("FieldError")},
        "sku": schema("Sku"), "unit_price": schema("Money"), "order": {"type": "string", "format": "uuid"},
        "payment": {"type": "string", "format": "uuid", "description": about},
        "code": text("The gateway's own code, where it has one that is known"),
        "opens_at": {"type": "string", "format": "date-time", "description": "When the launch opens"},
        "limit": {"type": "integer", "minimum": 1, "description": "Units that one customer can buy"},
        "bought": {"type": "integer", "minimum": 0, "description": "Units that the customer had, in orders that stand"},
    });
    closed(properties, &["type", "title", "status", "detail", "request_id"])
}

/// Returns the schema of an object with these members and no others.
fn closed(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}
