//! The shared parts of the end-to-end tests: a bridge for several tests, a shop that makes orders,
//! and checks for every answer. The rest is in the harness, `bridge_tests::testkit`.
#![allow(dead_code, reason = "each test program uses its own part of this")]

// Two agents on each side.
pub(crate) mod twins;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bridge_contract::Contract;
use bridge_tests::testkit::database::Database;
use bridge_tests::testkit::http::{Client, HttpAnswer};
use bridge_tests::testkit::ledger_totals::LedgerTotals;
use bridge_tests::testkit::personal::Person;
use bridge_tests::testkit::plan::{Line, OrderStep, Plan, Step, StockRow};
use bridge_tests::testkit::postgres::Postgres;
use bridge_tests::testkit::process::Programs;
use bridge_tests::testkit::search::Needles;
pub(crate) use bridge_tests::testkit::site::configure;
use bridge_tests::testkit::site::{Bridge, Setup, Site};
use http::Method;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

/// Upper limit of each wait. It is generous, since other programs may use the machine. A condition
/// normally ends the wait long before.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Units of each SKU of a [`plan`], except the last one.
pub(crate) const UNITS: u64 = 1_000;

/// Sets up a bridge for `brands` (all in KRW) on an SQLite file, without starting its agents.
pub(crate) async fn site(dir: &Path, brands: &[&str]) -> Result<Site> {
    site_on(dir, Database::Sqlite(dir.join("idc").join("ledger.db")), brands).await
}

/// Sets up a bridge for `brands` on the given database, without starting its agents.
pub(crate) async fn site_on(dir: &Path, database: Database, brands: &[&str]) -> Result<Site> {
    site_of(dir, database, brands, Setup::default()).await
}

/// Sets up a bridge for `brands` on the given database and with these options, without starting its
/// agents.
pub(crate) async fn site_of(dir: &Path, database: Database, brands: &[&str], setup: Setup) -> Result<Site> {
    let brands: Vec<_> = brands.iter().map(|brand| (*brand, "KRW")).collect();
    let site = Site::set_up(dir, Programs::build()?, database, &brands, 1, setup).await?;
    for (brand, _) in brands {
        site.import(&plan(brand)).await?;
    }
    Ok(site)
}

/// Starts a temporary PostgreSQL with one empty database.
pub(crate) async fn postgres() -> Result<(Postgres, Database)> {
    let cluster = Postgres::start().await?;
    let database = cluster.create_database("ledger").await?;
    Ok((cluster, database))
}

/// Makes both agents notice a dead peer within two seconds instead of twelve. So a test has time
/// for many deaths.
pub(crate) fn notice_soon(site: &Site) -> Result<()> {
    for config in [site.cloud_dir().join("bridge-cloud.toml"), site.idc_dir().join("bridge-idc.toml")] {
        configure(&config, "tunnel.heartbeat", "250ms")?;
        configure(&config, "tunnel.silent_after", "1s")?;
        configure(&config, "tunnel.idle_timeout", "2s")?;
    }
    Ok(())
}

/// A running bridge that the tests of one program share. The first test sets it up, and the last
/// one ends it.
pub(crate) struct Stage {
    pub(crate) site: Site,
    pub(crate) bridge: Bridge,
    _dir: TempDir,
    /// Runtime of the agents' processes. It is the last field, since it must be dropped last.
    runtime: Runtime,
}

/// Access to the stage that the tests of one program share.
pub(crate) struct Shared {
    brands: &'static [&'static str],
    adjust: fn(&Site) -> Result<()>,
    stage: Mutex<Weak<Stage>>,
}

impl Shared {
    /// Describes a stage for these brands. Each test uses its own brand. `adjust` changes the
    /// configurations before the start.
    pub(crate) const fn new(brands: &'static [&'static str], adjust: fn(&Site) -> Result<()>) -> Shared {
        Shared { brands, adjust, stage: Mutex::new(Weak::new()) }
    }

    /// Runs a test on the stage.
    pub(crate) fn play(&self, test: impl AsyncFnOnce(&Stage) -> Result<()>) -> Result<()> {
        let stage = self.stage()?;
        stage.runtime.block_on(test(&stage))
    }

    fn stage(&self) -> Result<Arc<Stage>> {
        let mut shared = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stage) = shared.upgrade() {
            return Ok(stage);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let dir = tempfile::tempdir()?;
        let (site, bridge) = runtime.block_on(async {
            let site = site(dir.path(), self.brands).await?;
            (self.adjust)(&site)?;
            let bridge = site.start().await?;
            anyhow::Ok((site, bridge))
        })?;
        let stage = Arc::new(Stage { site, bridge, _dir: dir, runtime });
        *shared = Arc::downgrade(&stage);
        Ok(stage)
    }
}

