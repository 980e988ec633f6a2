//! What the audit log has of a payment before the gateway is asked, of what becomes of it before the ledger has it, and of how
//! a request ended before the cloud hears it (promise P8).

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use bridge_protocol::audit::entry::{Carried, Ended, Entry, Event, Resolved, Word};
use bridge_protocol::domain::{PaymentId, ReasonCode, RefundId};
use bridge_protocol::seal::sealing::Header;
use bridge_protocol::wire::order::Refusal;
use bridge_runtime::audit_log::{self, AuditError, AuditLog, DoorError};
use bridge_runtime::clock;
use bridge_runtime::config::AuditConfig;

use super::service::End;
use super::{PayAsked, RefundAsked};

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

/// Which log has what is concluded of a payment or a refund, before it is committed.
#[derive(Clone, Copy)]
pub enum Witness<'log> {
    /// The agent's own.
    Log(&'log dyn Log),
    /// The agent's own, which has that it comes to this: so no transaction is open while the log's disk is waited for.
    Logged(&'log dyn Log, &'static str),
    /// None: what it comes to is found out, and taken back again.
    Rehearsal(&'log Mutex<Option<Conclusion>>),
    /// An operator's word is in the log, which it is to come to; no transaction waits for whoever has the log.
    Said(&'log Conclusion),
}

/// What a payment or a refund comes to, and under whose key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    header: Header,
    payment: PaymentId,
    outcome: String,
}

/// Why what is to be committed has no witness.
#[derive(Debug)]
pub(crate) enum Unwitnessed {
    /// It cannot be logged.
    Unlogged(AuditError),
    /// It comes to something else than was said before.
    Otherwise,
}

/// The log that the agent has, or would have if it ran: who appends to it is another process.
pub trait Beside: Send + Sync {
    /// Logs what happened now; ends once it is durable.
    fn append(&self, event: Event) -> Pin<Box<dyn Future<Output = Result<(), DoorError>> + Send + '_>>;
}

impl Beside for AuditConfig {
    fn append(&self, event: Event) -> Pin<Box<dyn Future<Output = Result<(), DoorError>> + Send + '_>> {
        let entry = Entry::new(clock::now(), event);
        Box::pin(async move { audit_log::append_beside(self, &entry).await })
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
pub(super) struct About {
    action: &'static str,
    header: Header,
    payment: PaymentId,
}

/// A request that is in the audit log; only [`received`] makes one.
pub(super) struct Logged(About);

impl About {
    /// A charge.
    pub(super) fn of_payment(asked: &PayAsked) -> Self {
        let PayAsked { brand, key, charge, .. } = asked;
        let header = Header { brand: brand.clone(), order: charge.order, key: *key };
        Self { action: "pay", header, payment: charge.payment }
    }

    /// A refund.
    pub(super) fn of_refund(asked: &RefundAsked) -> Self {
        let RefundAsked { brand, key, order, payment, .. } = asked;
        let header = Header { brand: brand.clone(), order: *order, key: *key };
        Self { action: "refund", header, payment: *payment }
    }

    /// Whose request under which key.
    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    fn ended(&self, outcome: &str, payment: PaymentId, replayed: bool) -> Ended {
        Ended::new(&self.header, outcome).about(payment, replayed)
    }
}

impl Witness<'_> {
    /// Makes durable what became of a payment or a refund, under the key of the request for it.
    pub(crate) async fn concluded(
        self,
        header: &Header,
        payment: PaymentId,
        outcome: &str,
    ) -> Result<(), Unwitnessed> {
        let conclusion = || Conclusion { header: header.clone(), payment, outcome: outcome.to_owned() };
        match self {
            Self::Logged(_, known) if known == outcome => Ok(()),
            Self::Log(log) | Self::Logged(log, _) => {
                log.append(conclusion().committed()).await.map_err(Unwitnessed::Unlogged)
            }
            Self::Rehearsal(found) => {
                *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(conclusion());
                Ok(())
            }
            Self::Said(said) if *said == conclusion() => Ok(()),
            Self::Said(_) => Err(Unwitnessed::Otherwise),
        }
    }
}

impl Conclusion {
    /// That it is committed.
    fn committed(&self) -> Event {
        Event::PaymentCommitted(Ended::new(&self.header, &self.outcome).about(self.payment, false))
    }
}

impl Operator<'_> {
    /// Logs what the operator says, before any of it is done.
    pub(super) async fn says(&self, conclusion: &Conclusion) -> Result<(), DoorError> {
        let said = Event::PaymentResolved(Resolved {
            order: conclusion.header.order,
            outcome: Word::of(&conclusion.outcome),
            payment: Word::of(&conclusion.payment.to_string()),
            reason: Word::of(self.reason.as_str()),
            refund: self.refund.map(|refund| Word::of(&refund.to_string())),
            who: self.who.clone(),
        });
        self.audit.append(said).await
    }

    /// Logs that it is committed.
    pub(super) async fn committed(&self, conclusion: &Conclusion) -> Result<(), DoorError> {
        self.audit.append(conclusion.committed()).await
    }
}

/// Logs that a request has come. Without that nothing is done about it.
pub(super) async fn received(log: &dyn Log, about: About) -> Result<Logged, End> {
    let carried = Carried::new(&about.header, about.action, None).about(about.payment);
    match log.append(Event::PaymentReceived(carried)).await {
        Ok(()) => Ok(Logged(about)),
        Err(_) => Err(End::Refused(Refusal::DatabaseDown)),
    }
}

impl Logged {
    /// Logs how it ended; what may be told. If it cannot be logged nobody is told, and whoever asked asks again.
    pub(super) async fn answered(self, log: &dyn Log, end: End) -> End {
        let event = match &end {
            // That is what it was concluded as, by this very request.
            End::Stands { logged: true, .. } => return end,
            End::Stands { payment, refund, replayed, .. } => {
                let refund = refund.and_then(|id| payment.refund(id));
                let outcome = refund.map_or(payment.state.code(), |refund| refund.state.code());
                Event::PaymentCommitted(self.0.ended(outcome, payment.charge.payment, *replayed))
            }
            End::Refused(refusal) | End::InTheWay(refusal, _) => {
                Event::PaymentAnswered(self.0.ended(refusal.code(), self.0.payment, false))
            }
            End::Unknown => return End::Unknown,
        };
        match log.append(event).await {
            Ok(()) => end.logged(),
            Err(error) => {
                tracing::warn!(payment = %self.0.payment, %error, "log how a payment ended: nobody is told before it is asked about again");
                End::Unknown
            }
        }
    }
}
