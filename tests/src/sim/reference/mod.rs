//! The reference model: what is right, decided, read and opened by code of its own. It names no crate of Bridge's, so that no
//! mistake of theirs is shared with who judges it: the tidy test holds it to that.
//!
//! It is written from the documents: wire formats by their tags, RFC 6962 for a batch's tree, RFC 5869 and AES-256-GCM for what
//! lies in the vault's table.

/// Protocol Buffers, as far as they are used.
mod protobuf;

/// Answers as they stand in a frame.
pub(super) mod answer;

/// Signed receipts.
pub(super) mod receipt;

/// What lies in the vault's table.
pub(super) mod vault;

/// The ledger as it must be.
pub(super) mod history;

/// The payment gateway.
pub(super) mod bank;

/// How a request ends.
mod shop;

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest as _, Sha256};

/// The digest of an idempotency key.
pub(super) type Key = [u8; 32];

/// An order's id.
pub(super) type Order = [u8; 16];

/// What is sold, in the order of the ledger's rows, which it numbers from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) brand: &'static str,
    pub(super) sku: String,
    pub(super) price: i64,
    pub(super) units: i64,
}

/// The clear part of an order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Terms {
    pub(super) lines: Vec<Line>,
    pub(super) currency: String,
    pub(super) shipping_fee: i64,
    pub(super) total: i64,
    pub(super) customer_reference: String,
}

/// One of its lines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Line {
    pub(super) sku: String,
    pub(super) quantity: i64,
    pub(super) unit_price: i64,
}

/// What a caller sends: the terms, and the personal values by the vault's columns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Body {
    pub(super) terms: Terms,
    pub(super) personal: BTreeMap<&'static str, String>,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Outcome {
    pub(super) code: String,
    pub(super) sku: Option<String>,
    pub(super) price: Option<i64>,
    pub(super) currency: Option<String>,
}

/// What is settled under a key.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Row {
    pub(super) brand: String,
    pub(super) key: Key,
    pub(super) order: Order,
    pub(super) outcome: Outcome,
    pub(super) position: i64,
    pub(super) committed_at: i64,
}

/// How an order stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct State {
    pub(super) order: Order,
    pub(super) state: String,
    /// Of an order that was placed.
    pub(super) terms: Option<Terms>,
    pub(super) position: i64,
    pub(super) committed_at: i64,
}

/// Ids by their last bytes, in which they differ.
impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { brand, key: [.., k, l], order: [.., o, p], outcome, position, committed_at } = self;
        let Outcome { code, sku, price, .. } = outcome;
        write!(
            f,
            "{code} {sku:?} {price:?} of order ..{o:02x}{p:02x} of {brand} under key ..{k:02x}{l:02x}, "
        )?;
        write!(f, "position {position}, at {committed_at}")
    }
}

impl Outcome {
    /// Whether the order was placed.
    pub(super) fn is_placed(&self) -> bool {
        self.code == "placed"
    }

    fn plain(code: &str) -> Self {
        Self { code: code.to_owned(), ..Self::default() }
    }
}

/// What stands for an idempotency key of a brand everywhere beyond the storefront.
pub(super) fn digest(brand: &str, key: &str) -> Key {
    Sha256::digest([b"bridge idempotency key v1\0", brand.as_bytes(), b"\0", key.as_bytes()].concat()).into()
}
