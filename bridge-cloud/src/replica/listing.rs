//! Products of a category, sorted and page by page.
//!
//! A category lists all products below it. A cursor has the sort key of the last product shown, not
//! a count. So a list can be paged through while it changes, and products that stay are shown once.
//! Only visible products are listed. Others wait outside the lists for their moment, so the cost of
//! a page depends only on the products that it shows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bridge_protocol::domain::UnixMicros;
use bridge_protocol::domain::catalogue::Code;

use super::answer::Product;

/// Longest cursor that is read.
const CURSOR_BYTES_MAX: usize = 2_048;

/// Most levels of a tree that are climbed, because it may have a cycle.
const DEPTH_MAX: usize = 64;

/// Sort order of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sort {
    /// By the start of publication, newest first.
    #[default]
    Newest,
    /// By the price of the cheapest variant, lowest first.
    Price,
    /// By the price of the cheapest variant, highest first.
    PriceDown,
    /// By name.
    Name,
}

impl Sort {
    /// Reads the name of an order in a query.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "newest" => Self::Newest,
            "price" => Self::Price,
            "-price" => Self::PriceDown,
            "name" => Self::Name,
            _ => return None,
        })
    }

    const fn number(self) -> u8 {
        match self {
            Self::Newest => 1,
            Self::Price => 2,
            Self::PriceDown => 3,
            Self::Name => 4,
        }
    }
}

/// A product's sort key in an order: by number, then by text, then by code.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SortKey {
    number: i64,
    text: Option<Arc<str>>,
    code: Code,
}

impl SortKey {
    fn of(product: &Product, sort: Sort) -> Self {
        let (number, text) = match sort {
            Sort::Newest => (product.published.saturating_neg(), None),
            Sort::Price | Sort::PriceDown => (product.price, None),
            Sort::Name => (0, Some(product.name.clone())),
        };
        Self { number, text, code: product.code.clone() }
    }

    /// Returns the opaque text that continues this list after this key.
    pub fn cursor(&self, category: Option<&str>, sort: Sort) -> String {
        let fields = (sort.number(), category, self.number, self.text.as_deref(), self.code.as_str());
        BASE64.encode(serde_json::to_vec(&fields).unwrap_or_default())
    }

    /// Reads a cursor of this list. Returns `None` for any other text.
    pub fn from_cursor(text: &str, category: Option<&str>, sort: Sort) -> Option<Self> {
        if text.len() > CURSOR_BYTES_MAX {
            return None;
        }
        let bytes = BASE64.decode(text).ok()?;
        let (of_sort, of_category, number, text, code): (u8, Option<String>, i64, Option<String>, String) =
            serde_json::from_slice(&bytes).ok()?;
        let same = of_sort == sort.number() && of_category.as_deref() == category;
        let code = Code::new(&code).ok().filter(|_| same)?;
        Some(Self { number, text: text.map(Into::into), code })
    }
}

/// Upper limits of one page of a list.
#[derive(Debug, Clone, Copy)]
pub struct PageSize {
    /// Largest number of products.
    pub products: usize,
    /// Most bytes of their entries. The first product is always taken.
    pub bytes: usize,
}

/// A page of a list.
#[derive(Debug, Default)]
pub struct Page {
    /// The products in order.
    pub products: Vec<Arc<Product>>,
    /// Key after which the next page continues; `None` after the last page.
    pub next: Option<SortKey>,
}

/// A brand's lists.
#[derive(Debug, Default)]
pub struct Listing {
    parents: HashMap<Code, Option<Code>>,
    all: Orders,
    by_category: HashMap<Code, Orders>,
    /// Products by the next moment at which they appear or disappear.
    due: BTreeMap<(i64, Code), Arc<Product>>,
}

/// The same products in each order.
#[derive(Debug, Default)]
struct Orders {
    newest: BTreeMap<SortKey, Arc<Product>>,
    price: BTreeMap<SortKey, Arc<Product>>,
    name: BTreeMap<SortKey, Arc<Product>>,
}

impl Listing {
    /// Adds a product. It is listed while it is visible, and checked again when that changes.
    pub fn insert(&mut self, product: &Arc<Product>, now: UnixMicros) {
        let (from, until) = product.visible;
        if let Some(moment) =
            [from, until].into_iter().find(|moment| *moment > now.get() && *moment < i64::MAX)
        {
            self.due.insert((moment, product.code.clone()), product.clone());
        }
        if product.is_visible(now) {
            self.list(product);
        }
    }

