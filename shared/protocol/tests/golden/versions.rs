//! Peers of other versions: unknown fields are skipped, and missing fields have their defaults.
//!
//! The bytes of a newer peer are files of their own (`golden/newer`). They are made by hand,
//! because no version of this code can write them.

use bridge_protocol::domain::catalogue::EntityKind;
use bridge_protocol::domain::{Outcome, Sku};
use bridge_protocol::note::NoteSigner;
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::receiver::{Delivery, Received, Receiver};
use bridge_protocol::wire::catalogue::StockRow;
use bridge_protocol::wire::control::{Control, Hello, Obstacle, Readiness, message};
use bridge_protocol::wire::feed::{ToPublisher, ToSubscriber, to_subscriber};
use bridge_protocol::wire::order::{Refusal, ToCloud, ToIdc, to_cloud, to_idc};
use bridge_protocol::wire::version::Versions;
use bridge_protocol::{merkle, receipt, wire};
use bytes::Bytes;
use prost::Message;

use crate::schema::Schema;
use crate::{corpus, tree, values};

#[test]
fn a_message_is_read_whatever_fields_a_later_version_adds() {
    let schema = Schema::read();
    for known in values::all() {
        let nodes = tree::read(&schema, known.message, &corpus::read(&known.name));
        for (place, with) in tree::with_unknown(&nodes) {
            let read = (known.reads_as_this)(&tree::write(&with));
            assert_eq!(read, Ok(()), "{} with unknown fields before {place}", known.name);
        }
    }
}

#[test]
fn a_message_is_read_whatever_field_an_earlier_version_did_not_have() {
    let schema = Schema::read();
    for known in values::all() {
        let nodes = tree::read(&schema, known.message, &corpus::read(&known.name));
        for (place, without) in tree::without_one(&nodes) {
            let bytes = tree::write(&without);
            let again = (known.again)(&bytes);
            assert_eq!(again.as_ref(), Ok(&bytes), "{} without {place}", known.name);
        }
    }
}

