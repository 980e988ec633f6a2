//! The adapter for Toss Payments and for gateways that speak its protocol: confirm, query by order
//! id, cancel (docs.tosspayments.com/reference, "core API").
//!
//! Only this file interprets the gateway's answers. A code counts as a refusal only if it is on a
//! list of codes that prove that no money moved. Every other code, known or not, proves nothing.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bridge_protocol::domain::{Currency, Money, ReasonCode};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::{ChargeStatus, Gateway, GatewayAnswer, NoProof};
use crate::decimal;
use crate::payments::{Charge, GiveBack};

/// Most bytes that are read of an answer. A payment object has some kilobytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Codes that prove that a confirmation moved no money and never will, because the card's issuer or
/// the gateway refused it.
const DECLINED: [&str; 26] = [
    "BELOW_MINIMUM_AMOUNT",
    "EXCEED_MAX_AMOUNT",
    "EXCEED_MAX_AUTH_COUNT",
    "EXCEED_MAX_CARD_INSTALLMENT_PLAN",
    "EXCEED_MAX_DAILY_PAYMENT_COUNT",
    "EXCEED_MAX_MONTHLY_PAYMENT_AMOUNT",
    "EXCEED_MAX_ONE_DAY_AMOUNT",
    "EXCEED_MAX_ONE_DAY_WITHDRAW_AMOUNT",
    "EXCEED_MAX_ONE_TIME_WITHDRAW_AMOUNT",
    "EXCEED_MAX_PAYMENT_AMOUNT",
    "FDS_ERROR",
    "INVALID_CARD_EXPIRATION",
    "INVALID_CARD_LOST_OR_STOLEN",
    "INVALID_CARD_NUMBER",
    "INVALID_PASSWORD",
    "INVALID_REJECT_CARD",
    "INVALID_STOPPED_CARD",
    "NOT_ALLOWED_POINT_USE",
    "NOT_AVAILABLE_BANK",
    "NOT_AVAILABLE_PAYMENT",
    "NOT_SUPPORTED_INSTALLMENT_PLAN_CARD_OR_MERCHANT",
    "REJECT_ACCOUNT_PAYMENT",
    "REJECT_CARD_COMPANY",
    "REJECT_CARD_PAYMENT",
    "REJECT_TOSSPAY_INVALID_ACCOUNT",
    "RESTRICTED_TRANSFER_ACCOUNT",
];

/// Codes that prove that a cancellation refunded nothing and never will.
const NOT_CANCELLED: [&str; 10] = [
    "EXCEED_CANCEL_AMOUNT_DISCOUNT_AMOUNT",
    "EXCEED_MAX_REFUND_DUE",
    "INVALID_BANK",
    "INVALID_REFUND_ACCOUNT_INFO",
    "INVALID_REFUND_ACCOUNT_NUMBER",
    "NOT_ALLOWED_PARTIAL_REFUND",
    "NOT_ALLOWED_PARTIAL_REFUND_WAITING_DEPOSIT",
    "NOT_CANCELABLE_AMOUNT",
    "NOT_CANCELABLE_PAYMENT",
    "REFUND_REJECTED",
];

/// Code of the answer about an unknown payment.
const NOT_FOUND: &str = "NOT_FOUND_PAYMENT";

/// The adapter.
pub struct Toss {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// URL of the gateway, without a slash at its end.
    base_url: String,
    authorization: HeaderValue,
    timeout: Duration,
}

/// The secret key cannot be part of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the gateway's secret key is empty or has a character that is not visible ASCII")]
pub struct BadSecretKey;

