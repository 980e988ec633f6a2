//! A UDP relay between the two agents: it keeps every byte that crossed the tunnel, and can be a bad line.
//!
//! The agent that dials is given the relay's address instead of the other's. Each address it dials from becomes a
//! flow with a socket of its own towards the other side, as in a NAT. Delay, loss and cuts are switched while it
//! runs, and loss follows a seed. It runs on a thread of its own, so that the load it shares a machine with does not
//! become jitter. It never changes a datagram.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::testkit::relay_thread::RelayThread;

/// Larger than any datagram over UDP.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// Datagrams on their way at once (about what 8 MiB of socket buffers hold); a real line drops what is too much.
const ON_THE_LINE_MAX: usize = 8_192;

/// A running relay; it ends when this is dropped.
#[derive(Debug)]
pub struct Wiretap {
    address: SocketAddr,
    line: Arc<Line>,
    relay: RelayThread,
}

/// What the relay's owner sets and reads.
#[derive(Debug, Default)]
struct Line {
    cut: AtomicBool,
    one_way_us: AtomicU64,
    loss_per_million: AtomicU32,
    datagrams: AtomicU64,
    dropped: AtomicU64,
    /// Locked for one buffered write a datagram, by the relay's thread alone but for [`Wiretap::flush`].
    capture: Option<Mutex<BufWriter<File>>>,
}

impl Wiretap {
    /// Relays between whoever sends to [`Wiretap::address`] and `target`, and appends the payload of each datagram
    /// that arrives, lost or not, to the file `capture`.
    ///
    /// # Errors
    /// When no socket can be bound or the file not be created.
    pub fn start(target: SocketAddr, capture: Option<&Path>, seed: u64) -> io::Result<Wiretap> {
        let capture = capture.map(File::create).transpose()?.map(|file| Mutex::new(BufWriter::new(file)));
        let front = std::net::UdpSocket::bind("127.0.0.1:0")?;
        front.set_nonblocking(true)?;
        let address = front.local_addr()?;
        let line = Arc::new(Line { capture, ..Line::default() });
        let shared = Arc::clone(&line);
        let relay = move || async move { relay(front, target, &shared, seed).await };
        let relay = RelayThread::start("wiretap", RelayThread::runtime()?, relay)?;
        Ok(Wiretap { address, line, relay })
    }

    /// Where the dialling agent sends to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Drops everything, in both directions, until it is switched back.
    pub fn cut(&self, cut: bool) {
        self.line.cut.store(cut, Ordering::Relaxed);
    }

    /// Makes a round trip last this much longer.
    pub fn delay(&self, round_trip: Duration) {
        let one_way = u64::try_from(round_trip.as_micros() / 2).unwrap_or(u64::MAX);
        self.line.one_way_us.store(one_way, Ordering::Relaxed);
    }

    /// Loses this many datagrams of a million, in both directions.
    pub fn lose(&self, per_million: u32) {
        self.line.loss_per_million.store(per_million, Ordering::Relaxed);
    }

    /// Datagrams that arrived so far, and how many of them were dropped.
    #[must_use]
    pub fn datagrams(&self) -> (u64, u64) {
        (self.line.datagrams.load(Ordering::Relaxed), self.line.dropped.load(Ordering::Relaxed))
    }

    /// Writes out what was captured so far.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn flush(&self) -> io::Result<()> {
        match &self.line.capture {
            Some(capture) => capture.lock().unwrap_or_else(PoisonError::into_inner).flush(),
            None => Ok(()),
        }
    }
}

impl Drop for Wiretap {
    fn drop(&mut self) {
        self.relay.end();
        // The owner flushes before it reads; this is for those who only wanted the line.
        let _written = self.flush();
    }
}

/// A datagram on the line.
struct Datagram {
    due: Instant,
    way: Way,
    payload: Vec<u8>,
}

/// Where a datagram leaves.
enum Way {
    /// Through the flow's socket, to the target.
    There(Arc<UdpSocket>),
    /// Through the front, to the flow's dialler.
    Back(SocketAddr),
}

async fn relay(front: std::net::UdpSocket, target: SocketAddr, line: &Line, seed: u64) -> io::Result<()> {
    let front = UdpSocket::from_std(front)?;
    let mut flows: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let (returned, mut returning) = mpsc::channel(ON_THE_LINE_MAX);
    // In order of arrival, which is the order of `due` but where the delay was just shortened: those wait a bit.
    let mut on_the_line: VecDeque<Datagram> = VecDeque::new();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let due = on_the_line.front().map(|first| first.due);
        let (way, payload) = tokio::select! {
            received = front.recv_from(&mut buffer) => {
                // An error here is an ICMP answer to something sent earlier: nothing was received.
                let Ok((length, dialler)) = received else { continue };
                let flow = match flows.get(&dialler) {
                    Some(flow) => Arc::clone(flow),
                    None => {
                        let flow = open_flow(target, dialler, returned.clone()).await?;
                        flows.insert(dialler, Arc::clone(&flow));
                        flow
                    }
                };
                (Way::There(flow), buffer[..length].to_vec())
            }
            Some((dialler, payload)) = returning.recv() => (Way::Back(dialler), payload),
            () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                while let Some(datagram) = on_the_line.pop_front_if(|first| first.due <= Instant::now()) {
                    send(&front, &datagram.way, &datagram.payload).await;
                }
                continue;
            }
        };
        line.datagrams.fetch_add(1, Ordering::Relaxed);
        line.keep(&payload)?;
        let lost = rng.random_ratio(line.loss_per_million.load(Ordering::Relaxed).min(1_000_000), 1_000_000);
        if lost || line.cut.load(Ordering::Relaxed) || on_the_line.len() >= ON_THE_LINE_MAX {
            line.dropped.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        match line.one_way_us.load(Ordering::Relaxed) {
            0 if on_the_line.is_empty() => send(&front, &way, &payload).await,
            delay => {
                let due = Instant::now() + Duration::from_micros(delay);
                on_the_line.push_back(Datagram { due, way, payload });
            }
        }
    }
}

