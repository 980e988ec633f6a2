//! An operator's decision about money, from `payments resolve` to the audit log and the ledger.
//!
//! The log may not answer, so no row of the ledger is held while it is asked. The conclusion of the
//! decision is found first, then logged, and only then committed. If the command fails in between,
//! the log has only the decision, not the commit.

use bridge_protocol::domain::{OrderId, PaymentId};
use bridge_runtime::audit_log::CommandSocketError;

use super::audit::Operator;
use super::store::{Attempt, Conclusion, NotDone, OperatorDecision, PaymentLedger, ResolveResult};
use crate::database::LedgerError;

/// The reason why an operator's decision was not committed, or why that is unknown.
#[derive(Debug, thiserror::Error)]
pub enum Unresolved {
    /// The decision is not in the log.
    #[error("nothing was committed")]
    Unsaid(#[source] CommandSocketError),
    /// The ledger did not write it.
    #[error(transparent)]
    NotDone(#[from] NotDone),
}

/// The result of an operator's decision.
#[derive(Debug)]
pub struct OperatorResult {
    /// The result in the ledger.
    pub resolved: ResolveResult,
    /// The error if the log has the decision but not its commit.
    pub unlogged: Option<CommandSocketError>,
}

/// Resolves the doubt about a payment, or about the operator's refund of it.
///
/// # Errors
///
/// Fails if the log or the ledger fails. [`NotDone::Perhaps`] means that the decision may be
/// committed.
pub async fn resolve(
    ledger: &impl PaymentLedger,
    order: OrderId,
    id: PaymentId,
    verdict: OperatorDecision<'_>,
    operator: &Operator<'_>,
) -> Result<OperatorResult, Unresolved> {
    let resolve = async |said: Option<&Conclusion>| match operator.refund {
        Some(refund) => ledger.resolve_refund(order, id, refund, verdict, said).await,
        None => ledger.resolve_payment(order, id, verdict, said).await,
    };
    // The first call only finds the conclusion and writes nothing, so its outcome is never unknown.
    let conclusion = match resolve(None).await.map_err(|error| NotDone::Nothing(error.into()))? {
        Attempt::Committed(resolved) => return Ok(OperatorResult { resolved, unlogged: None }),
        Attempt::ToLog(conclusion) => conclusion,
    };
    operator.says(&conclusion).await.map_err(Unresolved::Unsaid)?;
    let Attempt::Committed(resolved) = resolve(Some(&conclusion)).await? else {
        // The conclusion has changed since it was logged.
        return Err(NotDone::Nothing(LedgerError::Conflict).into());
    };
    let unlogged = match &resolved {
        ResolveResult::Stands(_) => operator.committed(&conclusion).await.err(),
        // Another writer was faster, so the decision was not committed.
        ResolveResult::Known | ResolveResult::NotLeft(_) | ResolveResult::OnItsWay(_) => None,
    };
    Ok(OperatorResult { resolved, unlogged })
}
