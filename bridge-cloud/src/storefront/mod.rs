//! The storefront's listener: one current-thread runtime a core behind SO_REUSEPORT, each with its own sealer.
//!
//! A connection stays on its core, and so does the view of the catalogue that its reads are answered from. Limits of time and
//! size stand here and in `orders`; what a request means, in `catalogue` and `orders`.

/// Errors as RFC 9457 problems.
pub mod problem;

/// Which connections get on, and which make room.
mod connections;

/// A connection's bytes, watched.
mod greeting;

/// Answers that are written together.
mod together;

/// Line ends and lengths in requests.
mod lines;

/// Where the frames of HTTP/2 end.
mod frames;

/// Which answers of HTTP/2 are taken.
mod streams;

/// Bodies that are not whole.
mod uploads;

/// What every request meets first: reads are answered there, everything else is routed.
mod front;

/// Catalogue reads, from a path to an answer that was built before.
mod catalogue;

/// One thread's view of the replica, kept current.
mod reader;

/// The queries of catalogue reads.
mod query;

/// Percent signs in paths and queries.
mod escape;

/// Which path is whose, and what every other request passes.
mod router;

/// The document of all that is answered here.
mod openapi;

/// What of a write is in the audit log before it goes on.
mod audit;

/// Orders: from a request to a receipt, in one function.
pub mod orders;

/// Payments and refunds: from a request to how it stands.
mod payments;

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use bridge_protocol::domain::{Brand, Currency};
use bridge_protocol::note::NoteVerifier;
use bridge_protocol::receipt::Verifier;
use bridge_runtime::address;
use bridge_runtime::audit_log::{AuditLog, Gathering};
use bridge_runtime::config::Secret;
use bridge_runtime::open_files;
use bridge_runtime::shutdown::Shutdown;
use bridge_runtime::telemetry::metrics::Metrics;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::LocalOptions;
use tokio::sync::{RwLock, mpsc};
use tokio::time::timeout;

use crate::body_mark::BodyMarks;
use crate::config::StorefrontConfig;
use crate::order_link::{KeysWatch, OrderLink};
use crate::replica::update::Update;
use crate::seal::Sealer;
use catalogue::Catalogue;
use connections::{Connections, LEAVING_MAX, Order, Pulse};
use front::Front;
use greeting::{Greeting, Version};
use reader::Reader;
use streams::Streams;

/// Connections that the kernel keeps for us until they are accepted.
const BACKLOG: i32 = 1_024;

/// A request's head; a larger one is answered 431.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What a serving thread keeps open beside its connections: its listener, and what wakes it.
const FILES_OF_A_THREAD: usize = 8;

/// After an error of accept (mostly too many open files) nothing is accepted for this long.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A connection whose requests are given up has so long to answer them.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(1);

/// What is lost when one of them ends by itself.
const SERVING_THREAD: &str = "a serving thread";

/// What all serving threads share.
pub struct Storefront {
    /// The brands that are served, by name.
    pub brands: HashMap<String, Shop>,
    /// Limits.
    pub config: StorefrontConfig,
    /// How long a catalogue answer may be used again without asking.
    pub max_age: Duration,
    /// How long a read waits for the position that it asks for.
    pub min_seq_wait: Duration,
    /// Orders that may wait for a link.
    pub queue_max: usize,
    /// The way to the IDC.
    pub link: OrderLink,
    /// What is sent and answered is in it first.
    pub audit: AuditLog,
    /// The way of payments there.
    pub payments: OrderLink,
    /// How many payments may wait for that way.
    pub payments_queue_max: usize,
    /// The keys to seal to.
    pub sealing: KeysWatch,
    /// The IDC keys that may sign a receipt.
    pub pinned: Vec<NoteVerifier>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Whether the agent is ending.
    pub shutdown: Shutdown,
}

/// One brand's shop.
pub struct Shop {
    /// Its name.
    pub brand: Brand,
    /// The bearer token its storefront shows.
    pub token: Secret,
    /// What it sells in.
    pub currency: Currency,
}

/// One serving thread's view: what is shared, and its own sealer and verifier.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Storefront>,
    pub(crate) sealer: Sealer,
    /// The same for all threads: a request may come again on another one.
    pub(crate) marks: BodyMarks,
    /// Its way into the audit log.
    pub(crate) audit: Gathering,
    /// Locked by its own thread alone, and never across an await.
    pub(crate) receipts: Mutex<Verifier>,
    /// Read by each write under way, whether or not its caller is still there: the thread ends after the last of them.
    pub(crate) under_way: Arc<RwLock<()>>,
}

/// How many serving threads a configuration means.
pub fn workers(config: &StorefrontConfig) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    if config.workers == 0 { cores() } else { config.workers }
}

