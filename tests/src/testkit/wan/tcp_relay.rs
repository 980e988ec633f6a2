//! A line for the connections to one address, through sockets. Bytes leave at the other end half a
//! round trip later.
//!
//! The relay has bytes and no packets. So it delays them, keeps a rate, and holds the bytes that a
//! cut names until the cut is gone, as TCP's retransmissions would. It cannot lose, reorder or
//! limit the size of packets. It runs on its own thread, so that other load on the machine does not
//! become jitter. Its clock is tokio's, which ticks in milliseconds.

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

/// Most bytes that are read at once.
const CHUNK_BYTES: usize = 65_536;
/// Most chunks under way in each direction of a connection. It is 16 MiB, which allows 3 GB a
/// second on a line of 10 ms.
const ON_THE_LINE_MAX: usize = 256;
/// Interval between two checks if a cut still holds the bytes.
const LOOK: Duration = Duration::from_millis(5);

/// A running relay. It ends when this value is dropped.
#[derive(Debug)]
pub struct TcpRelay {
    address: SocketAddr,
    line: Line,
    _relay: RelayThread,
}

impl TcpRelay {
    /// Starts a relay between the clients of [`TcpRelay::address`] and `target`. It adds
    /// `round_trip` to each round trip.
    ///
    /// # Errors
    ///
    /// Fails if no socket can be bound.
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

    /// Returns the address to connect to instead of the target.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the handle of its conditions and counts.
    #[must_use]
    pub fn line(&self) -> &Line {
        &self.line
    }
}

/// The line, which all connections share.
#[derive(Clone)]
struct Streams {
    line: Line,
    began: Instant,
    core: Arc<Mutex<Core<()>>>,
}

async fn relay(front: std::net::TcpListener, target: SocketAddr, line: Line) -> io::Result<()> {
    let front = TcpListener::from_std(front)?;
    // Jitter is the only randomness here.
    let streams = Streams { line, began: Instant::now(), core: Arc::new(Mutex::new(Core::new(0))) };
    loop {
        // An error concerns only the connection that was to be accepted.
        let Ok((near, _)) = front.accept().await else { continue };
        let streams = streams.clone();
        tokio::spawn(async move {
            streams.hold_while_cut(Way::There, 0, 0).await;
            // If the target does not answer, the connection breaks.
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
    /// Carries one direction of a connection to its end.
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
                    // End of the incoming stream.
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
        // Bytes travel in packets, and no packet is larger than the line's limit.
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

    /// Starts an echo server and a line to it.
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
