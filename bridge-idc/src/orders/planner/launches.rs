//! The part of the planner that knows launches: opening times, limits a customer, and units of a
//! launch in all.
//!
//! All numbers were read behind the lock of the launch, so two batches never count the same units.

use std::collections::{BTreeMap, HashMap};

use bridge_protocol::domain::outcome::LaunchRefusal;
use bridge_protocol::domain::{OrderId, Outcome, Sku, UnixMicros};

use super::Facts;

/// Keyed hash of a customer's reference at a brand. The reference cannot be computed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CustomerTag([u8; 32]);

impl CustomerTag {
    /// Takes the bytes of the keyed hash.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the keyed hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The launch that sells a SKU, or will sell it. All SKUs of one launch have the same facts, but
/// for `sku_limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkuLaunch {
    /// Row of the launch.
    pub launch_id: i64,
    /// Time at which the launch opens.
    pub opens_at: UnixMicros,
    /// True if it has opened, by the database's clock.
    pub is_open: bool,
    /// Most units of one customer, over all SKUs of the launch.
    pub customer_limit: i64,
    /// Most units of one customer of this SKU, if it has a limit of its own.
    pub sku_limit: Option<i64>,
    /// Units that the launch may still sell in all, if it has such a number.
    pub units_left: Option<i64>,
}

/// Units of one SKU that a customer has from a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaunchUnits {
    /// Row of the launch.
    pub launch_id: i64,
    /// The customer.
    pub customer: CustomerTag,
    /// Row of the SKU.
    pub sku_id: i64,
    /// Number of units; never negative.
    pub units: i64,
}

/// Rows to write about launches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaunchPlan {
    /// Units from launches in newly placed orders.
    pub purchases: Vec<(OrderId, LaunchUnits)>,
    /// Orders with units from a launch that are cancelled.
    pub given_back: Vec<OrderId>,
    /// Units newly sold by launch; negative if more units came back. The map is sorted, so all
    /// writers take their locks in one order.
    pub sold: BTreeMap<i64, i64>,
}

/// A limit on the units of one customer, and what counts for it.
#[derive(Debug, Clone, Copy)]
struct LimitCount {
    limit: i64,
    /// Units in orders that stand.
    bought: i64,
    /// Units that the order takes, up to the line in question.
    wanted: i64,
}

impl LimitCount {
    fn is_exceeded(self) -> bool {
        self.bought + self.wanted > self.limit
    }

    /// Returns the units that the customer may still buy. Negative if the limit was lowered below
    /// what the customer has.
    fn left(&self) -> i64 {
        self.limit - self.bought
    }
}

/// Units of one customer from one launch, by SKU row.
pub(super) type UnitsBySku = HashMap<i64, i64>;

/// Numbers of the launches while a batch is decided.
#[derive(Debug, Default)]
pub(super) struct LaunchNumbers {
    /// Units of the customers that have an order in the batch.
    bought: HashMap<(i64, CustomerTag), UnitsBySku>,
    /// Units that a launch may still sell in all.
    left: HashMap<i64, i64>,
    plan: LaunchPlan,
}

impl LaunchNumbers {
    pub(super) fn of(facts: &mut Facts) -> Self {
        let launches = facts.offers.values().flat_map(HashMap::values).filter_map(|offer| offer.launch);
        let left = launches.filter_map(|launch| Some((launch.launch_id, launch.units_left?))).collect();
        Self { bought: std::mem::take(&mut facts.purchases), left, plan: LaunchPlan::default() }
    }

    /// Checks one line of an order whose earlier lines take `earlier`. A refusal by a limit names
    /// the limit that leaves the customer the fewest units, so that no other limit refuses an order
    /// of so many.
    ///
    /// # Errors
    ///
    /// Fails with the outcome if the launch does not sell these units to the customer.
    pub(super) fn check(
        &self,
        launch: &SkuLaunch,
        sku: &Sku,
        line: &LaunchUnits,
        earlier: &[LaunchUnits],
    ) -> Result<(), Outcome> {
        let bought = self.bought.get(&(line.launch_id, line.customer));
        let of_sku = bought.and_then(|units| units.get(&line.sku_id)).copied().unwrap_or(0);
        let in_all: i64 = bought.map_or(0, |units| units.values().sum());
        let earlier = earlier.iter().filter(|other| other.launch_id == line.launch_id);
        let taken: i64 = earlier.map(|other| other.units).sum();
        let of_launch =
            LimitCount { limit: launch.customer_limit, bought: in_all, wanted: taken + line.units };
        let of_sku = launch.sku_limit.map(|limit| LimitCount { limit, bought: of_sku, wanted: line.units });
        let counts = of_sku.into_iter().chain([of_launch]);
        if counts.clone().any(LimitCount::is_exceeded)
            && let Some(LimitCount { limit, bought, .. }) = counts.min_by_key(LimitCount::left)
        {
            let reason = LaunchRefusal::LimitReached { limit, bought };
            return Err(Outcome::RefusedByLaunch { sku: sku.clone(), reason });
        }
        match self.left.get(&line.launch_id) {
            Some(left) if taken + line.units > *left => Err(Outcome::SoldOut { sku: sku.clone() }),
            _ => Ok(()),
        }
    }

    /// Sells the units of an order, which were checked.
    pub(super) fn sell(&mut self, order: OrderId, lines: &[LaunchUnits]) {
        for line in lines {
            self.move_units(line, line.units);
            self.plan.purchases.push((order, *line));
        }
    }

    /// Takes the units of a cancelled order back.
    pub(super) fn take_back(&mut self, order: OrderId, lines: &[LaunchUnits]) {
        if !lines.is_empty() {
            self.plan.given_back.push(order);
        }
        for line in lines {
            self.move_units(line, -line.units);
        }
    }

    /// Moves units to the customer, or back if `units` is negative.
    fn move_units(&mut self, line: &LaunchUnits, units: i64) {
        let LaunchUnits { launch_id, customer, sku_id, .. } = *line;
        // Only the units of customers who order in this batch were read, and others are not needed.
        if units > 0 {
            *self.bought.entry((launch_id, customer)).or_default().entry(sku_id).or_default() += units;
        } else if let Some(bought) = self.bought.get_mut(&(launch_id, customer)) {
            *bought.entry(sku_id).or_default() += units;
        }
        if let Some(left) = self.left.get_mut(&launch_id) {
            *left -= units;
        }
        *self.plan.sold.entry(launch_id).or_default() += units;
    }

    /// Returns the rows to write.
    pub(super) fn into_plan(mut self) -> LaunchPlan {
        self.plan.sold.retain(|_, units| *units != 0);
        self.plan
    }
}

#[cfg(test)]
mod tests;
