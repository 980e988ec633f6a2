//! Orders at the storefront: what is asked, and how each answer reads.
//!
//! `submit_order` is an order's whole way through this agent, a line a step; `carry` is its way out and back.

use std::future::Future;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Json, body::Body};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bridge_protocol::domain::body::OrderRequest;
use bridge_protocol::domain::order::FieldError;
use bridge_protocol::domain::{Brand, KeyDigest, OrderId, Outcome, TraceParent, UnixMicros};
use bridge_protocol::order_link::sender::{Answer, BodyMark, Rejected};
use bridge_protocol::receipt::{Receipt, VerifiedReceipt};
use bridge_protocol::seal::sealing::Header;
use bridge_protocol::stack::wiped;
use bridge_protocol::wire::order::{Ask, Cancel, Refusal, Settled, State as OrderState, to_idc};
use bridge_runtime::clock;
use bridge_runtime::telemetry::metrics::OrderOutcome;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::sync::RwLock;

use super::audit::{self, Heard, LoggedAnswer};
use super::problem::{Kind, Problem};
use super::request::extractors::{AskBy, InPath, idempotency_key, order_id, unknown_order};
use super::request::trace::trace;
use super::state::{Shop, Worker};
use crate::admission::{self, NotAdmitted};
use crate::order_link::Carried;

const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// When an unknown outcome may be asked about, or a key in progress tried again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// `POST /v1/{brand}/orders`: 201 with a receipt, 202 if the outcome is unknown, or a problem.
pub(super) async fn submit_order(
    State(worker): State<Arc<Worker>>,
    InPath(brand): InPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let shop = worker.authenticate(&brand, &headers)?;
    let key = idempotency_key(&headers)?.digest(&shop.brand);
    let body = worker.read_body(&headers, body).await?;
    let request = worker.parse(shop, &body)?;
    let header = Header { brand: shop.brand.clone(), order: new_order_id(), key };
    let admitted = worker.admit(header, request)?;
    let sealed = worker.seal(&admitted)?;
    let (header, mark, trace) = (sealed.header().clone(), sealed.body(), trace(&headers));
    let kind = to_idc::Kind::Place(sealed.into_envelope());
    carry(worker.clone(), header, kind, mark, Some(admitted), trace).await
}

/// A write's way to the data centre and back: in the audit log before it is sent, and again before its answer is told.
/// `sealed` is what was sealed, where something was: it is kept until the answer, should it have to be sealed again.
async fn carry(
    worker: Arc<Worker>,
    header: Header,
    kind: to_idc::Kind,
    body: BodyMark,
    sealed: Option<admission::AdmittedOrder>,
    trace: Option<TraceParent>,
) -> Result<Response, Problem> {
    let under_way = worker.under_way.clone();
    let way = async move {
        let shared = &worker.shared;
        let logged = audit::sent(&worker.audit, &header, None, kind).await;
        let logged = logged.map_err(|_| worker.not_admitted(NotAdmitted::NoAuditLog))?;
        let mut carried = shared.link.carry(header.order, logged.into_kind(), body, trace).await;
        while let Ok(Carried::SealAgain(waiting)) = carried {
            let again = match &sealed {
                Some(admitted) => worker.seal_again(admitted).await,
                None => None,
            };
            carried = Ok(waiting.sealed(again).await);
        }
        drop(sealed);
        let answer = carried.map(|carried| match carried {
            Carried::Ended(answer) => answer,
            Carried::SealAgain(_) => Answer::Unknown,
        });
        let heard = worker.hear(&header, answer);
        let answer = audit::answered(&worker.audit, &header, heard).await;
        worker.respond(&header, answer)
    };
    to_its_end(under_way, way).await
}

/// Goes a write's way to its end, whoever goes away meanwhile: a task of its own, which the agent waits for before it ends, so
/// that neither a caller that cuts its connection nor a shutdown takes an answer out of the log.
pub(super) async fn to_its_end<T: Send + 'static>(
    under_way: Arc<RwLock<()>>,
    way: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    let under_way = under_way.read_owned().await;
    let way = tokio::spawn(async move {
        let answer = way.await;
        drop(under_way);
        answer
    });
    // It ends early only with the process, and then nobody can tell what became of it.
    way.await.unwrap_or_else(|_| Err(unavailable(NotAdmitted::Draining)))
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
    worker.admit_write()?;
    let cancel = Cancel {
        brand: header.brand.as_str().to_owned(),
        order: Bytes::copy_from_slice(header.order.as_bytes()),
        key: Bytes::copy_from_slice(key.as_bytes()),
    };
    let mark = worker.marks.of_cancellation(header.order);
    carry(worker.clone(), header, to_idc::Kind::Cancel(cancel), mark, None, trace(&headers)).await
}

