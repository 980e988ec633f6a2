//! Tests of a peer with a valid certificate that breaks the protocol. Its link ends with a reason,
//! which is counted and logged in one line.

use bridge_certs::Ca;
use bridge_protocol::domain::identity::Role;
use bridge_protocol::wire::control::{Control, Hello, message};
use bridge_protocol::wire::lane::Lane;
use bridge_runtime::telemetry::metrics::RefusalReason;
use bridge_runtime::tunnel::{LinkEnd, TunnelEvent};
use tokio::io::AsyncWriteExt;

use crate::agents::{Home, Log, RunningTunnel, ca, issue};
use crate::stranger::{self, Connection, Stranger, Stream, hello};

struct Scene {
    log: Log,
    idc: RunningTunnel,
    connection: Connection,
}

/// Returns an IDC agent and a stranger with a cloud agent's certificate after their handshake.
async fn scene() -> Scene {
    let log = Log::capture();
    let ca: Ca = ca();
    let peer = issue(&ca, Role::Cloud, "there");
    let idc = Home::new(&ca, &issue(&ca, Role::Idc, "here")).listening().start(Role::Idc);
    let connection = Stranger::with(&peer).dial(idc.address()).await.unwrap();
    Scene { log, idc, connection }
}

impl Scene {
    /// Checks that the connection ends before a link is up.
    async fn no_link(&self, code: u32, reason: RefusalReason, words: &str) {
        let ended = self.connection.end().await;
        assert!(ended.as_ref().is_some_and(|(closed, _)| *closed == code), "{ended:?}");
        self.idc.refusal(reason).await;
        let lines = self.log.lines(&["WARN", "no link", "cloud/there", words]);
        assert_eq!(lines.len(), 1, "{words:?} in {:#?}", self.log.lines(&[]));
    }

    /// Checks that a link that was up goes down, and that the reason has these words.
    async fn down(&mut self, words: &str) {
        let why = self
            .idc
            .next(|event| match event {
                TunnelEvent::Down { why, .. } => Some(why),
                _ => None,
            })
            .await;
        assert!(matches!(&why, LinkEnd::Violation(said) if said.contains(words)), "{why:?}");
        self.idc.refusal(RefusalReason::Protocol).await;
        assert_eq!(
            self.log.lines(&["WARN", "link down", "broke the protocol", "cloud/there", words]).len(),
            1
        );
        assert!(self.connection.end().await.is_some());
    }
}

#[tokio::test]
async fn a_stream_that_is_not_a_lane_ends_the_connection() {
    let scene = scene().await;
    let _stream = Stream::open(&scene.connection, b"GET / HTTP/1.1\r\n").await;
    scene.no_link(2, RefusalReason::Protocol, "does not open with a lane preamble").await;
}

#[tokio::test]
async fn a_lane_kind_of_a_later_version_is_refused_with_advice() {
    let scene = scene().await;
    let _stream = Stream::open(&scene.connection, b"BRDG\x01\x09\x00\x00").await;
    scene.no_link(2, RefusalReason::Protocol, "lane kind 9 is not known").await;
}

#[tokio::test]
async fn a_link_that_does_not_begin_with_the_control_lane_is_refused() {
    let scene = scene().await;
    let _stream = Stream::open(&scene.connection, &Lane::Order(0).preamble()).await;
    scene.no_link(2, RefusalReason::Protocol, "the first lane is not the control lane").await;
}

pub(crate) async fn garbage_instead_of_a_hello_is_refused() {
    let scene = scene().await;
    let mut control = Stream::open(&scene.connection, &Lane::Control.preamble()).await;
    control.write_all(&[0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]).await;
    scene.no_link(2, RefusalReason::Protocol, "is not a message of this lane").await;
}

pub(crate) async fn a_hello_of_4_gib_is_refused() {
    let scene = scene().await;
    let mut control = Stream::open(&scene.connection, &Lane::Control.preamble()).await;
    control.write_all(&[0xff; 4]).await;
    scene.no_link(2, RefusalReason::Protocol, "a frame of 4294967295 bytes was announced").await;
}

pub(crate) async fn a_number_of_lanes_beyond_all_reason_is_refused() {
    let scene = scene().await;
    let mut control = Stream::open(&scene.connection, &Lane::Control.preamble()).await;
    control.write(hello(1_000_000)).await;
    scene.no_link(2, RefusalReason::Protocol, "1000000 order lanes were announced").await;
}

pub(crate) async fn a_lane_that_is_opened_twice_is_refused() {
    let scene = scene().await;
    let mut control = Stream::open(&scene.connection, &Lane::Control.preamble()).await;
    control.write(hello(2)).await;
    let _one = Stream::open(&scene.connection, &Lane::Order(0).preamble()).await;
    let _two = Stream::open(&scene.connection, &Lane::Order(0).preamble()).await;
    scene.no_link(2, RefusalReason::Protocol, "Order(0) was opened").await;
}

pub(crate) async fn a_link_whose_lanes_never_come_is_given_up() {
    let scene = scene().await;
    let mut control = Stream::open(&scene.connection, &Lane::Control.preamble()).await;
    control.write(hello(2)).await;
    let _one = Stream::open(&scene.connection, &Lane::Order(0).preamble()).await;
    scene.no_link(5, RefusalReason::Other, "no hello within 5 s").await;
}

