//! The driver of the payment core: does what its outputs say, each request in a task of its own.

use std::collections::HashMap;
use std::sync::Arc;

use bridge_protocol::domain::{OrderId, TraceParent};
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::receiver::{Reply, Token};
use bridge_protocol::wire::frame::{self, ORDER_FRAME_BYTES_MAX};
use bridge_protocol::wire::order::ToIdc;
use bridge_runtime::telemetry::continue_trace;
use bridge_runtime::telemetry::shared::Queue;
use bridge_runtime::tunnel::LinkSender;
use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::{Instrument as _, Span};

use super::core::{MayBeArriving, Output, PaymentCore, ServiceRequest};
use super::end::ServiceEnd;
use super::gateway::toss::Toss;
use super::service::Payments;
use crate::metrics::Metrics;
use crate::vault::keyring::Keyring;

/// The service over the gateway that there is.
pub type Service = Arc<Payments<Toss>>;

/// The core with what it needs of the world. Without a gateway nothing reaches it, since no link has a payment lane.
pub struct PaymentDriver {
    core: PaymentCore,
    /// As they were at the start: what is needed of them here does not change.
    keys: Arc<Keyring>,
    service: Option<Service>,
    ends: mpsc::Sender<(Token, ServiceEnd)>,
    metrics: Arc<Metrics>,
}

/// What the service came to.
pub type Ends = mpsc::Receiver<(Token, ServiceEnd)>;

impl PaymentDriver {
    /// A driver with at most that many requests under way, and the receiver of how they end.
    pub fn new(
        window_max: usize,
        keys: Arc<Keyring>,
        service: Option<Service>,
        metrics: Arc<Metrics>,
    ) -> (Self, Ends) {
        let (ends, received) = mpsc::channel(window_max.max(1));
        if service.is_some() {
            metrics.set_queue_limit(Queue::PaymentsInFlight, window_max);
        }
        (Self { core: PaymentCore::new(window_max), keys, service, ends, metrics }, received)
    }

    /// Requests received and not yet answered.
    pub fn under_way(&self) -> usize {
        self.core.under_way()
    }

    /// One frame came on the payment lane of a link. `is_written` says whether an order is on its way into the ledger.
    pub fn handle_frame(
        &mut self,
        link: LinkId,
        payload: Bytes,
        is_written: impl Fn(OrderId) -> bool,
        links: &HashMap<LinkId, LinkSender>,
    ) {
        let mut span = Span::none();
        match frame::decode::<ToIdc>(payload) {
            Ok(message) => {
                if let Some(trace) = message.trace.as_deref().and_then(TraceParent::from_bytes) {
                    span = tracing::info_span!("payment", trace_id = trace.trace_id());
                    continue_trace(&span, trace);
                }
                self.core.handle_message(link, message, &self.keys, is_written);
            }
            // The link's end is logged and counted where it ends.
            Err(error) => {
                if let Some(sender) = links.get(&link) {
                    sender.refuse(&error);
                }
            }
        }
        self.do_outputs(links, &span);
    }

    /// The service has ended a request.
    pub fn handle_end(
        &mut self,
        (token, end): (Token, ServiceEnd),
        log_is_behind: impl Fn(OrderId) -> bool,
        links: &HashMap<LinkId, LinkSender>,
    ) {
        self.core.handle_end(token, end, log_is_behind);
        self.do_outputs(links, &Span::none());
    }

    /// Orders went on, and so did the log.
    pub fn handle_log(
        &mut self,
        log_is_behind: impl Fn(OrderId) -> bool,
        links: &HashMap<LinkId, LinkSender>,
    ) {
        if self.core.holds_back() {
            self.core.handle_log(log_is_behind);
            self.do_outputs(links, &Span::none());
        }
    }

    /// A link is gone.
    pub fn handle_link_down(&mut self, link: LinkId) {
        self.core.handle_link_down(link);
    }

    /// Does what the core wants; what it asks of the service is asked within the span.
    fn do_outputs(&mut self, links: &HashMap<LinkId, LinkSender>, span: &Span) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Ask(token, asked, coming) => self.ask(token, asked, coming, span),
                Output::Send(reply) => send(links, &reply),
            }
        }
        self.metrics.set_queue_depth(Queue::PaymentsInFlight, self.core.under_way());
    }

    fn ask(&self, token: Token, asked: ServiceRequest, coming: MayBeArriving, span: &Span) {
        let Some(service) = self.service.clone() else { return };
        let ends = self.ends.clone();
        let asking = async move {
            tracing::debug!("asked of the gateway");
            let end = service.serve(asked, coming).await;
            let _agent_gone = ends.send((token, end)).await;
        };
        tokio::spawn(asking.instrument(span.clone()));
    }
}

fn send(links: &HashMap<LinkId, LinkSender>, Reply { link, message, .. }: &Reply) {
    // A link that is gone: whoever asked asks again on another.
    let Some(sender) = links.get(link) else { return };
    match frame::to_bytes(message, ORDER_FRAME_BYTES_MAX) {
        Ok(bytes) => {
            let _link_gone = sender.send_payment(&bytes);
        }
        Err(error) => tracing::error!(%error, "an answer does not fit into a frame"),
    }
}
