//! Signed answers for committed requests. Only a commit creates a
//! [`Committed`](crate::orders::store::Committed), so no receipt comes before its commit.

use bridge_protocol::note::NoteSigner;
use bridge_protocol::receipt;
use bridge_protocol::wire::order::{Settled, to_cloud};

use crate::orders::store::{Committed, RequestOutcome};

/// Returns one answer for each request, in the batch's order. One signature covers all receipts of
/// the batch.
pub fn answers(committed: &[Committed], signer: &NoteSigner) -> Vec<to_cloud::Kind> {
    let settled = committed.iter().filter_map(|committed| match committed.answer() {
        RequestOutcome::Settled { receipt, .. } => Some(receipt.clone()),
        RequestOutcome::Refused(_) => None,
    });
    let receipts: Vec<_> = settled.collect();
    let mut signed = receipt::sign_batch(&receipts, signer).into_iter();
    let answer = |committed: &Committed| match committed.answer() {
        RequestOutcome::Settled { replayed, .. } => {
            to_cloud::Kind::Settled(Settled { receipt: signed.next(), replayed: *replayed })
        }
        RequestOutcome::Refused(refusal) => to_cloud::Kind::Refused((*refusal).into()),
    };
    committed.iter().map(answer).collect()
}
