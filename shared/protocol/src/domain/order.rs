//! The clear part of an order: the terms by which the ledger decides it.

use std::collections::HashSet;
use std::fmt;

use super::{Currency, Money};

/// Most lines of an order, unless the configuration has a lower limit.
pub const LINES_MAX: usize = 2_000;

/// A stock-keeping unit: 1 to 64 printable ASCII characters, no space at either end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sku(Box<str>);

impl Sku {
    /// Checks a text. Returns `None` if it is no SKU.
    pub fn new(text: &str) -> Option<Self> {
        let printable = text.bytes().all(|b| (0x20..=0x7e).contains(&b));
        (printable && (1..=64).contains(&text.len()) && text.trim() == text).then(|| Self(text.into()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Units of one SKU: 1 to 1,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(u32);

impl Quantity {
    /// Most units of one line.
    pub const MAX: u32 = 1_000_000;

    /// Checks a count. Returns `None` if it is not 1 to [`Self::MAX`].
    pub fn new(units: i64) -> Option<Self> {
        u32::try_from(units).ok().filter(|units| (1..=Self::MAX).contains(units)).map(Self)
    }

    /// Returns the units.
    pub const fn get(self) -> i64 {
        self.0 as i64
    }
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// SKU of the line.
    pub sku: Sku,
    /// Units of the SKU.
    pub quantity: Quantity,
    /// Price of one unit that the shopper saw, in minor units of the order's currency.
    pub unit_price: i64,
}

/// The clear part of an order, checked: one currency, every SKU at most once, and a total that is
/// the sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderTerms {
    lines: Vec<Line>,
    shipping_fee: Money,
    total: Money,
    customer_reference: String,
}

/// One mistake in a request: its place as a JSON pointer (RFC 6901), and a description. It never
/// quotes a value of the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {detail}")]
pub struct FieldError {
    /// JSON pointer into the request's body; empty for the whole body.
    pub pointer: String,
    /// Description of the mistake and of the right form.
    pub detail: String,
}

impl FieldError {
    /// Makes a mistake at a pointer.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

impl OrderTerms {
    /// Checks the rules between fields: line count, each SKU once, sums, the reference.
    ///
    /// # Errors
    ///
    /// Returns every mistake at once, with pointers into the storefront's body.
    pub fn new(
        lines: Vec<Line>,
        shipping_fee: Money,
        total: Money,
        customer_reference: String,
        lines_max: usize,
    ) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        if lines.is_empty() {
            errors.push(FieldError::new("/lines", "an order has at least one line"));
        }
        if lines.len() > lines_max {
            errors.push(FieldError::new("/lines", format!("an order has at most {lines_max} lines")));
        }
        let mut seen = HashSet::with_capacity(lines.len());
        for (index, line) in lines.iter().enumerate() {
            if !seen.insert(&line.sku) {
                errors.push(FieldError::new(
                    format!("/lines/{index}/sku"),
                    "this SKU is on an earlier line: order it once, with the quantities summed",
                ));
            }
        }
        let graphic = customer_reference.bytes().all(|b| (0x21..=0x7e).contains(&b));
        if !graphic || !(1..=64).contains(&customer_reference.len()) {
            errors.push(FieldError::new(
                "/customer/reference",
                "must be an opaque id of 1 to 64 printable ASCII characters without spaces",
            ));
        }
        if shipping_fee.currency() != total.currency() {
            errors.push(FieldError::new("/shipping_fee/currency", "an order has one currency"));
        }
        let sum = lines
            .iter()
            .try_fold(shipping_fee.amount(), |sum, line| {
                line.unit_price.checked_mul(line.quantity.get()).and_then(|price| sum.checked_add(price))
            })
            .filter(|sum| *sum <= Money::AMOUNT_MAX);
        match sum {
            None => errors.push(FieldError::new("/lines", "the sum of the lines is too large")),
            Some(sum) if sum != total.amount() => errors.push(FieldError::new(
                "/total/amount",
                "must be the sum of quantity x unit price over the lines, and the shipping fee",
            )),
            Some(_) => {}
        }
        if errors.is_empty() {
            Ok(Self { lines, shipping_fee, total, customer_reference })
        } else {
            Err(errors)
        }
    }

    /// Returns the lines, in the order in which the storefront sent them.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Returns the cost of delivery.
    pub fn shipping_fee(&self) -> Money {
        self.shipping_fee
    }

    /// Returns the amount that the shopper pays.
    pub fn total(&self) -> Money {
        self.total
    }

    /// Returns the one currency of this order.
    pub fn currency(&self) -> Currency {
        self.total.currency()
    }

    /// Returns the storefront's opaque id of the customer.
    pub fn customer_reference(&self) -> &str {
        &self.customer_reference
    }
}