/// Returns the stock of `brand`: two SKUs with many units, and one with a single unit.
pub(crate) fn plan(brand: &str) -> Plan {
    let row = |sku: &str, price_minor, quantity| StockRow { sku: sku.to_owned(), price_minor, quantity };
    let stock =
        vec![row("SHOE-270", 219_000, UNITS), row("SHIRT-M", 45_000, UNITS), row("LAST-ONE", 5_000, 1)];
    Plan { brand: brand.to_owned(), currency: "KRW", stock, steps: Vec::new() }
}

/// Checks an answer against the API document, which is the same for all agents of this build.
pub(crate) async fn judged(
    storefront: SocketAddr,
    method: Method,
    path: &str,
    answer: HttpAnswer,
) -> Result<HttpAnswer> {
    static CONTRACT: OnceCell<Contract> = OnceCell::const_new();
    let contract = CONTRACT.get_or_try_init(|| Contract::of(storefront)).await?;
    contract.check(&method, path, &answer)?;
    Ok(answer)
}

/// The storefront of one brand. It remembers the personal data that it sent.
pub(crate) struct Shop {
    storefront: SocketAddr,
    brand: String,
    token: String,
    client: Client,
    plan: Plan,
    planted: Vec<String>,
    people: u64,
}

impl Shop {
    /// Opens the storefront of a brand.
    pub(crate) fn open(site: &Site, brand: &str) -> Shop {
        Shop {
            storefront: site.storefront,
            brand: brand.to_owned(),
            token: site.token(brand).to_owned(),
            client: Client::new(site.storefront),
            plan: plan(brand),
            planted: Vec::new(),
            people: 0,
        }
    }

    /// Returns the path of the brand's orders.
    pub(crate) fn orders(&self) -> String {
        format!("/v1/{}/orders", self.brand)
    }

    /// Returns the brand's bearer token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Makes an order for a new person. Each line is the index of a SKU in the plan and a number of
    /// units.
    pub(crate) fn order(&mut self, lines: &[(usize, u64)]) -> OrderStep {
        self.people += 1;
        let seed = self.brand.bytes().fold(7, |seed, byte| seed * 31 + u64::from(byte));
        let person = Person::made_up(seed, self.people, format!("c-{}", self.people));
        self.planted.extend(person.planted());
        let lines =
            lines.iter().map(|(stock, quantity)| Line { stock: *stock, quantity: *quantity }).collect();
        let key = format!("{}-key-{}", self.brand, self.people);
        match self.plan.place(key, lines, 3_000, &person) {
            Step::Place(place) => place,
            Step::Cancel { .. } => unreachable!("a plan's place is one"),
        }
    }

    /// Returns the JSON body of an order for one pair of shoes, for a test to change.
    pub(crate) fn json(&mut self) -> Value {
        serde_json::from_slice(&self.order(&[(0, 1)]).body).unwrap_or_default()
    }

    /// Remembers a value that must not be found anywhere later.
    pub(crate) fn plant(&mut self, value: &str) -> String {
        self.planted.push(value.to_owned());
        value.to_owned()
    }

    /// Posts an order under a key.
    pub(crate) async fn place(&mut self, key: &str, body: impl Into<bytes::Bytes>) -> Result<HttpAnswer> {
        self.post(&self.orders(), key, body.into()).await
    }

