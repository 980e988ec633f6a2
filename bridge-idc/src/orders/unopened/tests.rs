//! Orders that wait for their sealing session, tested through the order core.

use bridge_protocol::audit::Event;
use bridge_protocol::domain::body::OrderRequest;
use bridge_protocol::domain::{Brand, IdempotencyKey, UnixMicros};
use bridge_protocol::seal::sealing::SealingSession;
use bridge_protocol::wire::order::{Cancel, Terms, ToIdc, to_idc};
use bytes::Bytes;
use prost::Message as _;

use super::*;
use crate::orders::core::{Input, OrderCore, OrderLimits, Output};
use crate::vault::keyring::Keyring;

const NOW: UnixMicros = UnixMicros::new(1_795_343_485_000_000);
const HOSTILE: LinkId = LinkId(1);
const HONEST: LinkId = LinkId(2);

struct World {
    agent: OrderCore,
    sent: u64,
}

fn header(number: u64) -> Header {
    let brand = Brand::new("shoes").unwrap();
    let key = IdempotencyKey::parse(format!("k{number}").as_bytes()).unwrap().digest(&brand);
    let random = *key.as_bytes().first_chunk().unwrap();
    Header { brand, order: OrderId::new(NOW, random), key }
}

fn session() -> SealingSession {
    let keys = Keyring::for_tests(1);
    SealingSession::start(&keys.manifest().keys[0], NOW, &mut rand::rng()).unwrap()
}

fn world() -> World {
    let limits = OrderLimits {
        window_max: 1_000,
        committers: 1,
        batch_max: 4,
        batch_lines_max: 100,
        lines_max: 10,
        look_ups_at_once: 1,
    };
    World { agent: OrderCore::new(limits, Keyring::for_tests(1)), sent: 0 }
}

impl World {
    fn send(&mut self, link: LinkId, kind: to_idc::Kind) {
        self.sent += 1;
        let message = ToIdc {
            request: self.sent,
            kind: Some(kind),
            sequence: self.sent,
            trace: None,
            remaining_millis: None,
        };
        self.input(Input::Message { link, lane: 0, message });
    }

    /// Places order `number`.
    fn place(&mut self, link: LinkId, session: &mut SealingSession, number: u64) {
        let body =
            br#"{"lines": [{"sku": "SHOE", "quantity": 1, "unit_price": {"amount": 100, "currency": "KRW"}}],
            "total": {"amount": 100, "currency": "KRW"}, "customer": {"reference": "c-1"},
            "delivery": {"name": "n", "address": ["a"], "country": "KR"}}"#;
        let request = OrderRequest::parse(body, 10).ok().unwrap();
        let terms = Terms::from(request.terms()).encode_to_vec().into();
        let envelope = session.seal(&header(number), terms, request.personal()).unwrap();
        self.send(link, to_idc::Kind::Place(envelope));
    }

    fn cancel(&mut self, link: LinkId, number: u64) {
        let order = Bytes::copy_from_slice(header(number).order.as_bytes());
        let key = Bytes::copy_from_slice(header(number + 1_000_000).key.as_bytes());
        self.send(link, to_idc::Kind::Cancel(Cancel { brand: "shoes".to_owned(), order, key }));
    }

    fn input(&mut self, input: Input) {
        self.agent.handle(input, NOW, &mut rand::rng());
    }

    fn work(&mut self) -> (LinkId, Encapsulated) {
        match self.agent.poll_output(NOW) {
            Some(Output::Decapsulate { link, session }) => (link, session),
            other => panic!("nothing to decapsulate: {other:?}"),
        }
    }

    fn done(&mut self, (link, session): (LinkId, Encapsulated)) {
        self.input(Input::Decapsulated { link, session: session.decapsulate() });
    }

    /// Returns the entries of the next audit round, each as its action or outcome and its order.
    fn logged(&mut self) -> Vec<(String, String)> {
        let Some(Output::Audit(round)) = self.agent.poll_output(NOW) else { panic!("nothing is logged") };
        let about = |event: &Event| match event {
            Event::OrderReceived(received) => (received.action.to_string(), received.order.to_string()),
            Event::OrderAnswered(ended) => (ended.outcome.to_string(), ended.order.to_string()),
            other => (other.kind().to_owned(), String::new()),
        };
        round.entries.iter().map(|entry| about(&entry.event)).collect()
    }
}

fn about(operation: &str, number: u64) -> (String, String) {
    (operation.to_owned(), header(number).order.to_string())
}

#[test]
fn a_peer_of_only_new_sessions_waits_without_delaying_others() {
    let mut world = world();
    for number in 0..100 {
        world.place(HOSTILE, &mut session(), number);
    }
    let under_way = world.work();
    let mut honest = session();
    world.place(HONEST, &mut honest, 100);
    world.place(HONEST, &mut honest, 101);
    assert!(world.agent.poll_output(NOW).is_none(), "one at a time, and nothing else waits for it");
    world.done(under_way);
    let next = world.work();
    assert_eq!(next.0, HOSTILE, "it was there before");
    assert_eq!(world.logged(), [about("place", 0)]);
    world.done(next);
    let next = world.work();
    assert_eq!(next.0, HONEST);
    world.done(next);
    assert_eq!(
        (world.agent.unopened(), world.agent.sealing_sessions()),
        (98, 3),
        "both of the honest are open"
    );
    world.place(HONEST, &mut honest, 102);
    assert_eq!(world.agent.unopened(), 98, "a session that is known needs no work");
}

#[test]
fn a_cancellation_waits_behind_its_order_and_behind_no_other() {
    let mut world = world();
    world.place(HOSTILE, &mut session(), 1);
    world.cancel(HONEST, 1);
    let work = world.work();
    assert!(world.agent.poll_output(NOW).is_none(), "the cancellation overtakes its order");
    world.cancel(HONEST, 2);
    assert_eq!(world.logged(), [about("cancel", 2)]);
    world.done(work);
    world.input(Input::Audited(Ok(())));
    assert_eq!(world.logged(), [about("place", 1), about("cancel", 1)]);
}

#[test]
fn what_waits_on_a_link_is_bounded_and_goes_with_it() {
    let mut world = world();
    let max = u64::try_from(SESSIONS_WAITING_MAX).unwrap();
    for number in 0..=max {
        world.place(HOSTILE, &mut session(), number);
    }
    assert_eq!(world.agent.unopened(), SESSIONS_WAITING_MAX);
    let under_way = world.work();
    assert_eq!(world.logged(), [about("place", max), about("busy", max)]);
    world.cancel(HONEST, 7);
    world.input(Input::LinkDown(HOSTILE));
    assert_eq!(world.agent.unopened(), 0);
    world.done(under_way);
    assert_eq!(world.agent.sealing_sessions(), 0, "nothing is remembered of a link that is gone");
    assert_eq!(world.agent.under_way(), 2, "the one that is answered, and the cancellation");
    world.place(HONEST, &mut session(), 1);
    assert_eq!(world.work().0, HONEST, "it goes on");
}
