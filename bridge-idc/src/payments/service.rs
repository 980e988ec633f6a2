//! The service that handles requests for payments: commits each one, asks the gateway, and writes
//! the outcome. The agent that commits a request is the one that asks the gateway.
//!
//! If the outcome stays unknown, for example after a crash, `reconcile` finds the row by its
//! `next_ask_at`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge_protocol::domain::payment::PaymentEvent;
use bridge_protocol::domain::{Brand, KeyDigest, OrderId, PaymentId, PaymentState, RefundState, UnixMicros};
use bridge_protocol::wire::order::Refusal;
use bridge_runtime::audit_log::AuditLog;
use tokio::sync::{Notify, Semaphore};

use super::audit::{self, Log, LogFirst, PaymentSubject};
use super::core::{MayBeArriving, ServiceRequest};
use super::end::ServiceEnd;
use super::gateway::{Gateway, GatewayAnswer, NoProof};
use super::policy::back_off;
use super::store::{Begun, Concluded, NotDone, PaymentLedger, ReportedOutcome};
use super::{Charge, ChargeRequest, GiveBack, GiveBackRequest, Payment};
use crate::database::Database;
use crate::metrics::Metrics;
use crate::metrics::payments::{PaymentOutcome, RefundOutcome};

/// Minimum interval between gateway queries for one payment that webhooks cause.
const HINTED_AFTER: Duration = Duration::from_secs(1);

/// Limits of the work with the gateway.
#[derive(Debug, Clone, Copy)]
pub struct PaymentLimits {
    /// Most calls of the gateway for callers at a time.
    pub calls_max: usize,
    /// Most payments and refunds of unknown outcome that are asked about at a time.
    pub doubts_max: usize,
    /// Longest duration of one call of the gateway.
    pub timeout: Duration,
    /// Grace period after `timeout` before another agent may take over the row. It covers this
    /// agent's other work with the row.
    pub margin: Duration,
    /// Delay before the first query about an unknown outcome.
    pub retry_first: Duration,
    /// Longest delay between two such queries.
    pub retry_max: Duration,
    /// Age from which the log warns about an unknown outcome.
    pub alarm_after: Duration,
}

impl PaymentLimits {
    /// Returns the time for which a request to charge or refund counts as on its way: the gateway's
    /// time-out and the grace period.
    pub fn request_lasts(&self) -> Duration {
        self.timeout + self.margin
    }
}

/// Permission to send the gateway one request to charge or refund. While it lasts, no other agent
/// sends one for the row, and nobody concludes that no money moved.
#[derive(Debug, Clone, Copy)]
pub(super) struct GatewayTurn {
    /// Time for which the row is held: the gateway's time-out and the grace period.
    pub(super) hold: Duration,
    /// Latest time to send the request. Its answer or its time-out then falls into the time for
    /// which the row is held.
    ask_by: Instant,
}

/// Surroundings of the service beside the gateway: those of an agent, or those of the simulation.
pub trait Environment {
    /// Type of the ledger.
    type Ledger: PaymentLedger;

    /// Returns the ledger.
    fn ledger(&self) -> &Self::Ledger;

    /// Returns the audit log.
    fn log(&self) -> &dyn Log;

    /// Returns the present time of a monotonic clock.
    fn now(&self) -> Instant;

    /// Returns a delay as [`back_off`] does, with this environment's randomness.
    fn back_off(&self, asks: u32, first: Duration, most: Duration) -> Duration;
}

/// The environment of a running agent.
pub struct AgentEnvironment {
    database: Database,
    audit: AuditLog,
}

impl Environment for AgentEnvironment {
    type Ledger = Database;

    fn ledger(&self) -> &Database {
        &self.database
    }

    fn log(&self) -> &dyn Log {
        &self.audit
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn back_off(&self, asks: u32, first: Duration, most: Duration) -> Duration {
        back_off(asks, first, most, &mut rand::rng())
    }
}

/// The service; an agent has one.
pub struct Payments<G, S = AgentEnvironment> {
    pub(super) site: S,
    pub(super) gateway: G,
    pub(super) limits: PaymentLimits,
    pub(super) metrics: Arc<Metrics>,
    calls: Semaphore,
    /// Notified when a refund must go out at once.
    pub(super) hinted: Notify,
}

impl<G: Gateway> Payments<G> {
    /// Creates a service over a ledger and a gateway.
    pub fn new(
        ledger: impl Into<Database>,
        gateway: G,
        limits: PaymentLimits,
        metrics: Arc<Metrics>,
        audit: AuditLog,
    ) -> Self {
        Self::at(AgentEnvironment { database: ledger.into(), audit }, gateway, limits, metrics)
    }
}

impl<G: Gateway, S: Environment> Payments<G, S> {
    /// Creates a service in this environment.
    pub fn at(site: S, gateway: G, limits: PaymentLimits, metrics: Arc<Metrics>) -> Self {
        let calls = Semaphore::new(limits.calls_max);
        Self { site, gateway, limits, metrics, calls, hinted: Notify::new() }
    }

