//! The demo's own catalogue: three brands in Korean and English, with sizes, colours and prices in
//! won.
//!
//! It depends on the seed alone. It is written as the JSON Lines that `bridge-idc catalogue import`
//! reads.

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// Number of products of each brand.
const PRODUCTS: usize = 60;
/// Colours of each product. Each colour has every size of its brand.
const COLOURS_EACH: usize = 2;
/// Default number of units of each SKU.
const UNITS: u64 = 10;
/// The root category of a brand.
const ALL: &str = "all";

/// A word in English and Korean.
type Word = (&'static str, &'static str);

/// A brand of the catalogue.
struct DemoBrand {
    brand: &'static str,
    prefix: &'static str,
    name: Word,
    /// Categories, each with the kinds of product in it.
    categories: &'static [(&'static str, Word, &'static [Word])],
    sizes: &'static [&'static str],
    /// Range of prices, in thousands of won.
    prices: std::ops::Range<u64>,
}

const BRANDS: [DemoBrand; 3] = [
    DemoBrand {
        brand: "shoes",
        prefix: "DV",
        name: ("Hangang Shoes", "한강슈즈"),
        categories: &[
            (
                "running",
                ("Running", "러닝"),
                &[("Road Runner", "로드 러너"), ("Trail Runner", "트레일 러너")],
            ),
            (
                "sneakers",
                ("Sneakers", "스니커즈"),
                &[("Court Low", "코트 로우"), ("Retro High", "레트로 하이")],
            ),
            ("boots", ("Boots", "부츠"), &[("Chelsea Boot", "첼시 부츠"), ("Hiking Boot", "등산화")]),
        ],
        sizes: &["230", "240", "250", "260", "270", "280", "290"],
        prices: 59..320,
    },
    DemoBrand {
        brand: "apparel",
        prefix: "AP",
        name: ("Namsan Apparel", "남산어패럴"),
        categories: &[
            (
                "tops",
                ("Tops", "상의"),
                &[("Oxford Shirt", "옥스퍼드 셔츠"), ("Graphic Tee", "그래픽 티셔츠")],
            ),
            ("bottoms", ("Bottoms", "하의"), &[("Wide Slacks", "와이드 슬랙스"), ("Denim Jeans", "데님 진")]),
            (
                "outer",
                ("Outerwear", "아우터"),
                &[("Padded Coat", "패딩 코트"), ("Trench Coat", "트렌치 코트")],
            ),
        ],
        sizes: &["S", "M", "L", "XL"],
        prices: 19..260,
    },
    DemoBrand {
        brand: "home",
        prefix: "HM",
        name: ("Bukchon Home", "북촌홈"),
        categories: &[
            ("kitchen", ("Kitchen", "주방"), &[("Celadon Bowl", "청자 그릇"), ("Moon Jar", "달항아리")]),
            (
                "bedding",
                ("Bedding", "침구"),
                &[("Linen Quilt", "리넨 이불"), ("Buckwheat Pillow", "메밀 베개")],
            ),
        ],
        sizes: &["small", "large"],
        prices: 12..180,
    },
];

const COLOURS: [(&str, Word); 6] = [
    ("001", ("Black", "블랙")),
    ("100", ("White", "화이트")),
    ("401", ("Navy", "네이비")),
    ("601", ("Red", "레드")),
    ("302", ("Green", "그린")),
    ("207", ("Sand", "샌드")),
];

const LINES: [Word; 6] = [
    ("Classic", "클래식"),
    ("Limited", "리미티드"),
    ("Studio", "스튜디오"),
    ("Seoul", "서울"),
    ("Dawn", "새벽"),
    ("Wave", "웨이브"),
];

/// A product on sale.
pub(super) struct DemoProduct {
    pub(super) brand: &'static str,
    pub(super) code: String,
    /// SKUs with their price in won.
    pub(super) skus: Vec<(String, u64)>,
    line: Value,
}

/// Returns the brands of the catalogue. All sell in won.
pub(super) fn brands() -> impl Iterator<Item = &'static str> {
    BRANDS.iter().map(|brand| brand.brand)
}

