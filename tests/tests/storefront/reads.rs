//! Tests of the catalogue's whole way, from a row in the IDC's database to an answer of the
//! storefront, also when a part of that way fails.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use crate::common::{Shop, configure, judged, postgres, until};
use anyhow::{Context, Result, ensure};
use bridge_skips::{Lack, skipped};
use bridge_tests::testkit::database::Database;
use bridge_tests::testkit::dba::Dba;
use bridge_tests::testkit::http::{Client, HttpAnswer};
use bridge_tests::testkit::process::Programs;
use bridge_tests::testkit::site::Site;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::time::sleep;

/// Returns the catalogue of `tea`: two products in two categories, one of them with two sizes.
fn catalogue() -> String {
    let price = |amount: i64| json!({"amount": amount, "currency": "KRW"});
    let lines = [
        json!({"brand": "tea", "currency": "KRW"}),
        json!({"brand": "tea", "category": "all", "names": {"en": "All", "ko": "전체"}}),
        json!({"brand": "tea", "category": "green", "parent": "all", "names": {"en": "Green", "ko": "녹차"}}),
        json!({"brand": "tea", "product": "SEJAK", "names": {"en": "Sejak", "ko": "세작"},
            "descriptions": {"ko": "곡우에 딴 잎"}, "categories": ["green"], "images": ["https://img.example/sejak.jpg"],
            "document": {"origin": "Hadong", "story": "first flush ".repeat(60)},
            "variants": [
                {"sku": "SEJAK-50", "options": {"weight": "50 g"}, "price": price(18_000), "quantity": 40},
                {"sku": "SEJAK-100", "options": {"weight": "100 g"}, "price": price(32_000), "quantity": 7}]}),
        json!({"brand": "tea", "product": "MUG 1/2", "names": {"en": "A mug"}, "categories": ["all"],
            "variants": [{"sku": "MUG", "price": price(9_000), "quantity": 3}]}),
    ];
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Sets up a bridge with the catalogue of brand `tea`, without starting it.
async fn tea(dir: &Path, database: Database) -> Result<Site> {
    let site = Site::prepare(dir, Programs::build()?, database, &[("tea", "KRW")], 1).await?;
    let file = site.idc_dir().join("tea.jsonl");
    fs::write(&file, catalogue())?;
    site.idc_command(&["catalogue", "import", &file.display().to_string()])
        .await
        .context("import the catalogue")?;
    Ok(site)
}

fn sqlite(dir: &Path) -> Database {
    Database::Sqlite(dir.join("idc").join("ledger.db"))
}

async fn get(site: &Site, path: &str) -> Result<HttpAnswer> {
    let answer = Client::new(site.storefront).get(path, None).await?;
    judged(site.storefront, Method::GET, path, answer).await
}

async fn get_with(site: &Site, path: &str, headers: &[(&str, &str)]) -> Result<HttpAnswer> {
    let mut request = Request::get(path).header("host", "bridge");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = Client::new(site.storefront).send(request.body(Full::new(Bytes::new()))?).await?;
    // The check against the document cannot read a compressed body.
    if answer.header("content-encoding").is_some() {
        return Ok(answer);
    }
    judged(site.storefront, Method::GET, path, answer).await
}

/// Reads a path. Returns the JSON of a 200 answer, and fails for other answers.
async fn read(site: &Site, path: &str) -> Result<Value> {
    let answer = get(site, path).await?;
    ensure!(answer.status == 200, "{path} is answered {}: {}", answer.status, answer.json());
    Ok(answer.json())
}

/// Waits until the first product is served in any version.
async fn served(site: &Site) -> Result<()> {
    until("the catalogue is served", async || {
        Ok(get(site, "/v1/tea/products/SEJAK").await.is_ok_and(|answer| answer.status == 200))
    })
    .await
}

async fn stock(site: &Site, sku: &str) -> Result<i64> {
    let body = read(site, &format!("/v1/tea/stock?sku={sku}")).await?;
    body["items"][0]["available"].as_i64().with_context(|| format!("no stock of {sku} in {body}"))
}

async fn price(site: &Site) -> Result<i64> {
    let product = read(site, "/v1/tea/products/SEJAK").await?;
    product["variants"][0]["price"]["amount"].as_i64().with_context(|| format!("no price in {product}"))
}

fn number(answer: &HttpAnswer, header: &str) -> Result<u64> {
    let value = answer.header(header).with_context(|| format!("no {header} in {:?}", answer.headers))?;
    Ok(value.parse()?)
}

const NEW_PRICE: &str = "UPDATE skus SET price = 19500 WHERE brand = 'tea' AND sku = 'SEJAK-50'";

/// Checks each form of the answer for a row.
async fn rows_are_answers(database: Database, dir: &Path) -> Result<()> {
    let site = tea(dir, database).await?;
    let _bridge = site.start().await?;
    served(&site).await?;

    let product = read(&site, "/v1/tea/products/SEJAK").await?;
    ensure!(product["names"] == json!({"en": "Sejak", "ko": "세작"}), "{product}");
    ensure!(product["descriptions"] == json!({"ko": "곡우에 딴 잎"}), "{product}");
    ensure!(
        product["document"]["origin"] == "Hadong" && product["categories"] == json!(["green"]),
        "{product}"
    );
    ensure!(product["images"] == json!(["https://img.example/sejak.jpg"]), "{product}");
    let variants = product["variants"].as_array().context("no variants")?;
    let by_sku =
        |sku: &str| variants.iter().find(|variant| variant["sku"] == sku).cloned().unwrap_or_default();
    ensure!(by_sku("SEJAK-100")["price"] == json!({"amount": 32_000, "currency": "KRW"}), "{product}");
    ensure!(by_sku("SEJAK-50")["options"] == json!({"weight": "50 g"}), "{product}");
    ensure!(read(&site, "/v1/tea/products/MUG%201%2F2").await?["product"] == "MUG 1/2");

    let batch = read(&site, "/v1/tea/products?product=SEJAK,NONE,MUG%201%2F2").await?;
    ensure!(
        batch["items"].as_array().map(Vec::len) == Some(2) && batch["missing"] == json!(["NONE"]),
        "{batch}"
    );
    let list = read(&site, "/v1/tea/products?category=all&sort=price&limit=1").await?;
    ensure!(list["items"][0]["product"] == "MUG 1/2", "{list}");
    let cursor = list["next_cursor"].as_str().context("no second page")?;
    let rest =
        read(&site, &format!("/v1/tea/products?category=all&sort=price&limit=1&cursor={cursor}")).await?;
    ensure!(rest["items"][0]["product"] == "SEJAK" && rest["next_cursor"].is_null(), "{rest}");
    let categories = read(&site, "/v1/tea/categories").await?;
    ensure!(categories["categories"][0]["children"][0]["category"] == "green", "{categories}");
    ensure!((stock(&site, "SEJAK-50").await?, stock(&site, "MUG").await?) == (40, 3));

    let plain = get(&site, "/v1/tea/products/SEJAK").await?;
    let etag = plain.header("etag").context("no ETag")?.to_owned();
    ensure!(
        plain.header("cache-control").is_some() && number(&plain, "bridge-seq")? > 0,
        "{:?}",
        plain.headers
    );
    ensure!(number(&plain, "age")? < 60, "{:?}", plain.headers);
    let same = get_with(&site, "/v1/tea/products/SEJAK", &[("if-none-match", &etag)]).await?;
    ensure!(same.status == 304 && same.body.is_empty() && same.header("etag") == Some(&etag), "{same:?}");
    // A list of entity tags may be in any number of lines.
    for known in [["\"zzz\"", etag.as_str()], [etag.as_str(), "\"zzz\""], ["\"a,b\"", "*"]] {
        let headers = known.map(|tag| ("if-none-match", tag));
        let same = get_with(&site, "/v1/tea/products/SEJAK", &headers).await?;
        ensure!(same.status == 304, "{known:?}: {}", same.status);
    }
    // A product is answered once, however often the request names it.
    let often = ["SEJAK"; 500].join(",");
    let once = read(&site, &format!("/v1/tea/products?product={often},MUG%201%2F2,{often}")).await?;
    ensure!(once["items"].as_array().map(Vec::len) == Some(2), "{once}");
    let once = read(&site, "/v1/tea/stock?sku=MUG,NONE,MUG,NONE,SEJAK%2D50").await?;
    ensure!(
        once["items"].as_array().map(Vec::len) == Some(2) && once["missing"] == json!(["NONE"]),
        "{once}"
    );
    let head =
        Request::head("/v1/tea/products/SEJAK").header("host", "bridge").body(Full::new(Bytes::new()))?;
    let head = Client::new(site.storefront).send(head).await?;
    ensure!(head.status == 200 && head.body.is_empty() && head.header("etag") == Some(&etag), "{head:?}");
    ensure!(number(&head, "content-length")? == plain.body.len() as u64, "{head:?}");
    until("the compressed forms are ready", async || {
        let packed = get_with(&site, "/v1/tea/products/SEJAK", &[("accept-encoding", "gzip")]).await?;
        if packed.header("content-encoding").is_none() {
            return Ok(false);
        }
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked)?;
        ensure!(unpacked == plain.body && packed.body.len() < plain.body.len());
        ensure!(packed.header("vary") == Some("Accept-Encoding, Bridge-Min-Seq"), "{:?}", packed.headers);
        Ok(true)
    })
    .await?;
    let shop = Shop::open(&site, "tea");
    shop.problem(&get(&site, "/v1/tea/products/NONE").await?, 404, "unknown-product")?;
    shop.problem(&get(&site, "/v1/coffee/products/SEJAK").await?, 404, "unknown-brand")?;
    Ok(())
}

