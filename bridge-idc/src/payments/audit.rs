//! Payment audit entries (promise P8): logged before the gateway is asked, before an outcome is
//! committed, and before the cloud agent gets an answer.

use std::pin::Pin;

use bridge_protocol::audit::entry::{Carried, Digest, Ended, Entry, Event, Resolved, Word};
use bridge_protocol::domain::{OrderId, PaymentId, ReasonCode, RefundId, UnixMicros};
use bridge_protocol::seal::sealing::Header;
use bridge_protocol::wire::order::Refusal;
use bridge_runtime::audit_log::{self, AuditError, AuditLog, CommandSocketError};
use bridge_runtime::clock;
use bridge_runtime::config::AuditConfig;

use super::end::ServiceEnd;
use super::store::{Attempt, Concluded, Conclusion, NotDone, PaymentLedger, ReportedOutcome, outcome};
use super::{ChargeRequest, GiveBackRequest};
use crate::database::LedgerError;

/// Most times that a conclusion may change between its log entry and its commit. After that it is
/// given up, and the gateway is asked again later.
const ROUNDS_MAX: u32 = 8;

/// An append-only log.
pub trait Log: Send + Sync {
    /// Logs an event with the present time. Resolves once the entry is durable.
    fn append(&self, event: Event) -> Pin<Box<dyn Future<Output = Result<(), AuditError>> + Send + '_>>;
}

impl Log for AuditLog {
    fn append(&self, event: Event) -> Pin<Box<dyn Future<Output = Result<(), AuditError>> + Send + '_>> {
        let entry = Entry::new(clock::now(), event);
        Box::pin(async move { self.append(&[entry]).await.map(drop) })
    }
}

/// A conclusion that must be in the audit log before its commit. No transaction is open during a
/// wait for the log's disk.
pub struct LogFirst<'log> {
    log: &'log dyn Log,
    logged: Option<Conclusion>,
    rounds: u32,
}

/// The reason why a reported outcome is not in the ledger.
#[derive(Debug, thiserror::Error)]
pub enum NotConcluded {
    /// The conclusion is not in the audit log.
    #[error("the conclusion cannot be logged, so it is not committed")]
    Unlogged(#[source] AuditError),
    /// The ledger did not write it.
    #[error(transparent)]
    NotDone(#[from] NotDone),
}

/// The agent's audit log for a command, which is another process. A running agent appends for the
/// command.
pub trait Beside: Send + Sync {
    /// Logs an event with the present time. Resolves once the entry is durable.
    fn append(
        &self,
        event: Event,
    ) -> Pin<Box<dyn Future<Output = Result<(), CommandSocketError>> + Send + '_>>;
}

impl Beside for AuditConfig {
    fn append(
        &self,
        event: Event,
    ) -> Pin<Box<dyn Future<Output = Result<(), CommandSocketError>> + Send + '_>> {
        let entry = Entry::new(clock::now(), event);
        Box::pin(async move { audit_log::append_for_command(self, &entry).await })
    }
}

/// An operator who decides about an unknown outcome.
pub struct Operator<'log> {
    /// The log for the decision.
    pub audit: &'log dyn Beside,
    /// The operator's account on the host.
    pub who: Word,
    /// The operator's reason.
    pub reason: &'log ReasonCode,
    /// The refund, if the decision is about a refund.
    pub refund: Option<RefundId>,
}

/// The subject of a request.
#[derive(Debug, Clone)]
pub(super) struct PaymentSubject {
    action: &'static str,
    header: Header,
    payment: PaymentId,
}

/// A request that is in the audit log. Only [`received`] creates one.
pub(super) struct Logged(PaymentSubject);

impl PaymentSubject {
    /// Returns the subject of a charge.
    pub(super) fn of_payment(asked: &ChargeRequest) -> Self {
        let ChargeRequest { brand, key, charge, .. } = asked;
        let header = Header { brand: brand.clone(), order: charge.order, key: *key };
        Self { action: "pay", header, payment: charge.payment }
    }

