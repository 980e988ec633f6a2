//! Tests of the payment lane. It exists between two agents that both offer payments, and no other
//! peer sees it.

use bridge_protocol::domain::identity::Role;
use bridge_protocol::wire::frame::{self, ORDER_FRAME_BYTES_MAX};
use bridge_protocol::wire::lane::ORDER_LANES_MAX;
use bridge_protocol::wire::order::ToCloud;
use bridge_protocol::wire::payment::FEATURE;
use bridge_runtime::tunnel::{LinkUp, TunnelEvent};

use crate::agents::{Home, RunningTunnel, ca, issue};

/// Returns a cloud agent that listens and an IDC agent that dials it, each with these features, and
/// their link.
async fn pair(cloud: &[&str], idc: &[&str]) -> ([RunningTunnel; 2], [LinkUp; 2]) {
    let ca = ca();
    let home = |role, name, features: &[&str]| {
        let home = Home::new(&ca, &issue(&ca, role, name));
        features.iter().fold(home, |home, feature| home.knowing(feature))
    };
    let mut cloud = home(Role::Cloud, "shop", cloud).listening().start(Role::Cloud);
    let mut idc = home(Role::Idc, "vault", idc).dialling(cloud.address()).start(Role::Idc);
    let up = [cloud.up().await, idc.up().await];
    ([cloud, idc], up)
}

fn message(request: u64) -> ToCloud {
    ToCloud { request, kind: None }
}

pub(crate) async fn between_two_payment_agents_the_lane_carries_frames_both_ways() {
    let both = [FEATURE, bridge_protocol::wire::feed::FEATURE];
    let ([mut cloud, mut idc], [to_idc, to_cloud]) = pair(&both, &both).await;
    for (up, receiver) in [(&to_idc, &mut idc), (&to_cloud, &mut cloud)] {
        assert!(up.payments);
        for request in 0..100 {
            let bytes = frame::to_bytes(&message(request), ORDER_FRAME_BYTES_MAX).unwrap();
            up.sender.send_payment(&bytes).unwrap();
        }
        for request in 0..100 {
            let payload = receiver
                .next(|event| match event {
                    TunnelEvent::PaymentFrame { payload, .. } => Some(payload),
                    TunnelEvent::Frame { .. } => panic!("the frame came on an order lane"),
                    _ => None,
                })
                .await;
            assert_eq!(frame::decode::<ToCloud>(payload).unwrap(), message(request));
        }
    }
    assert!(cloud.handle.status()[0].payments && cloud.handle.status()[0].feed);
}

pub(crate) async fn a_peer_without_payments_gets_its_link_without_the_lane() {
    let feed = bridge_protocol::wire::feed::FEATURE;
    for (cloud, idc) in [(vec![FEATURE, feed], vec![feed]), (vec![], vec![FEATURE]), (vec![FEATURE], vec![])]
    {
        let ([cloud, idc], ups) = pair(&cloud, &idc).await;
        assert!(ups.iter().all(|up| !up.payments));
        assert!(!cloud.handle.status()[0].payments && !idc.handle.status()[0].payments);
    }
}

pub(crate) async fn a_link_with_every_order_lane_has_the_other_lanes_too() {
    let (ca, both) = (ca(), [FEATURE, bridge_protocol::wire::feed::FEATURE]);
    let home = |role, name| {
        let home = Home::new(&ca, &issue(&ca, role, name)).knowing(both[0]).knowing(both[1]);
        home.with(|config| config.order_lanes = ORDER_LANES_MAX)
    };
    let mut cloud = home(Role::Cloud, "shop").listening().start(Role::Cloud);
    let _idc = home(Role::Idc, "vault").dialling(cloud.address()).start(Role::Idc);
    let up = cloud.up().await;
    assert!(up.payments && cloud.handle.status()[0].feed);
    assert_eq!(up.lanes, ORDER_LANES_MAX);
}
