//! Tests of the simulated WAN between two ends. The kernel's own datagrams and connections cross it
//! and meet its faults.
//!
//! The model has its own tests, without I/O. These tests are about the device. They need root, and
//! leave nothing behind.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bridge_skips::{Lack, skipped};
use bridge_tests::testkit::database::Database;
use bridge_tests::testkit::generated;
use bridge_tests::testkit::load::{Options, replay};
use bridge_tests::testkit::process::Programs;
use bridge_tests::testkit::site::{Setup, Site};
use bridge_tests::testkit::wan::{Conditions, Cut, HANDSHAKE_BYTES, MTU, Mtu, OneWay, Protocol, Wan, lacks};

/// Upper limit of each wait. It is generous, since other programs may use the machine.
const PATIENCE: Duration = Duration::from_secs(60);
const ROUND_TRIP: Duration = Duration::from_millis(10);
/// Lost packets of a million: 1 %.
const LOSS: u32 = 10_000;
/// Environment variable that makes this program open a WAN and wait to be killed.
const OPENER: &str = "BRIDGE_TEST_OPENS_A_WAN";

/// Opens a perfect line. Returns `None` if this machine cannot have one.
fn line() -> Result<Option<Wan>> {
    if let Some(lack) = lacks() {
        skipped(Lack::Tun, lack);
        return Ok(None);
    }
    Wan::start(12, None).map(Some)
}

/// A line with a realistic round trip and loss.
fn bad_line() -> Conditions {
    Conditions::round_trip(ROUND_TRIP).losing(LOSS)
}

/// Starts a server at the far end that echoes datagrams. Returns a socket at the near end that is
/// connected to it.
fn udp_echo(wan: &Wan) -> Result<UdpSocket> {
    let server = UdpSocket::bind((wan.far(1), 0))?;
    let client = UdpSocket::bind((wan.near(1), 0))?;
    client.connect(wan.from_other_end(server.local_addr()?)?)?;
    client.set_read_timeout(Some(Duration::from_millis(200)))?;
    std::thread::spawn(move || {
        let mut buffer = [0; 2_000];
        while let Ok((length, from)) = server.recv_from(&mut buffer) {
            // An empty datagram ends the server.
            if length == 0 {
                return;
            }
            let _sent = server.send_to(&buffer[..length], from);
        }
    });
    Ok(client)
}

/// Sends a datagram again and again until its echo comes. Returns `None` if no echo comes within
/// `patience`.
fn ping(client: &UdpSocket, datagram: &[u8], patience: Duration) -> Option<(Vec<u8>, Duration)> {
    let (until, mut buffer) = (Instant::now() + patience, [0; 2_000]);
    while Instant::now() < until {
        let sent = Instant::now();
        client.send(datagram).ok()?;
        if let Ok(length) = client.recv(&mut buffer) {
            return Some((buffer[..length].to_vec(), sent.elapsed()));
        }
    }
    None
}

/// Starts a server at the far end that takes one connection. Returns its address, and a thread that
/// returns the received bytes.
fn tcp_sink(wan: &Wan) -> Result<(std::net::SocketAddr, JoinHandle<io::Result<Vec<u8>>>)> {
    let server = TcpListener::bind((wan.far(1), 0))?;
    let dialled = wan.from_other_end(server.local_addr()?)?;
    let sink = std::thread::spawn(move || {
        let mut carried = Vec::new();
        server.accept()?.0.read_to_end(&mut carried)?;
        Ok(carried)
    });
    Ok((dialled, sink))
}

fn joined<T>(thread: JoinHandle<io::Result<T>>) -> Result<T> {
    Ok(thread.join().map_err(|_| io::Error::other("a thread panicked"))??)
}

/// Sends `bytes` bytes over one connection, and checks that they arrive unchanged.
fn transfer(wan: &Wan, bytes: usize) -> Result<()> {
    let (dialled, sink) = tcp_sink(wan)?;
    let sent: Vec<u8> = (0..bytes).map(|index| (index % 251) as u8).collect();
    let mut client = TcpStream::connect_timeout(&dialled, PATIENCE).context("dial across the line")?;
    client.write_all(&sent)?;
    drop(client);
    let carried = joined(sink)?;
    ensure!(carried == sent, "{} of {bytes} bytes arrived, or others", carried.len());
    Ok(())
}

