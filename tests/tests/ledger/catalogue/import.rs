//! Tests of imports into the tables and exports from them, on either database.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use bridge_idc::catalogue::Catalogue;
use bridge_idc::catalogue::import::mapping::Mapping;
use bridge_idc::catalogue::import::stock::StockFile;
use bridge_idc::catalogue::import::{CatalogueFile, ImportError, Imported, Options, Tally};
use bridge_idc::config::LedgerUrl;
use bridge_idc::import_file::parts::{Progress, WAIT};
use bridge_idc::orders::store::Ledger;
use bridge_protocol::domain::Brand;
use bridge_protocol::domain::catalogue::EntityKind;
use bridge_protocol::wire::catalogue::{ProductRow, StockRow};
use bridge_skips::{Lack, skipped};
use prost::Message as _;

use super::source::{brands, read};
use crate::database::{Database, connect};
use crate::shop::{Shop, answers, batch, is_placed, order_id};

const FILE: &str = r#"{"brand": "tea", "currency": "KRW"}
{"brand": "tea", "category": "green", "parent": "all", "names": {"ko": "녹차"}, "position": 2}
{"brand": "tea", "product": "SEJAK", "names": {"en": "Sejak", "ko": "세작"}, "document": {"origin": "Hadong", "year": 2026}, "images": ["https://img/1.jpg"], "categories": ["green", "all"], "published_from": "2026-12-01T10:00:00+09:00", "variants": [{"sku": "SEJAK-50", "options": {"weight": "50 g"}, "price": {"amount": 18000, "currency": "KRW"}, "quantity": 40}, {"sku": "SEJAK-100", "price": {"amount": 32000, "currency": "KRW"}}]}
{"brand": "tea", "product": "MUG 1/2", "names": {"en": "A mug"}, "variants": [{"sku": "MUG", "price": {"amount": 0, "currency": "KRW"}, "quantity": 3}]}
"#;

/// Counts the logged changes that have no number. No sequencer runs here, so these are all changes.
const NOTED: &str = "SELECT count(*) FROM catalogue_pending";

async fn import(database: &Database, text: &str, options: Options) -> Imported {
    let catalogue = Catalogue::of(&database.ledger);
    let importing = catalogue.import(CatalogueFile::json_lines(text.as_bytes()), options, |_| ());
    // On the heap, because the futures of both databases are large for a test.
    Box::pin(importing).await.unwrap()
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
    assert_eq!(database.count(NOTED).await, noted, "the change log has nothing new");
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

pub(crate) async fn a_dry_run_and_a_faulty_all_or_nothing_file_keep_nothing(database: &Database) {
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
    // An import of the catalogue adopts a SKU without a product, whoever added it.
    let stock = "brand,sku,unit_price,currency,quantity\ntea,LOOSE,5,KRW,9\n";
    database.ledger.import_stock(&StockFile::read(stock.as_bytes()).unwrap(), WAIT, |_| ()).await.unwrap();
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

pub(crate) async fn a_category_moves_to_the_root_by_null_and_otherwise_stays(database: &Database) {
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
        return skipped(Lack::Data, "the real catalogue is not on this machine");
    }
    let bytes = std::fs::read(path).unwrap();
    let mapping = "brand=@retail,currency=@GBP,product=stock_code,name.en=description,price=unit_price_gbp,quantity=units_sold";
    let mapping = Mapping::parse(mapping.split(',')).unwrap();
    let catalogue = Catalogue::of(&database.ledger);
    let file = CatalogueFile::csv(&bytes, &mapping);
    let imported = catalogue.import(file, Options::default(), |_| ()).await.unwrap();

    // Calculates the expected rows independently of the importer: fields as they are in the file,
    // and prices by moving the decimal point.
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
    // A DBA or a stock import may leave equal positions. Such variants are ordered by SKU.
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
    // The file has another order than the table, so the positions change.
    assert_eq!(import(database, FILE, Options::default()).await.variants, tally(0, 2, 1));
}

/// Returns a file of `count` kinds of tea, each with the given price in won and the given units.
fn teas(count: usize, price: i64, units: i64) -> String {
    let line = |n: usize| {
        format!(
            "{{\"brand\": \"tea\", \"product\": \"T{n}\", \"names\": {{\"en\": \"Tea {n}\"}}, \"variants\": [{{\"sku\": \"T{n}\", \
             \"price\": {{\"amount\": {price}, \"currency\": \"KRW\"}}, \"quantity\": {units}}}]}}\n"
        )
    };
    (0..count).map(line).collect()
}

/// Number of products. It is more than two parts of an import.
const TEAS: usize = 2_500;

/// Runs an import in its own thread and runtime, and stops it at each progress report. `meanwhile`
/// runs while the import is stopped.
async fn stopped_at_each_part(
    url: &LedgerUrl,
    import: impl AsyncFnOnce(&Ledger, &mut (dyn FnMut(Progress<'_>) + Send)) + Send + 'static,
    mut meanwhile: impl AsyncFnMut(usize),
) {
    let (stopped, mut stops) = tokio::sync::mpsc::unbounded_channel();
    let (go_on, goes_on) = mpsc::channel();
    let url = url.clone();
    let importer = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ledger = connect(&url).await;
            let mut progress = move |told: Progress<'_>| {
                if let Progress::Done(done) = told {
                    stopped.send(done).unwrap();
                    goes_on.recv().unwrap();
                }
            };
            import(&ledger, &mut progress).await;
        });
    });
    while let Some(done) = stops.recv().await {
        meanwhile(done).await;
        go_on.send(()).unwrap();
    }
    importer.join().unwrap();
}

