//! A payment gateway for tests. It speaks the protocol of Toss Payments, keeps its own books, and
//! makes errors on request.
//!
//! | | path | |
//! |---|---|---|
//! | POST | `/v1/payments/confirm` | charges |
//! | GET | `/v1/payments/orders/{order}` | returns the payment of an order |
//! | POST | `/v1/payments/{key}/cancel` | refunds |
//! | POST | `/sandbox/next` | faults of the next requests, such as `["fail_after", "decline"]` |
//! | POST | `/sandbox/rates` | rates of the faults of all other requests: see [`Rates`] |
//! | POST | `/sandbox/status` | sets a status: `{"order": "...", "status": "EXPIRED"}` |
//! | POST | `/sandbox/authorise` | a shopper agrees to pay: `order`, `payment_key`, `amount` |
//! | POST | `/sandbox/webhooks` | the receiver of webhooks: see [`Webhooks`] |
//! | GET | `/sandbox/charges` | returns its books |

mod charges;
mod mischief;
mod webhooks;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use self::charges::{SandboxAnswer, SandboxCharges, error};
use self::mischief::Mischiefs;
use self::webhooks::Change;

pub use charges::Charge;
pub use mischief::{Mischief, Rates};
pub use webhooks::Webhooks;

/// The secret key that the sandbox accepts.
pub const SECRET_KEY: &str = "test_sk_sandbox";

/// Duration of a request that hangs. It is longer than any agent waits.
const HANG: Duration = Duration::from_secs(120);

/// Most changes that wait to be sent as webhooks.
const CHANGES: usize = 65_536;

/// A running sandbox. It ends when this value is dropped.
pub struct Sandbox {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    books: Mutex<SandboxCharges>,
    mischiefs: Mutex<Mischiefs>,
    changes: Mutex<Option<mpsc::Sender<Change>>>,
    /// Held requests, with their idempotency keys. The sandbox has not carried them out yet.
    held: Mutex<Vec<(Option<String>, SandboxRequest)>>,
    /// Waiting requests, whose senders still wait for an answer.
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
}

impl Sandbox {
    /// Starts a sandbox on a loopback port.
    pub async fn start(rates: Rates) -> io::Result<Self> {
        Self::listen("127.0.0.1:0".parse().map_err(io::Error::other)?, rates).await
    }

    /// Starts a sandbox at an address.
    pub async fn listen(address: SocketAddr, rates: Rates) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            books: Mutex::default(),
            mischiefs: Mutex::new(Mischiefs::new(rates)),
            changes: Mutex::default(),
            held: Mutex::default(),
            waiting: Mutex::default(),
        });
        let server = tokio::spawn(serve(listener, shared.clone()));
        Ok(Self { address, shared, server })
    }

    /// Returns the address of its listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the base URL of the sandbox.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets the faults of the next requests, one each. They come before any rate.
    pub fn next(&self, mischiefs: impl IntoIterator<Item = Mischief>) {
        lock(&self.shared.mischiefs).next.extend(mischiefs);
    }

    /// Sets the rates of faults from now on.
    pub fn set_rates(&self, rates: Rates) {
        *lock(&self.shared.mischiefs) = Mischiefs::new(rates);
    }

    /// Sets the status of an order's payments, as time or the shopper does.
    pub fn set_status(&self, order: &str, status: &str) {
        lock(&self.shared.books).set_status(order, status);
    }

    /// Records that the shopper has agreed to pay. The shop has not confirmed yet.
    pub fn authorise(&self, order: &str, payment_key: &str, amount: i64) {
        lock(&self.shared.books).authorise(order, payment_key, amount);
    }

    /// Sends changes to an agent from now on.
    pub fn tell(&self, webhooks: Webhooks) {
        self.shared.tell(webhooks);
    }

    /// Returns the number of held requests.
    pub fn held(&self) -> usize {
        lock(&self.shared.held).len()
    }

    /// Returns the number of waiting requests.
    pub fn waiting(&self) -> usize {
        lock(&self.shared.waiting).len()
    }

    /// Releases all requests. The held ones are carried out, even if their senders are long gone.
    /// The waiting ones continue.
    pub fn let_go(&self) {
        for waiting in lock(&self.shared.waiting).drain(..) {
            let _gone = waiting.send(());
        }
        for (key, asked) in std::mem::take(&mut *lock(&self.shared.held)) {
            self.shared.perform(key.as_deref(), &asked);
        }
    }

    /// Returns the books of the sandbox.
    pub fn charges(&self) -> Vec<Charge> {
        lock(&self.shared.books).charges()
    }

    /// Serves until the process ends.
    pub async fn wait(mut self) {
        let _ended = (&mut self.server).await;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // All connections end with the sandbox, also those that hang.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let shared = shared.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let shared = shared.clone();
                async move { shared.answer(request).await }
            });
            // Errors are expected: a caller may give up, and some requests get no answer.
            let _closed = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// The error that closes a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer")]
