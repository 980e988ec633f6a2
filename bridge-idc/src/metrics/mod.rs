//! The metrics of bridge-idc, with the closed lists of their labels.

/// Payments, refunds and their gateway.
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
    /// Why a sealed order could not be opened.
    EnvelopeRejection as "reason" {
        /// Not an envelope.
        Malformed = "malformed",
        /// A suite that is not on the list.
        UnknownSuite = "unknown_suite",
        /// Sealed to a key that this IDC does not have.
        UnknownKey = "unknown_key",
        /// Sealed to a key whose time is over.
        ExpiredKey = "expired_key",
        /// A record of a session that was never announced.
        UnknownSession = "unknown_session",
        /// Changed on its way, or bound to another order.
        NotAuthentic = "not_authentic",
        /// Opened, and its content broke the rules of an order.
        BadContent = "bad_content",
    }
}

/// The instruments of one agent. Counting is an atomic addition; share it in an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    /// Those of links, the audit log and files, and the registry of all.
    pub runtime: Arc<telemetry::Metrics>,
    /// Those that both agents have.
    pub shared: SharedMetrics,
    /// Replicas that follow the catalogue on this agent now.
    pub catalogue_subscribers: Gauge,
    /// Reads of the catalogue that its database did not answer; each is tried again.
    pub catalogue_read_errors: Counter,
    /// Rows that break a rule of their kind, so that they count as gone for every replica until they are mended.
    pub catalogue_unreadable: Gauge,
    /// Envelopes that could not be opened.
    pub envelopes_rejected: Labelled<EnvelopeRejection, Counter>,
    /// Failures of the ledger's database, each of which is tried again or bisected.
    pub ledger_errors: Counter,
    batch_orders: Histogram,
    batch_lines: Histogram,
    commit_wait_seconds: Histogram,
    commit_seconds: Histogram,
    /// Payments, refunds and their gateway.
    pub payments: PaymentMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut runtime = telemetry::Metrics::default();
        let registry = runtime.registry();
        let shared = SharedMetrics::entered(registry);
        // 1 to 4096, the largest batch there can be.
        let batch_orders = Histogram::new(exponential_buckets(1.0, 2.0, 13));
        registry.register("batch_orders", "Orders in one transaction", batch_orders.clone());
        // 1 to 65,536, the largest setting that a batch's lines can have.
        let batch_lines = Histogram::new(exponential_buckets(1.0, 2.0, 17));
        registry.register("batch_lines", "Lines of orders in one transaction", batch_lines.clone());
        // 0.25 ms to 8 s: longer than a database that answers keeps anybody waiting.
        let commit_wait_seconds = Histogram::new(exponential_buckets(0.000_25, 2.0, 16));
        let help = "Time that the oldest order of a transaction waited for it to begin";
        registry.register_with_unit("commit_wait", help, Unit::Seconds, commit_wait_seconds.clone());
        // 0.25 ms, an SSD's fsync, to 2 s, where callers have given up.
        let commit_seconds = Histogram::new(exponential_buckets(0.000_25, 2.0, 14));
        let help = "Time of one transaction, its commit included";
        registry.register_with_unit("commit", help, Unit::Seconds, commit_seconds.clone());
        let payments = PaymentMetrics::default();
        payments.register(registry);
        let errors = "Reads of the catalogue that its database did not answer";
        let unreadable = "Rows that cannot be read and are served nowhere; the log names them";
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
    /// How much waits in a queue now.
    pub fn set_queue_depth(&self, queue: Queue, depth: usize) {
        self.shared.queues.set_depth(queue, depth);
    }

    /// How much fits into a queue.
    pub fn set_queue_limit(&self, queue: Queue, limit: usize) {
        self.shared.queues.set_limit(queue, limit);
    }

    /// One transaction was committed: with so many orders and so many lines, for which the oldest of them had waited for so long,
    /// in such a time. Who waited for what somebody else held is no measure of a queue.
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
