//! Errors as `application/problem+json` (RFC 9457): one stable type a mistake, and never a value the caller sent.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bridge_protocol::domain::order::FieldError;
use bridge_protocol::domain::{Money, Sku};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

/// An error as the storefront sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    kind: Kind,
    detail: String,
    retry_after: Option<Duration>,
    extra: Vec<(&'static str, Value)>,
    takes_no_coding: bool,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $status:ident $name:literal $title:literal;)*) => {
        /// The stable types of problems: `/problems/<name>`, each with its status.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            fn parts(self) -> (StatusCode, &'static str, &'static str) {
                match self {
                    $(Self::$kind => (StatusCode::$status, $name, $title),)*
                }
            }
        }
    };
}

kinds! {
    /// Not HTTP as it should be.
    BadRequest = BAD_REQUEST "bad-request" "The request is not as HTTP wants it";
    /// More than is read of a request's head.
    HeadTooLarge = REQUEST_HEADER_FIELDS_TOO_LARGE "head-too-large" "The request's head is larger than accepted";
    /// A body in a coding that is not read.
    TransferCoding = NOT_IMPLEMENTED "transfer-coding" "The body comes in an unknown transfer coding";
    /// No path of ours.
    NoSuchPath = NOT_FOUND "no-such-path" "There is nothing at this path";
    /// The path is ours, the method is not.
    MethodNotAllowed = METHOD_NOT_ALLOWED "method-not-allowed" "This path does not take this method";
    /// No shop of that name here.
    UnknownBrand = NOT_FOUND "unknown-brand" "No such brand is served here";
    /// No token, or another one.
    Unauthorized = UNAUTHORIZED "unauthorized" "The bearer token is missing or is not this brand's";
    /// No key, or none in its form.
    BadIdempotencyKey = BAD_REQUEST "idempotency-key" "The Idempotency-Key header is missing or not in its form";
    /// The key was used for something else.
    KeyReused = UNPROCESSABLE_ENTITY "idempotency-key-reused" "The idempotency key was used for another request";
    /// The first request under the key has not been answered.
    InProgress = CONFLICT "in-progress" "A request under this idempotency key is in progress";
    /// Not JSON by its header.
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE "unsupported-media-type" "The body must be application/json, without a content coding";
    /// A body above the limit.
    BodyTooLarge = PAYLOAD_TOO_LARGE "body-too-large" "The body is larger than accepted";
    /// The body did not come in time.
    BodyTooSlow = REQUEST_TIMEOUT "body-too-slow" "The body did not arrive in time";
    /// The body did not come whole.
    BodyIncomplete = BAD_REQUEST "body-incomplete" "The body did not arrive whole";
    /// The body breaks rules.
    InvalidOrder = UNPROCESSABLE_ENTITY "invalid-order" "The order breaks a rule";
    /// Another currency than the shop's.
    WrongCurrency = UNPROCESSABLE_ENTITY "wrong-currency" "The brand sells in another currency";
    /// A SKU that the shop does not have.
    UnknownSku = UNPROCESSABLE_ENTITY "unknown-sku" "The brand sells no such SKU";
    /// Not enough of a SKU.
    SoldOut = CONFLICT "sold-out" "Fewer units are available than ordered";
    /// Another price now.
    PriceChanged = CONFLICT "price-changed" "A price is no longer what the order says";
    /// Nothing to cancel.
    NotCancellable = CONFLICT "not-cancellable" "The order was never placed";
    /// No such order in this shop.
    UnknownOrder = NOT_FOUND "unknown-order" "There is no such order";
    /// No such product in this shop, or not now.
    UnknownProduct = NOT_FOUND "unknown-product" "The brand shows no such product";
    /// A query that cannot be.
    InvalidQuery = BAD_REQUEST "invalid-query" "A parameter of the query is not in its form";
    /// More than is put into one answer.
    AnswerTooLarge = BAD_REQUEST "answer-too-large" "The answer would be larger than is given at once";
    /// A position that is none.
    InvalidMinSeq = BAD_REQUEST "invalid-min-seq" "The Bridge-Min-Seq header is not in its form";
    /// Nothing is replicated yet: come back.
    CatalogueNotReady = SERVICE_UNAVAILABLE "catalogue-not-ready" "The catalogue is not here yet";
    /// The replica is not where the caller wants it: come back. A condition of the request (RFC 9110 section 15.5.13); the
    /// agent itself is well.
    ReplicaBehind = PRECONDITION_FAILED "replica-behind" "The catalogue here is not so far yet";
    /// A payment's or refund's body breaks a rule.
    InvalidPayment = UNPROCESSABLE_ENTITY "invalid-payment" "The payment breaks a rule";
    /// The gateway refused to charge.
    PaymentDeclined = PAYMENT_REQUIRED "payment-declined" "The payment was declined";
    /// Cancelled, rejected, or free.
    OrderNotPayable = CONFLICT "order-not-payable" "This order cannot be paid";
    /// Not the order's total.
    WrongAmount = UNPROCESSABLE_ENTITY "wrong-amount" "The amount is not the order's total";
    /// Paid before.
    AlreadyPaid = CONFLICT "already-paid" "This order is paid already";
    /// Another payment of it has not ended.
    PaymentInProgress = CONFLICT "payment-in-progress" "A payment of this order is in progress";
    /// More than is left.
    RefundTooLarge = CONFLICT "refund-too-large" "The refund is larger than what is left";
    /// The gateway refused to give back.
    RefundRefused = CONFLICT "refund-refused" "The gateway refused the refund";
    /// No such payment of that order.
    UnknownPayment = NOT_FOUND "unknown-payment" "There is no such payment";
    /// No room: come back.
    Busy = SERVICE_UNAVAILABLE "busy" "As many requests wait as are accepted";
    /// The data centre cannot be reached or cannot commit: come back.
    Unavailable = SERVICE_UNAVAILABLE "data-centre-unavailable" "The data centre cannot take this now";
    /// The agent is ending: come back.
    ShuttingDown = SERVICE_UNAVAILABLE "shutting-down" "This agent is shutting down";
    /// The data centre refused this one; an operator has to look.
    NotCommitted = INTERNAL_SERVER_ERROR "not-committed" "The data centre could not commit this order";
}

