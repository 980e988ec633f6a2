//! Files into the tables and out of them again, on either database.

use std::collections::BTreeMap;
use std::path::Path;

use bridge_idc::catalogue::Catalogue;
use bridge_idc::catalogue::import::mapping::Mapping;
use bridge_idc::catalogue::import::{CatalogueFile, Imported, Options, Tally};
use bridge_idc::ledger::import::StockFile;
use bridge_protocol::domain::catalogue::EntityKind;
use bridge_protocol::wire::catalogue::{ProductRow, StockRow};
use prost::Message as _;

use crate::database::Database;
use crate::source::{brands, read};

const FILE: &str = r#"{"brand": "tea", "currency": "KRW"}
{"brand": "tea", "category": "green", "parent": "all", "names": {"ko": "녹차"}, "position": 2}
{"brand": "tea", "product": "SEJAK", "names": {"en": "Sejak", "ko": "세작"}, "document": {"origin": "Hadong", "year": 2026}, "images": ["https://img/1.jpg"], "categories": ["green", "all"], "published_from": "2026-12-01T10:00:00+09:00", "variants": [{"sku": "SEJAK-50", "options": {"weight": "50 g"}, "price": {"amount": 18000, "currency": "KRW"}, "quantity": 40}, {"sku": "SEJAK-100", "price": {"amount": 32000, "currency": "KRW"}}]}
{"brand": "tea", "product": "MUG 1/2", "names": {"en": "A mug"}, "variants": [{"sku": "MUG", "price": {"amount": 0, "currency": "KRW"}, "quantity": 3}]}
"#;

/// What waits for a number: nothing numbers here, so it is all that was ever noted.
const NOTED: &str = "SELECT count(*) FROM catalogue_pending";

async fn import(database: &Database, text: &str, options: Options) -> Imported {
    let catalogue = Catalogue::of(&database.ledger);
    catalogue.import(CatalogueFile::json_lines(text.as_bytes()), options, |_| ()).await.unwrap()
}

const fn tally(new: u64, changed: u64, unchanged: u64) -> Tally {
    Tally { new, changed, unchanged }
}

pub(crate) async fn a_second_import_of_a_file_changes_nothing(database: &Database) {
    let first = import(database, FILE, Options::default()).await;
    assert_eq!(first.refused, []);
    assert_eq!((first.brands, first.categories, first.products), (1, tally(2, 0, 0), tally(2, 0, 0)));
    assert_eq!((first.variants, first.stock, first.kept), (tally(3, 0, 0), 2, true));
    let noted = database.count(NOTED).await;
    let second = import(database, FILE, Options::default()).await;
    assert_eq!((second.brands, second.categories, second.products), (0, tally(0, 0, 2), tally(0, 0, 2)));
    assert_eq!((second.variants, second.stock), (tally(0, 0, 3), 0));
    assert_eq!(database.count(NOTED).await, noted, "nothing new is in the log");
}

pub(crate) async fn what_a_file_does_not_speak_of_stays_as_it_is(database: &Database) {
    import(database, FILE, Options::default()).await;
    let price = r#"{"brand": "tea", "product": "SEJAK", "variants": [{"sku": "SEJAK-50", "price": {"amount": 19000, "currency": "KRW"}}]}"#;
    let imported = import(database, price, Options::default()).await;
    assert_eq!((imported.products, imported.variants, imported.stock), (tally(0, 0, 1), tally(0, 1, 0), 0));
    let rows = read(&Catalogue::of(&database.ledger), &brands(&["tea"]), 100).await;
    let sejak = rows.iter().find(|row| row.key.code.as_str() == "SEJAK").unwrap();
    let sejak = ProductRow::decode(sejak.row.clone().unwrap()).unwrap();
    assert_eq!((sejak.names.len(), sejak.categories.len(), sejak.images.len()), (2, 2, 1));
    assert_eq!(sejak.published_from_micros, Some(1_796_086_800_000_000));
    assert_eq!(sejak.variants.iter().map(|variant| variant.price).collect::<Vec<_>>(), [19_000, 32_000]);
    let units = rows.iter().find(|row| row.key.code.as_str() == "SEJAK-50").unwrap();
    assert_eq!(StockRow::decode(units.row.clone().unwrap()).unwrap().available, 40);
}

pub(crate) async fn an_export_is_imported_without_a_change(database: &Database) {
    import(database, FILE, Options::default()).await;
    let catalogue = Catalogue::of(&database.ledger);
    let before = read(&catalogue, &brands(&["tea"]), 100).await;
    let mut exported = Vec::new();
    let all = catalogue.brands().await.unwrap();
    assert_eq!(catalogue.export(&all, &mut exported, |_| ()).await.unwrap(), 2);
    let noted = database.count(NOTED).await;
    let again = import(database, std::str::from_utf8(&exported).unwrap(), Options::default()).await;
    assert_eq!(again.refused, []);
    assert_eq!((again.products, again.variants, again.stock), (tally(0, 0, 2), tally(0, 0, 3), 0));
    assert_eq!(database.count(NOTED).await, noted);
    assert_eq!(read(&catalogue, &brands(&["tea"]), 100).await, before);
}

