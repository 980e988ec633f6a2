//! What both agents count under one name: orders by outcome, bounded queues, sealing sessions, where the catalogue is.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labelled::Labelled;
use super::metrics::entered;
use crate::labels;

labels! {
    /// How an order ended, or was answered meanwhile.
    OrderOutcome as "outcome" {
        /// Committed.
        Placed = "placed",
        /// Not enough stock for one of its lines.
        SoldOut = "sold_out",
        /// A price is no longer the ledger's.
        PriceChanged = "price_changed",
        /// It names what is not sold.
        UnknownSku = "unknown_sku",
        /// Refused before it was executed, for want of room or of a link.
        Refused = "refused",
        /// Its answer was lost or late.
        Unknown = "unknown",
        /// Its key had an answer already, which was given again.
        Replayed = "replayed",
        /// Its key came before with another body.
        KeyReused = "key_reused",
        /// Cancelled, its units given back.
        Cancelled = "cancelled",
    }
}

labels! {
    /// A bounded queue; each has a gauge of its depth and one of its limit.
    Queue as "queue" {
        /// Cloud: orders waiting for a link.
        Orders = "orders",
        /// Cloud: orders of unknown outcome, being asked about.
        Settling = "settling",
        /// Either: orders on a link and not yet answered.
        InFlight = "in_flight",
        /// IDC: orders waiting for their sealing session to be decapsulated.
        Unopened = "unopened",
        /// IDC: opened orders waiting for their commit.
        Commit = "commit",
        /// IDC: orders that wait for what somebody else holds in the database.
        Held = "held",
        /// IDC: questions about orders, waiting for their look-up.
        Questions = "questions",
        /// Cloud: payments waiting for a link.
        Payments = "payments",
        /// Either: payments on a link and not yet answered.
        PaymentsInFlight = "payments_in_flight",
    }
}

/// The instruments.
#[derive(Debug)]
pub struct SharedMetrics {
    /// Orders by outcome, as this agent saw it.
    pub orders: Labelled<OrderOutcome, Counter>,
    /// What waits in each queue, and what fits into it.
    pub queues: Queues,
    /// Sealing sessions begun (cloud) or decapsulated (IDC).
    pub seal_sessions: Counter,
    /// The last number of the catalogue's change log that this agent knows (IDC) or serves (cloud).
    pub catalogue_position: Gauge,
    /// Bootstraps begun, each of which sends the whole catalogue to a replica.
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
    /// How much waits in a queue now.
    pub fn set_depth(&self, queue: Queue, depth: usize) {
        self.depth.of(queue).set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    /// How much fits into a queue.
    pub fn set_limit(&self, queue: Queue, limit: usize) {
        self.limit.of(queue).set(i64::try_from(limit).unwrap_or(i64::MAX));
    }
}

impl SharedMetrics {
    /// Made and entered.
    pub fn entered(registry: &mut Registry) -> Self {
        let queues = Queues {
            depth: entered(registry, "queue_depth", "What waits in each bounded queue"),
            limit: entered(registry, "queue_limit", "What fits into it"),
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
