//! An operator's word about money, from `payments resolve` into the log and the ledger.
//!
//! Who has the log may not answer. So nothing of the ledger is held while it is asked: what the word comes to is found out first,
//! then logged as what was said, and only then done. What the log says of a command that failed is that somebody said it.

use bridge_protocol::domain::{OrderId, PaymentId};
use bridge_runtime::audit_log::CommandSocketError;

use super::audit::Operator;
use super::store::{Attempt, Conclusion, NotDone, OperatorDecision, PaymentLedger, ResolveResult};
use crate::database::LedgerError;

/// Why an operator's word came to nothing, or nobody can tell.
#[derive(Debug, thiserror::Error)]
pub enum Unresolved {
    /// It is not in the log.
    #[error("nothing was committed")]
    Unsaid(#[source] CommandSocketError),
    /// The ledger did not do it.
    #[error(transparent)]
    NotDone(#[from] NotDone),
}

/// What an operator's word came to.
#[derive(Debug)]
pub struct OperatorResult {
    /// In the ledger.
    pub resolved: ResolveResult,
    /// Why the log has that it was said, and not that it is committed.
    pub unlogged: Option<CommandSocketError>,
}

/// Ends a doubt about a payment, or about the operator's refund of it.
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
    // Nothing is written before it is said, so nothing can be in doubt.
    let conclusion = match resolve(None).await.map_err(|error| NotDone::Nothing(error.into()))? {
        Attempt::Committed(resolved) => return Ok(OperatorResult { resolved, unlogged: None }),
        Attempt::ToLog(conclusion) => conclusion,
    };
    operator.says(&conclusion).await.map_err(Unresolved::Unsaid)?;
    let Attempt::Committed(resolved) = resolve(Some(&conclusion)).await? else {
        // It would come to something else than was said.
        return Err(NotDone::Nothing(LedgerError::Conflict).into());
    };
    let unlogged = match &resolved {
        ResolveResult::Stands(_) => operator.committed(&conclusion).await.err(),
        // Somebody else was faster: what was said was not done.
        ResolveResult::Known | ResolveResult::NotLeft(_) | ResolveResult::OnItsWay(_) => None,
    };
    Ok(OperatorResult { resolved, unlogged })
}
