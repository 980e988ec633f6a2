//! The storefront's JSON bodies about payments, parsed as strictly as an order's.
//!
//! No field may contain a card number. A shop pays with the token that its gateway gave to the
//! shopper's browser.

use serde::Deserialize;

use super::body::{BodyMoney, check, from_json, is_blank, money, refuse_card_number, unseen};
use super::card_number::IN_TEXT;
use super::order::FieldError;
use super::{Currency, Money, PaymentKey};

/// Most characters of a refund's reason (docs.tosspayments.com/reference, `cancelReason`).
pub const REASON_CHARS_MAX: usize = 200;

/// Pattern of a refund's reason, as a regular expression of ECMA-262.
pub const REASON_PATTERN: &str =
    concat!(r"^[^\u0000-\u001f\u007f-\u009f]*[^", unseen!(), r"][^\u0000-\u001f\u007f-\u009f]*$");

/// `{"amount": {"amount": 222000, "currency": "KRW"}, "payment_key": "..."}`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayRequest {
    /// Amount to charge, at least 1 minor unit.
    pub amount: Money,
    /// The gateway's token.
    pub payment_key: PaymentKey,
}

impl PayRequest {
    /// Parses a payment's body.
    ///
    /// # Errors
    ///
    /// Returns every mistake at once, each by its JSON pointer.
    pub fn parse(body: &[u8]) -> Result<Self, Vec<FieldError>> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Body {
            amount: BodyMoney,
            payment_key: String,
        }
        let raw: Body = from_json(body)?;
        let mut errors = Vec::new();
        refuse_card_number(&raw.payment_key, &IN_TEXT, "/payment_key", &mut errors);
        let payment_key = check(PaymentKey::new(&raw.payment_key), &mut errors, || {
            let most = PaymentKey::CHARS_MAX;
            let detail =
                format!("must be the gateway's token: 1 to {most} printable ASCII characters without spaces");
            FieldError::new("/payment_key", detail)
        });
        match (positive(&raw.amount, &mut errors), payment_key) {
            (Some(amount), Some(payment_key)) if errors.is_empty() => Ok(Self { amount, payment_key }),
            _ => Err(errors),
        }
    }
}

/// `{"amount": {"amount": 3000, "currency": "KRW"}, "reason": "..."}`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundRequest {
    /// Amount to refund, at least 1 minor unit.
    pub amount: Money,
    /// Reason for the gateway's records. It must not be personal.
    pub reason: String,
}

impl RefundRequest {
    /// Parses a refund's body.
    ///
    /// # Errors
    ///
    /// Returns every mistake at once, each by its JSON pointer.
    pub fn parse(body: &[u8]) -> Result<Self, Vec<FieldError>> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Body {
            amount: BodyMoney,
            reason: String,
        }
        let raw: Body = from_json(body)?;
        let mut errors = Vec::new();
        refuse_card_number(&raw.reason, &IN_TEXT, "/reason", &mut errors);
        if !is_reason(&raw.reason) || is_blank(&raw.reason) {
            let detail = format!(
                "must be 1 to {REASON_CHARS_MAX} characters, at least one of them visible and none a control character"
            );
            errors.push(FieldError::new("/reason", detail));
        }
        match positive(&raw.amount, &mut errors) {
            Some(amount) if errors.is_empty() => Ok(Self { amount, reason: raw.reason }),
            _ => Err(errors),
        }
    }
}

/// Returns true if a text has the length of a refund's reason and no control characters.
pub fn is_reason(text: &str) -> bool {
    (1..=REASON_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

fn positive(raw: &BodyMoney, errors: &mut Vec<FieldError>) -> Option<Money> {
    let currency = check(Currency::new(&raw.currency).ok(), errors, || {
        FieldError::new("/amount/currency", "must be an ISO 4217 code of three capital letters")
    });
    let amount = money(raw, "/amount", currency, errors)?;
    check(Some(amount).filter(|amount| amount.amount() > 0), errors, || {
        FieldError::new("/amount/amount", "must be at least 1 minor unit")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes<T>(parsed: Result<T, Vec<FieldError>>) -> String {
        let errors = parsed.err().unwrap_or_default();
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_payment_names_an_amount_and_a_token() {
        let body = br#"{"amount": {"amount": 222000, "currency": "KRW"}, "payment_key": "tgen_20261124"}"#;
        let parsed = PayRequest::parse(body).unwrap();
        assert_eq!((parsed.amount.amount(), parsed.payment_key.as_str()), (222_000, "tgen_20261124"));
    }

    #[test]
    fn every_mistake_of_a_payment_is_named_and_no_value_is_quoted() {
        for (body, expected) in [
            (
                r#"{"amount": {"amount": 0, "currency": "KRW"}, "payment_key": "k"}"#,
                "/amount/amount: must be at least 1",
            ),
            (
                r#"{"amount": {"amount": -1, "currency": "KRW"}, "payment_key": "k"}"#,
                "/amount/amount: must be 0 to",
            ),
            (
                r#"{"amount": {"amount": 1.5, "currency": "KRW"}, "payment_key": "k"}"#,
                "/amount/amount: the value",
            ),
            (
                r#"{"amount": {"amount": 1, "currency": "won"}, "payment_key": "k"}"#,
                "/amount/currency: must be an ISO",
            ),
            (
                r#"{"amount": {"amount": 1, "currency": "KRW"}, "payment_key": ""}"#,
                "/payment_key: must be the gateway's",
            ),
            (r#"{"amount": {"amount": 1, "currency": "KRW"}}"#, "the field `payment_key` is missing"),
            (
                r#"{"amount": {"amount": 1, "currency": "KRW"}, "payment_key": "k", "cvc": "123"}"#,
                "unknown field",
            ),
        ] {
            let found = mistakes(PayRequest::parse(body.as_bytes()));
            assert!(found.contains(expected) && !found.contains("123"), "{body}: {found}");
        }
    }

    #[test]
    fn a_card_number_is_refused_by_its_field_and_not_repeated() {
        let pay = r#"{"amount": {"amount": 1, "currency": "KRW"}, "payment_key": "4111-1111-1111-1111"}"#;
        let found = mistakes(PayRequest::parse(pay.as_bytes()));
        assert_eq!(found, "/payment_key: must not hold a card number");
        let refund = r#"{"amount": {"amount": 1, "currency": "KRW"}, "reason": "to 4111 1111 1111 1111"}"#;
        let found = mistakes(RefundRequest::parse(refund.as_bytes()));
        assert_eq!(found, "/reason: must not hold a card number");
    }

    #[test]
    fn a_refund_has_a_reason() {
        let with = |reason: &str| {
            let body = format!(r#"{{"amount": {{"amount": 1, "currency": "KRW"}}, "reason": "{reason}"}}"#);
            RefundRequest::parse(body.as_bytes()).is_ok()
        };
        assert!(with("변심") && with(&"r".repeat(200)));
        assert!(!with(" ") && !with("\u{3000}"));
        assert!(!with("") && !with(&"r".repeat(201)) && !with(r"a\u0000"));
    }
}
