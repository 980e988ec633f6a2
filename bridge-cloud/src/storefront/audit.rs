//! What the audit log has of a write before its frame leaves, and of its answer before the storefront hears it (promise P8).

use bridge_protocol::audit::entry::{Carried, Ended, Entry, Event};
use bridge_protocol::domain::PaymentId;
use bridge_protocol::order_link::sender::{Answer, Rejected};
use bridge_protocol::receipt::VerifiedReceipt;
use bridge_protocol::seal::sealing::Header;
use bridge_protocol::wire::order::{Settled, to_idc};
use bridge_runtime::audit_log::{AuditError, Gathering};
use bridge_runtime::clock;

/// A write that is in the audit log; only [`sent`] makes one, and only it is sent.
pub(super) struct LoggedWrite(to_idc::Kind);

impl LoggedWrite {
    /// What goes to the IDC.
    pub(super) fn into_kind(self) -> to_idc::Kind {
        self.0
    }
}

/// What became of a write, as far as it is known; a receipt only once it is verified.
pub(super) enum Heard {
    /// It is committed.
    Settled(Settled, VerifiedReceipt),
    /// A receipt that proves nothing came, so nobody can tell.
    Distrusted(String),
    /// Anything else.
    Other(Result<Answer, Rejected>),
}

/// An answer that is in the audit log; only [`answered`] makes one, and only it is told.
pub(super) struct LoggedAnswer(Heard);

impl LoggedAnswer {
    /// What the storefront hears.
    pub(super) fn into_heard(self) -> Heard {
        self.0
    }
}

/// Logs that a write is sent, one about a payment as such.
pub(super) async fn sent(
    log: &Gathering,
    header: &Header,
    payment: Option<PaymentId>,
    kind: to_idc::Kind,
) -> Result<LoggedWrite, AuditError> {
    let durable = log.append(|| Entry::new(clock::now(), going(header, payment, &kind)));
    if let Err(error) = durable.await {
        if error == AuditError::Late {
            // That it was sent may be in the log once the disk answers again, and it is not.
            let ended = Ended::new(header, "not-sent");
            log.record(match payment {
                Some(payment) => Event::PaymentAnswered(ended.about(payment, false)),
                None => Event::OrderAnswered(ended),
            });
        }
        return Err(error);
    }
    Ok(LoggedWrite(kind))
}

fn going(header: &Header, payment: Option<PaymentId>, kind: &to_idc::Kind) -> Event {
    let (action, ciphertext) = match kind {
        to_idc::Kind::Place(envelope) => ("place", Some(&envelope.ciphertext[..])),
        to_idc::Kind::Cancel(_) => ("cancel", None),
        to_idc::Kind::Ask(_) => ("ask", None),
        to_idc::Kind::Pay(_) => ("pay", None),
        to_idc::Kind::Refund(_) => ("refund", None),
        to_idc::Kind::AskPayment(_) => ("ask-payment", None),
    };
    let carried = Carried::new(header, action, ciphertext);
    match payment {
        Some(payment) => Event::PaymentSent(carried.about(payment)),
        None => Event::OrderSent(carried),
    }
}

/// Logs what a write was answered. If that cannot be, its outcome is not told: nobody knows it yet, and it can be asked
/// about; that this is so is logged as soon as it can be.
pub(super) async fn answered(log: &Gathering, header: &Header, heard: Heard) -> LoggedAnswer {
    let durable = log.append(|| Entry::new(clock::now(), Event::OrderAnswered(ended(header, &heard))));
    if let Err(error) = durable.await {
        tracing::warn!(order = %header.order, %error, "log an answer: the caller is told that its outcome is unknown");
        let unknown = Heard::Other(Ok(Answer::Unknown));
        log.record(Event::OrderAnswered(ended(header, &unknown)));
        return LoggedAnswer(unknown);
    }
    LoggedAnswer(heard)
}

fn ended(header: &Header, heard: &Heard) -> Ended {
    let ended = |outcome| Ended::new(header, outcome);
    match heard {
        Heard::Settled(settled, verified) => {
            let receipt = verified.receipt();
            Ended {
                order: receipt.order,
                position: Some(receipt.position),
                replayed: settled.replayed,
                ..ended(receipt.outcome.code())
            }
        }
        Heard::Distrusted(_) => ended("receipt-rejected"),
        Heard::Other(answer) => ended(plain(answer)),
    }
}

/// What an answer without a receipt comes to.
fn plain(answer: &Result<Answer, Rejected>) -> &'static str {
    match answer {
        Ok(Answer::Refused(refusal)) => refusal.code(),
        Ok(Answer::NotSent) => "not-sent",
        Ok(
            Answer::Settled(_) | Answer::State(_) | Answer::Payment(_) | Answer::Unknown | Answer::Pending,
        ) => "unknown",
        Err(Rejected::Full) => "full",
        Err(Rejected::InProgress) => "in-progress",
        // The data centre did not see it, so it is no refusal of its.
        Err(Rejected::KeyReused) => "key-in-use",
    }
}

/// As [`answered`], of a payment or a refund: what may be told of it.
pub(super) async fn payment_answered(
    log: &Gathering,
    header: &Header,
    payment: PaymentId,
    answer: Result<Answer, Rejected>,
) -> Result<Answer, Rejected> {
    let durable = log.append(|| Entry::new(clock::now(), payment_ended(header, payment, &answer)));
    if let Err(error) = durable.await {
        tracing::warn!(%payment, %error, "log an answer: the caller is told that its outcome is unknown");
        let unknown = Ok(Answer::Unknown);
        log.record(payment_ended(header, payment, &unknown));
        return unknown;
    }
    answer
}

fn payment_ended(header: &Header, payment: PaymentId, answer: &Result<Answer, Rejected>) -> Event {
    let (outcome, payment, replayed) = match answer {
        Ok(Answer::Payment(stands)) => {
            let refund = stands.refunds.iter().find(|refund| stands.refund.as_ref() == Some(&refund.refund));
            let outcome = refund.map_or(stands.state_code(), |refund| refund.state.as_str());
            let payment = PaymentId::from_bytes(&stands.payment).unwrap_or(payment);
            (outcome, payment, stands.replayed)
        }
        answer => (plain(answer), payment, false),
    };
    Event::PaymentAnswered(Ended::new(header, outcome).about(payment, replayed))
}
