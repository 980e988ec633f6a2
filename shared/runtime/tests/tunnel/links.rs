//! Tests of links between two agents that keep the rules: up, in use, silent, lost, restored and
//! drained.

use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::domain::identity::Role;
use bridge_protocol::wire::control::{BrandGrant, CREDITS, Grants, Heartbeat, Manifest, Obstacle, Readiness};
use bridge_protocol::wire::frame::{self, ORDER_FRAME_BYTES_MAX};
use bridge_runtime::config::{BitRate, DialTarget, PostQuantum, TransportChoice};
use bridge_runtime::telemetry::metrics::{Metrics, TransportKind};
use bridge_runtime::tunnel::{Greeting, LinkEnd, TunnelEvent};
use bytes::Bytes;

use crate::agents::{Home, Log, RunningTunnel, ca, eventually, issue, under_test};
use crate::stranger::{self, Stranger};

fn cloud(ca: &bridge_certs::Ca) -> Home {
    Home::new(ca, &issue(ca, Role::Cloud, "shop"))
}

fn idc(ca: &bridge_certs::Ca) -> Home {
    Home::new(ca, &issue(ca, Role::Idc, "vault"))
}

/// Returns a message. The tunnel does not read its content.
fn payload(number: u32) -> Manifest {
    Manifest { note: Bytes::from(number.to_be_bytes().repeat(100)) }
}

fn framed(number: u32) -> Bytes {
    frame::to_bytes(&payload(number), ORDER_FRAME_BYTES_MAX).unwrap()
}

async fn down(agent: &mut RunningTunnel) -> LinkEnd {
    agent
        .next(|event| match event {
            TunnelEvent::Down { why, .. } => Some(why),
            _ => None,
        })
        .await
}

async fn received(agent: &mut RunningTunnel) -> (u8, Bytes) {
    agent
        .next(|event| match event {
            TunnelEvent::Frame { lane, payload, .. } => Some((lane, payload)),
            _ => None,
        })
        .await
}

/// Returns the transport of this test, as links name it.
fn kind() -> TransportKind {
    if under_test() == TransportChoice::Tcp { TransportKind::Tcp } else { TransportKind::Quic }
}

/// Brings a link up and sends frames on every lane, in both directions.
async fn carries_frames(listener: (Home, Role), dialler: (Home, Role)) {
    let mut listener = listener.0.listening().start(listener.1);
    let mut dialler = dialler.0.dialling(listener.address()).start(dialler.1);
    let (here, there) = (dialler.up().await, listener.up().await);
    assert_eq!((&here.peer, &there.peer), (listener.handle.id(), dialler.handle.id()));
    assert_eq!((here.lanes, there.lanes, here.version), (3, 3, 1));
    let idc_sees = if here.peer.role() == Role::Idc { &here.hello } else { &there.hello };
    assert_eq!(idc_sees.window, 100);

    for (sender, receiver) in [(&here.sender, &mut listener), (&there.sender, &mut dialler)] {
        for number in 0..30 {
            sender.send(u8::try_from(number % 3).unwrap(), framed(number)).unwrap();
        }
        let mut next = [0, 1, 2];
        for _ in 0..30 {
            let (lane, bytes) = received(receiver).await;
            let number = &mut next[usize::from(lane)];
            assert_eq!(
                frame::decode::<Manifest>(bytes).unwrap(),
                payload(*number),
                "frames are in order on lane {lane}"
            );
            *number += 3;
        }
    }

    let (status, transport) = (dialler.handle.status(), kind());
    let name = transport.as_str();
    assert_eq!((status.len(), status[0].transport, status[0].dialled, status[0].lanes), (1, name, true, 3));
    assert!(!listener.handle.status()[0].dialled);
    assert!(serde_json::to_string(&status).unwrap().contains("spiffe://bridge.test/"));
    dialler.handle.close().await;
    assert_eq!(down(&mut dialler).await, LinkEnd::Here);
    assert!(matches!(down(&mut listener).await, LinkEnd::ByPeer(_)));
    assert!(here.sender.send(0, framed(0)).is_err(), "a link that is down takes no frames");
    let Metrics { links_opened, links_closed, links_up, .. } = &*listener.metrics;
    let counts = (links_opened.of(transport).get(), links_closed.of(transport).get());
    assert_eq!((counts, links_up.of(transport).get()), ((1, 1), 0));
}

