//! Tests of agents that choose their transport: over what they link, and how a link moves when UDP
//! is blocked and passes again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bridge_protocol::domain::identity::Role;
use bridge_runtime::config::TransportChoice;
use bridge_runtime::tunnel::{LinkUp, TunnelEvent};
use bytes::Bytes;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::agents::{Home, Log, RunningTunnel, ca, eventually, issue};

/// Returns the transports of an agent's links.
fn transports(agent: &RunningTunnel) -> Vec<&'static str> {
    agent.handle.status().iter().map(|link| link.transport).collect()
}

/// Checks that the link carries a frame to this agent.
async fn carries(from: &LinkUp, to: &mut RunningTunnel) {
    from.sender.send(0, Bytes::from_static(&[0, 0, 0, 2, 7, 7])).unwrap();
    let frame = |event| match event {
        TunnelEvent::Frame { payload, .. } => Some(payload),
        _ => None,
    };
    assert_eq!(to.next(frame).await, [7, 7][..]);
}

#[tokio::test]
async fn each_pair_of_settings_links_over_what_both_have() {
    use TransportChoice::{Auto, Quic, Tcp};
    for (listens, dials, links) in [
        (Auto, Quic, "quic"),
        (Auto, Tcp, "tcp"),
        (Auto, Auto, "quic"),
        (Quic, Auto, "quic"),
        (Tcp, Auto, "tcp"),
    ] {
        let ca = ca();
        let home = Home::new(&ca, &issue(&ca, Role::Idc, "vault")).listening();
        let mut idc = home.with(|config| config.transport = listens).start(Role::Idc);
        let home = Home::new(&ca, &issue(&ca, Role::Cloud, "shop")).dialling(idc.address());
        let mut cloud = home.with(|config| config.transport = dials).start(Role::Cloud);
        let up = cloud.up().await;
        idc.up().await;
        carries(&up, &mut idc).await;
        assert_eq!(transports(&cloud), [links], "{listens:?}, {dials:?}");
        let why = &cloud.handle.status()[0].why_transport;
        assert_eq!(why == "tunnel.transport", dials != Auto, "{why}");
    }
}

/// A line for UDP and TCP at one port, of which each can be blocked.
struct Line {
    address: SocketAddr,
    udp_passes: Arc<AtomicBool>,
    /// While it is false there is no TCP connection.
    tcp_passes: watch::Sender<bool>,
    _carriers: JoinSet<()>,
}

impl Line {
    async fn start(to: SocketAddr) -> Self {
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap();
        let near = UdpSocket::bind(address).await.unwrap();
        let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (udp_passes, mut carriers) = (Arc::new(AtomicBool::new(true)), JoinSet::new());
        let passes = udp_passes.clone();
        carriers.spawn(async move {
            let (mut there, mut back, mut dialler) = ([0; 2_048], [0; 2_048], None);
            loop {
                tokio::select! {
                    received = near.recv_from(&mut there) => if let Ok((bytes, from)) = received {
                        dialler = Some(from);
                        if passes.load(Ordering::Relaxed) {
                            let _lost = far.send_to(&there[..bytes], to).await;
                        }
                    },
                    received = far.recv_from(&mut back) => if let (Ok((bytes, _)), Some(dialler)) = (received, dialler)
                        && passes.load(Ordering::Relaxed)
                    {
                        let _lost = near.send_to(&back[..bytes], dialler).await;
                    },
                }
            }
        });
        let (tcp_passes, passes) = watch::channel(true);
        carriers.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = front.accept().await {
                let mut passes = passes.clone();
                connections.spawn(async move {
                    let mut far = TcpStream::connect(to).await.unwrap();
                    tokio::select! {
                        _blocked = passes.wait_for(|passes| !passes) => {}
                        _ended = copy_bidirectional(&mut near, &mut far) => {}
                    }
                });
            }
        });
        Self { address, udp_passes, tcp_passes, _carriers: carriers }
    }
}

/// Lets an agent choose its transport. Neither side may wait for the time-out.
fn auto(home: Home) -> Home {
    home.with(|config| {
        config.transport = TransportChoice::Auto;
        config.idle_timeout = Duration::from_secs(600);
    })
}

#[tokio::test]
async fn a_link_moves_to_tcp_while_udp_is_blocked_and_back_again() {
    let (log, ca) = (Log::capture(), ca());
    let mut idc = auto(Home::new(&ca, &issue(&ca, Role::Idc, "vault")).listening()).start(Role::Idc);
    let line = Line::start(idc.address()).await;
    let home = Home::new(&ca, &issue(&ca, Role::Cloud, "shop")).dialling(line.address);
    let mut cloud = auto(home).start(Role::Cloud);
    let up = cloud.up().await;
    idc.up().await;
    carries(&up, &mut idc).await;
    assert_eq!((transports(&cloud), transports(&idc)), (vec!["quic"], vec!["quic"]));
    assert_eq!(cloud.handle.status()[0].why_transport, "preferred");

    line.udp_passes.store(false, Ordering::Relaxed);
    let up = cloud.up().await;
    carries(&up, &mut idc).await;
    eventually("TCP alone is left on both sides", || {
        transports(&cloud) == ["tcp"] && transports(&idc) == ["tcp"]
    })
    .await;
    let why = cloud.handle.status()[0].why_transport.clone();
    assert!(why.contains("nothing came over QUIC"), "{why}");

    line.udp_passes.store(true, Ordering::Relaxed);
    eventually("QUIC alone is left on both sides", || {
        transports(&cloud) == ["quic"] && transports(&idc) == ["quic"]
    })
    .await;
    assert_eq!(log.lines(&["WARN", "moved to the other transport", "from=\"quic\" to=\"tcp\""]).len(), 1);
    assert_eq!(log.lines(&["WARN", "moved to the other transport", "from=\"tcp\" to=\"quic\""]).len(), 1);
}

#[tokio::test]
async fn a_move_is_logged_if_the_tcp_link_ended_by_itself() {
    let (log, ca) = (Log::capture(), ca());
    let mut idc = auto(Home::new(&ca, &issue(&ca, Role::Idc, "vault")).listening()).start(Role::Idc);
    let line = Line::start(idc.address()).await;
    line.udp_passes.store(false, Ordering::Relaxed);
    let home = Home::new(&ca, &issue(&ca, Role::Cloud, "shop")).dialling(line.address);
    let mut cloud = auto(home).start(Role::Cloud);
    cloud.up().await;
    assert_eq!(transports(&cloud), ["tcp"]);

    line.udp_passes.store(true, Ordering::Relaxed);
    line.tcp_passes.send_replace(false);
    let up = cloud.up().await;
    while idc.handle.status().iter().all(|link| link.transport == "tcp") {
        idc.up().await;
    }
    carries(&up, &mut idc).await;
    assert_eq!(transports(&cloud), ["quic"]);
    assert_eq!(
        log.lines(&["WARN", "moved to the other transport", "from=\"tcp\" to=\"quic\"", "TCP: "]).len(),
        1
    );
}
