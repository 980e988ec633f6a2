//! The reconciler: takes payments and refunds that are due, and asks the gateway until their
//! outcome is known.
//!
//! Several agents may do this on one ledger. A row belongs to one agent for as long as its queries
//! may take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge_protocol::domain::{RefundState, UnixMicros};
use bridge_runtime::shutdown::Shutdown;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Payment;
use super::audit::{LogFirst, look_at_refund};
use super::gateway::{Gateway, GatewayAnswer};
use super::policy::{Known, Step, next_step};
use super::service::{Environment, GatewayTurn, Payments, chain};
use super::store::{Concluded, DuePayment, DueRefund, NotDone, PaymentLedger as _, ReportedOutcome};
use crate::metrics::payments::RefundOutcome;

/// Kinds of due rows: refunds, payments, and refunds that were refused.
const KINDS: usize = 3;

/// Most calls of the gateway for one row.
const CALLS_A_ROW: u32 = 2;

/// Interval between two searches for due rows, if no hint comes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Pause between two requests for a charge or a refund after the log has warned about it. In this
/// pause no request is on its way, so an operator can decide that no money moved.
const TIME_TO_SPEAK: Duration = Duration::from_secs(60);

/// Pause between two searches while the ledger does not answer.
const DATABASE_IS_DOWN: Duration = Duration::from_secs(2);

/// Rows that are due, and that belong to this agent for some time.
#[derive(Debug, Default)]
pub struct Due {
    /// Refunds to request.
    pub refunds: Vec<TakenRefund>,
    /// Payments to ask about.
    pub payments: Vec<DuePayment>,
    /// Refunds to look at, because they were refused after a doubt.
    pub refused: Vec<DueRefund>,
}

impl Due {
    fn is_empty(&self) -> bool {
        self.refunds.is_empty() && self.payments.is_empty() && self.refused.is_empty()
    }
}

/// A refund to request, and this agent's turn to do it.
#[derive(Debug)]
pub struct TakenRefund {
    due: DueRefund,
    turn: GatewayTurn,
}

impl<G: Gateway> Payments<G> {
    /// Asks about payments and refunds of unknown outcome until the agent ends. Rows that it is
    /// asking about at that time become due again later.
    pub async fn reconcile(self: Arc<Self>, shutdown: Shutdown) {
        let mut asking = JoinSet::new();
        let mut counted: Option<Instant> = None;
        loop {
            let wait = match self.ask_what_is_due(&mut asking).await {
                Ok(()) => self.limits.retry_first.min(LOOK_EVERY),
                Err(error) => {
                    tracing::error!(error = %chain(error), "look for payments in doubt");
                    DATABASE_IS_DOWN
                }
            };
            if counted.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
                self.count_doubts().await;
                counted = Some(Instant::now());
            }
            tokio::select! {
                Some(_) = asking.join_next() => {}
                () = self.hinted.notified() => {}
                () = sleep(wait) => {}
                _deadline = shutdown.started() => break,
            }
        }
    }

    /// Takes due rows as far as there is room, and starts the queries about them.
    async fn ask_what_is_due(self: &Arc<Self>, asking: &mut JoinSet<()>) -> Result<(), NotDone> {
        while asking.try_join_next().is_some() {}
        loop {
            let room = self.limits.doubts_max.saturating_sub(asking.len());
            if room == 0 {
                return Ok(());
            }
            let due = self.take_due(room).await?;
            if due.is_empty() {
                return Ok(());
            }
            let Due { refunds, payments, refused } = due;
            for due in refunds {
                let payments = self.clone();
                asking.spawn(async move { payments.ask_for_refund(due).await });
            }
            for due in payments {
                let payments = self.clone();
                asking.spawn(async move { payments.ask_about(due).await });
            }
            for due in refused {
                let payments = self.clone();
                asking.spawn(async move { payments.look_at_refused(due).await });
            }
        }
    }
}

impl<G: Gateway, S: Environment> Payments<G, S> {
    /// Takes due rows, at most as many as `room` allows, and holds them for the longest time that
    /// their queries may take.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer.
    pub async fn take_due(&self, room: usize) -> Result<Due, NotDone> {
        let rows_max = i64::try_from(room.div_ceil(KINDS)).unwrap_or(i64::MAX);
        let hold = self.hold();
        // Refunds come first, because that money belongs to shoppers.
        let turn = self.turn();
        let refunds = self.site.ledger().take_due_refunds(hold, rows_max).await?;
        let refunds = refunds.into_iter().map(|due| TakenRefund { due, turn }).collect();
        let payments = self.site.ledger().take_due_payments(hold, rows_max).await?;
        let refused = self.site.ledger().take_refused_refunds(hold, rows_max).await?;
        Ok(Due { refunds, payments, refused })
    }

    /// Returns the time for which a row belongs to this agent.
    fn hold(&self) -> Duration {
        self.limits.timeout.saturating_mul(CALLS_A_ROW) + self.limits.margin
    }

