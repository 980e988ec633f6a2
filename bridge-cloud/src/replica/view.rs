//! One serving thread's view: its own maps over answers that all threads share.
//!
//! A thread finds a product or a SKU by two look-ups without a lock. It gets changes as updates, at
//! most one page of the feed each. During a bootstrap it collects the new rows beside the served
//! ones.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bridge_protocol::domain::catalogue::{Code, EntityKind, Position};
use bridge_protocol::domain::{Brand, UnixMicros};
use foldhash::fast::RandomState;

use super::answer::{CachedAnswer, Item, PreparedRow, Product, Stock};
use super::listing::Listing;
use super::update::{Freshness, Update};

/// A serving thread's view of the replica.
#[derive(Debug, Default)]
pub struct View {
    served: Brands,
    /// Brands that are served and were not replicated yet.
    lacking: Arc<BTreeSet<Brand>>,
    /// Rows of a bootstrap that is not complete, and the brands that it lacks.
    next: Option<(Brands, Arc<BTreeSet<Brand>>)>,
    position: Option<Position>,
    fresh: Option<Freshness>,
}

/// A map for the look-ups of reads. Its hash is quick and does not stop a caller who chooses the
/// keys of a map, but only the shop chooses these.
type QuickMap<K, V> = HashMap<K, V, RandomState>;

/// Rows by brand.
type Brands = QuickMap<String, BrandView>;

/// One brand's rows.
#[derive(Debug, Default)]
pub struct BrandView {
    products: QuickMap<Code, Arc<Product>>,
    stock: QuickMap<Code, Arc<Stock>>,
    tree: Option<Arc<CachedAnswer>>,
    listing: Listing,
}

impl View {
    /// Returns the position; `None` while there is nothing to serve.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Returns the time when it was last known to equal its source.
    pub fn fresh(&self) -> Option<Freshness> {
        self.fresh
    }

    /// Returns a brand's rows; `None` if it has none.
    pub fn brand(&self, brand: &str) -> Option<&BrandView> {
        self.served.get(brand)
    }

    /// Returns true if nothing can be said about this brand yet, although others are served.
    pub fn lacks(&self, brand: &str) -> bool {
        self.lacking.iter().any(|lacking| lacking.as_str() == brand)
    }

    /// Returns the next moment at which a served product appears in the lists or disappears.
    pub fn next_due(&self) -> Option<UnixMicros> {
        self.served.values().filter_map(|brand| brand.listing.next_due()).min()
    }

    /// Lists and unlists products whose moment has come, at most so many of each brand.
    pub fn turn(&mut self, now: UnixMicros, products_max: usize) {
        self.served.values_mut().for_each(|brand| brand.listing.turn(now, products_max));
    }

    /// Applies an update.
    pub fn apply(&mut self, update: Update, now: UnixMicros) {
        match update {
            Update::StartAnew { lacking } => self.next = Some((Brands::default(), lacking)),
            Update::Fresh(freshness) => self.fresh = Some(freshness),
            Update::Rows { rows, position, complete } => {
                let brands = self.next.as_mut().map_or(&mut self.served, |(next, _)| next);
                for row in &*rows {
                    match brands.get_mut(row.key.brand.as_str()) {
                        Some(brand) => brand.apply(row, now),
                        None => brands.entry(row.key.brand.as_str().to_owned()).or_default().apply(row, now),
                    }
                }
                if complete && let Some(next) = self.next.take() {
                    (self.served, self.lacking) = next;
                }
                if self.next.is_none() && position.is_some() {
                    self.position = position;
                }
            }
        }
    }
}

impl BrandView {
    /// Returns a product by its code.
    pub fn product(&self, code: &str) -> Option<&Arc<Product>> {
        self.products.get(code)
    }

    /// Returns the stock of a SKU.
    pub fn stock(&self, sku: &str) -> Option<&Arc<Stock>> {
        self.stock.get(sku)
    }

    /// Returns the category tree; `None` while the brand has none.
    pub fn tree(&self) -> Option<&Arc<CachedAnswer>> {
        self.tree.as_ref()
    }

    /// Returns the lists of products.
    pub fn listing(&self) -> &Listing {
        &self.listing
    }

