//! All rows as the feed brought them: the source of snapshots, checksums and updates for the
//! serving threads.
//!
//! It has one owner, `follow`. Each change returns the updates that bring every view to the same
//! state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bridge_protocol::domain::catalogue::{Code, EntityKey, EntityKind, Position};
use bridge_protocol::domain::{Brand, Currency};
use bridge_protocol::feed::Row;
use bridge_protocol::feed::sums::{RowSum, Sums};
use bridge_protocol::wire::catalogue::{BrandRow, CategoryRow};
use bytes::Bytes;
use prost::Message as _;

use super::answer::{Item, PreparedRow, prepare};
use super::compress::Compressor;
use super::snapshot::Image;
use super::tree;
use super::update::Update;

/// Rows in one update that is made from rows already here: about a page of the feed.
const ROWS_AT_ONCE: usize = 256;

/// The replica's rows.
#[derive(Debug)]
pub struct ReplicaRows {
    brands: BTreeSet<Brand>,
    /// Those of the brands that were not replicated yet. The position says nothing about them.
    lacking: BTreeSet<Brand>,
    served: Rows,
    /// Rows of a bootstrap that is not complete.
    next: Option<Rows>,
    position: Option<Position>,
    compressor: Compressor,
}

#[derive(Debug, Default)]
struct Rows {
    rows: BTreeMap<EntityKey, Bytes>,
    sums: Sums,
}

/// Returns each brand's currency in these rows.
pub fn currencies<'a>(rows: impl Iterator<Item = (&'a EntityKey, &'a Bytes)>) -> BTreeMap<Brand, Currency> {
    let currency = |row: &Bytes| Currency::new(&BrandRow::decode(row.clone()).ok()?.currency).ok();
    let brands = rows.filter(|(key, _)| key.kind == EntityKind::Brand);
    brands.filter_map(|(key, row)| Some((key.brand.clone(), currency(row)?))).collect()
}

impl ReplicaRows {
    /// Makes an empty replica of these brands.
    pub fn new(brands: BTreeSet<Brand>, compressor: Compressor) -> Self {
        Self {
            lacking: brands.clone(),
            brands,
            served: Rows::default(),
            next: None,
            position: None,
            compressor,
        }
    }