/// A socket towards the target for one dialler, and a task that brings back what it receives.
async fn open_flow(
    target: SocketAddr,
    dialler: SocketAddr,
    returned: mpsc::Sender<(SocketAddr, Vec<u8>)>,
) -> io::Result<Arc<UdpSocket>> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(target).await?;
    let socket = Arc::new(socket);
    let receiver = Arc::clone(&socket);
    tokio::spawn(async move {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            // "Connection refused" while the target restarts: the flow stays, as it would in a NAT.
            let Ok(length) = receiver.recv(&mut buffer).await else { continue };
            if returned.send((dialler, buffer[..length].to_vec())).await.is_err() {
                return;
            }
        }
    });
    Ok(socket)
}

/// Sends, or loses: a socket that refuses a datagram is a line that dropped it.
async fn send(front: &UdpSocket, way: &Way, payload: &[u8]) {
    let _sent = match way {
        Way::There(flow) => flow.send(payload).await,
        Way::Back(dialler) => front.send_to(payload, dialler).await,
    };
}

impl Line {
    fn keep(&self, payload: &[u8]) -> io::Result<()> {
        match &self.capture {
            Some(capture) => capture.lock().unwrap_or_else(PoisonError::into_inner).write_all(payload),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// An echo server, a relay in front of it, and a socket that dials the relay.
    async fn line(capture: Option<&Path>) -> (Wiretap, UdpSocket) {
        let echo = UdpSocket::bind("127.0.0.1:0").await.expect("free port");
        let target = echo.local_addr().expect("bound");
        tokio::spawn(async move {
            let mut buffer = [0; 2_000];
            while let Ok((length, from)) = echo.recv_from(&mut buffer).await {
                echo.send_to(&buffer[..length], from).await.expect("loopback");
            }
        });
        let relay = Wiretap::start(target, capture, 1).expect("relay");
        let dialler = UdpSocket::bind("127.0.0.1:0").await.expect("free port");
        dialler.connect(relay.address()).await.expect("loopback");
        (relay, dialler)
    }

    async fn round_trip(dialler: &UdpSocket, text: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; 2_000];
        dialler.send(text).await.expect("loopback");
        let length = timeout(SOON, dialler.recv(&mut buffer)).await.expect("in time").expect("an echo");
        buffer.truncate(length);
        buffer
    }

    #[tokio::test]
    async fn datagrams_cross_both_ways_unchanged_and_are_kept() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("capture");
        let (relay, dialler) = line(Some(&path)).await;
        assert_eq!(round_trip(&dialler, b"hello").await, b"hello");
        let second = UdpSocket::bind("127.0.0.1:0").await.expect("free port");
        second.connect(relay.address()).await.expect("loopback");
        assert_eq!(round_trip(&second, b"another").await, b"another");
        relay.flush().expect("written");
        assert_eq!(std::fs::read(&path).expect("captured"), b"hellohelloanotheranother");
        assert_eq!(relay.datagrams(), (4, 0));
    }

    #[tokio::test]
    async fn a_cut_line_drops_everything_until_it_is_mended() {
        let (relay, dialler) = line(None).await;
        relay.cut(true);
        dialler.send(b"lost").await.expect("loopback");
        timeout(SOON, async {
            while relay.datagrams() != (1, 1) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("dropped");
        relay.cut(false);
        assert_eq!(round_trip(&dialler, b"found").await, b"found");
    }

    #[tokio::test]
    async fn a_delayed_round_trip_lasts_at_least_the_delay() {
        let (relay, dialler) = line(None).await;
        relay.delay(Duration::from_millis(30));
        let started = Instant::now();
        round_trip(&dialler, b"slow").await;
        assert!(started.elapsed() >= Duration::from_millis(30));
    }

    #[tokio::test]
    async fn a_lossy_line_loses_some_and_not_all() {
        let (relay, dialler) = line(None).await;
        relay.lose(300_000);
        timeout(SOON, async {
            while relay.datagrams().0 < 1_000 {
                dialler.send(b"maybe").await.expect("loopback");
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("relayed");
        let (all, dropped) = relay.datagrams();
        assert!(dropped > all / 10 && dropped < all / 2, "{dropped} of {all}");
    }
}