fn newer<M: Message + Default>(name: &str) -> M {
    M::decode(&corpus::read(&format!("newer/{name}"))[..]).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn a_newer_hello_is_understood_and_the_common_version_is_spoken() {
    let Some(message::Kind::Hello(hello)) = newer::<Control>("control-hello").kind else {
        panic!("the message is not a hello")
    };
    let mut features = values::hello().features;
    features.push("a-feature-to-come".to_owned());
    assert_eq!(hello, Hello { version_newest: 2, features, ..values::hello() });
    assert_eq!(Versions::OURS.agree(hello.versions()), Ok(1));
}

#[test]
fn an_unknown_kind_of_message_is_distinguished_from_known_ones() {
    assert_eq!(newer::<Control>("control-unknown").kind, None);
    assert_eq!(newer::<ToPublisher>("to-publisher-unknown").kind, None);
    assert_eq!(newer::<ToSubscriber>("to-subscriber-unknown").kind, None);
    assert_eq!(newer::<ToCloud>("to-cloud-unknown"), ToCloud { request: 7, kind: None });
    let request: ToIdc = newer("to-idc-unknown");
    assert_eq!((request.request, &request.kind, request.sequence), (7, &None, 3));

    // An unknown request is refused, so that its sender gets an answer.
    let Received::Answer(reply) = Receiver::new(8).handle_message(LinkId(1), 0, request) else {
        panic!("the request was not answered")
    };
    assert_eq!(reply.message.request, 7);
    assert_eq!(reply.message.kind, Some(to_cloud::Kind::Refused(Refusal::Invalid.into())));
}

#[test]
fn a_newer_agents_readiness_is_its_known_obstacles_and_one_other() {
    let Some(message::Kind::Readiness(readiness)) = newer::<Control>("control-readiness").kind else {
        panic!("the message is not a readiness")
    };
    assert_eq!(readiness.known(), [Obstacle::AuditLog, Obstacle::Other].into());
}

#[test]
fn a_readiness_full_of_repetitions_is_stored_once() {
    let obstacles = (0..40_000).map(|number| number % 1_000).collect();
    let bytes = Control::from(Readiness { obstacles }).encode_to_vec();
    let Some(message::Kind::Readiness(readiness)) = Control::decode(&bytes[..]).unwrap().kind else {
        panic!("the message is not a readiness")
    };
    assert_eq!(readiness.known().len(), 6);
}

#[test]
fn a_newer_orders_unknown_terms_and_seal_are_kept_as_sent() {
    let request: ToIdc = newer("to-idc-place");
    let Some(to_idc::Kind::Place(envelope)) = &request.kind else { panic!("the request places no order") };
    let terms = envelope.terms.clone();
    assert_ne!(terms, values::envelope().terms, "the newer terms have no further field");
    let Received::Deliver(_, Delivery::Place(received)) =
        Receiver::new(8).handle_message(LinkId(1), 0, request)
    else {
        panic!("the request was not delivered")
    };
    // The seal binds the bytes of the terms, so unknown fields must be kept.
    assert_eq!(received.envelope().terms, terms);
    let read = wire::order::Terms::decode(terms).unwrap();
    assert_eq!(read, values::terms());
}

#[test]
fn a_newer_payment_says_the_nearest_state_that_is_known_here() {
    let Some(to_cloud::Kind::Payment(payment)) = newer::<ToCloud>("to-cloud-payment").kind else {
        panic!("the request is not a payment")
    };
    assert_eq!(payment.exactly.as_deref(), Some("a_state_to_come"));
    assert_eq!(payment.state_code(), "not_paid");
}

#[test]
fn a_newer_refusal_is_one_without_a_known_reason() {
    let Some(to_cloud::Kind::Refused(refused)) = newer::<ToCloud>("to-cloud-refused").kind else {
        panic!("the answer is no refusal")
    };
    assert_eq!(refused.refusal, 99);
    assert_eq!(refused.refusal(), Refusal::Unspecified);
}

#[test]
fn a_newer_outcome_in_a_receipt_is_a_refusal_with_its_code() {
    let facts = Bytes::from(corpus::read("newer/receipt-facts"));
    let signer = NoteSigner::new("idc", &[1; 32]).unwrap();
    // A batch of one: its root is the hash of its leaf.
    let root = merkle::leaf_hash(&facts);
    let message = [b"bridge receipts v1\n".as_slice(), &1_u64.to_be_bytes(), &root].concat();
    let signature = Bytes::copy_from_slice(&signer.sign(&message));
    let receipt = wire::order::Receipt { facts, index: 0, size: 1, path: Bytes::new(), signature };
    let verified = receipt::verify(&receipt, &[signer.verifier().clone()]).unwrap();
    let outcome = &verified.receipt().outcome;
    assert!(matches!(outcome, Outcome::Later { .. }), "{outcome:?}");
    assert_eq!((outcome.code(), outcome.sku().map(Sku::as_str)), ("held-for-review", Some("DV1748-601")));
    assert_eq!((verified.receipt().position, verified.receipt().committed_at.get()), (42, values::NOW));
}

#[test]
fn a_newer_pages_unknown_rows_and_fields_are_ignored() {
    let Some(to_subscriber::Kind::Page(page)) = newer::<ToSubscriber>("to-subscriber-page").kind else {
        panic!("the message is not a page")
    };
    let kinds: Vec<_> = page.entries.iter().map(|entry| entry.key().map(|key| key.kind)).collect();
    assert_eq!(kinds, [None, Some(EntityKind::Stock)]);
    let row = page.entries[1].row.clone().unwrap();
    assert_eq!(StockRow::decode(row).unwrap(), StockRow { available: 40 });
}

#[test]
fn an_older_peer_says_less_and_the_rest_has_its_default() {
    let read = |name: &str| corpus::read(&format!("older/{name}"));
    let Some(message::Kind::Hello(hello)) = Control::decode(&read("control-hello")[..]).unwrap().kind else {
        panic!("the message is not a hello")
    };
    assert_eq!(hello, Hello { payment_window: 0, heartbeat_millis: 0, ..values::hello() });
    let Some(to_cloud::Kind::Payment(payment)) = ToCloud::decode(&read("to-cloud-payment")[..]).unwrap().kind
    else {
        panic!("the request is not a payment")
    };
    assert_eq!((payment.state_code(), payment.exactly.as_deref()), ("paid", None));
    let Some(to_cloud::Kind::Refused(refused)) = ToCloud::decode(&read("to-cloud-refused")[..]).unwrap().kind
    else {
        panic!("the answer is no refusal")
    };
    assert_eq!((refused.refusal(), refused.payment_in_the_way()), (Refusal::AlreadyPaid, None));
    let Some(to_subscriber::Kind::Fresh(fresh)) =
        ToSubscriber::decode(&read("to-subscriber-fresh")[..]).unwrap().kind
    else {
        panic!("the message is not a position")
    };
    assert_eq!((fresh.age_micros, fresh.heard), (2_500, None));
    let request = ToIdc::decode(&read("to-idc-ask")[..]).unwrap();
    assert_eq!(request.trace, None);
    assert!(matches!(
        Receiver::new(8).handle_message(LinkId(1), 0, request),
        Received::Deliver(_, Delivery::Ask { key: None, .. })
    ));
}
