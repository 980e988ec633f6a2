//! Rules that decide the outcome of a request. Requests are decided one by one, in the order of
//! their commits, by the simplest code.

use std::collections::BTreeMap;

use super::{Launch, Line, Offer, Order, Outcome, Row, Terms};

/// Units by row of the stock.
type Units = Vec<(i64, i64)>;

/// Stock by SKU, and the orders.
pub(super) struct Shop {
    /// Row number by brand and SKU.
    rows: BTreeMap<(String, String), i64>,
    /// Available units by row.
    available: BTreeMap<i64, i64>,
    /// Prices of each row, the newest last. Each has the number of changes after which it was set.
    prices: BTreeMap<i64, Vec<(u64, i64)>>,
    /// Number of changes of stock and prices so far.
    changes: u64,
    launches: Vec<Launch>,
    /// Customer of each order that was placed, by brand and reference.
    customers: BTreeMap<Order, (String, String)>,
    /// State of each order, and its units by row.
    pub(super) orders: BTreeMap<Order, (&'static str, Units)>,
}

impl Shop {
    pub(super) fn open(stock: &[Offer], launches: &[Launch]) -> Self {
        let numbered = || (1..).zip(stock);
        Self {
            rows: numbered().map(|(row, offer)| ((offer.brand.to_owned(), offer.sku.clone()), row)).collect(),
            available: numbered().map(|(row, offer)| (row, offer.units)).collect(),
            prices: numbered().map(|(row, offer)| (row, vec![(0, offer.price)])).collect(),
            changes: 0,
            launches: launches.to_vec(),
            customers: BTreeMap::new(),
            orders: BTreeMap::new(),
        }
    }

    pub(super) fn restock(&mut self, row: i64, units: i64) {
        self.changes += 1;
        *self.available.entry(row).or_default() += units;
    }

    pub(super) fn set_price(&mut self, row: i64, price: i64) {
        self.changes += 1;
        self.prices.entry(row).or_default().push((self.changes, price));
    }

    /// Decides an order. Prices are not locked: a transaction that began after `began_after`
    /// changes may have read any price since then, and the outcome `ended` shows which one.
    pub(super) fn place(&mut self, ended: &Row, terms: &Terms, began_after: u64) -> Outcome {
        let mut units = Vec::new();
        let customer = (ended.brand.clone(), terms.customer_reference.clone());
        for Line { sku, quantity, unit_price } in &terms.lines {
            let about = |code: &str| Outcome { sku: Some(sku.clone()), ..Outcome::plain(code) };
            let rejected = match self.rows.get(&(ended.brand.clone(), sku.clone())) {
                None => about("unknown-sku"),
                Some(row) => match self.price(*row, *unit_price, ended, sku, began_after) {
                    price if price != *unit_price => Outcome {
                        price: Some(price),
                        currency: Some(terms.currency.clone()),
                        ..about("price-changed")
                    },
                    _ if self.limit(*row, *quantity, &customer, &units).is_some() => {
                        let limit = self.limit(*row, *quantity, &customer, &units);
                        Outcome { limit, ..about("limit-reached") }
                    }
                    _ if self.launch_lacks(*row, *quantity, &units) => about("sold-out"),
                    _ if self.available.get(row) < Some(quantity) => about("sold-out"),
                    _ => {
                        units.push((*row, *quantity));
                        continue;
                    }
                },
            };
            self.orders.insert(ended.order, ("rejected", Vec::new()));
            return rejected;
        }
        self.give(&units, -1);
        self.customers.insert(ended.order, customer);
        self.orders.insert(ended.order, ("placed", units));
        Outcome::plain("placed")
    }

    /// Returns the limit of the row's launch, and the units that the customer has of it, if these
    /// and those of the order are more.
    fn limit(
        &self,
        row: i64,
        quantity: i64,
        customer: &(String, String),
        so_far: &Units,
    ) -> Option<(i64, i64)> {
        let launch = self.launches.iter().find(|launch| launch.rows.contains(&row))?;
        let own = |order: &&Order| self.customers.get(*order) == Some(customer);
        let bought =
            launch.units_in(self.standing().filter(|(order, _)| own(order)).flat_map(|(_, units)| units));
        (bought + launch.units_in(so_far) + quantity > launch.limit).then_some((launch.limit, bought))
    }

    /// Returns true if the row's launch has fewer units left than the order needs.
    fn launch_lacks(&self, row: i64, quantity: i64, so_far: &Units) -> bool {
        let launch = self.launches.iter().find(|launch| launch.rows.contains(&row));
        let Some((launch, most)) = launch.and_then(|launch| Some((launch, launch.units?))) else {
            return false;
        };
        let sold = launch.units_in(self.standing().flat_map(|(_, units)| units));
        sold + launch.units_in(so_far) + quantity > most
    }

    /// Returns the units of each order that stands.
    fn standing(&self) -> impl Iterator<Item = (&Order, &Units)> {
        let placed = self.orders.iter().filter(|(_, (state, _))| *state == "placed");
        placed.map(|(order, (_, units))| (order, units))
    }

    /// Returns the price that the transaction read. Of the possible prices, it is the one that the
    /// outcome names, or else the one in the order, or else the newest.
    fn price(&self, row: i64, ordered_at: i64, ended: &Row, sku: &str, began_after: u64) -> i64 {
        let prices = self.prices.get(&row).map_or(&[][..], Vec::as_slice);
        // The price at the beginning of the transaction, and every later one, are possible.
        let first = prices.iter().rposition(|(since, _)| *since <= began_after).unwrap_or(0);
        let could_be = |price: i64| prices.iter().skip(first).any(|(_, known)| *known == price);
        let named = ended.outcome.price.filter(|_| ended.outcome.sku.as_deref() == Some(sku));
        let told = named.unwrap_or(ordered_at);
        if could_be(told) { told } else { prices.last().map_or(0, |(_, price)| *price) }
    }

    pub(super) fn cancel(&mut self, order: &Order) -> Option<Outcome> {
        let (state, units) = self.orders.get_mut(order)?;
        if *state == "rejected" {
            return Some(Outcome::plain("not-cancellable"));
        }
        if *state == "placed" {
            *state = "cancelled";
            let units = units.clone();
            self.give(&units, 1);
        }
        Some(Outcome::plain("cancelled"))
    }

    fn give(&mut self, units: &[(i64, i64)], sign: i64) {
        for (row, units) in units {
            *self.available.entry(*row).or_default() += sign * units;
        }
    }

    /// Returns the available units by row.
    pub(super) fn available(&self) -> &BTreeMap<i64, i64> {
        &self.available
    }
}

impl Launch {
    /// Returns the units of its rows.
    fn units_in<'a>(&self, units: impl IntoIterator<Item = &'a (i64, i64)>) -> i64 {
        units.into_iter().filter(|(row, _)| self.rows.contains(row)).map(|(_, units)| units).sum()
    }
}
