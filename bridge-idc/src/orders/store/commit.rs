//! The one flow that commits a batch, over any database: lock, read, let the planner decide, write,
//! commit.
//!
//! The planner decides, and `statements` have the SQL. A batch is committed as a whole or not at
//! all. The exception is a request that needs a held row: it is set apart before anything is
//! written, and no other request waits for it. `bisect` finds a request that the database refuses.
//!
//! Two rules prevent deadlocks between writers, and delays by a held row for requests that do not
//! need it. A transaction waits for a row only while it holds no lock. All rows that it decides
//! from are read after its locks are taken.

use std::collections::{BTreeSet, HashMap, HashSet};

use bridge_protocol::domain::{Brand, KeyDigest, OrderId, Outcome, UnixMicros};
use bridge_protocol::receipt::Receipt;
use bridge_protocol::wire::order::Refusal;
use uuid::Uuid;

use super::rows::{self, LineRow, LockedRow, NewRows, OrderRow, OutcomeRow, PersonalRow, PurchaseRow};
use super::statements::{FactKeys, Locking, Statements};
use super::{Committed, LedgerError, RequestEnd, RequestOutcome, SqlState};
use crate::database::transaction::{TRIES, is_late};
use crate::database::{self, Begins, Ends as _, NotDone, soon};
use crate::orders::planner::{
    self, Action, Awaited, Decision, Facts, LaunchUnits, Placement, Plan, Request, Standing, StandingOrder,
};
use crate::payments::store;

/// The statements of orders, and those of payments of cancelled orders.
pub(super) trait Both: Statements + store::Statements {}

impl<T: Statements + store::Statements> Both for T {}

/// Commits the requests in one transaction, except those that wait for a held row. Returns the end
/// of each request. With `awaited`, the transaction first waits for that row.
pub(super) async fn commit<D: Begins<Own: Both>>(
    database: &D,
    requests: &[Request],
    at: UnixMicros,
    awaited: Option<&Awaited>,
) -> Result<Vec<RequestEnd>, NotDone> {
    // Set once the reply to an earlier try's COMMIT was lost. From then on the requests may have
    // had an effect.
    let mut lost = None;
    let mut was_cut = false;
    for _ in 0..TRIES {
        // An earlier try of this batch may still hold the rows, and will release them soon.
        let locking = if lost.is_some() { Locking::Waits } else { Locking::Skips };
        match attempt(database, requests, at, awaited, locking).await {
            Ok(ends) if lost.is_none() => {
                return Ok(those_who_met_another(database, requests, at, awaited, ends).await);
            }
            Ok(ends) => return Ok(ends.into_iter().map(RequestEnd::after_a_lost_one).collect()),
            Err(AttemptFailure::Again) => {}
            // A new connection shows if only that one was cut.
            Err(AttemptFailure::Cut(_)) if !was_cut => was_cut = true,
            Err(AttemptFailure::Lost(error)) => lost = Some(error),
            Err(AttemptFailure::Unknown(error)) => return Err(NotDone::Perhaps(error)),
            Err(AttemptFailure::Cut(error) | AttemptFailure::Nothing(error)) => {
                return Err(if lost.is_none() { NotDone::Nothing(error) } else { NotDone::Perhaps(error) });
            }
        }
    }
    Err(match lost {
        Some(error) => NotDone::Perhaps(error),
        None => NotDone::Nothing(LedgerError::Conflict),
    })
}

