//! A TCP relay that is a long line: what goes in at one end comes out at the other half a round trip later.
//!
//! The TCP sibling of the [`wiretap`](crate::testkit::wiretap), for what Bridge is compared with: a standby's replication stream, a
//! base backup. Any number of bytes may be on their way, up to a bound that no line here fills. It runs on a thread of its
//! own, so that the load it shares a machine with does not become jitter.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::testkit::relay_thread::RelayThread;

/// The most that is read at once.
const CHUNK_BYTES: usize = 65_536;
/// Chunks on their way at once, each way: 16 MiB, which is 3 GB a second on a line of 10 ms.
const ON_THE_LINE_MAX: usize = 256;

/// A running relay; it ends when this is dropped.
#[derive(Debug)]
pub struct TcpLine {
    address: SocketAddr,
    _relay: RelayThread,
}

impl TcpLine {
    /// Relays between whoever connects to [`TcpLine::address`] and `target`; a round trip lasts this much longer.
    ///
    /// # Errors
    /// When no socket can be bound.
    pub fn start(target: SocketAddr, round_trip: Duration) -> io::Result<TcpLine> {
        let front = std::net::TcpListener::bind("127.0.0.1:0")?;
        front.set_nonblocking(true)?;
        let address = front.local_addr()?;
        let relay = move || relay(front, target, round_trip / 2);
        let relay = RelayThread::start("tcp-line", RelayThread::runtime()?, relay)?;
        Ok(TcpLine { address, _relay: relay })
    }

    /// Where to connect to instead of the target.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn relay(front: std::net::TcpListener, target: SocketAddr, one_way: Duration) -> io::Result<()> {
    let front = TcpListener::from_std(front)?;
    loop {
        // An error is of the one connection that was to be accepted.
        let Ok((near, _)) = front.accept().await else { continue };
        tokio::spawn(async move {
            // A target that does not answer is a connection that breaks.
            let Ok(far) = TcpStream::connect(target).await else { return };
            if near.set_nodelay(true).is_ok() && far.set_nodelay(true).is_ok() {
                let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
                tokio::join!(carry(near_read, far_write, one_way), carry(far_read, near_write, one_way));
            }
        });
    }
}

/// One way of one connection, up to its end.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, one_way: Duration) {
    let (line, mut on_the_line) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_LINE_MAX);
    let entering = async move {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            match from.read_buf(&mut chunk).await {
                Ok(1..) if line.send((Instant::now() + one_way, chunk)).await.is_ok() => {}
                // The end of what comes, or nobody takes it any more.
                _ => return,
            }
        }
    };
    let leaving = async move {
        while let Some((due, chunk)) = on_the_line.recv().await {
            sleep_until(due).await;
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
        let _closed = to.shutdown().await;
    };
    tokio::join!(entering, leaving);
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);
    const ROUND_TRIP: Duration = Duration::from_millis(30);

    /// A line to a server that sends back what it gets, up to the end.
    async fn line() -> TcpLine {
        let echo = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let target = echo.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((stream, _)) = echo.accept().await {
                let (mut read, mut write) = stream.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut read, &mut write).await });
            }
        });
        TcpLine::start(target, ROUND_TRIP).expect("a line")
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
}
