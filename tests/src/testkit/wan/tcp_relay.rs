//! A line for the connections to one address, through sockets: what goes in at one end comes out at the other half a round trip
//! later.
//!
//! It has bytes and no packets. So it delays, keeps a rate, and holds what a cut names until the cut is gone, as TCP's
//! retransmissions would; it loses, reorders and limits nothing. It runs on a thread of its own, so that the load it shares a
//! machine with does not become jitter. Its clock is tokio's, which ticks in milliseconds.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::conditions::{Conditions, Protocol, Traffic, Way};
use super::core::Core;
use super::flows::HANDSHAKE_BYTES;
use super::line::Line;
use crate::testkit::relay_thread::RelayThread;

/// The most that is read at once.
const CHUNK_BYTES: usize = 65_536;
/// Chunks on their way at once, each way of a connection: 16 MiB, which is 3 GB a second on a line of 10 ms.
const ON_THE_LINE_MAX: usize = 256;
/// How often what a cut holds looks whether it still does.
const LOOK: Duration = Duration::from_millis(5);

/// A running relay; it ends when this is dropped.
#[derive(Debug)]
pub struct TcpRelay {
    address: SocketAddr,
    line: Line,
    _relay: RelayThread,
}

impl TcpRelay {
    /// Relays between whoever connects to [`TcpRelay::address`] and `target`; a round trip lasts this much longer.
    ///
    /// # Errors
    /// When no socket can be bound.
    pub fn start(target: SocketAddr, round_trip: Duration) -> io::Result<TcpRelay> {
        let line = Line::new(None)?;
        line.set(Conditions::round_trip(round_trip));
        let front = std::net::TcpListener::bind("127.0.0.1:0")?;
        front.set_nonblocking(true)?;
        let address = front.local_addr()?;
        let shared = line.clone();
        let relay = move || relay(front, target, shared);
        let relay = RelayThread::start("tcp-relay", RelayThread::runtime()?, relay)?;
        Ok(TcpRelay { address, line, _relay: relay })
    }

    /// Where to connect to instead of the target.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its conditions and counts.
    #[must_use]
    pub fn line(&self) -> &Line {
        &self.line
    }
}

/// What all connections share: one line.
#[derive(Clone)]
struct Streams {
    line: Line,
    began: Instant,
    core: Arc<Mutex<Core<()>>>,
}

async fn relay(front: std::net::TcpListener, target: SocketAddr, line: Line) -> io::Result<()> {
    let front = TcpListener::from_std(front)?;
    // Nothing is left to chance here but jitter.
    let streams = Streams { line, began: Instant::now(), core: Arc::new(Mutex::new(Core::new(0))) };
    loop {
        // An error is of the one connection that was to be accepted.
        let Ok((near, _)) = front.accept().await else { continue };
        let streams = streams.clone();
        tokio::spawn(async move {
            streams.hold_while_cut(Way::There, 0, 0).await;
            // A target that does not answer is a connection that breaks.
            let Ok(far) = TcpStream::connect(target).await else { return };
            if near.set_nodelay(true).is_ok() && far.set_nodelay(true).is_ok() {
                let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
                let there = streams.carry(near_read, far_write, Way::There);
                let back = streams.carry(far_read, near_write, Way::Back);
                tokio::join!(there, back);
            }
        });
    }
}

impl Streams {
    /// One way of one connection, up to its end.
    async fn carry(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Way) {
        let (line, mut on_the_line) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_LINE_MAX);
        let entering = async move {
            let mut carried = 0;
            loop {
                let mut chunk = Vec::with_capacity(CHUNK_BYTES);
                match from.read_buf(&mut chunk).await {
                    Ok(1..) => {
                        carried += chunk.len() as u64;
                        self.hold_while_cut(way, chunk.len(), carried).await;
                        let leaves = self.schedule(way, chunk.len());
                        if line.send((leaves, chunk)).await.is_err() {
                            return;
                        }
                    }
                    // The end of what comes.
                    _ => return,
                }
            }
        };
        let leaving = async move {
            while let Some((leaves, chunk)) = on_the_line.recv().await {
                sleep_until(leaves).await;
                if to.write_all(&chunk).await.is_err() {
                    return;
                }
            }
            let _closed = to.shutdown().await;
        };
        tokio::join!(entering, leaving);
    }

    async fn hold_while_cut(&self, way: Way, bytes: usize, carried: u64) {
        let is_behind_handshake = carried > HANDSHAKE_BYTES;
        // Bytes travel in packets, none of which is larger than the line's.
        let bytes = bytes.min(usize::from(super::MTU));
        let traffic = Traffic { protocol: Protocol::Tcp, bytes, is_behind_handshake };
        while self.line.conditions().of(way).is_cut(traffic) {
            sleep(LOOK).await;
        }
    }

    fn schedule(&self, way: Way, bytes: usize) -> Instant {
        let conditions = self.line.conditions();
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let leaves = core.schedule_stream(self.began.elapsed(), way, bytes, &conditions);
        self.line.publish(core.counts(), &[]);
        self.began + leaves
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);
    const ROUND_TRIP: Duration = Duration::from_millis(30);

    /// A line to a server that sends back what it gets, up to the end.
    async fn line() -> TcpRelay {
        let echo = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let target = echo.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((stream, _)) = echo.accept().await {
                let (mut read, mut write) = stream.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut read, &mut write).await });
            }
        });
        TcpRelay::start(target, ROUND_TRIP).expect("a line")
    }

    #[tokio::test]
    async fn a_round_trip_lasts_at_least_the_delay() {
        let line = line().await;
        let mut stream = TcpStream::connect(line.address()).await.expect("loopback");
        for text in [b"first", b"again"] {
            let started = Instant::now();
            stream.write_all(text).await.expect("loopback");
            let mut back = [0; 5];
            timeout(SOON, stream.read_exact(&mut back)).await.expect("in time").expect("an echo");
            assert_eq!(&back, text);
            assert!(started.elapsed() >= ROUND_TRIP);
        }
    }

    #[tokio::test]
    async fn many_bytes_in_flight_arrive_unchanged_up_to_the_end() {
        let line = line().await;
        let sent: Vec<u8> = (0..4_000_000_u32).map(|index| (index % 251).to_le_bytes()[0]).collect();
        let (mut read, mut write) = TcpStream::connect(line.address()).await.expect("loopback").into_split();
        let copy = sent.clone();
        tokio::spawn(async move { write.write_all(&copy).await.and(write.shutdown().await) });
        let mut back = Vec::new();
        timeout(SOON, read.read_to_end(&mut back)).await.expect("in time").expect("an end");
        assert!(back == sent, "{} of {} bytes came back", back.len(), sent.len());
    }

    #[tokio::test]
    async fn a_cut_holds_what_it_names_until_it_is_mended() {
        let line = line().await;
        let mut stream = TcpStream::connect(line.address()).await.expect("loopback");
        line.line().cut(true);
        stream.write_all(b"held!").await.expect("loopback");
        let mut back = [0; 5];
        let held = timeout(2 * ROUND_TRIP, stream.read_exact(&mut back)).await;
        assert!(held.is_err(), "it crossed a line that is cut");
        line.line().cut(false);
        timeout(SOON, stream.read_exact(&mut back)).await.expect("in time").expect("an echo");
        assert_eq!(&back, b"held!");
    }
}