    /// Returns the subject of a refund.
    pub(super) fn of_refund(asked: &GiveBackRequest) -> Self {
        let GiveBackRequest { brand, key, order, payment, .. } = asked;
        let header = Header { brand: brand.clone(), order: *order, key: *key };
        Self { action: "refund", header, payment: *payment }
    }

    /// Returns the conclusion with this outcome.
    pub(super) fn comes_to(&self, outcome: &'static str) -> Conclusion {
        Conclusion { header: self.header.clone(), payment: self.payment, outcome }
    }

    fn ended(&self, outcome: &str, payment: PaymentId, replayed: bool) -> Ended {
        Ended::new(&self.header, outcome).about(payment, replayed)
    }
}

impl<'log> LogFirst<'log> {
    /// Creates one without an entry in the log.
    pub fn new(log: &'log dyn Log) -> Self {
        Self { log, logged: None, rounds: 0 }
    }

    /// Logs the expected conclusion, so that the first transaction can commit it. If the log fails,
    /// the entry is tried again once the transaction has decided.
    pub(super) async fn foretell(mut self, conclusion: Conclusion) -> Self {
        if self.log.append(committed(&conclusion)).await.is_ok() {
            self.logged = Some(conclusion);
        }
        self
    }

    /// Returns the value of a transaction that committed. Otherwise logs the conclusion that the
    /// transaction needs, and returns `None`: the transaction must run again.
    async fn unless_logged<V>(&mut self, attempt: Attempt<V>) -> Result<Option<V>, NotConcluded> {
        let conclusion = match attempt {
            Attempt::Committed(value) => return Ok(Some(value)),
            Attempt::ToLog(conclusion) => conclusion,
        };
        if self.rounds == ROUNDS_MAX {
            return Err(NotDone::Nothing(LedgerError::Conflict).into());
        }
        self.rounds += 1;
        self.log.append(committed(&conclusion)).await.map_err(NotConcluded::Unlogged)?;
        self.logged = Some(conclusion);
        Ok(None)
    }

    /// Logs the true state if the logged outcome did not come true, because another writer
    /// concluded first.
    async fn set_right(self, stands: Concluded, refund: Option<RefundId>) -> Concluded {
        let outcome = outcome(&stands.payment, refund.and_then(|refund| stands.payment.refund(refund)));
        let Some(logged) = self.logged.filter(|logged| !stands.logged && logged.outcome != outcome) else {
            return stands;
        };
        let logged = match self.log.append(committed(&Conclusion { outcome, ..logged })).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(payment = %stands.payment.charge.payment, %error, "log the state of a payment that another writer concluded");
                false
            }
        };
        Concluded { logged, ..stands }
    }
}

/// Commits the reported outcome of a payment once its conclusion is in the log. See
/// [`PaymentLedger::conclude_payment`] for `held`.
///
/// # Errors
///
/// Fails if the log or the ledger fails. The outcome is then not committed, or that is unknown.
pub async fn conclude_payment(
    ledger: &impl PaymentLedger,
    mut first: LogFirst<'_>,
    order: OrderId,
    id: PaymentId,
    told: &ReportedOutcome,
    held: Option<UnixMicros>,
) -> Result<Concluded, NotConcluded> {
    loop {
        let attempt = ledger.conclude_payment(order, id, told, held, first.logged.as_ref()).await?;
        if let Some(stands) = first.unless_logged(attempt).await? {
            return Ok(first.set_right(stands, None).await);
        }
    }
}

/// Commits the reported outcome of a refund, as [`conclude_payment`] does for a payment.
///
/// # Errors
///
/// Fails as [`conclude_payment`] does.
pub async fn conclude_refund(
    ledger: &impl PaymentLedger,
    mut first: LogFirst<'_>,
    order: OrderId,
    id: PaymentId,
    refund: RefundId,
    told: &ReportedOutcome,
) -> Result<Concluded, NotConcluded> {
    loop {
        let attempt = ledger.conclude_refund(order, id, refund, told, first.logged.as_ref()).await?;
        if let Some(stands) = first.unless_logged(attempt).await? {
            return Ok(first.set_right(stands, Some(refund)).await);
        }
    }
}