    /// Asks about a payment and writes the gateway's answer.
    pub async fn ask_about(&self, DuePayment { payment, age, quiet, order_stands }: DuePayment) {
        let started = self.site.now();
        let found = self.gateway.find(&payment.charge).await;
        self.metrics.payments.gateway_answered(self.site.now().saturating_duration_since(started));
        let given_up = payment.state.is_given_up();
        let asks = payment.asks;
        let (payment, told, held) = match next_step(found, Known { age, quiet, order_stands, given_up }) {
            Step::Charged => (payment, ReportedOutcome::Done, None),
            Step::NotCharged(code) => (payment, ReportedOutcome::NotDone(code), None),
            Step::ConfirmAgain => self.confirm_again(payment, age).await,
            Step::AskLater => (payment, self.nothing(asks), None),
        };
        if !given_up && matches!(told, ReportedOutcome::Nothing { .. }) {
            self.warn_of_age(age, || payment.charge.payment.to_string());
        }
        self.conclude_payment(payment, told, held, LogFirst::new(self.site.log())).await;
    }

    /// Asks the gateway to charge once more, under the same key, if the ledger permits it. Returns
    /// the reported outcome.
    async fn confirm_again(
        &self,
        payment: Payment,
        age: Duration,
    ) -> (Payment, ReportedOutcome, Option<UnixMicros>) {
        let (turn, asks) = (self.turn(), payment.asks);
        let (order, id) = (payment.charge.order, payment.charge.payment);
        match self.site.ledger().begin_again(order, id, turn.hold).await {
            Ok(Some(payment)) => {
                let answer = self.confirm(&payment.charge, turn).await;
                let held = payment.confirm_until;
                (payment, self.leaves_time(self.told(answer, asks), age), Some(held))
            }
            Ok(None) => (payment, self.nothing(asks), None),
            Err(error) => {
                tracing::error!(payment = %id, error = %chain(error), "begin to confirm a payment once more");
                (payment, self.nothing(asks), None)
            }
        }
    }

    /// Requests a refund once more and writes the gateway's answer.
    pub async fn ask_for_refund(&self, TakenRefund { due, turn }: TakenRefund) {
        let DueRefund { give_back, refund, age } = due;
        let answer = self.give_back(&give_back, turn).await;
        if matches!(answer, GatewayAnswer::Unknown(_)) {
            self.warn_of_age(age, || refund.refund.to_string());
        }
        match self.site.ledger().payment(give_back.charge.payment).await {
            Ok(Some(payment)) => {
                let told = self.leaves_time(self.told(answer, refund.asks), age);
                self.conclude_refund(payment, &give_back, told, LogFirst::new(self.site.log())).await;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(refund = %refund.refund, error = %chain(error), "read a refund's payment")
            }
        }
    }

    /// Asks the gateway if a refused refund was done after all, and writes the result.
    pub async fn look_at_refused(&self, DueRefund { give_back, refund, .. }: DueRefund) {
        let (charge, refund) = (&give_back.charge, refund.refund);
        let started = self.site.now();
        let shown = self.gateway.find_given_back(charge).await;
        self.metrics.payments.gateway_answered(self.site.now().saturating_duration_since(started));
        if let Err(no_proof) = &shown {
            tracing::warn!(%refund, %no_proof, "the gateway does not show its refunds");
        }
        let (first, shown) = (LogFirst::new(self.site.log()), shown.ok());
        let (order, id) = (charge.order, charge.payment);
        let stands = look_at_refund(self.site.ledger(), first, order, id, refund, shown.as_deref()).await;
        match stands.map(|Concluded { payment, .. }| payment.refund(refund).map(|refund| refund.state)) {
            Ok(Some(RefundState::Done)) => {
                self.metrics.payments.refunds.of(RefundOutcome::Late).inc();
                tracing::error!(%refund, payment = %id, "it went back after it had been called refused: look whether its money went back twice");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%refund, error = %chain(error), "write the result of a look at a refund");
            }
        }
    }

    /// Extends the delay after a request about which the log has warned, so that an operator has
    /// time for a decision. See [`TIME_TO_SPEAK`].
    fn leaves_time(&self, told: ReportedOutcome, age: Duration) -> ReportedOutcome {
        match told {
            ReportedOutcome::Nothing { ask_after } if age >= self.limits.alarm_after => {
                ReportedOutcome::Nothing { ask_after: ask_after.max(self.hold() + TIME_TO_SPEAK) }
            }
            told => told,
        }
    }

    fn warn_of_age(&self, age: Duration, which: impl FnOnce() -> String) {
        if age >= self.limits.alarm_after {
            let (which, minutes) = (which(), age.as_secs() / 60);
            tracing::warn!(
                which,
                minutes,
                "nobody can tell whether money moved: ask the gateway's people, then `bridge-idc payments resolve`"
            );
        }
    }

    async fn count_doubts(&self) {
        if let Ok(doubt) = self.site.ledger().doubt().await {
            let age = doubt.oldest.unwrap_or_default();
            self.metrics.payments.unknown.set(doubt.count);
            self.metrics.payments.charged_late.set(doubt.charged_late);
            self.metrics.payments.unknown_age_seconds.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        }
    }
}