impl Toss {
    /// Creates an adapter for the gateway at this URL. Each of its calls takes at most `timeout`.
    ///
    /// # Errors
    ///
    /// Fails if the secret key is empty or has a character that is not visible ASCII.
    pub fn new(base_url: &str, secret_key: &[u8], timeout: Duration) -> Result<Self, BadSecretKey> {
        if secret_key.is_empty() || !secret_key.iter().all(u8::is_ascii_graphic) {
            return Err(BadSecretKey);
        }
        // The key is the user name, and the password is empty (RFC 7617 section 2).
        let credentials = BASE64.encode([secret_key, b":"].concat());
        let mut authorization =
            HeaderValue::try_from(format!("Basic {credentials}")).map_err(|_| BadSecretKey)?;
        authorization.set_sensitive(true);
        // The configuration allows plain HTTP only for a loopback address.
        let connector = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector(timeout));
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, base_url: base_url.trim_end_matches('/').to_owned(), authorization, timeout })
    }

    /// Sends a request. Returns the answer's status and body, or the reason why there is none.
    async fn send(
        &self,
        method: Method,
        path: &str,
        key: Option<String>,
        body: Option<String>,
    ) -> Result<(StatusCode, Bytes), NoProof> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base_url))
            .header(header::AUTHORIZATION, self.authorization.clone())
            .header(header::ACCEPT, "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = Full::new(Bytes::from(body.unwrap_or_default()));
        let request = request.body(body).map_err(|_| NoProof::Unreachable)?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|_| NoProof::Unreachable)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| match error.is::<http_body_util::LengthLimitError>() {
                true => NoProof::TooLong,
                false => NoProof::Unreachable,
            })?;
            Ok((status, body.to_bytes()))
        };
        timeout(self.timeout, exchange).await.map_err(|_| NoProof::TimedOut)?
    }
}

/// Returns a connector to the gateway. The kernel gives up data that is not acknowledged after
/// `timeout` (TCP user time-out, RFC 5482). Without this, it would send the data again for minutes,
/// even after the agent closed the connection. A request could then arrive after the time for which
/// its row is held.
fn connector(timeout: Duration) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_tcp_user_timeout(Some(timeout));
    connector
}

impl Gateway for Toss {
    async fn confirm(&self, charge: &Charge) -> GatewayAnswer {
        let body = json(&Confirm {
            payment_key: charge.payment_key.as_str(),
            order_id: charge.order.to_string(),
            amount: decimal::number(charge.amount),
        });
        let key = Some(charge.payment.to_string());
        match self.send(Method::POST, "/v1/payments/confirm", key, body).await {
            Ok((status, body)) if status.is_success() => match payment(&body, charge) {
                Ok(payment) if payment.status == "DONE" => GatewayAnswer::Done,
                Ok(_) => GatewayAnswer::Unknown(NoProof::Mismatch),
                Err(no_proof) => GatewayAnswer::Unknown(no_proof),
            },
            Ok((status, body)) => refused(status, &body, &DECLINED),
            Err(no_proof) => GatewayAnswer::Unknown(no_proof),
        }
    }

    async fn find(&self, charge: &Charge) -> ChargeStatus {
        let path = format!("/v1/payments/orders/{}", charge.order);
        match self.send(Method::GET, &path, None, None).await {
            Ok((status, body)) if status.is_success() => found(&body, charge),
            Ok((status, body)) => match code(status, &body) {
                Ok(code) if status == StatusCode::NOT_FOUND && code.as_str() == NOT_FOUND => {
                    ChargeStatus::NoTrace
                }
                Ok(code) => ChargeStatus::Unknown(NoProof::Code(code)),
                Err(no_proof) => ChargeStatus::Unknown(no_proof),
            },
            Err(no_proof) => ChargeStatus::Unknown(no_proof),
        }
    }

    async fn find_given_back(&self, charge: &Charge) -> Result<Vec<i64>, NoProof> {
        let path = format!("/v1/payments/orders/{}", charge.order);
        let (status, body) = self.send(Method::GET, &path, None, None).await?;
        if !status.is_success() {
            return Err(NoProof::Status(status.as_u16()));
        }
        payment(&body, charge)?.given_back(charge.amount.currency())
    }

    async fn give_back(&self, refund: &GiveBack) -> GatewayAnswer {
        let charge = &refund.charge;
        let body = json(&CancelRequest {
            cancel_reason: &refund.reason,
            cancel_amount: decimal::number(refund.amount),
        });
        let path = format!("/v1/payments/{}/cancel", path_segment(charge.payment_key.as_str()));
        let key = Some(refund.refund.to_string());
        match self.send(Method::POST, &path, key, body).await {
            Ok((status, body)) if status.is_success() => match payment(&body, charge) {
                Ok(payment) if payment.has_cancelled(refund.amount) => GatewayAnswer::Done,
                Ok(_) => GatewayAnswer::Unknown(NoProof::Mismatch),
                Err(no_proof) => GatewayAnswer::Unknown(no_proof),
            },
            Ok((status, body)) => refused(status, &body, &NOT_CANCELLED),
            Err(no_proof) => GatewayAnswer::Unknown(no_proof),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Confirm<'a> {
    payment_key: &'a str,
    order_id: String,
    amount: Box<RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CancelRequest<'a> {
    cancel_reason: &'a str,
    cancel_amount: Box<RawValue>,
}

fn json(body: &impl Serialize) -> Option<String> {
    serde_json::to_string(body).ok()
}

/// The fields of a payment object that are read. The object has many more.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TossPayment<'a> {
    payment_key: String,
    order_id: String,
    status: String,
    currency: String,
    #[serde(borrow)]
    total_amount: &'a RawValue,
    #[serde(borrow, default)]
    cancels: Option<Vec<Cancel<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cancel<'a> {
    #[serde(borrow)]
    cancel_amount: &'a RawValue,
    cancel_status: Option<String>,
}

#[derive(Deserialize)]
struct TossError {
    code: String,
}

impl TossPayment<'_> {
    fn is_of(&self, amount: Money) -> bool {
        self.currency == amount.currency().as_str() && is_amount(self.total_amount, amount)
    }

