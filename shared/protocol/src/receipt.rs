//! Receipts: signed by the IDC agent for every committed request, and verified by the cloud agent
//! before it answers.
//!
//! A batch has one signature over the RFC 6962 root of its receipts, and each receipt carries its
//! path. A receipt that is replayed later is signed again, alone, over the same facts.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::domain::{Brand, Currency, KeyDigest, Money, OrderId, Outcome, Sku, UnixMicros};
use crate::merkle::{self, Tree};
use crate::note::{NoteSigner, NoteVerifier};
use crate::wire;

/// The certified facts: this request, under this key, had this outcome, at this ledger position, at
/// this time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Brand of the request.
    pub brand: Brand,
    /// Digest of the request's idempotency key.
    pub key: KeyDigest,
    /// The order that was placed, rejected or cancelled: the first one that came under the key.
    pub order: OrderId,
    /// Outcome of the request.
    pub outcome: Outcome,
    /// The ledger's number for the outcome. Numbers are unique and grow, with gaps.
    pub position: i64,
    /// Time at which its transaction was put together, by the IDC agent's clock.
    pub committed_at: UnixMicros,
}

/// A receipt whose signature was checked against a pinned key. Only a [`Verifier`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedReceipt(Receipt);

impl VerifiedReceipt {
    /// Returns the certified facts.
    pub fn receipt(&self) -> &Receipt {
        &self.0
    }
}

/// Reasons why a receipt proves nothing. The peer is at fault: the error is counted and logged, and
/// the request is never reported as a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Its fields do not have the form of a receipt.
    #[error("the receipt is not in the form of one")]
    Malformed,
    /// Its path does not lead from the receipt to a root.
    #[error("the receipt's inclusion path does not fit its batch")]
    BadPath,
    /// No pinned key signed the root.
    #[error("the receipt is not signed by a key that is pinned here")]
    BadSignature,
}

/// Signs a batch. Returns the wire form of each receipt with path and signature, in the same order.
pub fn sign_batch(receipts: &[Receipt], signer: &NoteSigner) -> Vec<wire::order::Receipt> {
    let facts: Vec<Bytes> = receipts.iter().map(facts).collect();
    let leaves = facts.iter().map(|facts| merkle::leaf_hash(facts)).collect();
    let Some(tree) = Tree::new(leaves) else { return Vec::new() };
    let size = receipts.len() as u64;
    let signature = Bytes::copy_from_slice(&signer.sign(&signed_message(size, &tree.root())));
    let sign = |(index, facts): (usize, Bytes)| wire::order::Receipt {
        facts,
        index: index as u64,
        size,
        path: tree.path(index).unwrap_or_default().concat().into(),
        signature: signature.clone(),
    };
    facts.into_iter().enumerate().map(sign).collect()
}

/// Signed roots that a [`Verifier`] remembers: more than the batches that are answered at the same
/// time.
const ROOTS_MAX: usize = 64;

/// Verifies receipts against pinned keys.
///
/// It remembers the roots that it has verified, because all receipts of a batch share one.
/// Verifying a signature costs more than the rest of an order's processing in the cloud agent.
#[derive(Debug, Clone)]
pub struct Verifier {
    pinned: Vec<NoteVerifier>,
    /// Messages with their good signatures, newest last; at most [`ROOTS_MAX`].
    known: VecDeque<(Vec<u8>, Bytes)>,
}

impl Verifier {
    /// Makes a verifier that trusts these keys.
    pub fn new(pinned: Vec<NoteVerifier>) -> Self {
        Self { pinned, known: VecDeque::new() }
    }

    /// Verifies a receipt.
    ///
    /// # Errors
    ///
    /// Fails if the receipt is malformed, its path does not fit, or no pinned key signed its root.
    pub fn verify(&mut self, receipt: &wire::order::Receipt) -> Result<VerifiedReceipt, ReceiptError> {
        let (hashes, rest) = receipt.path.as_chunks::<32>();
        if !rest.is_empty() || hashes.len() > 64 {
            return Err(ReceiptError::BadPath);
        }
        let leaf = merkle::leaf_hash(&receipt.facts);
        let root = merkle::root_from_path(leaf, receipt.index, receipt.size, hashes);
        let message = signed_message(receipt.size, &root.ok_or(ReceiptError::BadPath)?);
        let signature = &receipt.signature;
        if !self.known.iter().any(|(known, by)| *known == message && by == signature) {
            if !self.pinned.iter().any(|key| key.verify(&message, signature).is_ok()) {
                return Err(ReceiptError::BadSignature);
            }
            if self.known.len() >= ROOTS_MAX {
                self.known.pop_front();
            }
            self.known.push_back((message, signature.clone()));
        }
        read_facts(&receipt.facts).map(VerifiedReceipt)
    }
}

/// Verifies one receipt against the pinned keys.
///
/// # Errors
///
/// Fails if the receipt is malformed, its path does not fit, or no pinned key signed its root.
pub fn verify(
    receipt: &wire::order::Receipt,
    pinned: &[NoteVerifier],
) -> Result<VerifiedReceipt, ReceiptError> {
    Verifier::new(pinned.to_vec()).verify(receipt)
}

