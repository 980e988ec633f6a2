//! Two sets of totals: those that the ledger must have, computed from the answers to callers, and
//! those that it has.
//!
//! The second set is read from the database with SQL of its own, as an auditor would, and without
//! any code of the agents.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, PgConnection, SqliteConnection};

use crate::testkit::database::Database;
use crate::testkit::load::{Outcome, Report};
use crate::testkit::plan::Step;

/// Totals of one brand in a ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerTotals {
    /// Totals by SKU.
    pub stock: BTreeMap<String, SkuTotals>,
    /// Orders that are not cancelled.
    pub orders: i64,
    /// Sum of their totals, in minor units.
    pub total_minor: i64,
    /// Orders that were placed and cancelled.
    pub cancelled: i64,
    /// Idempotency keys whose order was sold out.
    pub sold_out: i64,
}

/// The units of one SKU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SkuTotals {
    /// Units at the start.
    pub initial: i64,
    /// Units that are still for sale.
    pub available: i64,
    /// Sold units, according to the stock table.
    pub sold: i64,
    /// Sold units, summed over the lines of the orders that are not cancelled.
    pub ordered: i64,
}

impl LedgerTotals {
    /// Computes the totals after a plan was replayed on empty tables and every outcome is known.
    #[must_use]
    pub fn expected(report: &Report) -> LedgerTotals {
        let plan = &report.plan;
        let mut books = LedgerTotals::default();
        let mut sold = vec![0; plan.stock.len()];
        for (step, settled) in plan.steps.iter().zip(&report.settled) {
            let (place, sign) = match (step, &settled.outcome) {
                (Step::Place(place), Outcome::Placed { .. }) => (place, 1),
                (Step::Cancel { of, .. }, Outcome::Cancelled) => match &plan.steps[*of] {
                    Step::Place(place) => (place, -1),
                    Step::Cancel { .. } => continue,
                },
                (_, Outcome::SoldOut) => {
                    books.sold_out += 1;
                    continue;
                }
                _ => continue,
            };
            books.orders += sign;
            books.cancelled += i64::from(sign < 0);
            books.total_minor += sign * place.total_minor.cast_signed();
            place.lines.iter().for_each(|line| sold[line.stock] += sign * line.quantity.cast_signed());
        }
        for (row, sold) in plan.stock.iter().zip(sold) {
            let initial = row.quantity.cast_signed();
            books.stock.insert(
                row.sku.clone(),
                SkuTotals { initial, available: initial - sold, sold, ordered: sold },
            );
        }
        books
    }

    /// Reads a brand's totals from the database.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer, or is no ledger.
    pub async fn read(database: &Database, brand: &str) -> Result<LedgerTotals> {
        let mut ledger = Ledger::open(database).await.context("open the ledger's database")?;
        let mut books = LedgerTotals::default();
        let stock =
            "SELECT skus.sku, stock.initial, stock.available, stock.sold FROM stock JOIN skus USING (sku_id)
            WHERE skus.brand = $1";
        for (sku, initial, available, sold) in ledger.rows(stock, brand).await? {
            books.stock.insert(sku, SkuTotals { initial, available, sold, ordered: 0 });
        }
        let lines =
            "SELECT skus.sku, CAST(sum(order_lines.quantity) AS bigint), count(*), count(*) FROM order_lines
            JOIN orders USING (order_id) JOIN skus USING (sku_id)
            WHERE orders.brand = $1 AND orders.state = 'placed' GROUP BY skus.sku";
        for (sku, units, _, _) in ledger.rows(lines, brand).await? {
            books.stock.entry(sku).or_default().ordered = units;
        }
        let orders = "SELECT state, count(*), CAST(sum(total) AS bigint), count(*) FROM orders
            WHERE brand = $1 GROUP BY state";
        for (state, count, total, _) in ledger.rows(orders, brand).await? {
            match state.as_str() {
                "placed" => (books.orders, books.total_minor) = (count, total),
                _ => books.cancelled = count,
            }
        }
        let sold_out = "SELECT outcome, count(*), count(*), count(*) FROM outcomes
            WHERE brand = $1 AND operation = 'place' AND outcome = 'sold-out' GROUP BY outcome";
        for (_, count, _, _) in ledger.rows(sold_out, brand).await? {
            books.sold_out = count;
        }
        Ok(books)
    }

