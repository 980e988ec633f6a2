//! The page views of a launch: an open-loop generator of catalogue reads.
//!
//! A page view is a shopper's visit to a product page: it reads the product, then the stock of its
//! variants, over one keep-alive connection. It begins at its scheduled moment, even if earlier
//! ones are not finished, and its latency counts from that moment. So a stall of the server delays
//! every page view that was due meanwhile, not only one. The number of page views that wait for a
//! connection is bounded; further ones count as errors. Every answer is checked.
//!
//! The generator runs on two threads of its own: one sleeps from arrival to arrival, the other
//! drives the connections.

mod tally;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::LocalSet;
use tokio::time::timeout;

use crate::testkit::http::percent_encoded;
use crate::testkit::wire::{Connection, NoAnswer, WireAnswer};

pub use tally::{Flaw, Report, Slice};

/// One answer in this many is parsed as JSON. All answers are checked.
const PARSED: u64 = 64;

/// The requests of one page, and the contents that their answers must have.
#[derive(Clone, Debug)]
pub struct Page {
    product: Read,
    stock: Read,
}

#[derive(Clone, Debug)]
struct Read {
    request: Vec<u8>,
    /// A text that only the right answer contains.
    mark: String,
}

/// Page views, in the order of their moments.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// The pages that are viewed.
    pub pages: Vec<Page>,
    /// The moment of each page view, and the index of its page.
    pub views: Vec<(Duration, usize)>,
}

/// The server, and the limits of the generator.
#[derive(Clone, Debug)]
pub struct Options {
    /// The storefront listener of a cloud agent.
    pub storefront: SocketAddr,
    /// Most connections.
    pub connections: usize,
    /// Most page views that wait for a connection.
    pub queue: usize,
    /// Longest time for a page view once it has a connection.
    pub patience: Duration,
    /// Duration of a slice of the report.
    pub slice: Duration,
}

/// A run of page views.
#[derive(Debug)]
pub struct Running {
    counts: Arc<Counts>,
    report: oneshot::Receiver<Report>,
}

/// Counts that are visible during the run.
#[derive(Debug, Default)]
struct Counts {
    done: AtomicU64,
    errors: AtomicU64,
    /// Set when nothing waits for the report any more.
    stop: AtomicBool,
}

impl Counts {
    fn over(&self, wrong: bool) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.errors.fetch_add(u64::from(wrong), Ordering::Relaxed);
    }
}

impl Page {
    /// Makes the page of a brand's product, with the stock of these SKUs (at least one).
    #[must_use]
    pub fn new(brand: &str, product: &str, skus: &[&str]) -> Page {
        let get = |path: String| format!("GET {path} HTTP/1.1\r\nhost: bridge\r\n\r\n").into_bytes();
        let names: Vec<_> = skus.iter().map(|sku| percent_encoded(sku)).collect();
        let said = |name: &str, value: &str| format!("\"{name}\":{}", serde_json::Value::from(value));
        Page {
            product: Read {
                request: get(format!("/v1/{brand}/products/{}", percent_encoded(product))),
                mark: said("product", product),
            },
            stock: Read {
                request: get(format!("/v1/{brand}/stock?sku={}", names.join(","))),
                mark: said("sku", skus.first().copied().unwrap_or_default()),
            },
        }
    }
}

/// Starts the page views. Their moments count from `started`.
///
/// # Errors
///
/// Fails if the threads cannot be started.
pub fn start(traffic: Arc<Traffic>, options: Options, started: Instant) -> io::Result<Running> {
    let counts = Arc::new(Counts::default());
    let queue = Arc::new(Queue { waiting: Mutex::default(), ready: Semaphore::new(0), options, started });
    let (send, report) = oneshot::channel();
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let arrivals = {
        let (queue, counts, traffic) = (Arc::clone(&queue), Arc::clone(&counts), Arc::clone(&traffic));
        thread::Builder::new().name("arrivals".to_owned()).spawn(move || queue.fill(&traffic, &counts))?
    };
    let browsers = {
        let counts = Arc::clone(&counts);
        move || {
            let mut report = LocalSet::new().block_on(&runtime, browse(queue, traffic, counts));
            for at in arrivals.join().unwrap_or_default() {
                report.arrived(at);
                report.flaw(at, Flaw::QueueFull);
            }
            // The receiver of the report may be gone.
            let _gone = send.send(report);
        }
    };
    thread::Builder::new().name("browsers".to_owned()).spawn(browsers)?;
    Ok(Running { counts, report })
}

