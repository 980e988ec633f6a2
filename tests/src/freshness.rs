//! How soon a committed row is served: a row is changed with plain SQL, as a DBA would, and read until it shows.
//!
//! The stock of one SKU that nobody orders goes up by a unit, again and again; between the answer to the commit and the
//! storefront's first answer with the new number lies the freshness of that change. It asks every millisecond or so,
//! which is how exact it is. Beside that it reads how far the source has numbered its changes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::database::Database;
use crate::histogram::Histogram;
use crate::http::{Client, percent_encoded};
use crate::sql::Connection;

/// How long a change is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(1);

const STOCK: &str = "SELECT skus.sku, stock.available, stock.initial, stock.sold
    FROM stock JOIN skus USING (sku_id) WHERE skus.brand = $1 AND skus.sku = $2";
const ADD_A_UNIT: &str = "UPDATE stock SET initial = initial + 1, available = available + 1
    WHERE sku_id = (SELECT sku_id FROM skus WHERE brand = $1 AND sku = $2)";
const NUMBERED: &str = "SELECT holder, last_seq, last_mark, swept_at FROM catalogue_sequencer";

/// What is changed, and where it must show.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The ledger's database.
    pub database: Database,
    /// The storefront listener of a cloud agent.
    pub storefront: SocketAddr,
    /// A brand that is served.
    pub brand: String,
    /// One of its SKUs, with a stock that nobody else changes.
    pub sku: String,
    /// From the end of one change to the next.
    pub pause: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// When each change was committed, and how long it took to be served.
    pub changes: Vec<(Duration, Duration)>,
    /// Changes that were not served within ten seconds, or looks that got no answer.
    pub missed: u64,
    /// At these moments the source had numbered its changes up to there.
    pub positions: Vec<(Duration, i64)>,
}

impl Report {
    /// All changes that were served.
    #[must_use]
    pub fn latency(&self) -> Histogram {
        let mut latency = Histogram::default();
        self.changes.iter().for_each(|(_, took)| latency.record(*took));
        latency
    }
}

impl Probe {
    /// Waits until the SKU's stock in the ledger is served for the first time.
    ///
    /// # Errors
    /// When it is not within ten seconds.
    pub async fn settle(&self) -> Result<()> {
        let mut ledger = Connection::reading(&self.database).await?;
        let available = self.available(&mut ledger).await?;
        let served = self.look_for(&mut Client::new(self.storefront), available).await;
        ensure!(served, "the storefront does not serve the stock of {} after {PATIENCE:?}", self.sku);
        Ok(())
    }

    /// Changes the stock again and again until `stop` is true or nobody can say so any more; moments count from
    /// `started`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run(self, started: Instant, mut stop: watch::Receiver<bool>) -> Result<Report> {
        let mut ledger =
            Connection::writing(&self.database).await.context("open the ledger to change a row")?;
        let mut storefront = Client::new(self.storefront);
        let mut available = self.available(&mut ledger).await?;
        let mut report = Report::default();
        loop {
            let changed = ledger.execute(ADD_A_UNIT, &[&self.brand, &self.sku]).await;
            let committed = Instant::now();
            ensure!(changed.context("change a row of the stock")? == 1, "the stock of {} is gone", self.sku);
            available += 1;
            if self.look_for(&mut storefront, available).await {
                report.changes.push((committed - started, committed.elapsed()));
            } else {
                report.missed += 1;
            }
            report.positions.push((started.elapsed(), numbered(&mut ledger).await?));
            // An error says that nobody can stop it any more, which is a reason to stop.
            if !matches!(timeout(self.pause, stop.wait_for(|stop| *stop)).await, Err(_elapsed)) {
                return Ok(report);
            }
        }
    }

    async fn available(&self, ledger: &mut Connection) -> Result<i64> {
        let rows = ledger.rows(STOCK, &[&self.brand, &self.sku]).await.context("read a row of the stock")?;
        rows.first()
            .map(|(_, available, ..)| *available)
            .with_context(|| format!("{} has no stock", self.sku))
    }

    /// Asks until the stock is this number.
    async fn look_for(&self, storefront: &mut Client, available: i64) -> bool {
        let path = format!("/v1/{}/stock?sku={}", self.brand, percent_encoded(&self.sku));
        let looking = async {
            loop {
                if let Ok(answer) = storefront.get(&path, None).await
                    && answer.json().pointer("/items/0/available").and_then(serde_json::Value::as_i64)
                        == Some(available)
                {
                    return;
                }
                sleep(LOOK_EVERY).await;
            }
        };
        timeout(PATIENCE, looking).await.is_ok()
    }
}

/// How far the source has numbered its changes.
async fn numbered(ledger: &mut Connection) -> Result<i64> {
    let rows = ledger.rows(NUMBERED, &[]).await.context("read how far the changes are numbered")?;
    rows.first().map(|(_, position, ..)| *position).context("nobody numbers the changes")
}
