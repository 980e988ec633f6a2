//! Audit log entries about a request: its receipt and its outcome.

use bridge_protocol::audit::entry::{Carried, Ended, Entry, Event};
use bridge_protocol::domain::UnixMicros;
use bridge_protocol::order_link::receiver::ReceivedOrder;
use bridge_protocol::seal::sealing::Header;
use bridge_runtime::audit_log::entry_of;
use bytes::Bytes;

use crate::orders::planner::Request;
use crate::orders::store::RequestOutcome;

/// Returns the header of a request.
pub(crate) fn header_of(request: &Request) -> Header {
    Header { brand: request.brand.clone(), order: request.action.order(), key: request.key }
}

/// Returns the entry about the receipt of a request.
pub(crate) fn received(
    at: UnixMicros,
    action: &str,
    header: &Header,
    ciphertext: Option<&Bytes>,
) -> Option<Entry> {
    let ciphertext = ciphertext.map(|bytes| &bytes[..]);
    entry_of(|| Entry::new(at, Event::OrderReceived(Carried::new(header, action, ciphertext))))
}

/// Returns the entry about the receipt of an order.
pub(crate) fn placed(at: UnixMicros, order: &ReceivedOrder) -> Option<Entry> {
    received(at, "place", order.header(), Some(&order.envelope().ciphertext))
}

/// Returns the entry about the outcome of a request.
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
