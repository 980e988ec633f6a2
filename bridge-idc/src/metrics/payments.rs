//! The metrics of payments, refunds and their gateway.

use std::time::Duration;

use bridge_runtime::labels;
use bridge_runtime::telemetry::Labelled;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

labels! {
    /// What was learned of a payment; one in doubt counts each time it is asked about.
    PaymentOutcome as "outcome" {
        /// Money moved.
        Paid = "paid",
        /// The gateway refused.
        Declined = "declined",
        /// Nobody can tell yet.
        Unknown = "unknown",
        /// After a time in doubt: no money moved.
        NotPaid = "not_paid",
        /// Money moved after it had been said that none did: it goes back.
        ChargedLate = "charged_late",
        /// Refused before the gateway was asked.
        Refused = "refused",
        /// Its key had an answer already, which was given again.
        Replayed = "replayed",
    }
}

labels! {
    /// What was learned of a refund; one in doubt counts each time it is asked for.
    RefundOutcome as "outcome" {
        /// The money is back.
        Done = "done",
        /// The gateway refused.
        Refused = "refused",
        /// Nobody can tell yet.
        Unknown = "unknown",
        /// The gateway shows it as given back after it had been called refused.
        Late = "given_back_late",
    }
}

labels! {
    /// What a gateway's webhook was good for.
    WebhookUse as "use" {
        /// It named a payment in doubt, which is asked about at once.
        Hint = "hint",
        /// It named none, or was none.
        Ignored = "ignored",
        /// No room, or the database did not answer.
        Refused = "refused",
    }
}

/// The instruments.
#[derive(Debug)]
pub struct PaymentMetrics {
    /// What was learned of payments.
    pub outcomes: Labelled<PaymentOutcome, Counter>,
    /// What was learned of refunds.
    pub refunds: Labelled<RefundOutcome, Counter>,
    /// Payments and refunds that nobody can tell about now.
    pub unknown: Gauge,
    /// How old the oldest of them is.
    pub unknown_age_seconds: Gauge,
    /// Payments that were charged after they had been given up, and whose money is not back.
    pub charged_late: Gauge,
    /// Webhooks of the gateway.
    pub webhooks: Labelled<WebhookUse, Counter>,
    gateway_seconds: Histogram,
}

impl Default for PaymentMetrics {
    fn default() -> Self {
        Self {
            outcomes: Labelled::default(),
            refunds: Labelled::default(),
            unknown: Gauge::default(),
            unknown_age_seconds: Gauge::default(),
            charged_late: Gauge::default(),
            webhooks: Labelled::default(),
            // 10 ms to 41 s: gateways take hundreds of milliseconds, and are given up after some seconds.
            gateway_seconds: Histogram::new(exponential_buckets(0.01, 2.0, 13)),
        }
    }
}

impl PaymentMetrics {
    /// The gateway answered a call, or was given up, after that time.
    pub fn gateway_answered(&self, took: Duration) {
        self.gateway_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("payments", "What was learned of payments", self.outcomes.clone());
        registry.register("refunds", "What was learned of refunds", self.refunds.clone());
        let help = "Payments and refunds that nobody can tell about";
        registry.register("payments_unknown", help, self.unknown.clone());
        let help = "Age of the oldest payment or refund that nobody can tell about";
        let age = self.unknown_age_seconds.clone();
        registry.register_with_unit("payments_unknown_age", help, Unit::Seconds, age);
        let help = "Payments charged after they had been given up, whose money is not back";
        registry.register("payments_charged_late", help, self.charged_late.clone());
        registry.register("webhooks", "Webhooks of the payment gateway", self.webhooks.clone());
        let help = "Time until the payment gateway answered, or was given up";
        registry.register_with_unit("gateway", help, Unit::Seconds, self.gateway_seconds.clone());
    }
}