/// How many connections are taken at a time: as many as are asked for, and as this process has files for.
pub fn connections_in_force(config: &StorefrontConfig) -> usize {
    let of_threads = workers(config) * (FILES_OF_A_THREAD + LEAVING_MAX);
    config.connections_max.min(open_files::left_for_callers(open_files::may_open(), of_threads))
}

fn connections_of_a_thread(config: &StorefrontConfig) -> usize {
    connections_in_force(config).div_ceil(workers(config))
}

/// Binds the listener's sockets, one for each inbox of the replica's updates, and starts as many serving threads.
///
/// Returns the address (the system's choice where port 0 was configured) and the threads, which end after the drain.
pub fn start(
    storefront: Arc<Storefront>,
    inboxes: Vec<mpsc::Receiver<Update>>,
) -> io::Result<(SocketAddr, Vec<JoinHandle<()>>)> {
    let workers = inboxes.len();
    let first = bind(storefront.config.listen)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        listeners.push(bind(address)?);
    }
    let connections_max = connections_of_a_thread(&storefront.config);
    let marks = BodyMarks::default();
    let spawn = |(index, (listener, inbox)): (usize, (TcpListener, mpsc::Receiver<Update>))| {
        let worker = Worker {
            sealer: Sealer::new(storefront.sealing.clone(), marks.clone(), storefront.metrics.clone()),
            marks: marks.clone(),
            audit: Gathering::new(storefront.audit.clone()),
            receipts: Mutex::new(Verifier::new(storefront.pinned.clone())),
            shared: storefront.clone(),
            under_way: Arc::default(),
        };
        let thread = std::thread::Builder::new().name(format!("storefront-{index}"));
        let shutdown = storefront.shutdown.clone();
        thread.spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build_local(LocalOptions::default());
            let served = shutdown.core(SERVING_THREAD, serve(worker, listener, connections_max, inbox));
            if let Err(error) = runtime.and_then(|runtime| runtime.block_on(served)) {
                tracing::error!(%error, "a serving thread ended");
                shutdown.lose(SERVING_THREAD);
            }
        })
    };
    let threads = listeners.into_iter().zip(inboxes).enumerate().map(spawn).collect::<io::Result<_>>()?;
    Ok((address, threads))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    address::bind(&socket, address)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

async fn serve(
    worker: Worker,
    listener: TcpListener,
    connections_max: usize,
    inbox: mpsc::Receiver<Update>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (shared, under_way) = (worker.shared.clone(), worker.under_way.clone());
    let reader = Rc::new(Reader::default());
    let view = reader.clone();
    let current = shared.shutdown.core(SERVING_THREAD, async move { view.keep_current(inbox).await });
    tokio::task::spawn_local(current);
    let catalogue = Catalogue::new(reader, shared.max_age);
    let streams = Streams::new(shared.config.stall_timeout, shared.metrics.clone());
    let front = Front::new(catalogue, shared.clone(), router::router(worker), streams.clone());
    let connections = Rc::new(Connections::new(&shared.config, connections_max, shared.metrics.clone()));
    let watched = connections.clone();
    tokio::task::spawn_local(async move { watched.watch().await });
    let http = Rc::new(Protocols::new(&shared.config, streams));
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accept a storefront connection");
                    if is_out_of_files(&error) && connections.shrink(connections_of_a_thread(&shared.config)) {
                        // It ends in its own task.
                        tokio::task::yield_now().await;
                    } else {
                        tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                    }
                    continue;
                }
            },
            _deadline = shared.shutdown.started() => break,
        };
        tokio::select! {
            () = connections.room() => {}
            _deadline = shared.shutdown.started() => break,
        }
        let _slower_at_worst = stream.set_nodelay(true);
        // Taken in here and not by its task, which has its turn later: what is accepted counts.
        let (number, pulse) = connections.open();
        let stream = Greeting::of(stream, pulse.clone());
        let (http, service, connections) =
            (http.clone(), front.clone().of(pulse.clone()), connections.clone());
        tokio::task::spawn_local(async move {
            converse(&http, service, &pulse, stream).await;
            connections.close(number);
        });
    }
    let answered = async {
        connections.end().await;
        drop(under_way.write().await);
    };
    tokio::select! {
        () = answered => {}
        () = shared.shutdown.overdue() => {}
    }
    Ok(())
}

/// Both versions of HTTP with their limits.
struct Protocols {
    one: http1::Builder,
    two: http2::Builder<Streams>,
}

impl Protocols {
    fn new(config: &StorefrontConfig, streams: Streams) -> Self {
        let mut one = http1::Builder::new();
        one.timer(TokioTimer::new())
            .header_read_timeout(config.header_timeout)
            .max_headers(64)
            .max_buf_size(HEAD_BYTES_MAX)
            // To copy an answer of ours behind its head costs less than to write the two as parts.
            .writev(false);
        let mut two = http2::Builder::new(streams);
        two.timer(TokioTimer::new()).max_concurrent_streams(256).max_header_list_size(16 * 1024);
        Self { one, two }
    }
}