#[tokio::test]
async fn a_row_in_sqlite_becomes_an_answer_beside_the_storefront() -> Result<()> {
    let dir = tempfile::tempdir()?;
    rows_are_answers(sqlite(dir.path()), dir.path()).await
}

#[tokio::test]
async fn a_row_in_postgresql_becomes_an_answer_beside_the_storefront() -> Result<()> {
    let (_cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    rows_are_answers(database, dir.path()).await
}

/// Checks that a DBA's change and an order's stock are served, and that an order at the old price
/// is refused.
async fn changes_are_seen(database: Database, dir: &Path) -> Result<()> {
    let site = tea(dir, database).await?;
    let _bridge = site.start().await?;
    served(&site).await?;
    let before = number(&get(&site, "/v1/tea/products/SEJAK").await?, "bridge-seq")?;
    let mut dba = Dba::connect(site.database()).await?;
    ensure!(dba.execute(NEW_PRICE).await? == 1);
    until("the new price is served", async || Ok(price(&site).await? == 19_500)).await?;
    let after = number(&get(&site, "/v1/tea/products/SEJAK").await?, "bridge-seq")?;
    ensure!(after > before, "{before} then {after}");

    let order = |key: &str, unit_price: i64| {
        let total = unit_price * 2;
        let body = json!({
            "lines": [{"sku": "SEJAK-50", "quantity": 2, "unit_price": {"amount": unit_price, "currency": "KRW"}}],
            "total": {"amount": total, "currency": "KRW"}, "customer": {"reference": "c-1"},
            "delivery": {"name": "n", "address": ["a"], "country": "KR"}});
        (key.to_owned(), Bytes::from(body.to_string()))
    };
    let mut shop = Shop::open(&site, "tea");
    let (key, body) = order("old", 18_000);
    let answer = shop.place(&key, body).await?;
    let problem = shop.problem(&answer, 409, "price-changed")?;
    ensure!(problem["unit_price"] == json!({"amount": 19_500, "currency": "KRW"}), "{problem}");
    let (key, body) = order("new", 19_500);
    let answer = shop.place(&key, body).await?;
    ensure!(answer.status == 201, "{}", answer.json());
    until("the order's units are gone from the stock that is served", async || {
        Ok(stock(&site, "SEJAK-50").await? == 38)
    })
    .await?;

    // A request waits for a position that the source has reached. One for a later position is
    // refused.
    let seq = number(&get(&site, "/v1/tea/stock?sku=SEJAK-50").await?, "bridge-seq")?;
    let there = get_with(&site, "/v1/tea/products/SEJAK", &[("bridge-min-seq", &seq.to_string())]).await?;
    ensure!(there.status == 200 && number(&there, "bridge-seq")? >= seq, "{there:?}");
    let far = get_with(&site, "/v1/tea/products/SEJAK", &[("bridge-min-seq", "999999999")]).await?;
    shop.problem(&far, 412, "replica-behind")?;
    ensure!(far.retry_after().is_some(), "{:?}", far.headers);

    // A row deleted from the database leaves the shop, and a new row appears.
    dba.execute("DELETE FROM products WHERE brand = 'tea' AND product = 'MUG 1/2'").await?;
    until(
        "the product is gone",
        async || Ok(get(&site, "/v1/tea/products/MUG%201%2F2").await?.status == 404),
    )
    .await?;
    dba.execute("INSERT INTO products (brand, product, names) VALUES ('tea', 'UJEON', '{\"ko\": \"우전\"}')")
        .await?;
    until(
        "the new product is served",
        async || Ok(get(&site, "/v1/tea/products/UJEON").await?.status == 200),
    )
    .await?;
    dba.close().await
}

#[tokio::test]
async fn a_change_of_any_kind_in_sqlite_is_served_moments_later() -> Result<()> {
    let dir = tempfile::tempdir()?;
    changes_are_seen(sqlite(dir.path()), dir.path()).await
}

#[tokio::test]
async fn a_change_of_any_kind_in_postgresql_is_served_moments_later() -> Result<()> {
    let (_cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    changes_are_seen(database, dir.path()).await
}

/// A cache may use a stored answer for another request only if the fields that `Vary` names are
/// equal (RFC 9111 section 4.1). So every answer names the fields that it depends on, and answers
/// that nobody may store say so.
#[tokio::test]
async fn a_cache_in_front_gives_nobody_the_answer_to_another_question() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = tea(dir.path(), sqlite(dir.path())).await?;
    let _bridge = site.start().await?;
    served(&site).await?;
    let path = "/v1/tea/products/SEJAK";
    let stored = get(&site, path).await?;
    let named = |answer: &HttpAnswer, field: &str| {
        let vary = answer.header("vary").unwrap_or_default();
        vary.split(',').any(|name| name.trim().eq_ignore_ascii_case(field))
    };
    ensure!(named(&stored, "bridge-min-seq") && named(&stored, "accept-encoding"), "{:?}", stored.headers);
    let etag = stored.header("etag").context("no ETag")?.to_owned();
    let unchanged = get_with(&site, path, &[("if-none-match", &etag)]).await?;
    ensure!(named(&unchanged, "bridge-min-seq") && named(&unchanged, "accept-encoding"), "{unchanged:?}");

    let far = get_with(&site, path, &[("bridge-min-seq", "999999999")]).await?;
    let none = get(&site, "/v1/tea/products/NONE").await?;
    for problem in [&far, &none] {
        ensure!(problem.header("cache-control") == Some("no-store"), "{:?}", problem.headers);
        ensure!(named(problem, "bridge-min-seq"), "{:?}", problem.headers);
    }
    let mut shop = Shop::open(&site, "tea");
    let order = shop.get("/v1/tea/orders/01980000-0000-7000-8000-000000000000").await?;
    ensure!(order.header("cache-control") == Some("no-store") && named(&order, "authorization"), "{order:?}");
    let placed = shop.place("k", "{}").await?;
    for field in ["authorization", "idempotency-key", "content-type", "content-encoding"] {
        ensure!(named(&placed, field), "{field}: {:?}", placed.headers);
    }
    Ok(())
}

#[tokio::test]
async fn a_product_appears_in_lists_and_disappears_at_its_moments() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = tea(dir.path(), sqlite(dir.path())).await?;
    let _bridge = site.start().await?;
    served(&site).await?;
    let listed = async |sort: &str| {
        let list = read(&site, &format!("/v1/tea/products?sort={sort}")).await?;
        let items = list["items"].as_array().context("no items")?;
        anyhow::Ok(items.iter().any(|item| item["product"] == "SEJAK"))
    };
    let mut dba = Dba::connect(site.database()).await?;
    let now = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map(|since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    };
    const HOUR: i64 = 3_600_000_000;
    let mut set = async |column: &str, moment: i64| {
        let change = format!("UPDATE products SET {column} = {moment} WHERE product = 'SEJAK'");
        dba.execute(&change).await
    };
    set("published_from", now()? + HOUR).await?;
    for sort in ["newest", "price", "-price", "name"] {
        until("the product is in no list", async || Ok(!listed(sort).await?)).await?;
    }
    // The product appears and leaves at its times, without a change in the database.
    set("published_from", now()? + 2_000_000).await?;
    until("the product's time of publication has come", async || listed("newest").await).await?;
    for sort in ["price", "-price", "name"] {
        ensure!(listed(sort).await?, "{sort}");
    }
    set("published_until", now()? + 2_000_000).await?;
    until("the product's time is over", async || Ok(!listed("newest").await?)).await?;
    dba.close().await
}