pub(crate) async fn a_cloud_agent_dials_an_idc_agent() {
    let ca = ca();
    carries_frames((idc(&ca), Role::Idc), (cloud(&ca), Role::Cloud)).await;
}

pub(crate) async fn an_idc_agent_dials_a_cloud_agent() {
    let ca = ca();
    carries_frames((cloud(&ca), Role::Cloud), (idc(&ca), Role::Idc)).await;
}

pub(crate) async fn a_link_with_a_committed_rate_carries_frames_as_well() {
    let ca = ca();
    let rate = Some(BitRate::from_bits_per_second(50_000_000));
    let with_rate = |home: Home| home.with(|config| config.committed_rate = rate);
    carries_frames((with_rate(idc(&ca)), Role::Idc), (with_rate(cloud(&ca)), Role::Cloud)).await;
}

pub(crate) async fn one_side_may_only_prefer_what_the_other_requires() {
    let ca = ca();
    let idc = idc(&ca).with(|config| config.post_quantum = PostQuantum::Prefer);
    carries_frames((idc, Role::Idc), (cloud(&ca), Role::Cloud)).await;
}

pub(crate) async fn every_peer_gets_as_many_links_as_configured() {
    let ca = ca();
    let mut first = idc(&ca).listening().start(Role::Idc);
    let mut second = Home::new(&ca, &issue(&ca, Role::Idc, "attic")).listening().start(Role::Idc);
    let (one, two) = (first.address(), second.address());
    let home = cloud(&ca).with(|config| {
        config.links_per_peer = 2;
        config.dial = [one, two].map(|to| DialTarget { host: to.ip().to_string(), port: to.port() }).into();
    });
    let mut cloud = home.start(Role::Cloud);
    let mut peers = Vec::new();
    let mut ids = Vec::new();
    for _ in 0..4 {
        let up = cloud.up().await;
        peers.push(up.peer.name().to_owned());
        ids.push(up.link);
    }
    for agent in [&mut first, &mut second] {
        agent.up().await;
        agent.up().await;
    }
    peers.sort();
    ids.dedup();
    assert_eq!(peers, ["attic", "attic", "vault", "vault"]);
    assert_eq!((ids.len(), cloud.handle.status().len()), (4, 4));
}

