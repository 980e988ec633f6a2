//! The demo's shop: the imported catalogue, and the products of the launch.
//!
//! The catalogue is made up (several brands, Korean and English, sizes and colours, won), or it is
//! the real one of the real invoices. The launch orders the same products that it views.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{Options, demo_catalogue};
use crate::testkit::generated;
use crate::testkit::plan::{Plan, StockRow};
use crate::testkit::retail::{self, Book};
use crate::testkit::site::Site;
use crate::tools::command::Usage;

/// Number of launched products.
const LAUNCHED: usize = 3;
/// Most SKUs of a product whose stock a page reads. It is the API's limit.
const SKUS_MAX: usize = 100;
/// Units of each SKU for which the plan sets no other quantity.
const UNSOLD: u64 = 10;
/// The brand of the real catalogue.
const RETAIL: &str = "retail";

/// Arguments with which the import reads the real catalogue.
const REAL_COLUMNS: &[&str] = &[
    "--map",
    "brand=@retail,currency=@GBP,product=stock_code,name.en=description,price=unit_price_gbp,quantity=units_sold",
];

/// The catalogue of the demo.
#[derive(Debug, Default)]
pub(super) struct Shop {
    /// Files for `bridge-idc catalogue import`, one for each call.
    pub(super) imports: Vec<Import>,
    /// Brands of the catalogue, with their currencies.
    pub(super) brands: Vec<(String, String)>,
    /// Products that page views show.
    pub(super) products: Vec<Product>,
    /// Launched products, as indices of `products`.
    pub(super) hot: Vec<usize>,
}

/// A file for the import.
#[derive(Debug)]
pub(super) struct Import {
    name: &'static str,
    text: Vec<u8>,
    arguments: &'static [&'static str],
}

/// A product as page views and orders use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Product {
    pub(super) brand: String,
    pub(super) code: String,
    pub(super) skus: Vec<String>,
}

/// Source of a run's orders, and the parts of the data that were left out.
#[derive(Debug, Default)]
pub(super) struct Input {
    pub(super) source: String,
    pub(super) invoices: usize,
    pub(super) left_out: Vec<(&'static str, usize)>,
}

impl Shop {
    /// Imports the catalogue into the ledger.
    pub(super) async fn import(&self, site: &Site) -> Result<()> {
        for import in &self.imports {
            let path = site.idc_dir().join(import.name);
            std::fs::write(&path, &import.text).with_context(|| format!("write {}", path.display()))?;
            let path = path.display().to_string();
            let command = [&["catalogue", "import", path.as_str()], import.arguments].concat();
            site.idc_command(&command).await.context("import the catalogue")?;
        }
        Ok(())
    }

