//! Turns what was committed into answers. Only a commit makes a [`Committed`](crate::orders::store::Committed), so no receipt comes before one.

use bridge_protocol::note::NoteSigner;
use bridge_protocol::receipt;
use bridge_protocol::wire::order::{Settled, to_cloud};

use crate::orders::store::{Committed, RequestOutcome};

/// One answer a request, in the batch's order; all receipts of the batch under one signature.
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