struct NoAnswer;

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, NoAnswer> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| NoAnswer)?.to_bytes();
        let path = head.uri.path().to_owned();
        if let Some(control) = path.strip_prefix("/sandbox/") {
            return Ok(respond(self.control(&head.method, control, &body)));
        }
        if !is_authorized(&head.headers) {
            return Ok(respond(error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED_KEY")));
        }
        let mischief = lock(&self.mischiefs).decide();
        let key = head.headers.get("idempotency-key").and_then(|key| key.to_str().ok());
        let Some(asked) = asked(&head.method, &path, &body) else {
            return Ok(respond(error(StatusCode::BAD_REQUEST, "INVALID_REQUEST")));
        };
        self.misbehave(mischief, key, &asked).await
    }

    async fn misbehave(
        &self,
        mischief: Mischief,
        key: Option<&str>,
        asked: &SandboxRequest,
    ) -> Result<Response<Full<Bytes>>, NoAnswer> {
        match mischief {
            Mischief::HangBefore => {
                if let SandboxRequest::Confirm { order, payment_key, amount } = asked {
                    lock(&self.books).authorise(order, payment_key, *amount);
                }
                tokio::time::sleep(HANG).await;
                return Err(NoAnswer);
            }
            Mischief::Held => {
                lock(&self.held).push((key.map(str::to_owned), asked.clone()));
                tokio::time::sleep(HANG).await;
                return Err(NoAnswer);
            }
            Mischief::Waits => {
                let (let_go, is_let_go) = oneshot::channel();
                lock(&self.waiting).push(let_go);
                is_let_go.await.map_err(|_| NoAnswer)?;
            }
            Mischief::FailBefore => return Ok(respond(failure())),
            Mischief::Decline => return Ok(respond(self.decline(key, asked))),
            _ => {}
        }
        let (status, mut body) = self.perform(key, asked);
        Ok(match mischief {
            Mischief::HangAfter => {
                tokio::time::sleep(HANG).await;
                return Err(NoAnswer);
            }
            Mischief::Nothing => return Err(NoAnswer),
            Mischief::FailAfter => respond(failure()),
            Mischief::AlreadyProcessed => {
                respond(error(StatusCode::BAD_REQUEST, "ALREADY_PROCESSED_PAYMENT"))
            }
            Mischief::Html => {
                respond_text(StatusCode::OK, "text/html", "<html><body>Welcome</body></html>".into())
            }
            Mischief::Redirect => {
                let mut response = respond_text(StatusCode::FOUND, "text/plain", Bytes::new());
                response
                    .headers_mut()
                    .insert(header::LOCATION, header::HeaderValue::from_static("/elsewhere"));
                response
            }
            Mischief::Huge => respond_text(StatusCode::OK, "application/json", vec![b' '; 10 << 20].into()),
            Mischief::BrokenJson => {
                let text = body.to_string();
                respond_text(status, "application/json", Bytes::from(text.into_bytes()).slice(..12))
            }
            Mischief::WrongAmount => {
                body["totalAmount"] = json!(1);
                respond((status, body))
            }
            Mischief::WrongOrder => {
                body["orderId"] = json!("01234567-89ab-7def-8123-456789abcdef");
                respond((status, body))
            }
            _ => respond((status, body)),
        })
    }

    /// Carries out a request.
    fn perform(&self, key: Option<&str>, asked: &SandboxRequest) -> SandboxAnswer {
        let mut books = lock(&self.books);
        let replayed = books.replay(key).is_some();
        let answer = match asked {
            SandboxRequest::Confirm { order, payment_key, amount } => {
                books.confirm(key, order, payment_key, *amount)
            }
            SandboxRequest::Cancel { payment_key, amount } => books.cancel(key, payment_key, *amount),
            SandboxRequest::Find { order } => books.find(order),
        };
        drop(books);
        if !replayed && !matches!(asked, SandboxRequest::Find { .. }) && answer.0.is_success() {
            self.changed(&answer.1);
        }
        answer
    }

    fn decline(&self, key: Option<&str>, asked: &SandboxRequest) -> SandboxAnswer {
        let mut books = lock(&self.books);
        match asked {
            SandboxRequest::Confirm { order, payment_key, amount } => {
                books.decline(key, order, payment_key, *amount)
            }
            SandboxRequest::Cancel { .. } => books.refuse_cancel(key),
            SandboxRequest::Find { order } => books.find(order),
        }
    }

    fn changed(&self, payment: &Value) {
        let text = |name: &str| payment[name].as_str().unwrap_or_default().to_owned();
        let change =
            Change { order: text("orderId"), payment_key: text("paymentKey"), status: text("status") };
        if let Some(changes) = &*lock(&self.changes) {
            let _full = changes.try_send(change);
        }
    }

    fn tell(&self, webhooks: Webhooks) {
        let (changes, told) = mpsc::channel(CHANGES);
        tokio::spawn(webhooks::tell(webhooks, told));
        *lock(&self.changes) = Some(changes);
    }

    fn control(&self, method: &Method, path: &str, body: &Bytes) -> SandboxAnswer {
        #[derive(Deserialize)]
        struct Status {
            order: String,
            status: String,
        }
        #[derive(Deserialize)]
        struct Authorise {
            order: String,
            payment_key: String,
            amount: i64,
        }
        let done = match (method.as_str(), path) {
            ("GET", "charges") => return (StatusCode::OK, json!(lock(&self.books).charges())),
            ("POST", "next") => serde_json::from_slice::<Vec<Mischief>>(body)
                .map(|next| lock(&self.mischiefs).next.extend(next)),
            ("POST", "rates") => {
                serde_json::from_slice(body).map(|rates| *lock(&self.mischiefs) = Mischiefs::new(rates))
            }
            ("POST", "status") => serde_json::from_slice::<Status>(body)
                .map(|to| lock(&self.books).set_status(&to.order, &to.status)),
            ("POST", "authorise") => serde_json::from_slice::<Authorise>(body).map(|to| {
                lock(&self.books).authorise(&to.order, &to.payment_key, to.amount);
            }),
            ("POST", "webhooks") => serde_json::from_slice(body).map(|webhooks| self.tell(webhooks)),
            _ => return error(StatusCode::NOT_FOUND, "NOT_FOUND"),
        };
        match done {
            Ok(()) => (StatusCode::OK, json!({})),
            Err(wrong) => {
                (StatusCode::BAD_REQUEST, json!({ "code": "INVALID_REQUEST", "message": wrong.to_string() }))
            }
        }
    }
}