/// Serves one connection to its end.
async fn converse(http: &Protocols, service: front::Service, pulse: &Pulse, mut stream: Greeting) {
    let version = tokio::select! {
        version = stream.version() => version,
        _has_asked_for_nothing = poll_fn(|cx| pulse.poll_told(cx)) => return,
    };
    match version {
        Ok(Version::One) => converse_by_one(http, service, pulse, stream).await,
        Ok(Version::Two) => {
            let connection = pin!(http.two.serve_connection(TokioIo::new(stream), service));
            // A caller that cuts its connection or speaks no HTTP is its own business; hyper has answered what it could.
            let _ended = to_its_end(connection, pulse).await;
        }
        Err(_has_hung_up) => {}
    }
}

/// The same over HTTP/1.1. A request that hyper could not read is answered as well.
async fn converse_by_one(http: &Protocols, service: front::Service, pulse: &Pulse, stream: Greeting) {
    let Some((ended, mut parts)) = serve_by_one(&http.one, service, pulse, stream).await else { return };
    if let Some(why) = ended.err().and_then(|error| parts.io.inner().refusal(&error)) {
        let mut stream = parts.io.into_inner();
        stream.refuse(why);
        let Some((_answered, rest)) = serve_by_one(&http.one, parts.service, pulse, stream).await else {
            return;
        };
        parts = rest;
    }
    tokio::select! {
        () = parts.io.into_inner().end() => {}
        () = is_in_the_way(pulse) => {}
    }
}

/// Waits until a connection that is ending has to end now. One that is to leave does so already, and its caller is read to the end of
/// what it sends: else it may lose its answer.
async fn is_in_the_way(pulse: &Pulse) {
    while poll_fn(|cx| pulse.poll_told(cx)).await == Order::Leave {}
}

type ByOne = http1::Parts<TokioIo<Greeting>, front::Service>;

/// What is left of a connection after its end; `None` if it was cut.
async fn serve_by_one(
    builder: &http1::Builder,
    service: front::Service,
    pulse: &Pulse,
    stream: Greeting,
) -> Option<(hyper::Result<()>, ByOne)> {
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = WithoutShutdown { connection, pulse };
    let ended = to_its_end(Pin::new(&mut connection), pulse).await?;
    Some((ended, connection.connection.into_parts()))
}

/// A connection of hyper's, of either version.
trait Served {
    fn poll_served(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>>;

    /// It ends once it has answered what was asked.
    fn leave(self: Pin<&mut Self>);
}

impl Served for http2::Connection<TokioIo<Greeting>, front::Service, Streams> {
    fn poll_served(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.poll(cx)
    }

    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// One whose stream is used once more after its end.
struct WithoutShutdown<'pulse> {
    connection: http1::Connection<TokioIo<Greeting>, front::Service>,
    pulse: &'pulse Pulse,
}

impl Served for WithoutShutdown<'_> {
    fn poll_served(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let Self { connection, pulse } = self.get_mut();
        let served = connection.poll_without_shutdown(cx);
        // Behind the answers that are held back comes one that somebody else makes.
        if served.is_pending() && pulse.write_held() {
            return connection.poll_without_shutdown(cx);
        }
        served
    }

    fn leave(mut self: Pin<&mut Self>) {
        Pin::new(&mut self.connection).graceful_shutdown();
    }
}

/// Serves until the connection ends, or is cut: `None`.
async fn to_its_end(mut connection: Pin<&mut impl Served>, pulse: &Pulse) -> Option<hyper::Result<()>> {
    loop {
        let order = tokio::select! {
            biased;
            ended = poll_fn(|cx| connection.as_mut().poll_served(cx)) => return Some(ended),
            order = poll_fn(|cx| pulse.poll_told(cx)) => order,
        };
        connection.as_mut().leave();
        match order {
            Order::Leave => {}
            Order::GiveUp => {
                let rest = poll_fn(|cx| connection.as_mut().poll_served(cx));
                return timeout(GIVEN_UP_WITHIN, rest).await.ok();
            }
            Order::Cut => {
                // Once more, so that a caller that listens is told.
                let _told_or_not = poll_fn(|cx| Poll::Ready(connection.as_mut().poll_served(cx))).await;
                return None;
            }
        }
    }
}

/// Whether the process, or the machine, has no more file descriptors: somebody has to go, or nobody can come.
fn is_out_of_files(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let error = Errno::from_io_error(error);
    error == Some(Errno::MFILE) || error == Some(Errno::NFILE)
}
