//! The [`Plan`] of a classified year: orders and cancellations in file order. The stock is exactly
//! the sum of all orders, so that every order can commit.

use std::collections::HashMap;

use super::classify::{Book, Class};
use super::read::Retail;
use crate::testkit::personal::Person;
use crate::testkit::plan::{Line, Plan, Step, StockRow};

/// Makes the plan for `brand`. `seed` makes the persons. Idempotency keys are the invoices'
/// numbers, so a second run with the same invoices and seed is a replay for Bridge as well.
#[must_use]
pub fn plan(retail: &Retail, book: &Book, brand: &str, seed: u64) -> Plan {
    let mut plan = Plan { brand: brand.to_owned(), currency: "GBP", stock: Vec::new(), steps: Vec::new() };
    let mut shelf: HashMap<&str, usize> = HashMap::new();
    let mut step_of: HashMap<usize, usize> = HashMap::new();
    for (index, (invoice, class)) in retail.invoices.iter().zip(&book.classes).enumerate() {
        let key = format!("invoice-{}", invoice.number);
        match class {
            Class::Order(items) => {
                let mut lines = Vec::with_capacity(items.len());
                for item in items {
                    let stock = *shelf.entry(&item.sku).or_insert_with(|| {
                        let price_minor = item.price_pence;
                        plan.stock.push(StockRow { sku: item.sku.clone(), price_minor, quantity: 0 });
                        plan.stock.len() - 1
                    });
                    plan.stock[stock].quantity += item.quantity;
                    lines.push(Line { stock, quantity: item.quantity });
                }
                let reference = match invoice.customer.as_str() {
                    "" => format!("guest-{}", invoice.number),
                    customer => format!("c-{customer}"),
                };
                let person = Person::made_up(seed, index as u64, reference);
                step_of.insert(index, plan.steps.len());
                let step = plan.place(key, lines, 0, &person);
                plan.steps.push(step);
            }
            Class::Cancels(order) => plan.steps.push(Step::Cancel { key, of: step_of[order] }),
            Class::LeftOut(_) => {}
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};
    use std::path::Path;

    use bridge_protocol::domain::body::OrderRequest;
    use bridge_skips::{Lack, skipped};

    use super::super::classify::Reason;
    use super::super::read::{Days, read};
    use super::*;

    #[test]
    fn a_day_becomes_orders_and_the_cancellation_of_one() {
        let dir = tempfile::tempdir().expect("temporary folder");
        std::fs::write(dir.path().join("catalogue.csv"), "code,description,price\nMUG,A mug,2.55\n")
            .expect("write");
        let orders = "invoice_no,stock_code,quantity,invoiced_at,unit_price_gbp,customer_id,country\n\
            1,MUG,2,2010-12-01 08:26:00,2.55,7,France\n\
            2,MUG,1,2010-12-01 08:27:00,2.30,,France\n\
            1,MUG,1,2010-12-01 08:27:00,2.55,7,France\n\
            C3,MUG,-3,2010-12-01 09:00:00,2.55,7,France\n\
            4,MUG,9,2010-12-02 09:00:00,2.55,7,France\n";
        let file = std::fs::File::create(dir.path().join("orders-2010-12.csv.gz")).expect("create");
        let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, orders.as_bytes())
            .and_then(|()| gzip.try_finish())
            .expect("write");

        let retail = read(dir.path(), &Days::First).expect("readable");
        let plan = plan(&retail, &Book::of(&retail), "shop", 1);
        let row = |sku: &str, price_minor, quantity| StockRow { sku: sku.to_owned(), price_minor, quantity };
        assert_eq!(plan.stock, [row("MUG", 255, 3), row("MUG@230", 230, 1)]);
        let totals: Vec<_> = plan.places().map(|(_, place)| place.total_minor).collect();
        assert_eq!(totals, [765, 230]);
        assert!(matches!(&plan.steps[..], [_, _, Step::Cancel { of: 0, key }] if key == "invoice-C3"));
    }

    /// Computes the same numbers in another way: with sets and sums over the raw lines, without the
    /// types of the code under test.
    #[test]
    fn every_real_invoice_ends_in_exactly_one_class() {
        let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/online-retail"));
        if !dir.is_dir() {
            return skipped(Lack::Data, "the real invoices are not on this machine");
        }
        let retail = read(dir, &Days::All).expect("readable");
        let book = Book::of(&retail);
        assert_eq!((retail.invoices.len(), book.classes.len()), (25_900, 25_900));

        let sold = |line: &&super::super::InvoiceLine| line.quantity > 0 && line.price_pence > Some(0);
        let (cancellations, bookings): (Vec<_>, Vec<_>) =
            retail.invoices.iter().partition(|invoice| invoice.number.starts_with('C'));
        let sales = bookings.iter().filter(|invoice| invoice.lines.iter().any(|line| sold(&line)));
        let anonymous = cancellations.iter().filter(|invoice| invoice.customer.is_empty());
        let (sales, anonymous) = (sales.count(), anonymous.count());

        let orders = book.classes.iter().filter(|class| matches!(class, Class::Order(_))).count();
        let cancelled: Vec<_> = book
            .classes
            .iter()
            .filter_map(|class| if let Class::Cancels(of) = class { Some(of) } else { None })
            .collect();
        let left_out = book.left_out();
        assert_eq!(orders, sales);
        assert_eq!(left_out[&Reason::CancellationOfUnknownCustomer], anonymous);
        assert_eq!(
            left_out[&Reason::CancellationWithoutItsOrder] + anonymous + cancelled.len(),
            cancellations.len(),
            "a cancellation cancels, or is left out"
        );
        assert_eq!(orders + cancelled.len() + left_out.values().sum::<usize>(), 25_900);
        assert_eq!(
            cancelled.iter().collect::<HashSet<_>>().len(),
            cancelled.len(),
            "an order is cancelled once"
        );

        // These numbers were counted once by another program over the same files.
        let expected = BTreeMap::from([
            (Reason::StockCorrection, 1_336),
            (Reason::NothingToPay, 766),
            (Reason::BadDebt, 2),
            (Reason::CancellationOfUnknownCustomer, 182),
            (Reason::CancellationWithoutItsOrder, 3_522),
        ]);
        assert_eq!((orders, cancelled.len(), left_out), (19_960, 132, expected));

        let plan = plan(&retail, &book, "shop", 1);
        let lines = bookings.iter().flat_map(|invoice| &invoice.lines).filter(sold);
        let (units, pence) = lines.fold((0, 0), |(units, pence), line| {
            (units + line.quantity, pence + line.quantity * line.price_pence.unwrap_or(0))
        });
        assert_eq!(plan.stock.iter().map(|row| row.quantity).sum::<u64>(), units.unsigned_abs());
        assert_eq!(plan.places().map(|(_, place)| place.total_minor).sum::<u64>(), pence.unsigned_abs());
        assert_eq!(pence, 1_066_668_454);
        for (_, place) in plan.places() {
            OrderRequest::parse(&place.body, 2_000)
                .unwrap_or_else(|mistakes| panic!("{}: {mistakes:?}", place.key));
        }
        let longest = plan.places().map(|(_, place)| place.lines.len()).max();
        let heaviest = plan.places().map(|(_, place)| place.body.len()).max();
        assert!(
            longest <= Some(2_000) && heaviest <= Some(256 * 1024),
            "{longest:?} lines, {heaviest:?} bytes"
        );
    }
}
