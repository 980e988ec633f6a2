//! Outcomes of a request in the ledger. An outcome is committed under its idempotency key and never
//! changes.
//!
//! A later release may add outcomes, but only refusals: an agent that does not know the code of an
//! outcome reads it as a refusal.

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
    /// A refusal of a later release, for a reason that this release does not know. Nothing was
    /// allocated or changed.
    Later {
        /// Code of the refusal.
        code: LaterCode,
        /// SKU that the refusal is about, if there is one.
        sku: Option<Sku>,
    },
}

/// Code of an outcome that this release does not know: 1 to 64 of a-z, 0-9 and hyphen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaterCode(Box<str>);

impl LaterCode {
    /// Checks a text. Returns `None` if it is no code, or the code of an outcome that this release
    /// knows.
    pub fn new(text: &str) -> Option<Self> {
        let is_code = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let is_later = is_code && (1..=64).contains(&text.len()) && !Outcome::CODES.contains(&text);
        is_later.then(|| Self(text.into()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
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
    /// Every code of an outcome that this release knows.
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
    pub fn code(&self) -> &str {
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
            Self::Later { code, .. } => code.as_str(),
        }
    }

    /// Returns the SKU that the outcome is about, if there is one.
    pub const fn sku(&self) -> Option<&Sku> {
        match self {
            Self::SoldOut { sku }
            | Self::PriceChanged { sku, .. }
            | Self::RefusedByLaunch { sku, .. }
            | Self::UnknownSku { sku } => Some(sku),
            Self::Later { sku, .. } => sku.as_ref(),
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
    pub fn code_before_launches(&self) -> &str {
        code_before_launches(self.code()).unwrap_or(self.code())
    }

    /// Reads an outcome from its code, SKU, price and reason of a launch. Returns `None` if they do
    /// not fit together. An unknown code is a refusal of a later release, whatever else it has.
    pub fn from_parts(
        code: &str,
        sku: Option<Sku>,
        price: Option<Money>,
        launch: Option<LaunchRefusal>,
    ) -> Option<Self> {
        if let Some(code) = LaterCode::new(code) {
            return Some(Self::Later { code, sku });
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use crate::domain::Currency;

    #[test]
    fn any_code_of_a_later_release_is_a_refusal_with_that_code() {
        const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789-";
        let price = Money::new(5, Currency::new("KRW").unwrap());
        let opens = LaunchRefusal::NotOpen { opens_at: UnixMicros::new(7) };
        for seed in 0..2_000 {
            let mut dice = Dice(seed);
            let code: String =
                (0..=dice.below(63)).map(|_| char::from(LETTERS[dice.usize_below(LETTERS.len())])).collect();
            if Outcome::CODES.contains(&code.as_str()) {
                continue;
            }
            let sku = Sku::new("S").filter(|_| dice.below(2) == 0);
            let price = price.filter(|_| dice.below(2) == 0);
            let launch = Some(opens).filter(|_| dice.below(2) == 0);
            let outcome = Outcome::from_parts(&code, sku.clone(), price, launch);
            let Some(outcome @ Outcome::Later { .. }) = outcome else { panic!("seed {seed}: {code}") };
            assert_eq!((outcome.code(), outcome.sku()), (code.as_str(), sku.as_ref()), "seed {seed}");
        }
    }

    #[test]
    fn a_known_code_is_never_of_a_later_release() {
        let (sku, price) = (Sku::new("S").unwrap(), Money::new(5, Currency::new("KRW").unwrap()).unwrap());
        for code in Outcome::CODES {
            assert_eq!(LaterCode::new(code), None);
            let contradictory = Outcome::from_parts(code, None, Some(price), None);
            assert_eq!(contradictory, None, "{code}");
            let known = [None, Some(sku.clone())].into_iter().flat_map(|sku| {
                [None, Some(price)].map(|price| Outcome::from_parts(code, sku.clone(), price, None))
            });
            assert!(known.flatten().all(|outcome| !matches!(outcome, Outcome::Later { .. })), "{code}");
        }
        for text in ["", "Sold-Out", "sold out", "sold_out", "a\u{e9}", &"a".repeat(65)] {
            assert_eq!(LaterCode::new(text), None, "{text:?}");
        }
    }
}
