//! A flood of one brand fills the queue of the cloud agent or of the IDC agent. No order of another
//! brand may be refused or wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bridge_tests::testkit::dba::Dba;
use bridge_tests::testkit::http::Client;
use bridge_tests::testkit::plan::OrderStep;
use bridge_tests::testkit::site::Site;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{ON_ONE_CONNECTION, requests_under_way};
use crate::common::{Shop, configure, metric, postgres, site_on, until};

/// Makes each batch of orders take 50 ms.
const SLOW_COMMITS: &str = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
    $$ BEGIN PERFORM pg_sleep(0.05); RETURN NULL; END $$; \
    CREATE TRIGGER slow BEFORE INSERT ON orders FOR EACH STATEMENT EXECUTE FUNCTION slow()";

/// Orders of one brand that come at the same time.
const FLOOD: usize = 2_000;

/// Orders of the other brand: this many at the same time, in this many rounds.
const TOGETHER: usize = 4;
const ROUNDS: usize = 10;

#[tokio::test]
async fn one_brands_flood_has_no_order_of_another_brand_refused() -> Result<()> {
    let (_cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = site_on(dir.path(), database, &["a", "b"]).await?;
    configure(&site.cloud_dir().join("bridge-cloud.toml"), "orders.queue_max", 16)?;
    configure(&site.idc_dir().join("bridge-idc.toml"), "orders.window_max", 8)?;
    let _bridge = site.start().await?;
    Dba::connect(site.database()).await?.execute(SLOW_COMMITS).await?;

    let (mut a, mut b) = (Shop::open(&site, "a"), Shop::open(&site, "b"));
    let flood = Arc::new(Flood::default());
    let mut buyers = flood.begin(&site, &mut a, FLOOD).await?;
    until("the flood fills the queue", async || {
        while let Some(buyer) = buyers.try_join_next() {
            buyer??;
        }
        Ok(flood.refused.load(Ordering::Relaxed) > 0)
    })
    .await?;
    for round in 0..ROUNDS {
        let mut orders = JoinSet::new();
        for _ in 0..TOGETHER {
            let (order, mut shop) = (b.order(&[(0, 1), (1, 1)]), Shop::open(&site, "b"));
            orders.spawn(async move { shop.place(&order.key, order.body).await });
        }
        while let Some(answer) = orders.join_next().await {
            let answer = answer??;
            ensure!(answer.status == 201, "round {round} is answered {}: {}", answer.status, answer.json());
        }
    }
    let refused = flood.refused.load(Ordering::Relaxed);
    flood.is_over.store(true, Ordering::Relaxed);
    while let Some(buyer) = buyers.join_next().await {
        buyer??;
    }
    ensure!(
        flood.refused.load(Ordering::Relaxed) > refused,
        "the flood was over before the other brand's orders"
    );
    let orders = (ROUNDS * TOGETHER) as i64;
    b.close(&site, orders, [orders, orders, 0]).await
}

#[tokio::test]
async fn a_shops_own_batch_job_has_no_order_of_its_shoppers_refused() -> Result<()> {
    let (_cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = site_on(dir.path(), database, &["a"]).await?;
    configure(&site.cloud_dir().join("bridge-cloud.toml"), "orders.queue_max", 16)?;
    configure(&site.idc_dir().join("bridge-idc.toml"), "orders.window_max", 8)?;
    let _bridge = site.start().await?;
    Dba::connect(site.database()).await?.execute(SLOW_COMMITS).await?;

    let (mut job, mut shoppers) = (Shop::open(&site, "a"), Shop::open(&site, "a"));
    let bulk = Arc::new(Flood { class: Some("bulk"), ..Flood::default() });
    let mut orders = bulk.begin(&site, &mut job, FLOOD).await?;
    until("the job has all that it may have", async || {
        while let Some(order) = orders.try_join_next() {
            order??;
        }
        Ok(bulk.refused.load(Ordering::Relaxed) > 0)
    })
    .await?;
    for round in 0..ROUNDS {
        let (order, key) = (shoppers.order(&[(1, 1)]), format!("shopper-{round}"));
        let answer = shoppers.place(&key, order.body).await?;
        ensure!(answer.status == 201, "round {round} is answered {}: {}", answer.status, answer.json());
    }
    let refused = bulk.refused.load(Ordering::Relaxed);
    bulk.is_over.store(true, Ordering::Relaxed);
    while let Some(order) = orders.join_next().await {
        order??;
    }
    ensure!(bulk.refused.load(Ordering::Relaxed) > refused, "the job was over before the shoppers' orders");
    Ok(())
}

/// Orders that wait at the IDC agent, which commits four in a batch.
const WAITING: usize = 400;

#[tokio::test]
async fn another_brands_order_waits_for_no_flood_at_the_committers() -> Result<()> {
    let (_cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = site_on(dir.path(), database, &["a", "b"]).await?;
    configure(&site.idc_dir().join("bridge-idc.toml"), "orders.committers", 1)?;
    configure(&site.idc_dir().join("bridge-idc.toml"), "orders.batch_max", 4)?;
    let _bridge = site.start().await?;
    Dba::connect(site.database()).await?.execute(SLOW_COMMITS).await?;

    let (mut a, mut b) = (Shop::open(&site, "a"), Shop::open(&site, "b"));
    let flood = Arc::new(Flood::default());
    let mut buyers = flood.begin(&site, &mut a, WAITING).await?;
    until("the flood waits for its commit", async || {
        while let Some(buyer) = buyers.try_join_next() {
            buyer??;
        }
        Ok(requests_under_way(&[site.idc.admin]).await? >= WAITING as u64 / 2)
    })
    .await?;
    let before = flood.placed.load(Ordering::Relaxed);
    let answer = b.place_new(&[(0, 1)]).await?;
    ensure!(answer.status == 201, "the order is answered {}: {}", answer.status, answer.json());
    let meanwhile = flood.placed.load(Ordering::Relaxed) - before;
    ensure!(meanwhile < WAITING / 8, "{meanwhile} orders of the flood came before it");
    flood.is_over.store(true, Ordering::Relaxed);
    while let Some(buyer) = buyers.join_next().await {
        buyer??;
    }
    b.close(&site, 1, [1, 0, 0]).await
}

/// Transactions of a DBA that hold a row of stock, one of each brand.
const HELD: [&str; 2] = [
    "BEGIN; SELECT s.* FROM stock s JOIN skus k USING (sku_id) \
    WHERE k.brand = 'a' AND k.sku = 'SHOE-270' FOR UPDATE",
    "BEGIN; SELECT s.* FROM stock s JOIN skus k USING (sku_id) \
    WHERE k.brand = 'b' AND k.sku = 'SHOE-270' FOR UPDATE",
];

/// Two orders may wait for held rows, and orders of one brand wait already.
#[tokio::test]
async fn orders_for_a_held_row_refuse_no_other_brand() -> Result<()> {
    let (_cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = site_on(dir.path(), database, &["a", "b"]).await?;
    configure(&site.cloud_dir().join("bridge-cloud.toml"), "storefront.answer_within", "2s")?;
    configure(&site.idc_dir().join("bridge-idc.toml"), "orders.window_max", 8)?;
    let bridge = site.start().await?;
    let mut held = Vec::new();
    for transaction in HELD {
        let mut dba = Dba::connect(site.database()).await?;
        dba.execute(transaction).await?;
        held.push(dba);
    }
    let (mut a, mut b) = (Shop::open(&site, "a"), Shop::open(&site, "b"));
    let mut flood = JoinSet::new();
    for _ in 0..4 {
        let (order, mut shop) = (a.order(&[(0, 1)]), Shop::open(&site, "a"));
        flood.spawn(async move { shop.place(&order.key, order.body).await });
    }
    until("the queues of held rows are full", async || {
        let metrics = bridge.idc.metrics().await?;
        Ok(metric(&metrics, "bridge_queue_depth{queue=\"held\"}")? == 2
            && metric(&metrics, "bridge_queue_limit{queue=\"held\"}")? == 2)
    })
    .await?;
    let answer = b.place_new(&[(0, 1)]).await?;
    ensure!(answer.status == 202, "the order is answered {}: {}", answer.status, answer.json());
    let mut answers = Vec::new();
    while let Some(answer) = flood.join_next().await {
        answers.push(answer??.status.as_u16());
    }
    answers.sort_unstable();
    // The brand had both places. Its newer order leaves for the other brand, unless it is being
    // tried or was answered before: a request that is being tried is never refused.
    ensure!(matches!(answers[..], [202, 202 | 503, 503, 503]), "the flood is answered {answers:?}");
    for mut dba in held {
        dba.execute("COMMIT").await?;
    }
    let place = answer.header("location").context("no Location")?.to_owned();
    ensure!(b.resolved(&place).await?["state"] == "placed");
    b.close(&site, 1, [1, 0, 0]).await
}

/// Returns the limit of a brand in a cloud agent's status, if it has one.
async fn limit_of(site: &Site, brand: &str) -> Result<Option<u64>> {
    let status = Client::new(site.cloud.admin).get("/status", None).await?.json();
    let credits = status["credits"].as_array().context("no credits")?.clone();
    Ok(credits.iter().find(|credit| credit["brand"] == brand).and_then(|credit| credit["limit"].as_u64()))
}

#[tokio::test]
async fn a_slow_database_limits_the_flood_and_no_other_brand() -> Result<()> {
    let (_cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = site_on(dir.path(), database, &["a", "b"]).await?;
    configure(&site.idc_dir().join("bridge-idc.toml"), "orders.committers", 1)?;
    configure(&site.idc_dir().join("bridge-idc.toml"), "orders.batch_max", 4)?;
    let _bridge = site.start().await?;
    Dba::connect(site.database()).await?.execute(SLOW_COMMITS).await?;

    let (mut a, mut b) = (Shop::open(&site, "a"), Shop::open(&site, "b"));
    let flood = Arc::new(Flood::default());
    // The queues have room for all of them. Only the limit refuses some.
    let mut buyers = flood.begin(&site, &mut a, FLOOD).await?;
    until("the flood has a limit", async || {
        while let Some(buyer) = buyers.try_join_next() {
            buyer??;
        }
        Ok(limit_of(&site, "a").await?.is_some_and(|limit| limit < WAITING as u64))
    })
    .await?;
    let mut later = Vec::new();
    for _ in 0..2 {
        later.push(flood.begin(&site, &mut a, ON_ONE_CONNECTION).await?);
        let answer = b.place_new(&[(0, 1)]).await?;
        ensure!(answer.status == 201, "the order is answered {}: {}", answer.status, answer.json());
        ensure!(limit_of(&site, "b").await?.is_none());
    }
    until("a buyer is refused with the limit", async || Ok(flood.limited.load(Ordering::Relaxed) > 0))
        .await?;
    let idc = Client::new(site.idc.admin).get("/status", None).await?.json();
    let limits = idc["limits_of_a_cloud_agent"].as_array().context("no limits")?;
    ensure!(limits.len() == 1 && limits[0]["brand"] == "a", "{limits:?}");
    flood.is_over.store(true, Ordering::Relaxed);
    drop((buyers, later));
    until("the limit goes with the flood", async || Ok(limit_of(&site, "a").await?.is_none())).await?;
    b.close(&site, 2, [2, 0, 0]).await
}

/// Counts of the flood's answers.
#[derive(Default)]
struct Flood {
    /// Class of its orders.
    class: Option<&'static str>,
    placed: AtomicUsize,
    refused: AtomicUsize,
    /// Refusals that name the brand's limit.
    limited: AtomicUsize,
    is_over: AtomicBool,
}

impl Flood {
    /// Starts this many buyers, each with its own order.
    async fn begin(
        self: &Arc<Self>,
        site: &Site,
        shop: &mut Shop,
        buyers: usize,
    ) -> Result<JoinSet<Result<()>>> {
        let mut begun = JoinSet::new();
        for _ in 0..buyers / ON_ONE_CONNECTION {
            let stream = TcpStream::connect(site.storefront).await?;
            let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            for _ in 0..ON_ONE_CONNECTION {
                let (order, token) = (shop.order(&[(0, 1)]), shop.token().to_owned());
                begun.spawn(buy(client.clone(), shop.orders(), token, order, self.clone()));
            }
        }
        Ok(begun)
    }
}

/// Places an order, and sends it again after `Retry-After` until it is accepted. It may be refused
/// only with `busy`, because its brand has its share.
async fn buy(
    mut client: SendRequest<Full<Bytes>>,
    path: String,
    token: String,
    order: OrderStep,
    flood: Arc<Flood>,
) -> Result<()> {
    loop {
        client.ready().await?;
        let request = Request::post(format!("http://bridge{path}"))
            .header("authorization", format!("Bearer {token}"))
            .header("idempotency-key", &order.key)
            .header("content-type", "application/json");
        let request =
            flood.class.iter().fold(request, |request, class| request.header("bridge-class", *class));
        let request = request.body(Full::new(order.body.clone()))?;
        let (head, body) = client.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        if [201, 202, 409].contains(&head.status.as_u16()) {
            flood.placed.fetch_add(usize::from(head.status == 201), Ordering::Relaxed);
            return Ok(());
        }
        let problem: Value = serde_json::from_slice(&body)?;
        ensure!(head.status == 503 && problem["type"] == "/problems/busy", "{} {problem}", head.status);
        flood.refused.fetch_add(1, Ordering::Relaxed);
        if let Some(limit) = head.headers.get("ratelimit") {
            let (limit, policy) = (limit.to_str()?, head.headers.get("ratelimit-policy"));
            let policy = policy.context("no policy")?.to_str()?;
            ensure!(limit.starts_with("\"orders\";r=0;t=") && policy.starts_with("\"orders\";q="));
            flood.limited.fetch_add(1, Ordering::Relaxed);
        }
        let after = head.headers.get("retry-after").context("no retry-after")?.to_str()?.parse()?;
        if flood.is_over.load(Ordering::Relaxed) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(after)).await;
    }
}
