//! Outcomes of a request in the ledger. An outcome is committed under its idempotency key and never
//! changes.

use super::{Money, Sku};

/// Decision of the ledger. A rejection is kept under its key, as a success is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The order is placed and its units are allocated.
    Placed,
    /// A SKU has fewer units available than ordered; nothing was allocated.
    SoldOut {
        /// The first line's SKU that could not be served.
        sku: Sku,
    },
    /// A SKU has another price now; nothing was allocated.
    PriceChanged {
        /// The first line's SKU whose price differs.
        sku: Sku,
        /// Price of one unit now.
        price: Money,
    },
    /// The brand sells no such SKU.
    UnknownSku {
        /// The first such SKU.
        sku: Sku,
    },
    /// The brand sells in another currency.
    WrongCurrency,
    /// The order is cancelled and its units are available again. An earlier request may have done
    /// it.
    Cancelled,
    /// The order was never placed, so there is nothing to cancel.
    NotCancellable,
}

impl Outcome {
    /// Every code that [`Outcome::code`] returns.
    pub const CODES: [&str; 7] = [
        "placed",
        "sold-out",
        "price-changed",
        "unknown-sku",
        "wrong-currency",
        "cancelled",
        "not-cancellable",
    ];

    /// Returns the stable code that is used in tables, on the wire and in metrics.
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

    /// Returns the SKU that the outcome is about, if there is one.
    pub const fn sku(&self) -> Option<&Sku> {
        match self {
            Self::SoldOut { sku } | Self::PriceChanged { sku, .. } | Self::UnknownSku { sku } => Some(sku),
            _ => None,
        }
    }

    /// Returns the price in the outcome, if there is one.
    pub const fn price(&self) -> Option<Money> {
        match self {
            Self::PriceChanged { price, .. } => Some(*price),
            _ => None,
        }
    }

    /// Reads an outcome from its code, SKU and price. Returns `None` if they do not fit together.
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