#[tokio::test]
async fn with_the_data_centre_dead_reads_are_answered_with_their_age() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = tea(dir.path(), sqlite(dir.path())).await?;
    let mut bridge = site.start().await?;
    served(&site).await?;
    bridge.idc.kill9().await?;
    let mut dba = Dba::connect(site.database()).await?;
    dba.execute(NEW_PRICE).await?;
    until("the answers grow old", async || {
        let answer = get(&site, "/v1/tea/products/SEJAK").await?;
        ensure!(answer.status == 200, "{}", answer.status);
        Ok(number(&answer, "age")? >= 3)
    })
    .await?;
    ensure!(price(&site).await? == 18_000, "the cloud agent serves a price that was not published");
    bridge.idc.restart().await?;
    until("the replica has caught up and says that it is fresh", async || {
        let fresh = number(&get(&site, "/v1/tea/products/SEJAK").await?, "age")? <= 1;
        Ok(fresh && price(&site).await? == 19_500)
    })
    .await?;
    dba.close().await
}

#[tokio::test]
async fn a_killed_cloud_agent_serves_its_snapshot_without_tunnel_and_catches_up() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = tea(dir.path(), sqlite(dir.path())).await?;
    configure(&site.cloud_dir().join("bridge-cloud.toml"), "catalogue.snapshot_every", "100ms")?;
    let mut bridge = site.start().await?;
    served(&site).await?;
    let snapshot = site.cloud_dir().join("state").join("catalogue.snapshot");
    until("there is a snapshot", async || Ok(snapshot.exists())).await?;
    site.line.cut(true);
    bridge.cloud.kill9().await?;
    let mut dba = Dba::connect(site.database()).await?;
    dba.execute(NEW_PRICE).await?;

    // Without a link the agent is not ready for orders, but it answers reads. A brand that is new
    // has no rows yet: its reads alone are refused.
    let config = site.cloud_dir().join("bridge-cloud.toml");
    let token = site.cloud_dir().join("hats.token");
    fs::write(&token, "a-token-of-hats-alone")?;
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600))?;
    configure(&config, "brands.hats.token_file", token.display().to_string())?;
    configure(&config, "brands.hats.currency", "KRW")?;
    dba.execute("INSERT INTO brands (brand, currency) VALUES ('hats', 'KRW')").await?;
    let mut cold = site.cloud.spawn()?;
    served(&site).await?;
    ensure!(price(&site).await? == 18_000);
    let hats = get(&site, "/v1/hats/categories").await?;
    ensure!(
        hats.status == 503 && String::from_utf8_lossy(&hats.body).contains("catalogue-not-ready"),
        "{hats:?}"
    );
    site.line.cut(false);
    until("the replica has caught up", async || Ok(price(&site).await? == 19_500)).await?;
    ensure!(get(&site, "/v1/hats/categories").await?.status != 503);
    cold.kill9().await?;

    // The agent refuses a damaged snapshot and fetches the catalogue again.
    let mut bytes = fs::read(&snapshot)?;
    bytes.truncate(bytes.len() / 2);
    fs::write(&snapshot, bytes)?;
    let mut again = site.cloud.spawn()?;
    again.wait_until_ready().await?;
    served(&site).await?;
    ensure!(price(&site).await? == 19_500);
    let log = fs::read_to_string(&site.cloud.log)?;
    ensure!(log.contains("snapshot"), "the log does not mention the damaged snapshot:\n{log}");
    dba.close().await
}