/// Commits the result of a look at a refused refund. `shown` has the amounts that the gateway shows
/// as refunded, in minor units.
///
/// # Errors
///
/// Fails as [`conclude_payment`] does.
pub async fn look_at_refund(
    ledger: &impl PaymentLedger,
    mut first: LogFirst<'_>,
    order: OrderId,
    id: PaymentId,
    refund: RefundId,
    shown: Option<&[i64]>,
) -> Result<Concluded, NotConcluded> {
    loop {
        let attempt = ledger.look_at_refund(order, id, refund, shown, first.logged.as_ref()).await?;
        if let Some(stands) = first.unless_logged(attempt).await? {
            return Ok(first.set_right(stands, Some(refund)).await);
        }
    }
}

/// Returns the event of a conclusion.
fn committed(Conclusion { header, payment, outcome }: &Conclusion) -> Event {
    Event::PaymentCommitted(Ended::new(header, outcome).about(*payment, false))
}

impl Operator<'_> {
    /// Logs the operator's decision before any of it is done.
    pub(super) async fn says(&self, conclusion: &Conclusion) -> Result<(), CommandSocketError> {
        let said = Event::PaymentResolved(Resolved {
            brand: Some(Word::of(conclusion.header.brand.as_str())),
            key: Some(Digest::from_bytes(*conclusion.header.key.as_bytes())),
            order: conclusion.header.order,
            outcome: Word::of(conclusion.outcome),
            payment: Word::of(&conclusion.payment.to_string()),
            reason: Word::of(self.reason.as_str()),
            refund: self.refund.map(|refund| Word::of(&refund.to_string())),
            who: self.who.clone(),
        });
        self.audit.append(said).await
    }

    /// Logs that the decision is committed.
    pub(super) async fn committed(&self, conclusion: &Conclusion) -> Result<(), CommandSocketError> {
        self.audit.append(committed(conclusion)).await
    }
}

/// Logs that a request has come. If the log fails, the request is refused.
pub(super) async fn received(log: &dyn Log, about: PaymentSubject) -> Result<Logged, ServiceEnd> {
    let carried = Carried::new(&about.header, about.action, None).about(about.payment);
    match log.append(Event::PaymentReceived(carried)).await {
        Ok(()) => Ok(Logged(about)),
        Err(_) => Err(ServiceEnd::Refused(Refusal::DatabaseDown)),
    }
}

impl Logged {
    /// Logs the end of a request, and returns the answer. If the log fails, the answer is unknown
    /// and the caller asks again.
    pub(super) async fn answered(self, log: &dyn Log, end: ServiceEnd) -> ServiceEnd {
        let event = match &end {
            // This very request already logged the conclusion.
            ServiceEnd::Stands { logged: true, .. } => return end,
            ServiceEnd::Stands { payment, refund, replayed, .. } => {
                let refund = refund.and_then(|id| payment.refund(id));
                let outcome = refund.map_or(payment.state.code(), |refund| refund.state.code());
                Event::PaymentCommitted(self.0.ended(outcome, payment.charge.payment, *replayed))
            }
            ServiceEnd::Refused(refusal) | ServiceEnd::InTheWay(refusal, _) => {
                Event::PaymentAnswered(self.0.ended(refusal.code(), self.0.payment, false))
            }
            ServiceEnd::Unknown => return ServiceEnd::Unknown,
        };
        match log.append(event).await {
            Ok(()) => end.logged(),
            Err(error) => {
                tracing::warn!(payment = %self.0.payment, %error, "log the end of a payment request: its caller must ask again");
                ServiceEnd::Unknown
            }
        }
    }
}
