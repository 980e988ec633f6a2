//! The storefront's JSON body of an order, parsed strictly.
//!
//! Unknown fields, floats, duplicate fields and wrong types are mistakes. Each mistake names its
//! JSON pointer (RFC 6901). serde's own messages quote the value that they met, so none of them is
//! passed on: a mistake describes the right form instead.

use std::ops::RangeInclusive;

use serde::Deserialize;
use serde::de::Deserializer;
use serde_path_to_error::{Path, Segment};

use super::card_number::{IN_ID, IN_PHONE, IN_TEXT, holds_card_number};
use super::country::is_country;
use super::order::{FieldError, Line, OrderTerms, Quantity, Sku};
use super::{Currency, Money, Personal, PersonalData, PersonalField};

/// Most characters of a personal value. An address may have as many in each line.
pub const PERSONAL_CHARS_MAX: usize = 500;

/// Most lines of an address.
pub const ADDRESS_LINES_MAX: usize = 6;

/// Pattern of a personal value, as a regular expression of ECMA-262. PostgreSQL's text type cannot
/// hold U+0000.
pub const PERSONAL_PATTERN: &str = r"^[^\u0000]*$";

/// Invisible characters, as the inside of an ECMA-262 character class: white space, control
/// characters, Default_Ignorable_Code_Point of Unicode (with the Hangul fillers), and the blank of
/// Braille.
macro_rules! unseen {
    () => {
        concat!(
            r"\s\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f",
            r"\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0"
        )
    };
}
pub(super) use unseen;

/// Pattern of a personal value that must have at least one visible character.
pub const TELLING_PATTERN: &str = concat!(r"^[^\u0000]*[^", unseen!(), r"][^\u0000]*$");

/// An order of the storefront: its terms in the clear, and the personal data that will be sealed.
///
/// Only [`OrderRequest::parse`] makes one, so an existing value has passed every rule. There is no
/// `Debug`, because it holds personal data.
///
/// ```compile_fail,E0277
/// println!("{:?}", bridge_protocol::domain::body::OrderRequest::parse(b"{}", 1).ok());
/// ```
pub struct OrderRequest {
    terms: OrderTerms,
    personal: PersonalData,
}

impl OrderRequest {
    /// Parses an order's body with at most `lines_max` lines.
    ///
    /// # Errors
    ///
    /// Returns the mistakes of the first check that fails. The first check is the JSON shape (one
    /// mistake). The second is each field by itself (all mistakes). The third is the rules between
    /// fields (all mistakes).
    pub fn parse(body: &[u8], lines_max: usize) -> Result<Self, Vec<FieldError>> {
        let raw: Body = from_json(body)?;
        let mut errors = Vec::new();
        let currency = check(Currency::new(&raw.total.currency).ok(), &mut errors, || {
            FieldError::new("/total/currency", "must be an ISO 4217 code of three capital letters")
        });
        let mut lines = Vec::with_capacity(raw.lines.len().min(lines_max));
        // One line above the limit is enough to detect too many lines. So a body of nothing but
        // lines costs no more to check than a good one.
        for (index, line) in raw.lines.iter().enumerate().take(lines_max.saturating_add(1)) {
            let at = |field: &str| format!("/lines/{index}/{field}");
            let sku = check(Sku::new(&line.sku), &mut errors, || {
                FieldError::new(at("sku"), "must be 1 to 64 printable ASCII characters")
            });
            let quantity = check(Quantity::new(line.quantity), &mut errors, || {
                FieldError::new(at("quantity"), format!("must be 1 to {}", Quantity::MAX))
            });
            let price = money(&line.unit_price, &at("unit_price"), currency, &mut errors);
            if let (Some(sku), Some(quantity), Some(price)) = (sku, quantity, price) {
                lines.push(Line { sku, quantity, unit_price: price.amount() });
            }
        }
        let total = money(&raw.total, "/total", currency, &mut errors);
        let fee = match (&raw.shipping_fee, currency) {
            (Some(fee), _) => money(fee, "/shipping_fee", currency, &mut errors),
            (None, Some(currency)) => Money::new(0, currency),
            (None, None) => None,
        };
        let reference = raw.customer.reference.clone();
        refuse_card_number(&reference, &IN_ID, "/customer/reference", &mut errors);
        let personal = personal(raw.customer, raw.delivery, &mut errors);
        match (total, fee) {
            (Some(total), Some(fee)) if errors.is_empty() => {
                let terms = OrderTerms::new(lines, fee, total, reference, lines_max)?;
                Ok(Self { terms, personal })
            }
            _ => Err(errors),
        }
    }