    /// Returns the environment.
    pub fn site(&self) -> &S {
        &self.site
    }

    /// Handles a request of the core. The request is in the audit log before any effect, and its
    /// end before the answer. `until` is the time for which its caller waits, if that is known: a
    /// write that has not begun by then is refused.
    pub async fn serve(
        &self,
        asked: ServiceRequest,
        coming: MayBeArriving,
        until: Option<Instant>,
    ) -> ServiceEnd {
        let log = self.site.log();
        match asked {
            ServiceRequest::Pay(pay) => match audit::received(log, PaymentSubject::of_payment(&pay)).await {
                Ok(logged) => logged.answered(log, coming.judge(self.pay(&pay, until).await)).await,
                Err(refused) => refused,
            },
            ServiceRequest::Refund(refund) => {
                match audit::received(log, PaymentSubject::of_refund(&refund)).await {
                    Ok(logged) => logged.answered(log, coming.judge(self.refund(&refund, until).await)).await,
                    Err(refused) => refused,
                }
            }
            ServiceRequest::LookUp { brand, order, payment, key } => {
                coming.judge(self.look_up(&brand, order, payment, key).await)
            }
        }
    }

    /// Charges for an order. Ends when the gateway has answered or timed out.
    pub async fn pay(&self, asked: &ChargeRequest, until: Option<Instant>) -> ServiceEnd {
        // The semaphore is never closed.
        let _turn = self.calls.acquire().await;
        if self.is_late(until) {
            self.metrics.payments.outcomes.of(PaymentOutcome::Refused).inc();
            return ServiceEnd::Refused(Refusal::Late);
        }
        let turn = self.turn();
        let begun = match self.site.ledger().begin_payment(asked, turn.hold).await {
            Err(NotDone::Perhaps(_)) => {
                self.site.ledger().begin_payment(asked, turn.hold).await.map_err(NotDone::after_another)
            }
            begun => begun,
        };
        match begun {
            Ok(Begun::New(payment)) => {
                let answer = self.confirm(&payment.charge, turn).await;
                let (told, held) = (self.told(answer, 0), payment.confirm_until);
                let comes_to = match told {
                    ReportedOutcome::Done => payment.state.after(PaymentEvent::Charged),
                    ReportedOutcome::Refused(_) => payment.state.after(PaymentEvent::Refused),
                    ReportedOutcome::NotDone(_) | ReportedOutcome::Nothing { .. } => None,
                };
                let first = self
                    .log_first(&PaymentSubject::of_payment(asked), comes_to.map(PaymentState::code))
                    .await;
                let Concluded { payment, logged } =
                    self.conclude_payment(payment, told, Some(held), first).await;
                ServiceEnd::Stands { payment, refund: None, replayed: false, logged }
            }
            Ok(Begun::Known(payment)) => {
                self.metrics.payments.outcomes.of(PaymentOutcome::Replayed).inc();
                ServiceEnd::Stands { payment, refund: None, replayed: true, logged: false }
            }
            Ok(Begun::Refused(refusal)) => {
                self.metrics.payments.outcomes.of(PaymentOutcome::Refused).inc();
                ServiceEnd::Refused(refusal)
            }
            Ok(Begun::InTheWay(refusal, payment)) => {
                self.metrics.payments.outcomes.of(PaymentOutcome::Refused).inc();
                ServiceEnd::InTheWay(refusal, payment)
            }
            Err(not_done) => self.not_done(not_done, "take a payment"),
        }
    }