#[test]
fn datagrams_cross_a_bad_line_unchanged_and_some_are_lost() -> Result<()> {
    let Some(wan) = line()? else { return Ok(()) };
    let client = udp_echo(&wan)?;
    wan.line().set(bad_line());
    const SENT: usize = 2_000;
    // Reads the echoes as they come, so that no socket buffer overflows.
    let echoes = client.try_clone()?;
    let echoes = std::thread::spawn(move || {
        let (mut arrived, mut buffer) = (0, [0; 2_000]);
        while let Ok(length) = echoes.recv(&mut buffer) {
            assert_eq!(buffer[..length], [7; 200]);
            arrived += 1;
        }
        Ok(arrived)
    });
    for _ in 0..SENT {
        client.send(&[7; 200])?;
        std::thread::sleep(Duration::from_micros(50));
    }
    let (arrived, counts) = (joined::<usize>(echoes)?, wan.line().counts());
    assert_eq!(counts.left + counts.lost, counts.entered, "{counts:?}");
    assert!(arrived < SENT && arrived > SENT * 9 / 10, "{arrived} of {SENT}");
    assert!((10..100).contains(&counts.lost), "{counts:?}");
    wan.line().set(Conditions::round_trip(ROUND_TRIP));
    let (echo, took) = ping(&client, b"slow", PATIENCE).context("no echo")?;
    assert_eq!(echo, b"slow");
    assert!(took >= ROUND_TRIP, "{took:?}");
    wan.has_seen_every_packet()
}

#[test]
fn a_connection_carries_its_bytes_over_a_line_that_loses_packets() -> Result<()> {
    let Some(wan) = line()? else { return Ok(()) };
    wan.line().set(bad_line());
    transfer(&wan, 1_000_000)?;
    let counts = wan.line().counts();
    assert!(counts.lost > 0 && counts.left > 1_000_000 / u64::from(MTU), "{counts:?}");
    Ok(())
}

#[test]
fn a_connection_survives_reordering_jitter_and_a_narrow_line() -> Result<()> {
    let Some(wan) = line()? else { return Ok(()) };
    wan.line().set(Conditions::both(OneWay {
        delay: ROUND_TRIP / 2,
        jitter: Duration::from_millis(2),
        reorder: 50_000,
        rate: Some(50_000_000),
        queue_bytes: 64 << 10,
        ..OneWay::default()
    }));
    transfer(&wan, 2_000_000)?;
    assert!(wan.line().counts().overflowed > 0, "the line's queue was never full: {:?}", wan.line().counts());
    Ok(())
}

#[test]
fn udp_can_be_cut_alone_and_tcp_alone_as_well() -> Result<()> {
    let Some(wan) = line()? else { return Ok(()) };
    let client = udp_echo(&wan)?;
    assert!(ping(&client, b"before", PATIENCE).is_some());
    wan.line().set(Conditions::default().cutting(Cut::UDP));
    assert!(ping(&client, b"cut", Duration::from_millis(300)).is_none());
    transfer(&wan, 10_000)?;
    wan.line().set(Conditions::default().cutting(Cut::TCP));
    assert!(ping(&client, b"mended", PATIENCE).is_some());
    let (dialled, _sink) = tcp_sink(&wan)?;
    let refused = TcpStream::connect_timeout(&dialled, Duration::from_millis(300));
    assert_eq!(refused.expect_err("a line that is cut connects").kind(), io::ErrorKind::TimedOut);
    wan.line().cut(false);
    transfer(&wan, 10_000)
}

#[test]
fn large_datagrams_can_be_cut_alone() -> Result<()> {
    let Some(wan) = line()? else { return Ok(()) };
    let client = udp_echo(&wan)?;
    // The packet size that the line lets through includes 28 bytes of headers.
    wan.line().set(Conditions::default().cutting(Cut::larger_than(1_280).of(Protocol::Udp)));
    assert!(ping(&client, &[1; 1_252], PATIENCE).is_some());
    assert!(ping(&client, &[1; 1_253], Duration::from_millis(300)).is_none());
    transfer(&wan, 100_000)
}

#[test]
fn data_can_be_cut_behind_a_handshake_that_passes() -> Result<()> {
    let Some(wan) = line()? else { return Ok(()) };
    wan.line().set(Conditions::default().cutting(Cut::DATA));
    let udp = udp_echo(&wan)?;
    let (long_header, short_header) = ([0xC3; 1_200], [0x43; 60]);
    assert!(ping(&udp, &long_header, PATIENCE).is_some());
    assert!(ping(&udp, &short_header, Duration::from_millis(300)).is_none());
    let (dialled, sink) = tcp_sink(&wan)?;
    let mut tcp = TcpStream::connect_timeout(&dialled, PATIENCE)?;
    let handshake = vec![1; HANDSHAKE_BYTES as usize];
    tcp.write_all(&handshake)?;
    tcp.write_all(&[2; 1_000])?;
    let until = Instant::now() + PATIENCE;
    while wan.line().counts().cut < 3 {
        ensure!(Instant::now() < until, "nothing was cut: {:?}", wan.line().counts());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!sink.is_finished());
    // TCP sends the segment again until it passes.
    wan.line().cut(false);
    drop(tcp);
    assert_eq!(joined(sink)?, [handshake, vec![2; 1_000]].concat());
    Ok(())
}