    /// Returns the terms in the clear.
    pub fn terms(&self) -> &OrderTerms {
        &self.terms
    }

    /// Returns the personal data.
    pub fn personal(&self) -> &PersonalData {
        &self.personal
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    lines: Vec<BodyLine>,
    total: BodyMoney,
    #[serde(default, deserialize_with = "present")]
    shipping_fee: Option<BodyMoney>,
    customer: BodyCustomer,
    delivery: BodyDelivery,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyLine {
    sku: String,
    quantity: i64,
    unit_price: BodyMoney,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BodyMoney {
    pub(super) amount: i64,
    pub(super) currency: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyCustomer {
    reference: String,
    #[serde(default, deserialize_with = "present")]
    name: Option<PersonalText>,
    #[serde(default, deserialize_with = "present")]
    phone: Option<PersonalText>,
    #[serde(default, deserialize_with = "present")]
    email: Option<PersonalText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyDelivery {
    name: PersonalText,
    #[serde(default, deserialize_with = "present")]
    phone: Option<PersonalText>,
    #[serde(default, deserialize_with = "present")]
    postal_code: Option<PersonalText>,
    address: Vec<PersonalText>,
    country: PersonalText,
    #[serde(default, deserialize_with = "present")]
    note: Option<PersonalText>,
}

/// A personal string, zeroised when dropped from the moment it leaves the parser.
struct PersonalText(Personal);

impl<'de> Deserialize<'de> for PersonalText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Personal::new(text)))
    }
}

/// Reads an optional field that must not be null when it is present.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

pub(super) fn from_json<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Vec<FieldError>> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = pointer(error.path());
        mistake(pointer, error.inner())
    });
    let end = |value| match deserializer.end() {
        Ok(()) => Ok(value),
        Err(error) => Err(mistake(String::new(), &error)),
    };
    parsed.and_then(end).map_err(|mistake| vec![mistake])
}

/// Describes serde's error without quoting the caller. Names of our own fields may appear.
fn mistake(pointer: String, error: &serde_json::Error) -> FieldError {
    let text = error.to_string();
    let known_field = || text.split('`').nth(1).unwrap_or_default().to_owned();
    let detail = match error.classify() {
        serde_json::error::Category::Data if text.starts_with("missing field") => {
            format!("the field `{}` is missing", known_field())
        }
        serde_json::error::Category::Data if text.starts_with("duplicate field") => {
            format!("the field `{}` appears twice", known_field())
        }
        serde_json::error::Category::Data if text.starts_with("unknown field") => {
            // The last "expected" is serde's own. The field's name comes from the caller and may
            // contain the word too.
            let expected = text.rsplit_once("expected ").and_then(|(_, rest)| rest.split(" at line").next());
            format!("there is an unknown field; known are {}", expected.unwrap_or("none"))
        }
        serde_json::error::Category::Data => {
            "the value has the wrong type or is out of range; amounts and quantities are integers".to_owned()
        }
        _ => format!("not JSON from line {} column {} on", error.line(), error.column()),
    };
    FieldError::new(pointer, detail)
}

fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            // Only names of our own structs get here. An unknown name is reported at the object
            // that holds it.
            Segment::Map { key } if KNOWN_FIELDS.contains(&key.as_str()) => {
                pointer.push_str(&format!("/{key}"))
            }
            _ => {}
        }
    }
    pointer
}

const KNOWN_FIELDS: &[&str] = &[
    "lines",
    "sku",
    "quantity",
    "unit_price",
    "amount",
    "currency",
    "total",
    "shipping_fee",
    "customer",
    "reference",
    "name",
    "phone",
    "email",
    "delivery",
    "postal_code",
    "address",
    "country",
    "note",
    "payment_key",
    "reason",
];

