//! Metrics that both agents have under one name: orders by outcome, bounded queues, sealing
//! sessions, the catalogue's position.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labelled::Labelled;
use super::metrics::entered;
use crate::labels;

labels! {
    /// Outcome of an order, or its answer meanwhile.
    OrderOutcome as "outcome" {
        /// Committed.
        Placed = "placed",
        /// Not enough stock for one of its lines.
        SoldOut = "sold_out",
        /// A price differs from the ledger's.
        PriceChanged = "price_changed",
        /// The launch of one of its SKUs had not opened.
        LaunchNotOpen = "launch_not_open",
        /// The customer would have more units than a launch sells to one.
        LimitReached = "limit_reached",
        /// It has a SKU that is not sold.
        UnknownSku = "unknown_sku",
        /// Refused before execution, because there was no room or no link.
        Refused = "refused",
        /// Its answer was lost or late.
        Unknown = "unknown",
        /// Its key already had an answer, which was repeated.
        Replayed = "replayed",
        /// Its key was used before with another body.
        KeyReused = "key_reused",
        /// Cancelled, and its units returned.
        Cancelled = "cancelled",
    }
}

labels! {
    /// A bounded queue. Each has a gauge of its depth and one of its limit.
    Queue as "queue" {
        /// Cloud: orders that wait for a link.
        Orders = "orders",
        /// Cloud: orders of unknown outcome that are being settled.
        Settling = "settling",
        /// Both: orders on a link without an answer.
        InFlight = "in_flight",
        /// IDC: orders that wait for the decapsulation of their sealing session.
        Unopened = "unopened",
        /// IDC: opened orders that wait for their commit.
        Commit = "commit",
        /// IDC: orders that wait for rows that another session has locked.
        Held = "held",
        /// Cloud: questions about orders that wait for a link. IDC: those that wait for their
        /// look-up.
        Questions = "questions",
        /// Cloud: payments that wait for a link.
        Payments = "payments",
        /// Cloud: questions about payments that wait for a link.
        PaymentQuestions = "payment_questions",
        /// Both: payments on a link without an answer.
        PaymentsInFlight = "payments_in_flight",
    }
}

/// The instruments.
#[derive(Debug)]
pub struct SharedMetrics {
    /// Orders by outcome, as this agent saw it.
    pub orders: Labelled<OrderOutcome, Counter>,
    /// Depth and limit of each queue.
    pub queues: Queues,
    /// Sealing sessions begun (cloud) or decapsulated (IDC).
    pub seal_sessions: Counter,
    /// Last number of the catalogue's change log that this agent knows (IDC) or serves (cloud).
    pub catalogue_position: Gauge,
    /// Bootstraps begun. Each sends the whole catalogue to a replica.
    pub catalogue_bootstraps: Counter,
}

/// The bounded queues of an agent.
#[derive(Debug)]
pub struct Queues {
    depth: Labelled<Queue, Gauge>,
    /// 0 for a queue of the other agent.
    limit: Labelled<Queue, Gauge>,
}

impl Queues {
    /// Sets the number of items in a queue.
    pub fn set_depth(&self, queue: Queue, depth: usize) {
        self.depth.of(queue).set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    /// Sets the most items of a queue.
    pub fn set_limit(&self, queue: Queue, limit: usize) {
        self.limit.of(queue).set(i64::try_from(limit).unwrap_or(i64::MAX));
    }
}

impl SharedMetrics {
    /// Makes and registers the instruments.
    pub fn entered(registry: &mut Registry) -> Self {
        let queues = Queues {
            depth: entered(registry, "queue_depth", "Items in each bounded queue"),
            limit: entered(registry, "queue_limit", "Most items of each bounded queue"),
        };
        let position = "Last change of the catalogue that is known or served";
        Self {
            orders: entered(registry, "orders", "Orders by outcome"),
            queues,
            seal_sessions: entered(registry, "seal_sessions", "Sealing sessions"),
            catalogue_position: entered(registry, "catalogue_position", position),
            catalogue_bootstraps: entered(registry, "catalogue_bootstraps", "Bootstraps of a replica"),
        }
    }
}