    /// Returns the differences to `actual`; none if both agree.
    #[must_use]
    pub fn differences(&self, actual: &LedgerTotals) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: &str, expected: i64, actual: i64| {
            if expected != actual {
                found.push(format!("{what}: {expected} expected, {actual} in the ledger"));
            }
        };
        compare("orders that stand", self.orders, actual.orders);
        compare("their worth in minor units", self.total_minor, actual.total_minor);
        compare("cancelled orders", self.cancelled, actual.cancelled);
        compare("sold-out orders", self.sold_out, actual.sold_out);
        let skus: std::collections::BTreeSet<_> = self.stock.keys().chain(actual.stock.keys()).collect();
        for sku in skus {
            let shelf = |books: &LedgerTotals| books.stock.get(sku).copied().unwrap_or_default();
            let (expected, actual) = (shelf(self), shelf(actual));
            compare(&format!("units of {sku} brought in"), expected.initial, actual.initial);
            compare(&format!("units of {sku} available"), expected.available, actual.available);
            compare(&format!("units of {sku} sold"), expected.sold, actual.sold);
            compare(&format!("units of {sku} in orders"), expected.ordered, actual.ordered);
        }
        found
    }
}

/// A connection for reads only.
enum Ledger {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Ledger {
    async fn open(database: &Database) -> Result<Ledger> {
        Ok(match database {
            Database::Sqlite(path) => {
                Ledger::Sqlite(SqliteConnectOptions::new().filename(path).read_only(true).connect().await?)
            }
            Database::Postgres { url, password } => {
                let options: PgConnectOptions = url.parse()?;
                let options = options.options([("default_transaction_read_only", "on")]);
                let password = password.as_deref().map(|password| options.clone().password(password));
                Ledger::Postgres(password.unwrap_or(options).connect().await?)
            }
        })
    }

    /// Runs a query for a text and three numbers. The totals need no more, and both databases
    /// accept the same SQL for it.
    async fn rows(
        &mut self,
        sql: &'static str,
        brand: &str,
    ) -> Result<Vec<(String, i64, i64, i64)>, sqlx::Error> {
        match self {
            Ledger::Sqlite(connection) => sqlx::query_as(sql).bind(brand).fetch_all(connection).await,
            Ledger::Postgres(connection) => sqlx::query_as(sql).bind(brand).fetch_all(connection).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::testkit::generated;
    use crate::testkit::histogram::Histogram;
    use crate::testkit::load::Settled;
    use crate::testkit::plan::Plan;

    fn told(plan: Plan, outcomes: Vec<Outcome>) -> Report {
        let settle = |outcome| Settled { outcome, replayed: false, attempts: 1 };
        let settled = outcomes.into_iter().map(settle).collect();
        Report { plan: Arc::new(plan), settled, latency: Histogram::default(), took: Duration::ZERO }
    }

    #[test]
    fn only_what_was_placed_and_not_cancelled_is_gone() {
        let mut plan = generated::hot(1, 4);
        plan.steps.push(Step::Cancel { key: "c".to_owned(), of: 1 });
        let placed = || Outcome::Placed { order: "o".to_owned() };
        let report =
            told(plan, vec![placed(), placed(), Outcome::SoldOut, Outcome::Unknown, Outcome::Cancelled]);
        let books = LedgerTotals::expected(&report);
        let hot = &report.plan.stock[0];
        let expected = SkuTotals { initial: 41, available: 40, sold: 1, ordered: 1 };
        assert_eq!(books.stock[&hot.sku], expected);
        assert_eq!((books.orders, books.cancelled, books.sold_out), (1, 1, 1));
        assert_eq!(books.total_minor, 3_000 + hot.price_minor.cast_signed());
    }

    #[test]
    fn a_difference_is_told_by_its_name_and_both_numbers() {
        let plan = generated::hot(1, 1);
        let sku = plan.stock[0].sku.clone();
        let expected = LedgerTotals::expected(&told(plan, vec![Outcome::Placed { order: "o".to_owned() }]));
        assert_eq!(expected.differences(&expected), Vec::<String>::new());
        let mut actual = expected.clone();
        actual.orders = 2;
        actual.stock.entry(sku.clone()).or_default().available += 1;
        let told = expected.differences(&actual);
        let orders = "orders that stand: 1 expected, 2 in the ledger".to_owned();
        assert_eq!(told, [orders, format!("units of {sku} available: 10 expected, 11 in the ledger")]);
    }
}