pub(super) fn check<T>(
    value: Option<T>,
    errors: &mut Vec<FieldError>,
    error: impl FnOnce() -> FieldError,
) -> Option<T> {
    if value.is_none() {
        errors.push(error());
    }
    value
}

pub(super) fn money(
    raw: &BodyMoney,
    at: &str,
    currency: Option<Currency>,
    errors: &mut Vec<FieldError>,
) -> Option<Money> {
    let currency = currency?;
    if raw.currency != currency.as_str() {
        errors
            .push(FieldError::new(format!("{at}/currency"), "an order has one currency, that of its total"));
        return None;
    }
    check(Money::new(raw.amount, currency), errors, || {
        FieldError::new(format!("{at}/amount"), format!("must be 0 to {} minor units", Money::AMOUNT_MAX))
    })
}

fn personal(customer: BodyCustomer, delivery: BodyDelivery, errors: &mut Vec<FieldError>) -> PersonalData {
    use PersonalField as Field;
    let address = address(&delivery.address, errors);
    check_text(&delivery.name.0, TextRule::Tell, "/delivery/name", errors);
    if !is_country(delivery.country.0.expose()) {
        let detail = "must be a country's ISO 3166-1 alpha-2 code in capital letters, such as KR";
        errors.push(FieldError::new("/delivery/country", detail));
    }
    let mut data = PersonalData::default();
    for (field, pointer, cards, value) in [
        (Field::CustomerName, "/customer/name", IN_TEXT, customer.name),
        (Field::CustomerPhone, "/customer/phone", IN_PHONE, customer.phone),
        (Field::CustomerEmail, "/customer/email", IN_TEXT, customer.email),
        (Field::DeliveryName, "/delivery/name", IN_TEXT, Some(delivery.name)),
        (Field::DeliveryPhone, "/delivery/phone", IN_PHONE, delivery.phone),
        (Field::DeliveryPostalCode, "/delivery/postal_code", IN_TEXT, delivery.postal_code),
        (Field::DeliveryAddress, "/delivery/address", IN_TEXT, Some(PersonalText(address))),
        (Field::DeliveryCountry, "/delivery/country", IN_TEXT, Some(delivery.country)),
        (Field::DeliveryNote, "/delivery/note", IN_TEXT, delivery.note),
    ] {
        let Some(PersonalText(value)) = value else { continue };
        // These three were checked above.
        if !matches!(field, Field::DeliveryName | Field::DeliveryAddress | Field::DeliveryCountry) {
            check_text(&value, TextRule::Fit, pointer, errors);
        }
        refuse_card_number(value.expose(), &cards, pointer, errors);
        data.set(field, value);
    }
    data
}

/// Joins the lines of an address to one value, after checking each line.
fn address(lines: &[PersonalText], errors: &mut Vec<FieldError>) -> Personal {
    if !(1..=ADDRESS_LINES_MAX).contains(&lines.len()) {
        errors.push(FieldError::new("/delivery/address", format!("has 1 to {ADDRESS_LINES_MAX} lines")));
    }
    let len = lines.iter().map(|line| line.0.expose().len() + 1).sum();
    let mut address = String::with_capacity(len);
    for (index, line) in lines.iter().enumerate() {
        // Lines above the limit are not checked.
        if index < ADDRESS_LINES_MAX {
            check_text(&line.0, TextRule::Tell, &format!("/delivery/address/{index}"), errors);
        }
        if index > 0 {
            address.push('\n');
        }
        address.push_str(line.0.expose());
    }
    Personal::new(address)
}

/// A requirement on a personal value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TextRule {
    /// It is not too long.
    Fit,
    /// It is not too long and has a visible character. Nothing can be delivered without it.
    Tell,
}

fn check_text(value: &Personal, must: TextRule, pointer: &str, errors: &mut Vec<FieldError>) {
    let value = value.expose();
    let fits = !value.contains('\0') && value.chars().count() <= PERSONAL_CHARS_MAX;
    if !fits {
        let detail = format!("must be at most {PERSONAL_CHARS_MAX} characters, none of them NUL");
        errors.push(FieldError::new(pointer, detail));
    } else if must == TextRule::Tell && is_blank(value) {
        errors.push(FieldError::new(pointer, "must not be empty or have only invisible characters"));
    }
}

