//! Conversion of an order's terms between the wire (plain data) and the domain (checked values).

use super::order::{Line as WireLine, Terms};
use crate::domain::order::FieldError;
use crate::domain::{Currency, Line, Money, OrderTerms, Quantity, Sku};

impl From<&OrderTerms> for Terms {
    fn from(terms: &OrderTerms) -> Self {
        let line = |line: &Line| WireLine {
            sku: line.sku.as_str().to_owned(),
            quantity: line.quantity.get(),
            unit_price: line.unit_price,
        };
        Self {
            lines: terms.lines().iter().map(line).collect(),
            currency: terms.currency().as_str().to_owned(),
            shipping_fee: terms.shipping_fee().amount(),
            total: terms.total().amount(),
            customer_reference: terms.customer_reference().to_owned(),
        }
    }
}

impl Terms {
    /// Checks every rule again, as if the terms had never been checked.
    ///
    /// # Errors
    ///
    /// Returns every mistake, with pointers into the storefront's body.
    pub fn check(self, lines_max: usize) -> Result<OrderTerms, Vec<FieldError>> {
        let bad = |pointer: &str| vec![FieldError::new(pointer, "is not in its form")];
        let currency = Currency::new(&self.currency).map_err(|_| bad("/total/currency"))?;
        let money = |amount, pointer: &str| Money::new(amount, currency).ok_or_else(|| bad(pointer));
        let line = |line: WireLine| {
            let sku = Sku::new(&line.sku)?;
            let quantity = Quantity::new(line.quantity)?;
            let unit_price = Money::new(line.unit_price, currency)?.amount();
            Some(Line { sku, quantity, unit_price })
        };
        let lines: Option<Vec<Line>> = self.lines.into_iter().map(line).collect();
        OrderTerms::new(
            lines.ok_or_else(|| bad("/lines"))?,
            money(self.shipping_fee, "/shipping_fee")?,
            money(self.total, "/total")?,
            self.customer_reference,
            lines_max,
        )
    }
}
