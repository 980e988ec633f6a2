//! Frames and their messages: cut anywhere, with any announced length, from any peer.
//!
//! The first byte of an input decides the cuts, the second the lane's limit. The rest is the bytes
//! of a lane.

use bridge_protocol::domain::OrderId;
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::receiver::{Received, Receiver};
use bridge_protocol::receipt;
use bridge_protocol::seal::manifest::Manifest;
use bridge_protocol::wire::control::{Control, Goodbye, Heartbeat, Hello, message};
use bridge_protocol::wire::frame::{
    self, CONTROL_FRAME_BYTES_MAX, FrameDecoder, FrameError, HEADER_BYTES, ORDER_FRAME_BYTES_MAX,
};
use bridge_protocol::wire::lane::Lane;
use bridge_protocol::wire::order::{
    Ask, Cancel, Envelope, Line, Refusal, Settled, State, Terms, ToCloud, ToIdc, to_cloud, to_idc,
};
use bridge_protocol::wire::payment::{self, AskPayment, Pay};
use bridge_protocol::wire::version::Versions;
use bytes::{BufMut, Bytes};
use prost::Message;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{NOW, demand, envelopes, opening_key, pinned, receipts, signer};
use crate::tools::fuzz::hunt::{Target, Verdict};
use crate::tools::fuzz::mutate;

/// `FrameDecoder`, all messages, and the code that reads them first: receiver, receipt, manifest,
/// versions, terms.
pub(super) const TARGET: Target = Target { name: "frames", corpus, change, check };

/// Number of bytes before those of the lane.
const SETTINGS: usize = 2;
/// Most requests under way. It is small, so that cases reach the limit.
const WINDOW: usize = 2;
/// Most lines of an order. It is small, so that cases reach the limit.
const LINES_MAX: usize = 3;

fn corpus() -> Vec<Vec<u8>> {
    let stream = |cuts: u8, frames: Vec<Bytes>| [&[cuts, 0], frames.concat().as_slice()].concat();
    vec![stream(0, asked()), stream(1, answered()), stream(7, said())]
}

/// Returns frames of an order lane towards the IDC.
fn asked() -> Vec<Bytes> {
    let order = Bytes::copy_from_slice(OrderId::new(NOW, [1; 10]).as_bytes());
    let key = Bytes::from_static(&[3; 32]);
    let envelope = Envelope { terms: terms().encode_to_vec().into(), ..envelopes::SEALED[0].clone() };
    let kinds = [
        to_idc::Kind::Place(envelope),
        to_idc::Kind::Cancel(Cancel { brand: "shoes".into(), order: order.clone(), key: key.clone() }),
        to_idc::Kind::Ask(Ask { brand: "shoes".into(), order: order.clone(), key: Some(key.clone()) }),
        to_idc::Kind::Pay(Pay {
            brand: "shoes".into(),
            order: order.clone(),
            key: key.clone(),
            payment: order.clone(),
            amount: 1_000,
            currency: "KRW".into(),
            payment_key: "tgen_1".into(),
        }),
        to_idc::Kind::Refund(payment::Refund {
            brand: "shoes".into(),
            order: order.clone(),
            key: key.clone(),
            payment: order.clone(),
            refund: order.clone(),
            amount: 1_000,
            currency: "KRW".into(),
            reason: "it came back".into(),
        }),
        to_idc::Kind::AskPayment(AskPayment {
            brand: "shoes".into(),
            order: order.clone(),
            payment: order,
            key: Some(key),
        }),
    ];
    let message = |(kind, number)| ToIdc {
        request: number,
        kind: Some(kind),
        sequence: number,
        trace: None,
        remaining_millis: None,
    };
    kinds.into_iter().zip(1..).map(message).map(|message| frame_of(&message)).collect()
}

