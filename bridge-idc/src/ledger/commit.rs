//! The one flow that commits a batch, over any database: lock, read, let the planner decide, write, commit.
//!
//! Its neighbours are the planner, which decides, and `transaction`, which is SQL. A batch is committed whole or not at
//! all; `bisect` finds the request that a database refuses.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::time::Duration;

use bridge_protocol::domain::{Brand, KeyDigest, OrderId, Outcome, UnixMicros};
use tokio::time::timeout;
use uuid::Uuid;

use super::rows::{self, LineRow, OrderRow, OutcomeRow, PersonalRow};
use super::transaction::{Database, Transaction};
use super::{Committed, LedgerError, payments};
use crate::planner::{self, Action, Decision, Facts, Placement, Plan, Request, StandingOrder};

/// Rounds against other writers. Each waits for them under lock, so that a second one is rare already.
const TRIES: u32 = 8;

/// How long a batch's statements, and its COMMIT, may take before the database counts as gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Commits the requests in one transaction, or nothing of them.
pub(super) async fn commit<D: Database>(
    database: &D,
    requests: &[Request],
    at: UnixMicros,
) -> Result<Committed, LedgerError> {
    for _ in 0..TRIES {
        match attempt(database, requests, at).await {
            Err(LedgerError::Conflict) => {}
            done => return done,
        }
    }
    Err(LedgerError::Conflict)
}

async fn attempt<D: Database>(
    database: &D,
    requests: &[Request],
    at: UnixMicros,
) -> Result<Committed, LedgerError> {
    let prepare = async {
        let mut transaction = database.begin().await?;
        let facts = read(&mut transaction, requests).await?;
        let plan = planner::plan(requests, facts);
        let positions = write(&mut transaction, requests, &plan, at).await?;
        let committed = Committed::new(requests, at, &plan, &positions)?;
        Ok((transaction, positions, committed))
    };
    let (transaction, positions, committed) = soon(prepare).await?;
    match soon(async { Ok(transaction.commit().await?) }).await {
        Ok(()) => Ok(committed),
        Err(LedgerError::Unavailable(lost)) => {
            // Whether it was committed is not known. Another connection knows: every key is there, or none.
            match soon(has_committed(database, &positions)).await {
                Ok(true) => Ok(committed),
                Ok(false) => Err(LedgerError::Conflict),
                Err(_) => Err(LedgerError::Unavailable(lost)),
            }
        }
        Err(refused) => Err(refused),
    }
}

/// Reads what the requests mention.
async fn read<T: Transaction>(transaction: &mut T, requests: &[Request]) -> Result<Facts, LedgerError> {
    let mut facts = Facts::default();
    let brands: BTreeSet<&str> = requests.iter().map(|request| request.brand.as_str()).collect();
    for row in transaction.brands(&Vec::from_iter(brands)).await? {
        let (brand, currency) = rows::brand(row)?;
        facts.brands.insert(brand, currency);
    }

    // What an order allocated never changes, so it can be read before the lock that depends on it.
    let cancels = cancels(requests);
    let mut units: HashMap<OrderId, Vec<(i64, i64)>> = HashMap::new();
    if !cancels.is_empty() {
        for (order, sku_id, quantity) in transaction.units(&cancels).await? {
            units.entry(rows::order_id(order)?).or_default().push((sku_id, quantity));
        }
    }

    // Every writer takes the locks of its rows in one order. What is read from here on cannot be moved by another one,
    // and shows what the last holder of a lock has committed.
    let ordered = BTreeSet::from_iter(placements(requests).flat_map(|(brand, placement)| {
        placement.terms.lines().iter().map(|line| (brand.as_str(), line.sku.as_str()))
    }));
    let returned: BTreeSet<i64> = units.values().flatten().map(|(sku_id, _)| *sku_id).collect();
    for row in transaction.lock_stock(&Vec::from_iter(ordered), &Vec::from_iter(returned)).await? {
        let (brand, sku, offer) = rows::offer(row)?;
        facts.offers.entry(brand).or_default().insert(sku, offer);
    }

    let keys: Vec<&[u8]> = requests.iter().map(|request| request.key.as_bytes().as_slice()).collect();
    for row in transaction.settled(&keys).await? {
        let (key, settled) = rows::settled(row)?;
        facts.settled.insert(key, settled);
    }
    if !cancels.is_empty() {
        for row in transaction.standing(&cancels).await? {
            let (order, brand, state) = rows::standing(row)?;
            let units = units.remove(&order).unwrap_or_default();
            facts.orders.insert(order, StandingOrder { brand, state, units });
        }
    }
    Ok(facts)
}

