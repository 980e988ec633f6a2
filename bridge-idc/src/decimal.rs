//! Conversion of decimal amounts such as "2.55" to minor units and back, without floating point.

use bridge_protocol::domain::{Currency, Money};
use serde_json::value::RawValue;

/// Currency codes of ISO 4217, list one, that are used for payments, as of 2026. Codes of funds,
/// metals and tests are left out.
const ASSIGNED: &str = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF \
    CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF \
    IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT \
    MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR \
    SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV \
    WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG";

/// Parses a currency's code. An error text says which rule the code breaks.
pub(crate) fn currency(code: &str) -> Result<Currency, String> {
    let currency = Currency::new(code).map_err(|error| error.to_string())?;
    match ASSIGNED.split_ascii_whitespace().any(|assigned| assigned == code) {
        true => Ok(currency),
        false => Err("is no currency that ISO 4217 lists, such as KRW".to_owned()),
    }
}

/// Parses an amount. An error text says which form the amount must have.
pub(crate) fn parse(text: &str, currency: Currency) -> Result<Money, String> {
    let digits = currency.decimals();
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

/// Returns an amount in whole units of its currency as a JSON number, the form that gateways take.
pub(crate) fn number(money: Money) -> Box<RawValue> {
    RawValue::from_string(money.in_whole_units()).unwrap_or_default()
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
    fn a_currency_is_one_that_iso_4217_lists() {
        for code in ["KRW", "EUR", "ZWG"] {
            assert_eq!(currency(code).unwrap().as_str(), code);
        }
        for code in ["XAU", "KRX", "krw", "A"] {
            assert!(currency(code).is_err(), "{code}");
        }
    }

    #[test]
    fn an_amount_is_written_as_it_is_read() {
        for (minor, currency, text) in [
            (19_500, "KRW", "19500"),
            (0, "KRW", "0"),
            (1_950, "GBP", "19.50"),
            (5, "USD", "0.05"),
            (1, "BHD", "0.001"),
        ] {
            let money = Money::new(minor, Currency::new(currency).unwrap()).unwrap();
            assert_eq!(number(money).get(), text);
            assert_eq!(amount(text, currency), Some(minor));
        }
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