pub(crate) async fn a_new_window_and_a_new_manifest_reach_a_live_link() {
    let ca = ca();
    let idc = idc(&ca).listening().start(Role::Idc);
    let mut cloud = cloud(&ca).dialling(idc.address()).start(Role::Cloud);
    cloud.up().await;
    let greeting =
        Greeting { window: 7, manifest: Bytes::from_static(b"signed"), ..idc.greeting.borrow().clone() };
    idc.greeting.send_replace(greeting);
    let (mut window, mut manifest) = (false, false);
    while !(window && manifest) {
        match cloud.event().await {
            TunnelEvent::Window { window: 7, .. } => window = true,
            TunnelEvent::Manifest { note, .. } => manifest = note == "signed",
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) async fn an_agents_obstacles_are_sent_on_each_link_and_on_change() {
    let ca = ca();
    let mut idc = idc(&ca).listening().start(Role::Idc);
    let tell = |obstacles: &[Obstacle]| {
        let readiness = Some(obstacles.iter().copied().collect());
        idc.greeting.send_modify(|greeting| greeting.readiness = readiness);
    };
    tell(&[Obstacle::Database]);
    let target = idc.address();
    let mut cloud = cloud(&ca).dialling(target).start(Role::Cloud);
    assert_eq!(cloud.up().await.target.as_deref(), Some(&*target.to_string()));
    for said in [&[Obstacle::Database][..], &[], &[Obstacle::AuditLog, Obstacle::Brand]] {
        tell(said);
        let heard = cloud.next(|event| match event {
            TunnelEvent::Readiness { obstacles, .. } => Some(obstacles),
            _ => None,
        });
        assert_eq!(heard.await, said.iter().copied().collect());
    }
    assert_eq!(idc.up().await.target, None);
}

fn grants(number: u64) -> Arc<Grants> {
    let shoes = BrandGrant { brand: "shoes".to_owned(), outstanding: 10, per_second: 100 };
    Arc::new(Grants { number, expires_millis: 1_000, brands: vec![shoes] })
}

pub(crate) async fn grants_reach_each_agent_that_knows_them_and_no_other() {
    let ca = ca();
    let mut idc = idc(&ca).listening().start(Role::Idc);
    let target = idc.address();
    let mut first = cloud(&ca).dialling(target).knowing(CREDITS).start(Role::Cloud);
    first.up().await;
    let other = Home::new(&ca, &issue(&ca, Role::Cloud, "shop-2"));
    let mut second = other.dialling(target).knowing(CREDITS).start(Role::Cloud);
    second.up().await;
    for number in 1..=3 {
        idc.greeting.send_modify(|greeting| greeting.grants = Some(grants(number)));
        for cloud in [&mut first, &mut second] {
            let heard = cloud.next(|event| match event {
                TunnelEvent::Grants { grants, .. } => Some(grants),
                _ => None,
            });
            assert_eq!(heard.await, *grants(number));
        }
    }
    assert!(idc.up().await.round_trip > Duration::ZERO);
    let mut older = cloud(&ca).dialling(target).start(Role::Cloud);
    older.up().await;
    idc.greeting.send_modify(|greeting| greeting.grants = Some(grants(4)));
    idc.greeting.send_modify(|greeting| greeting.window = 7);
    let first_of_two = older.next(|event| match event {
        TunnelEvent::Grants { .. } => Some(false),
        TunnelEvent::Window { window: 7, .. } => Some(true),
        _ => None,
    });
    assert!(first_of_two.await, "an older agent gets no grants");
}

pub(crate) async fn an_agent_without_readiness_is_linked_and_a_repeated_one_reported_once() {
    let ca = ca();
    let peer = issue(&ca, Role::Idc, "old");
    let mut cloud = cloud(&ca).listening().start(Role::Cloud);
    let connection = Stranger::with(&peer).dial(cloud.address()).await.unwrap();
    let (mut control, _orders) = stranger::link(&connection, 1).await;
    cloud.up().await;
    control.write(Heartbeat { clock_micros: 0, window: 5 }).await;
    assert!(matches!(cloud.event().await, TunnelEvent::Window { window: 5, .. }));
    // Reports the same unknown obstacles each time, with many repetitions.
    for _ in 0..20 {
        control.write(Readiness { obstacles: (0..1_000).map(|number| 1_000 + number % 7).collect() }).await;
    }
    control.write(Heartbeat { clock_micros: 0, window: 6 }).await;
    let TunnelEvent::Readiness { obstacles, .. } = cloud.event().await else {
        panic!("the readiness did not arrive")
    };
    assert_eq!(obstacles, [Obstacle::Other].into());
    assert!(matches!(cloud.event().await, TunnelEvent::Window { window: 6, .. }));
}

pub(crate) async fn a_peer_without_a_heartbeat_is_silent_until_it_is_heard_again() {
    let ca = ca();
    let peer = issue(&ca, Role::Cloud, "shop");
    let home = idc(&ca).listening().with(|config| config.silent_after = Duration::from_millis(200));
    let mut idc = home.start(Role::Idc);
    let connection = Stranger::with(&peer).dial(idc.address()).await.unwrap();
    let (mut control, _orders) = stranger::link(&connection, 1).await;
    let up = idc.up().await;
    assert!(matches!(idc.event().await, TunnelEvent::Silent { link } if link == up.link));
    assert!(idc.handle.status()[0].silent);
    control.write(Heartbeat { clock_micros: 0, window: 0 }).await;
    assert!(matches!(idc.event().await, TunnelEvent::Heard { link } if link == up.link));
    eventually("its clock is seen to be wrong", || idc.handle.status()[0].skew_millis < -1_000_000).await;
}

pub(crate) async fn a_clock_that_is_wrong_is_warned_about() {
    let (log, ca) = (Log::capture(), ca());
    let peer = issue(&ca, Role::Cloud, "shop");
    let mut idc = idc(&ca).listening().start(Role::Idc);
    let connection = Stranger::with(&peer).dial(idc.address()).await.unwrap();
    // A stranger sends a hello with its clock at 1970.
    let _lanes = stranger::link(&connection, 1).await;
    idc.up().await;
    assert_eq!(log.lines(&["WARN", "clock differs", "cloud/shop"]).len(), 1);
}

pub(crate) async fn a_peer_that_was_dropped_is_found_again() {
    let ca = ca();
    let mut first = idc(&ca).listening().start(Role::Idc);
    let address = first.address();
    let mut cloud = cloud(&ca).dialling(address).start(Role::Cloud);
    let up = cloud.up().await;
    first.up().await;
    first.handle.close().await;
    assert!(matches!(down(&mut cloud).await, LinkEnd::ByPeer(_)));
    drop(first);

    let again = Home::new(&ca, &issue(&ca, Role::Idc, "vault")).with(|config| config.listen = vec![address]);
    let mut again = again.start(Role::Idc);
    assert_ne!(cloud.up().await.link, up.link);
    again.up().await;
}

#[test]
fn a_peer_that_crashed_and_returned_is_recognised_before_the_idle_timeout() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let ca = ca();
    // The time-out is longer than the test, so only the peer can end the link.
    let patient =
        |config: &mut bridge_runtime::config::TunnelConfig| config.idle_timeout = Duration::from_secs(600);
    let (ours, theirs) = (runtime(), runtime());
    let mut peer = theirs.block_on(async { idc(&ca).listening().with(patient).start(Role::Idc) });
    let address = peer.address();
    let mut cloud = ours.block_on(async { cloud(&ca).dialling(address).with(patient).start(Role::Cloud) });
    ours.block_on(cloud.up());
    theirs.block_on(peer.up());
    // The process dies without a goodbye or a close. Only the files on its disk are left.
    theirs.shutdown_timeout(Duration::from_secs(10));

    let theirs = runtime();
    let home = peer.into_home().with(|config| config.listen = vec![address]);
    let _again = theirs.block_on(async { home.start(Role::Idc) });
    assert_eq!(ours.block_on(down(&mut cloud)), LinkEnd::PeerRestarted);
    ours.block_on(cloud.up());
}

pub(crate) async fn a_drain_says_goodbye_and_lets_what_is_under_way_finish() {
    let ca = ca();
    let mut idc = idc(&ca).listening().start(Role::Idc);
    let mut cloud = cloud(&ca).dialling(idc.address()).start(Role::Cloud);
    let (here, there) = (cloud.up().await, idc.up().await);
    idc.shutdown.start(Duration::from_secs(60));
    let told = cloud.next(|event| match event {
        TunnelEvent::Goodbye { link } => Some(link),
        _ => None,
    });
    assert_eq!(told.await, here.link);
    there.sender.send(0, framed(1)).unwrap();
    assert_eq!(received(&mut cloud).await.0, 0, "no answer passes");
    idc.handle.close().await;
    assert_eq!(down(&mut idc).await, LinkEnd::Here);
    assert!(matches!(down(&mut cloud).await, LinkEnd::ByPeer(_)));
}

pub(crate) async fn while_it_drains_a_peer_that_dials_is_turned_away() {
    let (log, ca) = (Log::capture(), ca());
    let mut idc = idc(&ca).listening().start(Role::Idc);
    let mut first = cloud(&ca).dialling(idc.address()).start(Role::Cloud);
    first.up().await;
    idc.up().await;
    idc.shutdown.start(Duration::from_secs(60));
    first.next(|event| matches!(event, TunnelEvent::Goodbye { .. }).then_some(())).await;
    let _second = cloud(&ca).dialling(idc.address()).start(Role::Cloud);
    eventually("it is turned away", || !log.lines(&["WARN", "cannot reach the peer"]).is_empty()).await;
}

pub(crate) async fn a_drain_whose_time_is_over_ends_the_links() {
    let ca = ca();
    let mut idc = idc(&ca).listening().start(Role::Idc);
    let mut cloud = cloud(&ca).dialling(idc.address()).start(Role::Cloud);
    cloud.up().await;
    idc.up().await;
    idc.shutdown.start(Duration::ZERO);
    assert_eq!(down(&mut idc).await, LinkEnd::Here);
}

pub(crate) async fn an_owner_that_takes_no_events_slows_its_peer_without_loss() {
    let ca = ca();
    let mut idc = idc(&ca).listening().start(Role::Idc);
    let mut cloud = cloud(&ca).dialling(idc.address()).start(Role::Cloud);
    let here = cloud.up().await;
    idc.up().await;
    // Number of frames that is larger than the event queue and the flow-control windows.
    const FRAMES: u32 = 20_000;
    for number in 0..FRAMES {
        here.sender.send(0, framed(number)).unwrap();
    }
    for number in 0..FRAMES {
        assert_eq!(frame::decode::<Manifest>(received(&mut idc).await.1).unwrap(), payload(number));
    }
}