/// Places an order of the first tea and one of the last at each stop of an import. Returns the
/// number of stops.
async fn orders_go_on(
    database: &Database,
    import: impl AsyncFnOnce(&Ledger, &mut (dyn FnMut(Progress<'_>) + Send)) + Send + 'static,
    price: i64,
    run: &str,
) -> usize {
    let (shop, mut stops) = (Shop { brand: Brand::new("tea").unwrap() }, 0);
    stopped_at_each_part(database.url(), import, async |done: usize| {
        for sku in ["T0", &format!("T{}", TEAS - 1)] {
            let key = format!("{run}-{stops}-{sku}");
            let order = shop.place_at(&key, order_id(), price, "KRW", &[(sku, 1)]);
            // The order is placed at once, since a stopped import holds no row that an order needs.
            let end = database.ledger.commit(&batch(vec![order]), None).await;
            assert!(is_placed(&answers(end)[0]), "after {done}");
        }
        stops += 1;
    })
    .await;
    stops
}

pub(crate) async fn orders_are_committed_while_an_import_stands_in_its_middle(database: &Database) {
    // Prices stay and units change, so each part has stock to lock.
    import(database, &teas(TEAS, 900, 50), Options::default()).await;
    let [dry, all] = [(true, false), (false, true)].map(|(dry_run, all_or_nothing)| Options {
        dry_run,
        all_or_nothing,
        wait: WAIT,
    });
    for (options, units) in [(dry, 60), (all, 70), (Options::default(), 80)] {
        let stops = orders_go_on(
            database,
            async move |ledger, progress| {
                let file = teas(TEAS, 900, units);
                let file = CatalogueFile::json_lines(file.as_bytes());
                let imported = Catalogue::of(ledger).import(file, options, progress).await.unwrap();
                assert_eq!((imported.refused, imported.kept), (vec![], !options.dry_run));
                assert_eq!((imported.variants, imported.stock), (tally(0, 0, TEAS as u64), TEAS as u64));
            },
            900,
            &units.to_string(),
        )
        .await;
        assert_eq!(stops, if options.all_or_nothing { 6 } else { 3 }, "{options:?}");
    }
    let placed = "SELECT count(*) FROM orders";
    assert_eq!(database.count(placed).await, 2 * 12);
    // The dry run before an all-or-nothing import wrote nothing, and units sold during the imports
    // stay sold.
    let shop = Shop { brand: Brand::new("tea").unwrap() };
    assert_eq!(shop.stock(&database.ledger, "T7").await, (80, 0));
}

pub(crate) async fn orders_are_committed_while_an_import_of_stock_stands_in_its_middle(database: &Database) {
    const ROWS: usize = 6_000;
    let csv = |units: i64| {
        let rows = (0..ROWS).map(|n| format!("tea,T{n},900,KRW,{units}\n"));
        std::iter::once("brand,sku,unit_price,currency,quantity\n".to_owned()).chain(rows).collect::<String>()
    };
    crate::shop::import(&database.ledger, &csv(50)).await;
    let file = csv(60);
    let stops = orders_go_on(
        database,
        async move |ledger, progress| {
            let file = StockFile::read(file.as_bytes()).unwrap();
            ledger.import_stock(&file, WAIT, progress).await.unwrap();
        },
        900,
        "stock",
    )
    .await;
    assert_eq!(stops, 3);
    assert_eq!(database.count("SELECT count(*) FROM orders").await, 6);
}

pub(crate) async fn a_dry_run_counts_what_the_import_then_does(database: &Database) {
    let dry_run = Options { dry_run: true, ..Options::default() };
    let another = concat!(
        "{\"brand\": \"tea\", \"category\": \"green\", \"position\": 3}\n",
        "{\"brand\": \"tea\", \"product\": \"SEJAK\", \"names\": {\"en\": \"Sejak!\"}, \"categories\": [\"new\"], \"variants\": [",
        "{\"sku\": \"SEJAK-100\", \"price\": {\"amount\": 32000, \"currency\": \"KRW\"}, \"quantity\": 0},",
        "{\"sku\": \"SEJAK-50\", \"options\": {\"weight\": \"50 g\"}, \"price\": {\"amount\": 1, \"currency\": \"KRW\"}}]}\n",
        "{\"brand\": \"coffee\", \"product\": \"BEAN\", \"variants\": [{\"sku\": \"BEAN\", \"price\": {\"amount\": 5, \"currency\": \"KRW\"}}]}\n",
    );
    for file in [FILE, another, FILE] {
        let judged = import(database, file, dry_run).await;
        let done = import(database, file, Options::default()).await;
        assert_eq!(Imported { kept: true, ..judged }, done);
    }
}

pub(crate) async fn all_or_nothing_is_decided_before_the_first_part_is_written(database: &Database) {
    import(database, FILE, Options::default()).await;
    let noted = database.count(NOTED).await;
    let all = Options { all_or_nothing: true, ..Options::default() };
    // Two mistakes at the file's end that only the database reveals: a SKU of another product, and
    // a product that is hidden before it is published.
    let taken = "{\"brand\": \"tea\", \"product\": \"LAST\", \"variants\": [{\"sku\": \"MUG\", \"price\": {\"amount\": 1, \"currency\": \"KRW\"}}]}\n";
    let hidden =
        "{\"brand\": \"tea\", \"product\": \"SEJAK\", \"published_until\": \"2026-01-01T00:00:00Z\"}\n";
    for (last, field) in [(taken, "sku"), (hidden, "published_until")] {
        let imported = import(database, &format!("{}{last}", teas(TEAS, 900, 1)), all).await;
        let refused: Vec<_> = imported.refused.iter().map(|one| (one.line, one.field.as_str())).collect();
        assert_eq!((refused, imported.kept), (vec![(TEAS as u64 + 1, field)], false));
        assert_eq!(database.count(NOTED).await, noted, "nothing was written");
    }
}

pub(crate) async fn all_or_nothing_reports_its_rows_when_the_database_refuses_later(database: &Database) {
    // A rule of the DBA that the checks of an import cannot foresee.
    database
        .run(
            "ALTER TABLE products ADD CHECK (product <> 'T1500')",
            "CREATE TRIGGER mine BEFORE INSERT ON products WHEN new.product = 'T1500' BEGIN SELECT raise(ABORT, 'no'); END",
        )
        .await;
    let catalogue = Catalogue::of(&database.ledger);
    let all = Options { all_or_nothing: true, ..Options::default() };
    let file = teas(TEAS, 900, 1);
    let error = catalogue.import(CatalogueFile::json_lines(file.as_bytes()), all, |_| ()).await.unwrap_err();
    let ImportError::Changed { refused, .. } = &error else { panic!("{error:?}") };
    assert_eq!((refused.len(), refused[0].line), (1, 1_501));
    assert!(error.to_string().starts_with("1500 of 2500 products are in the database"), "{error}");
    assert_eq!(database.count("SELECT count(*) FROM products").await, 1_500);
    database.run("ALTER TABLE products DROP CONSTRAINT products_product_check1", "DROP TRIGGER mine").await;
    let imported = catalogue.import(CatalogueFile::json_lines(file.as_bytes()), all, |_| ()).await.unwrap();
    assert_eq!((imported.products, imported.kept), (tally(1_000, 0, 1_500), true));
}

pub(crate) async fn a_price_that_changes_a_hundredfold_is_said(database: &Database) {
    let mapping = Mapping::parse("brand=@a,currency=@GBP,product=sku,price=price".split(',')).unwrap();
    let file = CatalogueFile::csv(&b"sku,price\nA,3\nB,3.50\n"[..], &mapping);
    let catalogue = Catalogue::of(&database.ledger);
    let imported = catalogue.import(file, Options::default(), |_| ()).await.unwrap();
    assert_eq!((imported.warned, imported.variants), (vec![], tally(2, 0, 0)));
    // The same prices in a stock file are no doubt. Pence in place of pounds are one.
    let stock = |rows: &str| {
        let file = format!("brand,sku,unit_price,currency,quantity\n{rows}");
        StockFile::read(file.as_bytes()).unwrap()
    };
    let same = stock("a,A,3,GBP,1\na,B,3.50,GBP,1\n");
    assert_eq!(database.ledger.doubts(&same, WAIT, |_| ()).await.unwrap(), []);
    database.ledger.import_stock(&same, WAIT, |_| ()).await.unwrap();
    assert_eq!(database.count("SELECT CAST(sum(price) AS bigint) FROM skus").await, 650);
    let pence =
        database.ledger.doubts(&stock("a,A,300,GBP,1\na,B,3.80,GBP,1\n"), WAIT, |_| ()).await.unwrap();
    assert_eq!(
        pence.iter().map(|one| (one.line, one.field.as_str())).collect::<Vec<_>>(),
        [(2, "unit_price")]
    );
    let file = CatalogueFile::csv(&b"sku,price\nA,300\nB,3.80\n"[..], &mapping);
    let dry_run = Options { dry_run: true, ..Options::default() };
    let warned = catalogue.import(file, dry_run, |_| ()).await.unwrap().warned;
    assert_eq!(warned.iter().map(|one| (one.line, one.field.as_str())).collect::<Vec<_>>(), [(2, "price")]);
}

pub(crate) async fn a_file_that_is_refused_whole_leaves_the_database_alone(database: &Database) {
    let mapping = Mapping::parse(
        "brand=@a,currency=@KRW,product=product,sku=sku,price=price,quantity=units,name.ko=text".split(','),
    );
    let (mapping, header) = (mapping.unwrap(), "product,sku,price,units,text\n");
    let cp949 = [header.as_bytes(), b"K1,K1-A,18000,10,\xbc\xbc\xc0\xdb\nK4,K4-A,7000,5,Cup\n"].concat();
    let cut = format!("{header}P1,P1-A,18000,10,Tea\nP2,P2-A,9900,5,Cu");
    for bytes in [&cp949[..], cut.as_bytes()] {
        let file = CatalogueFile::csv(bytes, &mapping);
        let imported =
            Catalogue::of(&database.ledger).import(file, Options::default(), |_| ()).await.unwrap();
        assert_eq!((imported.refused.len(), imported.kept), (1, false));
    }
    let cut_json = &FILE.as_bytes()[..FILE.len() - 9];
    let imported = import(database, std::str::from_utf8(cut_json).unwrap(), Options::default()).await;
    assert_eq!((imported.refused.len(), imported.kept), (1, false));
    assert_eq!(database.count("SELECT count(*) FROM brands").await, 0);
    let whole = CatalogueFile::csv(bridge_idc::import_file::GivenFile::whole(cut.as_bytes()), &mapping);
    let imported = Catalogue::of(&database.ledger).import(whole, Options::default(), |_| ()).await.unwrap();
    assert_eq!((imported.refused, imported.products), (vec![], tally(2, 0, 0)));
}
