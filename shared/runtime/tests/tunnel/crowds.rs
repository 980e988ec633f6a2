//! Tests of peers that are too many, too fast or too slow: strangers that begin handshakes and
//! never finish them, a peer that reconnects all the time, and one that does not read. Each harms
//! only itself.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bridge_certs::Ca;
use bridge_protocol::domain::identity::Role;
use bridge_runtime::telemetry::metrics::RefusalReason;
use bridge_runtime::tunnel::{LinkEnd, LinkUp, TunnelEvent};
use bytes::Bytes;
use quinn::{Connecting, Connection, ConnectionError, Endpoint};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::agents::{Home, Log, RunningTunnel, ca, eventually, issue, span};
use crate::stranger::{self, Stranger};

/// The agent's own address, and another address.
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

/// Handshakes that are begun and not finished. The agent's answers reach the strangers only after
/// `finish`.
struct Silent {
    begun: Vec<Connecting>,
    relay: JoinHandle<()>,
    passes: Arc<AtomicBool>,
    /// Connection ids of the strangers that the agent has answered.
    answered: Arc<Mutex<HashSet<Vec<u8>>>>,
}

impl Silent {
    /// Begins this many handshakes from this address. With `prove`, the strangers get the request
    /// to prove their address.
    async fn begin(count: usize, from: IpAddr, to: SocketAddr, prove: bool) -> Self {
        let (ca, client) = (ca(), Endpoint::client(SocketAddr::new(HERE, 0)).unwrap());
        let near = Arc::new(UdpSocket::bind(SocketAddr::new(HERE, 0)).await.unwrap());
        let far = UdpSocket::bind(SocketAddr::new(from, 0)).await.unwrap();
        let via = near.local_addr().unwrap();
        let (passes, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(HashSet::new())));
        let (open, seen) = (passes.clone(), answered.clone());
        let relay = tokio::spawn(async move {
            let (mut sent, mut answer, mut client) = ([0; 2048], [0; 2048], None);
            loop {
                tokio::select! {
                    received = near.recv_from(&mut sent) => if let Ok((bytes, source)) = received {
                        client = Some(source);
                        // A full buffer may lose a packet, as a line may.
                        let _lost = far.send_to(&sent[..bytes], to).await;
                    },
                    received = far.recv_from(&mut answer) => if let (Ok((bytes, _)), Some(client)) = (received, client) {
                        // Packets of type Retry pass (RFC 9000 section 17.2.5).
                        let is_retry = answer[0] & 0xf0 == 0xf0;
                        if open.load(Ordering::Relaxed) || (prove && is_retry) {
                            let _lost = near.send_to(&answer[..bytes], client).await;
                        }
                        // A long header has the destination's connection id after type and version,
                        // first its length and then the id (RFC 9000 section 17.2).
                        if answer[0] & 0x80 != 0 && !is_retry {
                            let id = answer[6..].iter().take(answer[5].into()).copied().collect();
                            seen.lock().unwrap().insert(id);
                        }
                    },
                }
            }
        });
        let issued = issue(&ca, Role::Cloud, "silent");
        let stranger = Stranger::with(&issued);
        let begin = |_| client.connect_with(stranger.client_config(), via, "stranger").unwrap();
        Self { begun: (0..count).map(begin).collect(), relay, passes, answered }
    }

    /// Lets all handshakes finish.
    async fn finish(mut self) -> Vec<Result<Connection, ConnectionError>> {
        self.passes.store(true, Ordering::Relaxed);
        let mut finished = Vec::new();
        for connecting in std::mem::take(&mut self.begun) {
            finished.push(connecting.await);
        }
        finished
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

fn idc(ca: &Ca) -> RunningTunnel {
    Home::new(ca, &issue(ca, Role::Idc, "vault")).listening().start(Role::Idc)
}

fn cloud(ca: &Ca, name: &str, to: SocketAddr) -> RunningTunnel {
    Home::new(ca, &issue(ca, Role::Cloud, name)).dialling(to).start(Role::Cloud)
}

/// Checks that the link carries a frame from the cloud agent.
async fn carries(cloud: &LinkUp, idc: &mut RunningTunnel) {
    cloud.sender.send(0, Bytes::from_static(&[0, 0, 0, 2, 7, 7])).unwrap();
    let frame = |event| match event {
        TunnelEvent::Frame { payload, .. } => Some(payload),
        _ => None,
    };
    assert_eq!(idc.next(frame).await, [7, 7][..]);
}

#[tokio::test]
async fn strangers_who_never_finish_keep_no_agent_out() {
    let ca = ca();
    // The first case is more than any queue holds. The second has a few hundred from the agent's
    // own address.
    for (count, from) in [(1_000, ELSEWHERE), (200, HERE)] {
        let mut idc = idc(&ca);
        let strangers = Silent::begin(count, from, idc.address(), true).await;
        eventually("they crowd each other", || idc.refused(RefusalReason::Crowded) > 0).await;
        let mut shop = cloud(&ca, "shop", idc.address());
        let up = shop.up().await;
        idc.up().await;
        carries(&up, &mut idc).await;
        shop.handle.close().await;
        // The agent is known from here on.
        let up = cloud(&ca, "shop", idc.address()).up().await;
        idc.up().await;
        carries(&up, &mut idc).await;
        drop(strangers);
    }
}

#[tokio::test]
async fn a_fleet_behind_one_address_does_not_crowd_itself_out() {
    const FLEET: usize = 24;
    let ca = ca();
    let home = Home::new(&ca, &issue(&ca, Role::Idc, "vault")).listening();
    let idc = home.with(|config| config.links_from_peer_max = FLEET).start(Role::Idc);
    let fleet = Silent::begin(FLEET, ELSEWHERE, idc.address(), true).await;
    let begun = || fleet.answered.lock().unwrap().len();
    eventually("all of them are under way at once", || begun() == FLEET).await;
    let finished = fleet.finish().await;
    assert!(finished.iter().all(Result::is_ok), "{finished:?}");
    assert_eq!(idc.refused(RefusalReason::Crowded), 0);
}

#[tokio::test]
async fn strangers_whose_address_is_not_their_own_take_no_room() {
    let ca = ca();
    let mut idc = idc(&ca);
    let strangers = Silent::begin(300, ELSEWHERE, idc.address(), false).await;
    // Other strangers at that address do receive answers. The agent asks them for the proof too.
    let proving = Silent::begin(20, ELSEWHERE, idc.address(), true).await;
    let mut shop = cloud(&ca, "shop", idc.address());
    let up = shop.up().await;
    idc.up().await;
    carries(&up, &mut idc).await;
    drop((strangers, proving));
}

pub(crate) async fn strangers_refused_all_day_are_counted_and_logged_a_few_times() {
    let (log, ca) = (Log::capture(), ca());
    let idc = idc(&ca);
    let late = ca.issue(Role::Cloud, "late", span(-7_200, -3_600)).unwrap();
    for _ in 0..40 {
        if let Some(connection) = Stranger::with(&late).dial(idc.address()).await {
            connection.end().await;
        }
    }
    eventually("each is counted", || idc.refused(RefusalReason::Expired) == 40).await;
    let told = log.lines(&["WARN", "refused a peer", "cloud/late"]).len();
    assert!((1..40).contains(&told), "{told} lines");
}

pub(crate) async fn a_reconnecting_peer_is_admitted_at_a_limit_and_harms_no_other() {
    let ca = ca();
    let mut idc = idc(&ca);
    let mut shop = cloud(&ca, "shop", idc.address());
    let up = shop.up().await;
    let restless = issue(&ca, Role::Cloud, "restless");
    let again = eventually_async("it is let in no more", async || {
        let connection = Stranger::with(&restless).dial(idc.address()).await;
        drop(connection);
        idc.refused(RefusalReason::TooOften) > 0
    });
    again.await;
    idc.up().await;
    carries(&up, &mut idc).await;
    assert_eq!(idc.handle.status().iter().filter(|link| link.peer.ends_with("cloud/shop")).count(), 1);
}

pub(crate) async fn a_peer_never_holds_more_links_than_its_limit() {
    let (log, ca) = (Log::capture(), ca());
    let home = Home::new(&ca, &issue(&ca, Role::Idc, "vault")).listening();
    let mut idc = home.with(|config| config.links_from_peer_max = 8).start(Role::Idc);
    let greedy = issue(&ca, Role::Cloud, "greedy");
    // These connections send nothing after the handshake.
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(Stranger::with(&greedy).dial(idc.address()).await.unwrap());
    }
    let ninth = Stranger::with(&greedy).dial(idc.address()).await.unwrap();
    let ended = ninth.end().await;
    assert!(ended.as_ref().is_some_and(|(code, _)| *code == 6), "{ended:?}");
    assert_eq!(idc.refused(RefusalReason::TooMany), 1);
    let told = log.lines(&["WARN", "cloud/greedy", "holds 8 links already", "tunnel.links_from_peer_max"]);
    assert_eq!(told.len(), 1);
    let up = cloud(&ca, "shop", idc.address()).up().await;
    carries(&up, &mut idc).await;
    // There is room again after the agent has given these connections up.
    for connection in held {
        connection.end().await;
    }
    let again = Stranger::with(&greedy).dial(idc.address()).await.unwrap();
    let _lanes = stranger::link(&again, 1).await;
    idc.up().await;
}

