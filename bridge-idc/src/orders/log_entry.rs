//! The audit log's entries of a request: that it has come, and what it came to.

use bridge_protocol::audit::entry::{Carried, Ended, Entry, Event};
use bridge_protocol::domain::UnixMicros;
use bridge_protocol::order_link::receiver::ReceivedOrder;
use bridge_protocol::seal::sealing::Header;
use bridge_runtime::audit_log::entry_of;
use bytes::Bytes;

use crate::orders::planner::Request;
use crate::orders::store::RequestOutcome;

/// Whose request under which key.
pub(crate) fn header_of(request: &Request) -> Header {
    Header { brand: request.brand.clone(), order: request.action.order(), key: request.key }
}

/// The entry of a request that has come.
pub(crate) fn received(
    at: UnixMicros,
    action: &str,
    header: &Header,
    ciphertext: Option<&Bytes>,
) -> Option<Entry> {
    let ciphertext = ciphertext.map(|bytes| &bytes[..]);
    entry_of(|| Entry::new(at, Event::OrderReceived(Carried::new(header, action, ciphertext))))
}

/// The entry of an order that has come.
pub(crate) fn placed(at: UnixMicros, order: &ReceivedOrder) -> Option<Entry> {
    received(at, "place", order.header(), Some(&order.envelope().ciphertext))
}

/// The entry of what a request came to.
pub(crate) fn ended(at: UnixMicros, header: &Header, end: &RequestOutcome) -> Option<Entry> {
    entry_of(|| Entry::new(at, came_to(header, end)))
}

fn came_to(header: &Header, end: &RequestOutcome) -> Event {
    match end {
        RequestOutcome::Settled { receipt, replayed } => Event::OrderCommitted(Ended {
            order: receipt.order,
            position: Some(receipt.position),
            replayed: *replayed,
            ..Ended::new(header, receipt.outcome.code())
        }),
        RequestOutcome::Refused(refusal) => Event::OrderAnswered(Ended::new(header, refusal.code())),
    }
}
