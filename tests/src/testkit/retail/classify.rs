//! Classification of invoices, without I/O: an invoice is an order, a cancellation, or left out for
//! a reason.

use std::collections::{BTreeMap, HashMap};

use super::read::{Invoice, InvoiceLine, Retail};

/// Classes of all invoices.
#[derive(Debug, Default)]
pub struct Book {
    /// One class for each invoice, in their order.
    pub classes: Vec<Class>,
    /// Lines that were left out of orders, by reason. Lines of invoices that are left out do not
    /// count.
    pub lines_left_out: BTreeMap<LineReason, usize>,
}

/// Class of one invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// An order of units of SKUs.
    Order(Vec<Item>),
    /// Cancels the order at this index in the list of invoices.
    Cancels(usize),
    /// Left out of the replay, for this reason.
    LeftOut(Reason),
}

/// Units of one SKU at one price.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    /// The code, or the code and the price: see the `retail` module.
    pub sku: String,
    /// Unit price in pence, above zero.
    pub price_pence: u64,
    /// Number of units, above zero.
    pub quantity: u64,
}

/// The reason why an invoice is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Units written off: every line has a negative quantity, but the invoice is no cancellation.
    StockCorrection,
    /// Every line has the price zero.
    NothingToPay,
    /// A negative price: an adjustment in the shop's books.
    BadDebt,
    /// No line has a positive price and quantity, for more than one of the reasons above.
    NoLineLeft,
    /// A cancellation without a customer's id.
    CancellationOfUnknownCustomer,
    /// No earlier order of the customer has exactly the lines of the cancellation.
    CancellationWithoutItsOrder,
}

/// The reason why a line of an order is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LineReason {
    /// The quantity is zero or less.
    QuantityNotPositive,
    /// The price is zero.
    PriceZero,
    /// The price is below zero.
    PriceNegative,
    /// The price has fractions of a penny.
    PriceFinerThanPence,
}

impl Reason {
    /// Returns the reason's text in a report.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Reason::StockCorrection => "stock correction (only negative quantities)",
            Reason::NothingToPay => "nothing to pay (only prices of zero)",
            Reason::BadDebt => "bad debt (negative price)",
            Reason::NoLineLeft => "no line with a positive price and quantity",
            Reason::CancellationOfUnknownCustomer => "cancellation of an unknown customer",
            Reason::CancellationWithoutItsOrder => "cancellation of no order with exactly its lines",
        }
    }
}

impl LineReason {
    /// Returns the reason's text in a report.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            LineReason::QuantityNotPositive => "line: quantity of zero or less",
            LineReason::PriceZero => "line: price of zero",
            LineReason::PriceNegative => "line: negative price",
            LineReason::PriceFinerThanPence => "line: price finer than a penny",
        }
    }
}

impl Book {
    /// Classifies every invoice.
    #[must_use]
    pub fn of(retail: &Retail) -> Book {
        let mut book = Book::default();
        // Orders that can still be cancelled, by customer and exact items. The latest one is last.
        let mut open: HashMap<(&str, Vec<Item>), Vec<usize>> = HashMap::new();
        for (index, invoice) in retail.invoices.iter().enumerate() {
            let class = if invoice.number.starts_with('C') {
                if invoice.customer.is_empty() {
                    Class::LeftOut(Reason::CancellationOfUnknownCustomer)
                } else {
                    let returned = items(retail, &invoice.lines, -1);
                    match open.get_mut(&(invoice.customer.as_str(), returned)).and_then(Vec::pop) {
                        Some(order) => Class::Cancels(order),
                        None => Class::LeftOut(Reason::CancellationWithoutItsOrder),
                    }
                }
            } else {
                let items = items(retail, &invoice.lines, 1);
                if items.is_empty() {
                    Class::LeftOut(why_nothing_is_left(invoice))
                } else {
                    book.count_lost_lines(&invoice.lines);
                    if !invoice.customer.is_empty() {
                        open.entry((&invoice.customer, items.clone())).or_default().push(index);
                    }
                    Class::Order(items)
                }
            };
            book.classes.push(class);
        }
        book
    }

    /// Returns the number of invoices that are left out, by reason.
    #[must_use]
    pub fn left_out(&self) -> BTreeMap<Reason, usize> {
        let mut counts = BTreeMap::new();
        for class in &self.classes {
            if let Class::LeftOut(reason) = class {
                *counts.entry(*reason).or_default() += 1;
            }
        }
        counts
    }

    fn count_lost_lines(&mut self, lines: &[InvoiceLine]) {
        for reason in lines.iter().filter_map(|line| judge(line, 1).err()) {
            *self.lines_left_out.entry(reason).or_default() += 1;
        }
    }
}

/// Returns the valid lines, summed by SKU and sorted. `sign` is -1 for a cancellation, whose
/// quantities are negative.
fn items(retail: &Retail, lines: &[InvoiceLine], sign: i64) -> Vec<Item> {
    let mut units = BTreeMap::new();
    for line in lines {
        if let Ok((price_pence, quantity)) = judge(line, sign) {
            *units.entry((sku(retail, &line.code, price_pence), price_pence)).or_default() += quantity;
        }
    }
    units.into_iter().map(|((sku, price_pence), quantity)| Item { sku, price_pence, quantity }).collect()
}

