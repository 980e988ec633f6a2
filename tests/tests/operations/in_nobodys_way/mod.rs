//! Tests that one fault in the ledger's database harms only those whom it touches: a row that
//! somebody holds, with one agent or two, endless look-ups, and an agent that is away or cannot
//! work.

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

/// A transaction in a DBA's shell that was left open.
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

    // Other orders come together with these, so that they are in one batch.
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let order = a.order(&[(0, 1), (1, 1)]);
        let mut other = Shop::open(&site, "a");
        waiting.push(tokio::spawn(async move { other.place(&order.key, order.body).await }));
    }
    until("a session waits for the row", async || {
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
    // Callers and look-ups learn that the outcome is unknown.
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
    ensure!(cancelled.status == 202, "a cancellation of a waiting order is answered {}", cancelled.status);
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
    ensure!(log.contains("somebody else holds what these requests need"), "the log does not say so:\n{log}");
    a.close(&site, 32, [2, 32, 0]).await?;
    b.close(&site, 30, [30, 30, 0]).await
}

fn order_id_at(place: &str) -> String {
    place.split(['/', '?']).nth(4).unwrap_or_default().to_owned()
}

/// Returns the number of requests under way in these IDC agents together.
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
    // A cloud agent that was restarted and does not know the order gets the same answers.
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

/// Two orders wait, one at each agent. A payment of either may reach the wrong agent.
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
        ensure!(requests_under_way(&[agent]).await? == 1, "the orders do not wait at one agent each");
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
    ensure!(gateway.sandbox.charges().is_empty(), "the gateway charged an order");
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

/// Cancels a waiting order twice. The second cancellation is sent when the first one waits. It goes
/// to the less busy agent, so one of the two reaches the agent that does not have the order.
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
        ensure!(
            answer.status == 202,
            "a cancellation of a waiting order: {} {}",
            answer.status,
            answer.json()
        );
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

/// Makes look-ups slow, so that one of some hundred orders takes seconds.
const SLOW_LOOK_UPS: &str = "ALTER TABLE order_lines RENAME TO order_lines_table; \
    CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql VOLATILE AS \
    $$ BEGIN PERFORM pg_sleep(0.25); RETURN true; END $$; \
    CREATE VIEW order_lines AS SELECT * FROM order_lines_table WHERE slow()";

/// Number of callers at a time, each until its answer comes. The connections for look-ups need some
/// seconds for them.
const ASKERS: usize = 8_000;

/// Callers on one connection. It is fewer than the streams that a storefront may open.
const ON_ONE_CONNECTION: usize = 200;

/// Upper limit of the orders that are placed meanwhile: half of the SKU's units.
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
    until("all callers have sent a look-up", async || Ok(asked.load(Ordering::Relaxed) >= ASKERS)).await?;
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
    ensure!(orders >= 20, "all look-ups were answered beside only {orders} orders");
    let scrape = bridge.idc.metrics().await?;
    ensure!(
        metric(&scrape, "bridge_ledger_errors_total")? == 0,
        "the agent takes the database for unavailable"
    );
    shop.close(&site, 1 + orders, [orders, 1, 0]).await
}

/// Looks an order up until the answer comes. The only other answer allowed is that the agent is
/// busy.
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
        // Waits as long as the answer says. A storefront that retries at once only harms itself.
        let after = head.headers.get("retry-after").context("no time to come back")?.to_str()?.parse()?;
        tokio::time::sleep(Duration::from_secs(after)).await;
    }
}
