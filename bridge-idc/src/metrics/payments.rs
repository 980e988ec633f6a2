//! The metrics of payments, refunds and their gateway.

use std::time::Duration;

use bridge_runtime::labels;
use bridge_runtime::telemetry::Labelled;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

labels! {
    /// Outcomes of payments. A payment in doubt counts each time the gateway is queried.
    PaymentOutcome as "outcome" {
        /// The customer was charged.
        Paid = "paid",
        /// The gateway refused.
        Declined = "declined",
        /// The outcome is not known yet.
        Unknown = "unknown",
        /// The payment was in doubt, and the gateway then showed no charge.
        NotPaid = "not_paid",
        /// The customer was charged after the agent had reported no charge. The money goes back.
        ChargedLate = "charged_late",
        /// Refused before the gateway was called.
        Refused = "refused",
        /// The idempotency key already had an answer, which was returned again.
        Replayed = "replayed",
    }
}

labels! {
    /// Outcomes of refunds. A refund in doubt counts each time the gateway is called.
    RefundOutcome as "outcome" {
        /// The money is back with the customer.
        Done = "done",
        /// The gateway refused.
        Refused = "refused",
        /// The outcome is not known yet.
        Unknown = "unknown",
        /// The gateway shows the refund as done, although the agent had recorded it as refused.
        Late = "given_back_late",
    }
}

labels! {
    /// Uses of a gateway's webhook.
    WebhookUse as "use" {
        /// The webhook named a payment in doubt. The agent queries the gateway about it at once.
        Hint = "hint",
        /// The webhook named no payment in doubt, or was not valid.
        Ignored = "ignored",
        /// The queue was full, or the database did not answer.
        Refused = "refused",
    }
}

/// The instruments of payments.
#[derive(Debug)]
pub struct PaymentMetrics {
    /// Outcomes of payments.
    pub outcomes: Labelled<PaymentOutcome, Counter>,
    /// Outcomes of refunds.
    pub refunds: Labelled<RefundOutcome, Counter>,
    /// Payments and refunds of unknown outcome now.
    pub unknown: Gauge,
    /// Age of the oldest payment or refund of unknown outcome.
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
            // Buckets from 10 ms to 41 s. Gateways take hundreds of milliseconds; a call is given
            // up after some seconds.
            gateway_seconds: Histogram::new(exponential_buckets(0.01, 2.0, 13)),
        }
    }
}

impl PaymentMetrics {
    /// Observes one call to the gateway: the time until it answered or was given up.
    pub fn gateway_answered(&self, took: Duration) {
        self.gateway_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("payments", "Outcomes of payments", self.outcomes.clone());
        registry.register("refunds", "Outcomes of refunds", self.refunds.clone());
        let help = "Payments and refunds of unknown outcome";
        registry.register("payments_unknown", help, self.unknown.clone());
        let help = "Age of the oldest payment or refund of unknown outcome";
        let age = self.unknown_age_seconds.clone();
        registry.register_with_unit("payments_unknown_age", help, Unit::Seconds, age);
        let help = "Payments charged after they had been given up, whose money is not back";
        registry.register("payments_charged_late", help, self.charged_late.clone());
        registry.register("webhooks", "Webhooks of the payment gateway", self.webhooks.clone());
        let help = "Time until the payment gateway answered, or was given up";
        registry.register_with_unit("gateway", help, Unit::Seconds, self.gateway_seconds.clone());
    }
}