    /// Posts an order under a key, and repeats it while the answer is 202. So a slow machine delays
    /// the test, but does not fail it.
    pub(crate) async fn place_until_told(&mut self, key: &str, body: bytes::Bytes) -> Result<HttpAnswer> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.place(key, body.clone()).await?;
            if answer.status != 202 || Instant::now() > deadline {
                return Ok(answer);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Posts a new order, made as by [`Shop::order`].
    pub(crate) async fn place_new(&mut self, lines: &[(usize, u64)]) -> Result<HttpAnswer> {
        let place = self.order(lines);
        self.place(&place.key, place.body).await
    }

    /// Cancels an order under a key.
    pub(crate) async fn cancel(&mut self, order: &str, key: &str) -> Result<HttpAnswer> {
        let path = format!("{}/{order}/cancel", self.orders());
        self.post(&path, key, bytes::Bytes::new()).await
    }

    async fn post(&mut self, path: &str, key: &str, body: bytes::Bytes) -> Result<HttpAnswer> {
        let answer = self.client.post(path, Some(&self.token), Some(key), body).await?;
        judged(self.storefront, Method::POST, path, answer).await
    }

    /// Reads a path of the storefront.
    pub(crate) async fn get(&mut self, path: &str) -> Result<HttpAnswer> {
        let answer = self.client.get(path, Some(&self.token)).await?;
        judged(self.storefront, Method::GET, path, answer).await
    }

    /// Reads the status of an order until it is final. Returns the body, or `None` if there is no
    /// order.
    pub(crate) async fn settled(&mut self, location: &str) -> Result<Option<Value>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.get(location).await?;
            let body = answer.json();
            match answer.status.as_u16() {
                200 if body["state"] != "unknown" => return Ok(Some(body)),
                404 => return self.problem(&answer, 404, "unknown-order").map(|_| None),
                200 | 503 if Instant::now() < deadline => sleep(Duration::from_millis(50)).await,
                status => bail!("{location} answers {status}: {body}"),
            }
        }
    }

    /// Reads the status of an order until it is final. Fails if there is no order.
    pub(crate) async fn resolved(&mut self, location: &str) -> Result<Value> {
        self.settled(location).await?.with_context(|| format!("there is no order at {location}"))
    }

    /// Returns the planted values, ready for a search.
    pub(crate) fn needles(&self) -> Needles {
        Needles::new(self.planted.iter().map(String::as_str))
    }

    /// Checks the name, status and form of a problem. Returns its body.
    pub(crate) fn problem(&self, answer: &HttpAnswer, status: u16, name: &str) -> Result<Value> {
        let body = answer.json();
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(
            answer.status == status && body["type"] == format!("/problems/{name}"),
            "expected {status} {name}, is {} {text}",
            answer.status
        );
        ensure!(answer.header("content-type") == Some("application/problem+json"), "{:?}", answer.headers);
        ensure!(body["status"] == status, "the body's status is another: {text}");
        for member in ["title", "detail", "request_id"] {
            let value = body[member].as_str().unwrap_or_default();
            ensure!(!value.is_empty(), "no {member}: {text}");
        }
        ensure!(answer.header("x-request-id") == body["request_id"].as_str(), "{:?} {text}", answer.headers);
        ensure!(self.needles().count(&answer.body) == 0, "the problem repeats what was sent: {text}");
        Ok(body)
    }

    /// Final checks of a test: the given number of orders and of units of each SKU are sold, the
    /// stock is balanced, no log contains a planted value, and another order is accepted.
    pub(crate) async fn close(mut self, site: &Site, orders: i64, sold: [i64; 3]) -> Result<()> {
        let books = LedgerTotals::read(site.database(), &self.brand).await?;
        ensure!(books.orders == orders, "{} orders stand, not {orders}", books.orders);
        for (row, sold) in self.plan.stock.iter().zip(sold) {
            let shelf = books.stock.get(&row.sku).context("a SKU is gone")?;
            ensure!((shelf.sold, shelf.ordered) == (sold, sold), "{}: {shelf:?}, not {sold} sold", row.sku);
            ensure!(shelf.initial == shelf.available + shelf.sold, "{}: {shelf:?}", row.sku);
        }
        for log in [&site.cloud.log, &site.idc.log] {
            let hits = self.needles().search_file(log)?.seen.hits;
            ensure!(hits == 0, "{hits} planted values in {}", log.display());
        }
        let another = self.order(&[(1, 1)]);
        let answer = self.place_until_told(&another.key, another.body).await?;
        ensure!(answer.status == 201, "another order is answered {}", answer.status);
        Ok(())
    }
}

/// Returns the head of a request that places an order. `more` holds further header lines.
pub(crate) fn head(shop: &Shop, key: &str, more: &str) -> String {
    format!(
        "POST {} HTTP/1.1\r\nhost: bridge\r\nauthorization: Bearer {}\r\nidempotency-key: {key}\r\n\
         content-type: application/json\r\n{more}\r\n",
        shop.orders(),
        shop.token()
    )
}

/// Returns the order id at the end of a `Location`.
pub(crate) fn order_at(answer: &HttpAnswer) -> Result<String> {
    let location = answer.header("location").context("no Location")?;
    let path = location.split('?').next().unwrap_or_default();
    Ok(path.rsplit('/').next().unwrap_or_default().to_owned())
}

/// Waits until `met` returns true. `what` describes the condition in the error.
pub(crate) async fn until(what: &str, mut met: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !met().await? {
        if Instant::now() > deadline {
            bail!("still waiting after {PATIENCE:?}: {what}");
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Returns the reasons why an agent is not ready, from its `/readyz`. The list is empty if the
/// agent is ready. Returns `None` if the agent does not answer yet.
pub(crate) async fn obstacles(admin: SocketAddr) -> Option<Vec<String>> {
    let answer = Client::new(admin).get("/readyz", None).await.ok()?;
    serde_json::from_value(answer.json()["because"].clone()).ok()
}

/// Returns the value of a counter or gauge in a scrape. `name` includes the labels.
pub(crate) fn metric(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).with_context(|| format!("no {name} in:\n{text}"))
}
