//! Which trace each order under way belongs to, so that its commit can be found by the storefront's own trace id.
//!
//! It is beside the agent, which decides nothing by it, and bounded: what does not fit is committed without being told of.

use std::collections::HashMap;

use bridge_protocol::domain::{OrderId, TraceParent};
use bridge_protocol::wire::order::{Cancel, ToIdc, to_idc};
use bridge_runtime::telemetry::continue_trace;
use tracing::Span;

use crate::ledger::Batch;

/// Traces of orders under way.
#[derive(Debug)]
pub struct Traces {
    by_order: HashMap<OrderId, TraceParent>,
    max: usize,
}

impl Traces {
    /// Of at most so many orders.
    pub fn new(max: usize) -> Self {
        Self { by_order: HashMap::new(), max }
    }

    /// A request came.
    pub fn received(&mut self, message: &ToIdc) {
        let Some(trace) = message.trace.as_deref().and_then(TraceParent::from_bytes) else { return };
        let order = match &message.kind {
            Some(to_idc::Kind::Place(envelope)) => &envelope.order,
            Some(to_idc::Kind::Cancel(Cancel { order, .. })) => order,
            _ => return,
        };
        let Ok(order) = OrderId::from_bytes(order) else { return };
        tracing::debug!(%order, trace_id = trace.trace_id(), "received");
        if self.by_order.len() < self.max {
            self.by_order.insert(order, trace);
        }
    }

    /// A batch is about to be committed: a span for each of its orders that has a trace, which is forgotten here.
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

    /// Nothing is under way any more: what was refused before a commit is forgotten as well.
    pub fn clear(&mut self) {
        self.by_order.clear();
    }
}