    /// Refunds a payment. Ends when the gateway has answered or timed out.
    pub async fn refund(&self, asked: &GiveBackRequest, until: Option<Instant>) -> ServiceEnd {
        let _turn = self.calls.acquire().await;
        if self.is_late(until) {
            return ServiceEnd::Refused(Refusal::Late);
        }
        let turn = self.turn();
        let begun = match self.site.ledger().begin_refund(asked, turn.hold).await {
            Err(NotDone::Perhaps(_)) => {
                self.site.ledger().begin_refund(asked, turn.hold).await.map_err(NotDone::after_another)
            }
            begun => begun,
        };
        match begun {
            Ok(Begun::New((payment, id))) => {
                let mut stands = Concluded { payment, logged: false };
                let refund = stands.payment.refund(id);
                if let Some(give_back) = refund.and_then(|refund| stands.payment.give_back(refund)) {
                    let told = self.told(self.give_back(&give_back, turn).await, 0);
                    let comes_to = match told {
                        ReportedOutcome::Done => Some(RefundState::Done.code()),
                        ReportedOutcome::Refused(_) => Some(RefundState::Refused.code()),
                        ReportedOutcome::NotDone(_) | ReportedOutcome::Nothing { .. } => None,
                    };
                    let first = self.log_first(&PaymentSubject::of_refund(asked), comes_to).await;
                    stands = self.conclude_refund(stands.payment, &give_back, told, first).await;
                }
                let Concluded { payment, logged } = stands;
                ServiceEnd::Stands { payment, refund: Some(id), replayed: false, logged }
            }
            Ok(Begun::Known((payment, id))) => {
                ServiceEnd::Stands { payment, refund: Some(id), replayed: true, logged: false }
            }
            Ok(Begun::Refused(refusal)) => ServiceEnd::Refused(refusal),
            Ok(Begun::InTheWay(refusal, payment)) => ServiceEnd::InTheWay(refusal, payment),
            Err(not_done) => self.not_done(not_done, "take a refund"),
        }
    }

    /// Returns true if the caller of a request no longer waits. Nothing has begun by then.
    fn is_late(&self, until: Option<Instant>) -> bool {
        until.is_some_and(|until| until <= self.site.now())
    }

    /// Returns the state of a payment without asking the gateway.
    pub async fn look_up(
        &self,
        brand: &Brand,
        order: OrderId,
        id: PaymentId,
        key: Option<KeyDigest>,
    ) -> ServiceEnd {
        match self.site.ledger().look_up_payment(brand, order, id, key).await {
            Ok(Some(payment)) => ServiceEnd::Stands { payment, refund: None, replayed: false, logged: false },
            Ok(None) => ServiceEnd::Refused(Refusal::NotFound),
            Err(error) => {
                tracing::error!(error = %chain(error), "look up a payment");
                ServiceEnd::Refused(Refusal::DatabaseDown)
            }
        }
    }

    /// Takes a hint that the gateway knows more about an order's payment. The gateway is asked
    /// soon, and nothing else in the hint is trusted. Any number of hints causes at most one query
    /// a second, or one in `retry_first` if that is shorter. Returns true if a payment is due
    /// earlier now.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer.
    pub async fn hint(&self, order: OrderId) -> Result<bool, NotDone> {
        self.site.ledger().hint_payment(order, HINTED_AFTER.min(self.limits.retry_first)).await
    }

    /// Begins a turn. It must begin before the ledger holds the row, so that it ends before the
    /// hold does.
    pub(super) fn turn(&self) -> GatewayTurn {
        let hold = self.limits.request_lasts();
        GatewayTurn { hold, ask_by: self.site.now() + self.limits.margin }
    }

    /// Asks the gateway to charge. Does not ask if this agent was delayed for so long that another
    /// one may take over the row.
    pub(super) async fn confirm(&self, charge: &Charge, turn: GatewayTurn) -> GatewayAnswer {
        let started = self.site.now();
        if started > turn.ask_by {
            return GatewayAnswer::Unknown(NoProof::NotAsked);
        }
        let answer = self.gateway.confirm(charge).await;
        self.metrics.payments.gateway_answered(self.site.now().saturating_duration_since(started));
        if let GatewayAnswer::Unknown(no_proof) = &answer {
            tracing::warn!(payment = %charge.payment, %no_proof, "the gateway's answer to a payment proves nothing");
        }
        answer
    }

    /// Asks the gateway to refund, under the same condition as [`Self::confirm`].
    pub(super) async fn give_back(&self, refund: &GiveBack, turn: GatewayTurn) -> GatewayAnswer {
        let started = self.site.now();
        if started > turn.ask_by {
            return GatewayAnswer::Unknown(NoProof::NotAsked);
        }
        let answer = self.gateway.give_back(refund).await;
        self.metrics.payments.gateway_answered(self.site.now().saturating_duration_since(started));
        if let GatewayAnswer::Unknown(no_proof) = &answer {
            tracing::warn!(refund = %refund.refund, %no_proof, "the gateway's answer to a refund proves nothing");
        }
        answer
    }

