//! Tests imports that meet a held row. The import writes all other rows, delays no order of them,
//! and reports the row that it waits for.

use std::time::Duration;

use bridge_idc::catalogue::Catalogue;
use bridge_idc::catalogue::import::stock::{self, StockFile};
use bridge_idc::catalogue::import::{CatalogueFile, ImportError, Options};
use bridge_idc::config::LedgerUrl;
use bridge_idc::import_file::parts::{Progress, WAIT};
use bridge_protocol::domain::Brand;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use crate::database::{Database, postgres, sqlite};
use crate::held::until_one_waits;
use crate::shop::{Shop, answers, batch, is_placed, order_id};

/// Upper limit of each wait. A condition normally ends the wait long before.
const PATIENCE: Duration = Duration::from_secs(60);

/// Number of rows of each brand.
const ROWS: usize = 10;

/// Opens a DBA's session that has run `sql` in a transaction and has not ended the transaction.
async fn shell(database: &Database, sql: &str) -> PgConnection {
    let LedgerUrl::Postgres(url) = database.url() else { unreachable!() };
    let mut connection = PgConnection::connect(url).await.unwrap();
    let sql = format!("SET application_name = 'dba-shell'; BEGIN; {sql}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection
}

/// Locks the stock of the last SKU of brand b.
const HELD: &str = "SELECT s.* FROM stock s JOIN skus k USING (sku_id) WHERE k.sku = 'B9' FOR UPDATE OF s";

/// Returns a file with rows of two brands. It is small enough for one part of the import.
fn stock_file(units: i64) -> StockFile {
    let row = |n| format!("a,A{n},900,KRW,{units}\nb,B{n},900,KRW,{units}\n");
    let header = "brand,sku,unit_price,currency,quantity\n".to_owned();
    StockFile::read([header].into_iter().chain((0..ROWS).map(row)).collect::<String>().as_bytes()).unwrap()
}

fn catalogue_file(units: i64) -> CatalogueFile {
    let line = |brand: &str, code: &str| {
        format!(
            "{{\"brand\": \"{brand}\", \"product\": \"P-{code}\", \"names\": {{\"en\": \"{units}\"}}, \"variants\": [{{\"sku\": \"{code}\", \
             \"price\": {{\"amount\": 900, \"currency\": \"KRW\"}}, \"quantity\": {units}}}]}}\n"
        )
    };
    let lines = |n| [line("a", &format!("A{n}")), line("b", &format!("B{n}"))].concat();
    CatalogueFile::json_lines((0..ROWS).map(lines).collect::<String>().as_bytes())
}

/// Returns a progress callback, and a channel with what the import waits for.
fn listener() -> (impl FnMut(Progress<'_>) + Send, UnboundedReceiver<String>) {
    let (told, waits) = unbounded_channel();
    let progress = move |progress: Progress<'_>| {
        if let Progress::Waits(held_up) = progress {
            told.send(held_up.to_string()).unwrap();
        }
    };
    (progress, waits)
}

async fn next(waits: &mut UnboundedReceiver<String>) -> String {
    timeout(PATIENCE, waits.recv())
        .await
        .expect("the import waits for nothing")
        .expect("the import has ended")
}

/// Checks that orders of the other rows are placed at once, at the price and from the stock of the
/// file.
async fn orders_of_the_rest_are_placed(database: &Database, key: &str) {
    for (brand, sku) in [("a", "A0"), ("b", "B0")] {
        let shop = Shop { brand: Brand::new(brand).unwrap() };
        let order = shop.place_at(&format!("{key}-{sku}"), order_id(), 900, "KRW", &[(sku, 6)]);
        // This commit waits for nothing: a request that meets a held row would be set apart.
        let end = database.ledger.commit(&batch(vec![order]), None).await;
        assert!(is_placed(&answers(end)[0]), "{sku}");
    }
}

#[tokio::test]
async fn a_stock_import_waits_for_a_held_row_only_and_names_it() {
    let database = postgres("stock_waits_alone").await;
    let ledger = &database.ledger;
    ledger.import_stock(&stock_file(5), WAIT, |_| ()).await.unwrap();
    for held in [HELD, "UPDATE skus SET price = 800 WHERE sku = 'B9'"] {
        database.run("UPDATE skus SET price = 850 WHERE sku = 'B9'", "").await;
        let holder = shell(&database, held).await;
        let importer = database.second_agent().await;
        let (progress, mut waits) = listener();
        let file = stock_file(20);
        let import = importer.import_stock(&file, WAIT, progress);
        let meanwhile = async {
            let told = next(&mut waits).await;
            assert!(
                told.starts_with("line 21: somebody else holds the SKU B9 of brand b, or its stock"),
                "{told}"
            );
            assert!(told.contains("process ") && told.ends_with("program dba-shell)"), "{told}");
            orders_of_the_rest_are_placed(&database, held).await;
            holder.close().await.unwrap();
        };
        let (imported, ()) = tokio::join!(import, meanwhile);
        let imported = imported.unwrap();
        assert_eq!((imported.skus_new, imported.skus_updated), (0, 2 * ROWS as u64));
        assert!(waits.recv().await.is_none(), "each wait is reported once");
        let b = Shop { brand: Brand::new("b").unwrap() };
        assert_eq!(b.stock(ledger, "B9").await.0, 20);
        assert_eq!(database.count("SELECT count(*) FROM skus WHERE price = 900").await, 2 * ROWS as i64);
    }
}

#[tokio::test]
async fn a_catalogue_import_waits_for_held_rows_only_and_names_them() {
    let database = postgres("catalogue_waits_alone").await;
    let catalogue = Catalogue::of(&database.ledger);
    let first = catalogue.import(catalogue_file(5), Options::default(), |_| ()).await.unwrap();
    assert_eq!((first.products.new, first.stock), (2 * ROWS as u64, 2 * ROWS as u64));
    let product = "UPDATE products SET names = '{}' WHERE product = 'P-B9'";
    for (units, held, named) in [
        (20, HELD, "line 20: somebody else holds the SKU B9 of brand b, or its stock"),
        (30, product, "line 20: somebody else holds the product P-B9 of brand b"),
    ] {
        let holder = shell(&database, held).await;
        let second = database.second_agent().await;
        let importer = Catalogue::of(&second);
        let (progress, mut waits) = listener();
        let import = importer.import(catalogue_file(units), Options::default(), progress);
        let meanwhile = async {
            let told = next(&mut waits).await;
            assert!(told.starts_with(named) && told.ends_with("program dba-shell)"), "{told}");
            orders_of_the_rest_are_placed(&database, named).await;
            holder.close().await.unwrap();
        };
        let (imported, ()) = tokio::join!(import, meanwhile);
        let imported = imported.unwrap();
        assert_eq!((imported.refused, imported.warned), (vec![], vec![]));
        assert_eq!((imported.products.changed, imported.stock), (2 * ROWS as u64, 2 * ROWS as u64));
        let b = Shop { brand: Brand::new("b").unwrap() };
        assert_eq!(b.stock(&database.ledger, "B9").await.0, units);
    }
}

#[tokio::test]
async fn an_import_that_waited_in_vain_names_the_holder_keeping_the_rest() {
    let database = postgres("waits_in_vain").await;
    let ledger = &database.ledger;
    ledger.import_stock(&stock_file(5), WAIT, |_| ()).await.unwrap();
    let holder = shell(&database, HELD).await;
    let error = ledger.import_stock(&stock_file(20), Duration::ZERO, |_| ()).await.unwrap_err();
    let stock::ImportError::HeldUp { held_up, rows: 1, .. } = &error else { panic!("{error:?}") };
    assert_eq!(held_up.line, 21);
    let said = error.to_string();
    for part in
        ["line 21: somebody else holds the SKU B9", "program dba-shell", "19 of 20 rows are in the database"]
    {
        assert!(said.contains(part), "{said}");
    }
    let all = Options { all_or_nothing: true, wait: Duration::ZERO, ..Options::default() };
    let catalogue = Catalogue::of(ledger);
    let error = catalogue.import(catalogue_file(30), all, |_| ()).await.unwrap_err();
    let ImportError::HeldUp { products: 1, .. } = &error else { panic!("{error:?}") };
    let said = error.to_string();
    assert!(
        said.starts_with("line 20: ") && said.contains("19 of 20 products are in the database"),
        "{said}"
    );
    holder.close().await.unwrap();
    assert_eq!(catalogue.import(catalogue_file(30), all, |_| ()).await.unwrap().products.unchanged, 19);
}

/// Row locks cannot show a row whose insert is not committed, so the import cannot skip it in
/// advance.
#[tokio::test]
async fn what_cannot_be_named_is_found_and_keeps_nothing_else_out() {
    let database = postgres("unnamed").await;
    let ledger = &database.ledger;
    let brands = "brand,sku,unit_price,currency,quantity\na,OLD,1,KRW,1\nb,OLD,1,KRW,1\n";
    let brands = StockFile::read(brands.as_bytes()).unwrap();
    ledger.import_stock(&brands, WAIT, |_| ()).await.unwrap();
    let adds = "INSERT INTO skus (brand, sku, price) VALUES ('b', 'B9', 1); INSERT INTO products (brand, product, names) VALUES ('b', 'P-B8', '{}')";
    let holder = shell(&database, adds).await;
    let error = ledger.import_stock(&stock_file(20), Duration::ZERO, |_| ()).await.unwrap_err();
    let stock::ImportError::HeldUp { held_up, rows: 1, written: 19, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(held_up.line, 21);
    let in_vain = Options { wait: Duration::ZERO, ..Options::default() };
    let catalogue = Catalogue::of(ledger);
    let error = catalogue.import(catalogue_file(20), in_vain, |_| ()).await.unwrap_err();
    let ImportError::HeldUp { held_up, products: 1, .. } = &error else { panic!("{error:?}") };
    assert!([18, 20].contains(&held_up.line), "{error}");
    holder.close().await.unwrap();
    ledger.import_stock(&stock_file(20), Duration::ZERO, |_| ()).await.unwrap();
    catalogue.import(catalogue_file(20), in_vain, |_| ()).await.unwrap();
    orders_of_the_rest_are_placed(&database, "unnamed").await;
}

/// Lock modes of whole tables, as maintenance uses them.
const LOCKED: [(&str, &str); 4] = [
    ("skus", "ACCESS EXCLUSIVE"),
    ("brands", "SHARE ROW EXCLUSIVE"),
    ("stock", "EXCLUSIVE"),
    ("catalogue_pending", "SHARE"),
];

#[tokio::test]
async fn an_import_waits_for_a_locked_table_and_names_it() {
    let database = postgres("whole_tables").await;
    let ledger = &database.ledger;
    ledger.import_stock(&stock_file(5), WAIT, |_| ()).await.unwrap();
    Catalogue::of(ledger).import(catalogue_file(5), Options::default(), |_| ()).await.unwrap();
    for (units, (table, mode)) in (10..).step_by(2).zip(LOCKED) {
        for is_catalogue in [false, true] {
            let holder = shell(&database, &format!("LOCK TABLE {table} IN {mode} MODE")).await;
            let importer = database.second_agent().await;
            let (mut progress, mut waits) = listener();
            let import = async {
                if is_catalogue {
                    let importer = Catalogue::of(&importer);
                    importer.import(catalogue_file(units + 1), Options::default(), progress).await.unwrap();
                } else {
                    let file = stock_file(units);
                    importer.doubts(&file, WAIT, &mut progress).await.unwrap();
                    importer.import_stock(&file, WAIT, progress).await.unwrap();
                }
            };
            let meanwhile = async {
                let told = next(&mut waits).await;
                let named = format!("somebody else holds the table {table} as a whole (process ");
                assert!(told.starts_with(&named) && told.ends_with("program dba-shell)"), "{told}");
                holder.close().await.unwrap();
            };
            tokio::join!(import, meanwhile);
            assert!(waits.recv().await.is_none(), "each wait is reported once");
            let b = Shop { brand: Brand::new("b").unwrap() };
            assert_eq!(b.stock(ledger, "B9").await.0, units + i64::from(is_catalogue), "{table}");
        }
    }
}

#[tokio::test]
async fn an_import_that_waited_in_vain_names_the_locked_table_and_holder() {
    let database = postgres("whole_table_in_vain").await;
    let ledger = &database.ledger;
    ledger.import_stock(&stock_file(5), WAIT, |_| ()).await.unwrap();
    let catalogue = Catalogue::of(ledger);
    for (table, mode) in LOCKED {
        let holder = shell(&database, &format!("LOCK TABLE {table} IN {mode} MODE")).await;
        let file = stock_file(20);
        let stock = async {
            ledger.doubts(&file, Duration::ZERO, |_| ()).await?;
            ledger.import_stock(&file, Duration::ZERO, |_| ()).await
        };
        let options = Options { wait: Duration::ZERO, ..Options::default() };
        let (stock, catalogue) = tokio::join!(stock, catalogue.import(catalogue_file(20), options, |_| ()));
        for said in [stock.unwrap_err().to_string(), catalogue.unwrap_err().to_string()] {
            let named = format!("somebody else holds the table {table} as a whole (process ");
            assert!(said.starts_with(&named) && said.contains("program dba-shell), and kept it"), "{said}");
        }
        // A dry run reports the same.
        let dry = Options { dry_run: true, ..options };
        let looked = Catalogue::of(ledger).import(catalogue_file(20), dry, |_| ()).await;
        assert_eq!(looked.is_err(), table == "skus", "{table}");
        holder.close().await.unwrap();
    }
}

/// A session reads a table for a long time, and maintenance waits to lock that table. All later
/// sessions then wait as well.
#[tokio::test]
async fn an_import_behind_a_lock_that_waits_itself_names_the_table() {
    let database = postgres("whole_table_to_be").await;
    let ledger = &database.ledger;
    ledger.import_stock(&stock_file(5), WAIT, |_| ()).await.unwrap();
    let reader = shell(&database, "SELECT FROM skus").await;
    let lock = shell(&database, "LOCK TABLE skus IN ACCESS EXCLUSIVE MODE");
    let import = async {
        until_one_waits(&database).await;
        let ended = ledger.import_stock(&stock_file(20), Duration::ZERO, |_| ()).await;
        reader.close().await.unwrap();
        ended.unwrap_err().to_string()
    };
    let (holder, said) = tokio::join!(lock, import);
    let named = "somebody else holds the table skus as a whole (process ";
    assert!(said.starts_with(named) && said.contains("program dba-shell), and kept it"), "{said}");
    holder.close().await.unwrap();
}

#[tokio::test]
async fn an_import_with_a_short_wait_waits_shortly_for_an_sqlite_file() {
    let database = sqlite().await;
    let LedgerUrl::Sqlite(path) = database.url() else { unreachable!() };
    let mut shell = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut shell).await.unwrap();
    for is_catalogue in [false, true] {
        let other = database.second_agent().await;
        let brief = Duration::from_millis(10);
        let import = async {
            if is_catalogue {
                let options = Options { wait: brief, ..Options::default() };
                let catalogue = Catalogue::of(&database.ledger);
                catalogue.import(catalogue_file(20), options, |_| ()).await.unwrap_err().to_string()
            } else {
                database.ledger.import_stock(&stock_file(20), brief, |_| ()).await.unwrap_err().to_string()
            }
        };
        let patient = async {
            // A write of an agent, which waits as long as the file may be locked.
            let place = Shop { brand: Brand::new("a").unwrap() };
            let order = place.place_at("patient", order_id(), 900, "KRW", &[("A0", 1)]);
            other.commit(&batch(vec![order]), None).await
        };
        tokio::select! {
            biased;
            said = import => assert!(said.contains("holds the ledger's SQLite file"), "{said}"),
            _ = patient => panic!("the import waits as long as an order may"),
        }
    }
}

#[tokio::test]
async fn an_import_waits_for_whoever_holds_an_sqlite_file_and_says_so() {
    let database = sqlite().await;
    let ledger = &database.ledger;
    let LedgerUrl::Sqlite(path) = database.url() else { unreachable!() };
    for is_catalogue in [false, true] {
        let mut shell = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut shell).await.unwrap();
        let (progress, mut waits) = listener();
        let import = async {
            if is_catalogue {
                let catalogue = Catalogue::of(ledger);
                catalogue.import(catalogue_file(20), Options::default(), progress).await.unwrap();
            } else {
                ledger.import_stock(&stock_file(20), WAIT, progress).await.unwrap();
            }
        };
        let meanwhile = async {
            assert_eq!(next(&mut waits).await, "somebody else holds the ledger's SQLite file");
            sqlx::raw_sql("COMMIT").execute(&mut shell).await.unwrap();
        };
        tokio::join!(import, meanwhile);
        orders_of_the_rest_are_placed(&database, if is_catalogue { "catalogue" } else { "stock" }).await;
    }
}