/// Returns price and quantity of a valid line, or the reason why the line is left out.
fn judge(line: &InvoiceLine, sign: i64) -> Result<(u64, u64), LineReason> {
    let quantity = u64::try_from(line.quantity * sign).unwrap_or(0);
    match line.price_pence {
        None => Err(LineReason::PriceFinerThanPence),
        Some(..0) => Err(LineReason::PriceNegative),
        Some(_) if quantity == 0 => Err(LineReason::QuantityNotPositive),
        Some(0) => Err(LineReason::PriceZero),
        Some(price @ 1..) => Ok((price.unsigned_abs(), quantity)),
    }
}

fn sku(retail: &Retail, code: &str, price_pence: u64) -> String {
    let usual = retail.catalogue.get(code).and_then(|price| u64::try_from(*price).ok());
    if usual == Some(price_pence) { code.to_owned() } else { format!("{code}@{price_pence}") }
}

fn why_nothing_is_left(invoice: &Invoice) -> Reason {
    let all = |reason| invoice.lines.iter().all(|line| judge(line, 1) == Err(reason));
    if all(LineReason::QuantityNotPositive) {
        Reason::StockCorrection
    } else if all(LineReason::PriceZero) {
        Reason::NothingToPay
    } else if all(LineReason::PriceNegative) {
        Reason::BadDebt
    } else {
        Reason::NoLineLeft
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invoice(number: &str, customer: &str, lines: &[(&str, i64, i64)]) -> Invoice {
        let lines = lines
            .iter()
            .map(|&(code, quantity, price)| InvoiceLine {
                code: code.into(),
                quantity,
                price_pence: Some(price),
            })
            .collect();
        Invoice { number: number.into(), customer: customer.into(), at: String::new(), lines }
    }

    fn classes(invoices: Vec<Invoice>) -> Vec<Class> {
        let catalogue = HashMap::from([("MUG".to_owned(), 255), ("BANK CHARGES".to_owned(), 1_500)]);
        Book::of(&Retail { invoices, catalogue }).classes
    }

    fn item(sku: &str, price_pence: u64, quantity: u64) -> Item {
        Item { sku: sku.to_owned(), price_pence, quantity }
    }

    #[test]
    fn a_code_is_summed_at_one_price_and_split_at_two() {
        let lines = [("MUG", 2, 255), ("MUG", 1, 230), ("MUG", 3, 255), ("BANK CHARGES", 1, 1_500)];
        let expected = vec![item("BANK CHARGES", 1_500, 1), item("MUG", 255, 5), item("MUG@230", 230, 1)];
        assert_eq!(classes(vec![invoice("1", "7", &lines)]), [Class::Order(expected)]);
    }

    #[test]
    fn a_cancellation_takes_the_latest_order_with_its_lines_once() {
        let order = |number| invoice(number, "7", &[("MUG", 2, 255), ("CUP", 1, 90)]);
        let back = |number| invoice(number, "7", &[("CUP", -1, 90), ("MUG", -2, 255)]);
        let classes = classes(vec![order("1"), order("2"), back("C3"), back("C4"), back("C5")]);
        let nothing_left = Class::LeftOut(Reason::CancellationWithoutItsOrder);
        assert_eq!(classes[2..], [Class::Cancels(1), Class::Cancels(0), nothing_left]);
    }

    #[test]
    fn a_cancellation_of_another_customer_price_or_quantity_matches_nothing() {
        let classes = classes(vec![
            invoice("1", "7", &[("MUG", 2, 255)]),
            invoice("C2", "8", &[("MUG", -2, 255)]),
            invoice("C3", "7", &[("MUG", -1, 255)]),
            invoice("C4", "7", &[("MUG", -2, 230)]),
            invoice("C5", "", &[("MUG", -2, 255)]),
        ]);
        let without_order = Class::LeftOut(Reason::CancellationWithoutItsOrder);
        assert_eq!(classes[1..4], [without_order.clone(), without_order.clone(), without_order]);
        assert_eq!(classes[4], Class::LeftOut(Reason::CancellationOfUnknownCustomer));
    }

    #[test]
    fn an_invoice_without_a_sale_is_left_out_with_its_reason() {
        let classes = classes(vec![
            invoice("1", "", &[("MUG", -2, 0), ("CUP", -1, 0)]),
            invoice("2", "", &[("MUG", 2, 0)]),
            invoice("A3", "", &[("B", 1, -1_106_206)]),
            invoice("4", "", &[("MUG", 2, 0), ("B", 1, -1)]),
        ]);
        let reasons = [Reason::StockCorrection, Reason::NothingToPay, Reason::BadDebt, Reason::NoLineLeft];
        assert_eq!(classes, reasons.map(Class::LeftOut));
    }

    #[test]
    fn lines_that_an_order_loses_are_counted() {
        let lines = [("MUG", 2, 255), ("CUP", 1, 0), ("CUP", -1, 90), ("CUP", 0, 90), ("B", 1, -5)];
        let book = Book::of(&Retail { invoices: vec![invoice("1", "", &lines)], catalogue: HashMap::new() });
        assert_eq!(book.classes, [Class::Order(vec![item("MUG@255", 255, 2)])]);
        let expected = [
            (LineReason::QuantityNotPositive, 2),
            (LineReason::PriceZero, 1),
            (LineReason::PriceNegative, 1),
        ];
        assert_eq!(book.lines_left_out, BTreeMap::from(expected));
    }
}
