//! How a request ended in the ledger. An outcome is committed under its idempotency key and never changes.

use super::{Money, Sku};

/// What the ledger decided. A rejection sticks to its key as a success does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The order is placed, its units allocated.
    Placed,
    /// A SKU has fewer units available than ordered; nothing was allocated.
    SoldOut {
        /// The first line's SKU that could not be served.
        sku: Sku,
    },
    /// A SKU costs something else now; nothing was allocated.
    PriceChanged {
        /// The first line's SKU whose price differs.
        sku: Sku,
        /// What one unit costs now.
        price: Money,
    },
    /// The brand sells no such SKU.
    UnknownSku {
        /// The first such SKU.
        sku: Sku,
    },
    /// The brand sells in another currency.
    WrongCurrency,
    /// The order is cancelled and its units are available again (also when an earlier request did it).
    Cancelled,
    /// The order was never placed, so there is nothing to cancel.
    NotCancellable,
}

impl Outcome {
    /// Every code that [`Outcome::code`] yields.
    pub const CODES: [&str; 7] = [
        "placed",
        "sold-out",
        "price-changed",
        "unknown-sku",
        "wrong-currency",
        "cancelled",
        "not-cancellable",
    ];

    /// The stable code in tables, on the wire and in metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::SoldOut { .. } => "sold-out",
            Self::PriceChanged { .. } => "price-changed",
            Self::UnknownSku { .. } => "unknown-sku",
            Self::WrongCurrency => "wrong-currency",
            Self::Cancelled => "cancelled",
            Self::NotCancellable => "not-cancellable",
        }
    }

    /// The SKU it is about, where it is about one.
    pub const fn sku(&self) -> Option<&Sku> {
        match self {
            Self::SoldOut { sku } | Self::PriceChanged { sku, .. } | Self::UnknownSku { sku } => Some(sku),
            _ => None,
        }
    }

    /// The price it names, where it names one.
    pub const fn price(&self) -> Option<Money> {
        match self {
            Self::PriceChanged { price, .. } => Some(*price),
            _ => None,
        }
    }

    /// Reads an outcome back from its code, SKU and price; `None` if they do not fit together.
    pub fn from_parts(code: &str, sku: Option<Sku>, price: Option<Money>) -> Option<Self> {
        Some(match (code, sku, price) {
            ("placed", None, None) => Self::Placed,
            ("sold-out", Some(sku), None) => Self::SoldOut { sku },
            ("price-changed", Some(sku), Some(price)) => Self::PriceChanged { sku, price },
            ("unknown-sku", Some(sku), None) => Self::UnknownSku { sku },
            ("wrong-currency", None, None) => Self::WrongCurrency,
            ("cancelled", None, None) => Self::Cancelled,
            ("not-cancellable", None, None) => Self::NotCancellable,
            _ => return None,
        })
    }
}
