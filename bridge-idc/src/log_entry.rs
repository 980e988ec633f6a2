//! The audit log's entries of a request: that it has come, and what it came to.

use bridge_protocol::audit::entry::{Carried, Digest, Ended, Entry, Event, Word};
use bridge_protocol::domain::UnixMicros;
use bridge_protocol::seal::sealing::Header;
use bytes::Bytes;

use crate::ledger::Answer;
use crate::planner::Request;

/// Whose request under which key.
pub(crate) fn header_of(request: &Request) -> Header {
    Header { brand: request.brand.clone(), order: request.action.order(), key: request.key }
}

/// The entry of a request that has come.
pub(crate) fn received(at: UnixMicros, action: &str, header: &Header, ciphertext: Option<&Bytes>) -> Entry {
    let Header { brand, order, key } = header.clone();
    let bytes = ciphertext.map_or(0, |ciphertext| ciphertext.len() as u64);
    let ciphertext = ciphertext.map(|ciphertext| Digest::of(ciphertext));
    let action = Word::of(action);
    let carried = Carried { action, brand, bytes, ciphertext, key, order, payment: None };
    Entry::new(at, Event::OrderReceived(carried))
}

/// The entry of what a request came to.
pub(crate) fn ended(at: UnixMicros, header: Header, end: &Answer) -> Entry {
    let Header { brand, order, key } = header;
    let ended = |outcome: &str| Ended {
        brand,
        key,
        order,
        outcome: Word::of(outcome),
        payment: None,
        position: None,
        replayed: false,
    };
    Entry::new(
        at,
        match end {
            Answer::Settled { receipt, replayed } => Event::OrderCommitted(Ended {
                order: receipt.order,
                position: Some(receipt.position),
                replayed: *replayed,
                ..ended(receipt.outcome.code())
            }),
            Answer::Refused(refusal) => Event::OrderAnswered(ended(refusal.code())),
        },
    )
}