/// Returns true for a text that is empty or has only invisible characters. It is the opposite of
/// [`TELLING_PATTERN`].
pub(super) fn is_blank(text: &str) -> bool {
    text.chars().all(|char| {
        char.is_whitespace()
            || char.is_control()
            || matches!(
                char,
                '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
                    | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
                    | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            )
    })
}

/// Refuses a text with a card number. No field here is for card numbers, and a shopper may type one
/// into a name or a note by mistake.
pub(super) fn refuse_card_number(
    text: &str,
    lengths: &RangeInclusive<usize>,
    pointer: &str,
    errors: &mut Vec<FieldError>,
) {
    if holds_card_number(text, lengths) {
        errors.push(FieldError::new(pointer, "must not hold a card number"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"lines": [{"sku": "DV1748-601-270", "quantity": 1, "unit_price": {"amount": 219000, "currency": "KRW"}}],
        "total": {"amount": 222000, "currency": "KRW"}, "shipping_fee": {"amount": 3000, "currency": "KRW"},
        "customer": {"reference": "c-8842", "name": "김하나", "phone": "010-0000-0000", "email": "a@example.kr"},
        "delivery": {"name": "김하나", "phone": "010-0000-0000", "postal_code": "04524",
                     "address": ["서울 중구", "2층"], "country": "KR", "note": "문 앞"}}"#;

    /// Parses the valid body with one text replaced. Returns the mistakes as `pointer: detail`.
    fn with(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "the sample holds {from}");
        match OrderRequest::parse(GOOD.replacen(from, to, 1).as_bytes(), 2) {
            Ok(_) => String::new(),
            Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        }
    }

    #[test]
    fn the_design_s_order_is_parsed() {
        let request = OrderRequest::parse(GOOD.as_bytes(), 2).ok().unwrap();
        assert_eq!(request.terms().total().amount(), 222_000);
        assert_eq!(request.personal().iter().count(), 9);
        let address =
            request.personal().iter().find(|(f, _)| *f == PersonalField::DeliveryAddress).unwrap().1;
        assert_eq!(address.expose(), "서울 중구\n2층");
    }

    #[test]
    fn every_mistake_is_named_by_its_pointer() {
        for (from, to, expected) in [
            (r#""quantity": 1"#, r#""quantity": 0"#, "/lines/0/quantity: must be 1 to"),
            (r#""quantity": 1"#, r#""quantity": -1"#, "/lines/0/quantity: must be 1 to"),
            (r#""quantity": 1"#, r#""quantity": 1.5"#, "/lines/0/quantity: the value has the wrong type"),
            (r#""quantity": 1"#, r#""quantity": 99999999999999999999"#, "/lines/0/quantity: the value"),
            (r#""quantity": 1, "#, "", "/lines/0: the field `quantity` is missing"),
            (r#""quantity": 1"#, r#""quantity": 1, "quantity": 1"#, "the field `quantity` appears twice"),
            (
                r#""amount": 219000, "currency": "KRW""#,
                r#""amount": 219000, "currency": "USD""#,
                "/lines/0/unit_price/currency",
            ),
            (
                r#""amount": 222000, "currency": "KRW""#,
                r#""amount": 222000, "currency": "won""#,
                "/total/currency",
            ),
            ("219000", "-1", "/lines/0/unit_price/amount: must be 0 to"),
            ("219000", "9223372036854775807", "/lines/0/unit_price/amount"),
            ("222000", "222001", "/total/amount: must be the sum"),
            (
                r#""reference": "c-8842""#,
                r#""reference": "c 8842""#,
                "/customer/reference: must be an opaque id",
            ),
            (
                r#""phone": "010-0000-0000", "email""#,
                r#""phone": null, "email""#,
                "/customer/phone: the value",
            ),
            (r#"["서울 중구", "2층"]"#, "[]", "/delivery/address: has 1 to"),
            ("2층", r"2\u0000", "/delivery/address/1: must be at most"),
            ("2층", r" \u3000\n", "/delivery/address/1: must not be empty"),
            ("2층", r"\u3164", "/delivery/address/1: must not be empty"),
            ("2층", r"\u200b \u2060\u00ad", "/delivery/address/1: must not be empty"),
            ("2층", r"\u2800", "/delivery/address/1: must not be empty"),
            ("2층", r"\u0007\u0085", "/delivery/address/1: must not be empty"),
            (
                r#""name": "김하나", "phone": "010-0000-0000", "postal_code""#,
                r#""name": "\t", "postal_code""#,
                "/delivery/name: must not be empty",
            ),
            (r#""KR""#, r#""""#, "/delivery/country: must be a country's"),
            (r#""KR""#, r#""kr""#, "/delivery/country: must be a country's"),
            ("c-8842", "c 8842", "/customer/reference: must be an opaque id"),
            ("문 앞", "4111 1111 1111 1111", "/delivery/note: must not hold a card number"),
            ("문 앞", "4111:1111+1111*1111", "/delivery/note: must not hold a card number"),
            ("문 앞", "٤١١١ ١١١١ ١١١١ ١١١١", "/delivery/note: must not hold a card number"),
            ("c-8842", "c4111111111111111", "/customer/reference: must not hold a card number"),
            ("2층", "카드 4111-1111-1111-1111", "/delivery/address: must not hold a card number"),
        ] {
            let mistakes = with(from, to);
            assert!(mistakes.contains(expected), "{from} -> {to} gave: {mistakes}");
        }
    }

    #[test]
    fn limits_are_per_line_and_optional_fields_may_be_empty() {
        let line = format!("\"{}\"", "가".repeat(PERSONAL_CHARS_MAX));
        let six = [line.as_str(); ADDRESS_LINES_MAX].join(",");
        assert_eq!(with(r#""서울 중구", "2층""#, &six), "");
        assert!(
            with("2층", &"가".repeat(PERSONAL_CHARS_MAX + 1)).starts_with("/delivery/address/1: must be")
        );
        assert!(
            with(r#""서울 중구", "2층""#, &format!("{six},{six}")).starts_with("/delivery/address: has 1")
        );
        assert_eq!(with("문 앞", ""), "");
        // A generated id and a telephone number. Both have a valid check digit, but are no card
        // numbers in their fields.
        assert_eq!(with("c-8842", "6912345678901234564"), "");
        assert_eq!(with("010-0000-0000", "4915123456787"), "");
    }

    #[test]
    fn an_unknown_field_is_refused_and_not_quoted() {
        let mistakes = with(r#""note": "문 앞""#, r#""kim-hana-secret": "문 앞""#);
        assert!(mistakes.starts_with("/delivery: there is an unknown field; known are"), "{mistakes}");
        assert!(!mistakes.contains("kim-hana-secret"));
        let mistakes = with(r#""note": "문 앞""#, r#""expected kim-hana-secret": "문 앞""#);
        assert!(!mistakes.contains("kim-hana-secret"), "{mistakes}");
    }

    #[test]
    fn no_value_of_the_body_is_ever_in_a_mistake() {
        for cut in 0..GOOD.len() {
            let Err(errors) = OrderRequest::parse(&GOOD.as_bytes()[..cut], 2) else {
                panic!("{cut} bytes parsed")
            };
            let text = format!("{errors:?}");
            assert!(!text.contains("8842") && !text.contains("010") && !text.contains("김"), "{text}");
        }
    }

    #[test]
    fn too_many_lines_and_the_same_sku_twice_are_mistakes() {
        let line = r#"{"sku": "DV1748-601-270", "quantity": 1, "unit_price": {"amount": 219000, "currency": "KRW"}}"#;
        let mistakes = with(line, &[line; 3].join(","));
        assert!(mistakes.contains("/lines: an order has at most 2 lines"), "{mistakes}");
        assert!(mistakes.contains("/lines/1/sku: this SKU is on an earlier line"), "{mistakes}");
    }

    #[test]
    fn text_behind_the_body_is_a_mistake() {
        assert!(OrderRequest::parse(format!("{GOOD} {{}}").as_bytes(), 2).is_err());
    }
}
