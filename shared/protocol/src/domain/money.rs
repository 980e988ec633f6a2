//! Money: an integer of minor units with an ISO 4217 code. There are no floats and no arithmetic
//! that wraps.

use std::fmt;

/// An ISO 4217 currency code: three capital letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// The text is no currency code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a currency is an ISO 4217 code of three capital letters")]
pub struct NotACurrency;

impl Currency {
    /// Checks a code's form. The brand's configuration decides if the code is a real currency.
    ///
    /// # Errors
    ///
    /// Fails unless the code is three capital letters.
    pub fn new(code: &str) -> Result<Self, NotACurrency> {
        match <[u8; 3]>::try_from(code.as_bytes()) {
            Ok(letters) if letters.iter().all(u8::is_ascii_uppercase) => Ok(Self(letters)),
            _ => Err(NotACurrency),
        }
    }

    /// Returns the three letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }

    /// Returns the digits after the decimal point, by ISO 4217 (list one, column "minor unit").
    /// Currencies that are not listed here have two.
    pub fn decimals(&self) -> usize {
        match self.as_str() {
            "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "VND"
            | "VUV" | "XAF" | "XOF" | "XPF" => 0,
            "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
            _ => 2,
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A non-negative amount of money in minor units of its currency (won, yen, cents, pence).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money {
    amount: i64,
    currency: Currency,
}

impl Money {
    /// The largest amount that is accepted anywhere: 10^15 minor units. The sum of 2,000 lines of
    /// it does not overflow.
    pub const AMOUNT_MAX: i64 = 1_000_000_000_000_000;

    /// Makes an amount of minor units. Returns `None` if it is negative or above
    /// [`Self::AMOUNT_MAX`].
    pub fn new(amount: i64, currency: Currency) -> Option<Self> {
        (0..=Self::AMOUNT_MAX).contains(&amount).then_some(Self { amount, currency })
    }

    /// Returns the amount in minor units.
    pub const fn amount(self) -> i64 {
        self.amount
    }

    /// Returns the currency.
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// Writes the amount in the currency's main unit with all its decimals: `19500` of KRW, `3.04`
    /// of GBP.
    pub fn in_whole_units(self) -> String {
        let digits = self.currency.decimals();
        let minor = format!("{:0>width$}", self.amount, width = digits + 1);
        match minor.split_at_checked(minor.len() - digits) {
            Some((whole, decimals)) if digits > 0 => format!("{whole}.{decimals}"),
            _ => minor,
        }
    }
}

/// Writes the amount for people, in the currency's main unit.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.in_whole_units(), self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_an_amount_in_the_currency_s_own_unit() {
        for (amount, currency, text) in [
            (304, "GBP", "3.04 GBP"),
            (4, "GBP", "0.04 GBP"),
            (0, "GBP", "0.00 GBP"),
            (19_500, "KRW", "19500 KRW"),
            (1_000, "KWD", "1.000 KWD"),
            (Money::AMOUNT_MAX, "USD", "10000000000000.00 USD"),
        ] {
            assert_eq!(Money::new(amount, Currency::new(currency).unwrap()).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_currency_is_three_capital_letters() {
        assert_eq!(Currency::new("KRW").unwrap().as_str(), "KRW");
        for bad in ["krw", "KR", "KRWW", "K1W", "\u{20a9}"] {
            assert_eq!(Currency::new(bad), Err(NotACurrency));
        }
    }

    #[test]
    fn money_is_never_negative_and_never_near_overflow() {
        let krw = Currency::new("KRW").unwrap();
        assert!(Money::new(0, krw).is_some());
        assert!(Money::new(-1, krw).is_none());
        assert!(Money::new(i64::MAX, krw).is_none());
    }
}
