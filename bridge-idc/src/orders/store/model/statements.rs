//! The statements of a batch's transaction, implemented by the model.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bridge_protocol::domain::UnixMicros;
use uuid::Uuid;

use super::refusal::Refusal;
use super::rows::Stock;
use super::tables::{Lock, Orphan, Patience, Step, Tables, TransactionId};
use super::{CommitFate, LineColumns, ModelDatabase, OrderColumns, OutcomeColumns};
use crate::database::{Begins, Ends};
use crate::orders::planner::Awaited;
use crate::orders::store::LedgerError;
use crate::orders::store::rows::{
    FactRows, LineRow, LockedRow, NewRows, OfferRow, OrderRow, OutcomeRow, PersonalRow, SettledRow,
    StandingRow, UnitsRow, WrittenRows,
};
use crate::orders::store::statements::{FactKeys, Locking, Statements};

/// A transaction on the model.
#[derive(Debug)]
pub struct ModelTransaction {
    database: ModelDatabase,
    id: TransactionId,
    /// Stock that the transaction has read.
    read: BTreeMap<i64, Stock>,
}

impl Begins for ModelDatabase {
    type Own = ModelTransaction;

    async fn writing(&self) -> Result<ModelTransaction, LedgerError> {
        turn().await;
        let mut tables = self.tables.borrow_mut();
        if tables.is_down() {
            return Err(gone().into());
        }
        let id = tables.begin(self.admitted.clone());
        Ok(ModelTransaction { database: self.clone(), id, read: BTreeMap::new() })
    }

    async fn reading(&self) -> Result<ModelTransaction, LedgerError> {
        self.writing().await
    }

    async fn batch(&self) -> Result<ModelTransaction, LedgerError> {
        self.writing().await
    }

    async fn pause(&self, time: Duration) {
        let until = self.tables.borrow().now + time;
        poll_fn(|_| {
            let mut tables = self.tables.borrow_mut();
            if tables.now >= until {
                return Poll::Ready(());
            }
            tables.pauses_until = Some(until);
            Poll::Pending
        })
        .await;
    }
}

impl ModelTransaction {
    /// Runs one statement. Other transactions run before it and while it waits for a row.
    pub(super) async fn statement<V>(
        &mut self,
        mut run: impl FnMut(&mut Tables, TransactionId) -> Result<Step<V>, Refusal>,
    ) -> sqlx::Result<V> {
        loop {
            turn().await;
            let mut tables = self.database.tables.borrow_mut();
            if tables.is_down() || !tables.is_open(self.id) {
                return Err(gone());
            }
            if std::mem::take(&mut tables.cancels) {
                return Err(Refusal::Cancelled.into());
            }
            if let Step::Done(rows) = run(&mut tables, self.id)? {
                return Ok(rows);
            }
        }
    }

    /// Locks rows and returns the locked ones. Without `patience`, skips rows that another
    /// transaction holds.
    async fn lock<R: Clone>(
        &mut self,
        rows: &[R],
        lock: impl Fn(&R) -> Lock,
        patience: Option<Patience>,
    ) -> sqlx::Result<Vec<R>> {
        self.statement(|tables, id| match patience {
            None => {
                Ok(Step::Done(rows.iter().filter(|row| tables.try_lock(id, lock(row))).cloned().collect()))
            }
            Some(patience) => match tables.lock(id, rows.iter().map(&lock), patience)? {
                Step::Done(()) => Ok(Step::Done(rows.to_vec())),
                Step::Waits => Ok(Step::Waits),
            },
        })
        .await
    }

