//! Products of a category in their orders, page by page.
//!
//! A category lists all that stands below it. A cursor holds the place of the last product shown, not a number of
//! products, so that a list can be paged through while it changes: what stays is shown once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bridge_protocol::domain::UnixMicros;
use bridge_protocol::domain::catalogue::Code;

use super::answer::Product;

/// No cursor of ours is longer.
const CURSOR_BYTES_MAX: usize = 2_048;

/// A tree is climbed no further: it may be a circle.
const DEPTH_MAX: usize = 64;

/// How a list is sorted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sort {
    /// By the begin of publication, the newest first.
    #[default]
    Newest,
    /// By the cheapest variant.
    Price,
    /// The same, the dearest first.
    PriceDown,
    /// By name.
    Name,
}

impl Sort {
    /// As a query says it.
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

/// A product's place in an order: by number, then by text, then by code.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    number: i64,
    text: Option<Arc<str>>,
    code: Code,
}

impl Place {
    fn of(product: &Product, sort: Sort) -> Self {
        let (number, text) = match sort {
            Sort::Newest => (product.published.saturating_neg(), None),
            Sort::Price | Sort::PriceDown => (product.price, None),
            Sort::Name => (0, Some(product.name.clone())),
        };
        Self { number, text, code: product.code.clone() }
    }

    /// The opaque text that leads on from here in this list.
    pub fn cursor(&self, category: Option<&str>, sort: Sort) -> String {
        let fields = (sort.number(), category, self.number, self.text.as_deref(), self.code.as_str());
        BASE64.encode(serde_json::to_vec(&fields).unwrap_or_default())
    }

    /// Reads a cursor of this list; `None` for any other text.
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

/// A page of a list.
#[derive(Debug, Default)]
pub struct Page {
    /// In their order.
    pub products: Vec<Arc<Product>>,
    /// Where the next page goes on; `None` after the last one.
    pub next: Option<Place>,
}

/// A brand's lists.
#[derive(Debug, Default)]
pub struct Listing {
    parents: HashMap<Code, Option<Code>>,
    all: Orders,
    by_category: HashMap<Code, Orders>,
}

/// The same products in each order.
#[derive(Debug, Default)]
struct Orders {
    newest: BTreeMap<Place, Arc<Product>>,
    price: BTreeMap<Place, Arc<Product>>,
    name: BTreeMap<Place, Arc<Product>>,
}

impl Listing {
    /// Lists a product.
    pub fn insert(&mut self, product: &Arc<Product>) {
        self.all.insert(product);
        for category in self.categories_of(product) {
            self.by_category.entry(category).or_default().insert(product);
        }
    }

    /// Takes a product out, as it was listed.
    pub fn remove(&mut self, product: &Product) {
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

    /// A category stands below another one now, at the root, or nowhere. What it lists and what lists it is found anew.
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
        below.iter().for_each(|product| self.remove(product));
        match parent {
            Some(parent) => drop(self.parents.insert(category.clone(), parent)),
            None => drop(self.parents.remove(category)),
        }
        below.iter().for_each(|product| self.insert(product));
    }

    /// A page behind a place, of at most `limit` products that are visible now.
    pub fn page(
        &self,
        category: Option<&str>,
        sort: Sort,
        behind: Option<&Place>,
        limit: usize,
        now: UnixMicros,
    ) -> Page {
        let Some(orders) = category.map_or(Some(&self.all), |category| self.by_category.get(category)) else {
            return Page::default();
        };
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        match sort {
            Sort::Newest => take(orders.newest.range::<Place, _>((from, Bound::Unbounded)), limit, now),
            Sort::Price => take(orders.price.range::<Place, _>((from, Bound::Unbounded)), limit, now),
            Sort::PriceDown => {
                take(orders.price.range::<Place, _>((Bound::Unbounded, from)).rev(), limit, now)
            }
            Sort::Name => take(orders.name.range::<Place, _>((from, Bound::Unbounded)), limit, now),
        }
    }

    /// A product's categories and all that stand above them, each once.
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
        self.newest.insert(Place::of(product, Sort::Newest), product.clone());
        self.price.insert(Place::of(product, Sort::Price), product.clone());
        self.name.insert(Place::of(product, Sort::Name), product.clone());
    }

    fn remove(&mut self, product: &Product) {
        self.newest.remove(&Place::of(product, Sort::Newest));
        self.price.remove(&Place::of(product, Sort::Price));
        self.name.remove(&Place::of(product, Sort::Name));
    }
}

