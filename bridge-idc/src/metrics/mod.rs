//! The metrics of bridge-idc, with the closed lists of their labels.

/// Metrics of payments, refunds and their gateway.
pub mod payments;

use std::sync::Arc;
use std::time::Duration;

use bridge_runtime::labels;
use bridge_runtime::telemetry::Labelled;
use bridge_runtime::telemetry::metrics::{self as telemetry, entered};
use bridge_runtime::telemetry::shared::{Queue, SharedMetrics};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Unit;

use payments::PaymentMetrics;

labels! {
    /// Reasons why a sealed order could not be opened.
    EnvelopeRejection as "reason" {
        /// The bytes are not an envelope.
        Malformed = "malformed",
        /// The suite is not on the allow-list.
        UnknownSuite = "unknown_suite",
        /// Sealed to a key that this IDC does not have.
        UnknownKey = "unknown_key",
        /// Sealed to an expired key.
        ExpiredKey = "expired_key",
        /// A record of a session whose encapsulation never arrived.
        UnknownSession = "unknown_session",
        /// Changed on its way, or bound to another order.
        NotAuthentic = "not_authentic",
        /// Opened, but the content breaks a rule for orders.
        BadContent = "bad_content",
    }
}

/// The instruments of one agent. Counting is an atomic addition; share the struct in an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    /// Metrics of links, the audit log and files, and the registry of all metrics.
    pub runtime: Arc<telemetry::Metrics>,
    /// Metrics that both agents have.
    pub shared: SharedMetrics,
    /// Replicas that follow the catalogue on this agent now.
    pub catalogue_subscribers: Gauge,
    /// Failed reads of the catalogue's database. Each is tried again.
    pub catalogue_read_errors: Counter,
    /// Rows that break a rule of their kind. Every replica treats them as deleted until they are
    /// corrected.
    pub catalogue_unreadable: Gauge,
    /// Envelopes that could not be opened.
    pub envelopes_rejected: Labelled<EnvelopeRejection, Counter>,
    /// Failures of the ledger's database. Each is tried again or bisected.
    pub ledger_errors: Counter,
    /// Requests that were refused before their transaction, because their callers no longer
    /// waited.
    pub orders_dropped_late: Counter,
    batch_orders: Histogram,
    batch_lines: Histogram,
    commit_wait_seconds: Histogram,
    commit_seconds: Histogram,
    /// Metrics of payments, refunds and their gateway.
    pub payments: PaymentMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut runtime = telemetry::Metrics::default();
        let registry = runtime.registry();
        let shared = SharedMetrics::entered(registry);
        // Buckets from 1 to 4,096, the largest batch.
        let batch_orders = Histogram::new(exponential_buckets(1.0, 2.0, 13));
        registry.register("batch_orders", "Orders in one transaction", batch_orders.clone());
        // Buckets from 1 to 65,536, the largest setting for the lines of a batch.
        let batch_lines = Histogram::new(exponential_buckets(1.0, 2.0, 17));
        registry.register("batch_lines", "Lines of orders in one transaction", batch_lines.clone());
        // Buckets from 0.25 ms to 8 s. A database that answers makes no order wait longer.
        let commit_wait_seconds = Histogram::new(exponential_buckets(0.000_25, 2.0, 16));
        let help = "Time that the oldest order of a transaction waited for the transaction to begin";
        registry.register_with_unit("commit_wait", help, Unit::Seconds, commit_wait_seconds.clone());
        // Buckets from 0.25 ms (the fsync of an SSD) to 2 s, after which callers have given up.
        let commit_seconds = Histogram::new(exponential_buckets(0.000_25, 2.0, 14));
        let help = "Time of one transaction, its commit included";
        registry.register_with_unit("commit", help, Unit::Seconds, commit_seconds.clone());
        let payments = PaymentMetrics::default();
        payments.register(registry);
        let errors = "Failed reads of the catalogue's database";
        let unreadable = "Rows that cannot be read and are published as deleted; the log names them";
        let late = "Orders and cancellations refused before their transaction, because the time of their frame had passed";
        let ledger = "Failures of the ledger's database, for one brand or for all";
        Self {
            shared,
            catalogue_subscribers: entered(
                registry,
                "catalogue_subscribers",
                "Replicas that follow the catalogue here",
            ),
            catalogue_read_errors: entered(registry, "catalogue_read_errors", errors),
            catalogue_unreadable: entered(registry, "catalogue_unreadable", unreadable),
            envelopes_rejected: entered(registry, "envelopes_rejected", "Envelopes that could not be opened"),
            ledger_errors: entered(registry, "ledger_errors", ledger),
            orders_dropped_late: entered(registry, "orders_dropped_late", late),
            batch_orders,
            batch_lines,
            commit_wait_seconds,
            commit_seconds,
            payments,
            runtime: Arc::new(runtime),
        }
    }
}

impl Metrics {
    /// Sets the present length of a queue.
    pub fn set_queue_depth(&self, queue: Queue, depth: usize) {
        self.shared.queues.set_depth(queue, depth);
    }

    /// Sets the limit of a queue.
    pub fn set_queue_limit(&self, queue: Queue, limit: usize) {
        self.shared.queues.set_limit(queue, limit);
    }

    /// Observes one committed transaction: its orders, its lines, the wait of its oldest order, and
    /// its duration. `waited` is `None` for orders that waited for a held row, because their wait
    /// says nothing about the queue.
    pub fn batch_committed(&self, orders: usize, lines: usize, waited: Option<Duration>, took: Duration) {
        self.batch_orders.observe(count(orders));
        self.batch_lines.observe(count(lines));
        waited.into_iter().for_each(|waited| self.commit_wait_seconds.observe(waited.as_secs_f64()));
        self.commit_seconds.observe(took.as_secs_f64());
    }
}

fn count(of: usize) -> f64 {
    f64::from(u32::try_from(of).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_enters_all_histograms_and_a_turn_not_the_wait() {
        let metrics = Metrics::default();
        metrics.batch_committed(64, 1_664, Some(Duration::from_millis(2)), Duration::from_millis(3));
        metrics.batch_committed(0, 0, None, Duration::from_millis(3));
        let text = metrics.runtime.encode();
        assert!(text.contains("bridge_batch_orders_sum 64.0\n"), "{text}");
        assert!(text.contains("bridge_batch_orders_bucket{le=\"32.0\"} 1\n"), "{text}");
        assert!(text.contains("bridge_batch_lines_sum 1664.0\n"), "{text}");
        assert!(text.contains("bridge_commit_wait_seconds_count 1\n"), "{text}");
        assert!(text.contains("bridge_commit_seconds_count 2\n"), "{text}");
    }
}
