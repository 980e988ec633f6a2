//! The storefront's listener: one current-thread runtime for each core behind SO_REUSEPORT, each
//! with its own sealer.
//!
//! A connection stays on its core, and so does the view of the catalogue for its reads.

/// One connection to its end.
mod conversation;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bridge_protocol::receipt::Verifier;
use bridge_runtime::address;
use bridge_runtime::audit_log::Batcher;
use bridge_runtime::open_files;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc;

use super::connection::connections::{Connections, LEAVING_MAX};
use super::connection::greeting::WatchedStream;
use super::connection::streams::Streams;
use super::front::Front;
use super::reads::catalogue::Catalogue;
use super::reads::thread_view::Reader;
use super::router;
use super::state::{Storefront, Worker};
use crate::body_mark::BodyMarks;
use crate::config::StorefrontConfig;
use crate::replica::update::Update;
use crate::seal::Sealer;
use conversation::{Protocols, converse};

/// Connections that the kernel queues until they are accepted.
const BACKLOG: i32 = 1_024;

/// Files of a serving thread besides its connections: its listener, and its wakers.
const FILES_OF_A_THREAD: usize = 8;

/// Pause after an error of accept (usually too many open files).
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Name of a serving thread as an essential part.
const SERVING_THREAD: &str = "a serving thread";

/// Returns the number of serving threads in a configuration.
pub fn workers(config: &StorefrontConfig) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    if config.workers == 0 { cores() } else { config.workers }
}

/// Returns the number of connections that are accepted: the configured number, or less if this
/// process has fewer files.
pub fn connections_in_force(config: &StorefrontConfig) -> usize {
    let of_threads = workers(config) * (FILES_OF_A_THREAD + LEAVING_MAX);
    config.connections_max.min(open_files::left_for_callers(open_files::may_open(), of_threads))
}

fn connections_of_a_thread(config: &StorefrontConfig) -> usize {
    connections_in_force(config).div_ceil(workers(config))
}

/// Binds the listener's sockets, one for each inbox of the replica's updates, and starts as many
/// serving threads.
///
/// Returns the address (chosen by the system if the configured port is 0) and the threads, which
/// end after the drain.
///
/// # Errors
///
/// Fails if the address cannot be bound or a thread cannot be started.
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
            audit: Batcher::new(storefront.audit.clone()),
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
                        // The connection ends in its own task.
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
        // The connection is counted here and not in its task, which runs later.
        let (number, pulse) = connections.open();
        let stream = WatchedStream::of(stream, pulse.clone());
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

/// Returns true if the process or the machine has no more file descriptors. Then a connection must
/// end before another can be accepted.
fn is_out_of_files(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let error = Errno::from_io_error(error);
    error == Some(Errno::MFILE) || error == Some(Errno::NFILE)
}
