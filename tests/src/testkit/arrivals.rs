//! Orders that arrive at given moments, whatever the answers are: an open-loop generator.
//!
//! Each order is sent once, and its latency counts from its moment, so a stall of the server delays
//! every order that was due meanwhile. Nothing is repeated: a refusal is an outcome. `load` is for
//! storefronts that repeat an order until they know its outcome; this is for crowds.
//!
//! The generator has a thread of its own, so that the generators of two crowds do not delay each
//! other. A moment is exact to a millisecond.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::{sleep_until, timeout};

use crate::testkit::histogram::Histogram;
use crate::testkit::wire::Connection;

/// An order as bytes of a request, but for its idempotency key.
#[derive(Clone, Debug)]
pub struct Order {
    before_key: Vec<u8>,
    behind_key: Vec<u8>,
}

/// Orders in the order of their moments.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    /// Orders to send, each any number of times.
    pub orders: Vec<Order>,
    /// The moment of each arrival, and the index of its order.
    pub moments: Vec<(Duration, usize)>,
}

/// The server, and the limits of the generator.
#[derive(Clone, Debug)]
pub struct Options {
    /// The storefront listener of a cloud agent.
    pub storefront: SocketAddr,
    /// Most orders under way at a time. Further ones are sent later, but their latency counts from
    /// their moments.
    pub connections: usize,
    /// Longest time for an answer.
    pub patience: Duration,
    /// Beginning of all idempotency keys. No two runs may have the same.
    pub keys: String,
}

/// A generator that runs. It stops when this value is dropped.
#[derive(Debug)]
pub struct Running {
    stop: Arc<AtomicBool>,
    report: oneshot::Receiver<Report>,
}

/// Numbers of orders by outcome.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Orders that were sent.
    pub sent: u64,
    /// Orders that were committed: 201.
    pub placed: u64,
    /// Orders that the server refused for lack of room: 429 and 503.
    pub refused: u64,
    /// Orders of unknown outcome: 202, no answer, or no answer in time.
    pub open: u64,
    /// Orders with any other answer, such as 409.
    pub other: u64,
    /// Latency of the committed orders, from their moments.
    pub latency: Histogram,
    /// Number of orders that were committed in each second of the run.
    pub placed_in_second: Vec<u64>,
    /// Time from the first moment to the last answer.
    pub took: Duration,
}

impl Order {
    /// Makes the request that places an order with this JSON body.
    #[must_use]
    pub fn new(brand: &str, token: &str, body: &[u8]) -> Order {
        let length = body.len();
        let before_key = format!(
            "POST /v1/{brand}/orders HTTP/1.1\r\nhost: bridge\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\nidempotency-key: "
        );
        Order { before_key: before_key.into_bytes(), behind_key: [b"\r\n\r\n", body].concat() }
    }

    fn request(&self, key: &str) -> Vec<u8> {
        [&self.before_key, key.as_bytes(), &self.behind_key].concat()
    }
}

/// Starts to send the orders. Their moments count from `started`.
///
/// # Errors
///
/// Fails if the thread cannot be started.
pub fn start(arrivals: Arc<Arrivals>, options: Options, started: Instant) -> io::Result<Running> {
    let (stop, (send, report)) = (Arc::new(AtomicBool::new(false)), oneshot::channel());
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let told = Arc::clone(&stop);
    thread::Builder::new().name("orders".to_owned()).spawn(move || {
        let report = LocalSet::new().block_on(&runtime, run(arrivals, options, started, told));
        // The receiver of the report may be gone.
        let _gone = send.send(report);
    })?;
    Ok(Running { stop, report })
}

impl Running {
    /// Waits for the last answer.
    ///
    /// # Errors
    ///
    /// Fails if the thread ended without a report.
    pub async fn finish(mut self) -> Result<Report, oneshot::error::RecvError> {
        (&mut self.report).await
    }

