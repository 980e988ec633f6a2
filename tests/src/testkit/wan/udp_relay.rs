//! A line for the datagrams to one address, through sockets. It needs no rights, and can keep every
//! byte that crosses it.
//!
//! The dialling agent gets the relay's address instead of the other agent's. Each address that it
//! dials from becomes a flow with its own socket towards the other side, as in a NAT. The relay
//! runs on its own thread, so that other load on the machine does not become jitter. It never
//! changes a datagram. Its clock is tokio's, which ticks in milliseconds.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::conditions::{Protocol, Traffic, Way};
use super::core::Core;
use super::line::Line;
use super::packet::is_quic_data;
use crate::testkit::relay_thread::RelayThread;

/// Size of the read buffer in bytes. No UDP datagram is larger.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// Headers of IP and UDP in bytes. They are added because sizes are those of IP packets.
const HEADER_BYTES: usize = 28;
/// Most datagrams that have come back and wait for the relay (about 8 MiB of socket buffers).
const RETURNED_MAX: usize = 8_192;

/// A running relay. It ends when this value is dropped.
#[derive(Debug)]
pub struct UdpRelay {
    address: SocketAddr,
    line: Line,
    relay: RelayThread,
}

impl UdpRelay {
    /// Starts a relay between the senders to [`UdpRelay::address`] and `target`. The payload of
    /// each datagram that arrives, dropped or not, is appended to the file `capture`.
    ///
    /// # Errors
    ///
    /// Fails if no socket can be bound, or the file cannot be created.
    pub fn start(target: SocketAddr, capture: Option<&Path>, seed: u64) -> io::Result<UdpRelay> {
        let line = Line::new(capture)?;
        let front = std::net::UdpSocket::bind("127.0.0.1:0")?;
        front.set_nonblocking(true)?;
        let address = front.local_addr()?;
        let shared = line.clone();
        let relay = move || async move { relay(front, target, &shared, seed).await };
        let relay = RelayThread::start("udp-relay", RelayThread::runtime()?, relay)?;
        Ok(UdpRelay { address, line, relay })
    }

    /// Returns the address for the dialling agent.
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

impl Drop for UdpRelay {
    fn drop(&mut self) {
        self.relay.end();
        // An owner that reads the capture flushes it before. This flush is for all others.
        let _written = self.line.flush();
    }
}

/// Way out of the relay for a datagram.
enum Exit {
    /// To the target, through the flow's socket.
    There(Arc<UdpSocket>),
    /// To the flow's dialler, through the front socket.
    Back(SocketAddr),
}

async fn relay(front: std::net::UdpSocket, target: SocketAddr, line: &Line, seed: u64) -> io::Result<()> {
    let front = UdpSocket::from_std(front)?;
    let mut flows: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let (returned, mut returning) = mpsc::channel(RETURNED_MAX);
    let (began, mut core) = (Instant::now(), Core::new(seed));
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let leaves = core.next_leaves().and_then(|at| began.checked_add(at));
        let entered = tokio::select! {
            received = front.recv_from(&mut buffer) => {
                // An error here is an ICMP answer to an earlier datagram: nothing was received.
                let Ok((length, dialler)) = received else { continue };
                let flow = match flows.get(&dialler) {
                    Some(flow) => Arc::clone(flow),
                    None => {
                        let flow = open_flow(target, dialler, returned.clone()).await?;
                        flows.insert(dialler, Arc::clone(&flow));
                        flow
                    }
                };
                Some((Way::There, Exit::There(flow), buffer[..length].to_vec()))
            }
            Some((dialler, payload)) = returning.recv() => Some((Way::Back, Exit::Back(dialler), payload)),
            () = sleep_until(leaves.unwrap_or(began).into()), if leaves.is_some() => None,
        };
        if let Some((way, exit, payload)) = entered {
            line.keep(&payload)?;
            let datagram = Traffic {
                protocol: Protocol::Udp,
                bytes: payload.len() + HEADER_BYTES,
                is_behind_handshake: is_quic_data(&payload),
            };
            let conditions = line.conditions();
            let _dropped = core.handle_packet(began.elapsed(), way, datagram, (exit, payload), &conditions);
        }
        let leaving: Vec<_> = std::iter::from_fn(|| core.poll_leaving(began.elapsed())).collect();
        let late: Vec<_> =
            leaving.iter().map(|datagram| began.elapsed().saturating_sub(datagram.at)).collect();
        // Counted before the datagram is sent, so that its receiver finds it in the counts.
        line.publish(core.counts(), &late);
        for (exit, payload) in leaving.into_iter().map(|datagram| datagram.payload) {
            send(&front, &exit, &payload).await;
        }
    }
}

/// Opens a socket towards the target for one dialler, and starts a task that returns what the
/// socket receives.
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
            // The error is "connection refused" while the target restarts. The flow stays, as it
            // would in a NAT.
            let Ok(length) = receiver.recv(&mut buffer).await else { continue };
            if returned.send((dialler, buffer[..length].to_vec())).await.is_err() {
                return;
            }
        }
    });
    Ok(socket)
}

/// Sends a datagram. If the socket refuses it, the datagram counts as lost on the line.
async fn send(front: &UdpSocket, exit: &Exit, payload: &[u8]) {
    let _sent = match exit {
        Exit::There(flow) => flow.send(payload).await,
        Exit::Back(dialler) => front.send_to(payload, dialler).await,
    };
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// Starts an echo server and a relay in front of it, and connects a socket to the relay.
    async fn line(capture: Option<&Path>) -> (UdpRelay, UdpSocket) {
        let echo = UdpSocket::bind("127.0.0.1:0").await.expect("free port");
        let target = echo.local_addr().expect("bound");
        tokio::spawn(async move {
            let mut buffer = [0; 2_000];
            while let Ok((length, from)) = echo.recv_from(&mut buffer).await {
                echo.send_to(&buffer[..length], from).await.expect("loopback");
            }
        });
        let relay = UdpRelay::start(target, capture, 1).expect("relay");
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
        relay.line().flush().expect("written");
        assert_eq!(std::fs::read(&path).expect("captured"), b"hellohelloanotheranother");
        assert_eq!((relay.line().counts().entered, relay.line().counts().dropped()), (4, 0));
    }

    #[tokio::test]
    async fn a_cut_line_drops_everything_until_it_is_mended() {
        let (relay, dialler) = line(None).await;
        relay.line().cut(true);
        dialler.send(b"lost").await.expect("loopback");
        timeout(SOON, async {
            while relay.line().counts().cut != 1 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("dropped");
        relay.line().cut(false);
        assert_eq!(round_trip(&dialler, b"found").await, b"found");
    }

    #[tokio::test]
    async fn a_delayed_round_trip_lasts_at_least_the_delay() {
        let (relay, dialler) = line(None).await;
        relay.line().delay(Duration::from_millis(30));
        let started = Instant::now();
        round_trip(&dialler, b"slow").await;
        assert!(started.elapsed() >= Duration::from_millis(30));
    }

    #[tokio::test]
    async fn a_lossy_line_loses_some_and_not_all() {
        let (relay, dialler) = line(None).await;
        relay.line().lose(300_000);
        timeout(SOON, async {
            while relay.line().counts().entered < 1_000 {
                dialler.send(b"maybe").await.expect("loopback");
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("relayed");
        let counts = relay.line().counts();
        assert!(counts.lost > counts.entered / 10 && counts.lost < counts.entered / 2, "{counts:?}");
    }
}