    async fn insert_orders(&mut self, rows: &[OrderRow<'_>], positions: &[i64]) -> sqlx::Result<()> {
        let columns = |row: &OrderRow<'_>| Rc::new(order_columns(row, positions[row.outcome]));
        self.at_once(|tables, id| {
            tables.write(id, |written| {
                written.states.extend(rows.iter().map(|row| (row.order, "placed")));
                written.orders.extend(rows.iter().map(|row| (row.order, columns(row))));
            });
        })
        .await
    }

    async fn insert_lines(&mut self, rows: &[LineRow]) -> sqlx::Result<()> {
        self.at_once(|tables, id| {
            tables.write(id, |written| {
                for row in rows {
                    let LineRow { line_no, sku_id, quantity, unit_price, .. } = *row;
                    let line = LineColumns { line_no, sku_id, quantity, unit_price };
                    written.lines.entry(row.order).or_default().push(line);
                }
            });
        })
        .await
    }

    async fn insert_personal(&mut self, rows: &[PersonalRow<'_>]) -> sqlx::Result<()> {
        self.at_once(|tables, id| {
            let row = |row: &PersonalRow<'_>| (row.order, Rc::new(row.personal.clone()));
            tables.write(id, |written| written.personal.extend(rows.iter().map(row)));
        })
        .await
    }

    /// Inserts outcomes. Returns the positions of those whose key was new.
    async fn insert_outcomes(&mut self, rows: &[OutcomeRow<'_>], at: UnixMicros) -> sqlx::Result<Vec<i64>> {
        let key = |row: &OutcomeRow<'_>| row.key.as_bytes().to_vec();
        self.statement(|tables, id| {
            // A unique index makes a second writer of a value wait for the end of the first one.
            let places = rows.iter().filter(|row| row.operation == "place");
            let keys = rows.iter().map(|row| Lock::Key(key(row)));
            if tables.lock(
                id,
                keys.chain(places.clone().map(|row| Lock::Placed(row.order))),
                Patience::Lock,
            )? == Step::Waits
            {
                return Ok(Step::Waits);
            }
            let mut new = Vec::new();
            for row in rows {
                if tables.outcome(id, row.key.as_bytes()).is_some() {
                    continue;
                }
                let places = row.operation == "place";
                if places && tables.placing(id, &row.order).is_some() {
                    return Err(Refusal::Duplicate);
                }
                let price = row.outcome.price();
                let (opens_at, customer_limit, bought) = row.launch_columns();
                let outcome = OutcomeColumns {
                    key: key(row),
                    brand: row.brand.to_owned(),
                    operation: row.operation,
                    order: row.order,
                    fingerprint: row.fingerprint.to_vec(),
                    outcome: row.outcome.code().to_owned(),
                    sku: row.outcome.sku().map(|sku| sku.as_str().to_owned()),
                    price: price.map(|price| price.amount()),
                    currency: price.map(|price| price.currency().to_string()),
                    position: tables.next_position(),
                    committed_at: at.get(),
                    opens_at,
                    customer_limit,
                    bought,
                };
                new.push(outcome.position);
                tables.write(id, |written| {
                    if places {
                        written.placed.insert(row.order, key(row));
                    }
                    written.outcomes.insert(key(row), outcome.into());
                });
            }
            Ok(Step::Done(new))
        })
        .await
    }

    async fn move_stock(&mut self, moves: &[(i64, i64)]) -> sqlx::Result<usize> {
        let read = std::mem::take(&mut self.read);
        self.statement(|tables, id| {
            if tables.lock(id, moves.iter().map(|(sku_id, _)| Lock::Stock(*sku_id)), Patience::Lock)?
                == Step::Waits
            {
                return Ok(Step::Waits);
            }
            let moved = moves.iter().filter_map(|(sku_id, units)| {
                let now = tables.stock(id, *sku_id)?;
                let written_over = read.get(sku_id).copied().filter(|_| tables.overwrites);
                let Stock { initial, available, sold } = written_over.unwrap_or(now);
                let moved = Stock { initial, available: available - units, sold: sold + units };
                (moved.available >= 0).then_some((*sku_id, moved))
            });
            let moved = Vec::from_iter(moved);
            let count = moved.len();
            tables.write(id, |written| written.stock.extend(moved));
            Ok(Step::Done(count))
        })
        .await
    }

    async fn move_launches(&mut self, moves: &[(i64, i64)]) -> sqlx::Result<usize> {
        self.statement(|tables, id| {
            if tables.lock(id, moves.iter().map(|(launch, _)| Lock::Launch(*launch)), Patience::Lock)?
                == Step::Waits
            {
                return Ok(Step::Waits);
            }
            Ok(Step::Done(tables.move_launches(id, moves)))
        })
        .await
    }

    /// Runs a statement that waits for no row.
    pub(super) async fn at_once<V>(
        &mut self,
        mut run: impl FnMut(&mut Tables, TransactionId) -> V,
    ) -> sqlx::Result<V> {
        self.statement(|tables, id| Ok(Step::Done(run(tables, id)))).await
    }
}

impl Statements for ModelTransaction {
    async fn units(&mut self, orders: &[Uuid]) -> sqlx::Result<Vec<UnitsRow>> {
        self.at_once(|tables, id| {
            let rows = |order: &Uuid| {
                let order = *order;
                let lines = tables.lines(id, &order).iter();
                let mut units = Vec::from_iter(lines.map(|line| (line.sku_id, line.quantity)));
                if units.is_empty() && tables.misleads {
                    units.push((1, 0));
                }
                let row = |(sku_id, quantity)| {
                    let (launch_id, customer) = tables.sold_by(order, sku_id).unzip();
                    UnitsRow { order, sku_id, quantity, launch_id, customer }
                };
                units.into_iter().map(row).collect::<Vec<_>>()
            };
            orders.iter().flat_map(rows).collect()
        })
        .await
    }

    async fn wait_for(&mut self, awaited: &Awaited) -> sqlx::Result<()> {
        let lock = match awaited {
            Awaited::Stock { brand, sku } => {
                let named = (brand.as_str().to_owned(), sku.as_str().to_owned());
                self.at_once(|tables, _| tables.skus.get(&named).copied().map(Lock::Stock)).await?
            }
            Awaited::Order(order) => Some(Lock::Order(order.as_uuid())),
            Awaited::Launch { launch_id, .. } => Some(Lock::Launch(*launch_id)),
            Awaited::Brand(_) => None,
        };
        let locks = Vec::from_iter(lock);
        self.lock(&locks, Lock::clone, Some(Patience::Awaited)).await.map(drop)
    }

    async fn lock_stock(
        &mut self,
        named: &[(&str, &str)],
        sku_ids: &[i64],
        launches: &[i64],
        locking: Locking,
    ) -> sqlx::Result<Option<Vec<LockedRow>>> {
        let mut stock = wanted(&self.database.tables.borrow(), named, sku_ids);
        let launches = launches.iter().copied();
        let sold = |tables: &Tables| Vec::from_iter(stock.iter().filter_map(|row| tables.launch_of(*row)));
        let mut launches: BTreeSet<i64> = launches.chain(sold(&self.database.tables.borrow())).collect();
        if !self.database.tables.borrow().overwrites {
            let wanted = Vec::from_iter(launches);
            let locked = self.lock(&wanted, |launch| Lock::Launch(*launch), patience(locking)).await?;
            launches = locked.into_iter().collect();
            stock = self.lock(&stock, |sku_id| Lock::Stock(*sku_id), patience(locking)).await?;
        }
        let launches = launches.into_iter().map(|launch| LockedRow { sku_id: None, launch_id: Some(launch) });
        let stock = stock.into_iter().map(|sku_id| LockedRow { sku_id: Some(sku_id), launch_id: None });
        Ok(Some(launches.chain(stock).collect()))
    }

    async fn lock_orders(&mut self, orders: &[Uuid], locking: Locking) -> sqlx::Result<Option<Vec<Uuid>>> {
        let placed = |tables: &mut Tables, id| {
            Vec::from_iter(orders.iter().filter(|order| tables.state(id, order).is_some()).copied())
        };
        let mut placed = self.at_once(placed).await?;
        placed.sort_unstable();
        self.lock(&placed, |order| Lock::Order(*order), patience(locking)).await.map(Some)
    }

    async fn facts(&mut self, keys: &FactKeys<'_>) -> sqlx::Result<FactRows> {
        let mut read = std::mem::take(&mut self.read);
        let facts = self.at_once(|tables, id| {
            let settled = keys.keys.iter().filter_map(|key| settled(tables, id, key)).collect();
            let standing = keys.cancels.iter().filter_map(|order| standing(tables, id, order)).collect();
            let purchases = match tables.forgets_purchases {
                true => Vec::new(),
                false => tables.purchases_of(&keys.launches, &keys.customers),
            };
            let offers = offers(tables, id, keys, &mut read);
            FactRows { offers, settled, standing, purchases }
        });
        let facts = facts.await;
        self.read = read;
        facts
    }

    /// The parts of the statement may run in any order, and others may run between them. All rows
    /// that it changes are locked by then, except new ones.
    async fn write(&mut self, rows: &NewRows<'_>, at: UnixMicros) -> sqlx::Result<WrittenRows> {
        let positions = self.insert_outcomes(&rows.outcomes, at).await?;
        let mut written = WrittenRows { positions, ..WrittenRows::default() };
        if rows.are_outcomes_alone() || written.positions.len() < rows.outcomes.len() {
            return Ok(written);
        }
        self.insert_orders(&rows.orders, &written.positions).await?;
        self.insert_lines(&rows.lines).await?;
        self.insert_personal(&rows.personal).await?;
        self.at_once(|tables, id| tables.insert_purchases(id, &rows.purchases)).await?;
        written.inserted = rows.orders.len() + rows.lines.len() + rows.personal.len() + rows.purchases.len();
        written.stock = self.move_stock(&rows.stock).await?;
        written.launches = self.move_launches(&rows.launches).await?;
        Ok(written)
    }

    async fn cancel_orders(&mut self, orders: &[Uuid], _at: UnixMicros) -> sqlx::Result<u64> {
        self.statement(|tables, id| {
            if tables.lock(id, orders.iter().copied().map(Lock::Order), Patience::Lock)? == Step::Waits {
                return Ok(Step::Waits);
            }
            let placed = orders.iter().filter(|order| tables.state(id, order) == Some("placed"));
            let placed = Vec::from_iter(placed.copied());
            let count = placed.len() as u64;
            tables.write(id, |written| {
                written.states.extend(placed.into_iter().map(|order| (order, "cancelled")));
            });
            Ok(Step::Done(count))
        })
        .await
    }

    async fn give_back(&mut self, orders: &[Uuid], _at: UnixMicros) -> sqlx::Result<()> {
        self.at_once(|tables, id| tables.give_back(id, orders)).await
    }
}

impl Ends for ModelTransaction {
    async fn commit(self) -> sqlx::Result<()> {
        self.database.tables.borrow_mut().set_committing(self.id);
        turn().await;
        let mut tables = self.database.tables.borrow_mut();
        if tables.is_down() || !tables.is_open(self.id) {
            return Err(gone());
        }
        let fate = tables.fate;
        tables.ended(fate);
        match fate {
            CommitFate::Done | CommitFate::ReplyLost => tables.commit(self.id),
            CommitFate::Lost => tables.roll_back(self.id),
            CommitFate::Late => tables.leave(self.id),
        }
        if fate == CommitFate::Done { Ok(()) } else { Err(gone()) }
    }

    async fn rollback(mut self) -> sqlx::Result<()> {
        self.at_once(|_, _| ()).await
    }
}

impl Drop for ModelTransaction {
    fn drop(&mut self) {
        // The borrow fails only if a statement drops a transaction while it runs, and no statement
        // does.
        let Ok(mut tables) = self.database.tables.try_borrow_mut() else { return };
        match tables.orphan_of(self.id) {
            Orphan::Left => {}
            Orphan::Committing if tables.commits_orphans => tables.commit(self.id),
            Orphan::Committing | Orphan::Open => tables.roll_back(self.id),
        }
    }
}

/// Returns the brands, and the offers of their SKUs. Notes the stock that was read.
fn offers(
    tables: &Tables,
    id: TransactionId,
    keys: &FactKeys<'_>,
    read: &mut BTreeMap<i64, Stock>,
) -> Vec<OfferRow> {
    let wanted = wanted(tables, &keys.named, &keys.sku_ids);
    let brand = |brand: &&str| {
        let currency = tables.brands.get(*brand)?.clone();
        let brand = (*brand).to_owned();
        Some(OfferRow { brand, currency, ..OfferRow::default() })
    };
    let offer = |((brand, sku), sku_id): (&(String, String), &i64)| {
        wanted.binary_search(sku_id).ok()?;
        let (currency, stock) = (tables.brands.get(brand)?.clone(), tables.stock(id, *sku_id)?);
        read.insert(*sku_id, stock);
        Some(tables.launch_columns(OfferRow {
            brand: brand.clone(),
            currency,
            sku_id: Some(*sku_id),
            sku: Some(sku.clone()),
            price: tables.price(id, *sku_id),
            available: Some(stock.available),
            ..OfferRow::default()
        }))
    };
    let brands = keys.brands.iter().filter_map(brand);
    brands.chain(tables.skus.iter().filter_map(offer)).collect()
}

fn settled(tables: &Tables, id: TransactionId, key: &[u8]) -> Option<SettledRow> {
    let found = tables.outcome(id, key)?;
    Some(SettledRow {
        key: key.to_vec(),
        order: found.order,
        fingerprint: found.fingerprint.clone(),
        outcome: found.outcome.clone(),
        sku: found.sku.clone(),
        price: found.price,
        currency: found.currency.clone(),
        position: found.position,
        committed_at: found.committed_at,
        opens_at: found.opens_at,
        customer_limit: found.customer_limit,
        bought: found.bought,
    })
}

fn standing(tables: &Tables, id: TransactionId, order: &Uuid) -> Option<StandingRow> {
    let brand = tables.placing(id, order)?.brand.clone();
    let state = tables.state(id, order).unwrap_or("rejected").to_owned();
    Some(StandingRow { order: *order, brand, state })
}

fn order_columns(row: &OrderRow<'_>, position: i64) -> OrderColumns {
    OrderColumns {
        brand: row.brand.to_owned(),
        position,
        customer_reference: row.terms.customer_reference().to_owned(),
        currency: row.terms.currency().to_string(),
        shipping_fee: row.terms.shipping_fee().amount(),
        total: row.terms.total().amount(),
    }
}

/// Returns the rows of these SKUs together with these rows, sorted and without duplicates.
fn wanted(tables: &Tables, named: &[(&str, &str)], sku_ids: &[i64]) -> Vec<i64> {
    let row = |(brand, sku): &(&str, &str)| tables.skus.get(&((*brand).to_owned(), (*sku).to_owned()));
    let mut wanted: Vec<i64> = named.iter().filter_map(row).copied().collect();
    wanted.extend(sku_ids);
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

fn patience(locking: Locking) -> Option<Patience> {
    match locking {
        Locking::Skips => None,
        Locking::Waits => Some(Patience::Lock),
    }
}

/// Is pending once, so that other transactions run.
pub(super) async fn turn() {
    let mut waited = false;
    poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Returns the error of a cut connection.
pub(super) fn gone() -> sqlx::Error {
    sqlx::Error::Io(io::ErrorKind::ConnectionReset.into())
}