    /// Sends no more orders, and waits for the answers to those under way.
    ///
    /// # Errors
    ///
    /// Fails if the thread ended without a report.
    pub async fn stop(self) -> Result<Report, oneshot::error::RecvError> {
        self.stop.store(true, Ordering::Relaxed);
        self.finish().await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Report {
    /// Adds the numbers of another generator that ran at the same time.
    pub fn merge(&mut self, other: &Report) {
        self.sent += other.sent;
        self.placed += other.placed;
        self.refused += other.refused;
        self.open += other.open;
        self.other += other.other;
        self.latency.merge(&other.latency);
        self.took = self.took.max(other.took);
        let seconds = self.placed_in_second.len().max(other.placed_in_second.len());
        self.placed_in_second.resize(seconds, 0);
        for (mine, theirs) in self.placed_in_second.iter_mut().zip(&other.placed_in_second) {
            *mine += theirs;
        }
    }
}

/// State of all connections of a run.
struct Crowd {
    arrivals: Arc<Arrivals>,
    options: Options,
    started: Instant,
    stop: Arc<AtomicBool>,
    next: Cell<usize>,
    report: RefCell<Report>,
}

async fn run(arrivals: Arc<Arrivals>, options: Options, started: Instant, stop: Arc<AtomicBool>) -> Report {
    let connections = options.connections.max(1);
    let (next, report) = (Cell::new(0), RefCell::new(Report::default()));
    let crowd = Rc::new(Crowd { arrivals, options, started, stop, next, report });
    let buyers: Vec<_> = (0..connections).map(|_| tokio::task::spawn_local(buy(Rc::clone(&crowd)))).collect();
    for buyer in buyers {
        // A panic of a task has already been printed.
        let _ended = buyer.await;
    }
    let mut report = crowd.report.take();
    report.took = started.elapsed();
    report
}

/// Sends the next orders over one connection, one after the other.
async fn buy(crowd: Rc<Crowd>) {
    let Crowd { arrivals, options, started, stop, next, report } = &*crowd;
    let mut connection = Connection::new(options.storefront);
    loop {
        let index = next.replace(next.get() + 1);
        let Some((at, order)) = arrivals.moments.get(index) else { return };
        let (due, order) = (*started + *at, arrivals.orders.get(*order));
        sleep_until(due.into()).await;
        let Some(order) = order else { continue };
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let request = order.request(&format!("{}-{index}", options.keys));
        let answered = timeout(options.patience, connection.send(&request)).await;
        let status = answered.map(|answer| answer.map_or(0, |answer| answer.status)).unwrap_or_default();
        let mut report = report.borrow_mut();
        report.sent += 1;
        match status {
            201 => report.placed(started.elapsed(), due.elapsed()),
            429 | 503 => report.refused += 1,
            0 | 202 => report.open += 1,
            _ => report.other += 1,
        }
    }
}

impl Report {
    fn placed(&mut self, at: Duration, took: Duration) {
        self.placed += 1;
        self.latency.record(took);
        let second = usize::try_from(at.as_secs()).unwrap_or(usize::MAX);
        if self.placed_in_second.len() <= second {
            self.placed_in_second.resize(second.saturating_add(1), 0);
        }
        if let Some(placed) = self.placed_in_second.get_mut(second) {
            *placed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::sleep;

    use super::*;

    const CREATED: &str = "HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n";

    /// Starts a storefront that waits for `pause` before each answer, and answers by the SKU in the
    /// body.
    async fn storefront(pause: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = vec![0; 4_096];
                    // Requests in these tests are small enough to arrive in one read.
                    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                        let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
                        let keyed = request.contains("\r\nidempotency-key: k-");
                        assert!(keyed && request.starts_with("POST /v1/shoes/orders HTTP/1.1\r\n"));
                        sleep(pause).await;
                        let answer = match request.split_once("\r\n\r\n").expect("a head").1 {
                            "good" => CREATED,
                            "full" => "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
                            "open" => "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
                            _ => "HTTP/1.1 409 Conflict\r\ncontent-length: 0\r\n\r\n",
                        };
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    async fn sent(pause: Duration, connections: usize, moments: Vec<(Duration, usize)>) -> Report {
        let orders = ["good", "full", "open", "gone"];
        let orders = orders.map(|body| Order::new("shoes", "t", body.as_bytes())).to_vec();
        let (storefront, keys) = (storefront(pause).await, "k".to_owned());
        let options = Options { storefront, connections, patience: Duration::from_secs(20), keys };
        let running = start(Arc::new(Arrivals { orders, moments }), options, Instant::now());
        running.expect("a thread").finish().await.expect("a report")
    }

    #[tokio::test]
    async fn every_order_is_sent_once_and_counted_by_its_answer() {
        let moments = (0..40).map(|index| (Duration::ZERO, index % 4)).collect();
        let report = sent(Duration::ZERO, 3, moments).await;
        let Report { sent, placed, refused, open, other, latency, placed_in_second, .. } = report;
        assert_eq!((sent, placed, refused, open, other), (40, 10, 10, 10, 10));
        assert_eq!((latency.count(), placed_in_second.iter().sum::<u64>()), (10, 10));
    }

    #[tokio::test]
    async fn an_order_that_waits_for_a_connection_counts_from_its_moment() {
        let report = sent(Duration::from_millis(20), 1, vec![(Duration::ZERO, 0); 5]).await;
        assert!(report.latency.quantile(1_000) >= Duration::from_millis(100));
    }

    #[tokio::test]
    async fn reports_of_two_crowds_add_up() {
        let mut one = sent(Duration::ZERO, 1, vec![(Duration::ZERO, 0), (Duration::ZERO, 1)]).await;
        one.merge(&sent(Duration::ZERO, 1, vec![(Duration::from_millis(1_100), 0)]).await);
        assert_eq!((one.sent, one.placed, one.refused), (3, 2, 1));
        assert_eq!(one.placed_in_second, [1, 1]);
        assert!(one.took >= Duration::from_millis(1_100));
    }
}