    fn apply(&mut self, PreparedRow { key, item }: &PreparedRow, now: UnixMicros) {
        match (key.kind, item) {
            (EntityKind::Product, Some(Item::Product(product))) => {
                if let Some(before) = self.products.insert(key.code.clone(), product.clone()) {
                    self.listing.remove(&before);
                }
                self.listing.insert(product, now);
            }
            (EntityKind::Product, _) => {
                if let Some(before) = self.products.remove(&key.code) {
                    self.listing.remove(&before);
                }
            }
            (EntityKind::Stock, Some(Item::Stock(stock))) => {
                self.stock.insert(key.code.clone(), stock.clone());
            }
            (EntityKind::Stock, _) => drop(self.stock.remove(&key.code)),
            (EntityKind::Category, Some(Item::Category(parent))) => {
                self.listing.set_category(&key.code, Some(parent.clone()));
            }
            (EntityKind::Category, _) => self.listing.set_category(&key.code, None),
            (EntityKind::Brand, Some(Item::Tree(tree))) => self.tree = Some(tree.clone()),
            (EntityKind::Brand, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use bridge_protocol::domain::catalogue::EntityKey;
    use bridge_protocol::feed::Row;
    use bridge_protocol::wire::catalogue::{ProductRow, StockRow};
    use prost::Message as _;

    use super::super::answer::prepare;
    use super::super::listing::{PageSize, Sort};
    use super::*;

    const NOW: UnixMicros = UnixMicros::new(0);

    fn row(kind: EntityKind, code: &str, row: Option<Vec<u8>>) -> Row {
        let key = EntityKey { kind, brand: Brand::new("tea").unwrap(), code: Code::new(code).unwrap() };
        Row { key, row: row.map(Into::into) }
    }

    fn product(code: &str, category: &str) -> Row {
        let message = ProductRow { categories: vec![category.to_owned()], ..ProductRow::default() };
        row(EntityKind::Product, code, Some(message.encode_to_vec()))
    }

    fn rows(rows: &[Row], seq: Option<u64>, complete: bool) -> Update {
        let position = seq.map(|seq| Position { seq, mark: 1 });
        Update::Rows { rows: rows.iter().map(prepare).collect(), position, complete }
    }

    fn listed(view: &View, category: Option<&str>) -> Vec<String> {
        let brand = view.brand("tea").unwrap();
        let size = PageSize { products: 100, bytes: usize::MAX };
        let page = brand.listing().page(category, Sort::Name, None, size, NOW);
        page.products.iter().map(|product| product.code.as_str().to_owned()).collect()
    }

    #[test]
    fn what_is_served_stays_until_a_bootstrap_is_complete() {
        let mut view = View::default();
        view.apply(rows(&[product("OLD", "a")], Some(7), false), NOW);
        view.apply(Update::StartAnew { lacking: Arc::default() }, NOW);
        view.apply(rows(&[product("NEW", "a")], None, false), NOW);
        let served = |view: &View, code| view.brand("tea").unwrap().product(code).is_some();
        assert!(served(&view, "OLD") && !served(&view, "NEW"));
        assert_eq!(view.position().map(|position| position.seq), Some(7));
        // A bootstrap that starts again drops the rows that it had.
        view.apply(Update::StartAnew { lacking: Arc::default() }, NOW);
        view.apply(rows(&[product("NEWER", "a")], Some(3), true), NOW);
        assert!(!served(&view, "OLD") && !served(&view, "NEW") && served(&view, "NEWER"));
        assert_eq!(view.position().map(|position| position.seq), Some(3));
    }

    #[test]
    fn a_product_that_changes_category_or_goes_leaves_the_old_lists() {
        let mut view = View::default();
        view.apply(rows(&[product("A", "x"), product("B", "x")], Some(1), false), NOW);
        view.apply(rows(&[product("A", "y")], Some(2), false), NOW);
        assert_eq!(
            (listed(&view, Some("x")), listed(&view, Some("y"))),
            (vec!["B".into()], vec!["A".into()])
        );
        view.apply(rows(&[row(EntityKind::Product, "A", None)], Some(3), false), NOW);
        assert_eq!((listed(&view, Some("y")), listed(&view, None)), (vec![], vec!["B".into()]));
    }

    #[test]
    fn stock_comes_changes_and_goes() {
        let mut view = View::default();
        let units = |available| row(EntityKind::Stock, "A-1", Some(StockRow { available }.encode_to_vec()));
        for (row, expected) in [
            (units(5), Some(&br#"{"sku":"A-1","available":5}"#[..])),
            (units(4), Some(&br#"{"sku":"A-1","available":4}"#[..])),
            (row(EntityKind::Stock, "A-1", None), None),
        ] {
            view.apply(rows(&[row], Some(1), false), NOW);
            let stock = view.brand("tea").unwrap().stock("A-1");
            assert_eq!(stock.map(|stock| &stock.item[..]), expected);
        }
    }
}
