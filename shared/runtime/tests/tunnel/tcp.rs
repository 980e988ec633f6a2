//! Tests of what only TCP has: lanes that join their link by its key, anchors, and connections that
//! are no TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bridge_certs::{Ca, Issued};
use bridge_protocol::domain::identity::Role;
use bridge_protocol::wire::lane::{LANES_MAX, Lane};
use bridge_protocol::wire::tcp::{LINK_KEY_BYTES, LinkKey, lane_opening};
use bridge_runtime::config::TransportChoice;
use bridge_runtime::telemetry::metrics::RefusalReason;
use bridge_runtime::tunnel::{LinkEnd, LinkId, TunnelEvent};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::agents::{Home, Log, RunningTunnel, ca, eventually, issue, over};
use crate::stranger::{self, Connection, Stranger, Stream};

/// An IDC agent over TCP, and the link of a stranger with a cloud agent's certificate.
struct Scene {
    ca: Ca,
    log: Log,
    idc: RunningTunnel,
    peer: Arc<Issued>,
    connection: Connection,
    _control: Stream,
    orders: Vec<Stream>,
    link: LinkId,
}

async fn scene() -> Scene {
    scene_with_idle_timeout(Duration::from_secs(12)).await
}

async fn scene_with_idle_timeout(idle_timeout: Duration) -> Scene {
    over(TransportChoice::Tcp);
    let (log, ca) = (Log::capture(), ca());
    let peer = Arc::new(issue(&ca, Role::Cloud, "there"));
    let home = Home::new(&ca, &issue(&ca, Role::Idc, "here")).listening();
    let mut idc = home.with(|config| config.idle_timeout = idle_timeout).start(Role::Idc);
    let connection = Stranger::with(&peer).dial(idc.address()).await.unwrap();
    let (control, orders) = stranger::link(&connection, 2).await;
    let link = idc.up().await.link;
    Scene { ca, log, idc, peer, connection, _control: control, orders, link }
}

impl Scene {
    /// Opens a connection with this certificate and these first bytes. Checks that it is refused
    /// with these words, and that the link still carries.
    async fn refuses(&mut self, certificate: &Issued, first: &[u8], words: &str) {
        let before = self.idc.refused(RefusalReason::Protocol);
        let other = Stranger::with(certificate).dial(self.idc.address()).await.unwrap();
        let mut refused = other.tcp().open(first).await;
        assert!(refused.read().await.is_none(), "the lane was answered");
        eventually("it is counted", || self.idc.refused(RefusalReason::Protocol) == before + 1).await;
        let lines = self.log.lines(&["WARN", "refused a peer", "reason=Protocol", words]);
        assert_eq!(lines.len(), 1, "{words:?} in {:#?}", self.log.lines(&[]));
        self.carries().await;
    }

    /// Checks that the link still carries a frame.
    async fn carries(&mut self) {
        self.orders[1].write_all(&[0, 0, 0, 2, 7, 7]).await;
        let frame = self.idc.next(|event| match event {
            TunnelEvent::Frame { link, payload, .. } => Some((link, payload)),
            TunnelEvent::Down { why, .. } => panic!("{why}"),
            _ => None,
        });
        assert_eq!(frame.await, (self.link, Bytes::from_static(&[7, 7])));
    }

    /// Waits until the link is down.
    async fn down(&mut self) -> LinkEnd {
        self.idc
            .next(|event| match event {
                TunnelEvent::Down { why, .. } => Some(why),
                _ => None,
            })
            .await
    }
}

#[tokio::test]
async fn a_lane_that_joins_another_agents_link_is_refused() {
    let mut scene = scene().await;
    let other = issue(&scene.ca, Role::Cloud, "other");
    let opening = lane_opening(Lane::Feed, scene.connection.tcp().key);
    let words = "names a link of spiffe://bridge.test/cloud/there";
    scene.refuses(&other, &opening, words).await;
}

#[tokio::test]
async fn a_lane_of_no_link_is_refused() {
    let mut scene = scene().await;
    let peer = scene.peer.clone();
    let opening = lane_opening(Lane::Order(0), LinkKey([7; LINK_KEY_BYTES]));
    scene.refuses(&peer, &opening, "names no link of this agent").await;
}

#[tokio::test]
async fn a_lane_with_another_certificate_than_its_links_is_refused() {
    let mut scene = scene().await;
    let renewed = issue(&scene.ca, Role::Cloud, "there");
    let opening = lane_opening(Lane::Feed, scene.connection.tcp().key);
    scene.refuses(&renewed, &opening, "another certificate than its link").await;
}