impl Kind {
    /// The status of its answers.
    pub fn status(self) -> StatusCode {
        self.parts().0
    }

    /// Its stable type, a relative URI.
    pub fn uri(self) -> String {
        format!("/problems/{}", self.parts().1)
    }

    /// The same for every problem of this type.
    pub fn title(self) -> &'static str {
        self.parts().2
    }
}

impl Problem {
    /// A problem with what is particular to it. The detail must not hold a value that the caller sent.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), retry_after: None, extra: Vec::new(), takes_no_coding: false }
    }

    /// Worth trying again after this long.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Its body's coding was the mistake: which one is taken is said in a header of its own (RFC 9110 section 15.5.16).
    #[must_use]
    pub fn takes_no_coding(mut self) -> Self {
        self.takes_no_coding = true;
        self
    }

    /// About one SKU; it stands in the caller's own order, and is no personal value.
    #[must_use]
    pub fn sku(mut self, sku: &Sku) -> Self {
        self.extra.push(("sku", json!(sku.as_str())));
        self
    }

    /// What one unit costs now.
    #[must_use]
    pub fn price(mut self, price: Money) -> Self {
        self.extra.push(("unit_price", money(price)));
        self
    }

    /// The order it is about.
    #[must_use]
    pub fn order(mut self, order: impl ToString) -> Self {
        self.extra.push(("order", json!(order.to_string())));
        self
    }

    /// The payment it is about.
    #[must_use]
    pub fn payment(mut self, payment: impl ToString) -> Self {
        self.extra.push(("payment", json!(payment.to_string())));
        self
    }

    /// The gateway's code, which is never free text.
    #[must_use]
    pub fn code(mut self, code: &str) -> Self {
        self.extra.push(("code", json!(code)));
        self
    }

    /// A problem with fields of the body, each named by its JSON pointer.
    pub fn of_fields(kind: Kind, errors: &[FieldError]) -> Self {
        let detail = match errors {
            [one] if one.pointer.is_empty() => one.detail.clone(),
            [one] => one.to_string(),
            more => format!("{} rules are broken, see `errors`", more.len()),
        };
        let errors: Vec<Value> = errors
            .iter()
            .take(50)
            .map(|error| json!({ "pointer": error.pointer, "detail": error.detail }))
            .collect();
        let mut problem = Self::new(kind, detail);
        problem.extra.push(("errors", Value::Array(errors)));
        problem
    }

    /// Which problem it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The response for a request of that id.
    pub fn respond(self, request_id: &str) -> Response {
        let status = self.kind.status();
        let mut body = json!({
            "type": self.kind.uri(),
            "title": self.kind.title(),
            "status": status.as_u16(),
            "detail": self.detail,
            "request_id": request_id,
        });
        if let Some(object) = body.as_object_mut() {
            object.extend(self.extra.into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
        let content_type = HeaderValue::from_static("application/problem+json");
        let mut response = (status, [(header::CONTENT_TYPE, content_type)], body.to_string()).into_response();
        let headers = response.headers_mut();
        // Without that, RFC 9111 section 4.2.2 lets a cache keep some of them.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        if self.takes_no_coding {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A problem on its way to becoming a response; the middleware adds the request's id.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::default();
        response.extensions_mut().insert(self);
        response
    }
}

/// Money as the API has it.
pub fn money(money: Money) -> Value {
    json!({ "amount": money.amount(), "currency": money.currency().as_str() })
}