#[tokio::test]
async fn a_restored_database_is_noticed_and_replaces_the_served_rows() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = tea(dir.path(), sqlite(dir.path())).await?;
    let Database::Sqlite(ledger) = site.database().clone() else { unreachable!("made above") };
    let mut bridge = site.start().await?;
    served(&site).await?;
    let backup = dir.path().join("backup.db");
    let mut dba = Dba::connect(site.database()).await?;
    dba.execute(&format!("VACUUM INTO '{}'", backup.display())).await?;
    for amount in 1..=20 {
        dba.execute(&format!("UPDATE skus SET price = {amount} WHERE sku = 'MUG'")).await?;
        dba.execute(&format!("UPDATE skus SET price = {amount} WHERE sku = 'SEJAK-50'")).await?;
        sleep(Duration::from_millis(5)).await;
    }
    until("the last change is served", async || Ok(price(&site).await? == 20)).await?;
    dba.close().await?;
    bridge.idc.terminate().await?;

    // The restored history has other changes than before, and goes further than the replica ever
    // was.
    for file in ["ledger.db-wal", "ledger.db-shm"] {
        let _not_there = fs::remove_file(ledger.with_file_name(file));
    }
    fs::copy(&backup, &ledger)?;
    let mut dba = Dba::connect(site.database()).await?;
    let idc = site.idc.start().await?;
    for units in 1..=60 {
        dba.execute(&format!(
            "UPDATE stock SET available = {units}, initial = {units} + sold WHERE sku_id = (SELECT sku_id FROM skus WHERE sku = 'MUG')"
        ))
        .await?;
    }
    until("the replica holds what the restored database does", async || {
        Ok(price(&site).await? == 18_000 && stock(&site, "MUG").await? == 60)
    })
    .await?;
    drop(idc);
    dba.close().await
}

