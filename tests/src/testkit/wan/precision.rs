//! Measurement of a [`Wan`]'s precision on this machine: its addition to a round trip, its
//! lateness, its largest packet rate, and its CPU time.
//!
//! A measurement over a line is only as good as the line. So each figure is measured over loopback
//! as well, by the same threads.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::{Conditions, Wan};
use crate::testkit::histogram::Histogram;
use crate::testkit::proc_stat::cpu_of_thread;

/// Size of a datagram. It is a usual one, and contains the time of sending.
const DATAGRAM_BYTES: usize = 200;
/// Datagrams a second. Each is echoed.
const PER_SECOND: u32 = 10_000;
/// Datagrams that are sent together. The sender then sleeps longer between them than the kernel
/// needs to wake it.
const BURST: u32 = 5;
const ROUND_TRIP: Duration = Duration::from_millis(10);
/// Wait for late echoes after the last datagram.
const AFTERWARDS: Duration = Duration::from_millis(300);
const CHUNK: usize = 64 << 10;

/// Precision of a line.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Precision {
    /// Packets a second that crossed the line for the two fields below: each datagram and its echo.
    pub packets_per_s: u64,
    /// Round trip of one datagram at a time over loopback.
    pub loopback: Quantiles,
    /// Round trip of one datagram at a time over a perfect line.
    pub perfect_line: Quantiles,
    /// Round trip at [`Precision::packets_per_s`] over loopback.
    pub loaded_loopback: Quantiles,
    /// Round trip at that rate over a line of 10 ms, without these 10 ms.
    pub over_10_ms: Quantiles,
    /// Lateness with which packets left that line.
    pub left_late: Quantiles,
    /// CPU time of the line's thread for each packet.
    pub cpu_ns_per_packet: u64,
    /// Packets a second of one TCP connection over a perfect line, both directions together.
    pub most_packets_per_s: u64,
    /// Megabytes a second of that TCP connection.
    pub most_mb_per_s: u64,
}

/// Quantiles in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Quantiles {
    /// Median.
    pub p50_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
}

/// Measures the precision. It takes about four times `each`.
///
/// # Errors
///
/// Fails if this machine cannot have a line, or if echoes do not come back.
pub fn measure(each: Duration) -> Result<Precision> {
    let loopback = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    let direct = |server: SocketAddr| Ok(server);
    let one_by_one = echoes(loopback()?, direct, |client| ping(client, each))?;
    let many = echoes(loopback()?, direct, |client| flood(client, each))?;

    let wan = Wan::start(1, None)?;
    let far = || UdpSocket::bind((wan.far(1), 0));
    let across = |server| wan.from_other_end(server);
    let perfect = echoes(far()?, across, |client| ping(client, each))?;
    wan.line().set(Conditions::round_trip(ROUND_TRIP));
    let _before = wan.line().take_late();
    let (entered, cpu) = (wan.line().counts().entered, cpu_of_thread(wan.device())?);
    let started = Instant::now();
    let slow = echoes(far()?, across, |client| flood(client, each))?;
    let (packets, took) = (wan.line().counts().entered - entered, started.elapsed() - AFTERWARDS);
    let cpu = cpu_of_thread(wan.device())? - cpu;
    let left_late = quantiles(&wan.line().take_late(), Duration::ZERO);
    wan.line().set(Conditions::default());
    let entered = wan.line().counts().entered;
    let started = Instant::now();
    let bytes = stream(&wan, each)?;
    let streamed = started.elapsed();
    let most = wan.line().counts().entered - entered;
    wan.has_seen_every_packet()?;
    Ok(Precision {
        packets_per_s: per_second(packets, took),
        loopback: quantiles(&one_by_one, Duration::ZERO),
        perfect_line: quantiles(&perfect, Duration::ZERO),
        loaded_loopback: quantiles(&many, Duration::ZERO),
        over_10_ms: quantiles(&slow, ROUND_TRIP),
        left_late,
        cpu_ns_per_packet: u64::try_from(cpu.as_nanos())? / packets.max(1),
        most_packets_per_s: per_second(most, streamed),
        most_mb_per_s: per_second(bytes, streamed) / 1_000_000,
    })
}

