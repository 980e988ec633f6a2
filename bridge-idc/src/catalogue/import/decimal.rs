//! Prices as people write them, "2.55", into minor units; no float ever holds one.

use bridge_protocol::domain::{Currency, Money};

/// Digits after the point, by ISO 4217 (list one, column "minor unit"); two where a currency is not named here.
fn exponent(currency: Currency) -> usize {
    match currency.as_str() {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "VND"
        | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

/// Reads an amount; what is wrong with it otherwise.
pub(super) fn parse(text: &str, currency: Currency) -> Result<Money, String> {
    let digits = exponent(currency);
    let wrong = || match digits {
        0 => format!("must be a whole number of {currency}, such as 19500"),
        _ => format!("must be an amount of {currency} with at most {digits} decimals, such as 19.50"),
    };
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let decimals = decimals.trim_end_matches('0');
    if whole.is_empty() || text.ends_with('.') || !plain(whole) || !plain(decimals) || decimals.len() > digits
    {
        return Err(wrong());
    }
    let minor = format!("{whole}{decimals:0<digits$}");
    minor.parse().ok().and_then(|amount| Money::new(amount, currency)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str, currency: &str) -> Option<i64> {
        parse(text, Currency::new(currency).unwrap()).ok().map(Money::amount)
    }

    #[test]
    fn an_amount_is_read_by_the_decimals_of_its_currency() {
        assert_eq!(amount("2.55", "GBP"), Some(255));
        assert_eq!(amount("0.1", "GBP"), Some(10));
        assert_eq!(amount("38970", "GBP"), Some(3_897_000));
        assert_eq!(amount("1.250", "GBP"), Some(125));
        assert_eq!(amount("19500", "KRW"), Some(19_500));
        assert_eq!(amount("19500.00", "KRW"), Some(19_500));
        assert_eq!(amount("1.005", "BHD"), Some(1_005));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in
            ["", "-1", "+1", "1e3", "1,50", "2.555", "1.", ".5", "1.2.3", "free", "99999999999999999999"]
        {
            assert_eq!(amount(text, "GBP"), None, "{text}");
        }
        assert_eq!(amount("0.5", "KRW"), None);
    }
}