/// Tries again the requests that waited for one row and then met another held row. This try waits
/// for all their rows in the one order of locks, and only for a short time. Without it, two such
/// batches could repeat for ever, because each holds the row that the other needs.
async fn those_who_met_another<D: Begins<Own: Both>>(
    database: &D,
    requests: &[Request],
    at: UnixMicros,
    awaited: Option<&Awaited>,
    mut ends: Vec<RequestEnd>,
) -> Vec<RequestEnd> {
    let met = |end: &RequestEnd| {
        awaited.is_some_and(|awaited| matches!(end, RequestEnd::Waits(on) if on != awaited))
    };
    let places: Vec<usize> = (0..ends.len()).filter(|place| met(&ends[*place])).collect();
    if places.is_empty() {
        return ends;
    }
    let again: Vec<Request> = places.iter().map(|place| requests[*place].clone()).collect();
    match Box::pin(attempt(database, &again, at, None, Locking::Waits)).await {
        Ok(now) => places.into_iter().zip(now).for_each(|(place, end)| ends[place] = end),
        Err(AttemptFailure::Again | AttemptFailure::Cut(_) | AttemptFailure::Nothing(_)) => {}
        Err(AttemptFailure::Lost(_) | AttemptFailure::Unknown(_)) => {
            places.into_iter().for_each(|place| ends[place] = RequestEnd::Unknown);
        }
    }
    ends
}

/// The end of a try that did not commit, as far as is known.
enum AttemptFailure {
    /// The try had no effect, and another try may succeed.
    Again,
    /// The connection failed before the COMMIT. The try had no effect.
    Cut(LedgerError),
    /// The try had no effect.
    Nothing(LedgerError),
    /// The reply to the COMMIT was lost. The outcomes are not in the ledger, or not yet.
    Lost(LedgerError),
    /// The reply to the COMMIT was lost, and the database cannot be asked.
    Unknown(LedgerError),
}

impl From<LedgerError> for AttemptFailure {
    /// Classifies an error that came before the COMMIT.
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Conflict => Self::Again,
            error => Self::Nothing(error),
        }
    }
}

async fn attempt<D: Begins<Own: Both>>(
    database: &D,
    requests: &[Request],
    at: UnixMicros,
    awaited: Option<&Awaited>,
    locking: Locking,
) -> Result<Vec<RequestEnd>, AttemptFailure> {
    let mut transaction = soon(database.batch()).await?;
    let prepared = soon(prepare(&mut transaction, requests, at, awaited, locking)).await;
    let PreparedCommit { positions, ends } = match prepared {
        Ok(prepared) if prepared.positions.is_empty() => {
            // Nothing was written, so there is nothing to make durable.
            transaction.give_up().await;
            return Ok(prepared.ends);
        }
        Ok(prepared) => prepared,
        Err(gone) if is_late(&gone) => return Err(AttemptFailure::Nothing(gone)),
        Err(gone @ LedgerError::Unavailable(_)) => return Err(AttemptFailure::Cut(gone)),
        Err(error) => {
            transaction.give_up().await;
            return Err(error.into());
        }
    };
    match database::commit(transaction).await {
        Ok(()) => Ok(ends),
        Err(NotDone::Nothing(
            refused @ (LedgerError::Refused(_) | LedgerError::Denied(_) | LedgerError::Conflict),
        )) => Err(refused.into()),
        // The outcome of the COMMIT is unknown. Another connection can tell, because all keys are
        // in the ledger or none is.
        Err(NotDone::Nothing(lost) | NotDone::Perhaps(lost)) => {
            match soon(has_committed(database, &positions)).await {
                Ok(true) => Ok(ends),
                Ok(false) => Err(AttemptFailure::Lost(lost)),
                Err(_) => Err(AttemptFailure::Unknown(lost)),
            }
        }
    }
}

/// The effect of a COMMIT.
struct PreparedCommit {
    /// Position of each new outcome, by its key.
    positions: HashMap<KeyDigest, i64>,
    /// The end of each request.
    ends: Vec<RequestEnd>,
}