/// `GET /v1/{brand}/orders/{order}`: 200 with state and lines, never personal data.
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
    match worker.shared.link.submit(order, kind, BodyMark::NONE, trace).await {
        Ok(Answer::State(state)) => Ok(Json(state_json(&state)).into_response()),
        Ok(Answer::Pending) => {
            Ok(Json(json!({ "order": order.to_string(), "state": "unknown" })).into_response())
        }
        Ok(Answer::Refused(refusal)) => Err(refused(refusal, order)),
        Ok(Answer::Settled(_) | Answer::Payment(_) | Answer::Unknown | Answer::NotSent)
        | Err(Rejected::Full | Rejected::InProgress | Rejected::KeyReused) => Err(not_told()),
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

    fn admit_write(&self) -> Result<(), Problem> {
        let shared = &self.shared;
        admission::admit_write(self.load(), shared.queue_max, shared.shutdown.is_draining())
            .map_err(|refused| self.not_admitted(refused))
    }

    fn load(&self) -> admission::Load {
        let shared = &self.shared;
        let load = shared.link.load();
        // Whoever waits for the log has not come to the link yet.
        let queued = load.queued + shared.audit.waiting();
        admission::Load { queued, audit_writable: shared.audit.is_writable(), ..load }
    }

    fn admit(&self, header: Header, request: OrderRequest) -> Result<admission::AdmittedOrder, Problem> {
        let shared = &self.shared;
        let load = self.load();
        admission::admit(header, request, load, shared.queue_max, shared.shutdown.is_draining())
            .map_err(|refused| self.not_admitted(refused))
    }

    fn not_admitted(&self, refused: NotAdmitted) -> Problem {
        self.count(OrderOutcome::Refused);
        unavailable(refused)
    }

    fn seal(&self, admitted: &admission::AdmittedOrder) -> Result<crate::seal::SealedOrder, Problem> {
        self.sealer.seal(admitted, clock::now(), &mut rand::rng()).map_err(|error| {
            tracing::warn!(%error, "refused an order: nothing to seal to");
            unavailable(NotAdmitted::NoLink)
        })
    }

    /// Seals an order to the key that is preferred now, and logs that it is sent so; `None` if one of them cannot be.
    async fn seal_again(&self, admitted: &admission::AdmittedOrder) -> Option<to_idc::Kind> {
        let sealed = self.seal(admitted).ok()?;
        self.shared.metrics.orders_sealed_again.inc();
        let kind = to_idc::Kind::Place(sealed.into_envelope());
        Some(audit::sent(&self.audit, admitted.header(), None, kind).await.ok()?.into_kind())
    }

    /// What an answer says: a receipt says something once it is verified, and is this request's.
    fn hear(&self, header: &Header, answer: Result<Answer, Rejected>) -> Heard {
        let Ok(Answer::Settled(settled)) = answer else { return Heard::Other(answer) };
        let Some(wire) = &settled.receipt else { return Heard::Distrusted("there is none".to_owned()) };
        let verified = self.receipts.lock().unwrap_or_else(PoisonError::into_inner).verify(wire);
        match verified {
            Ok(verified)
                if verified.receipt().brand == header.brand && verified.receipt().key == header.key =>
            {
                Heard::Settled(settled, verified)
            }
            Ok(_) => Heard::Distrusted("it is another request's".to_owned()),
            Err(error) => Heard::Distrusted(error.to_string()),
        }
    }

    /// The answer to a write as a response. 201 is said here and nowhere else, with a verified receipt in hand.
    fn respond(&self, header: &Header, answer: LoggedAnswer) -> Result<Response, Problem> {
        let answer = match answer.into_heard() {
            Heard::Settled(settled, verified) => return self.settled(&settled, &verified),
            Heard::Distrusted(why) => return Ok(self.distrust(header, &why)),
            Heard::Other(answer) => answer,
        };
        match answer {
            Ok(Answer::Refused(refusal)) => {
                self.count(match refusal {
                    Refusal::KeyReused => OrderOutcome::KeyReused,
                    _ => OrderOutcome::Refused,
                });
                Err(refused(refusal, header.order))
            }
            Ok(
                Answer::Settled(_)
                | Answer::Unknown
                | Answer::State(_)
                | Answer::Payment(_)
                | Answer::Pending,
            ) => Ok(self.unknown(header)),
            Ok(Answer::NotSent) => Err(self.not_admitted(NotAdmitted::NoLink)),
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
        };
        self.count(if settled.replayed { OrderOutcome::Replayed } else { outcome });
        let mut response = response.unwrap_or_else(|problem| problem.order(order).into_response());
        mark_replayed(&mut response, settled.replayed);
        Ok(response)
    }

    /// A receipt that proves nothing says nothing about the order: its outcome stays unknown.
    fn distrust(&self, header: &Header, why: &str) -> Response {
        self.shared.metrics.receipts_rejected.inc();
        tracing::error!(order = %header.order, why, "a receipt was not accepted: check the pinned verifier keys");
        self.unknown(header)
    }

    /// 202: neither success nor failure, and a place to ask.
    fn unknown(&self, header: &Header) -> Response {
        self.count(OrderOutcome::Unknown);
        let place = place_to_ask(&header.brand, header.order, Some(header.key));
        let headers =
            [(header::LOCATION, place), (header::RETRY_AFTER, HeaderValue::from(ASK_AGAIN_AFTER.as_secs()))];
        let body = json!({ "order": header.order.to_string(), "state": "unknown" });
        (StatusCode::ACCEPTED, headers, Json(body)).into_response()
    }

    fn count(&self, outcome: OrderOutcome) {
        self.shared.metrics.orders.of(outcome).inc();
    }
}