pub(crate) async fn a_dry_run_and_a_file_with_a_mistake_where_all_is_wanted_keep_nothing(
    database: &Database,
) {
    let dry = import(database, FILE, Options { dry_run: true, ..Options::default() }).await;
    assert_eq!((dry.products, dry.kept), (tally(2, 0, 0), false));
    let all = Options { all_or_nothing: true, ..Options::default() };
    let refused = import(database, &format!("{FILE}nonsense\n"), all).await;
    assert_eq!((refused.refused.len(), refused.refused[0].line, refused.kept), (1, 5, false));
    assert_eq!(database.count("SELECT count(*) FROM products").await, 0);
    assert_eq!(database.count("SELECT count(*) FROM brands").await, 0);
    assert!(import(database, FILE, all).await.kept);
}

pub(crate) async fn what_the_database_contradicts_is_refused_and_the_rest_imported(database: &Database) {
    import(database, FILE, Options::default()).await;
    // A SKU without a product is adopted, whoever brought it in.
    let stock = "brand,sku,unit_price,currency,quantity\ntea,LOOSE,5,KRW,9\n";
    database.ledger.import_stock(&StockFile::read(stock.as_bytes()).unwrap(), |_| ()).await.unwrap();
    let variant = |sku: &str, currency: &str| {
        format!(r#"{{"sku": "{sku}", "price": {{"amount": 5, "currency": "{currency}"}}}}"#)
    };
    let product = |brand: &str, code: &str, variants: &str| {
        format!("{{\"brand\": \"{brand}\", \"product\": \"{code}\", \"variants\": [{variants}]}}\n")
    };
    let file = [
        product("tea", "OTHER", &[variant("SEJAK-50", "KRW"), variant("LOOSE", "KRW")].join(", ")),
        product("coffee", "BEAN", &variant("BEAN", "KRW")),
    ]
    .concat();
    let imported = import(database, &file, Options::default()).await;
    let refused: Vec<_> = imported.refused.iter().map(|one| (one.line, one.field.as_str())).collect();
    assert_eq!(refused, [(1, "sku")]);
    assert_eq!((imported.brands, imported.products.new, imported.variants), (1, 2, tally(1, 1, 0)));
    let owned = "SELECT count(*) FROM skus WHERE sku = 'LOOSE' AND product = 'OTHER'";
    assert_eq!(database.count(owned).await, 1);
    let imported =
        import(database, &product("coffee", "CUP", &variant("CUP", "USD")), Options::default()).await;
    assert_eq!((imported.refused.len(), imported.products), (1, tally(0, 0, 0)));
}

pub(crate) async fn a_document_keeps_every_digit_on_its_way_in_and_out(database: &Database) {
    const NUMBERS: [&str; 2] = ["0.1234567890123456789012", "98765432109876543210987654"];
    let document = format!("{{\"mass\": {}, \"serial\": {}}}", NUMBERS[0], NUMBERS[1]);
    let line = format!("{{\"brand\": \"tea\", \"product\": \"SEJAK\", \"document\": {document}}}\n");
    let imported = import(database, &format!("{FILE}{line}"), Options::default()).await;
    assert_eq!(imported.refused.len(), 1, "the product is in the file twice");
    let imported = import(database, &line, Options::default()).await;
    assert_eq!((imported.refused.len(), imported.products), (0, tally(0, 1, 0)));
    let mut exported = Vec::new();
    Catalogue::of(&database.ledger).export(&brands(&["tea"]), &mut exported, |_| ()).await.unwrap();
    let exported = String::from_utf8(exported).unwrap();
    assert!(NUMBERS.iter().all(|number| exported.contains(number)), "{exported}");
    let again = import(database, &exported, Options::default()).await;
    assert_eq!((again.refused.len(), again.products), (0, tally(0, 0, 2)));
}

pub(crate) async fn a_category_moves_to_the_root_by_null_and_stays_without_a_word(database: &Database) {
    const BELOW: &str = "SELECT count(*) FROM categories WHERE category = 'green' AND parent = 'all'";
    import(database, FILE, Options::default()).await;
    let renamed = "{\"brand\": \"tea\", \"category\": \"green\", \"names\": {\"en\": \"Green\"}}\n";
    assert_eq!(import(database, renamed, Options::default()).await.categories, tally(0, 1, 0));
    assert_eq!(database.count(BELOW).await, 1);
    let moved = "{\"brand\": \"tea\", \"category\": \"green\", \"parent\": null}\n";
    assert_eq!(import(database, moved, Options::default()).await.categories, tally(0, 1, 0));
    assert_eq!(database.count(BELOW).await, 0);
    assert_eq!(import(database, moved, Options::default()).await.categories, tally(0, 0, 1));
}

pub(crate) async fn the_real_catalogue_is_imported_by_its_one_command(database: &Database) {
    let path =
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/online-retail/catalogue.csv"));
    if !path.is_file() {
        eprintln!("skipped: the real catalogue is not on this machine");
        return;
    }
    let bytes = std::fs::read(path).unwrap();
    let mapping = "brand=@retail,currency=@GBP,product=stock_code,name.en=description,price=unit_price_gbp,quantity=units_sold";
    let mapping = Mapping::parse(mapping.split(',')).unwrap();
    let catalogue = Catalogue::of(&database.ledger);
    let file = CatalogueFile::csv(&bytes, &mapping);
    let imported = catalogue.import(file, Options::default(), |_| ()).await.unwrap();

    // The same rows by another way: fields as they stand in the file, prices by moving their point.
    let mut expected = BTreeMap::new();
    let mut refused = 0;
    for row in csv::Reader::from_reader(&bytes[..]).records() {
        let row = row.unwrap();
        let units: Option<i64> = row[4].parse().ok().filter(|units| *units >= 0);
        let (pounds, pence) = row[2].split_once('.').unwrap_or((&row[2], ""));
        match (units, pence.trim_end_matches('0').len()) {
            (Some(units), ..=2) => {
                let price: i64 = format!("{pounds}{:0<2}", &pence[..pence.len().min(2)]).parse().unwrap();
                expected.insert(row[0].to_owned(), (row[1].trim().to_owned(), price, units));
            }
            _ => refused += 1,
        }
    }
    assert_eq!(expected.len() + refused, 3_828);
    assert_eq!((imported.products, imported.refused.len()), (tally(expected.len() as u64, 0, 0), refused));
    let mut served: BTreeMap<String, (String, i64, i64)> = BTreeMap::new();
    for row in read(&catalogue, &brands(&["retail"]), 500).await {
        let code = row.key.code.as_str().to_owned();
        match (row.key.kind, row.row.unwrap()) {
            (EntityKind::Product, row) => {
                let row = ProductRow::decode(row).unwrap();
                let name = row.names.first().map(|name| name.text.clone()).unwrap_or_default();
                served.insert(code, (name, row.variants[0].price, 0));
            }
            (EntityKind::Stock, row) => {
                served.get_mut(&code).unwrap().2 = StockRow::decode(row).unwrap().available;
            }
            _ => {}
        }
    }
    assert_eq!(served, expected);
}

pub(crate) async fn categories_alone_are_imported_and_what_is_of_no_brand_is_refused(database: &Database) {
    import(database, FILE, Options::default()).await;
    let file = concat!(
        "{\"brand\": \"tea\", \"category\": \"black\", \"names\": {\"en\": \"Black\"}}\n",
        "{\"brand\": \"nobody\", \"category\": \"black\"}\n",
        "{\"brand\": \"nobody\", \"product\": \"A\", \"categories\": [\"black\"]}\n",
        "{\"brand\": \"tea\", \"product\": \"GIFT\", \"categories\": [\"black\"]}\n",
    );
    let imported = import(database, file, Options::default()).await;
    let refused: Vec<_> = imported.refused.iter().map(|one| (one.line, one.field.as_str())).collect();
    assert_eq!(refused, [(2, "brand"), (3, "brand")]);
    assert_eq!((imported.categories, imported.products), (tally(1, 0, 0), tally(1, 0, 0)));
}

pub(crate) async fn a_file_that_names_some_variants_leaves_their_places(database: &Database) {
    import(database, FILE, Options::default()).await;
    // As a DBA or an import of stock leaves them: equal places, which stand by their SKU.
    database.run("UPDATE skus SET position = 7", "UPDATE skus SET position = 7").await;
    let noted = database.count(NOTED).await;
    let one = |sku: &str| {
        format!(
            "{{\"brand\": \"tea\", \"product\": \"SEJAK\", \"variants\": [{{\"sku\": \"{sku}\", \"price\": {{\"amount\": {}, \"currency\": \"KRW\"}}}}]}}\n",
            if sku == "SEJAK-50" { 18_000 } else { 32_000 },
        )
    };
    for sku in ["SEJAK-50", "SEJAK-100"] {
        assert_eq!(import(database, &one(sku), Options::default()).await.variants, tally(0, 0, 1));
    }
    assert_eq!(database.count(NOTED).await, noted);
    // The file's order is another one than the table's: then it counts.
    assert_eq!(import(database, FILE, Options::default()).await.variants, tally(0, 2, 1));
}