/// Runs an echo server, and calls it until `call` returns.
fn echoes(
    server: UdpSocket,
    dialled: impl FnOnce(SocketAddr) -> Result<SocketAddr>,
    call: impl FnOnce(&UdpSocket) -> io::Result<Histogram>,
) -> Result<Histogram> {
    let dialled = dialled(server.local_addr()?)?;
    let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    client.connect(dialled)?;
    client.set_read_timeout(Some(AFTERWARDS))?;
    server.set_read_timeout(Some(AFTERWARDS))?;
    let over = AtomicBool::new(false);
    let took = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; DATAGRAM_BYTES];
            while !over.load(Ordering::Relaxed) {
                // An error is a timeout, or the client is gone. The loop ends by its flag.
                if let Ok((length, from)) = server.recv_from(&mut buffer) {
                    let _sent = server.send_to(&buffer[..length], from);
                }
            }
        });
        let took = call(&client);
        over.store(true, Ordering::Relaxed);
        took
    })?;
    ensure!(took.count() > 0, "nothing came back");
    Ok(took)
}

/// Sends one datagram at a time.
fn ping(client: &UdpSocket, each: Duration) -> io::Result<Histogram> {
    let (mut took, mut buffer) = (Histogram::default(), [0; DATAGRAM_BYTES]);
    let until = Instant::now() + each;
    while Instant::now() < until {
        let sent = Instant::now();
        client.send(&buffer)?;
        client.recv(&mut buffer)?;
        took.record(sent.elapsed());
    }
    Ok(took)
}

/// Sends datagrams at a fixed rate, without waiting for echoes.
fn flood(client: &UdpSocket, each: Duration) -> io::Result<Histogram> {
    let began = Instant::now();
    let gap = Duration::from_secs(1) * BURST / PER_SECOND;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut datagram = [0; DATAGRAM_BYTES];
            let mut next = began;
            while began.elapsed() < each {
                for _ in 0..BURST {
                    let now = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    datagram[..8].copy_from_slice(&now.to_le_bytes());
                    let _sent = client.send(&datagram);
                }
                next += gap;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        let (mut took, mut buffer) = (Histogram::default(), [0; DATAGRAM_BYTES]);
        // Reads until no echo has come for a while.
        while client.recv(&mut buffer).is_ok() {
            let mut sent = [0; 8];
            sent.copy_from_slice(&buffer[..8]);
            took.record(began.elapsed().saturating_sub(Duration::from_nanos(u64::from_le_bytes(sent))));
        }
        Ok(took)
    })
}

/// Returns the bytes that one connection carries in that time.
fn stream(wan: &Wan, each: Duration) -> Result<u64> {
    let server = TcpListener::bind((wan.far(1), 0))?;
    let dialled = wan.from_other_end(server.local_addr()?)?;
    let received = std::thread::spawn(move || -> io::Result<u64> {
        let (mut stream, _) = server.accept()?;
        let (mut received, mut buffer) = (0, vec![0; CHUNK]);
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(received),
                more => received += more as u64,
            }
        }
    });
    let mut client = TcpStream::connect(dialled).context("dial across the line")?;
    let (chunk, until) = (vec![0; CHUNK], Instant::now() + each);
    while Instant::now() < until {
        client.write_all(&chunk)?;
    }
    drop(client);
    Ok(received.join().map_err(|_| io::Error::other("the receiver panicked"))??)
}

fn quantiles(took: &Histogram, less: Duration) -> Quantiles {
    let us = |permille| took.quantile(permille).saturating_sub(less).as_micros();
    let us = |permille| u64::try_from(us(permille)).unwrap_or(u64::MAX);
    Quantiles { p50_us: us(500), p99_us: us(990) }
}

fn per_second(count: u64, took: Duration) -> u64 {
    let nanos = took.as_nanos().max(1);
    u64::try_from(u128::from(count) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

impl Display for Precision {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rows = [
            ("an echo over loopback, one at a time", self.loopback),
            ("the same over a perfect line", self.perfect_line),
            ("an echo over loopback, at the rate below", self.loaded_loopback),
            ("over a line of 10 ms, time above 10 ms", self.over_10_ms),
            ("packets left the line later than they should", self.left_late),
        ];
        for (what, figures) in rows {
            writeln!(f, "{what:<50} p50 {:>6} us   p99 {:>6} us", figures.p50_us, figures.p99_us)?;
        }
        let (rate, cpu) = (self.packets_per_s, self.cpu_ns_per_packet);
        writeln!(f, "{:<50} {rate} packets/s, {cpu} ns of CPU a packet", "the rate")?;
        let (most, mb) = (self.most_packets_per_s, self.most_mb_per_s);
        writeln!(f, "{:<50} {most} packets/s, {mb} MB/s", "the most, one TCP connection")
    }
}
