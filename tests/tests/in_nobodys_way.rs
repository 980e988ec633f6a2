//! One thing goes wrong in the ledger's database, and costs only those whom it touches: a row that somebody holds, look-ups
//! without end.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use bridge_tests::dba::Dba;
use bridge_tests::http::Client;
use bridge_tests::site::Site;
use common::{Shop, metric, order_at, postgres, site_on, until};
use tokio::task::JoinSet;

/// As the DBA's shell has it: a look that was left open.
const HELD: &str = "BEGIN; SELECT s.* FROM stock s JOIN skus k USING (sku_id) \
    WHERE k.brand = 'a' AND k.sku = 'SHOE-270' FOR UPDATE";

#[tokio::test]
async fn a_row_that_somebody_holds_delays_the_orders_that_need_it_and_no_others() -> Result<()> {
    let (_cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = site_on(dir.path(), database, &["a", "b"]).await?;
    common::configure(&site.cloud_dir().join("bridge-cloud.toml"), "storefront.answer_within", "2s")?;
    let bridge = site.start().await?;
    let (mut a, mut b) = (Shop::open(&site, "a"), Shop::open(&site, "b"));
    let mut dba = Dba::connect(site.database()).await?;
    dba.execute(HELD).await?;

    // Together with orders that need nothing of it, so that they meet in one batch.
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let order = a.order(&[(0, 1), (1, 1)]);
        let mut other = Shop::open(&site, "a");
        waiting.push(tokio::spawn(async move { other.place(&order.key, order.body).await }));
    }
    until("somebody waits for the row", async || {
        Ok(metric(&bridge.idc.metrics().await?, "bridge_queue_limit{queue=\"held\"}")? > 0
            && requests_under_way(&site).await? >= 3)
    })
    .await?;
    for _ in 0..30 {
        let answer = b.place_new(&[(0, 1), (1, 1)]).await?;
        ensure!(answer.status == 201, "an order of brand b is answered {}", answer.status);
        let answer = a.place_new(&[(1, 1)]).await?;
        ensure!(answer.status == 201, "an order of another SKU is answered {}", answer.status);
    }
    // Their callers are told that nobody knows yet, and that the place to ask knows no more.
    let mut places = Vec::new();
    for order in waiting {
        let answer = order.await??;
        ensure!(answer.status == 202, "an order that waits is answered {}", answer.status);
        places.push(answer.header("location").context("no Location")?.to_owned());
    }
    for place in &places {
        let answer = a.get(place).await?;
        ensure!(
            answer.status == 200 && answer.json()["state"] == "unknown",
            "{} {}",
            answer.status,
            answer.json()
        );
    }
    let cancelled = a.cancel(&order_id_at(&places[2]), "cancel").await?;
    ensure!(cancelled.status == 202, "a cancellation of what waits is answered {}", cancelled.status);
    dba.execute("COMMIT").await?;

    for place in &places[..2] {
        let state = a.resolved(place).await?;
        ensure!(state["state"] == "placed", "{state}");
    }
    until("the cancellation comes after its order", async || {
        Ok(a.resolved(&places[2]).await?["state"] == "cancelled")
    })
    .await?;
    let log = std::fs::read_to_string(bridge.idc.log())?;
    ensure!(log.contains("somebody else holds what these requests need"), "nobody is told:\n{log}");
    a.close(&site, 32, [2, 32, 0]).await?;
    b.close(&site, 30, [30, 30, 0]).await
}

fn order_id_at(place: &str) -> String {
    place.split(['/', '?']).nth(4).unwrap_or_default().to_owned()
}

async fn requests_under_way(site: &Site) -> Result<u64> {
    let status = Client::new(site.idc.admin).get("/status", None).await?;
    Ok(status.json()["requests_under_way"].as_u64().unwrap_or_default())
}

/// A look-up takes as long as this.
const SLOW_LOOK_UPS: &str = "ALTER TABLE order_lines RENAME TO order_lines_table; \
    CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql VOLATILE AS \
    $$ BEGIN PERFORM pg_sleep(0.03); RETURN true; END $$; \
    CREATE VIEW order_lines AS SELECT * FROM order_lines_table WHERE slow()";

/// So many ask at a time: more than the connections do in the time that one may be waited for.
const ASKERS: usize = 800;

#[tokio::test]
async fn look_ups_without_end_take_no_connection_from_the_orders() -> Result<()> {
    let (_cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = site_on(dir.path(), database, &["a"]).await?;
    let bridge = site.start().await?;
    let mut shop = Shop::open(&site, "a");
    let placed = shop.place_new(&[(1, 1)]).await?;
    let path = format!("{}/{}", shop.orders(), order_at(&placed)?);
    let mut dba = Dba::connect(site.database()).await?;
    dba.execute(SLOW_LOOK_UPS).await?;

    let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut askers = JoinSet::new();
    for _ in 0..ASKERS {
        let (over, asked, path) = (over.clone(), asked.clone(), path.clone());
        let (token, mut client) = (shop.token().to_owned(), Client::new(site.storefront));
        askers.spawn(async move {
            let mut refused = Vec::new();
            while !over.load(Ordering::Relaxed) {
                asked.fetch_add(1, Ordering::Relaxed);
                let answer = client.get(&path, Some(&token)).await?;
                if answer.status != 200 {
                    refused.push(answer.json()["type"].as_str().unwrap_or_default().to_owned());
                }
            }
            anyhow::Ok(refused)
        });
    }
    until("they all ask", async || Ok(asked.load(Ordering::Relaxed) >= ASKERS)).await?;
    for number in 0..50 {
        let answer = shop.place_new(&[(0, 1)]).await?;
        ensure!(answer.status == 201, "order {number} is answered {}: {}", answer.status, answer.json());
    }
    over.store(true, Ordering::Relaxed);
    let refused: Vec<String> = askers.join_all().await.into_iter().collect::<Result<Vec<_>>>()?.concat();
    ensure!(refused.iter().all(|problem| problem == "/problems/busy"), "{refused:?}");
    let scrape = bridge.idc.metrics().await?;
    ensure!(metric(&scrape, "bridge_ledger_errors_total")? == 0, "the database counts as gone");
    shop.close(&site, 51, [50, 1, 0]).await
}
