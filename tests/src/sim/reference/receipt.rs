//! Decoder and verifier of signed receipts: facts, a path to the root of their batch (RFC 6962),
//! and a signature over that root.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};

use super::protobuf::fields;
use super::{Outcome, Row};

/// A receipt in the wire format.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::sim) struct Signed {
    facts: Vec<u8>,
    index: u64,
    size: u64,
    path: Vec<u8>,
    signature: Vec<u8>,
}

/// One batch in this many has its signature verified.
const SIGNATURE_OF_EVERY: u8 = 4;

/// Verifies receipts with one public key.
pub(in crate::sim) struct Receipts {
    key: Option<VerifyingKey>,
    /// Pairs of signed message and signature that were verified.
    known: BTreeSet<(Vec<u8>, Vec<u8>)>,
}

impl Receipts {
    /// Makes a verifier with the public key of a line `name+id+base64`.
    pub(in crate::sim) fn under(line: &str) -> Self {
        let key = line.splitn(3, '+').last().and_then(|key| BASE64.decode(key).ok());
        let key = key.and_then(|key| VerifyingKey::from_bytes(key.get(1..)?.try_into().ok()?).ok());
        Self { key, known: BTreeSet::new() }
    }

    /// Returns the outcome in a receipt, or `None` if the receipt is not valid.
    pub(in crate::sim) fn read(&mut self, receipt: &Signed) -> Option<Row> {
        let root = root(receipt)?;
        let message = [b"bridge receipts v1\n".as_slice(), &receipt.size.to_be_bytes(), &root].concat();
        let known = (message, receipt.signature.clone());
        // Only some batches are verified, because one signature takes as long as all the rest.
        if root[0].is_multiple_of(SIGNATURE_OF_EVERY) && !self.known.contains(&known) {
            let signature = Signature::from_slice(&receipt.signature).ok()?;
            self.key?.verify_strict(&known.0, &signature).ok()?;
            self.known.insert(known);
        }
        facts(&receipt.facts)
    }
}

pub(super) fn signed(bytes: &[u8]) -> Option<Signed> {
    let mut receipt = Signed::default();
    for field in fields(bytes) {
        match field? {
            (1, value) => receipt.facts = value.bytes()?.to_vec(),
            (2, value) => receipt.index = value.number()?,
            (3, value) => receipt.size = value.number()?,
            (4, value) => receipt.path = value.bytes()?.to_vec(),
            (5, value) => receipt.signature = value.bytes()?.to_vec(),
            _ => {}
        }
    }
    Some(receipt)
}

fn facts(bytes: &[u8]) -> Option<Row> {
    let (mut row, mut outcome) = (Row::default(), Outcome::default());
    for field in fields(bytes) {
        match field? {
            (1, value) => row.brand = value.text()?,
            (2, value) => row.key = value.array()?,
            (3, value) => row.order = value.array()?,
            (4, value) => outcome.code = value.text()?,
            (5, value) => outcome.sku = Some(value.text()?),
            (6, value) => outcome.price = Some(value.integer()?),
            (7, value) => outcome.currency = Some(value.text()?),
            (8, value) => row.position = value.integer()?,
            (9, value) => row.committed_at = value.integer()?,
            (10, value) => outcome.limit = Some(limit(value.bytes()?)?),
            _ => {}
        }
    }
    if outcome.limit.is_some() && std::mem::replace(&mut outcome.code, "limit-reached".into()) != "sold-out" {
        return None;
    }
    Some(Row { outcome, ..row })
}

/// Reads the limit and the units bought of a refusal by a launch.
fn limit(bytes: &[u8]) -> Option<(i64, i64)> {
    let (mut limit, mut bought) = (None, None);
    for field in fields(bytes) {
        match field? {
            (2, value) => limit = Some(value.integer()?),
            (3, value) => bought = Some(value.integer()?),
            _ => return None,
        }
    }
    limit.zip(bought)
}

/// Returns the root to which a receipt's path leads (RFC 6962, section 2.1.1). The left subtree has
/// `split` leaves, the largest power of two that is less than the tree's size.
fn root(receipt: &Signed) -> Option<[u8; 32]> {
    let (hashes, rest) = receipt.path.as_chunks::<32>();
    let leaf = Sha256::digest([&[0], receipt.facts.as_slice()].concat()).into();
    let fits = rest.is_empty() && receipt.index < receipt.size;
    let (root, unused) = fits.then(|| above(leaf, receipt.index, receipt.size, hashes))??;
    unused.is_empty().then_some(root)
}

/// Returns the root of a tree of `size` leaves that has `leaf` at `index`, and the unused rest of
/// the path.
fn above(leaf: [u8; 32], index: u64, size: u64, path: &[[u8; 32]]) -> Option<([u8; 32], &[[u8; 32]])> {
    if size == 1 {
        return Some((leaf, path));
    }
    let split = size.next_power_of_two() / 2;
    let (inner, path) = match index < split {
        true => above(leaf, index, split, path)?,
        false => above(leaf, index - split, size - split, path)?,
    };
    let (sibling, path) = path.split_first()?;
    let (left, right) = if index < split { (&inner, sibling) } else { (sibling, &inner) };
    Some((Sha256::digest([&[1], left.as_slice(), right].concat()).into(), path))
}
