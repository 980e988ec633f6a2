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

use crate::testkit::database::Database;
use crate::testkit::dba::Dba;
use crate::testkit::histogram::Histogram;
use crate::testkit::http::{Client, percent_encoded};

/// How long a change is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// How far the source has numbered its changes.
const NUMBERED: &str = "SELECT holder, CAST(last_seq AS text) FROM catalogue_sequencer";

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
        let mut ledger = Dba::connect(&self.database).await?;
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
            // An error says that nobody can stop it any more, which is a reason to stop.
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

    /// The question for the SKU's row, as a DBA types it.
    fn sku_id(&self) -> String {
        let [brand, sku] = [&self.brand, &self.sku].map(|name| name.replace('\'', "''"));
        format!("SELECT sku_id FROM skus WHERE brand = '{brand}' AND sku = '{sku}'")
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

/// The number in the second column of the only row.
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

    /// As much of a ledger as the probe touches.
    const TABLES: &str = "CREATE TABLE skus (sku_id INTEGER PRIMARY KEY, brand TEXT, sku TEXT);
        CREATE TABLE stock (sku_id INTEGER PRIMARY KEY, initial INTEGER, available INTEGER);
        CREATE TABLE catalogue_sequencer (id INTEGER PRIMARY KEY, last_seq INTEGER, holder TEXT);
        INSERT INTO skus VALUES (1, 'b''s', 'A'), (2, 'b''s', 'B');
        INSERT INTO stock VALUES (1, 5, 5), (2, 1, 1);
        INSERT INTO catalogue_sequencer VALUES (1, 42, 'idc')";

    /// A storefront that says what is in the ledger, but for the first `late` times after a change.
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
        // Five looks in vain, a millisecond apart.
        assert!(report.changes.iter().all(|(_, took)| *took >= Duration::from_millis(5)), "{report:?}");
        assert!(report.positions.iter().all(|(_, position)| *position == 42), "{report:?}");
        let rows = ledger.pairs("SELECT CAST(initial AS text), CAST(available AS text) FROM stock").await;
        let units = (5 + served).to_string();
        assert_eq!(rows.expect("rows"), [(units.clone(), units), ("1".to_owned(), "1".to_owned())]);
    }
}
