//! The made-up catalogue that the benches import: products of about 1.4 KB each, in English and
//! Korean, with two variants.
//!
//! It depends on the seed alone. It is written as the JSON Lines that `bridge-idc catalogue import`
//! reads.

use std::io::{self, Write};

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::bridge::{BRAND, CURRENCY};

/// Seed of the catalogue.
pub(super) const SEED: u64 = 1;
/// Number of root categories, and of categories below each.
const CATEGORIES: (usize, usize) = (12, 8);
/// Words of a description. They make up most of a product's length.
const WORDS: usize = 72;
/// Units of each variant. No bench sells as many.
const UNITS: u64 = 10_000_000;

const ENGLISH: &str = "light warm woven brushed cotton linen wool leather classic relaxed fitted tapered padded soft \
durable breathable everyday evening trail city seasonal limited recycled handmade";
const KOREAN: &str =
    "가벼운 따뜻한 부드러운 튼튼한 편안한 깔끔한 한정판 새로운 면 울 가죽 린넨 도시 산책 여름 겨울";
const COLOURS: [&str; 6] = ["black", "white", "navy", "red", "green", "sand"];
const SIZES: [&str; 6] = ["S", "M", "L", "XL", "260", "270"];

/// Writes one brand, its categories, and this number of products, one on each line.
pub(super) fn write(out: &mut impl Write, products: usize) -> io::Result<()> {
    writeln!(out, "{}", json!({"brand": BRAND, "currency": CURRENCY}))?;
    let (roots, below) = CATEGORIES;
    for root in 0..roots {
        writeln!(out, "{}", category(&format!("c{root:02}"), None))?;
        for leaf in 0..below {
            writeln!(out, "{}", category(&format!("c{root:02}-{leaf}"), Some(format!("c{root:02}"))))?;
        }
    }
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    for number in 0..products {
        writeln!(out, "{}", product(number, &mut rng))?;
    }
    Ok(())
}

fn category(code: &str, parent: Option<String>) -> Value {
    let names = json!({"en": format!("Category {code}"), "ko": format!("분류 {code}")});
    json!({"brand": BRAND, "category": code, "names": names, "parent": parent})
}

fn product(number: usize, rng: &mut ChaCha8Rng) -> Value {
    let mut words = |from: &str, count: usize| {
        let all: Vec<_> = from.split_ascii_whitespace().collect();
        let words: Vec<_> = (0..count).filter_map(|_| all.choose(rng).copied()).collect();
        words.join(" ")
    };
    let names = json!({"en": words(ENGLISH, 3), "ko": words(KOREAN, 3)});
    let descriptions = json!({"en": words(ENGLISH, WORDS), "ko": words(KOREAN, WORDS / 2)});
    let (code, price) = (format!("P{number:06}"), (19 + (number as u64 * 7) % 300) * 1_000);
    let (root, leaf) = (number % CATEGORIES.0, rng.random_range(0..CATEGORIES.1));
    let variants = (0..2).map(|variant| {
        json!({
            "sku": format!("{code}-{variant}"),
            "options": {"colour": COLOURS[number % COLOURS.len()], "size": SIZES[variant]},
            "price": {"amount": price, "currency": CURRENCY},
            "quantity": UNITS,
        })
    });
    json!({
        "brand": BRAND, "product": code, "names": names, "descriptions": descriptions,
        "categories": [format!("c{root:02}-{leaf}")],
        "images": [format!("https://images.example.com/{code}.jpg")],
        "document": {"origin": "KR", "care": ["hand wash", "line dry"]},
        "variants": variants.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_line_is_json_and_every_product_has_a_reads_length() {
        let mut text = Vec::new();
        write(&mut text, 300).expect("into memory");
        let lines: Vec<Value> = text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("JSON"))
            .collect();
        let products: Vec<_> = lines.iter().filter(|line| line["product"].is_string()).collect();
        assert_eq!((products.len(), lines.len()), (300, 1 + CATEGORIES.0 * (1 + CATEGORIES.1) + 300));
        let categories: HashSet<_> = lines.iter().filter_map(|line| line["category"].as_str()).collect();
        for product in products {
            assert!(categories.contains(product["categories"][0].as_str().expect("a code")));
            let bytes = product.to_string().len();
            assert!((1_200..1_600).contains(&bytes), "{bytes} bytes");
        }
    }
}
