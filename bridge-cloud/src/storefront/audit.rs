//! Audit entries of writes: before a frame is sent, and before the storefront gets an answer
//! (promise P8).

use bridge_protocol::audit::entry::{Carried, Ended, Entry, Event};
use bridge_protocol::domain::PaymentId;
use bridge_protocol::order_link::sender::{CallerAnswer, Rejected};
use bridge_protocol::receipt::VerifiedReceipt;
use bridge_protocol::seal::sealing::Header;
use bridge_protocol::wire::order::{Settled, to_idc};
use bridge_runtime::audit_log::{AuditError, Batcher};
use bridge_runtime::clock;

/// A write that is in the audit log. Only [`sent`] makes one, and only it is sent.
pub(super) struct LoggedWrite(to_idc::Kind);

impl LoggedWrite {
    /// Returns the request for the IDC.
    pub(super) fn into_kind(self) -> to_idc::Kind {
        self.0
    }
}

/// Known outcome of a write. A receipt counts only after verification.
pub(super) enum WriteResult {
    /// It is committed.
    Settled(Settled, VerifiedReceipt),
    /// A receipt arrived that proves nothing, so the outcome is unknown.
    Distrusted(String),
    /// Any other answer.
    Other(Result<CallerAnswer, Rejected>),
}

/// An answer that is in the audit log, or that reveals no outcome. Only [`answered`] makes one, and
/// only it is returned to a caller.
pub(super) struct LoggedAnswer(WriteResult);

impl LoggedAnswer {
    /// Returns the answer for the storefront.
    pub(super) fn into_write_result(self) -> WriteResult {
        self.0
    }
}