impl Running {
    /// Returns the number of finished page views, and of those with an error.
    #[must_use]
    pub fn so_far(&self) -> (u64, u64) {
        (self.counts.done.load(Ordering::Relaxed), self.counts.errors.load(Ordering::Relaxed))
    }

    /// Waits for the last page view.
    ///
    /// # Errors
    ///
    /// Fails if the threads ended without a report.
    pub async fn finish(mut self) -> Result<Report, oneshot::error::RecvError> {
        (&mut self.report).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.counts.stop.store(true, Ordering::Relaxed);
    }
}

/// A page view that is due.
#[derive(Clone, Copy, Debug)]
struct View {
    at: Duration,
    page: usize,
}

/// The queue between the thread of the arrivals and the thread of the connections.
#[derive(Debug)]
struct Queue {
    /// Locked only for a push or a pop.
    waiting: Mutex<VecDeque<View>>,
    /// One permit for each page view in the queue. Closed after the last page view.
    ready: Semaphore,
    options: Options,
    started: Instant,
}

impl Queue {
    /// Puts each page view into the queue at its moment. Returns the moments of those that did not
    /// fit.
    fn fill(&self, traffic: &Traffic, counts: &Counts) -> Vec<Duration> {
        let mut turned_away = Vec::new();
        let mut views = traffic.views.iter().peekable();
        while let Some((at, _)) = views.peek() {
            thread::sleep(at.saturating_sub(self.started.elapsed()));
            if counts.stop.load(Ordering::Relaxed) {
                break;
            }
            let now = self.started.elapsed();
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let mut more = 0;
            while let Some((at, page)) = views.next_if(|(at, _)| *at <= now) {
                if waiting.len() < self.options.queue {
                    waiting.push_back(View { at: *at, page: *page });
                    more += 1;
                } else {
                    turned_away.push(*at);
                    counts.over(true);
                }
            }
            drop(waiting);
            self.ready.add_permits(more);
        }
        self.ready.close();
        turned_away
    }