#[tokio::test]
async fn a_connection_that_opens_no_lane_is_refused() {
    let mut scene = scene().await;
    let peer = scene.peer.clone();
    scene.refuses(&peer, b"GET / HTTP/1.1\r\n", "does not open with a lane preamble").await;
    scene.refuses(&peer, b"BRDG\x01\x09\x00\x00", "lane kind 9 is not known").await;
}

#[tokio::test]
async fn lanes_without_end_are_refused_before_the_hello() {
    over(TransportChoice::Tcp);
    let (log, ca) = (Log::capture(), ca());
    let peer = issue(&ca, Role::Cloud, "there");
    let idc = Home::new(&ca, &issue(&ca, Role::Idc, "here")).listening().start(Role::Idc);
    let connection = Stranger::with(&peer).dial(idc.address()).await.unwrap();
    let mut lanes = Vec::new();
    for _ in 0..LANES_MAX + 8 {
        lanes.push(connection.open(&Lane::Order(0).preamble()).await);
    }
    eventually("some are refused", || idc.refused(RefusalReason::Protocol) > 0).await;
    assert!(!log.lines(&["WARN", "more lanes than a link has"]).is_empty());
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_gone_after_the_idle_timeout() {
    let mut scene = scene_with_idle_timeout(Duration::from_secs(2)).await;
    scene.connection.tcp().fall_silent();
    assert_eq!(scene.down().await, LinkEnd::TimedOut);
}

#[tokio::test]
async fn a_peer_that_goes_without_a_word_is_noticed_at_once() {
    let mut scene = scene_with_idle_timeout(Duration::from_secs(600)).await;
    let other = issue(&scene.ca, Role::Cloud, "other");
    scene.connection = Stranger::with(&other).dial(scene.idc.address()).await.unwrap();
    let why = scene.down().await;
    assert!(matches!(&why, LinkEnd::Broken(said) if said.contains("the other end is gone")), "{why:?}");
}

#[tokio::test]
async fn a_lane_whose_connection_breaks_ends_its_link_without_blame() {
    let mut scene = scene().await;
    scene.orders.pop();
    let why = scene.down().await;
    assert!(matches!(&why, LinkEnd::Broken(said) if said.contains("one of its lanes")), "{why:?}");
    assert_eq!(scene.idc.refused(RefusalReason::Protocol), 0);
}

#[tokio::test]
async fn a_peer_that_names_no_protocol_is_refused() {
    over(TransportChoice::Tcp);
    let (log, ca) = (Log::capture(), ca());
    let peer = issue(&ca, Role::Cloud, "there");
    let idc = Home::new(&ca, &issue(&ca, Role::Idc, "here")).listening().start(Role::Idc);
    let stranger = Stranger { alpn: b"", ..Stranger::with(&peer) };
    assert!(stranger.dial(idc.address()).await.is_none());
    idc.refusal(RefusalReason::ForeignProtocol).await;
    assert_eq!(log.lines(&["WARN", "refused a peer", "ALPN bridge/1"]).len(), 1);
}

#[tokio::test]
async fn a_connection_that_is_no_tls_is_refused() {
    over(TransportChoice::Tcp);
    let ca = ca();
    let idc = Home::new(&ca, &issue(&ca, Role::Idc, "here")).listening().start(Role::Idc);
    let mut browser = TcpStream::connect(idc.address()).await.unwrap();
    browser.write_all(b"GET / HTTP/1.1\r\nHost: bridge\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _reset = browser.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
    idc.refusal(RefusalReason::Handshake).await;
}

#[tokio::test]
async fn silent_connections_keep_no_agent_out() {
    over(TransportChoice::Tcp);
    let ca = ca();
    let mut idc = Home::new(&ca, &issue(&ca, Role::Idc, "vault")).listening().start(Role::Idc);
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(idc.address()).await.unwrap());
    }
    let mut shop =
        Home::new(&ca, &issue(&ca, Role::Cloud, "shop")).dialling(idc.address()).start(Role::Cloud);
    shop.up().await;
    idc.up().await;
    drop(silent);
}

#[tokio::test]
async fn a_peer_that_does_not_listen_over_tcp_is_told_of() {
    over(TransportChoice::Tcp);
    let (log, ca) = (Log::capture(), ca());
    let port = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let _agent = Home::new(&ca, &issue(&ca, Role::Cloud, "here")).dialling(address).start(Role::Cloud);
    let told = || !log.lines(&["WARN", "cannot reach the peer", "refused", "that TCP passes"]).is_empty();
    eventually("it is told of", told).await;
}