#[test]
fn a_sender_that_is_told_of_a_smaller_line_sends_smaller_packets() -> Result<()> {
    let Some(wan) = line()? else { return Ok(()) };
    let mtu = Some(Mtu { bytes: 1_280, is_reported: true });
    wan.line().set(Conditions::both(OneWay { mtu, ..OneWay::default() }));
    transfer(&wan, 1_000_000)?;
    assert!(wan.line().counts().too_large > 0, "no packet was larger");
    Ok(())
}

#[test]
fn who_dials_nobody_is_refused_across_the_line() -> Result<()> {
    let Some(wan) = line()? else { return Ok(()) };
    wan.line().set(Conditions::round_trip(ROUND_TRIP));
    let nobody = wan.from_other_end(wan.free_far_address()?)?;
    let refused =
        TcpStream::connect_timeout(&nobody, PATIENCE).expect_err("a port without a listener connects");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    let udp = UdpSocket::bind((wan.near(1), 0))?;
    udp.connect(nobody)?;
    udp.set_read_timeout(Some(PATIENCE))?;
    udp.send(b"anybody?")?;
    assert_eq!(
        udp.recv(&mut [0; 9]).expect_err("a port without a listener answers").kind(),
        io::ErrorKind::ConnectionRefused
    );
    Ok(())
}

#[test]
fn the_far_end_dials_as_well_and_ends_have_several_hosts() -> Result<()> {
    let Some(wan) = line()? else { return Ok(()) };
    wan.line().set(Conditions::round_trip(ROUND_TRIP));
    let server = TcpListener::bind((wan.near(62), 0))?;
    let dialled = wan.from_other_end(server.local_addr()?)?;
    let client = TcpStream::connect_timeout(&dialled, PATIENCE)?;
    let (_, from) = server.accept()?;
    // The near end sees the address of the far end's first host.
    assert_eq!(from, wan.from_other_end(client.local_addr()?)?);
    assert_eq!(client.local_addr()?.ip(), wan.far(1));
    assert!(wan.from_other_end(dialled).is_err());
    Ok(())
}

#[test]
fn lines_beside_one_another_have_addresses_of_their_own() -> Result<()> {
    let Some(one) = line()? else { return Ok(()) };
    let other = Wan::start(12, None)?;
    assert!(one.device() != other.device() && one.far(1) != other.far(1));
    one.line().cut(true);
    transfer(&other, 10_000)
}

#[tokio::test]
async fn two_agents_place_every_order_across_a_bad_line() -> Result<()> {
    if let Some(lack) = lacks() {
        skipped(Lack::Tun, lack);
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let plan = Arc::new(generated::hot(12, 300));
    let database = Database::Sqlite(dir.path().join("idc").join("ledger.db"));
    let setup = Setup { tapped: false, wan: true, ..Setup::default() };
    let brands = [(plan.brand.as_str(), plan.currency)];
    let site = Site::set_up(dir.path(), Programs::build()?, database, &brands, 12, setup).await?;
    site.import(&plan).await?;
    site.line.set(bad_line());
    let _bridge = site.start().await?;
    let options = Options {
        storefront: site.storefront,
        token: site.token(&plan.brand).to_owned(),
        callers: 16,
        patience: PATIENCE,
        title: String::new(),
    };
    assert_eq!(replay(&plan, &options).await.tally().placed, 300);
    assert!(site.line.counts().lost > 0, "{:?}", site.line.counts());
    Ok(())
}

/// Not a test. With the variable set, it opens a line, prints its device and waits to be killed.
#[test]
fn an_opener_opens_a_line_and_waits() -> Result<()> {
    if std::env::var_os(OPENER).is_some() {
        let wan = Wan::start(12, None)?;
        writeln!(io::stdout(), "\nopened {}", wan.device())?;
        std::thread::sleep(PATIENCE * 10);
    }
    Ok(())
}

#[test]
fn a_line_is_gone_with_the_process_that_opened_it_even_killed() -> Result<()> {
    let Some(dropped) = line()? else { return Ok(()) };
    let is_there = |device: &str| Path::new("/sys/class/net").join(device).exists();
    let device = dropped.device().to_owned();
    assert!(is_there(&device));
    drop(dropped);
    let mut opener = Command::new(std::env::current_exe()?);
    opener.args(["--exact", "wan::an_opener_opens_a_line_and_waits", "--nocapture"]).env(OPENER, "1");
    let mut opener = opener.stdout(Stdio::piped()).spawn()?;
    let said = BufReader::new(opener.stdout.take().context("no pipe")?);
    let opened =
        said.lines().map_while(Result::ok).find_map(|line| Some(line.strip_prefix("opened ")?.to_owned()));
    let opened = opened.context("the opener does not name its device")?;
    let was_there = is_there(&opened);
    opener.kill()?;
    opener.wait()?;
    assert!(was_there && !is_there(&opened), "{opened} is left behind");
    let routes = Command::new("ip").args(["route", "show", "table", "all"]).output()?.stdout;
    let routes = String::from_utf8_lossy(&routes).into_owned();
    assert!(!routes.split_whitespace().any(|word| word == opened), "{routes}");
    Ok(())
}