/// Makes all products, brand by brand.
pub(super) fn wares(seed: u64) -> Vec<DemoProduct> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    BRANDS
        .iter()
        .flat_map(|of| (0..PRODUCTS).map(|index| ware(of, index, &mut rng)).collect::<Vec<_>>())
        .collect()
}

/// Returns the catalogue as JSON Lines: brands, categories, products.
pub(super) fn json_lines(wares: &[DemoProduct]) -> Vec<u8> {
    let named = |word: Word| json!({"en": word.0, "ko": word.1});
    let brands = BRANDS.iter().map(|of| json!({"brand": of.brand, "currency": "KRW"}));
    let categories = BRANDS.iter().flat_map(|of| {
        of.categories.iter().map(move |(category, word, _)| {
            json!({"brand": of.brand, "category": category, "parent": ALL, "names": named(*word)})
        })
    });
    let roots = BRANDS.iter().map(|of| json!({"brand": of.brand, "category": ALL, "names": named(of.name)}));
    let mut lines = Vec::new();
    for line in brands.chain(roots).chain(categories).chain(wares.iter().map(|ware| ware.line.clone())) {
        lines.extend_from_slice(line.to_string().as_bytes());
        lines.push(b'\n');
    }
    lines
}

fn ware(of: &'static DemoBrand, index: usize, rng: &mut ChaCha8Rng) -> DemoProduct {
    let code = format!("{}{:04}", of.prefix, 1_000 + index * 7);
    let (category, _, kinds) = of.categories[index % of.categories.len()];
    let kind = kinds.choose(rng).copied().unwrap_or_default();
    let line = LINES.choose(rng).copied().unwrap_or_default();
    let price = rng.random_range(of.prices.clone()) * 1_000;
    let mut skus = Vec::new();
    let mut variants = Vec::new();
    for (colour, (colour_en, _)) in COLOURS.sample(rng, COLOURS_EACH) {
        for size in of.sizes {
            let sku = format!("{code}-{colour}-{size}");
            variants.push(json!({
                "sku": sku, "options": {"colour": colour_en, "size": size},
                "price": {"amount": price, "currency": "KRW"}, "quantity": UNITS,
            }));
            skus.push((sku, price));
        }
    }
    let line = json!({
        "brand": of.brand, "product": code,
        "names": {"en": format!("{} {} {index}", line.0, kind.0), "ko": format!("{} {} {index}", line.1, kind.1)},
        "descriptions": {
            "en": format!("{} by {}. Made in small batches; sizes run true.", kind.0, of.name.0),
            "ko": format!("{}의 {}. 소량 제작, 정사이즈입니다.", of.name.1, kind.1),
        },
        "categories": [category],
        "images": [format!("https://images.example.com/{}/{code}.jpg", of.brand)],
        "document": {"material": "mixed", "origin": "KR", "care": ["hand wash", "line dry"]},
        "variants": variants,
    });
    DemoProduct { brand: of.brand, code, skus, line }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bridge_idc::catalogue::import::CatalogueFile;

    use super::*;

    #[test]
    fn every_product_has_both_languages_and_skus_of_its_own() {
        let wares = wares(1);
        let skus: HashSet<_> = wares.iter().flat_map(|ware| ware.skus.iter()).collect();
        assert_eq!(skus.len(), wares.iter().map(|ware| ware.skus.len()).sum::<usize>());
        assert!(skus.len() > 1_000, "{}", skus.len());
        let text = String::from_utf8(json_lines(&wares)).expect("UTF-8");
        assert_eq!(
            CatalogueFile::json_lines(text.as_bytes()).len(),
            wares.len(),
            "the import takes them all"
        );
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).expect("JSON");
            if line.get("names").is_none() {
                assert_eq!(line["currency"], "KRW", "only a brand has no names: {line}");
                continue;
            }
            assert!(line["names"]["ko"].as_str().is_some_and(|name| !name.is_ascii()), "{line}");
            assert!(line["names"]["en"].as_str().is_some_and(str::is_ascii), "{line}");
        }
        assert_eq!(text, String::from_utf8(json_lines(&super::wares(1))).expect("UTF-8"));
        assert_ne!(text, String::from_utf8(json_lines(&super::wares(2))).expect("UTF-8"));
    }
}
