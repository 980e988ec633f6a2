//! The storefront's trace of each order under way, so that the commit of an order appears under the
//! storefront's trace id.
//!
//! The order core decides nothing by it. The number of traces is bounded. If there is no room, all
//! of them are forgotten, because most then belong to orders that were refused.

use std::collections::HashMap;

use bridge_protocol::domain::{OrderId, TraceParent};
use bridge_protocol::wire::order::{Cancel, ToIdc, to_idc};
use bridge_runtime::telemetry::continue_trace;
use tracing::Span;

use crate::orders::store::Batch;

/// Traces of orders under way.
#[derive(Debug)]
pub struct Traces {
    by_order: HashMap<OrderId, TraceParent>,
    max: usize,
}

impl Traces {
    /// Creates an empty set for at most `max` orders.
    pub fn new(max: usize) -> Self {
        Self { by_order: HashMap::new(), max }
    }

    /// Remembers the trace of a received request.
    pub fn received(&mut self, message: &ToIdc) {
        let Some(trace) = message.trace.as_deref().and_then(TraceParent::from_bytes) else { return };
        let order = match &message.kind {
            Some(to_idc::Kind::Place(envelope)) => &envelope.order,
            Some(to_idc::Kind::Cancel(Cancel { order, .. })) => order,
            _ => return,
        };
        let Ok(order) = OrderId::from_bytes(order) else { return };
        tracing::debug!(%order, trace_id = trace.trace_id(), "received");
        if self.by_order.len() >= self.max {
            self.by_order.clear();
        }
        self.by_order.insert(order, trace);
    }

    /// Returns a span for each order of a batch that has a trace, and forgets these traces.
    pub fn begin_commit(&mut self, batch: &Batch) -> Vec<Span> {
        let orders = batch.requests.iter().map(|request| request.action.order());
        let traced = orders.filter_map(|order| Some((order, self.by_order.remove(&order)?)));
        let span = |(order, trace): (OrderId, TraceParent)| {
            let committed = tracing::field::Empty;
            let span = tracing::info_span!("commit", %order, trace_id = trace.trace_id(), committed);
            continue_trace(&span, trace);
            span
        };
        traced.map(span).collect()
    }
}

#[cfg(test)]
mod tests {
    use bridge_protocol::domain::{Brand, IdempotencyKey, UnixMicros};
    use bridge_protocol::seal::sealing::Header;
    use bytes::Bytes;

    use super::*;
    use crate::orders::open;
    use crate::vault::keyring::Keyring;

    #[test]
    fn orders_that_are_never_committed_take_no_place_from_later_ones() {
        let trace = TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        let mut traces = Traces::new(2);
        for number in 1..=5 {
            let order = OrderId::new(UnixMicros::new(1), [number; 10]);
            let cancel = Cancel { order: Bytes::copy_from_slice(order.as_bytes()), ..Cancel::default() };
            let trace = Some(Bytes::copy_from_slice(&trace.to_bytes()));
            let kind = Some(to_idc::Kind::Cancel(cancel));
            traces.received(&ToIdc { request: 1, kind, sequence: 1, trace, remaining_millis: None });
            assert!(traces.by_order.len() <= 2);
            if number == 5 {
                let brand = Brand::new("tea").unwrap();
                let key = IdempotencyKey::parse(b"k").unwrap().digest(&brand);
                let request = open::cancellation(Header { brand, order, key }, &Keyring::for_tests(1));
                let batch = Batch { requests: vec![request], at: UnixMicros::new(1) };
                assert_eq!((traces.begin_commit(&batch).len(), traces.begin_commit(&batch).len()), (1, 0));
            }
        }
    }
}