    /// Returns the number of SKUs of all products.
    pub(super) fn skus(&self) -> usize {
        self.products.iter().map(|product| product.skus.len()).sum()
    }
}

/// Returns the shop and the plan of its orders.
pub(super) fn open(options: &Options) -> Result<(Shop, Plan, Input)> {
    match &options.data {
        Some(dir) => real(options, dir),
        None => made_up(options),
    }
}

fn made_up(options: &Options) -> Result<(Shop, Plan, Input)> {
    let wares = demo_catalogue::wares(options.seed);
    let launched = demo_catalogue::brands().next().context("the demo's catalogue has no brand")?;
    let mut shop = Shop {
        imports: vec![Import {
            name: "catalogue.jsonl",
            text: demo_catalogue::json_lines(&wares),
            arguments: &[],
        }],
        brands: demo_catalogue::brands().map(|brand| (brand.to_owned(), "KRW".to_owned())).collect(),
        ..Shop::default()
    };
    let (mut stock, mut hot) = (Vec::new(), Vec::new());
    for (index, ware) in wares.iter().enumerate() {
        let skus = ware.skus.iter().map(|(sku, _)| sku.clone()).collect();
        shop.products.push(Product { brand: ware.brand.to_owned(), code: ware.code.clone(), skus });
        if ware.brand != launched {
            continue;
        }
        if shop.hot.len() < LAUNCHED {
            shop.hot.push(index);
            hot.extend(stock.len()..stock.len() + ware.skus.len());
        }
        stock.extend(ware.skus.iter().map(|(sku, price_minor)| StockRow {
            sku: sku.clone(),
            price_minor: *price_minor,
            quantity: UNSOLD,
        }));
    }
    let plan = generated::launch_of(launched, stock, &hot, options.seed, options.orders as usize);
    let source = format!("a made-up launch of {} orders", options.orders);
    Ok((shop, plan, Input { source, ..Input::default() }))
}

fn real(options: &Options, dir: &Path) -> Result<(Shop, Plan, Input)> {
    let retail = retail::read(dir, &options.days()).map_err(|error| Usage(error.to_string()))?;
    let book = Book::of(&retail);
    let mut plan = retail::plan(&retail, &book, RETAIL, options.seed);
    let ordered: HashSet<_> = plan.stock.iter().map(|row| row.sku.clone()).collect();
    let prices: BTreeMap<_, _> = retail
        .catalogue
        .iter()
        .filter_map(|(code, price)| Some((code, u64::try_from(*price).ok()?)))
        .collect();
    plan.stock.extend(
        prices.into_iter().filter(|(code, _)| !ordered.contains(*code)).map(|(code, price_minor)| StockRow {
            sku: code.clone(),
            price_minor,
            quantity: UNSOLD,
        }),
    );

    // Another price of a code is a SKU of its own, but not a product of its own.
    let code = |sku: &str| sku.split('@').next().unwrap_or_default().to_owned();
    let mut skus: BTreeMap<String, Vec<String>> =
        retail.catalogue.keys().map(|code| (code.clone(), vec![code.clone()])).collect();
    for row in &plan.stock {
        if let Some(skus) =
            skus.get_mut(&code(&row.sku)).filter(|skus| skus.len() < SKUS_MAX && !skus.contains(&row.sku))
        {
            skus.push(row.sku.clone());
        }
    }
    let products: Vec<_> =
        skus.into_iter().map(|(code, skus)| Product { brand: RETAIL.to_owned(), code, skus }).collect();
    ensure!(!products.is_empty(), "{} has no product in its catalogue", dir.display());

    let mut lines: HashMap<String, usize> = HashMap::new();
    for (_, place) in plan.places() {
        place.lines.iter().for_each(|line| *lines.entry(code(&plan.stock[line.stock].sku)).or_default() += 1);
    }
    let mut hot: Vec<_> = (0..products.len()).collect();
    hot.sort_by_key(|index| std::cmp::Reverse(lines.get(&products[*index].code).copied().unwrap_or(0)));
    hot.truncate(LAUNCHED);

    let path = dir.join("catalogue.csv");
    let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let shop = Shop {
        imports: vec![Import { name: "catalogue.csv", text, arguments: REAL_COLUMNS }],
        brands: vec![(RETAIL.to_owned(), plan.currency.to_owned())],
        products,
        hot,
    };
    let input = Input { source: source(&retail), invoices: retail.invoices.len(), left_out: left_out(&book) };
    Ok((shop, plan, input))
}

/// Describes the number of invoices and their days.
fn source(retail: &retail::Retail) -> String {
    let day =
        |invoice: Option<&retail::Invoice>| invoice.and_then(|it| it.at.get(..10)).unwrap_or("?").to_owned();
    let (first, last) = (day(retail.invoices.first()), day(retail.invoices.last()));
    format!("{} real invoices, {first} to {last}", retail.invoices.len())
}

fn left_out(book: &Book) -> Vec<(&'static str, usize)> {
    let invoices = book.left_out().into_iter().map(|(reason, count)| (reason.text(), count));
    invoices.chain(book.lines_left_out.iter().map(|(reason, count)| (reason.text(), *count))).collect()
}

#[cfg(test)]
mod tests {
    use bridge_skips::{Lack, skipped};
    use clap::Parser;

    use super::*;

    #[test]
    fn orders_of_a_generated_launch_are_for_viewed_products() {
        let (shop, plan, _) = open(&Options::parse_from(["demo", "--orders", "600"])).expect("a shop");
        assert_eq!((shop.brands.len(), shop.hot.len()), (3, LAUNCHED));
        let hot: Vec<_> = shop.hot.iter().flat_map(|index| &shop.products[*index].skus).collect();
        let wanted = plan
            .places()
            .filter(|(_, place)| place.lines.iter().any(|line| hot.contains(&&plan.stock[line.stock].sku)));
        assert_eq!(wanted.count(), 300);
        let known: Vec<_> =
            shop.products.iter().filter(|it| it.brand == plan.brand).flat_map(|it| &it.skus).collect();
        assert!(plan.stock.iter().all(|row| known.contains(&&row.sku)) && known.len() == plan.stock.len());
        assert!(shop.products.iter().all(|product| (1..=SKUS_MAX).contains(&product.skus.len())));
    }

    #[test]
    fn the_real_launch_is_of_what_most_invoices_ask_for() {
        let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/online-retail"));
        if !dir.is_dir() {
            return skipped(Lack::Data, "the real catalogue is not on this machine");
        }
        let options = Options::parse_from(["demo", "--data", &dir.display().to_string()]);
        let (shop, plan, input) = open(&options).expect("a shop");
        assert_eq!((shop.products.len(), shop.brands.len()), (3_828, 1));
        assert!(input.invoices > 100 && !plan.steps.is_empty());
        // Counted once by another program over the same day.
        assert_eq!(shop.products[shop.hot[0]].code, "22632");
        assert!(shop.skus() > 3_828, "price tiers are SKUs of their product");
    }
}