/// A request for money, or a question about it.
#[derive(Clone)]
enum SandboxRequest {
    Confirm { order: String, payment_key: String, amount: i64 },
    Cancel { payment_key: String, amount: i64 },
    Find { order: String },
}

fn asked(method: &Method, path: &str, body: &Bytes) -> Option<SandboxRequest> {
    let rest = path.strip_prefix("/v1/payments/")?;
    if method == Method::GET {
        return Some(SandboxRequest::Find { order: rest.strip_prefix("orders/")?.to_owned() });
    }
    let body: Value = serde_json::from_slice(body).ok()?;
    if let Some(payment_key) = rest.strip_suffix("/cancel") {
        return Some(SandboxRequest::Cancel {
            payment_key: payment_key.to_owned(),
            amount: body["cancelAmount"].as_i64()?,
        });
    }
    (rest == "confirm").then_some(())?;
    Some(SandboxRequest::Confirm {
        order: body["orderId"].as_str()?.to_owned(),
        payment_key: body["paymentKey"].as_str()?.to_owned(),
        amount: body["amount"].as_i64()?,
    })
}

fn is_authorized(headers: &HeaderMap) -> bool {
    use base64::Engine as _;
    let expected = base64::engine::general_purpose::STANDARD.encode(format!("{SECRET_KEY}:"));
    headers
        .get(header::AUTHORIZATION)
        .is_some_and(|value| value.as_bytes() == format!("Basic {expected}").as_bytes())
}

fn failure() -> SandboxAnswer {
    error(StatusCode::INTERNAL_SERVER_ERROR, "FAILED_INTERNAL_SYSTEM_PROCESSING")
}

fn respond((status, body): SandboxAnswer) -> Response<Full<Bytes>> {
    respond_text(status, "application/json", body.to_string().into())
}

fn respond_text(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
