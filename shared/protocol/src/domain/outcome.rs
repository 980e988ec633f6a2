//! Outcomes of a request in the ledger. An outcome is committed under its idempotency key and never
//! changes.

use super::{Money, Sku, UnixMicros};

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
    /// A launch of a SKU refuses the order; nothing was allocated.
    RefusedByLaunch {
        /// The first line's SKU that the launch refuses.
        sku: Sku,
        /// Reason of the launch.
        reason: LaunchRefusal,
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

/// Reason of a launch to refuse an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaunchRefusal {
    /// The launch has not opened.
    NotOpen {
        /// Time at which it opens.
        opens_at: UnixMicros,
    },
    /// The customer would have more units than the launch sells to one customer.
    LimitReached {
        /// Units that one customer can buy.
        limit: i64,
        /// Units that the customer has in orders that stand.
        bought: i64,
    },
}

impl Outcome {
    /// Every code that [`Outcome::code`] returns.
    pub const CODES: [&str; 9] = [
        "placed",
        "sold-out",
        "price-changed",
        "launch-not-open",
        "limit-reached",
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
            Self::RefusedByLaunch { reason: LaunchRefusal::NotOpen { .. }, .. } => "launch-not-open",
            Self::RefusedByLaunch { reason: LaunchRefusal::LimitReached { .. }, .. } => "limit-reached",
            Self::UnknownSku { .. } => "unknown-sku",
            Self::WrongCurrency => "wrong-currency",
            Self::Cancelled => "cancelled",
            Self::NotCancellable => "not-cancellable",
        }
    }

    /// Returns the SKU that the outcome is about, if there is one.
    pub const fn sku(&self) -> Option<&Sku> {
        match self {
            Self::SoldOut { sku }
            | Self::PriceChanged { sku, .. }
            | Self::RefusedByLaunch { sku, .. }
            | Self::UnknownSku { sku } => Some(sku),
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

    /// Returns the reason of the launch that refused the order, if one did.
    pub const fn launch_refusal(&self) -> Option<LaunchRefusal> {
        match self {
            Self::RefusedByLaunch { reason, .. } => Some(*reason),
            _ => None,
        }
    }

    /// Returns the code by which agents of releases before launches know the outcome. To them, a
    /// launch that refuses an order has no unit for it.
    pub fn code_before_launches(&self) -> &'static str {
        code_before_launches(self.code()).unwrap_or(self.code())
    }

    /// Reads an outcome from its code, SKU, price and reason of a launch. Returns `None` if they do
    /// not fit together.
    pub fn from_parts(
        code: &str,
        sku: Option<Sku>,
        price: Option<Money>,
        launch: Option<LaunchRefusal>,
    ) -> Option<Self> {
        if let Some(reason) = launch {
            let outcome = Self::RefusedByLaunch { sku: sku?, reason };
            return Some(outcome).filter(|outcome| price.is_none() && outcome.code() == code);
        }
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

/// Returns the code by which agents of releases before launches know a refusal by a launch. `None`
/// if the code is not of one.
pub fn code_before_launches(code: &str) -> Option<&'static str> {
    matches!(code, "launch-not-open" | "limit-reached").then_some("sold-out")
}
