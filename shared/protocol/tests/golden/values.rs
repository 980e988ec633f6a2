//! Known values of every message. Each field is set to a value that is not its default.

use std::fmt::Debug;

use bridge_protocol::domain::{OrderId, UnixMicros};
use bridge_protocol::wire::catalogue::{
    BrandRow, CategoryRow, Localised, ProductRow, StockRow, Variant, VariantOption,
};
use bridge_protocol::wire::control::{
    self, BrandGrant, Control, Goodbye, Grants, Heartbeat, Hello, Manifest, Obstacle, Readiness,
};
use bridge_protocol::wire::feed::{
    Applied, AskSums, Begin, Entry, Fresh, Heard, Page, Subscribe, Sums, ToPublisher, ToSubscriber,
    WirePosition,
};
use bridge_protocol::wire::order::{
    Ask, Cancel, Envelope, Line, Receipt, ReceiptFacts, Refusal, Refused, RefusedByLaunch, Settled, State,
    Terms, ToCloud, ToIdc, to_cloud, to_idc,
};
use bridge_protocol::wire::payment::{AskPayment, Pay, PaymentState, Refund, RefundState};
use bridge_protocol::wire::tcp::{Anchor, Close, Ping, Pong, Replaces};
use bytes::Bytes;
use prost::Message;

/// 2026-11-22 10:31:25 UTC, in microseconds since 1970-01-01 UTC.
pub(crate) const NOW: i64 = 1_795_343_485_000_000;

/// Reads bytes as a message of one kind.
type Reads<T> = Box<dyn Fn(&[u8]) -> Result<T, String>>;

/// A value with its file in the corpus.
pub(crate) struct Known {
    /// Name of the file with the folder of its corpus.
    pub(crate) name: String,
    /// Name of its message in the schema.
    pub(crate) message: &'static str,
    pub(crate) written: Vec<u8>,
    /// Reads these bytes. Fails unless they are this value.
    pub(crate) reads_as_this: Reads<()>,
    /// Reads these bytes and writes the result.
    pub(crate) again: Reads<Vec<u8>>,
}

fn known<M>(name: &'static str, message: &'static str, value: M) -> Known
where
    M: Message + Default + PartialEq + Debug + 'static,
{
    // Names in later corpora than the first include the folder.
    let name = if name.contains('/') { name.to_owned() } else { format!("v1/{name}") };
    Known {
        name,
        message,
        written: value.encode_to_vec(),
        reads_as_this: Box::new(move |bytes| match M::decode(bytes) {
            Ok(read) if read == value => Ok(()),
            other => Err(format!("{other:?}")),
        }),
        again: Box::new(|bytes| match M::decode(bytes) {
            Ok(read) => Ok(read.encode_to_vec()),
            Err(error) => Err(error.to_string()),
        }),
    }
}

/// Returns all known values.
pub(crate) fn all() -> Vec<Known> {
    [control(), anchor(), to_idc(), to_cloud(), feed(), at_rest()].into_iter().flatten().collect()
}

fn anchor() -> Vec<Known> {
    let of = |name, kind: Anchor| known(name, "tcp::Anchor", kind);
    vec![
        of("v1.6/anchor-ping", Ping { number: 7 }.into()),
        of("v1.6/anchor-pong", Pong { number: 7 }.into()),
        of("v1.6/anchor-replaces", Replaces { key: Bytes::from_static(&[0xab; 32]) }.into()),
        of("v1.6/anchor-close", Close { code: 2, sentence: "upgrade the peer".to_owned() }.into()),
    ]
}

fn control() -> Vec<Known> {
    let of = |name, kind: Control| known(name, "control::Control", kind);
    let grant = BrandGrant { brand: "shoes".to_owned(), outstanding: 300, per_second: 2_500 };
    let grants = Grants { number: 9, expires_millis: 1_000, brands: vec![grant] };
    vec![
        of("control-hello", hello().into()),
        of("control-heartbeat", Heartbeat { clock_micros: NOW, window: 2_048 }.into()),
        of("control-goodbye", Goodbye { reason: "it is upgraded".to_owned() }.into()),
        of("control-refused", control::Refused { reason: "upgrade the peer".to_owned() }.into()),
        of("control-manifest", Manifest { note: Bytes::from_static(b"bridge sealing keys\n") }.into()),
        of("v1.1/control-readiness", readiness().into()),
        of("v1.4/control-grants", grants.into()),
    ]
}

pub(crate) fn readiness() -> Readiness {
    Readiness::of(&[Obstacle::Database, Obstacle::Brand].into())
}

pub(crate) fn hello() -> Hello {
    Hello {
        version_oldest: 1,
        version_newest: 1,
        features: vec!["feed".to_owned(), "payments".to_owned()],
        agent: "idc-1".to_owned(),
        build: "0.1.0".to_owned(),
        clock_micros: NOW,
        order_lanes: 4,
        window: 2_048,
        manifest: Bytes::from_static(b"bridge sealing keys\n"),
        payment_window: 256,
        heartbeat_millis: 1_000,
    }
}

