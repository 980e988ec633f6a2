//! The Bridge side of every bench: a site with a catalogue, set up by commands and called over
//! HTTP, as by a user.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::StatusCode;
use tokio::time::{Instant, sleep};

use super::catalogue::{self, SEED};
use super::progress::tell;
use super::server::Subject;
use crate::testkit::database::Database;
use crate::testkit::http::{Client, HttpAnswer};
use crate::testkit::process::{Programs, Running};
use crate::testkit::site::{Setup, Site};

pub(super) const BRAND: &str = "shop";
pub(super) const CURRENCY: &str = "KRW";
/// Longest time for a catalogue from the database to the first answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Interval between two requests while a bench waits for another program.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Number of products among which one of the right size is chosen.
const LOOKED_AT: usize = 100;

/// Sets up a site and imports a made-up catalogue into its ledger. No agent runs yet.
pub(super) async fn site(dir: &Path, database: Database, products: usize, setup: Setup) -> Result<Site> {
    tell("building the agents");
    let programs = Programs::build()?;
    tell(&format!("setting up a bridge and importing {products} products"));
    let site = Site::set_up(dir, programs, database, &[(BRAND, CURRENCY)], SEED, setup).await?;
    let path = dir.join("catalogue.jsonl").display().to_string();
    let mut out = BufWriter::new(File::create(&path).with_context(|| format!("make {path}"))?);
    catalogue::write(&mut out, products)
        .and_then(|()| out.flush())
        .with_context(|| format!("write {path}"))?;
    site.idc_command(&["catalogue", "import", &path]).await.context("import the catalogue")?;
    Ok(site)
}

/// Waits until `path` is answered with 200, which is once the replica is complete. Returns that
/// answer. The pauses between requests are at most 2 ms.
pub(super) async fn first_answer(site: &Site, cloud: &mut Running, path: &str) -> Result<HttpAnswer> {
    let deadline = Instant::now() + PATIENCE;
    let mut client = Client::new(site.storefront);
    loop {
        let last = match client.get(path, None).await {
            Ok(answer) if answer.status == StatusCode::OK => return Ok(answer),
            Ok(answer) => answer.status.to_string(),
            Err(error) => error.to_string(),
        };
        if let Some(status) = cloud.ended_within(Duration::ZERO).await? {
            bail!("bridge-cloud ended with {status}: see {}", cloud.log().display());
        }
        ensure!(Instant::now() < deadline, "{path} is not answered well after {PATIENCE:?}: {last}");
        sleep(LOOK_EVERY).await;
    }
}

/// A product of the catalogue, as the storefront serves it.
#[derive(Debug)]
pub(super) struct Product {
    pub(super) code: String,
    pub(super) path: String,
    /// SKU of one of its variants.
    pub(super) sku: String,
    /// Answer to a request without a token, encodings or conditions.
    pub(super) answer: HttpAnswer,
}

/// Returns the product whose answer is nearest to `bytes` bytes, among the first hundred of the
/// list.
pub(super) async fn product_of(site: &Site, cloud: &mut Running, bytes: usize) -> Result<Product> {
    let list = first_answer(site, cloud, &format!("/v1/{BRAND}/products?limit={LOOKED_AT}")).await?.json();
    let items = list["items"].as_array().context("the storefront lists no products")?;
    let mut best: Option<Product> = None;
    let distance = |product: &Product| product.answer.body.len().abs_diff(bytes);
    for code in items.iter().filter_map(|item| item["product"].as_str()) {
        let path = format!("/v1/{BRAND}/products/{code}");
        let answer = first_answer(site, cloud, &path).await?;
        let json = answer.json();
        let Some(sku) = json.pointer("/variants/0/sku").and_then(|sku| sku.as_str()) else { continue };
        let product = Product { code: code.to_owned(), path, sku: sku.to_owned(), answer };
        if best.as_ref().is_none_or(|best| distance(&product) < distance(best)) {
            best = Some(product);
        }
    }
    best.context("no product that is listed has a variant")
}

/// Returns the target of the load: the cloud agent and a product.
pub(super) fn subject(site: &Site, cloud: &Running, product: &Product) -> Result<Subject> {
    let pid = cloud.pid().context("bridge-cloud has ended")?;
    Ok(Subject { pid, address: site.storefront, path: product.path.clone() })
}
