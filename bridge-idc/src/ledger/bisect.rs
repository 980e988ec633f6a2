//! Commits a batch although the database refuses one of its requests: halves it until the bad one stands alone.
//!
//! The halves keep the order of admission, each in a transaction of its own.

use bridge_protocol::wire::order::Refusal;

use super::transaction::Database;
use super::{Answer, Batch, Committed, LedgerError, commit};
use crate::planner::Request;

pub(super) async fn commit<D: Database>(database: &D, batch: &Batch) -> Result<Committed, LedgerError> {
    let mut answers = Vec::with_capacity(batch.requests.len());
    let mut waiting = vec![batch.requests.as_slice()];
    while let Some(requests) = waiting.pop() {
        match commit::commit(database, requests, batch.at).await {
            Ok(committed) => answers.extend(committed.answers),
            Err(LedgerError::Refused(state)) if requests.len() == 1 => {
                let Request { brand, action, .. } = &requests[0];
                let order = action.order();
                tracing::error!(%brand, %order, %state, "the database refuses this request; it has no effect");
                answers.push(Answer::Refused(Refusal::Failed));
            }
            Err(LedgerError::Refused(_)) => {
                let (first, second) = requests.split_at(requests.len() / 2);
                waiting.extend([second, first]);
            }
            Err(error) if answers.is_empty() => return Err(error),
            Err(error) => return Err(LedgerError::Partly(Box::new(error))),
        }
    }
    Ok(Committed { answers })
}