/// Returns the message to sign. Its first line separates this signature from others of the same
/// key.
fn signed_message(size: u64, root: &merkle::Hash) -> Vec<u8> {
    [b"bridge receipts v1\n".as_slice(), &size.to_be_bytes(), root].concat()
}

fn facts(receipt: &Receipt) -> Bytes {
    let wire = wire::order::ReceiptFacts {
        brand: receipt.brand.as_str().to_owned(),
        key: Bytes::copy_from_slice(receipt.key.as_bytes()),
        order: Bytes::copy_from_slice(receipt.order.as_bytes()),
        outcome: receipt.outcome.code_before_launches().to_owned(),
        sku: receipt.outcome.sku().map(|sku| sku.as_str().to_owned()),
        price: receipt.outcome.price().map(|price| price.amount()),
        currency: receipt.outcome.price().map(|price| price.currency().as_str().to_owned()),
        position: receipt.position,
        committed_at_micros: receipt.committed_at.get(),
        launch: receipt.outcome.launch_refusal().map(Into::into),
    };
    prost::Message::encode_to_vec(&wire).into()
}

fn read_facts(facts: &Bytes) -> Result<Receipt, ReceiptError> {
    let wire: wire::order::ReceiptFacts =
        prost::Message::decode(facts.clone()).map_err(|_| ReceiptError::Malformed)?;
    let read = || {
        let sku = wire.sku.as_deref().map(Sku::new);
        let price = wire.price.zip(wire.currency.as_deref());
        let price = price.map(|(amount, code)| Money::new(amount, Currency::new(code).ok()?));
        if matches!(sku, Some(None)) || matches!(price, Some(None)) {
            return None;
        }
        let (sku, price) = (sku.flatten(), price.flatten());
        // A reason of a later release is passed over: the outcome is then the one that all releases
        // know.
        let reason = wire.launch.as_ref().and_then(wire::order::RefusedByLaunch::reason);
        let outcome = match reason {
            Some(reason) if wire.outcome == "sold-out" && price.is_none() => {
                Outcome::RefusedByLaunch { sku: sku?, reason }
            }
            Some(_) if Outcome::CODES.contains(&wire.outcome.as_str()) => return None,
            Some(_) | None => Outcome::from_parts(&wire.outcome, sku, price, None)?,
        };
        Some(Receipt {
            brand: Brand::new(&wire.brand).ok()?,
            key: KeyDigest::from_bytes(&wire.key)?,
            order: OrderId::from_bytes(&wire.order).ok()?,
            outcome,
            position: wire.position,
            committed_at: UnixMicros::new(wire.committed_at_micros),
        })
    };
    read().ok_or(ReceiptError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::outcome::{LaterCode, LaunchRefusal};

    fn signer(seed: u8) -> NoteSigner {
        NoteSigner::new("idc", &[seed; 32]).unwrap()
    }

    fn receipts(count: i64) -> Vec<Receipt> {
        let price = Money::new(5, Currency::new("KRW").unwrap()).unwrap();
        let sku = Sku::new("SHOE-270").unwrap();
        let refused = |reason| Outcome::RefusedByLaunch { sku: sku.clone(), reason };
        let code = LaterCode::new("held-for-review").unwrap();
        let outcomes = [
            Outcome::Placed,
            Outcome::PriceChanged { sku: sku.clone(), price },
            Outcome::SoldOut { sku: sku.clone() },
            Outcome::Later { code: code.clone(), sku: None },
            Outcome::Later { code, sku: Some(sku.clone()) },
            refused(LaunchRefusal::NotOpen { opens_at: UnixMicros::new(7) }),
            refused(LaunchRefusal::LimitReached { limit: 2, bought: 0 }),
        ];
        let receipt = |n: i64| Receipt {
            brand: Brand::new("shoes").unwrap(),
            key: KeyDigest::from_bytes(&[n as u8; 32]).unwrap(),
            order: OrderId::new(UnixMicros::new(n), [n as u8; 10]),
            outcome: outcomes[n as usize % outcomes.len()].clone(),
            position: n,
            committed_at: UnixMicros::new(n),
        };
        (0..count).map(receipt).collect()
    }

    #[test]
    fn every_receipt_of_a_batch_verifies_by_itself() {
        for count in [1, 2, 7, 64] {
            let receipts = receipts(count);
            let signed = sign_batch(&receipts, &signer(1));
            for (receipt, signed) in receipts.iter().zip(&signed) {
                let verified = verify(signed, &[signer(2).verifier().clone(), signer(1).verifier().clone()]);
                assert_eq!(verified.unwrap().receipt(), receipt);
            }
        }
    }

    #[test]
    fn a_root_that_is_known_good_vouches_for_its_own_batch_alone() {
        let mut verifier = Verifier::new(vec![signer(1).verifier().clone()]);
        let good = sign_batch(&receipts(2), &signer(1));
        let forged = sign_batch(&receipts(2), &signer(2));
        for _ in 0..2 {
            assert!(verifier.verify(&good[0]).is_ok());
            assert_eq!(verifier.verify(&forged[0]), Err(ReceiptError::BadSignature));
            let borrowed = wire::order::Receipt { signature: good[0].signature.clone(), ..forged[1].clone() };
            assert!(verifier.verify(&borrowed).is_ok(), "the same facts under the good signature");
            let changed = wire::order::Receipt { facts: good[1].facts.clone(), ..good[0].clone() };
            assert_eq!(verifier.verify(&changed), Err(ReceiptError::BadSignature));
        }
        for count in 1..=(ROOTS_MAX as i64 + 8) {
            assert!(verifier.verify(&sign_batch(&receipts(count), &signer(1))[0]).is_ok());
        }
        assert_eq!(verifier.known.len(), ROOTS_MAX);
    }

    #[test]
    fn a_path_is_whole_hashes_and_at_most_the_largest_batchs() {
        let pinned = [signer(1).verifier().clone()];
        let mut largest = sign_batch(&receipts(1), &signer(1)).remove(0);
        let path = [[7; 32]; 64];
        let leaf = merkle::leaf_hash(&largest.facts);
        let root = merkle::root_from_path(leaf, 0, u64::MAX, &path).unwrap();
        largest.signature = Bytes::copy_from_slice(&signer(1).sign(&signed_message(u64::MAX, &root)));
        (largest.size, largest.path) = (u64::MAX, path.concat().into());
        assert!(verify(&largest, &pinned).is_ok());
        for more in [vec![0], vec![7; 32]] {
            let path = [largest.path.as_ref(), &more].concat().into();
            let longer = wire::order::Receipt { path, ..largest.clone() };
            assert_eq!(verify(&longer, &pinned), Err(ReceiptError::BadPath));
        }
    }

    #[test]
    fn a_signed_receipt_with_a_malformed_sku_or_price_is_refused() {
        let signed = |change: fn(&mut wire::order::ReceiptFacts)| {
            let mut wire = prost::Message::decode(facts(&receipts(1)[0])).unwrap();
            change(&mut wire);
            let facts = Bytes::from(prost::Message::encode_to_vec(&wire));
            let message = signed_message(1, &merkle::leaf_hash(&facts));
            let signature = Bytes::copy_from_slice(&signer(1).sign(&message));
            let receipt = wire::order::Receipt { facts, index: 0, size: 1, path: Bytes::new(), signature };
            verify(&receipt, &[signer(1).verifier().clone()])
        };
        assert!(signed(|_| {}).is_ok());
        let price = |wire: &mut wire::order::ReceiptFacts| {
            (wire.price, wire.currency) = (Some(1), Some("won".to_owned()));
        };
        assert_eq!(signed(|wire| wire.sku = Some(String::new())), Err(ReceiptError::Malformed));
        assert_eq!(signed(price), Err(ReceiptError::Malformed));
    }

    #[test]
    fn a_launch_refusal_of_another_form_is_sold_out_or_malformed() {
        let sold_out = Receipt {
            outcome: Outcome::SoldOut { sku: Sku::new("SHOE-270").unwrap() },
            ..receipts(1).remove(0)
        };
        let read = |outcome: &str, launch: wire::order::RefusedByLaunch| {
            let mut wire: wire::order::ReceiptFacts = prost::Message::decode(facts(&sold_out)).unwrap();
            (wire.outcome, wire.launch) = (outcome.to_owned(), Some(launch));
            read_facts(&prost::Message::encode_to_vec(&wire).into())
        };
        let limit = wire::order::RefusedByLaunch { limit: Some(1), bought: Some(1), opens_at_micros: None };
        let half = wire::order::RefusedByLaunch { bought: None, ..limit };
        assert_eq!(read("sold-out", half), Ok(sold_out.clone()), "a reason of a later release");
        assert_eq!(read("sold-out", limit).unwrap().outcome.code(), "limit-reached");
        assert_eq!(read("placed", limit), Err(ReceiptError::Malformed));
        assert_eq!(read("held-for-review", limit).unwrap().outcome.code(), "held-for-review");
        assert_eq!(read("Held for review", limit), Err(ReceiptError::Malformed));
    }

    #[test]
    fn another_key_s_receipt_is_refused() {
        let signed = sign_batch(&receipts(1), &signer(1));
        assert_eq!(verify(&signed[0], &[signer(2).verifier().clone()]), Err(ReceiptError::BadSignature));
        assert_eq!(verify(&signed[0], &[]), Err(ReceiptError::BadSignature));
    }

    #[test]
    fn no_single_bit_of_a_receipt_can_be_changed() {
        use prost::Message as _;
        let receipts = receipts(3);
        let signed = sign_batch(&receipts, &signer(1)).remove(1);
        let bytes = signed.encode_to_vec();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let Ok(changed) = wire::order::Receipt::decode(changed.as_slice()) else { continue };
            if changed != signed {
                assert!(
                    verify(&changed, &[signer(1).verifier().clone()]).is_err(),
                    "bit {bit} can be changed"
                );
            }
        }
    }
}
