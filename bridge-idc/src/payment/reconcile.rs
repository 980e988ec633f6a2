//! The reconciler: takes the payments and refunds whose time to ask has come, and asks until the gateway tells.
//!
//! Any number of agents may do so on one ledger: each row is one agent's for as long as asking takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge_protocol::domain::UnixMicros;
use bridge_runtime::clock;
use bridge_runtime::shutdown::Shutdown;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::audit::Witness;
use super::gateway::{Answer, Gateway, NoProof};
use super::policy::{Step, next_step};
use super::service::{Payments, chain};
use crate::ledger::payments::{DuePayment, DueRefund, NotDone};

/// Calls of the gateway for one row.
const CALLS_A_ROW: u32 = 2;

/// Between two looks for what is due, if nobody hints.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between two looks at a ledger that does not answer.
const DATABASE_IS_DOWN: Duration = Duration::from_secs(2);

impl<G: Gateway> Payments<G> {
    /// Asks about what is in doubt until the agent ends. What is being asked about then is due again later.
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

    /// Takes what is due, as far as there is room, and begins to ask about it.
    async fn ask_what_is_due(self: &Arc<Self>, asking: &mut JoinSet<()>) -> Result<(), NotDone> {
        while asking.try_join_next().is_some() {}
        loop {
            let room = self.limits.doubts_max.saturating_sub(asking.len());
            if room == 0 {
                return Ok(());
            }
            let rows_max = i64::try_from(room.div_ceil(2)).unwrap_or(i64::MAX);
            let now = clock::now();
            let until = now.plus(self.limits.timeout.saturating_mul(CALLS_A_ROW) + self.limits.margin);
            // Refunds first: that money is somebody else's.
            let refunds = self.ledger.take_due_refunds(now, until, rows_max).await?;
            let payments = self.ledger.take_due_payments(now, until, rows_max).await?;
            if refunds.is_empty() && payments.is_empty() {
                return Ok(());
            }
            for due in refunds {
                let payments = self.clone();
                asking.spawn(async move { payments.ask_for_refund(due).await });
            }
            for due in payments {
                let payments = self.clone();
                asking.spawn(async move { payments.ask_about(due).await });
            }
        }
    }

    async fn ask_about(&self, DuePayment { payment, order_stands }: DuePayment) {
        let charge = payment.charge.clone();
        let age = clock::now().since(payment.created_at);
        let started = Instant::now();
        let found = self.gateway.find(&charge).await;
        self.metrics.payments.gateway_answered(started.elapsed());
        let answer = match next_step(found, age, order_stands) {
            Step::Conclude(answer) => answer,
            Step::ConfirmAgain => self.confirm(&charge).await,
            Step::AskLater => Answer::Unknown(NoProof::Mismatch),
        };
        if matches!(answer, Answer::Unknown(_)) {
            self.warn_of_age(payment.created_at, || charge.payment.to_string());
        }
        self.conclude_payment(payment, answer, Witness::Log(&self.audit)).await;
    }

    async fn ask_for_refund(&self, DueRefund { give_back, refund }: DueRefund) {
        let answer = self.give_back(&give_back).await;
        if matches!(answer, Answer::Unknown(_)) {
            self.warn_of_age(refund.created_at, || refund.refund.to_string());
        }
        match self.ledger.payment(give_back.charge.payment).await {
            Ok(Some(payment)) => {
                let witness = Witness::Log(&self.audit);
                self.conclude_refund(payment, &give_back, refund.asks, answer, witness).await;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(refund = %refund.refund, error = %chain(error), "read a refund's payment")
            }
        }
    }

    fn warn_of_age(&self, since: UnixMicros, which: impl FnOnce() -> String) {
        let age = clock::now().since(since);
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
        if let Ok(doubt) = self.ledger.doubt().await {
            let age = doubt.since.map_or(Duration::ZERO, |since| clock::now().since(since));
            self.metrics.payments.unknown.set(doubt.count);
            self.metrics.payments.unknown_age_seconds.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        }
    }
}
