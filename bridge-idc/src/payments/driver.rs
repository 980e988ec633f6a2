//! The driver of the payment core: carries its outputs out, each request in a task of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bridge_protocol::domain::{OrderId, TraceParent};
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::receiver::{Reply, Token};
use bridge_protocol::wire::frame::{self, ORDER_FRAME_BYTES_MAX};
use bridge_protocol::wire::order::ToIdc;
use bridge_runtime::shutdown::Shutdown;
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

/// The service with the configured gateway.
pub type Service = Arc<Payments<Toss>>;

/// The core with its surroundings. Without a gateway it gets no requests, because no link has a
/// payment lane.
pub struct PaymentDriver {
    core: PaymentCore,
    /// Start of the core's clock.
    started: Instant,
    /// The keys at the start. Only the fingerprint key is used, and it does not change while the
    /// agent runs.
    keys: Arc<Keyring>,
    service: Option<Service>,
    ends: mpsc::Sender<(Token, ServiceEnd)>,
    metrics: Arc<Metrics>,
    /// Ends the agent if a request's task panics, whose end the core waits for.
    shutdown: Shutdown,
}

/// Receiver of the ends of requests.
pub type Ends = mpsc::Receiver<(Token, ServiceEnd)>;

impl PaymentDriver {
    /// Creates a driver with at most `window_max` requests under way, and the receiver of their
    /// ends.
    pub fn new(
        window_max: usize,
        keys: Arc<Keyring>,
        service: Option<Service>,
        metrics: Arc<Metrics>,
        shutdown: &Shutdown,
    ) -> (Self, Ends) {
        let (ends, received) = mpsc::channel(window_max.max(1));
        if service.is_some() {
            metrics.set_queue_limit(Queue::PaymentsInFlight, window_max);
        }
        let (core, started) = (PaymentCore::new(window_max), Instant::now());
        let shutdown = shutdown.clone();
        (Self { core, started, keys, service, ends, metrics, shutdown }, received)
    }

    /// Returns the number of requests that are received and not yet answered.
    pub fn under_way(&self) -> usize {
        self.core.under_way()
    }

    /// Takes one frame of a link's payment lane. `is_written` returns true if a request about an
    /// order is under way in the order core.
    pub fn handle_frame(
        &mut self,
        link: LinkId,
        payload: Bytes,
        is_written: impl Fn(OrderId) -> bool,
        links: &HashMap<LinkId, LinkSender>,
    ) {
        let mut span = Span::none();
        self.core.set_time(self.started.elapsed());
        match frame::decode::<ToIdc>(payload) {
            Ok(message) => {
                if let Some(trace) = message.trace.as_deref().and_then(TraceParent::from_bytes) {
                    span = tracing::info_span!("payment", trace_id = trace.trace_id());
                    continue_trace(&span, trace);
                }
                self.core.handle_message(link, message, &self.keys, is_written);
            }
            // The tunnel logs and counts the end of the link.
            Err(error) => {
                if let Some(sender) = links.get(&link) {
                    sender.refuse(&error);
                }
            }
        }
        self.do_outputs(links, &span);
    }

    /// Takes the end of a request from the service.
    pub fn handle_end(
        &mut self,
        (token, end): (Token, ServiceEnd),
        log_is_behind: impl Fn(OrderId) -> bool,
        links: &HashMap<LinkId, LinkSender>,
    ) {
        self.core.handle_end(token, end, log_is_behind);
        self.do_outputs(links, &Span::none());
    }

    /// Answers requests that waited for the audit log. It is called after every step of the orders.
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

    /// Forgets a link.
    pub fn handle_link_down(&mut self, link: LinkId) {
        self.core.handle_link_down(link);
    }

    /// Carries the core's outputs out. Calls of the service run within the span.
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
        let until = self.core.until(token).map(|until| self.started + until);
        let asking = async move {
            tracing::debug!("asked of the gateway");
            let end = service.serve(asked, coming, until).await;
            let _agent_gone = ends.send((token, end)).await;
        };
        tokio::spawn(self.shutdown.work("a payment's request", asking).instrument(span.clone()));
    }
}

fn send(links: &HashMap<LinkId, LinkSender>, Reply { link, message, .. }: &Reply) {
    // If the link is gone, the cloud agent asks again on another link.
    let Some(sender) = links.get(link) else { return };
    match frame::to_bytes(message, ORDER_FRAME_BYTES_MAX) {
        Ok(bytes) => {
            let _link_gone = sender.send_payment(&bytes);
        }
        Err(error) => tracing::error!(%error, "an answer does not fit into a frame"),
    }
}