/// Runs all steps of a batch before its COMMIT.
async fn prepare<T: Both>(
    transaction: &mut T,
    requests: &[Request],
    at: UnixMicros,
    awaited: Option<&Awaited>,
    locking: Locking,
) -> Result<PreparedCommit, LedgerError> {
    if let Some(awaited) = awaited {
        match transaction.wait_for(awaited).await.map_err(LedgerError::from) {
            Ok(()) => {}
            // If a DBA or a time-out of the server ends the waiting statement, only this turn ends.
            // The requests wait again.
            Err(LedgerError::Held(_) | LedgerError::Cancelled(_)) => {
                let ends = requests.iter().map(|_| RequestEnd::Waits(awaited.clone())).collect();
                return Ok(PreparedCommit { positions: HashMap::new(), ends });
            }
            Err(error) => return Err(error),
        }
    }
    let facts = read(transaction, requests, locking).await?;
    let plan = planner::plan(requests, facts);
    let positions = write(transaction, requests, &plan, at).await?;
    let ends = RequestEnd::of_plan(requests, at, &plan, &positions)?;
    Ok(PreparedCommit { positions, ends })
}

/// Locks the rows that the requests need, and reads them.
async fn read<T: Both>(
    transaction: &mut T,
    requests: &[Request],
    locking: Locking,
) -> Result<Facts, LedgerError> {
    // SKU rows and launches to which the cancellations return units. They are read before their
    // locks, so they only tell which rows to lock. An order that another agent places in the
    // meantime is not among them.
    let cancels = cancels(requests);
    let mut allocated: HashMap<OrderId, AllocatedUnits> = HashMap::new();
    if !cancels.is_empty() {
        for row in transaction.units(&cancels).await? {
            let of_order = allocated.entry(rows::order_id(row.order)?).or_default();
            of_order.from_launches.extend(rows::launch_units(&row)?);
            of_order.units.push((row.sku_id, row.quantity));
        }
    }
    let ordered = distinct(placements(requests).flat_map(|(brand, placement)| {
        placement.terms.lines().iter().map(|line| (brand.as_str(), line.sku.as_str()))
    }));
    let returned = allocated.values().flat_map(|order| &order.units).map(|(sku_id, _)| *sku_id);
    let launches = allocated.values().flat_map(|order| &order.from_launches).map(|line| line.launch_id);
    let (returned, launches) = (distinct(returned), distinct(launches));
    let locked = transaction.lock_stock(&ordered, &returned, &launches, locking).await?;
    let locked = locked.map(LockedRows::of);
    let orders = match cancels.as_slice() {
        [] => None,
        cancels => transaction.lock_orders(cancels, locking).await?,
    };
    let orders: Option<HashSet<Uuid>> = orders.map(HashSet::from_iter);

    // Rows that are read from here on cannot be changed by another writer. They show the commits of
    // the last lock holders.
    let keys = FactKeys {
        brands: distinct(requests.iter().map(|request| request.brand.as_str())),
        named: ordered,
        sku_ids: returned,
        keys: requests.iter().map(|request| request.key.as_bytes().as_slice()).collect(),
        cancels,
        customers: match &locked {
            Some(locked) if locked.launches.is_empty() => Vec::new(),
            _ => {
                distinct(placements(requests).map(|(brand, placement)| (brand.as_str(), placement.customer)))
            }
        },
        launches: locked.iter().flat_map(|locked| &locked.launches).copied().collect(),
    };
    let read = transaction.facts(&keys).await?;
    let mut facts = Facts::default();
    for row in read.offers {
        let (brand, currency, offer) = rows::offer(row)?;
        if let Some((sku, offer)) = offer {
            if let Some(locked) = &locked {
                if !locked.stock.contains(&offer.sku_id) {
                    facts.held.insert(offer.sku_id);
                }
                let held = offer.launch.filter(|launch| !locked.launches.contains(&launch.launch_id));
                facts.held_launches.extend(held.map(|launch| launch.launch_id));
            }
            facts.offers.entry(brand.clone()).or_default().insert(sku, offer);
        }
        facts.brands.insert(brand, currency);
    }
    if let Some(locked) = &locked {
        facts.held_launches.extend(launches.iter().filter(|launch| !locked.launches.contains(launch)));
    }
    for row in read.purchases {
        let customer = (row.launch_id, rows::customer_tag(&row.customer)?);
        *facts.purchases.entry(customer).or_default().entry(row.sku_id).or_default() += row.units;
    }
    for row in read.settled {
        let (key, settled) = rows::settled(row)?;
        facts.settled.insert(key, settled);
    }
    for row in read.standing {
        let (order, brand, state) = rows::standing(row)?;
        let AllocatedUnits { units, from_launches } = allocated.remove(&order).unwrap_or_default();
        if state == Standing::Placed && units.is_empty() {
            // The order was placed after its units were read, so their rows are not locked.
            return Err(LedgerError::Conflict);
        }
        let held = orders.as_ref().is_some_and(|locked| !locked.contains(&order.as_uuid()));
        if held && state != Standing::Rejected {
            facts.held_orders.insert(order);
        }
        facts.orders.insert(order, StandingOrder { brand, state, units, from_launches });
    }
    Ok(facts)
}