    fn has_cancelled(&self, amount: Money) -> bool {
        matches!(self.status.as_str(), "CANCELED" | "PARTIAL_CANCELED")
            && self.cancels.iter().flatten().any(|cancel| is_amount(cancel.cancel_amount, amount))
    }

    /// Returns the amounts of completed refunds, in minor units. A refund under way has a status
    /// other than `DONE`.
    fn given_back(&self, currency: Currency) -> Result<Vec<i64>, NoProof> {
        let is_done =
            |cancel: &&Cancel<'_>| cancel.cancel_status.as_deref().is_none_or(|status| status == "DONE");
        let amount = |cancel: &Cancel<'_>| decimal::parse(cancel.cancel_amount.get(), currency);
        let amounts = self.cancels.iter().flatten().filter(is_done).map(amount);
        let read = amounts.map(|amount| amount.map(Money::amount).map_err(|_| NoProof::Unreadable));
        read.collect()
    }
}

fn is_amount(number: &RawValue, amount: Money) -> bool {
    decimal::parse(number.get(), amount.currency()).is_ok_and(|read| read == amount)
}

/// Reads a payment object, which must be about this charge.
fn payment<'a>(body: &'a Bytes, charge: &Charge) -> Result<TossPayment<'a>, NoProof> {
    let payment: TossPayment<'a> = serde_json::from_slice(body).map_err(|_| NoProof::Unreadable)?;
    let fits = payment.order_id == charge.order.to_string()
        && payment.payment_key == charge.payment_key.as_str()
        && payment.is_of(charge.amount);
    if fits { Ok(payment) } else { Err(NoProof::Mismatch) }
}

/// Interprets a payment object that was found by the order's id. It may be an earlier payment of
/// the order. If that one failed, the gateway has no trace of this charge. If it moved money, the
/// outcome is unknown.
fn found(body: &Bytes, charge: &Charge) -> ChargeStatus {
    let Ok(other) = serde_json::from_slice::<TossPayment<'_>>(body) else {
        return ChargeStatus::Unknown(NoProof::Unreadable);
    };
    let is_over = matches!(other.status.as_str(), "ABORTED" | "EXPIRED");
    if other.order_id == charge.order.to_string()
        && other.payment_key != charge.payment_key.as_str()
        && is_over
    {
        return ChargeStatus::NoTrace;
    }
    match payment(body, charge) {
        Ok(payment) => match payment.status.as_str() {
            "DONE" => ChargeStatus::Charged,
            "READY" | "IN_PROGRESS" => ChargeStatus::NotConcluded,
            status @ ("ABORTED" | "EXPIRED") => {
                ChargeStatus::NotCharged(ReasonCode::new(status).unwrap_or_else(ReasonCode::other))
            }
            // A person cancelled the payment outside this agent, or the payment waits for a
            // deposit. An operator must look at it.
            _ => ChargeStatus::Unknown(NoProof::Mismatch),
        },
        Err(no_proof) => ChargeStatus::Unknown(no_proof),
    }
}

fn refused(status: StatusCode, body: &Bytes, proofs: &[&str]) -> GatewayAnswer {
    match code(status, body) {
        Ok(code) if proofs.contains(&code.as_str()) => GatewayAnswer::Refused(code),
        Ok(code) => GatewayAnswer::Unknown(NoProof::Code(code)),
        Err(no_proof) => GatewayAnswer::Unknown(no_proof),
    }
}