pub(crate) async fn a_peer_that_blocks_a_lane_loses_its_link_alone() {
    let ca = ca();
    let home = Home::new(&ca, &issue(&ca, Role::Idc, "vault")).listening();
    let mut idc = home.with(|config| config.idle_timeout = Duration::from_secs(2)).start(Role::Idc);
    let deaf = issue(&ca, Role::Cloud, "deaf");
    let connection = Stranger::with(&deaf).dial(idc.address()).await.unwrap();
    let (_control, _never_read) = stranger::link(&connection, 2).await;
    let deaf = idc.up().await;
    for _ in 0..8 {
        deaf.sender.send(1, Bytes::from(vec![0; 1 << 20])).unwrap();
    }
    let up = cloud(&ca, "shop", idc.address()).up().await;
    let other = idc.up().await;
    carries(&up, &mut idc).await;
    let down = |event| match event {
        TunnelEvent::Down { link, why } => Some((link, why)),
        _ => None,
    };
    let (link, why) = idc.next(down).await;
    assert_eq!((link, why), (deaf.link, LinkEnd::NotReading));
    carries(&up, &mut idc).await;
    assert_eq!(idc.handle.status().len(), 1);
    drop(other);
}

/// Repeats an action until it reports success.
async fn eventually_async(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let met = async { while !done().await {} };
    tokio::time::timeout(crate::agents::DEADLINE, met).await.unwrap_or_else(|_| panic!("never: {what}"));
}