/// Returns the values without repetitions, sorted.
fn distinct<V: Ord>(values: impl Iterator<Item = V>) -> Vec<V> {
    Vec::from_iter(BTreeSet::from_iter(values))
}

/// Allocated units of an order to cancel.
#[derive(Default)]
struct AllocatedUnits {
    /// Units by SKU row.
    units: Vec<(i64, i64)>,
    /// Those of them that come from a launch.
    from_launches: Vec<LaunchUnits>,
}

/// The rows that a transaction has locked.
struct LockedRows {
    stock: HashSet<i64>,
    launches: HashSet<i64>,
}

impl LockedRows {
    fn of(rows: Vec<LockedRow>) -> Self {
        let stock = rows.iter().filter_map(|row| row.sku_id).collect();
        Self { stock, launches: rows.iter().filter_map(|row| row.launch_id).collect() }
    }
}

/// Writes the plan. Returns the position of each new outcome by its key.
async fn write<T: Both>(
    transaction: &mut T,
    requests: &[Request],
    plan: &Plan,
    at: UnixMicros,
) -> Result<HashMap<KeyDigest, i64>, LedgerError> {
    let rows = new_rows(requests, plan);
    if rows.outcomes.is_empty() {
        return Ok(HashMap::new());
    }
    let written = transaction.write(&rows, at).await?;
    if !written.had_keys_and_units(&rows) {
        return Err(LedgerError::Conflict);
    }
    if !written.inserted_all(&rows) {
        return Err(LedgerError::Denied(SqlState::rows_dropped()));
    }
    // Orders and purchases are written before cancellations, because this batch may cancel an order
    // that it places.
    let cancelled: Vec<Uuid> = plan.cancelled.iter().map(OrderId::as_uuid).collect();
    if !cancelled.is_empty() && transaction.cancel_orders(&cancelled, at).await? != cancelled.len() as u64 {
        return Err(LedgerError::Conflict);
    }
    store::refund_cancelled(transaction, &cancelled).await?;
    let given_back: Vec<Uuid> = plan.launches.given_back.iter().map(OrderId::as_uuid).collect();
    if !given_back.is_empty() {
        transaction.give_back(&given_back, at).await?;
    }
    Ok(rows.outcomes.iter().map(|row| *row.key).zip(written.positions).collect())
}

/// Returns true if the outcomes are in the ledger at the positions that this try got.
async fn has_committed<D: Begins<Own: Both>>(
    database: &D,
    positions: &HashMap<KeyDigest, i64>,
) -> Result<bool, LedgerError> {
    let keys = positions.keys().map(|key| key.as_bytes().as_slice()).collect();
    let mut transaction = database.batch().await?;
    let mut found = 0;
    for row in transaction.facts(&FactKeys { keys, ..FactKeys::default() }).await?.settled {
        let (key, settled) = rows::settled(row)?;
        found += usize::from(positions.get(&key) == Some(&settled.position));
    }
    transaction.commit().await?;
    Ok(found == positions.len())
}