/// Returns the code of an error that is about the request. A server error proves nothing, whatever
/// its body says.
fn code(status: StatusCode, body: &Bytes) -> Result<ReasonCode, NoProof> {
    if !status.is_client_error() {
        return Err(NoProof::Status(status.as_u16()));
    }
    let error: TossError = serde_json::from_slice(body).map_err(|_| NoProof::Status(status.as_u16()))?;
    Ok(ReasonCode::new(&error.code).unwrap_or_else(ReasonCode::other))
}

/// Returns a token as a segment of a path (RFC 3986 section 3.3). All but unreserved characters are
/// escaped.
fn path_segment(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut path, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' | b'.' => {
                path.push(char::from(byte))
            }
            _ => path.push_str(&format!("%{byte:02X}")),
        }
        path
    })
}

#[cfg(test)]
mod tests {
    use http::Uri;
    use serde_json::json;
    use socket2::SockRef;
    use tokio::net::TcpListener;
    use tower::ServiceExt as _;

    use super::*;

    /// Codes that do not prove a failure, although they look like errors.
    const NO_PROOF: [&str; 6] = [
        "ALREADY_PROCESSED_PAYMENT",
        "ALREADY_PROCESSING_REQUEST",
        "IDEMPOTENT_REQUEST_PROCESSING",
        "PROVIDER_ERROR",
        "FAILED_INTERNAL_SYSTEM_PROCESSING",
        "UNKNOWN_PAYMENT_ERROR",
    ];

    fn error(code: &str) -> Bytes {
        Bytes::from(json!({ "code": code, "message": "..." }).to_string())
    }

    #[tokio::test]
    async fn the_kernel_drops_what_the_gateway_did_not_get_in_time() {
        let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri: Uri = format!("http://{}", gateway.local_addr().unwrap()).parse().unwrap();
        let timeout = Duration::from_secs(7);
        let connection = connector(timeout).oneshot(uri).await.unwrap();
        let socket = SockRef::from(connection.inner());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(timeout));
    }

    #[test]
    fn only_a_code_on_the_list_is_a_refusal() {
        for code in DECLINED {
            let answer = refused(StatusCode::FORBIDDEN, &error(code), &DECLINED);
            assert!(matches!(answer, GatewayAnswer::Refused(found) if found.as_str() == code));
        }
        for code in NO_PROOF.into_iter().chain(["NEVER_HEARD_OF", "not a code", ""]) {
            let answer = refused(StatusCode::BAD_REQUEST, &error(code), &DECLINED);
            assert!(matches!(answer, GatewayAnswer::Unknown(NoProof::Code(_))), "{code}: {answer:?}");
        }
    }

    #[test]
    fn an_error_of_the_gateway_s_own_proves_nothing_whatever_its_code() {
        for status in [500, 502, 503, 302] {
            let status = StatusCode::from_u16(status).unwrap();
            let answer = refused(status, &error("REJECT_CARD_COMPANY"), &DECLINED);
            assert_eq!(answer, GatewayAnswer::Unknown(NoProof::Status(status.as_u16())));
        }
    }

    #[test]
    fn only_what_is_done_counts_as_given_back() {
        let shown = |cancels: serde_json::Value| {
            let text = json!({
                "paymentKey": "k", "orderId": "o", "status": "PARTIAL_CANCELED", "currency": "KRW", "totalAmount": 9,
                "cancels": cancels,
            });
            let text = text.to_string();
            let read: TossPayment<'_> = serde_json::from_str(&text).unwrap();
            read.given_back(Currency::new("KRW").unwrap())
        };
        let done = json!([
            { "cancelAmount": 2, "cancelStatus": "DONE" }, { "cancelAmount": 2 }, { "cancelAmount": 3, "cancelStatus": "ABORTED" }
        ]);
        assert_eq!(shown(done), Ok(vec![2, 2]));
        assert_eq!(shown(json!(null)), Ok(vec![]));
        assert_eq!(shown(json!([{ "cancelAmount": 0.5 }])), Err(NoProof::Unreadable));
    }

    #[test]
    fn a_token_cannot_leave_its_place_in_the_path() {
        assert_eq!(path_segment("tgen_2026-1.a~"), "tgen_2026-1.a~");
        assert_eq!(path_segment("../x?y#z"), "..%2Fx%3Fy%23z");
    }

    #[test]
    fn a_secret_key_is_one_word() {
        for bad in [&b""[..], b"a b", b"a\nb", "k\u{e9}".as_bytes()] {
            assert!(Toss::new("https://example.com", bad, Duration::from_secs(1)).is_err());
        }
    }
}
