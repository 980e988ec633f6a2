//! Made-up persons: names, phones, addresses and e-mails in Korean and English.
//!
//! `retail` and `generated` put them into orders; `search` looks for them afterwards. Each value
//! begins with a part that is drawn from very many possibilities, so a match in a file is no
//! accident. No value comes from real data.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// The personal part of an order's body: `customer` and `delivery`.
#[derive(Clone, Debug, Serialize)]
pub struct Person {
    customer: Customer,
    delivery: Delivery,
    #[serde(skip)]
    road: String,
}

#[derive(Clone, Debug, Serialize)]
struct Customer {
    reference: String,
    name: String,
    phone: String,
    email: String,
}

#[derive(Clone, Debug, Serialize)]
struct Delivery {
    name: String,
    phone: String,
    postal_code: String,
    address: [String; 2],
    country: &'static str,
    note: String,
}

impl Person {
    /// Makes the person of the order `index` of a run. The same seed and index give the same
    /// person. `reference` is the storefront's opaque id of the customer, the only value that is
    /// not personal.
    #[must_use]
    pub fn made_up(seed: u64, index: u64, reference: String) -> Person {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index);
        if rng.random_ratio(1, 2) { korean(&mut rng, reference) } else { english(&mut rng, reference) }
    }

    /// Returns the values to search for: all personal values that are rare enough. A postal code
    /// has only five characters, so a match would prove nothing.
    #[must_use]
    pub fn planted(&self) -> Vec<String> {
        let Person { customer, delivery, road } = self;
        let values = [
            &customer.name,
            &customer.phone,
            &customer.email,
            &delivery.name,
            &delivery.phone,
            road,
            &delivery.note,
        ];
        values.into_iter().cloned().collect()
    }
}

fn korean(rng: &mut impl Rng, reference: String) -> Person {
    const FAMILY: [&str; 8] = ["김", "이", "박", "최", "정", "남궁", "황보", "선우"];
    let family = FAMILY[rng.random_range(0..FAMILY.len())];
    let name = format!("{family}{}", hangul(rng));
    let recipient = format!("{family}{}", hangul(rng));
    let road = format!("{}로 {}길 {}", hangul(rng), rng.random_range(1..99), rng.random_range(1..400));
    Person {
        customer: Customer { reference, name, phone: korean_phone(rng), email: email(rng, "kr") },
        delivery: Delivery {
            name: recipient,
            phone: korean_phone(rng),
            postal_code: format!("{:05}", rng.random_range(1_000..63_999)),
            address: [
                format!("서울특별시 성동구 {road}"),
                format!("{}동 {}호", rng.random_range(101..130), 1203),
            ],
            country: "KR",
            note: format!("{} 경비실에 맡겨 주세요", hangul(rng)),
        },
        road,
    }
}

fn english(rng: &mut impl Rng, reference: String) -> Person {
    let family = latin(rng);
    let road = format!("{} Street", latin(rng));
    Person {
        customer: Customer {
            reference,
            name: format!("{} {family}", latin(rng)),
            phone: english_phone(rng),
            email: email(rng, "uk"),
        },
        delivery: Delivery {
            name: format!("{} {family}", latin(rng)),
            phone: english_phone(rng),
            postal_code: format!("N{} {}QT", rng.random_range(1..20), rng.random_range(1..9)),
            address: [format!("{} {road}", rng.random_range(1..200)), "London".to_owned()],
            country: "GB",
            note: format!("{} has the \"spare\" key", latin(rng)),
        },
        road,
    }
}

/// Returns three of the 11,172 syllables. The result is no real given name, and has a chance of 1
/// in 10^12.
fn hangul(rng: &mut impl Rng) -> String {
    (0..3).map(|_| rng.random_range('\u{AC00}'..='\u{D7A3}')).collect()
}

/// Returns five syllables such as "Zafirolumo"; a result has a chance of 1 in 10^9.
fn latin(rng: &mut impl Rng) -> String {
    const CONSONANTS: &[u8] = b"bdfgklmnprstvz";
    const VOWELS: &[u8] = b"aeiou";
    let mut word = String::new();
    for _ in 0..5 {
        word.push(char::from(CONSONANTS[rng.random_range(0..CONSONANTS.len())]));
        word.push(char::from(VOWELS[rng.random_range(0..VOWELS.len())]));
    }
    word[..1].make_ascii_uppercase();
    word
}

fn korean_phone(rng: &mut impl Rng) -> String {
    format!("+82-10-{:04}-{:04}", rng.random_range(2_000..10_000), rng.random_range(0..10_000))
}

fn english_phone(rng: &mut impl Rng) -> String {
    format!("+44 7{:03} {:06}", rng.random_range(0..1_000), rng.random_range(0..1_000_000))
}

/// Returns an address under `.example`, where no real mailbox exists (RFC 2606, section 2).
fn email(rng: &mut impl Rng, country: &str) -> String {
    format!("{}@mail.{country}.example", latin(rng).to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_index_give_the_same_person_and_others_differ() {
        let planted = |seed, index| Person::made_up(seed, index, "c-1".to_owned()).planted();
        assert_eq!(planted(1, 7), planted(1, 7));
        assert_ne!(planted(1, 7), planted(1, 8));
        assert_ne!(planted(1, 7), planted(2, 7));
    }

    #[test]
    fn every_planted_value_is_in_the_body_and_too_long_for_chance() {
        for index in 0..200 {
            let person = Person::made_up(3, index, "c-1".to_owned());
            let body = serde_json::to_value(&person).expect("plain JSON").to_string();
            for value in person.planted() {
                assert!(value.len() >= 10, "{value}");
                let escaped = serde_json::to_string(&value).expect("plain JSON");
                assert!(body.contains(escaped.trim_matches('"')), "{value} is not in {body}");
            }
        }
    }

    #[test]
    fn both_languages_appear() {
        let names: Vec<_> =
            (0..50).map(|index| Person::made_up(1, index, String::new()).customer.name).collect();
        assert!(names.iter().any(|name| name.is_ascii()) && names.iter().any(|name| !name.is_ascii()));
    }
}
