//! Measurement of freshness: the time from a row's commit until the storefront serves the new
//! value.
//!
//! The probe adds a unit to the stock of one SKU that nobody orders, with plain SQL as a DBA would,
//! and repeats this. The freshness of a change is the time from the reply to the commit until the
//! storefront's first answer with the new number. The probe reads about every millisecond, which
//! limits its precision. It also reads the last position that the source has given.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::testkit::database::Database;
use crate::testkit::dba::Dba;
use crate::testkit::histogram::Histogram;
use crate::testkit::http::{Client, percent_encoded};

/// Longest wait for a change.
const PATIENCE: Duration = Duration::from_secs(10);
/// Interval between two reads.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Query for the last position that the source has given.
const NUMBERED: &str = "SELECT holder, CAST(last_seq AS text) FROM catalogue_sequencer";

/// The row to change, and the storefront that must serve it.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The ledger's database.
    pub database: Database,
    /// The storefront listener of a cloud agent.
    pub storefront: SocketAddr,
    /// A served brand.
    pub brand: String,
    /// A SKU of the brand. Nobody else changes its stock.
    pub sku: String,
    /// Pause between two changes.
    pub pause: Duration,
}

/// Result of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Time of each commit, and the time until it was served.
    pub changes: Vec<(Duration, Duration)>,
    /// Changes that were not served within ten seconds, and reads without an answer.
    pub missed: u64,
    /// The source's last position at these moments.
    pub positions: Vec<(Duration, i64)>,
}

impl Report {
    /// Returns the freshness of all served changes.
    #[must_use]
    pub fn latency(&self) -> Histogram {
        let mut latency = Histogram::default();
        self.changes.iter().for_each(|(_, took)| latency.record(*took));
        latency
    }
}

impl Probe {
    /// Waits until the storefront serves the stock that the ledger has.
    ///
    /// # Errors
    ///
    /// Fails if that takes more than ten seconds.
    pub async fn settle(&self) -> Result<()> {
        let mut ledger = Dba::connect(&self.database).await?;
        let available = self.available(&mut ledger).await?;
        let served = self.look_for(&mut Client::new(self.storefront), available).await;
        ensure!(served, "the storefront does not serve the stock of {} after {PATIENCE:?}", self.sku);
        Ok(())
    }

    /// Changes the stock again and again until `stop` is true or its sender is gone. Moments count
    /// from `started`.
    ///
    /// # Errors
    ///
    /// Fails if the database refuses a change.
    pub async fn run(self, started: Instant, mut stop: watch::Receiver<bool>) -> Result<Report> {
        let mut ledger = Dba::connect(&self.database).await.context("open the ledger to change a row")?;
        let add_a_unit = format!(
            "UPDATE stock SET initial = initial + 1, available = available + 1 WHERE sku_id = ({})",
            self.sku_id()
        );
        let mut storefront = Client::new(self.storefront);
        let mut available = self.available(&mut ledger).await?;
        let mut report = Report::default();
        loop {
            let changed = ledger.execute(&add_a_unit).await;
            let committed = Instant::now();
            ensure!(changed? == 1, "the stock of {} is gone", self.sku);
            available += 1;
            if self.look_for(&mut storefront, available).await {
                report.changes.push((committed - started, committed.elapsed()));
            } else {
                report.missed += 1;
            }
            report.positions.push((started.elapsed(), number(&mut ledger, NUMBERED).await?));
            // An error means that the sender is gone, so nobody can stop the probe. It stops by
            // itself.
            if !matches!(timeout(self.pause, stop.wait_for(|stop| *stop)).await, Err(_elapsed)) {
                return Ok(report);
            }
        }
    }

    async fn available(&self, ledger: &mut Dba) -> Result<i64> {
        let sku_id = self.sku_id();
        let units = format!("SELECT '', CAST(available AS text) FROM stock WHERE sku_id = ({sku_id})");
        number(ledger, &units).await
    }

    /// Returns the query for the SKU's row, as a DBA types it.
    fn sku_id(&self) -> String {
        let [brand, sku] = [&self.brand, &self.sku].map(|name| name.replace('\'', "''"));
        format!("SELECT sku_id FROM skus WHERE brand = '{brand}' AND sku = '{sku}'")
    }

    /// Reads until the stock is this number. Returns false if the time is over before.
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

/// Returns the number in the second column of the only row.
async fn number(ledger: &mut Dba, sql: &str) -> Result<i64> {
    let rows = ledger.pairs(sql).await?;
    let number = rows.first().and_then(|(_, number)| number.parse().ok());
    number.with_context(|| format!("no row answers {sql}"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// The part of a ledger that the probe uses.
    const TABLES: &str = "CREATE TABLE skus (sku_id INTEGER PRIMARY KEY, brand TEXT, sku TEXT);
        CREATE TABLE stock (sku_id INTEGER PRIMARY KEY, initial INTEGER, available INTEGER);
        CREATE TABLE catalogue_sequencer (id INTEGER PRIMARY KEY, last_seq INTEGER, holder TEXT);
        INSERT INTO skus VALUES (1, 'b''s', 'A'), (2, 'b''s', 'B');
        INSERT INTO stock VALUES (1, 5, 5), (2, 1, 1);
        INSERT INTO catalogue_sequencer VALUES (1, 42, 'idc')";

    /// Starts a storefront that serves the ledger's number. The first `late` answers after a change
    /// still have the old number.
    async fn storefront(database: Database, late: u32) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            let mut ledger = Dba::connect(&database).await.expect("a ledger");
            let (mut said, mut asked) = (0, 0);
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = vec![0; 4_096];
                while let Ok(1..) = stream.read(&mut buffer).await {
                    let held = number(&mut ledger, "SELECT '', CAST(available AS text) FROM stock").await;
                    let held = held.expect("a row");
                    asked += 1;
                    if held == said || asked > late {
                        (said, asked) = (held, 0);
                    }
                    let body = format!(r#"{{"items":[{{"sku":"A","available":{said}}}],"missing":[]}}"#);
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        break;
                    }
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn every_change_is_made_alone_and_timed_until_it_shows() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("ledger.db");
        std::fs::File::create(&path).expect("create");
        let database = Database::Sqlite(path);
        let mut ledger = Dba::connect(&database).await.expect("a ledger");
        ledger.execute(TABLES).await.expect("tables");

        let storefront = storefront(database.clone(), 5).await;
        let (brand, sku, pause) = ("b's".to_owned(), "A".to_owned(), Duration::from_millis(1));
        let probe = Probe { database, storefront, brand, sku, pause };
        probe.settle().await.expect("served");
        let (stop, started) = (watch::Sender::new(false), Instant::now());
        let running = tokio::spawn(probe.run(started, stop.subscribe()));
        sleep(Duration::from_millis(100)).await;
        stop.send_replace(true);
        let report = running.await.expect("no panic").expect("a report");

        let served = report.changes.len();
        assert!(served > 0 && report.missed == 0, "{report:?}");
        assert_eq!(report.latency().count(), served as u64);
        // Five reads without the new number, a millisecond apart.
        assert!(report.changes.iter().all(|(_, took)| *took >= Duration::from_millis(5)), "{report:?}");
        assert!(report.positions.iter().all(|(_, position)| *position == 42), "{report:?}");
        let rows = ledger.pairs("SELECT CAST(initial AS text), CAST(available AS text) FROM stock").await;
        let units = (5 + served).to_string();
        assert_eq!(rows.expect("rows"), [(units.clone(), units), ("1".to_owned(), "1".to_owned())]);
    }
}