/// Returns frames of an order lane towards the cloud.
fn answered() -> Vec<Bytes> {
    let state = State {
        order: Bytes::copy_from_slice(OrderId::new(NOW, [1; 10]).as_bytes()),
        state: "placed".into(),
        terms: Some(terms()),
        position: 7,
        committed_at_micros: NOW.get(),
    };
    let kinds = [
        to_cloud::Kind::Settled(Settled { receipt: receipts::SIGNED.last().cloned(), replayed: true }),
        to_cloud::Kind::Refused(Refusal::Busy.into()),
        to_cloud::Kind::State(state),
        to_cloud::Kind::Payment(payment::PaymentState {
            state: "paid".into(),
            amount: 1_000,
            currency: "KRW".into(),
            refunds: vec![payment::RefundState { state: "done".into(), amount: 1_000, ..Default::default() }],
            ..Default::default()
        }),
    ];
    kinds.into_iter().map(|kind| frame_of(&ToCloud { request: 1, kind: Some(kind) })).collect()
}

/// Returns frames of a control lane.
#[expect(clippy::expect_used, reason = "its key is a good one")]
fn said() -> Vec<Bytes> {
    let manifest = Manifest { keys: vec![opening_key().sealing_key()] };
    let manifest = manifest.sign(&signer()).expect("a manifest");
    let hello = Hello { manifest, order_lanes: 4, window: 8, ..Hello::of_this_build("idc-1") };
    vec![
        frame_of(&Control::from(hello)),
        frame_of(&Control::from(Heartbeat { clock_micros: NOW.get(), window: 8 })),
        frame_of(&Control::from(Goodbye { reason: "done".into() })),
    ]
}

fn terms() -> Terms {
    Terms {
        lines: vec![Line { sku: "SHOE-270".into(), quantity: 2, unit_price: 500 }],
        currency: "KRW".into(),
        shipping_fee: 0,
        total: 1_000,
        customer_reference: "c-1".into(),
    }
}

#[expect(clippy::expect_used, reason = "every message here is far below the limit")]
fn frame_of(message: &impl Message) -> Bytes {
    frame::to_bytes(message, ORDER_FRAME_BYTES_MAX).expect("a frame")
}

/// Changes the message in one frame, or the frame's length.
fn change(rng: &mut ChaCha8Rng, input: &[u8], other: &[u8]) -> Vec<u8> {
    let (Some((settings, mut frames)), Some((_, others))) = (split(input), split(other)) else {
        return mutate::bytes(rng, input, other);
    };
    let (at, theirs) = (rng.random_range(0..frames.len()), rng.random_range(0..others.len()));
    let mut announced = None;
    match rng.random_range(0..8) {
        0 => drop(frames.remove(at)),
        1 => frames.insert(at, frames[at].clone()),
        2 => frames.insert(at, others[theirs].clone()),
        3 => announced = Some(mutate::number(rng) as u32),
        _ => frames[at] = mutate::protobuf(rng, &frames[at], &others[theirs]),
    }
    let mut out = settings.to_vec();
    for (index, frame) in frames.iter().enumerate() {
        out.put_u32(announced.filter(|_| index == at).unwrap_or(frame.len() as u32));
        out.extend_from_slice(frame);
    }
    out
}

/// Splits an input into its settings and payloads. Returns `None` if it has no complete frame.
fn split(input: &[u8]) -> Option<(&[u8], Vec<Vec<u8>>)> {
    let (settings, mut lane) = input.split_at_checked(SETTINGS)?;
    let mut frames = Vec::new();
    while let Some((len, rest)) = lane.split_first_chunk::<HEADER_BYTES>() {
        let Some((frame, rest)) = rest.split_at_checked(u32::from_be_bytes(*len) as usize) else { break };
        frames.push(frame.to_vec());
        lane = rest;
    }
    (!frames.is_empty()).then_some((settings, frames))
}

fn check(input: &[u8]) -> Result<Verdict, String> {
    let Some(([cuts, limit], lane)) = input.split_first_chunk::<SETTINGS>() else {
        return Ok(Verdict::Refused);
    };
    let max = [ORDER_FRAME_BYTES_MAX, CONTROL_FRAME_BYTES_MAX, 64][usize::from(*limit) % 3];
    let whole = read(lane, lane.len().max(1), max)?;
    let cut = read(lane, usize::from(*cuts) + 1, max)?;
    demand(whole == cut, "the cuts between bytes change the frames")?;
    let (frames, end) = whole;
    let mut receiver = Receiver::new(WINDOW);
    let mut known = true;
    for frame in &frames {
        demand(frame.len() <= max, "a frame above the lane's limit was read")?;
        known &= to_idc(frame, &mut receiver)? | to_cloud(frame)? | control(frame)?;
    }
    if let Some(preamble) = lane.first_chunk() {
        let opened = Lane::from_preamble(*preamble);
        demand(
            opened.is_err() || opened.is_ok_and(|lane| Lane::from_preamble(lane.preamble()) == Ok(lane)),
            "a preamble is not read back",
        )?;
    }
    Ok(if end.is_none() && known && !frames.is_empty() { Verdict::Accepted } else { Verdict::Refused })
}

