//! An operator's word about money, from `payments resolve` into the log and the ledger.
//!
//! Who has the log may not answer. So nothing of the ledger is held while it is asked: what the word comes to is found out first,
//! then logged as what was said, and only then done. What the log says of a command that failed is that somebody said it.

use bridge_protocol::domain::{OrderId, PaymentId};
use bridge_runtime::audit_log::DoorError;

use super::audit::{Operator, Witness};
use crate::ledger::payments::{NotDone, PaymentLedger, Resolved, Verdict};

/// Why an operator's word came to nothing, or nobody can tell.
#[derive(Debug, thiserror::Error)]
pub enum Unresolved {
    /// It is not in the log.
    #[error("nothing was committed")]
    Unsaid(#[source] DoorError),
    /// The ledger did not do it.
    #[error(transparent)]
    NotDone(#[from] NotDone),
}

/// What an operator's word came to.
#[derive(Debug)]
pub struct Said {
    /// In the ledger.
    pub resolved: Resolved,
    /// Why the log has that it was said, and not that it is committed.
    pub unlogged: Option<DoorError>,
}

/// Ends a doubt about a payment, or about the operator's refund of it.
pub async fn resolve(
    ledger: &impl PaymentLedger,
    order: OrderId,
    id: PaymentId,
    verdict: Verdict<'_>,
    operator: &Operator<'_>,
) -> Result<Said, Unresolved> {
    let (resolved, conclusion) = ledger.rehearse_resolution(order, id, operator.refund, verdict).await?;
    let Some(conclusion) = conclusion else { return Ok(Said { resolved, unlogged: None }) };
    operator.says(&conclusion).await.map_err(Unresolved::Unsaid)?;
    let witness = Witness::Said(&conclusion);
    let resolved = match operator.refund {
        Some(refund) => ledger.resolve_refund(order, id, refund, verdict, witness).await?,
        None => ledger.resolve_payment(order, id, verdict, witness).await?,
    };
    let unlogged = match &resolved {
        Resolved::Stands(_) => operator.committed(&conclusion).await.err(),
        // Somebody else was faster: what was said was not done.
        Resolved::Known | Resolved::NotLeft(_) | Resolved::OnItsWay(_) => None,
    };
    Ok(Said { resolved, unlogged })
}