/// Logs that a write is sent. A write about a payment gets a payment's entry.
pub(super) async fn sent(
    log: &Batcher,
    header: &Header,
    payment: Option<PaymentId>,
    kind: to_idc::Kind,
) -> Result<LoggedWrite, AuditError> {
    let durable = log.append(|| Entry::new(clock::now(), going(header, payment, &kind)));
    if let Err(error) = durable.await {
        if error == AuditError::Late {
            // The disk may later have the entry that the write was sent, although it was not.
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

/// Logs the answer to a write. If this fails, the outcome is withheld: the caller is told "unknown"
/// and can ask.
///
/// An answer that nothing was taken is no outcome, and is returned to the caller. The data centre's
/// log need not have such a request, but would lack a request that this log calls unknown. The
/// answer is logged as soon as possible.
pub(super) async fn answered(log: &Batcher, header: &Header, heard: WriteResult) -> LoggedAnswer {
    let durable = log.append(|| Entry::new(clock::now(), Event::OrderAnswered(ended(header, &heard))));
    let Err(error) = durable.await else { return LoggedAnswer(heard) };
    let told = match ended(header, &heard) {
        kept if kept.says_not_taken() => heard,
        _ => {
            tracing::warn!(order = %header.order, %error, "log an answer: the caller is told that its outcome is unknown");
            WriteResult::Other(Ok(CallerAnswer::Unknown))
        }
    };
    log.record(Event::OrderAnswered(ended(header, &told)));
    LoggedAnswer(told)
}

fn ended(header: &Header, heard: &WriteResult) -> Ended {
    let ended = |outcome| Ended::new(header, outcome);
    match heard {
        WriteResult::Settled(settled, verified) => {
            let receipt = verified.receipt();
            Ended {
                order: receipt.order,
                position: Some(receipt.position),
                replayed: settled.replayed,
                ..ended(receipt.outcome.code())
            }
        }
        WriteResult::Distrusted(_) => ended("receipt-rejected"),
        WriteResult::Other(answer) => ended(plain(answer)),
    }
}

/// Returns the code of an answer without a receipt.
fn plain(answer: &Result<CallerAnswer, Rejected>) -> &'static str {
    match answer {
        Ok(CallerAnswer::Refused(refusal) | CallerAnswer::InTheWay(refusal, _)) => refusal.code(),
        Ok(CallerAnswer::NotSent) => "not-sent",
        Ok(
            CallerAnswer::Settled(_)
            | CallerAnswer::State(_)
            | CallerAnswer::Payment(_)
            | CallerAnswer::Unknown
            | CallerAnswer::Pending,
        ) => "unknown",
        Err(Rejected::Full) => "full",
        Err(Rejected::InProgress) => "in-progress",
        // The data centre did not see the request, so this is no refusal of its own.
        Err(Rejected::KeyReused) => "key-in-use",
    }
}

/// Does the same as [`answered`] for a payment or a refund, and returns the answer for the caller.
pub(super) async fn payment_answered(
    log: &Batcher,
    header: &Header,
    payment: PaymentId,
    answer: Result<CallerAnswer, Rejected>,
) -> Result<CallerAnswer, Rejected> {
    let ended = |answer: &_| payment_ended(header, payment, answer);
    let durable = log.append(|| Entry::new(clock::now(), Event::PaymentAnswered(ended(&answer))));
    let Err(error) = durable.await else { return answer };
    let told = match ended(&answer) {
        kept if kept.says_not_taken() => answer,
        _ => {
            tracing::warn!(%payment, %error, "log an answer: the caller is told that its outcome is unknown");
            Ok(CallerAnswer::Unknown)
        }
    };
    log.record(Event::PaymentAnswered(ended(&told)));
    told
}

fn payment_ended(header: &Header, payment: PaymentId, answer: &Result<CallerAnswer, Rejected>) -> Ended {
    let (outcome, payment, replayed) = match answer {
        Ok(CallerAnswer::Payment(stands)) => {
            let refund = stands.refunds.iter().find(|refund| stands.refund.as_ref() == Some(&refund.refund));
            let outcome = refund.map_or(stands.state_code(), |refund| refund.state.as_str());
            let payment = PaymentId::from_bytes(&stands.payment).unwrap_or(payment);
            (outcome, payment, stands.replayed)
        }
        answer => (plain(answer), payment, false),
    };
    Ended::new(header, outcome).about(payment, replayed)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use bridge_protocol::audit::journal::Reader;
    use bridge_protocol::domain::{Brand, KeyDigest, OrderId};
    use bridge_protocol::wire::order::Refusal;
    use bridge_runtime::audit_log::AuditLog;
    use bridge_runtime::config::AuditConfig;
    use bridge_runtime::telemetry::metrics::Metrics;

    use super::*;

    /// Upper limit of a wait. A condition normally ends the wait much earlier.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn header() -> Header {
        let (brand, key) = (Brand::new("shoes").unwrap(), KeyDigest::from_bytes(&[1; 32]).unwrap());
        Header { brand, order: OrderId::new(clock::now(), [1; 10]), key }
    }

    /// Returns the answers to callers that a log contains.
    fn told_by(log: &Path) -> Vec<String> {
        let mut told = Vec::new();
        for file in std::fs::read_dir(log.join("journal")).unwrap() {
            let segment = std::fs::read(file.unwrap().path()).unwrap();
            let (_, mut reader) = Reader::open(&segment).unwrap();
            while let Ok(Some(round)) = reader.next_round() {
                told.extend(round.entries.into_iter().filter_map(|entry| {
                    match Entry::parse(entry).unwrap().event {
                        Event::OrderAnswered(ended) | Event::PaymentAnswered(ended) => {
                            Some(ended.outcome.as_str().to_owned())
                        }
                        _ => None,
                    }
                }));
            }
        }
        told.sort();
        told
    }

    /// The IDC's log has no such request. If the outcome were logged as unknown, the request would
    /// look like one that was sent and never received.
    #[tokio::test]
    async fn a_refused_write_is_answered_and_logged_although_the_log_is_away() {
        let dir = tempfile::tempdir().unwrap();
        let config = AuditConfig {
            dir: dir.path().join("audit"),
            key_file: dir.path().join("audit.key"),
            origin: "bridge.internal/cloud/test".to_owned(),
            publish_every: Duration::from_millis(10),
            write_within: PATIENCE,
        };
        let (log, closer) = AuditLog::open(&config, Arc::new(Metrics::default())).unwrap();
        let gathering = Batcher::new(log);
        let (header, away) = (header(), dir.path().join("away"));
        let payment = PaymentId::new(clock::now(), [1; 10]);
        std::fs::rename(&config.dir, &away).unwrap();
        for (answer, is_told) in [
            (Ok(CallerAnswer::NotSent), true),
            (Err(Rejected::Full), true),
            (Ok(CallerAnswer::Refused(Refusal::DatabaseDown)), true),
            // The ledger answers that another request has used the key.
            (Ok(CallerAnswer::Refused(Refusal::KeyReused)), false),
        ] {
            let expected = if is_told { answer.clone() } else { Ok(CallerAnswer::Unknown) };
            let told =
                answered(&gathering, &header, WriteResult::Other(answer.clone())).await.into_write_result();
            assert!(matches!(told, WriteResult::Other(told) if told == expected), "{answer:?}");
            assert_eq!(payment_answered(&gathering, &header, payment, answer).await, expected);
        }
        std::fs::rename(&away, &config.dir).unwrap();
        let logged = async {
            while told_by(&config.dir).len() < 8 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, logged).await.unwrap();
        let expected = ["database-down", "full", "not-sent", "unknown"].map(|told| [told; 2]).concat();
        assert_eq!(told_by(&config.dir), expected);
        closer.close().await.unwrap();
    }
}
