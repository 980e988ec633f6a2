//! The storefront's JSON body of an order: an accepted body keeps every rule, and no error repeats
//! a personal value (promise P5).

use bridge_protocol::domain::PersonalData;
use bridge_protocol::domain::body::OrderRequest;
use bridge_protocol::wire::order::Terms;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{SECRET, demand};
use crate::tools::fuzz::hunt::{Target, Verdict};
use crate::tools::fuzz::mutate;

/// `OrderRequest::parse`.
pub(super) const TARGET: Target = Target { name: "order-body", corpus, change, check };

/// Most lines of an order. It is small, so that cases reach the limit.
const LINES_MAX: usize = 4;

fn corpus() -> Vec<Vec<u8>> {
    let won = |amount: i64| json!({"amount": amount, "currency": "KRW"});
    let least = json!({
        "lines": [{"sku": "SHOE-270", "quantity": 1, "unit_price": won(219_000)}],
        "total": won(219_000),
        "customer": {"reference": "c-1"},
        "delivery": {"name": "PLNT Kim", "address": ["PLNT road 1"], "country": "KR"},
    });
    let most = json!({
        "lines": [
            {"sku": "SHOE-270", "quantity": 2, "unit_price": won(219_000)},
            {"sku": "SHOE-275", "quantity": 1, "unit_price": won(0)},
            {"sku": "SOCKS", "quantity": 1_000, "unit_price": won(900)},
        ],
        "total": won(1_341_000), "shipping_fee": won(3_000),
        "customer": {"reference": "c-8842", "name": "PLNT 김하나", "phone": "010-PLNT-1234", "email": "PLNT@example.com"},
        "delivery": {"name": "PLNT 이두리", "phone": "+82 PLNT", "postal_code": "PLNT 04524", "address": ["PLNT 서울", "2층 PLNT"],
                     "country": "GB", "note": "PLNT \"door\"\n"},
    });
    [least, most].map(|body| body.to_string().into_bytes()).into()
}

/// Changes one value of the JSON tree, or inserts a field.
pub(super) fn change(rng: &mut ChaCha8Rng, input: &[u8], other: &[u8]) -> Vec<u8> {
    let Ok(mut body) = serde_json::from_slice::<Value>(input) else {
        return mutate::bytes(rng, input, other);
    };
    if rng.random_ratio(1, 4) {
        return with_another_field(rng, input);
    }
    change_somewhere(rng, &mut body);
    body.to_string().into_bytes()
}

/// Walks down the tree at random, and changes the value at which it stops.
fn change_somewhere(rng: &mut ChaCha8Rng, value: &mut Value) {
    let below = match value {
        Value::Array(values) => values.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    };
    if below == 0 || rng.random_ratio(1, 5) {
        return change_value(rng, value);
    }
    let which = rng.random_range(0..below);
    let child = match value {
        Value::Array(values) => values.get_mut(which),
        Value::Object(fields) => fields.values_mut().nth(which),
        _ => None,
    };
    child.into_iter().for_each(|child| change_somewhere(rng, child));
}

fn change_value(rng: &mut ChaCha8Rng, value: &mut Value) {
    match value {
        Value::Array(values) if rng.random_ratio(2, 3) => {
            let again = values.first().cloned().unwrap_or_default();
            values.extend(std::iter::repeat_n(again, rng.random_range(0..LINES_MAX + 2)));
            values.truncate(rng.random_range(0..LINES_MAX + 3));
        }
        Value::Object(fields) if rng.random_ratio(2, 3) => {
            let key = fields.keys().nth(rng.random_range(0..=fields.len())).cloned().unwrap_or_default();
            let moved = fields.remove(&key).unwrap_or_default();
            if rng.random() {
                fields.insert(hostile_text(rng), moved);
            }
        }
        Value::Number(number) if rng.random_ratio(1, 3) => {
            *value = json!(number.as_i64().unwrap_or_default().wrapping_add(rng.random_range(-2..=2)));
        }
        _ => *value = hostile_value(rng),
    }
}

fn hostile_value(rng: &mut ChaCha8Rng) -> Value {
    match rng.random_range(0..8) {
        0 => Value::Null,
        1 => json!(rng.random::<bool>()),
        2 => json!(mutate::number(rng)),
        3 => json!(mutate::number(rng).cast_signed()),
        4 => json!(1.5),
        5 => json!([hostile_text(rng)]),
        6 => json!({hostile_text(rng): hostile_text(rng)}),
        _ => json!(hostile_text(rng)),
    }
}

/// Returns a text that is likely to cause an error. Most contain a value that no error may repeat.
fn hostile_text(rng: &mut ChaCha8Rng) -> String {
    let texts = [
        SECRET,
        "PLNT`, expected `PLNT",
        "PLNT at line 1",
        "",
        " ",
        "\u{0}",
        "krw",
        "name",
        "lines",
        "/~1PLNT",
    ];
    let text = texts[rng.random_range(0..texts.len())];
    text.repeat([1, 1, 1, 2, 13, 501][rng.random_range(0..6)])
}

/// Inserts a field into some object: a duplicate, one from another object, or an unknown one.
fn with_another_field(rng: &mut ChaCha8Rng, input: &[u8]) -> Vec<u8> {
    let names =
        ["name", "phone", "lines", "sku", "amount", "country", "PLNT", "\\u0050LNT", "PLNT` \\\"", ""];
    let name = names[rng.random_range(0..names.len())];
    let objects: Vec<usize> = (1..=input.len()).filter(|end| input[end - 1] == b'{').collect();
    let mut out = input.to_vec();
    if !objects.is_empty() {
        let at = objects[rng.random_range(0..objects.len())];
        out.splice(at..at, format!("\"{name}\":{},", hostile_value(rng)).into_bytes());
    }
    out
}

fn check(input: &[u8]) -> Result<Verdict, String> {
    match OrderRequest::parse(input, LINES_MAX) {
        Ok(order) => {
            let terms = order.terms();
            demand((1..=LINES_MAX).contains(&terms.lines().len()), "an order with too many lines or none")?;
            demand(
                Terms::from(terms).check(LINES_MAX).as_ref() == Ok(terms),
                "the IDC would refuse these terms",
            )?;
            let personal = order.personal();
            let again = PersonalData::from_bytes(&personal.to_bytes());
            demand(again.is_ok_and(|again| again == *personal), "the IDC would read other personal data")?;
            Ok(Verdict::Accepted)
        }
        Err(mistakes) => {
            demand(!mistakes.is_empty(), "refused without a reason")?;
            for mistake in &mistakes {
                let text = mistake.to_string();
                demand(!text.contains(SECRET), &format!("an error repeats a personal value: {text}"))?;
                let pointer = &mistake.pointer;
                demand(pointer.is_empty() || pointer.starts_with('/'), "an error's pointer is none")?;
            }
            Ok(Verdict::Refused)
        }
    }
}