    /// Waits for the next page view. Returns [`None`] after the last.
    async fn next(&self) -> Option<View> {
        // Once it is closed, no more page views come, but some may still be in the queue.
        if let Ok(permit) = self.ready.acquire().await {
            permit.forget();
        }
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Drives all connections to the end.
async fn browse(queue: Arc<Queue>, traffic: Arc<Traffic>, counts: Arc<Counts>) -> Report {
    let report = Rc::new(RefCell::new(Report::new(queue.options.slice)));
    let browsers: Vec<_> = (0..queue.options.connections.max(1))
        .map(|_| Browser {
            connection: Connection::new(queue.options.storefront),
            answers: 0,
            queue: Arc::clone(&queue),
            traffic: Arc::clone(&traffic),
            counts: Arc::clone(&counts),
            report: Rc::clone(&report),
        })
        .map(|browser| tokio::task::spawn_local(browser.run()))
        .collect();
    for browser in browsers {
        // A panic of a task has already been printed.
        let _ended = browser.await;
    }
    Rc::unwrap_or_clone(report).into_inner()
}

/// A connection and the task that views pages over it.
struct Browser {
    connection: Connection,
    answers: u64,
    queue: Arc<Queue>,
    traffic: Arc<Traffic>,
    counts: Arc<Counts>,
    report: Rc<RefCell<Report>>,
}

impl Browser {
    async fn run(mut self) {
        let queue = Arc::clone(&self.queue);
        while let Some(View { at, page }) = queue.next().await {
            self.report.borrow_mut().arrived(at);
            let viewed =
                timeout(queue.options.patience, self.view(at, page)).await.unwrap_or(Err(Flaw::Late));
            let now = queue.started.elapsed();
            let mut report = self.report.borrow_mut();
            match viewed {
                Ok(()) => report.view_latency.record(now.saturating_sub(at)),
                Err(flaw) => report.flaw(now, flaw),
            }
            self.counts.over(viewed.is_err());
        }
    }

    /// Reads the product, then its stock.
    async fn view(&mut self, at: Duration, page: usize) -> Result<(), Flaw> {
        let traffic = Arc::clone(&self.traffic);
        let Some(Page { product, stock }) = traffic.pages.get(page) else { return Ok(()) };
        let between = self.read(product, at).await?;
        self.read(stock, between).await?;
        Ok(())
    }

    /// Makes one read that was due at `since`. Returns the time of its answer.
    async fn read(&mut self, read: &Read, since: Duration) -> Result<Duration, Flaw> {
        self.answers += 1;
        let answer = self.connection.send(&read.request).await.map_err(|error| match error {
            NoAnswer::Connect(_) => Flaw::NoConnection,
            NoAnswer::Lost => Flaw::NoAnswer,
            NoAnswer::Unreadable => Flaw::Unreadable,
        })?;
        let now = self.queue.started.elapsed();
        let (position, age) = judge(&answer, &read.mark, self.answers.is_multiple_of(PARSED))?;
        self.report.borrow_mut().read(now, now.saturating_sub(since), position, age);
        Ok(now)
    }
}

/// Checks an answer. Returns its position and age.
fn judge(answer: &WireAnswer<'_>, mark: &str, parse: bool) -> Result<(u64, u64), Flaw> {
    if answer.status != 200 {
        return Err(Flaw::Status(answer.status));
    }
    if !std::str::from_utf8(answer.body).is_ok_and(|body| body.contains(mark)) {
        return Err(Flaw::WrongAnswer);
    }
    if parse && serde_json::from_slice::<serde::de::IgnoredAny>(answer.body).is_err() {
        return Err(Flaw::NoJson);
    }
    if answer.fell {
        return Err(Flaw::PositionFell);
    }
    let position = answer.position.ok_or(Flaw::NoPosition)?;
    let age = answer.age.ok_or(Flaw::NoAge)?;
    Ok((position, age))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::sleep;

    use super::*;

    /// Returns the answer to a path. The number is that of the answer on its connection, from 1.
    type Says = fn(&str, u64) -> String;

    /// Starts a catalogue that waits for `pause` before each answer.
    async fn stub(pause: Duration, answer: Says) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut buffer, mut answered) = (vec![0; 4_096], 0);
                    // Requests in these tests are small enough to arrive in one read.
                    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                        let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
                        let path = request.split(' ').nth(1).expect("a path");
                        sleep(pause).await;
                        answered += 1;
                        let answer = answer(path, answered);
                        if answer.is_empty() || stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    fn told(body: &str, position: u64) -> String {
        let length = body.len();
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nbridge-seq: {position}\r\nage: 0\r\n\r\n{body}"
        )
    }

