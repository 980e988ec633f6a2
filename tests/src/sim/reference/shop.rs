//! How a request ends: one by one, in the order in which they were committed, in the simplest way there is.

use std::collections::BTreeMap;

use super::{Line, Offer, Order, Outcome, Terms};

/// Units by the stock's row.
type Units = Vec<(i64, i64)>;

/// Stock by SKU, and orders.
pub(super) struct Shop {
    /// By brand and SKU: the row's number, the price, the units available.
    stock: BTreeMap<(String, String), (i64, i64, i64)>,
    /// How each order stands, and its units by row.
    pub(super) orders: BTreeMap<Order, (&'static str, Units)>,
}

impl Shop {
    pub(super) fn open(stock: &[Offer]) -> Self {
        let rows = (1..).zip(stock);
        let rows =
            rows.map(|(id, row)| ((row.brand.to_owned(), row.sku.clone()), (id, row.price, row.units)));
        Self { stock: rows.collect(), orders: BTreeMap::new() }
    }

    pub(super) fn place(&mut self, brand: &str, order: Order, terms: &Terms) -> Outcome {
        let mut units = Vec::new();
        for Line { sku, quantity, unit_price } in &terms.lines {
            let about = |code: &str| Outcome { sku: Some(sku.clone()), ..Outcome::plain(code) };
            let rejected = match self.stock.get(&(brand.to_owned(), sku.clone())) {
                None => about("unknown-sku"),
                Some((_, price, _)) if price != unit_price => Outcome {
                    price: Some(*price),
                    currency: Some(terms.currency.clone()),
                    ..about("price-changed")
                },
                Some((_, _, available)) if available < quantity => about("sold-out"),
                Some((id, ..)) => {
                    units.push((*id, *quantity));
                    continue;
                }
            };
            self.orders.insert(order, ("rejected", Vec::new()));
            return rejected;
        }
        self.give(&units, -1);
        self.orders.insert(order, ("placed", units));
        Outcome::plain("placed")
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
        for (id, _, available) in self.stock.values_mut() {
            *available +=
                units.iter().filter(|(row, _)| row == id).map(|(_, units)| sign * units).sum::<i64>();
        }
    }

    /// The units available of each row.
    pub(super) fn available(&self) -> BTreeMap<i64, i64> {
        self.stock.values().map(|(id, _, available)| (*id, *available)).collect()
    }
}
