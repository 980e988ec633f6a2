//! What the audit log has of a write before its frame leaves, and of its answer before the storefront hears it (promise P8).

use bridge_protocol::audit::entry::{Carried, Digest, Ended, Entry, Event, Word};
use bridge_protocol::order_link::sender::{Answer, Rejected};
use bridge_protocol::receipt::VerifiedReceipt;
use bridge_protocol::seal::sealing::Header;
use bridge_protocol::wire::order::{Settled, to_idc};
use bridge_runtime::audit_log::{AuditError, AuditLog};
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

/// Logs that a write is sent.
pub(super) async fn sent(
    log: &AuditLog,
    header: &Header,
    kind: to_idc::Kind,
) -> Result<LoggedWrite, AuditError> {
    let Header { brand, order, key } = header.clone();
    let (action, ciphertext) = match &kind {
        to_idc::Kind::Place(envelope) => ("place", Some(&envelope.ciphertext)),
        to_idc::Kind::Cancel(_) => ("cancel", None),
        to_idc::Kind::Ask(_) => ("ask", None),
        to_idc::Kind::Pay(_) => ("pay", None),
        to_idc::Kind::Refund(_) => ("refund", None),
        to_idc::Kind::AskPayment(_) => ("ask-payment", None),
    };
    let bytes = ciphertext.map_or(0, |ciphertext| ciphertext.len() as u64);
    let ciphertext = ciphertext.map(|ciphertext| Digest::of(ciphertext));
    let action = Word::of(action);
    let carried = Carried { action, brand, bytes, ciphertext, key, order, payment: None };
    log.append(&[Entry::new(clock::now(), Event::OrderSent(carried))]).await?;
    Ok(LoggedWrite(kind))
}

/// Logs what a write was answered. If that cannot be, its outcome is not told: nobody knows it yet, and it can be asked
/// about; that this is so is logged as soon as it can be.
pub(super) async fn answered(log: &AuditLog, header: &Header, heard: Heard) -> LoggedAnswer {
    let logged = log.append(&[Entry::new(clock::now(), Event::OrderAnswered(ended(header, &heard)))]).await;
    if let Err(error) = logged {
        tracing::warn!(order = %header.order, %error, "log an answer: the caller is told that its outcome is unknown");
        let unknown = Heard::Other(Ok(Answer::Unknown));
        log.record(Event::OrderAnswered(ended(header, &unknown)));
        return LoggedAnswer(unknown);
    }
    LoggedAnswer(heard)
}

fn ended(header: &Header, heard: &Heard) -> Ended {
    let Header { brand, order, key } = header.clone();
    let ended = |outcome: &str| Ended {
        brand,
        key,
        order,
        outcome: Word::of(outcome),
        payment: None,
        position: None,
        replayed: false,
    };
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
        Heard::Other(Ok(Answer::Refused(refusal))) => ended(refusal.code()),
        Heard::Other(Ok(Answer::NotSent)) => ended("not-sent"),
        Heard::Other(Ok(
            Answer::Settled(_) | Answer::Payment(_) | Answer::State(_) | Answer::Unknown | Answer::Pending,
        )) => ended("unknown"),
        Heard::Other(Err(Rejected::Full)) => ended("full"),
        Heard::Other(Err(Rejected::InProgress)) => ended("in-progress"),
    }
}
