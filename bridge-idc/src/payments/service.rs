//! Payments as they are asked for: committed, put to the gateway, concluded. The one that asks is the one that committed.
//!
//! What this leaves in doubt, a crash in the middle included, `reconcile` finds by its row's `next_ask_at`.

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

/// Until what a hint names is asked about: the least time between two questions about one payment, whoever hints.
const HINTED_AFTER: Duration = Duration::from_secs(1);

/// How much is asked at a time, and how often.
#[derive(Debug, Clone, Copy)]
pub struct PaymentLimits {
    /// Calls of the gateway for callers at a time.
    pub calls_max: usize,
    /// Payments and refunds in doubt that are asked about at a time.
    pub doubts_max: usize,
    /// How long a call of the gateway takes at most.
    pub timeout: Duration,
    /// Beyond that, until what an agent has begun is taken to be nobody's: its other work with a row takes less.
    pub margin: Duration,
    /// Until something in doubt is first asked about again.
    pub retry_first: Duration,
    /// Between two such questions at most.
    pub retry_max: Duration,
    /// How long something may be in doubt before it is warned of.
    pub alarm_after: Duration,
}

/// A turn at asking the gateway to charge or to give back: nobody else does meanwhile, and nobody says that no money moved.
#[derive(Debug, Clone, Copy)]
pub(super) struct GatewayTurn {
    /// How long the row is held: for the gateway's time-out, and what this agent needs beside.
    pub(super) hold: Duration,
    /// Until then the gateway may be asked, so that its answer comes, or is given up, while the row is held.
    ask_by: Instant,
}

/// What the service has around it, beside the gateway: an agent's site, or one that is made up.
pub trait Environment {
    /// The ledger.
    type Ledger: PaymentLedger;

    /// The ledger that it is over.
    fn ledger(&self) -> &Self::Ledger;

    /// The log for what is asked and what is concluded.
    fn log(&self) -> &dyn Log;

    /// Now, by a clock that nobody sets.
    fn now(&self) -> Instant;

    /// As [`back_off`], with chance of this site's.
    fn back_off(&self, asks: u32, first: Duration, most: Duration) -> Duration;
}

/// An agent's site.
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

/// The service; one an agent.
pub struct Payments<G, S = AgentEnvironment> {
    pub(super) site: S,
    pub(super) gateway: G,
    pub(super) limits: PaymentLimits,
    pub(super) metrics: Arc<Metrics>,
    calls: Semaphore,
    /// Money is to go back at once.
    pub(super) hinted: Notify,
}

impl<G: Gateway> Payments<G> {
    /// A service over a ledger and a gateway.
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
    /// A service at that site.
    pub fn at(site: S, gateway: G, limits: PaymentLimits, metrics: Arc<Metrics>) -> Self {
        let calls = Semaphore::new(limits.calls_max);
        Self { site, gateway, limits, metrics, calls, hinted: Notify::new() }
    }

    /// What it has around it.
    pub fn site(&self) -> &S {
        &self.site
    }

    /// Does what the core has it asked for: in the log before anything is done, and again before it is told.
    pub async fn serve(&self, asked: ServiceRequest, coming: MayBeArriving) -> ServiceEnd {
        let log = self.site.log();
        match asked {
            ServiceRequest::Pay(pay) => match audit::received(log, PaymentSubject::of_payment(&pay)).await {
                Ok(logged) => logged.answered(log, coming.judge(self.pay(&pay).await)).await,
                Err(refused) => refused,
            },
            ServiceRequest::Refund(refund) => {
                match audit::received(log, PaymentSubject::of_refund(&refund)).await {
                    Ok(logged) => logged.answered(log, coming.judge(self.refund(&refund).await)).await,
                    Err(refused) => refused,
                }
            }
            ServiceRequest::LookUp { brand, order, payment, key } => {
                coming.judge(self.look_up(&brand, order, payment, key).await)
            }
        }
    }

    /// Charges for an order. Ends when the gateway has answered, or has not in time.
    pub async fn pay(&self, asked: &ChargeRequest) -> ServiceEnd {
        // Never closed.
        let _turn = self.calls.acquire().await;
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

    /// Gives back. Ends when the gateway has answered, or has not in time.
    pub async fn refund(&self, asked: &GiveBackRequest) -> ServiceEnd {
        let _turn = self.calls.acquire().await;
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

    /// How a payment stands. The gateway is not asked.
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

    /// Somebody says that the gateway knows more of an order's payment. It is asked soon, and nothing else is believed; so
    /// that any number of hints asks no more than once in that time.
    pub async fn hint(&self, order: OrderId) -> Result<bool, NotDone> {
        self.site.ledger().hint_payment(order, HINTED_AFTER.min(self.limits.retry_first)).await
    }

    /// A turn at asking the gateway, which begins now: before the ledger holds the row.
    pub(super) fn turn(&self) -> GatewayTurn {
        let hold = self.limits.timeout + self.limits.margin;
        GatewayTurn { hold, ask_by: self.site.now() + self.limits.margin }
    }

    /// Asks the gateway to charge, unless this agent was held up so long that another may take the request to be over.
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

    /// Asks the gateway to give back, under the same condition.
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

    /// Writes what the gateway said of a payment; how it stands then. If the database or the log does not take it, it stands
    /// as before, and is asked about again. `held` as in the ledger.
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
                tracing::error!(payment = %id, error = %chain(error), "write what the gateway said of a payment");
                payment.state = PaymentState::Unknown;
                Concluded { payment, logged: false }
            }
        }
    }

    /// As [`Self::conclude_payment`], of a refund.
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
                tracing::error!(refund = %refund.refund, error = %chain(error), "write what the gateway said of a refund");
                let of = payment.refunds.iter_mut().find(|known| known.refund == refund.refund);
                if let Some(known) = of {
                    known.state = RefundState::Unknown;
                }
                Concluded { payment, logged: false }
            }
        }
    }

    /// Logs what a request comes to before the transaction that writes it. Its row is held, so nobody comes between; if somebody
    /// does all the same, what it comes to then is logged as well.
    async fn log_first(&self, about: &PaymentSubject, comes_to: Option<&'static str>) -> LogFirst<'_> {
        let first = LogFirst::new(self.site.log());
        match comes_to {
            Some(outcome) => first.foretell(about.comes_to(outcome)).await,
            None => first,
        }
    }

    /// What an answer to a request tells, which was put so many times before.
    pub(super) fn told(&self, answer: GatewayAnswer, asks: u32) -> ReportedOutcome {
        match answer {
            GatewayAnswer::Done => ReportedOutcome::Done,
            GatewayAnswer::Refused(code) => ReportedOutcome::Refused(code),
            GatewayAnswer::Unknown(_) => self.nothing(asks),
        }
    }

    /// Nothing was told; it is asked about later, the more patiently the oftener it was.
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

/// An error with its causes, in one line.
pub(super) fn chain(error: impl Into<anyhow::Error>) -> String {
    format!("{:#}", error.into())
}