    fn good(path: &str, answered: u64) -> String {
        match path {
            "/v1/shoes/products/A%20%2F1" => told(r#"{"product":"A /1","brand":"shoes"}"#, answered),
            "/v1/shoes/stock?sku=A-270,A-280" => {
                told(r#"{"items":[{"sku":"A-270","available":3}],"missing":[]}"#, answered)
            }
            _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
        }
    }

    async fn viewed(storefront: SocketAddr, views: usize, change: impl FnOnce(&mut Options)) -> Report {
        let page = Page::new("shoes", "A /1", &["A-270", "A-280"]);
        let traffic = Traffic { pages: vec![page], views: vec![(Duration::ZERO, 0); views] };
        let (patience, slice) = (Duration::from_secs(20), Duration::from_millis(500));
        let mut options = Options { storefront, connections: 4, queue: 1_000, patience, slice };
        change(&mut options);
        let running = start(Arc::new(traffic), options, Instant::now()).expect("threads");
        running.finish().await.expect("a report")
    }

    fn flaws(report: &Report) -> Vec<(Flaw, u64)> {
        report.flaws.iter().map(|(flaw, count)| (*flaw, *count)).collect()
    }

    #[tokio::test]
    async fn a_page_view_is_two_reads_each_of_which_is_looked_at() {
        let report = viewed(stub(Duration::ZERO, good).await, 300, |_| {}).await;
        assert_eq!(flaws(&report), []);
        assert_eq!((report.views, report.reads), (300, 600));
        assert_eq!((report.read_latency.count(), report.view_latency.count()), (600, 300));
        let last = report.slices.iter().filter_map(|slice| slice.position).max();
        assert!(last.is_some_and(|position| position >= 150), "{last:?}");
    }

    #[tokio::test]
    async fn a_stall_is_felt_by_everyone_who_came_meanwhile() {
        let report = viewed(stub(Duration::from_millis(10), good).await, 8, |options| {
            options.connections = 1;
        })
        .await;
        // The last of eight page views waits for seven others, each of two reads.
        assert!(report.view_latency.quantile(1_000) >= Duration::from_millis(160));
        assert!(report.view_latency.quantile(500) >= Duration::from_millis(80));
    }

    #[tokio::test]
    async fn what_finds_no_place_to_wait_is_an_error() {
        let report = viewed(stub(Duration::from_millis(50), good).await, 20, |options| {
            (options.connections, options.queue) = (1, 5);
        })
        .await;
        assert_eq!(report.views, 20);
        let [(Flaw::QueueFull, turned_away)] = flaws(&report)[..] else { panic!("{:?}", report.flaws) };
        assert!((14..=15).contains(&turned_away), "{turned_away}");
        assert_eq!(report.reads, (20 - turned_away) * 2);
    }

    #[tokio::test]
    async fn what_is_wrong_with_an_answer_is_told_by_kind() {
        let cases: [(Says, Flaw); 8] = [
            (|_, _| told(r#"{"product":"B"}"#, 1), Flaw::WrongAnswer),
            (|path, answered| good(path, 9 - answered), Flaw::PositionFell),
            (|path, _| good(path, 1).replace("bridge-seq", "x-seq"), Flaw::NoPosition),
            (|path, _| good(path, 1).replace("age", "x-age"), Flaw::NoAge),
            (|_, _| "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n".to_owned(), Flaw::Status(503)),
            (|_, _| "HTTP/1.1 200 OK\r\n\r\n".to_owned(), Flaw::Unreadable),
            (|_, _| String::new(), Flaw::NoAnswer),
            (|_, _| "HTTP/1.1 200 OK\r\n".to_owned(), Flaw::Late),
        ];
        for (answer, flaw) in cases {
            let report = viewed(stub(Duration::ZERO, answer).await, 1, |options| {
                options.patience =
                    if flaw == Flaw::Late { Duration::from_millis(50) } else { options.patience };
            })
            .await;
            assert_eq!(flaws(&report), [(flaw, 1)]);
        }
        let nobody = crate::testkit::ports::free_address().expect("a port");
        assert_eq!(flaws(&viewed(nobody, 1, |_| {}).await), [(Flaw::NoConnection, 1)]);
    }

    #[test]
    fn a_body_that_is_cut_is_no_json() {
        let answer = |body| WireAnswer { status: 200, position: Some(1), fell: false, age: Some(0), body };
        assert_eq!(judge(&answer(br#"{"product":"A""#), r#""product":"A""#, true), Err(Flaw::NoJson));
        assert_eq!(judge(&answer(br#"{"product":"A""#), r#""product":"A""#, false), Ok((1, 0)));
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_while_idle_is_opened_again_once() {
        // The server closes each connection after its second answer.
        let report = viewed(
            stub(
                Duration::ZERO,
                |path, answered| {
                    if answered > 2 { String::new() } else { good(path, answered) }
                },
            )
            .await,
            9,
            |_| {},
        )
        .await;
        assert_eq!((flaws(&report), report.reads), (vec![], 18));
    }
}
