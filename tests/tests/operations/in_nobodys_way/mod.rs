//! One thing goes wrong in the ledger's database, and costs only those whom it touches: a row that somebody holds, with one agent
//! or two, look-ups without end, an agent that is away or cannot work.

mod committers;
mod crowds;
mod floods;
mod readiness;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::{Shop, metric, order_at, postgres, site_on, until};
use anyhow::{Context, Result, ensure};
use bridge_tests::testkit::dba::Dba;
use bridge_tests::testkit::http::{Client, HttpAnswer};
use bridge_tests::testkit::payers::TestGateway;
use bridge_tests::testkit::sandbox::Rates;
use bridge_tests::testkit::site::{Bridge, Site};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// As the DBA's shell has it: a look that was left open.
const HELD: &str = "BEGIN; SELECT s.* FROM stock s JOIN skus k USING (sku_id) \
    WHERE k.brand = 'a' AND k.sku = 'SHOE-270' FOR UPDATE";

#[tokio::test]
async fn a_held_row_delays_only_the_orders_that_need_it() -> Result<()> {
    let (_cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = site_on(dir.path(), database, &["a", "b"]).await?;
    crate::common::configure(&site.cloud_dir().join("bridge-cloud.toml"), "storefront.answer_within", "2s")?;
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
            && requests_under_way(&[site.idc.admin]).await? >= 3)
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

/// Of these agents of the data centre together.
async fn requests_under_way(agents: &[SocketAddr]) -> Result<u64> {
    let mut requests = 0;
    for admin in agents {
        let status = Client::new(*admin).get("/status", None).await?;
        requests += status.json()["requests_under_way"].as_u64().unwrap_or_default();
    }
    Ok(requests)
}

#[tokio::test]
async fn a_cancellation_at_another_agent_than_its_order_is_not_missing() -> Result<()> {
    let (_cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = site_on(dir.path(), database, &["a"]).await?;
    crate::common::configure(&site.cloud_dir().join("bridge-cloud.toml"), "storefront.answer_within", "2s")?;
    let (second, _) = site.add_idc("second-idc")?;
    let mut bridge = site.start().await?;
    let _second = second.start().await?;
    both_links(&bridge).await?;
    let mut dba = Dba::connect(site.database()).await?;
    dba.execute(HELD).await?;

    let agents = [site.idc.admin, second.admin];
    let mut shop = Shop::open(&site, "a");
    let placed = shop.place_new(&[(0, 1)]).await?;
    ensure!(placed.status == 202, "an order that waits is answered {}", placed.status);
    let order = order_at(&placed)?;
    two_cancellations_wait(&site, &order, "first", agents).await?;
    // Nor by a cloud agent that knows nothing of the order.
    bridge.cloud.kill9().await?;
    bridge.cloud.restart().await?;
    both_links(&bridge).await?;
    two_cancellations_wait(&site, &order, "second", agents).await?;
    let unknown = shop.cancel("018f0000-0000-7000-8000-000000000000", "unknown").await?;
    shop.problem(&unknown, 404, "unknown-order")?;
    dba.execute("COMMIT").await?;
    let place = format!("{}/{order}", shop.orders());
    until("the cancellations come after their order", async || {
        Ok(shop.settled(&place).await?.is_some_and(|state| state["state"] == "cancelled"))
    })
    .await?;
    shop.close(&site, 0, [0, 0, 0]).await
}

/// Two orders wait, at an agent each. A payment of either comes to one of both.
#[tokio::test]
async fn a_payment_at_another_agent_than_its_order_is_told_to_retry() -> Result<()> {
    let (_cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = site_on(dir.path(), database, &["a"]).await?;
    crate::common::configure(&site.cloud_dir().join("bridge-cloud.toml"), "storefront.answer_within", "2s")?;
    let gateway = TestGateway::open(&site, Rates::default()).await?;
    let (second, dir_of_second) = site.add_idc("second-idc")?;
    std::fs::copy(site.idc_dir().join("gateway.key"), dir_of_second.join("gateway.key"))?;
    let mut bridge = site.start().await?;
    let _second = second.start().await?;
    both_links(&bridge).await?;
    let mut dba = Dba::connect(site.database()).await?;
    dba.execute(HELD).await?;

    let agents = [site.idc.admin, second.admin];
    let (mut shop, mut waiting) = (Shop::open(&site, "a"), Vec::new());
    for number in 1..=agents.len() as u64 {
        let (order, mut other) = (shop.order(&[(0, 1)]), Shop::open(&site, "a"));
        waiting.push(tokio::spawn(async move { other.place(&order.key, order.body).await }));
        until("the order waits", async || Ok(requests_under_way(&agents).await? == number)).await?;
    }
    for agent in agents {
        ensure!(requests_under_way(&[agent]).await? == 1, "they do not wait at an agent each");
    }
    let mut orders = Vec::new();
    for placed in waiting {
        orders.push(order_at(&placed.await??)?);
    }
    for knows in ["the cloud agent places it", "no cloud agent knows of it"] {
        for order in &orders {
            let answer = pay(&site, &shop, order, knows).await?;
            shop.problem(&answer, 503, "busy")?;
            ensure!(answer.retry_after().is_some(), "{:?}", answer.headers);
        }
        bridge.cloud.kill9().await?;
        bridge.cloud.restart().await?;
        both_links(&bridge).await?;
    }
    let nowhere = pay(&site, &shop, "018f0000-0000-7000-8000-000000000000", "nowhere").await?;
    shop.problem(&nowhere, 404, "unknown-order")?;
    ensure!(gateway.sandbox.charges().is_empty(), "nothing was charged");
    dba.execute("COMMIT").await?;
    for order in &orders {
        let place = format!("{}/{order}", shop.orders());
        until("the order is placed", async || {
            Ok(shop.settled(&place).await?.is_some_and(|state| state["state"] == "placed"))
        })
        .await?;
        ensure!(pay(&site, &shop, order, order).await?.status == 201);
    }
    shop.close(&site, 2, [2, 0, 0]).await
}

async fn pay(site: &Site, shop: &Shop, order: &str, key: &str) -> Result<HttpAnswer> {
    let amount = json!({ "amount": 222_000, "currency": "KRW" });
    let body = json!({ "amount": amount, "payment_key": format!("tgen_{order}") }).to_string();
    let (path, key) = (format!("{}/{order}/payments", shop.orders()), format!("{order} {key}"));
    Ok(Client::new(site.storefront).post(&path, Some(shop.token()), Some(&key), body.into()).await?)
}

/// Cancels an order that waits, twice, the second time once the first one waits: it goes to the agent that has less to do, so one of
/// both comes to the agent that does not have the order.
async fn two_cancellations_wait(site: &Site, order: &str, name: &str, agents: [SocketAddr; 2]) -> Result<()> {
    let mut begun = Vec::new();
    for number in [1, 2] {
        let before = requests_under_way(&agents).await?;
        let (mut shop, order, key) = (Shop::open(site, "a"), order.to_owned(), format!("{name}-{number}"));
        let cancelled = tokio::spawn(async move { shop.cancel(&order, &key).await });
        until("a cancellation waits, or is answered", async || {
            Ok(cancelled.is_finished() || requests_under_way(&agents).await? > before)
        })
        .await?;
        begun.push(cancelled);
    }
    for cancelled in begun {
        let answer = cancelled.await??;
        ensure!(answer.status == 202, "a cancellation of what waits: {} {}", answer.status, answer.json());
    }
    Ok(())
}

async fn both_links(bridge: &Bridge) -> Result<()> {
    let mut admin = Client::new(bridge.cloud.admin());
    until("the cloud agent has both links", async || {
        let status = admin.get("/status", None).await?.json();
        Ok(status["links"].as_array().is_some_and(|links| links.len() == 2))
    })
    .await
}

/// A look-up of some hundred orders takes as long as this.
const SLOW_LOOK_UPS: &str = "ALTER TABLE order_lines RENAME TO order_lines_table; \
    CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql VOLATILE AS \
    $$ BEGIN PERFORM pg_sleep(0.25); RETURN true; END $$; \
    CREATE VIEW order_lines AS SELECT * FROM order_lines_table WHERE slow()";

/// So many ask at a time, each until it is answered: some seconds' work for the connections that look up.
const ASKERS: usize = 8_000;

/// Of them on one connection: fewer streams than a storefront may have open.
const ON_ONE_CONNECTION: usize = 200;

/// Orders that are placed beside them, at most: half of the SKU's units.
const ORDERS_MAX: i64 = 500;

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

    let asked = Arc::new(AtomicUsize::new(0));
    let mut askers = JoinSet::new();
    for _ in 0..ASKERS / ON_ONE_CONNECTION {
        let stream = TcpStream::connect(site.storefront).await?;
        let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        for _ in 0..ON_ONE_CONNECTION {
            let (client, asked) = (client.clone(), asked.clone());
            askers.spawn(ask_until_answered(client, path.clone(), shop.token().to_owned(), asked));
        }
    }
    until("they all ask", async || Ok(asked.load(Ordering::Relaxed) >= ASKERS)).await?;
    let mut orders = 0;
    while !askers.is_empty() && orders < ORDERS_MAX {
        let answer = shop.place_new(&[(0, 1)]).await?;
        ensure!(answer.status == 201, "order {orders} is answered {}: {}", answer.status, answer.json());
        orders += 1;
        while let Some(answered) = askers.try_join_next() {
            answered??;
        }
    }
    while let Some(answered) = askers.join_next().await {
        answered??;
    }
    ensure!(orders >= 20, "all were answered beside {orders} orders: they were in nobody's way");
    let scrape = bridge.idc.metrics().await?;
    ensure!(metric(&scrape, "bridge_ledger_errors_total")? == 0, "the database counts as gone");
    shop.close(&site, 1 + orders, [orders, 1, 0]).await
}

/// Asks how an order stands until that is told; nothing else is answered meanwhile but that too many ask.
async fn ask_until_answered(
    mut client: SendRequest<Empty<Bytes>>,
    path: String,
    token: String,
    asked: Arc<AtomicUsize>,
) -> Result<()> {
    loop {
        let request = Request::get(format!("http://bridge{path}"));
        let request = request.header("authorization", format!("Bearer {token}")).body(Empty::new())?;
        client.ready().await?;
        let answer = client.send_request(request);
        asked.fetch_add(1, Ordering::Relaxed);
        let (head, body) = answer.await?.into_parts();
        let body = body.collect().await?.to_bytes();
        if head.status == 200 {
            return Ok(());
        }
        let problem: Value = serde_json::from_slice(&body)?;
        ensure!(problem["type"] == "/problems/busy", "{} {problem}", head.status);
        // As it was told to: a storefront that asks again at once is only its own enemy.
        let after = head.headers.get("retry-after").context("no time to come back")?.to_str()?.parse()?;
        tokio::time::sleep(Duration::from_secs(after)).await;
    }
}
