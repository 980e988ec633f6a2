//! Errors as `application/problem+json` (RFC 9457): one stable type for each mistake. They never
//! contain a value of the caller.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bridge_protocol::domain::order::FieldError;
use bridge_protocol::domain::{Money, Sku, UnixMicros};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::admission::OutOfCredit;

/// An error for the storefront.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    kind: Kind,
    detail: String,
    retry_after: Option<Duration>,
    extra: Vec<(&'static str, Value)>,
    takes_no_coding: bool,
    out_of_credit: Option<OutOfCredit>,
}

/// Header fields of draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4.
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $status:ident $name:literal $title:literal;)*) => {
        /// Stable types of problems, `/problems/<name>`, each with its status.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// Every type.
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
    /// Malformed HTTP.
    BadRequest = BAD_REQUEST "bad-request" "The request is not as HTTP wants it";
    /// The head is too large.
    HeadTooLarge = REQUEST_HEADER_FIELDS_TOO_LARGE "head-too-large" "The request's head is larger than accepted";
    /// The body has an unknown transfer coding.
    TransferCoding = NOT_IMPLEMENTED "transfer-coding" "The body comes in an unknown transfer coding";
    /// There is nothing at this path.
    NoSuchPath = NOT_FOUND "no-such-path" "There is nothing at this path";
    /// The path does not accept this method.
    MethodNotAllowed = METHOD_NOT_ALLOWED "method-not-allowed" "This path does not take this method";
    /// This agent does not serve the brand.
    UnknownBrand = NOT_FOUND "unknown-brand" "No such brand is served here";
    /// The token is missing or wrong.
    Unauthorized = UNAUTHORIZED "unauthorized" "The bearer token is missing or is not this brand's";
    /// The idempotency key is missing or malformed.
    BadIdempotencyKey = BAD_REQUEST "idempotency-key" "The Idempotency-Key header is missing or not in its form";
    /// The idempotency key was used for another request.
    KeyReused = UNPROCESSABLE_ENTITY "idempotency-key-reused" "The idempotency key was used for another request";
    /// The first request under the idempotency key has no answer yet.
    InProgress = CONFLICT "in-progress" "A request under this idempotency key is in progress";
    /// The content type is not JSON.
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE "unsupported-media-type" "The body must be application/json, without a content coding";
    /// The body is above the limit.
    BodyTooLarge = PAYLOAD_TOO_LARGE "body-too-large" "The body is larger than accepted";
    /// The body did not arrive in time.
    BodyTooSlow = REQUEST_TIMEOUT "body-too-slow" "The body did not arrive in time";
    /// The body did not arrive whole.
    BodyIncomplete = BAD_REQUEST "body-incomplete" "The body did not arrive whole";
    /// The order breaks a rule.
    InvalidOrder = UNPROCESSABLE_ENTITY "invalid-order" "The order breaks a rule";
    /// The currency is not the brand's.
    WrongCurrency = UNPROCESSABLE_ENTITY "wrong-currency" "The brand sells in another currency";
    /// The brand does not sell the SKU.
    UnknownSku = UNPROCESSABLE_ENTITY "unknown-sku" "The brand sells no such SKU";
    /// There are not enough units of a SKU.
    SoldOut = CONFLICT "sold-out" "Fewer units are available than ordered";
    /// The launch of a SKU has not opened.
    LaunchNotOpen = CONFLICT "launch-not-open" "The launch of a SKU has not opened";
    /// The customer would have more units than a launch sells to one customer.
    LimitReached = CONFLICT "limit-reached" "The launch sells no more to this customer";
    /// A price has changed.
    PriceChanged = CONFLICT "price-changed" "A price is no longer what the order says";
    /// The order was never placed.
    NotCancellable = CONFLICT "not-cancellable" "The order was never placed";
    /// The data centre refused it for a reason that this release does not know.
    Refused = CONFLICT "refused" "The data centre refused this";
    /// The brand has no such order.
    UnknownOrder = NOT_FOUND "unknown-order" "There is no such order";
    /// The brand has no such product, or does not show it now.
    UnknownProduct = NOT_FOUND "unknown-product" "The brand shows no such product";
    /// A parameter of the query is invalid.
    InvalidQuery = BAD_REQUEST "invalid-query" "A parameter of the query is not in its form";
    /// The answer would be too large.
    AnswerTooLarge = BAD_REQUEST "answer-too-large" "The answer would be larger than is given at once";
    /// The requested position is malformed.
    InvalidMinSeq = BAD_REQUEST "invalid-min-seq" "The Bridge-Min-Seq header is not in its form";
    /// Nothing is replicated yet. The caller should come back.
    CatalogueNotReady = SERVICE_UNAVAILABLE "catalogue-not-ready" "The catalogue is not here yet";
    /// The replica has not reached the requested position. The caller should come back. It is a
    /// failed condition of the request (RFC 9110 section 15.5.13), not a fault of the agent.
    ReplicaBehind = PRECONDITION_FAILED "replica-behind" "The catalogue here is not so far yet";
    /// The body of a payment or refund breaks a rule.
    InvalidPayment = UNPROCESSABLE_ENTITY "invalid-payment" "The payment breaks a rule";
    /// The gateway refused to charge.
    PaymentDeclined = PAYMENT_REQUIRED "payment-declined" "The payment was declined";
    /// The order is cancelled, rejected or free.
    OrderNotPayable = CONFLICT "order-not-payable" "This order cannot be paid";
    /// The amount is not the order's total.
    WrongAmount = UNPROCESSABLE_ENTITY "wrong-amount" "The amount is not the order's total";
    /// The order was paid before.
    AlreadyPaid = CONFLICT "already-paid" "This order is paid already";
    /// Another payment of the order has not ended.
    PaymentInProgress = CONFLICT "payment-in-progress" "A payment of this order is in progress";
    /// The amount is more than the rest of the payment.
    RefundTooLarge = CONFLICT "refund-too-large" "The refund is larger than what is left";
    /// The gateway refused to refund.
    RefundRefused = CONFLICT "refund-refused" "The gateway refused the refund";
    /// The order has no such payment.
    UnknownPayment = NOT_FOUND "unknown-payment" "There is no such payment";
    /// There is no room. The caller should come back.
    Busy = SERVICE_UNAVAILABLE "busy" "As many requests wait as are accepted";
    /// The data centre is unreachable or cannot commit. The caller should come back.
    Unavailable = SERVICE_UNAVAILABLE "data-centre-unavailable" "The data centre cannot take this now";
    /// The agent is shutting down. The caller should come back.
    ShuttingDown = SERVICE_UNAVAILABLE "shutting-down" "This agent is shutting down";
    /// The data centre refused this order. An operator must look at it.
    NotCommitted = INTERNAL_SERVER_ERROR "not-committed" "The data centre could not commit this order";
}