fn id(number: u8) -> Bytes {
    Bytes::copy_from_slice(OrderId::new(UnixMicros::new(NOW), [number; 10]).as_bytes())
}

fn key() -> Bytes {
    Bytes::from_static(&[0xcd; 32])
}

pub(crate) fn request(kind: to_idc::Kind) -> ToIdc {
    let trace = Some(Bytes::from_static(&[0x11; 25]));
    ToIdc { request: 7, kind: Some(kind), sequence: 3, trace, remaining_millis: None }
}

pub(crate) fn envelope() -> Envelope {
    Envelope {
        suite: 1,
        key_id: Bytes::from_static(&[0xa1; 8]),
        session: Bytes::from_static(&[0xb2; 16]),
        encapsulation: Bytes::from_static(&[0xc3; 4]),
        record: 300,
        brand: "shoes".to_owned(),
        order: id(1),
        key: key(),
        terms: terms().encode_to_vec().into(),
        ciphertext: Bytes::from_static(&[0xd4; 17]),
    }
}

pub(crate) fn pay() -> Pay {
    Pay {
        brand: "shoes".to_owned(),
        order: id(1),
        key: key(),
        payment: id(2),
        amount: 222_000,
        currency: "KRW".to_owned(),
        payment_key: "tgen_20261122".to_owned(),
    }
}

fn to_idc() -> Vec<Known> {
    let of = |name, kind| known(name, "order::ToIdc", request(kind));
    let in_time = |kind| ToIdc { remaining_millis: Some(9_500), ..request(kind) };
    let brand = || "shoes".to_owned();
    let cancel = Cancel { brand: brand(), order: id(1), key: key() };
    let ask = Ask { brand: brand(), order: id(1), key: Some(key()) };
    let refund = Refund {
        brand: brand(),
        order: id(1),
        key: key(),
        payment: id(2),
        refund: id(3),
        amount: 45_000,
        currency: "KRW".to_owned(),
        reason: "it is too small".to_owned(),
    };
    let ask_payment = AskPayment { brand: brand(), order: id(1), payment: id(2), key: Some(key()) };
    vec![
        of("to-idc-place", to_idc::Kind::Place(envelope())),
        known("v1.3/to-idc-cancel", "order::ToIdc", in_time(to_idc::Kind::Cancel(cancel.clone()))),
        of("to-idc-cancel", to_idc::Kind::Cancel(cancel)),
        of("to-idc-ask", to_idc::Kind::Ask(ask)),
        of("to-idc-pay", to_idc::Kind::Pay(pay())),
        of("to-idc-refund", to_idc::Kind::Refund(refund)),
        of("to-idc-ask-payment", to_idc::Kind::AskPayment(ask_payment)),
    ]
}

pub(crate) fn payment_state() -> PaymentState {
    let refund = RefundState {
        refund: id(3),
        state: "done".to_owned(),
        amount: 45_000,
        automatic: true,
        code: Some("ALREADY_REFUNDED".to_owned()),
        created_at_micros: NOW + 2,
    };
    PaymentState {
        payment: id(2),
        order: id(1),
        state: "not_paid".to_owned(),
        amount: 222_000,
        currency: "KRW".to_owned(),
        refunded: 45_000,
        code: Some("REJECT_CARD".to_owned()),
        created_at_micros: NOW + 1,
        refunds: vec![refund],
        refund: Some(id(3)),
        replayed: true,
        exactly: Some("charged_late".to_owned()),
    }
}

fn to_cloud() -> Vec<Known> {
    let of = |name, kind| known(name, "order::ToCloud", ToCloud { request: 7, kind: Some(kind) });
    let receipt = Receipt {
        facts: receipt_facts().encode_to_vec().into(),
        index: 1,
        size: 2,
        path: Bytes::from_static(&[0xe5; 32]),
        signature: Bytes::from_static(&[0xf6; 64]),
    };
    let refused = Refused { key_id: Bytes::from_static(&[0xa1; 8]), ..Refusal::UnknownKey.into() };
    let in_the_way = Refused { payment: id(2), ..Refusal::AlreadyPaid.into() };
    let state = State {
        order: id(1),
        state: "placed".to_owned(),
        terms: Some(terms()),
        position: 42,
        committed_at_micros: NOW,
    };
    vec![
        of("to-cloud-settled", to_cloud::Kind::Settled(Settled { receipt: Some(receipt), replayed: true })),
        of("to-cloud-refused", to_cloud::Kind::Refused(refused)),
        of("v1.2/to-cloud-refused", to_cloud::Kind::Refused(in_the_way)),
        of("to-cloud-state", to_cloud::Kind::State(state)),
        of("to-cloud-payment", to_cloud::Kind::Payment(payment_state())),
    ]
}

