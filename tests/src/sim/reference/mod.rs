//! The reference model: it decides which results are right, with its own decoders and cryptography.
//! It uses no crate of Bridge, so a mistake in Bridge cannot hide itself. The tidy test enforces
//! this.
//!
//! It is written from the documents: wire formats by their tags, RFC 6962 for a batch's tree, RFC
//! 5869 and AES-256-GCM for the rows of the vault's table.

/// The part of Protocol Buffers that the order lanes use.
mod protobuf;

/// Answers in frames.
pub(super) mod answer;

/// Signed receipts.
pub(super) mod receipt;

/// Rows of the vault's table.
pub(super) mod vault;

/// Model of the ledger.
pub(super) mod history;

/// Model of the payment gateway.
pub(super) mod bank;

/// Rules that decide the outcome of a request.
mod shop;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sha2::{Digest as _, Sha256};

/// Digest of an idempotency key.
pub(super) type Key = [u8; 32];

/// An order's id.
pub(super) type Order = [u8; 16];

/// An offer. Offers are in the order of the ledger's rows, which are numbered from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) brand: &'static str,
    pub(super) sku: String,
    pub(super) price: i64,
    pub(super) units: i64,
}

/// A launch that is open: rows of the stock, units a customer, and units in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Launch {
    pub(super) rows: BTreeSet<i64>,
    pub(super) limit: i64,
    pub(super) units: Option<i64>,
}

/// The part of an order that is not encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Terms {
    pub(super) lines: Vec<Line>,
    pub(super) currency: String,
    pub(super) shipping_fee: i64,
    pub(super) total: i64,
    pub(super) customer_reference: String,
}

/// A line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Line {
    pub(super) sku: String,
    pub(super) quantity: i64,
    pub(super) unit_price: i64,
}

/// Body of a caller's request: the terms, and the personal values by the vault's columns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Body {
    pub(super) terms: Terms,
    pub(super) personal: BTreeMap<&'static str, String>,
}

/// Outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Outcome {
    pub(super) code: String,
    pub(super) sku: Option<String>,
    pub(super) price: Option<i64>,
    pub(super) currency: Option<String>,
    /// Units that a launch sells to one customer, and units that this customer had.
    pub(super) limit: Option<(i64, i64)>,
}

/// The outcome under a key, as the ledger has it.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Row {
    pub(super) brand: String,
    pub(super) key: Key,
    pub(super) order: Order,
    pub(super) outcome: Outcome,
    pub(super) position: i64,
    pub(super) committed_at: i64,
}

/// State of an order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct State {
    pub(super) order: Order,
    pub(super) state: String,
    /// `None` if the order was not placed.
    pub(super) terms: Option<Terms>,
    pub(super) position: i64,
    pub(super) committed_at: i64,
}

/// Shows only the last bytes of ids, because the first ones are alike.
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
    /// Returns true if the order was placed.
    pub(super) fn is_placed(&self) -> bool {
        self.code == "placed"
    }

    fn plain(code: &str) -> Self {
        Self { code: code.to_owned(), ..Self::default() }
    }
}

/// Returns the digest that replaces a brand's idempotency key everywhere behind the storefront.
pub(super) fn digest(brand: &str, key: &str) -> Key {
    Sha256::digest([b"bridge idempotency key v1\0", brand.as_bytes(), b"\0", key.as_bytes()].concat()).into()
}