    /// Writes the reported outcome of a payment and returns its new state. If the database or the
    /// audit log fails, the outcome stays unknown and is asked about again. See
    /// [`PaymentLedger::conclude_payment`] for `held`.
    pub(super) async fn conclude_payment(
        &self,
        mut payment: Payment,
        told: ReportedOutcome,
        held: Option<UnixMicros>,
        first: LogFirst<'_>,
    ) -> Concluded {
        let (order, id) = (payment.charge.order, payment.charge.payment);
        match audit::conclude_payment(self.site.ledger(), first, order, id, &told, held).await {
            Ok(stands) => {
                self.metrics.payments.outcomes.of(outcome(stands.payment.state)).inc();
                if stands.payment.refunds.iter().any(|refund| refund.state.is_open()) {
                    self.hinted.notify_one();
                }
                stands
            }
            Err(error) => {
                tracing::error!(payment = %id, error = %chain(error), "write the outcome of a payment");
                payment.state = PaymentState::Unknown;
                Concluded { payment, logged: false }
            }
        }
    }

    /// Writes the reported outcome of a refund, as [`Self::conclude_payment`] does for a payment.
    pub(super) async fn conclude_refund(
        &self,
        mut payment: Payment,
        refund: &GiveBack,
        told: ReportedOutcome,
        first: LogFirst<'_>,
    ) -> Concluded {
        let (order, id) = (refund.charge.order, refund.charge.payment);
        let concluded =
            audit::conclude_refund(self.site.ledger(), first, order, id, refund.refund, &told).await;
        match concluded {
            Ok(stands) => {
                self.metrics
                    .payments
                    .refunds
                    .of(match told {
                        ReportedOutcome::Done => RefundOutcome::Done,
                        ReportedOutcome::Refused(_) | ReportedOutcome::NotDone(_) => RefundOutcome::Refused,
                        ReportedOutcome::Nothing { .. } => RefundOutcome::Unknown,
                    })
                    .inc();
                stands
            }
            Err(error) => {
                tracing::error!(refund = %refund.refund, error = %chain(error), "write the outcome of a refund");
                let of = payment.refunds.iter_mut().find(|known| known.refund == refund.refund);
                if let Some(known) = of {
                    known.state = RefundState::Unknown;
                }
                Concluded { payment, logged: false }
            }
        }
    }

    /// Logs the expected conclusion of a request before the transaction that writes it. The row is
    /// held, so the conclusion rarely changes. If it does, the new one is logged as well.
    async fn log_first(&self, about: &PaymentSubject, comes_to: Option<&'static str>) -> LogFirst<'_> {
        let first = LogFirst::new(self.site.log());
        match comes_to {
            Some(outcome) => first.foretell(about.comes_to(outcome)).await,
            None => first,
        }
    }

    /// Converts a gateway's answer to a reported outcome. `asks` is the number of earlier queries.
    pub(super) fn told(&self, answer: GatewayAnswer, asks: u32) -> ReportedOutcome {
        match answer {
            GatewayAnswer::Done => ReportedOutcome::Done,
            GatewayAnswer::Refused(code) => ReportedOutcome::Refused(code),
            GatewayAnswer::Unknown(_) => self.nothing(asks),
        }
    }

    /// Returns an outcome that proves nothing. The delay until the next query grows with the number
    /// of earlier queries.
    pub(super) fn nothing(&self, asks: u32) -> ReportedOutcome {
        let ask_after = self.site.back_off(asks, self.limits.retry_first, self.limits.retry_max);
        ReportedOutcome::Nothing { ask_after }
    }

    fn not_done(&self, not_done: NotDone, what: &str) -> ServiceEnd {
        self.metrics.ledger_errors.inc();
        let end = match not_done {
            NotDone::Nothing(_) => ServiceEnd::Refused(Refusal::DatabaseDown),
            NotDone::Perhaps(_) => ServiceEnd::Unknown,
        };
        tracing::error!(error = %chain(not_done), "{what}");
        end
    }
}

fn outcome(state: PaymentState) -> PaymentOutcome {
    match state {
        PaymentState::Paid | PaymentState::PartiallyRefunded | PaymentState::Refunded => PaymentOutcome::Paid,
        PaymentState::Declined => PaymentOutcome::Declined,
        PaymentState::NotPaid => PaymentOutcome::NotPaid,
        PaymentState::ChargedLate | PaymentState::Returned => PaymentOutcome::ChargedLate,
        PaymentState::Created | PaymentState::Confirming | PaymentState::Unknown => PaymentOutcome::Unknown,
    }
}

/// Returns an error with its causes in one line.
pub(super) fn chain(error: impl Into<anyhow::Error>) -> String {
    format!("{:#}", error.into())
}
