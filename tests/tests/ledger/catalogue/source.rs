//! A catalogue for tests, with a running sequencer and a reader that follows it as a replica does.

use std::collections::BTreeMap;

use bridge_idc::catalogue::Catalogue;
use bridge_idc::catalogue::sequencer::{self, ChangeLogLimits, Head};
use bridge_idc::orders::store::Ledger;
use bridge_protocol::domain::Brand;
use bridge_protocol::domain::catalogue::{EntityKey, Position};
use bridge_protocol::feed::Row;
use bridge_protocol::feed::sums::{RowSum, Sums};
use bridge_runtime::shutdown::Shutdown;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, timeout};

/// Upper limit of each wait. It is generous, since other programs may use the machine. A condition
/// normally ends the wait long before.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A catalogue and its sequencer.
pub(crate) struct Source {
    pub(crate) catalogue: Catalogue,
    pub(crate) heads: watch::Receiver<Option<Head>>,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Source {
    pub(crate) fn of(ledger: &Ledger) -> Self {
        Self::with_limits(ledger, ChangeLogLimits::default())
    }

    pub(crate) fn with_limits(ledger: &Ledger, limits: ChangeLogLimits) -> Self {
        let catalogue = Catalogue::of(ledger);
        let (sender, heads) = watch::channel(None);
        let shutdown = Shutdown::new();
        let task = tokio::spawn(sequencer::run(catalogue.clone(), limits, sender, shutdown.clone()));
        Self { catalogue, heads, shutdown, task }
    }

    /// Waits until every change committed before this call has its number. Returns the last
    /// position.
    pub(crate) async fn settled(&mut self) -> Position {
        let now = Instant::now();
        let swept = self.heads.wait_for(|head| head.is_some_and(|head| head.swept >= now));
        timeout(PATIENCE, swept).await.expect("the sequencer gives no numbers").unwrap().unwrap().position
    }

    /// Stops the sequencer as a crash does, so it does not release its lease.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    /// Stops the sequencer in order, so it releases its lease.
    pub(crate) async fn stop(self) {
        self.shutdown.start(PATIENCE);
        self.task.await.unwrap();
    }
}

/// A reader that follows a catalogue by its changes.
pub(crate) struct Replica {
    pub(crate) rows: BTreeMap<EntityKey, Bytes>,
    pub(crate) position: Position,
    brands: Vec<Brand>,
}

impl Replica {
    /// Reads all rows, page by page.
    pub(crate) async fn bootstrap(catalogue: &Catalogue, brands: &[Brand], rows_max: usize) -> Self {
        let (position, _) = catalogue.head().await.unwrap();
        let rows = read(catalogue, brands, rows_max).await;
        let rows = rows.into_iter().filter_map(|Row { key, row }| Some((key, row?))).collect();
        Self { rows, position, brands: brands.to_vec() }
    }

    /// Applies the next changes. Returns the number of rows, or `None` if the reader must start
    /// anew.
    pub(crate) async fn follow(&mut self, catalogue: &Catalogue, changes_max: usize) -> Option<usize> {
        let changes = catalogue.changes(&self.brands, self.position, changes_max).await.unwrap();
        let (rows, position) = changes?;
        let count = rows.len();
        for Row { key, row } in rows {
            match row {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
        assert!(position.seq - self.position.seq <= changes_max as u64);
        self.position = position;
        Some(count)
    }

    /// Applies all changes up to a position.
    pub(crate) async fn reach(&mut self, catalogue: &Catalogue, position: Position) {
        while self.position < position {
            self.follow(catalogue, 1_000).await.expect("the reader's position was pruned");
        }
    }

    pub(crate) fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        self.rows.iter().for_each(|(key, row)| sums.add(RowSum::of(key, row)));
        sums
    }

    /// Checks that the reader holds the tables' rows, byte by byte.
    pub(crate) async fn assert_equals(&self, catalogue: &Catalogue) {
        let source = Self::bootstrap(catalogue, &self.brands, 1_000).await;
        let keys =
            |rows: &BTreeMap<EntityKey, Bytes>| rows.keys().map(EntityKey::to_string).collect::<Vec<_>>();
        assert_eq!(keys(&self.rows), keys(&source.rows));
        assert_eq!(self.rows, source.rows);
        let (_, sums, unsettled) = catalogue.sums(&self.brands).await.unwrap();
        assert!(unsettled.is_empty(), "changes are pending");
        assert_eq!(self.sums(), sums);
    }
}

/// Returns all rows of these brands, read in pages of at most `rows_max` rows.
pub(crate) async fn read(catalogue: &Catalogue, brands: &[Brand], rows_max: usize) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let after = rows.last().map(|row| row.key.clone());
        let (page, last) = catalogue.page(brands, after.as_ref(), rows_max).await.unwrap();
        assert!(page.len() <= rows_max && (last || page.len() == rows_max));
        rows.extend(page);
        if last {
            return rows;
        }
    }
}

/// Returns the keys, each as kind and name, that changed after a position.
pub(crate) async fn changed(catalogue: &Catalogue, brands: &[Brand], after: Position) -> Vec<String> {
    let (rows, _) = catalogue.changes(brands, after, 10_000).await.unwrap().expect("the position was pruned");
    rows.iter().map(|row| row.key.to_string()).collect()
}

pub(crate) fn brands(names: &[&str]) -> Vec<Brand> {
    names.iter().map(|name| Brand::new(name).unwrap()).collect()
}

/// Data for most cases: a brand with a small tree, two products and three SKUs, and another brand.
pub(crate) const SHOP: &str = r#"
    INSERT INTO brands (brand, currency) VALUES ('acme', 'KRW'), ('beta', 'USD');
    INSERT INTO categories (brand, category, parent, names, position) VALUES
        ('acme', 'shoes', NULL, '{"ko": "신발", "en": "Shoes"}', 1),
        ('acme', 'men', 'shoes', '{"en": "Men"}', 0);
    INSERT INTO products (brand, product, names, descriptions, document, images, published_from) VALUES
        ('acme', 'TRAIL', '{"ko": "트레일화", "en": "Trail shoe"}', '{"en": "Grips."}', '{"weight_g": 310}',
         '["https://img/1.jpg", "https://img/2.jpg"]', 1700000000000000),
        ('acme', 'ROAD', '{"en": "Road shoe"}', '{}', '{}', '[]', NULL),
        ('beta', 'MUG', '{"en": "Mug"}', '{}', '{}', '[]', NULL);
    INSERT INTO product_categories (brand, product, category) VALUES
        ('acme', 'TRAIL', 'shoes'), ('acme', 'TRAIL', 'men'), ('acme', 'ROAD', 'shoes');
    INSERT INTO skus (brand, sku, price, product, options, position) VALUES
        ('acme', 'TRAIL-280', 219000, 'TRAIL', '{"size": "280", "colour": "black"}', 1),
        ('acme', 'TRAIL-270', 219000, 'TRAIL', '{"size": "270", "colour": "black"}', 1),
        ('acme', 'LACES', 3000, NULL, '{}', 0),
        ('beta', 'MUG', 1500, 'MUG', '{}', 0);
    INSERT INTO stock (sku_id, initial, available, sold)
    SELECT sku_id, 10, 10, 0 FROM skus;
"#;