    /// Removes a product that was added in this form.
    pub fn remove(&mut self, product: &Product) {
        for moment in <[i64; 2]>::from(product.visible) {
            self.due.remove(&(moment, product.code.clone()));
        }
        self.unlist(product);
    }

    /// Returns the next moment at which a product appears or disappears.
    pub fn next_due(&self) -> Option<UnixMicros> {
        self.due.first_key_value().map(|((moment, _), _)| UnixMicros::new(*moment))
    }

    /// Lists and unlists products whose moment has come, at most so many.
    pub fn turn(&mut self, now: UnixMicros, products_max: usize) {
        for _ in 0..products_max {
            let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now.get()) else {
                return;
            };
            let product = entry.remove();
            self.unlist(&product);
            self.insert(&product, now);
        }
    }

    fn list(&mut self, product: &Arc<Product>) {
        self.all.insert(product);
        for category in self.categories_of(product) {
            self.by_category.entry(category).or_default().insert(product);
        }
    }

    fn unlist(&mut self, product: &Product) {
        self.all.remove(product);
        for category in self.categories_of(product) {
            if let Some(orders) = self.by_category.get_mut(&category) {
                orders.remove(product);
                if orders.name.is_empty() {
                    self.by_category.remove(&category);
                }
            }
        }
    }

    /// Sets the parent of a category (`Some(None)` is the root), or removes the category. The lists
    /// of all products below it are updated.
    pub fn set_category(&mut self, category: &Code, parent: Option<Option<Code>>) {
        if self.parents.get(category) == parent.as_ref() {
            return;
        }
        let below: Vec<Arc<Product>> = self
            .by_category
            .get(category)
            .into_iter()
            .flat_map(|orders| orders.name.values().cloned())
            .collect();
        below.iter().for_each(|product| self.unlist(product));
        match parent {
            Some(parent) => drop(self.parents.insert(category.clone(), parent)),
            None => drop(self.parents.remove(category)),
        }
        below.iter().for_each(|product| self.list(product));
    }

    /// Returns a page of visible products after a key.
    pub fn page(
        &self,
        category: Option<&str>,
        sort: Sort,
        behind: Option<&SortKey>,
        size: PageSize,
        now: UnixMicros,
    ) -> Page {
        let Some(orders) = category.map_or(Some(&self.all), |category| self.by_category.get(category)) else {
            return Page::default();
        };
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        match sort {
            Sort::Newest => take(orders.newest.range::<SortKey, _>((from, Bound::Unbounded)), size, now),
            Sort::Price => take(orders.price.range::<SortKey, _>((from, Bound::Unbounded)), size, now),
            Sort::PriceDown => {
                take(orders.price.range::<SortKey, _>((Bound::Unbounded, from)).rev(), size, now)
            }
            Sort::Name => take(orders.name.range::<SortKey, _>((from, Bound::Unbounded)), size, now),
        }
    }

    /// Returns a product's categories and all of their ancestors, each once.
    fn categories_of(&self, product: &Product) -> BTreeSet<Code> {
        let mut found = BTreeSet::new();
        for category in &product.categories {
            let mut next = Some(category.clone());
            for _ in 0..DEPTH_MAX {
                let Some(category) = next else { break };
                next = self.parents.get(&category).cloned().flatten();
                if !found.insert(category) {
                    break;
                }
            }
        }
        found
    }
}

impl Orders {
    fn insert(&mut self, product: &Arc<Product>) {
        self.newest.insert(SortKey::of(product, Sort::Newest), product.clone());
        self.price.insert(SortKey::of(product, Sort::Price), product.clone());
        self.name.insert(SortKey::of(product, Sort::Name), product.clone());
    }

    fn remove(&mut self, product: &Product) {
        self.newest.remove(&SortKey::of(product, Sort::Newest));
        self.price.remove(&SortKey::of(product, Sort::Price));
        self.name.remove(&SortKey::of(product, Sort::Name));
    }
}