#[tokio::test]
async fn every_real_product_is_served_and_listed_as_its_row_says() -> Result<()> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/online-retail/catalogue.csv");
    if !Path::new(file).is_file() {
        skipped(Lack::Data, "the real catalogue is not on this machine");
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let database = sqlite(dir.path());
    let site = Site::prepare(dir.path(), Programs::build()?, database, &[("retail", "GBP")], 1).await?;
    let refused = dir.path().join("refused.csv").display().to_string();
    let map = "brand=@retail,currency=@GBP,product=stock_code,name.en=description,price=unit_price_gbp,quantity=units_sold";
    let command = ["catalogue", "import", file, "--refused", &refused, "--map", map];
    let imported = site.idc_command(&command).await.context("import the real catalogue")?;
    ensure!(imported.contains("refused     0"), "{imported}");
    let _bridge = site.start().await?;
    let mut client = Client::new(site.storefront);
    until("the catalogue is served", async || {
        Ok(client.get("/v1/retail/categories", None).await.is_ok_and(|answer| answer.status == 200))
    })
    .await?;

    let mut rows = 0;
    for row in csv::Reader::from_path(file)?.records() {
        let row = row?;
        let code = row[0].replace(' ', "%20");
        let product = client.get(&format!("/v1/retail/products/{code}"), None).await?.json();
        let name = product["names"]["en"].as_str().unwrap_or_default();
        ensure!(product["product"] == row[0] && name == row[1].trim(), "{row:?} is served as {product}");
        let pence = product["variants"][0]["price"]["amount"].as_i64().context("no price")?;
        let price = format!("{}.{:02}", pence / 100, pence % 100);
        let as_written = row[2]
            .split_once('.')
            .map_or(format!("{}.00", &row[2]), |(pounds, decimals)| format!("{pounds}.{decimals:0<2}"));
        ensure!(price == as_written, "{row:?} costs {price}");
        let stock = client.get(&format!("/v1/retail/stock?sku={code}"), None).await?.json();
        ensure!(stock["items"][0]["available"].as_i64() == Some(row[4].parse()?), "{row:?} has {stock}");
        rows += 1;
    }
    let (mut listed, mut cursor) = (0, String::new());
    loop {
        let page =
            client.get(&format!("/v1/retail/products?limit=100&sort=-price{cursor}"), None).await?.json();
        listed += page["items"].as_array().context("no items")?.len();
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    ensure!((rows, listed) == (3_828, 3_828), "{rows} rows, {listed} products listed");
    Ok(())
}