impl RequestEnd {
    /// Returns the end of each request after the commit of a plan. `positions` has the numbers of
    /// the new outcomes. If a key has none, another writer settled it in the meantime.
    pub(super) fn of_plan(
        requests: &[Request],
        at: UnixMicros,
        plan: &Plan,
        positions: &HashMap<KeyDigest, i64>,
    ) -> Result<Vec<Self>, LedgerError> {
        let mut ends: Vec<Self> = Vec::with_capacity(requests.len());
        for (request, decision) in requests.iter().zip(&plan.decisions) {
            let settled = |order, outcome, position, committed_at, replayed| {
                let (brand, key) = (request.brand.clone(), request.key);
                let receipt = Receipt { brand, key, order, outcome, position, committed_at };
                RequestOutcome::Settled { receipt, replayed }
            };
            let answer = match decision {
                Decision::New { order, outcome, .. } => {
                    let position = *positions.get(&request.key).ok_or(LedgerError::Conflict)?;
                    settled(*order, outcome.clone(), position, at, false)
                }
                Decision::Replay(earlier) => settled(
                    earlier.order,
                    earlier.outcome.clone(),
                    earlier.position,
                    earlier.committed_at,
                    true,
                ),
                Decision::SameAs(earlier) => match ends.get(*earlier) {
                    Some(Self::Committed(Committed { answer: RequestOutcome::Settled { receipt, .. } })) => {
                        RequestOutcome::Settled { receipt: receipt.clone(), replayed: true }
                    }
                    _ => return Err(LedgerError::Conflict),
                },
                Decision::KeyReused => RequestOutcome::Refused(Refusal::KeyReused),
                Decision::NotFound => RequestOutcome::Refused(Refusal::NotFound),
                Decision::UnknownBrand => RequestOutcome::Refused(Refusal::UnknownBrand),
                Decision::Waits(awaited) => {
                    ends.push(Self::Waits(awaited.clone()));
                    continue;
                }
            };
            ends.push(Self::Committed(Committed { answer }));
        }
        Ok(ends)
    }

    /// Returns the end of a request after an earlier try's COMMIT reply was lost. A request without
    /// an answer is then in doubt.
    fn after_a_lost_one(self) -> Self {
        match self {
            committed @ Self::Committed(_) => committed,
            Self::Waits(_) | Self::NotCommitted | Self::Unknown => Self::Unknown,
        }
    }
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

/// Returns the rows to write.
fn new_rows<'a>(requests: &'a [Request], plan: &'a Plan) -> NewRows<'a> {
    let mut rows = NewRows { outcomes: new_outcomes(requests, plan), ..NewRows::default() };
    for (nth, outcome) in rows.outcomes.iter().enumerate() {
        let request = &requests[outcome.request];
        let (Decision::New { outcome: Outcome::Placed, sku_ids, .. }, Action::Place(placement)) =
            (&plan.decisions[outcome.request], &request.action)
        else {
            continue;
        };
        let (order, terms) = (placement.order.as_uuid(), &placement.terms);
        rows.orders.push(OrderRow { order, brand: request.brand.as_str(), outcome: nth, terms });
        rows.lines.extend((0..).zip(terms.lines()).zip(sku_ids).map(|((line_no, line), sku_id)| LineRow {
            order,
            line_no,
            sku_id: *sku_id,
            quantity: line.quantity.get(),
            unit_price: line.unit_price,
        }));
        rows.personal.push(PersonalRow { order, personal: &placement.personal });
    }
    let units = |(row, units): (&i64, &i64)| (*row, *units);
    rows.stock = plan.sold.iter().map(units).collect();
    rows.launches = plan.launches.sold.iter().map(units).collect();
    let purchases = plan.launches.purchases.iter();
    rows.purchases = purchases.map(|(order, units)| PurchaseRow { order: order.as_uuid(), units }).collect();
    rows
}

/// Returns the rows of the new outcomes, sorted by key.
fn new_outcomes<'a>(requests: &'a [Request], plan: &'a Plan) -> Vec<OutcomeRow<'a>> {
    let mut outcomes = Vec::with_capacity(requests.len());
    for (place, (request, decision)) in requests.iter().zip(&plan.decisions).enumerate() {
        let Decision::New { order, outcome, .. } = decision else { continue };
        outcomes.push(OutcomeRow {
            request: place,
            key: &request.key,
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
