//! Tests of the feed lane. It exists between two agents that both offer it, has its own channel,
//! and ends with its link.

use bridge_protocol::domain::identity::Role;
use bridge_protocol::wire::control::Hello;
use bridge_protocol::wire::feed::{Applied, FEATURE, ToPublisher};
use bridge_protocol::wire::frame::{self, FEED_FRAME_BYTES_MAX};
use bridge_protocol::wire::lane::Lane;
use bridge_runtime::telemetry::metrics::RefusalReason;
use bridge_runtime::tunnel::{Closed, FeedEvent, FeedSender, LinkEnd, TunnelEvent};

use crate::agents::{Home, RunningTunnel, ca, issue};
use crate::stranger::{Stranger, Stream, hello};

struct Pair {
    cloud: RunningTunnel,
    idc: RunningTunnel,
}

/// Returns a cloud agent that listens and an IDC agent that dials it.
async fn pair(cloud_feeds: bool, idc_feeds: bool) -> Pair {
    let ca = ca();
    let home = |role, name, feeds: bool| {
        let home = Home::new(&ca, &issue(&ca, role, name));
        if feeds { home.feeding() } else { home }
    };
    let mut cloud = home(Role::Cloud, "shop", cloud_feeds).listening().start(Role::Cloud);
    let mut idc = home(Role::Idc, "vault", idc_feeds).dialling(cloud.address()).start(Role::Idc);
    cloud.up().await;
    idc.up().await;
    Pair { cloud, idc }
}

async fn feed_up(agent: &mut RunningTunnel) -> FeedSender {
    match agent.feed_event().await {
        FeedEvent::Up { sender, .. } => sender,
        other => panic!("{other:?}"),
    }
}

fn message(page: u64) -> ToPublisher {
    Applied { page }.into()
}

pub(crate) async fn between_two_feed_agents_the_lane_carries_frames_both_ways() {
    let Pair { mut cloud, mut idc } = pair(true, true).await;
    let (to_idc, to_cloud) = (feed_up(&mut cloud).await, feed_up(&mut idc).await);
    for (sender, receiver) in [(&to_idc, &mut idc), (&to_cloud, &mut cloud)] {
        for page in 0..100 {
            sender.send(&frame::to_bytes(&message(page), FEED_FRAME_BYTES_MAX).unwrap()).unwrap();
        }
        for page in 0..100 {
            let FeedEvent::Frame { payload, .. } = receiver.feed_event().await else { panic!("no frame") };
            assert_eq!(frame::decode::<ToPublisher>(payload).unwrap(), message(page));
        }
    }
    assert!(cloud.handle.status()[0].feed);

    idc.handle.close().await;
    assert!(matches!(cloud.feed_event().await, FeedEvent::Down { .. }));
    assert_eq!(to_idc.send(b"anything"), Err(Closed));
}

pub(crate) async fn a_peer_without_the_feed_gets_its_link_without_the_lane() {
    for (cloud_feeds, idc_feeds) in [(true, false), (false, true)] {
        let Pair { cloud, mut idc } = pair(cloud_feeds, idc_feeds).await;
        assert!(!cloud.handle.status()[0].feed && !idc.handle.status()[0].feed);
        cloud.handle.close().await;
        let end = idc.next(|event| if let TunnelEvent::Down { why, .. } = event { Some(why) } else { None });
        assert!(matches!(end.await, LinkEnd::ByPeer(_)));
        assert!(idc.feed.try_recv().is_err(), "the feed's channel has an event");
    }
}

pub(crate) async fn what_the_owner_refuses_ends_the_link_as_a_violation() {
    let Pair { mut cloud, mut idc } = pair(true, true).await;
    feed_up(&mut idc).await.refuse(&"page 7 came after page 9");
    let end = idc.next(|event| if let TunnelEvent::Down { why, .. } = event { Some(why) } else { None });
    assert_eq!(end.await, LinkEnd::Violation("page 7 came after page 9".to_owned()));
    feed_up(&mut cloud).await;
    assert!(matches!(cloud.feed_event().await, FeedEvent::Down { .. }));
}

pub(crate) async fn a_peer_that_opens_an_unannounced_lane_gets_no_link() {
    let ca = ca();
    let peer = issue(&ca, Role::Cloud, "there");
    let idc = Home::new(&ca, &issue(&ca, Role::Idc, "here")).feeding().listening().start(Role::Idc);
    let connection = Stranger::with(&peer).dial(idc.address()).await.unwrap();
    let mut control = Stream::open(&connection, &Lane::Control.preamble()).await;
    control.write(Hello { features: vec![FEATURE.to_owned()], ..hello(1) }).await;
    let _order = Stream::open(&connection, &Lane::Order(0).preamble()).await;
    let _again = Stream::open(&connection, &Lane::Order(1).preamble()).await;
    idc.refusal(RefusalReason::Protocol).await;
}