fn new_order_id() -> OrderId {
    OrderId::new(clock::now(), rand::rng().random())
}

/// Says of an answer that it was given before.
pub(super) fn mark_replayed(response: &mut Response, replayed: bool) {
    if replayed {
        response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
}

/// A request under the same key has not been answered.
pub(super) fn in_progress(again_after: Duration) -> Problem {
    let detail = "wait for its answer, or ask again with the same key";
    Problem::new(Kind::InProgress, detail).retry_after(again_after)
}

pub(super) fn unavailable(refused: NotAdmitted) -> Problem {
    let kind = match refused {
        NotAdmitted::NoLink | NotAdmitted::NoAuditLog => Kind::Unavailable,
        NotAdmitted::Full => Kind::Busy,
        NotAdmitted::Draining => Kind::ShuttingDown,
    };
    Problem::new(kind, format!("{refused}; nothing happened, try again")).retry_after(refused.retry_after())
}

/// A question that nobody could answer: that says nothing of what was asked about.
pub(super) fn not_told() -> Problem {
    let detail = "the data centre cannot be reached, so nobody can tell now; ask again";
    Problem::new(Kind::Unavailable, detail).retry_after(NotAdmitted::NoLink.retry_after())
}

pub(super) fn refused(refusal: Refusal, order: OrderId) -> Problem {
    match refusal {
        Refusal::Busy => unavailable(NotAdmitted::Full),
        Refusal::DatabaseDown | Refusal::SessionUnknown | Refusal::UnknownKey => {
            unavailable(NotAdmitted::NoLink)
        }
        Refusal::KeyReused => Problem::new(Kind::KeyReused, "use a new key for a new request"),
        Refusal::NotFound => unknown_order(),
        Refusal::UnknownBrand => {
            Problem::new(Kind::UnknownBrand, "the data centre does not know this brand yet")
        }
        Refusal::OrderNotPayable => {
            let detail = "it was cancelled, was never placed, costs nothing, or was charged too late once; no money moved";
            Problem::new(Kind::OrderNotPayable, detail)
        }
        Refusal::WrongAmount => {
            let detail = "amount and currency must be the order's total; no money moved";
            Problem::new(Kind::WrongAmount, detail)
        }
        Refusal::AlreadyPaid => {
            Problem::new(Kind::AlreadyPaid, "the order has been paid; no money moved now")
        }
        Refusal::PaymentInProgress => {
            let detail = "a payment of this order has not ended; ask about that one, and come back then";
            Problem::new(Kind::PaymentInProgress, detail).retry_after(ASK_AGAIN_AFTER)
        }
        Refusal::RefundTooLarge => {
            let detail =
                "it is more than what is left of this payment, or of another currency; no money moved";
            Problem::new(Kind::RefundTooLarge, detail)
        }
        Refusal::EnvelopeRejected | Refusal::Invalid | Refusal::Failed | Refusal::Unspecified => {
            tracing::error!(%order, ?refusal, "the data centre refused a request that this agent accepted");
            let detail =
                "nothing happened; an operator finds the reason in the data centre's log by the order's id";
            Problem::new(Kind::NotCommitted, detail).order(order)
        }
    }
}

/// Where an order is asked about. With the key's digest it is found even if an earlier attempt, whose answer was lost,
/// had it committed under another id.
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