impl Kind {
    /// Returns the status of its answers.
    pub fn status(self) -> StatusCode {
        self.parts().0
    }

    /// Returns its stable type as a relative URI.
    pub fn uri(self) -> String {
        format!("/problems/{}", self.parts().1)
    }

    /// Returns the title, which is the same for every problem of this type.
    pub fn title(self) -> &'static str {
        self.parts().2
    }
}

impl Problem {
    /// Makes a problem. The detail must not contain a value of the caller.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            retry_after: None,
            extra: Vec::new(),
            takes_no_coding: false,
            out_of_credit: None,
        }
    }

    /// Adds a time after which to try again.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Adds the limit that the brand has reached.
    #[must_use]
    pub fn out_of_credit(mut self, out: OutOfCredit) -> Self {
        self.out_of_credit = Some(out);
        self
    }

    /// Returns the limit that the brand has reached. The answer then waits for its pause, so that
    /// refused callers do not all come back at once.
    pub fn refused_credit(&self) -> Option<OutOfCredit> {
        self.out_of_credit
    }

    /// Marks the body's coding as the mistake. A header names the accepted coding (RFC 9110 section
    /// 15.5.16).
    #[must_use]
    pub fn takes_no_coding(mut self) -> Self {
        self.takes_no_coding = true;
        self
    }

    /// Adds a SKU. It is part of the caller's order and is not personal.
    #[must_use]
    pub fn sku(mut self, sku: &Sku) -> Self {
        self.extra.push(("sku", json!(sku.as_str())));
        self
    }

    /// Adds the price of one unit now.
    #[must_use]
    pub fn price(mut self, price: Money) -> Self {
        self.extra.push(("unit_price", money(price)));
        self
    }

    /// Adds the time at which a launch opens.
    #[must_use]
    pub fn opens_at(mut self, at: UnixMicros) -> Self {
        self.extra.push(("opens_at", json!(at.to_string())));
        self
    }

    /// Adds the units that a launch sells to one customer, and those that the customer has.
    #[must_use]
    pub fn limit(mut self, limit: i64, bought: i64) -> Self {
        self.extra.extend([("limit", json!(limit)), ("bought", json!(bought))]);
        self
    }

    /// Adds the order's id.
    #[must_use]
    pub fn order(mut self, order: impl ToString) -> Self {
        self.extra.push(("order", json!(order.to_string())));
        self
    }

    /// Adds the payment's id.
    #[must_use]
    pub fn payment(mut self, payment: impl ToString) -> Self {
        self.extra.push(("payment", json!(payment.to_string())));
        self
    }

    /// Adds a code of the gateway or of the data centre, which is never free text.
    #[must_use]
    pub fn code(mut self, code: &str) -> Self {
        self.extra.push(("code", json!(code)));
        self
    }

    /// Makes a problem about fields of the body, each with its JSON pointer.
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

    /// Returns its type.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Makes the response for a request with this id.
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
        // Without it, RFC 9111 section 4.2.2 allows a cache to keep some of them.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        for (name, value) in self.out_of_credit.into_iter().flat_map(rate_limit) {
            headers.insert(name, value);
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

/// Returns the header fields that describe a brand's limit.
///
/// The policy `"orders"` has a quota of requests a second. While it is not known how many the data
/// centre commits, the quota is of requests at a time.
fn rate_limit(out: OutOfCredit) -> Vec<(HeaderName, HeaderValue)> {
    let OutOfCredit { limit, per_second, after_secs, .. } = out;
    let policy = match per_second {
        0 => format!("\"orders\";q={limit};qu=\"concurrent-requests\""),
        _ => format!("\"orders\";q={per_second};w=1"),
    };
    let now = format!("\"orders\";r=0;t={after_secs}");
    let fields = [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, now)];
    fields.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?))).collect()
}

/// Carries the problem to the middleware, which adds the request's id and makes the response.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::default();
        response.extensions_mut().insert(self);
        response
    }
}

/// Returns money in the form of the API.
pub fn money(money: Money) -> Value {
    json!({ "amount": money.amount(), "currency": money.currency().as_str() })
}