fn take<'a>(
    list: impl Iterator<Item = (&'a SortKey, &'a Arc<Product>)>,
    size: PageSize,
    now: UnixMicros,
) -> Page {
    let mut page = Page::default();
    let (mut last, mut bytes): (Option<&SortKey>, usize) = (None, 0);
    // Products that are listed but no longer visible are removed within moments.
    for (place, product) in list.filter(|(_, product)| product.is_visible(now)) {
        bytes += product.summary.len() + 1;
        if page.products.len() == size.products || (last.is_some() && bytes > size.bytes) {
            page.next = last.cloned();
            break;
        }
        page.products.push(product.clone());
        last = Some(place);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::answer::CachedAnswer;

    const NOW: UnixMicros = UnixMicros::new(1_000);

    fn code(text: &str) -> Code {
        Code::new(text).unwrap()
    }

    fn product(name: &str, price: i64, categories: &[&str]) -> Arc<Product> {
        Arc::new(Product {
            code: code(name),
            answer: CachedAnswer::new(Vec::new()),
            summary: Default::default(),
            categories: categories.iter().map(|category| code(category)).collect(),
            visible: (i64::MIN, i64::MAX),
            published: price % 7,
            price,
            name: name.to_lowercase().into(),
        })
    }

    fn size(products: usize) -> PageSize {
        PageSize { products, bytes: usize::MAX }
    }

    /// Returns a product that is visible from one moment until another.
    fn timed(name: &str, from: i64, until: i64) -> Arc<Product> {
        let product = Arc::into_inner(product(name, 1, &["tea"])).unwrap();
        Arc::new(Product { visible: (from, until), published: from, ..product })
    }

    fn codes(page: &Page) -> Vec<&str> {
        page.products.iter().map(|product| product.code.as_str()).collect()
    }

    fn all(listing: &Listing, category: Option<&str>, sort: Sort, limit: usize) -> Vec<String> {
        let (mut found, mut behind) = (Vec::new(), None);
        loop {
            let page = listing.page(category, sort, behind.as_ref(), size(limit), NOW);
            found.extend(codes(&page).into_iter().map(str::to_owned));
            // Passes the cursor as text, as a caller does.
            let Some(next) = page.next else { return found };
            behind = SortKey::from_cursor(&next.cursor(category, sort), category, sort);
            assert!(behind.is_some());
        }
    }

    #[test]
    fn a_list_is_paged_through_in_its_order_whatever_the_limit() {
        let mut listing = Listing::default();
        for (index, name) in ["d", "b", "a", "c", "e"].into_iter().enumerate() {
            listing.insert(&product(name, i64::try_from(index).unwrap() / 2, &[]), NOW);
        }
        for limit in 1..7 {
            assert_eq!(all(&listing, None, Sort::Name, limit), ["a", "b", "c", "d", "e"]);
            assert_eq!(all(&listing, None, Sort::Price, limit), ["b", "d", "a", "c", "e"]);
            assert_eq!(all(&listing, None, Sort::PriceDown, limit), ["e", "c", "a", "d", "b"]);
            assert_eq!(all(&listing, None, Sort::Newest, limit), ["e", "a", "c", "b", "d"]);
        }
    }

    #[test]
    fn what_stays_is_shown_once_while_the_list_changes_between_its_pages() {
        let mut listing = Listing::default();
        let products: Vec<_> = (0..20).map(|index| product(&format!("p{index:02}"), index, &[])).collect();
        products.iter().for_each(|product| listing.insert(product, NOW));
        let first = listing.page(None, Sort::Price, None, size(10), NOW);
        listing.remove(&products[9]);
        listing.remove(&products[15]);
        listing.insert(&product("new", 3, &[]), NOW);
        let rest = listing.page(None, Sort::Price, first.next.as_ref(), size(100), NOW);
        let shown = [codes(&first), codes(&rest)].concat();
        assert_eq!(shown.len(), 19);
        assert_eq!(shown.iter().collect::<BTreeSet<_>>().len(), 19);
    }

    #[test]
    fn a_category_lists_everything_below_it_after_the_tree_changed() {
        let mut listing = Listing::default();
        listing.set_category(&code("shoes"), Some(None));
        listing.set_category(&code("running"), Some(Some(code("shoes"))));
        listing.insert(&product("runner", 1, &["running"]), NOW);
        listing.insert(&product("boot", 2, &["shoes", "running"]), NOW);
        assert_eq!(all(&listing, Some("shoes"), Sort::Price, 1), ["runner", "boot"]);
        listing.set_category(&code("running"), Some(Some(code("sport"))));
        assert_eq!(all(&listing, Some("shoes"), Sort::Price, 1), ["boot"]);
        assert_eq!(all(&listing, Some("sport"), Sort::Price, 9), ["runner", "boot"]);
        listing.set_category(&code("running"), None);
        assert_eq!(all(&listing, Some("sport"), Sort::Price, 9), Vec::<String>::new());
        assert_eq!(all(&listing, Some("running"), Sort::Price, 9), ["runner", "boot"]);
    }

    #[test]
    fn an_invisible_product_is_in_no_list_before_its_moment() {
        let mut listing = Listing::default();
        for index in 0..1_000 {
            listing.insert(&timed(&format!("later{index}"), 2_000, i64::MAX), NOW);
            listing.insert(&timed(&format!("gone{index}"), i64::MIN, 900), NOW);
        }
        listing.insert(&timed("now", 500, 3_000), NOW);
        listing.insert(&timed("soon", 1_500, 1_600), NOW);
        let listed =
            |listing: &Listing| (listing.all.newest.len(), listing.by_category[&code("tea")].name.len());
        assert_eq!(listed(&listing), (1, 1));
        assert_eq!(all(&listing, Some("tea"), Sort::Newest, 1), ["now"]);
        assert_eq!(listing.next_due(), Some(UnixMicros::new(1_500)));

        listing.turn(UnixMicros::new(1_500), 10);
        assert_eq!((listed(&listing), listing.next_due()), ((2, 2), Some(UnixMicros::new(1_600))));
        // Turns at most 101 products in a call, since the caller has other work.
        listing.turn(UnixMicros::new(2_000), 101);
        assert_eq!(listed(&listing), (101, 101));
        listing.turn(UnixMicros::new(2_000), 10_000);
        assert_eq!((listed(&listing), listing.next_due()), ((1_001, 1_001), Some(UnixMicros::new(3_000))));
        listing.turn(UnixMicros::new(3_000), 10_000);
        assert_eq!((listed(&listing), listing.next_due()), ((1_000, 1_000), None));
    }

    #[test]
    fn a_product_removed_or_moved_while_it_waits_leaves_no_trace() {
        let mut listing = Listing::default();
        let (a, b) = (timed("a", 2_000, 3_000), timed("b", 500, 3_000));
        listing.insert(&a, NOW);
        listing.insert(&b, NOW);
        listing.set_category(&code("tea"), Some(Some(code("drinks"))));
        assert_eq!(all(&listing, Some("drinks"), Sort::Name, 9), ["b"]);
        listing.turn(UnixMicros::new(2_000), 9);
        let page = listing.page(Some("drinks"), Sort::Name, None, size(9), UnixMicros::new(2_000));
        assert_eq!(codes(&page), ["a", "b"]);
        listing.remove(&a);
        listing.remove(&b);
        assert!(listing.due.is_empty() && listing.all.name.is_empty() && listing.by_category.is_empty());
    }

    #[test]
    fn a_page_ends_at_its_byte_limit_and_the_next_continues() {
        let mut listing = Listing::default();
        for name in ["a", "b", "c", "d", "e"] {
            let product = Arc::into_inner(product(name, 1, &[])).unwrap();
            listing.insert(&Arc::new(Product { summary: vec![b'x'; 100].into(), ..product }), NOW);
        }
        let bounded = |bytes| PageSize { products: 100, bytes };
        let first = listing.page(None, Sort::Name, None, bounded(250), NOW);
        assert_eq!(codes(&first), ["a", "b"]);
        let second = listing.page(None, Sort::Name, first.next.as_ref(), bounded(1), NOW);
        assert_eq!(codes(&second), ["c"]);
        let last = listing.page(None, Sort::Name, second.next.as_ref(), bounded(202), NOW);
        assert_eq!(codes(&last), ["d", "e"]);
        assert_eq!(last.next, None);
    }

    #[test]
    fn a_tree_that_is_a_circle_is_climbed_once() {
        let mut listing = Listing::default();
        listing.set_category(&code("a"), Some(Some(code("b"))));
        listing.set_category(&code("b"), Some(Some(code("a"))));
        listing.insert(&product("p", 1, &["a"]), NOW);
        assert_eq!(all(&listing, Some("b"), Sort::Name, 1), ["p"]);
    }

    #[test]
    fn a_cursor_of_another_list_or_of_nobody_is_none() {
        let place = SortKey { number: i64::MIN, text: Some("\u{ac00}".into()), code: code("A") };
        let cursor = place.cursor(Some("tea"), Sort::Name);
        assert_eq!(SortKey::from_cursor(&cursor, Some("tea"), Sort::Name), Some(place));
        assert_eq!(SortKey::from_cursor(&cursor, None, Sort::Name), None);
        assert_eq!(SortKey::from_cursor(&cursor, Some("tea"), Sort::Price), None);
        for text in ["", "AAAA", "!", &cursor[1..], &"A".repeat(CURSOR_BYTES_MAX + 4)] {
            assert_eq!(SortKey::from_cursor(text, Some("tea"), Sort::Name), None, "{text}");
        }
    }
}
