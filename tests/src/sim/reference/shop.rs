//! Rules that decide the outcome of a request. Requests are decided one by one, in the order of
//! their commits, by the simplest code.

use std::collections::BTreeMap;

use super::{Line, Offer, Order, Outcome, Row, Terms};

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
    /// State of each order, and its units by row.
    pub(super) orders: BTreeMap<Order, (&'static str, Units)>,
}

impl Shop {
    pub(super) fn open(stock: &[Offer]) -> Self {
        let numbered = || (1..).zip(stock);
        Self {
            rows: numbered().map(|(row, offer)| ((offer.brand.to_owned(), offer.sku.clone()), row)).collect(),
            available: numbered().map(|(row, offer)| (row, offer.units)).collect(),
            prices: numbered().map(|(row, offer)| (row, vec![(0, offer.price)])).collect(),
            changes: 0,
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
        self.orders.insert(ended.order, ("placed", units));
        Outcome::plain("placed")
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