fn take<'a>(
    list: impl Iterator<Item = (&'a Place, &'a Arc<Product>)>,
    limit: usize,
    now: UnixMicros,
) -> Page {
    let mut page = Page::default();
    let mut last: Option<&Place> = None;
    for (place, product) in list.filter(|(_, product)| product.is_visible(now)) {
        if page.products.len() == limit {
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
    use crate::replica::answer::Answer;

    const NOW: UnixMicros = UnixMicros::new(1_000);

    fn code(text: &str) -> Code {
        Code::new(text).unwrap()
    }

    fn product(name: &str, price: i64, categories: &[&str]) -> Arc<Product> {
        Arc::new(Product {
            code: code(name),
            answer: Answer::new(Vec::new()),
            summary: Default::default(),
            categories: categories.iter().map(|category| code(category)).collect(),
            visible: (i64::MIN, i64::MAX),
            published: price % 7,
            price,
            name: name.to_lowercase().into(),
        })
    }

    fn codes(page: &Page) -> Vec<&str> {
        page.products.iter().map(|product| product.code.as_str()).collect()
    }

    fn all(listing: &Listing, category: Option<&str>, sort: Sort, limit: usize) -> Vec<String> {
        let (mut found, mut behind) = (Vec::new(), None);
        loop {
            let page = listing.page(category, sort, behind.as_ref(), limit, NOW);
            found.extend(codes(&page).into_iter().map(str::to_owned));
            // As a caller does: through the text.
            let Some(next) = page.next else { return found };
            behind = Place::from_cursor(&next.cursor(category, sort), category, sort);
            assert!(behind.is_some());
        }
    }

    #[test]
    fn a_list_is_paged_through_in_its_order_whatever_the_limit() {
        let mut listing = Listing::default();
        for (index, name) in ["d", "b", "a", "c", "e"].into_iter().enumerate() {
            listing.insert(&product(name, i64::try_from(index).unwrap() / 2, &[]));
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
        products.iter().for_each(|product| listing.insert(product));
        let first = listing.page(None, Sort::Price, None, 10, NOW);
        listing.remove(&products[9]);
        listing.remove(&products[15]);
        listing.insert(&product("new", 3, &[]));
        let rest = listing.page(None, Sort::Price, first.next.as_ref(), 100, NOW);
        let shown = [codes(&first), codes(&rest)].concat();
        assert_eq!(shown.len(), 19);
        assert_eq!(shown.iter().collect::<BTreeSet<_>>().len(), 19);
    }

    #[test]
    fn a_category_lists_what_stands_below_it_also_after_the_tree_has_changed() {
        let mut listing = Listing::default();
        listing.set_category(&code("shoes"), Some(None));
        listing.set_category(&code("running"), Some(Some(code("shoes"))));
        listing.insert(&product("runner", 1, &["running"]));
        listing.insert(&product("boot", 2, &["shoes", "running"]));
        assert_eq!(all(&listing, Some("shoes"), Sort::Price, 1), ["runner", "boot"]);
        listing.set_category(&code("running"), Some(Some(code("sport"))));
        assert_eq!(all(&listing, Some("shoes"), Sort::Price, 1), ["boot"]);
        assert_eq!(all(&listing, Some("sport"), Sort::Price, 9), ["runner", "boot"]);
        listing.set_category(&code("running"), None);
        assert_eq!(all(&listing, Some("sport"), Sort::Price, 9), Vec::<String>::new());
        assert_eq!(all(&listing, Some("running"), Sort::Price, 9), ["runner", "boot"]);
    }

    #[test]
    fn a_tree_that_is_a_circle_is_climbed_once() {
        let mut listing = Listing::default();
        listing.set_category(&code("a"), Some(Some(code("b"))));
        listing.set_category(&code("b"), Some(Some(code("a"))));
        listing.insert(&product("p", 1, &["a"]));
        assert_eq!(all(&listing, Some("b"), Sort::Name, 1), ["p"]);
    }

    #[test]
    fn a_cursor_of_another_list_or_of_nobody_is_none() {
        let place = Place { number: i64::MIN, text: Some("\u{ac00}".into()), code: code("A") };
        let cursor = place.cursor(Some("tea"), Sort::Name);
        assert_eq!(Place::from_cursor(&cursor, Some("tea"), Sort::Name), Some(place));
        assert_eq!(Place::from_cursor(&cursor, None, Sort::Name), None);
        assert_eq!(Place::from_cursor(&cursor, Some("tea"), Sort::Price), None);
        for text in ["", "AAAA", "!", &cursor[1..], &"A".repeat(CURSOR_BYTES_MAX + 4)] {
            assert_eq!(Place::from_cursor(text, Some("tea"), Sort::Name), None, "{text}");
        }
    }
}
