//! What the audit log has of a payment before the gateway is asked, of what becomes of it before the ledger has it, and of how
//! a request ended before the cloud hears it (promise P8).

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

/// How often something else may come to be logged before a conclusion is given up, and what it is about is asked about again.
const ROUNDS_MAX: u32 = 8;

/// An append-only log, in which something is durable before it goes on.
pub trait Log: Send + Sync {
    /// Logs what happened now; ends once it is durable.
    fn append(&self, event: Event) -> Pin<Box<dyn Future<Output = Result<(), AuditError>> + Send + '_>>;
}

impl Log for AuditLog {
    fn append(&self, event: Event) -> Pin<Box<dyn Future<Output = Result<(), AuditError>> + Send + '_>> {
        let entry = Entry::new(clock::now(), event);
        Box::pin(async move { self.append(&[entry]).await.map(drop) })
    }
}

/// What is to be committed of a payment or a refund, and what the agent's log has of it. No transaction is open while the log's
/// disk is waited for.
pub struct LogFirst<'log> {
    log: &'log dyn Log,
    logged: Option<Conclusion>,
    rounds: u32,
}

/// Why what was told is not in the ledger.
#[derive(Debug, thiserror::Error)]
pub enum NotConcluded {
    /// It is not in the log.
    #[error("it cannot be logged, so it is not committed")]
    Unlogged(#[source] AuditError),
    /// The ledger did not do it.
    #[error(transparent)]
    NotDone(#[from] NotDone),
}

/// The log that the agent has, or would have if it ran: who appends to it is another process.
pub trait Beside: Send + Sync {
    /// Logs what happened now; ends once it is durable.
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

/// Who ends a doubt by hand.
pub struct Operator<'log> {
    /// Where what is said is logged.
    pub audit: &'log dyn Beside,
    /// The account on the host.
    pub who: Word,
    /// Why it is known what became of it.
    pub reason: &'log ReasonCode,
    /// The refund, if that is in doubt and not the payment.
    pub refund: Option<RefundId>,
}

/// What a request is about.
#[derive(Debug, Clone)]
pub(super) struct PaymentSubject {
    action: &'static str,
    header: Header,
    payment: PaymentId,
}

/// A request that is in the audit log; only [`received`] makes one.
pub(super) struct Logged(PaymentSubject);

impl PaymentSubject {
    /// A charge.
    pub(super) fn of_payment(asked: &ChargeRequest) -> Self {
        let ChargeRequest { brand, key, charge, .. } = asked;
        let header = Header { brand: brand.clone(), order: charge.order, key: *key };
        Self { action: "pay", header, payment: charge.payment }
    }

    /// A refund.
    pub(super) fn of_refund(asked: &GiveBackRequest) -> Self {
        let GiveBackRequest { brand, key, order, payment, .. } = asked;
        let header = Header { brand: brand.clone(), order: *order, key: *key };
        Self { action: "refund", header, payment: *payment }
    }

    /// What it comes to if that is how it ends.
    pub(super) fn comes_to(&self, outcome: &'static str) -> Conclusion {
        Conclusion { header: self.header.clone(), payment: self.payment, outcome }
    }

    fn ended(&self, outcome: &str, payment: PaymentId, replayed: bool) -> Ended {
        Ended::new(&self.header, outcome).about(payment, replayed)
    }
}

impl<'log> LogFirst<'log> {
    /// The log has nothing of it yet.
    pub fn new(log: &'log dyn Log) -> Self {
        Self { log, logged: None, rounds: 0 }
    }

    /// Logs what it is expected to come to, so that the first transaction can commit it. If that cannot be logged, it is tried
    /// once more when the transaction says what it comes to.
    pub(super) async fn foretell(mut self, conclusion: Conclusion) -> Self {
        if self.log.append(committed(&conclusion)).await.is_ok() {
            self.logged = Some(conclusion);
        }
        self
    }

    /// What a transaction came to, or `None` if it is to be begun anew, since the log has now what it would have committed.
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

    /// The log has that it comes to something, and somebody else was faster: logs how it stands instead.
    async fn set_right(self, stands: Concluded, refund: Option<RefundId>) -> Concluded {
        let outcome = outcome(&stands.payment, refund.and_then(|refund| stands.payment.refund(refund)));
        let Some(logged) = self.logged.filter(|logged| !stands.logged && logged.outcome != outcome) else {
            return stands;
        };
        let logged = match self.log.append(committed(&Conclusion { outcome, ..logged })).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(payment = %stands.payment.charge.payment, %error, "log how a payment stands that somebody else has concluded");
                false
            }
        };
        Concluded { logged, ..stands }
    }
}

/// Commits what a gateway told of a payment, once the log has what that comes to. `held` as in the ledger.
///
/// # Errors
/// If the log or the ledger does not take it: nothing is concluded, or nobody can tell.
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

/// As [`conclude_payment`], of a refund.
///
/// # Errors
/// As there.
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

/// As [`conclude_refund`], of one that was refused, by what the gateway shows as given back of its payment.
///
/// # Errors
/// As there.
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

/// That it is committed, or about to be.
fn committed(Conclusion { header, payment, outcome }: &Conclusion) -> Event {
    Event::PaymentCommitted(Ended::new(header, outcome).about(*payment, false))
}

impl Operator<'_> {
    /// Logs what the operator says, before any of it is done.
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

    /// Logs that it is committed.
    pub(super) async fn committed(&self, conclusion: &Conclusion) -> Result<(), CommandSocketError> {
        self.audit.append(committed(conclusion)).await
    }
}

/// Logs that a request has come. Without that nothing is done about it.
pub(super) async fn received(log: &dyn Log, about: PaymentSubject) -> Result<Logged, ServiceEnd> {
    let carried = Carried::new(&about.header, about.action, None).about(about.payment);
    match log.append(Event::PaymentReceived(carried)).await {
        Ok(()) => Ok(Logged(about)),
        Err(_) => Err(ServiceEnd::Refused(Refusal::DatabaseDown)),
    }
}

impl Logged {
    /// Logs how it ended; what may be told. If it cannot be logged nobody is told, and whoever asked asks again.
    pub(super) async fn answered(self, log: &dyn Log, end: ServiceEnd) -> ServiceEnd {
        let event = match &end {
            // That is what it was concluded as, by this very request.
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
                tracing::warn!(payment = %self.0.payment, %error, "log how a payment ended: nobody is told before it is asked about again");
                ServiceEnd::Unknown
            }
        }
    }
}