/// Writes what was planned; returns the position of each new outcome by its key.
async fn write<T: Transaction>(
    transaction: &mut T,
    requests: &[Request],
    plan: &Plan,
    at: UnixMicros,
) -> Result<HashMap<KeyDigest, i64>, LedgerError> {
    let outcomes = new_outcomes(requests, plan);
    if outcomes.is_empty() {
        return Ok(HashMap::new());
    }
    let settled = transaction.insert_outcomes(&outcomes, at).await?;
    if settled.len() < outcomes.len() {
        return Err(LedgerError::Conflict);
    }
    let key = |key: Vec<u8>| KeyDigest::from_bytes(&key).ok_or(LedgerError::Conflict);
    let positions = settled.into_iter().map(|(bytes, position)| Ok((key(bytes)?, position)));
    let positions: HashMap<KeyDigest, i64> = positions.collect::<Result<_, LedgerError>>()?;

    let (orders, lines, personal) = placed(requests, plan, &positions);
    if !orders.is_empty() {
        transaction.insert_orders(&orders, at).await?;
        transaction.insert_lines(&lines).await?;
        transaction.insert_personal(&personal).await?;
    }
    let cancelled: Vec<Uuid> = plan.cancelled.iter().map(OrderId::as_uuid).collect();
    if !cancelled.is_empty() && transaction.cancel_orders(&cancelled, at).await? != cancelled.len() as u64 {
        return Err(LedgerError::Conflict);
    }
    payments::refund_cancelled(&mut transaction.payments(), &cancelled).await?;
    // Last, so that the hot SKU's row changes as late as possible.
    let moves: Vec<(i64, i64)> = plan.sold.iter().map(|(sku_id, units)| (*sku_id, *units)).collect();
    if !moves.is_empty() && transaction.move_stock(&moves).await? != moves.len() as u64 {
        return Err(LedgerError::Conflict);
    }
    Ok(positions)
}

/// Whether the outcomes are in the ledger at the positions that this writer was given.
async fn has_committed<D: Database>(
    database: &D,
    positions: &HashMap<KeyDigest, i64>,
) -> Result<bool, LedgerError> {
    let keys: Vec<&[u8]> = positions.keys().map(|key| key.as_bytes().as_slice()).collect();
    let mut transaction = database.begin().await?;
    let mut found = 0;
    for row in transaction.settled(&keys).await? {
        let (key, settled) = rows::settled(row)?;
        found += usize::from(positions.get(&key) == Some(&settled.position));
    }
    transaction.commit().await?;
    Ok(found == keys.len())
}

/// A database that does not answer in time is one that does not answer.
async fn soon<V>(work: impl Future<Output = Result<V, LedgerError>>) -> Result<V, LedgerError> {
    let late = |_| LedgerError::Unavailable(sqlx::Error::Io(io::ErrorKind::TimedOut.into()));
    timeout(PATIENCE, work).await.map_err(late)?
}

fn cancels(requests: &[Request]) -> Vec<Uuid> {
    let orders = requests.iter().filter_map(|request| match &request.action {
        Action::Cancel { order } => Some(order.as_uuid()),
        Action::Place(_) => None,
    });
    Vec::from_iter(orders.collect::<BTreeSet<_>>())
}

fn placements(requests: &[Request]) -> impl Iterator<Item = (&Brand, &Placement)> {
    requests.iter().filter_map(|request| match &request.action {
        Action::Place(placement) => Some((&request.brand, placement.as_ref())),
        Action::Cancel { .. } => None,
    })
}

/// Sorted by key: two writers that settle the same keys wait for each other, never in a circle.
fn new_outcomes<'a>(requests: &'a [Request], plan: &'a Plan) -> Vec<OutcomeRow<'a>> {
    let mut outcomes = Vec::with_capacity(requests.len());
    for (request, decision) in requests.iter().zip(&plan.decisions) {
        let Decision::New { order, outcome, .. } = decision else { continue };
        outcomes.push(OutcomeRow {
            key: request.key.as_bytes(),
            brand: request.brand.as_str(),
            operation: match request.action {
                Action::Place(_) => "place",
                Action::Cancel { .. } => "cancel",
            },
            order: order.as_uuid(),
            fingerprint: &request.fingerprint,
            outcome,
        });
    }
    outcomes.sort_unstable_by_key(|outcome| outcome.key);
    outcomes
}

/// The rows of the orders that are placed.
fn placed<'a>(
    requests: &'a [Request],
    plan: &'a Plan,
    positions: &HashMap<KeyDigest, i64>,
) -> (Vec<OrderRow<'a>>, Vec<LineRow>, Vec<PersonalRow<'a>>) {
    let (mut orders, mut lines, mut personal) = (Vec::new(), Vec::new(), Vec::new());
    for (request, decision) in requests.iter().zip(&plan.decisions) {
        let Decision::New { outcome: Outcome::Placed, sku_ids, .. } = decision else { continue };
        let (Action::Place(placement), Some(position)) = (&request.action, positions.get(&request.key))
        else {
            continue;
        };
        let (order, terms) = (placement.order.as_uuid(), &placement.terms);
        orders.push(OrderRow { order, brand: request.brand.as_str(), position: *position, terms });
        lines.extend((0..).zip(terms.lines()).zip(sku_ids).map(|((line_no, line), sku_id)| LineRow {
            order,
            line_no,
            sku_id: *sku_id,
            quantity: line.quantity.get(),
            unit_price: line.unit_price,
        }));
        personal.push(PersonalRow { order, personal: &placement.personal });
    }
    (orders, lines, personal)
}
