//! Several writers change the catalogue at random by plain SQL while it is served. When they are
//! done, the served rows must equal the database, row by row.
//!
//! Each run lasts ten seconds a database. `BRIDGE_SOAK_SECONDS=600` makes it ten minutes. A failed
//! run prints the seed that repeats its statements (`BRIDGE_SOAK_SEED`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use crate::common::{metric, postgres, until};
use anyhow::{Context, Result, ensure};
use bridge_tests::testkit::database::Database;
use bridge_tests::testkit::dba::Dba;
use bridge_tests::testkit::http::Client;
use bridge_tests::testkit::process::Programs;
use bridge_tests::testkit::site::Site;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

const WRITERS: u64 = 4;
const PRODUCTS: u64 = 150;
const CATEGORIES: u64 = 12;

/// Returns a number from an environment variable, or the default.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Returns one random statement. Codes come from small sets, so the writers often change the same
/// rows.
fn statement(dice: &mut ChaCha8Rng) -> String {
    let product = format!("P{}", dice.random_range(0..PRODUCTS));
    let sku = format!("{product}-{}", dice.random_range(0..2));
    let category = format!("c{}", dice.random_range(0..CATEGORIES));
    let amount = dice.random_range(0..100_000);
    let where_product = format!("brand = 'tea' AND product = '{product}'");
    match dice.random_range(0..12) {
        0..=2 => format!("UPDATE skus SET price = {amount} WHERE brand = 'tea' AND sku = '{sku}'"),
        3..=5 => format!(
            "UPDATE stock SET available = {amount}, initial = {amount} + sold
             WHERE sku_id = (SELECT sku_id FROM skus WHERE brand = 'tea' AND sku = '{sku}')"
        ),
        6 => format!("UPDATE products SET names = '{{\"en\": \"Name {amount}\"}}' WHERE {where_product}"),
        7 => format!(
            "INSERT INTO products (brand, product, names) VALUES ('tea', '{product}', '{{\"en\": \"New {amount}\"}}')
             ON CONFLICT (brand, product) DO NOTHING"
        ),
        8 => format!("DELETE FROM products WHERE {where_product}"),
        9 => format!(
            "UPDATE skus SET product = (SELECT max(product) FROM products WHERE {where_product})
             WHERE brand = 'tea' AND sku = '{sku}'"
        ),
        10 => format!(
            "INSERT INTO product_categories (brand, product, category)
             SELECT brand, product, '{category}' FROM products WHERE {where_product}
             ON CONFLICT DO NOTHING"
        ),
        _ => format!("DELETE FROM product_categories WHERE {where_product} AND category = '{category}'"),
    }
}

/// Runs transactions of one to four statements until the time is over. A tenth of them is rolled
/// back. Returns the number of commits.
async fn write(database: Database, seed: u64, until: Instant) -> Result<u64> {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let mut dba = Dba::connect(&database).await?;
    let mut committed = 0;
    let begin = if matches!(database, Database::Sqlite(_)) { "BEGIN IMMEDIATE" } else { "BEGIN" };
    while Instant::now() < until {
        dba.execute(begin).await?;
        let mut failed = false;
        for _ in 0..dice.random_range(1..=4) {
            // Two writers may deadlock, and one of them loses its transaction.
            failed |= dba.execute(&statement(&mut dice)).await.is_err();
            if failed {
                break;
            }
        }
        let rolls_back = dice.random_ratio(1, 10) || failed;
        dba.execute(if rolls_back { "ROLLBACK" } else { "COMMIT" }).await?;
        committed += u64::from(!rolls_back);
    }
    dba.close().await?;
    Ok(committed)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Product {
    name: String,
    categories: BTreeSet<String>,
    prices: BTreeMap<String, i64>,
}

/// The content of a shop: products with names, categories and prices, and the units of each SKU.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shown {
    products: BTreeMap<String, Product>,
    stock: BTreeMap<String, i64>,
}

impl Shown {
    async fn by_the_database(database: &Database) -> Result<Shown> {
        let mut dba = Dba::connect(database).await?;
        let mut shown = Shown::default();
        for (product, names) in
            dba.pairs("SELECT product, CAST(names AS text) FROM products WHERE brand = 'tea'").await?
        {
            let names: Value = serde_json::from_str(&names)?;
            let name = names["en"].as_str().unwrap_or_default().to_owned();
            shown.products.insert(product, Product { name, ..Product::default() });
        }
        for (product, category) in
            dba.pairs("SELECT product, category FROM product_categories WHERE brand = 'tea'").await?
        {
            shown
                .products
                .get_mut(&product)
                .context("the category has no product")?
                .categories
                .insert(category);
        }
        let prices = "SELECT product, sku || ' ' || CAST(price AS text) FROM skus
            WHERE brand = 'tea' AND product IS NOT NULL";
        for (product, sold) in dba.pairs(prices).await? {
            let (sku, price) = sold.rsplit_once(' ').context("no SKU and price")?;
            // A SKU remains after its product is deleted, since orders name it, but it is not
            // served.
            if let Some(product) = shown.products.get_mut(&product) {
                product.prices.insert(sku.to_owned(), price.parse()?);
            }
        }
        let units =
            "SELECT sku, CAST(available AS text) FROM stock JOIN skus USING (sku_id) WHERE brand = 'tea'";
        for (sku, units) in dba.pairs(units).await? {
            shown.stock.insert(sku, units.parse()?);
        }
        dba.close().await?;
        Ok(shown)
    }