    /// Takes over a snapshot. Returns the updates that bring empty views to it. As in a bootstrap,
    /// a view serves nothing before the last update, because half a catalogue would deny existing
    /// products.
    pub fn restore(&mut self, image: Image) -> Vec<Update> {
        self.position = Some(image.position);
        self.lacking = self.brands.difference(&image.brands).cloned().collect();
        let rows: Vec<Row> = image.rows.into_iter().map(|(key, row)| Row { key, row: Some(row) }).collect();
        let pages = || rows.chunks(ROWS_AT_ONCE).map(|page| page.iter().map(prepare).collect());
        // Two threads do half of the work each, because every caller waits for both.
        let prepared: Vec<Vec<PreparedRow>> = std::thread::scope(|scope| {
            let prepared = scope.spawn(|| pages().collect());
            rows.iter().for_each(|row| self.served.set(row.clone()));
            prepared.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let brands: BTreeSet<Brand> = self.served.rows.keys().map(|key| key.brand.clone()).collect();
        let mut updates = vec![Update::StartAnew { lacking: Arc::new(self.lacking.clone()) }];
        updates.extend(prepared.into_iter().map(|page| self.update(page, None, false)));
        updates.push(self.update(self.trees(&brands), self.position, true));
        updates
    }

    /// Returns the position of the served rows.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Returns the position from which the feed can go on; `None` if it must begin anew, because
    /// a brand is lacking.
    pub fn resumes_at(&self) -> Option<Position> {
        self.position.filter(|_| self.lacking.is_empty())
    }

    /// Returns the brands that were not replicated yet.
    pub fn lacking(&self) -> &BTreeSet<Brand> {
        &self.lacking
    }

    /// Returns the number of served rows.
    pub fn rows(&self) -> usize {
        self.served.rows.len()
    }

    /// Returns the currency of each brand that is served.
    pub fn currencies(&self) -> BTreeMap<Brand, Currency> {
        let key = |brand: &Brand| {
            let code = Code::new(brand.as_str()).ok()?;
            Some(EntityKey { kind: EntityKind::Brand, brand: brand.clone(), code })
        };
        let keys: Vec<EntityKey> = self.brands.iter().filter_map(key).collect();
        currencies(keys.iter().filter_map(|key| Some((key, self.served.rows.get(key)?))))
    }

    /// Returns the checksums of the served rows.
    pub fn sums(&self) -> &Sums {
        &self.served.sums
    }

    /// Begins to collect rows beside the served ones.
    pub fn start_anew(&mut self) -> Update {
        self.next = Some(Rows::default());
        Update::StartAnew { lacking: Arc::default() }
    }

    /// Applies a page and returns the update for the views. During a bootstrap the rows are only
    /// collected.
    pub fn apply(&mut self, rows: Vec<Row>, position: Option<Position>, complete: bool) -> Update {
        let mut prepared: Vec<PreparedRow> = rows.iter().map(prepare).collect();
        let mut changed: BTreeSet<Brand> = BTreeSet::new();
        let target = self.next.as_mut().unwrap_or(&mut self.served);
        for row in rows {
            if row.key.kind == EntityKind::Category {
                changed.insert(row.key.brand.clone());
            }
            target.set(row);
        }
        if complete && let Some(next) = self.next.take() {
            changed.extend(next.rows.keys().map(|key| key.brand.clone()));
            self.served = next;
            self.lacking.clear();
        }
        if self.next.is_none() {
            self.position = position.or(self.position);
            // During a bootstrap, trees are made with its last page.
            prepared.extend(self.trees(&changed));
        }
        let position = self.position.filter(|_| self.next.is_none());
        self.update(prepared, position, complete)
    }

    /// Returns the served rows for a snapshot; `None` while there are none. `fresh_micros` is the
    /// time when they were last known to equal their source, by the wall clock.
    pub fn image(&self, fresh_micros: i64) -> Option<Image> {
        let rows = self.served.rows.iter().map(|(key, row)| (key.clone(), row.clone())).collect();
        let brands = self.brands.difference(&self.lacking).cloned().collect();
        Some(Image { brands, position: self.position?, fresh_micros, rows })
    }

    fn update(&self, rows: Vec<PreparedRow>, position: Option<Position>, complete: bool) -> Update {
        let rows: Arc<[PreparedRow]> = rows.into();
        self.compressor.compress(&rows);
        Update::Rows { rows, position, complete }
    }

    /// Returns the category trees of these brands.
    fn trees(&self, brands: &BTreeSet<Brand>) -> Vec<PreparedRow> {
        let tree = |brand: &Brand| {
            let code = Code::new(brand.as_str()).ok()?;
            let categories = self.served.categories(brand);
            let item = Item::Tree(Arc::new(tree::answer(&categories)));
            let key = EntityKey { kind: EntityKind::Brand, brand: brand.clone(), code };
            Some(PreparedRow { key, item: Some(item) })
        };
        brands.iter().filter_map(tree).collect()
    }
}

impl Rows {
    fn set(&mut self, Row { key, row }: Row) {
        let before = match row {
            Some(row) => {
                self.sums.add(RowSum::of(&key, &row));
                // The row is copied: it would otherwise keep the whole frame in memory.
                let row = Bytes::copy_from_slice(&row);
                self.rows.insert(key.clone(), row)
            }
            None => self.rows.remove(&key),
        };
        if let Some(before) = before {
            self.sums.remove(RowSum::of(&key, &before));
        }
    }

    fn categories(&self, brand: &Brand) -> BTreeMap<Code, CategoryRow> {
        let of_brand =
            self.rows.iter().filter(|(key, _)| key.kind == EntityKind::Category && key.brand == *brand);
        of_brand
            .filter_map(|(key, row)| Some((key.code.clone(), CategoryRow::decode(row.clone()).ok()?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use bridge_protocol::domain::UnixMicros;
    use bridge_protocol::wire::catalogue::ProductRow;

    use super::super::view::View;
    use super::*;

    #[test]
    fn a_view_serves_a_snapshot_only_once_complete() {
        let brand = Brand::new("tea").unwrap();
        let row = |index: usize| {
            let code = Code::new(&format!("P{index}")).unwrap();
            let row = ProductRow::default().encode_to_vec().into();
            (EntityKey { kind: EntityKind::Product, brand: brand.clone(), code }, row)
        };
        let position = Position { seq: 7, mark: 1 };
        let brands = BTreeSet::from([brand.clone()]);
        let rows = (0..1_000).map(row).collect();
        let image = Image { brands: brands.clone(), position, fresh_micros: 0, rows };
        let mut master = ReplicaRows::new(brands, Compressor::start().unwrap());
        let mut updates = master.restore(image);
        let last = updates.pop().unwrap();
        let mut view = View::default();
        for update in updates {
            view.apply(update, UnixMicros::new(0));
            assert!(view.position().is_none() && view.brand("tea").is_none());
        }
        view.apply(last, UnixMicros::new(0));
        assert_eq!((view.position(), master.position()), (Some(position), Some(position)));
        assert!(view.brand("tea").unwrap().product("P999").is_some());
        assert_eq!((view.lacks("tea"), master.resumes_at()), (false, Some(position)));
    }

    #[test]
    fn a_brand_that_a_snapshot_lacks_is_unknown_until_it_is_replicated() {
        let [hats, tea] = ["hats", "tea"].map(|name| Brand::new(name).unwrap());
        let of_tea = BTreeSet::from([tea.clone()]);
        let position = Position { seq: 7, mark: 1 };
        let image = Image { brands: of_tea.clone(), position, fresh_micros: 0, rows: Vec::new() };
        let both = BTreeSet::from([hats, tea]);
        let mut master = ReplicaRows::new(both.clone(), Compressor::start().unwrap());
        let mut view = View::default();
        let lacks = |view: &View| ["hats", "tea"].map(|brand| view.lacks(brand));
        master.restore(image).into_iter().for_each(|update| view.apply(update, UnixMicros::new(0)));
        assert_eq!((view.position(), lacks(&view)), (Some(position), [true, false]));
        // Changes after the position would not bring the rows that the new brand has already.
        assert_eq!(master.resumes_at(), None);
        // A snapshot of now must not say that it has the new brand.
        assert_eq!(master.image(0).unwrap().brands, of_tea);

        view.apply(master.start_anew(), UnixMicros::new(0));
        assert_eq!(lacks(&view), [true, false]);
        let position = Some(Position { seq: 9, mark: 1 });
        view.apply(master.apply(Vec::new(), position, true), UnixMicros::new(0));
        assert_eq!((lacks(&view), master.resumes_at()), ([false, false], position));
        assert_eq!(master.image(0).unwrap().brands, both);
    }
}