fn position() -> WirePosition {
    WirePosition { seq: 1_000, mark: NOW }
}

pub(crate) fn stock() -> Entry {
    let row = StockRow { available: 40 }.encode_to_vec();
    Entry { kind: 4, brand: "shoes".to_owned(), code: "DV1748-601".to_owned(), row: Some(row.into()) }
}

fn feed() -> Vec<Known> {
    let up = |name, what: ToPublisher| {
        known(name, "feed::ToPublisher", ToPublisher { clock_micros: Some(5_000_000), ..what })
    };
    let down = |name, what: ToSubscriber| known(name, "feed::ToSubscriber", what);
    let subscribe = Subscribe {
        brands: vec!["shirts".to_owned(), "shoes".to_owned()],
        position: Some(position()),
        window: 16,
        subscription: 9,
    };
    let page = Page { number: 5, entries: vec![stock()], position: Some(position()), complete: true };
    let heard = Heard { clock_micros: 5_000_000, ago_micros: 1_500 };
    let fresh = Fresh { head: Some(position()), age_micros: 2_500, heard: Some(heard) };
    let sums = Sums { head: Some(position()), buckets: vec![1, u64::MAX], unsettled: vec![3, 200] };
    vec![
        up("to-publisher-subscribe", subscribe.into()),
        up("to-publisher-applied", Applied { page: 5 }.into()),
        up("to-publisher-ask-sums", AskSums {}.into()),
        down("to-subscriber-begin", Begin { subscription: 9, bootstrap: true }.into()),
        down("to-subscriber-page", page.into()),
        down("to-subscriber-fresh", fresh.into()),
        down("to-subscriber-sums", sums.into()),
    ]
}

/// Returns messages that are bytes within another message, because their bytes are hashed or
/// compared.
fn at_rest() -> Vec<Known> {
    let text = |locale: &str, text: &str| Localised { locale: locale.to_owned(), text: text.to_owned() };
    let category = CategoryRow {
        parent: Some("sport".to_owned()),
        names: vec![text("en", "Running"), text("ko", "러닝")],
        position: -2,
    };
    let option = VariantOption { name: "size".to_owned(), value: "270".to_owned() };
    let product = ProductRow {
        names: vec![text("ko", "운동화")],
        descriptions: vec![text("en", "A shoe")],
        document: Bytes::from_static(br#"{"care":"dry"}"#),
        images: vec!["https://shop.example/1.jpg".to_owned()],
        categories: vec!["running".to_owned()],
        published_from_micros: Some(NOW),
        published_until_micros: Some(NOW + 1),
        variants: vec![Variant { sku: "DV1748-601".to_owned(), options: vec![option], price: 219_000 }],
        currency: "KRW".to_owned(),
    };
    let not_open = RefusedByLaunch { opens_at_micros: Some(NOW), limit: None, bought: None };
    let limit_reached = RefusedByLaunch { opens_at_micros: None, limit: Some(3), bought: Some(2) };
    vec![
        known("terms", "order::Terms", terms()),
        known("receipt-facts", "order::ReceiptFacts", receipt_facts()),
        known("v1.5/receipt-facts-not-open", "order::ReceiptFacts", refused_by_launch(not_open)),
        known("v1.5/receipt-facts-limit", "order::ReceiptFacts", refused_by_launch(limit_reached)),
        known("row-brand", "catalogue::BrandRow", BrandRow { currency: "KRW".to_owned() }),
        known("row-category", "catalogue::CategoryRow", category),
        known("row-product", "catalogue::ProductRow", product),
        known("row-stock", "catalogue::StockRow", StockRow { available: 40 }),
    ]
}

pub(crate) fn terms() -> Terms {
    Terms {
        lines: vec![Line { sku: "DV1748-601".to_owned(), quantity: 1, unit_price: 219_000 }],
        currency: "KRW".to_owned(),
        shipping_fee: 3_000,
        total: 222_000,
        customer_reference: "c-8842".to_owned(),
    }
}

fn receipt_facts() -> ReceiptFacts {
    ReceiptFacts {
        brand: "shoes".to_owned(),
        key: key(),
        order: id(1),
        outcome: "price-changed".to_owned(),
        sku: Some("DV1748-601".to_owned()),
        price: Some(229_000),
        currency: Some("KRW".to_owned()),
        position: 42,
        committed_at_micros: NOW,
        launch: None,
    }
}

/// An agent of an earlier release passes the reason over, and reads that the SKU is sold out.
fn refused_by_launch(reason: RefusedByLaunch) -> ReceiptFacts {
    ReceiptFacts {
        outcome: "sold-out".to_owned(),
        price: None,
        currency: None,
        launch: Some(reason),
        ..receipt_facts()
    }
}