    async fn by_the_storefront(site: &Site) -> Result<Shown> {
        let mut client = Client::new(site.storefront);
        let mut shown = Shown::default();
        let mut cursor = String::new();
        loop {
            let page = client.get(&format!("/v1/tea/products?limit=7&sort=name{cursor}"), None).await?.json();
            for item in page["items"].as_array().context("no items")? {
                let code = item["product"].as_str().context("no code")?;
                let product = client.get(&format!("/v1/tea/products/{code}"), None).await?.json();
                let name = product["names"]["en"].as_str().unwrap_or_default().to_owned();
                let categories = product["categories"].as_array().context("no categories")?;
                let categories = categories.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                let mut prices = BTreeMap::new();
                for variant in product["variants"].as_array().context("no variants")? {
                    let price = variant["price"]["amount"].as_i64().context("no price")?;
                    prices.insert(variant["sku"].as_str().context("no SKU")?.to_owned(), price);
                }
                ensure!(
                    shown.products.insert(code.to_owned(), Product { name, categories, prices }).is_none(),
                    "{code} twice"
                );
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        for product in 0..PRODUCTS {
            let path = format!("/v1/tea/stock?sku=P{product}-0,P{product}-1");
            for item in client.get(&path, None).await?.json()["items"].as_array().context("no items")? {
                let units = item["available"].as_i64().context("no units")?;
                shown.stock.insert(item["sku"].as_str().context("no SKU")?.to_owned(), units);
            }
        }
        Ok(shown)
    }
}

async fn random_writers(database: Database, dir: &Path) -> Result<()> {
    let seed = setting("BRIDGE_SOAK_SEED", rand::random::<u32>().into());
    let repeat = format!("repeat the statements with BRIDGE_SOAK_SEED={seed}");
    let site = Site::prepare(dir, Programs::build()?, database, &[("tea", "KRW")], 1).await?;
    let mut dba = Dba::connect(site.database()).await?;
    let mut setup = "BEGIN; INSERT INTO brands (brand, currency) VALUES ('tea', 'KRW');".to_owned();
    for category in 0..CATEGORIES {
        setup += &format!(
            "INSERT INTO categories (brand, category, names) VALUES ('tea', 'c{category}', '{{}}');"
        );
    }
    for product in 0..PRODUCTS {
        setup += &format!(
            "INSERT INTO products (brand, product, names) VALUES ('tea', 'P{product}', '{{\"en\": \"First\"}}');
             INSERT INTO skus (brand, sku, price, product) VALUES ('tea', 'P{product}-0', 1, 'P{product}'), ('tea', 'P{product}-1', 2, 'P{product}');"
        );
    }
    setup += "INSERT INTO stock (sku_id, initial, available, sold) SELECT sku_id, 5, 5, 0 FROM skus; COMMIT;";
    dba.execute(&setup).await?;

    let bridge = site.start().await?;
    let end = Instant::now() + Duration::from_secs(setting("BRIDGE_SOAK_SECONDS", 10));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(site.database().clone(), seed.wrapping_add(writer), end));
    }
    let committed: u64 = writers.join_all().await.into_iter().sum::<Result<u64>>().context(repeat.clone())?;
    ensure!(committed > 20, "only {committed} transactions");

    // The last row is written after everything else. Once it is served, all earlier changes are.
    dba.execute("INSERT INTO products (brand, product, names) VALUES ('tea', 'LAST', '{\"en\": \"Last\"}')")
        .await?;
    let mut client = Client::new(site.storefront);
    until("the last row is served", async || {
        Ok(client.get("/v1/tea/products/LAST", None).await?.status == 200)
    })
    .await?;
    let (expected, served) =
        (Shown::by_the_database(site.database()).await?, Shown::by_the_storefront(&site).await?);
    ensure!(served.products.len() > 50, "too few products are left to compare");
    for (code, product) in &expected.products {
        ensure!(
            served.products.get(code) == Some(product),
            "{code}: {product:?}, served {:?}; {repeat}",
            served.products.get(code)
        );
    }
    ensure!(served == expected, "the served rows differ from the database; {repeat}");
    let metrics = bridge.cloud.metrics().await?;
    ensure!(metric(&metrics, "bridge_catalogue_drifted_total")? == 0, "the replica drifted; {repeat}");
    ensure!(
        metric(&metrics, "bridge_catalogue_bootstraps_total")? == 1,
        "the replica started anew; {repeat}"
    );
    dba.close().await
}

#[tokio::test]
async fn after_random_changes_by_several_writers_the_replica_holds_what_sqlite_does() -> Result<()> {
    let dir = tempfile::tempdir()?;
    random_writers(Database::Sqlite(dir.path().join("idc").join("ledger.db")), dir.path()).await
}

#[tokio::test]
async fn after_random_changes_by_several_writers_the_replica_holds_what_postgresql_does() -> Result<()> {
    let (_cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    random_writers(database, dir.path()).await
}
