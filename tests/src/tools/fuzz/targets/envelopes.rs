//! Sealed envelopes: a changed envelope never opens (promise P5).

use std::sync::LazyLock;

use bridge_protocol::domain::{Brand, KeyDigest, OrderId, Personal, PersonalData, PersonalField};
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::receiver::{Received, Receiver};
use bridge_protocol::seal::opening::Opener;
use bridge_protocol::seal::sealing::{Header, SealingSession};
use bridge_protocol::wire::frame;
use bridge_protocol::wire::order::{Envelope, ToIdc, to_idc};
use bytes::Bytes;
use prost::Message as _;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

use super::{NOW, demand, opening_key};
use crate::tools::fuzz::hunt::{Target, Verdict};
use crate::tools::fuzz::mutate;

/// `Opener::open`, with and without the session in its cache, and `Receiver::handle_message`.
pub(super) const TARGET: Target = Target { name: "envelopes", corpus, change: mutate::protobuf, check };

/// Two sessions of two envelopes each, all for the same person, so that parts can be swapped.
pub(super) static SEALED: LazyLock<Vec<Envelope>> = LazyLock::new(sealed);

fn person() -> PersonalData {
    let mut data = PersonalData::default();
    data.set(PersonalField::CustomerName, Personal::new("김하나".to_owned()));
    data.set(PersonalField::DeliveryAddress, Personal::new("서울 중구 1\n2층".to_owned()));
    data
}

#[expect(clippy::expect_used, reason = "all of it is good")]
fn sealed() -> Vec<Envelope> {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut envelopes = Vec::new();
    for session in 0..2 {
        let mut sealing =
            SealingSession::start(&opening_key().sealing_key(), NOW, &mut rng).expect("a session");
        for record in 0..2 {
            let number = 10 * session + record;
            let header = Header {
                brand: Brand::new(["shoes", "hats"][usize::from(record)]).expect("a brand"),
                order: OrderId::new(NOW, [number; 10]),
                key: KeyDigest::from_bytes(&[number; 32]).expect("a digest"),
            };
            let terms = Bytes::from(format!("terms {number}"));
            envelopes.push(sealing.seal(&header, terms, &person()).expect("an envelope"));
        }
    }
    envelopes
}

fn corpus() -> Vec<Vec<u8>> {
    SEALED.iter().map(Envelope::encode_to_vec).collect()
}

fn check(input: &[u8]) -> Result<Verdict, String> {
    let Ok(envelope) = frame::decode::<Envelope>(input.to_vec().into()) else {
        return Ok(Verdict::Refused);
    };
    // A new opener needs the encapsulation.
    let mut opener = Opener::new(vec![opening_key()], 4);
    let verdict = match opener.open_at_once(LinkId(1), &envelope, NOW) {
        Ok(opened) => {
            demand(SEALED.contains(&envelope), "a changed envelope opens")?;
            demand(opened == person(), "an envelope opens to something else")?;
            Verdict::Accepted
        }
        Err(_) => Verdict::Refused,
    };
    // If the session is known, the encapsulation may be left out, and nothing else.
    if let Some(first) = SEALED.iter().find(|sealed| sealed.session == envelope.session) {
        demand(
            opener.open_at_once(LinkId(1), first, NOW).is_ok(),
            "an envelope does not open after a changed one was tried",
        )?;
        if opener.open_at_once(LinkId(1), &envelope, NOW).is_ok() {
            let whole = Envelope { encapsulation: first.encapsulation.clone(), ..envelope.clone() };
            let carried = &envelope.encapsulation;
            demand(carried.is_empty() || *carried == first.encapsulation, "a changed encapsulation opens")?;
            demand(SEALED.contains(&whole), "a changed envelope of a known session opens")?;
        }
    }
    receive(envelope)?;
    Ok(verdict)
}

/// Passes the envelope to a receiver, which must deliver or answer it, and hold nothing afterwards.
fn receive(envelope: Envelope) -> Result<(), String> {
    let mut receiver = Receiver::new(1);
    let message = ToIdc {
        request: 1,
        kind: Some(to_idc::Kind::Place(envelope)),
        sequence: 1,
        trace: None,
        remaining_millis: None,
    };
    match receiver.handle_message(LinkId(1), 0, message) {
        Received::Deliver(token, _) => receiver.abandon(token),
        Received::Answer(_) => {}
        Received::Duplicate => return Err("the first message is taken for a duplicate".to_owned()),
    }
    demand(receiver.under_way() == 0, "something is under way after all was answered")
}