pub(crate) async fn half_a_hello_is_given_up() {
    let scene = scene().await;
    let mut control = Stream::open(&scene.connection, &Lane::Control.preamble()).await;
    control.write_all(&[0, 0, 0, 40, 1, 2, 3]).await;
    scene.no_link(5, RefusalReason::Other, "no hello within 5 s").await;
}

pub(crate) async fn an_incompatible_version_is_refused_and_told_who_must_upgrade() {
    let scene = scene().await;
    let mut control = Stream::open(&scene.connection, &Lane::Control.preamble()).await;
    control.write(Hello { version_oldest: 8, version_newest: 9, ..hello(1) }).await;
    let Some(Control { kind: Some(message::Kind::Refused(refused)) }) = control.read().await else {
        panic!("the peer was not refused")
    };
    assert_eq!(
        refused.reason,
        "the peer speaks protocol versions up to 1 and version 8 is needed: upgrade the peer"
    );
    scene.no_link(1, RefusalReason::Version, "upgrade this agent").await;
}

#[tokio::test]
async fn a_dialler_of_an_incompatible_version_logs_what_it_was_told() {
    let (log, ca) = (Log::capture(), ca());
    let peer = issue(&ca, Role::Idc, "there");
    let endpoint = Stranger::with(&peer).endpoint();
    let address = endpoint.local_addr().unwrap();
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let connection = incoming.await.unwrap();
            let mut control = Stream::accept(&connection).await;
            control.read().await;
            control.write(Hello { version_oldest: 8, version_newest: 9, ..hello(1) }).await;
            connection.closed().await;
        }
    });
    let agent = Home::new(&ca, &issue(&ca, Role::Cloud, "here")).dialling(address).start(Role::Cloud);
    agent.refusal(RefusalReason::Version).await;
    assert!(!log.lines(&["WARN", "no link", "idc/there", "upgrade this agent"]).is_empty());
}

pub(crate) async fn a_frame_of_4_gib_on_an_order_lane_ends_the_link() {
    let mut scene = scene().await;
    let (_control, mut orders) = stranger::link(&scene.connection, 2).await;
    orders[1].write_all(&[0xff; 4]).await;
    scene.down("a frame of 4294967295 bytes was announced").await;
}

pub(crate) async fn garbage_on_the_control_lane_ends_the_link() {
    let mut scene = scene().await;
    let (mut control, _orders) = stranger::link(&scene.connection, 1).await;
    control.write_all(&[0, 0, 0, 2, 0xff, 0xff]).await;
    scene.down("is not a message of this lane").await;
}

pub(crate) async fn a_second_hello_ends_the_link() {
    let mut scene = scene().await;
    let (mut control, _orders) = stranger::link(&scene.connection, 1).await;
    control.write(hello(1)).await;
    scene.down("a second hello").await;
}

/// Returns a frame of a peer of a later version, from the golden files of the protocol.
fn newer(name: &str) -> Vec<u8> {
    let path = format!("{}/../protocol/golden/newer/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let hex = text.lines().filter_map(|line| line.split_once('#')).flat_map(|(hex, _)| hex.split(' '));
    let payload: Vec<u8> =
        hex.filter(|byte| !byte.is_empty()).map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    [&u32::try_from(payload.len()).unwrap().to_be_bytes(), &payload[..]].concat()
}

pub(crate) async fn a_newer_peer_uses_the_common_version_and_its_extras_are_ignored() {
    let mut scene = scene().await;
    let mut control = Stream::open(&scene.connection, &Lane::Control.preamble()).await;
    control.write_all(&newer("control-hello")).await;
    // Opens as many lanes as that hello announces.
    let mut orders = Vec::new();
    for index in 0..4 {
        orders.push(Stream::open(&scene.connection, &Lane::Order(index).preamble()).await);
    }
    let Some(Control { kind: Some(message::Kind::Hello(_)) }) = control.read().await else {
        panic!("the peer was refused")
    };
    let up = scene.idc.up().await;
    assert_eq!((up.version, up.hello.version_newest), (1, 2));
    assert!(up.hello.features.contains(&"a-feature-to-come".to_owned()));

    control.write_all(&newer("control-unknown")).await;
    let order = newer("to-idc-place");
    orders[3].write_all(&order).await;
    let payload = scene.idc.next(|event| match event {
        TunnelEvent::Frame { payload, .. } => Some(payload),
        TunnelEvent::Down { why, .. } => panic!("{why}"),
        _ => None,
    });
    assert_eq!(payload.await, order[4..]);
}

pub(crate) async fn a_lane_beyond_those_announced_ends_the_link() {
    let mut scene = scene().await;
    let _lanes = stranger::link(&scene.connection, 1).await;
    scene.idc.up().await;
    let _extra = Stream::open(&scene.connection, &Lane::Order(1).preamble()).await;
    scene.down("was opened beyond those announced").await;
}

pub(crate) async fn a_lane_that_is_closed_ends_the_link() {
    let mut scene = scene().await;
    let (_control, mut orders) = stranger::link(&scene.connection, 1).await;
    scene.idc.up().await;
    orders[0].send.shutdown().await.unwrap();
    scene.down("a lane ended").await;
}
