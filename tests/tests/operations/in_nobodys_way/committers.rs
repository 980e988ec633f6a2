//! Tests of several committers on PostgreSQL. A slow committer delays only those who need its rows,
//! and requests that reach two committers have one effect.

use std::sync::Arc;

use anyhow::{Result, ensure};
use bridge_tests::testkit::dba::Dba;
use bridge_tests::testkit::generated;
use bridge_tests::testkit::ledger_totals::LedgerTotals;
use bridge_tests::testkit::load::{self, Outcome, replay};
use bridge_tests::testkit::process::Programs;
use bridge_tests::testkit::site::Site;

use crate::common::twins::Twins;
use crate::common::{self, PATIENCE, Shop, metric, postgres, site_on, until};

/// Trigger that makes each batch slow that changes the stock of this SKU.
const SLOW: &str = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
    $$ BEGIN PERFORM pg_sleep(6); RETURN NEW; END $$; \
    DO $$ BEGIN EXECUTE format('CREATE TRIGGER slow BEFORE UPDATE ON stock FOR EACH ROW WHEN (NEW.sku_id = %s) \
    EXECUTE FUNCTION slow()', (SELECT sku_id FROM skus WHERE brand = 'a' AND sku = 'SHOE-270')); END $$";

/// Counts the batches that are slow now.
const SLEEPERS: &str =
    "SELECT 'sleepers', CAST(count(*) AS text) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";

#[tokio::test]
async fn a_slow_batch_delays_neither_another_brand_nor_another_sku() -> Result<()> {
    let (_cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = site_on(dir.path(), database, &["a", "b"]).await?;
    let _bridge = site.start().await?;
    let mut dba = Dba::connect(site.database()).await?;
    dba.execute(SLOW).await?;
    let (mut a, mut b) = (Shop::open(&site, "a"), Shop::open(&site, "b"));
    let order = a.order(&[(0, 1)]);
    let mut other = Shop::open(&site, "a");
    let slow = tokio::spawn(async move { other.place_until_told(&order.key, order.body).await });
    until("the slow batch is under way", async || Ok(dba.pairs(SLEEPERS).await?[0].1 == "1")).await?;
    for _ in 0..5 {
        for answer in [b.place_new(&[(0, 1), (1, 1)]).await?, a.place_new(&[(1, 1)]).await?] {
            ensure!(answer.status == 201, "{} {}", answer.status, answer.json());
        }
    }
    ensure!(dba.pairs(SLEEPERS).await?[0].1 == "1", "the other orders waited for the slow batch");
    let answer = slow.await??;
    ensure!(answer.status == 201, "{} {}", answer.status, answer.json());
    a.close(&site, 6, [1, 5, 0]).await?;
    b.close(&site, 5, [5, 5, 0]).await
}

/// Two agents on each side with four committers each. Both cloud agents get the same keys at once:
/// a launch with cancellations, and another brand's orders beside it.
#[tokio::test]
async fn two_agents_with_four_committers_each_have_one_effect_a_key() -> Result<()> {
    let (_cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let (launch, spread) = (generated::launch(11, 500), generated::spread("quiet", 12, 300));
    let brands = [(launch.brand.as_str(), launch.currency), ("quiet", "KRW")];
    let site = Site::prepare(dir.path(), Programs::build()?, database, &brands, 1).await?;
    for plan in [&launch, &spread] {
        site.import(plan).await?;
    }
    common::configure(&site.idc_dir().join("bridge-idc.toml"), "orders.committers", 4)?;
    let twins = Twins::beside(&site)?;
    let storefronts = [site.storefront, twins.storefront];
    let running = twins.start(&site).await?;
    let callers = |storefront, brand: &str| load::Options {
        storefront,
        token: site.token(brand).to_owned(),
        callers: 16,
        patience: PATIENCE,
        title: String::new(),
    };
    for plan in [&launch, &spread] {
        ensure!(plan.brand != "quiet" || plan.steps.len() >= 300);
    }
    let (launch, spread) = (Arc::new(launch), Arc::new(spread));
    let options =
        [&launch, &spread].map(|plan| storefronts.map(|storefront| callers(storefront, &plan.brand)));
    let (a, b, c, d) = tokio::join!(
        replay(&launch, &options[0][0]),
        replay(&launch, &options[0][1]),
        replay(&spread, &options[1][0]),
        replay(&spread, &options[1][1]),
    );
    for (plan, [here, there]) in [(&launch, [&a, &b]), (&spread, [&c, &d])] {
        for (index, (one, two)) in here.settled.iter().zip(&there.settled).enumerate() {
            ensure!(one.outcome == two.outcome, "{} {index}: {one:?} here, {two:?} there", plan.brand);
            let is_known = !matches!(one.outcome, Outcome::Unknown);
            ensure!(is_known, "{} {index}: {one:?}", plan.brand);
        }
        let actual = LedgerTotals::read(site.database(), &plan.brand).await?;
        let differences = LedgerTotals::expected(here).differences(&actual);
        ensure!(differences.is_empty(), "{}: {differences:?}", plan.brand);
    }
    for agent in [&running.bridge.idc, &running.idc] {
        ensure!(metric(&agent.metrics().await?, "bridge_ledger_errors_total")? == 0);
    }
    Ok(())
}