/// Decodes a lane whose bytes arrive in pieces of `step`. Returns the frames, and the error that
/// ends the lane.
fn read(lane: &[u8], step: usize, max: usize) -> Result<(Vec<Bytes>, Option<FrameError>), String> {
    let mut decoder = FrameDecoder::new(max);
    let mut frames = Vec::new();
    for bytes in lane.chunks(step) {
        decoder.buffer_mut().put_slice(bytes);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return Ok((frames, Some(error))),
            }
        }
        // An announced length must not allocate memory: only received bytes are held, in a buffer
        // that doubles as it grows.
        demand(
            decoder.buffer_mut().capacity() <= 2 * lane.len() + 64,
            "memory was allocated for bytes that have not arrived",
        )?;
    }
    Ok((frames, None))
}

fn to_idc(frame: &Bytes, receiver: &mut Receiver) -> Result<bool, String> {
    let Some(message) = read_back::<ToIdc>(frame)? else { return Ok(false) };
    if let Some(to_idc::Kind::Place(envelope)) = &message.kind
        && let Some(terms) = read_back::<Terms>(&envelope.terms)?
    {
        check_terms(terms)?;
    }
    let (link, lane, before) = (LinkId(1), 0, receiver.under_way());
    match receiver.handle_message(link, lane, message) {
        Received::Deliver(..) => demand(receiver.under_way() == before + 1, "delivered and not under way")?,
        Received::Answer(reply) => {
            demand((reply.link, reply.lane) == (link, lane), "an answer goes to another link or lane")?
        }
        Received::Duplicate => {}
    }
    demand(receiver.under_way() <= WINDOW, "more is under way than the window holds")?;
    Ok(true)
}

/// Checks that accepted terms are encoded to the same message again.
fn check_terms(terms: Terms) -> Result<(), String> {
    let Ok(order) = terms.clone().check(LINES_MAX) else { return Ok(()) };
    demand(order.lines().len() <= LINES_MAX, "more lines than allowed")?;
    demand(Terms::from(&order) == terms, "checked terms are others than those that came")
}

fn to_cloud(frame: &Bytes) -> Result<bool, String> {
    let Some(message) = read_back::<ToCloud>(frame)? else { return Ok(false) };
    match message.kind {
        Some(to_cloud::Kind::Settled(Settled { receipt: Some(receipt), .. })) => {
            let genuine = receipts::SIGNED.contains(&receipt);
            demand(genuine || receipt::verify(&receipt, &pinned()).is_err(), "a receipt that nobody signed")?;
        }
        Some(to_cloud::Kind::State(State { terms: Some(terms), .. })) => check_terms(terms)?,
        _ => {}
    }
    Ok(true)
}

fn control(frame: &Bytes) -> Result<bool, String> {
    let Some(message) = read_back::<Control>(frame)? else { return Ok(false) };
    if let Some(message::Kind::Hello(hello)) = message.kind {
        if let Ok(version) = Versions::OURS.agree(hello.versions()) {
            demand(
                (hello.version_oldest..=hello.version_newest).contains(&version),
                "an agreed version that the peer does not offer",
            )?;
        }
        if let Ok(manifest) = Manifest::verify(&hello.manifest, &pinned(), NOW) {
            demand(manifest.keys == [opening_key().sealing_key()], "a manifest that nobody signed")?;
        }
    }
    Ok(true)
}

/// Decodes a message, if the bytes are one. Encoding and decoding it again must give the same
/// message.
fn read_back<M: Message + Default + PartialEq>(bytes: &Bytes) -> Result<Option<M>, String> {
    let Ok(message) = frame::decode::<M>(bytes.clone()) else { return Ok(None) };
    let again = frame::decode::<M>(message.encode_to_vec().into());
    demand(again.as_ref() == Ok(&message), "a message is another one when it is written and read again")?;
    Ok(Some(message))
}
