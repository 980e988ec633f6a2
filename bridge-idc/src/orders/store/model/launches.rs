//! Launches of the model: they are open from the beginning, and do not end.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::rows::{Purchase, Rows};
use super::tables::{Tables, TransactionId};
use super::{ModelDatabase, ModelLaunch};
use crate::orders::planner::CustomerTag;
use crate::orders::store::rows::{OfferRow, PurchaseRow, PurchasedRow};

impl Tables {
    /// Returns the launch that sells a SKU.
    pub(super) fn launch_of(&self, sku_id: i64) -> Option<i64> {
        let sells = |launch: &ModelLaunch| launch.sku_ids.contains(&sku_id);
        self.launches.iter().find(|(_, launch)| sells(launch)).map(|(launch_id, _)| *launch_id)
    }

    /// Returns the launch that sold a line of an order, and its customer.
    pub(super) fn sold_by(&self, order: Uuid, sku_id: i64) -> Option<(i64, Vec<u8>)> {
        let purchase = self.committed.purchases.get(&(order, sku_id))?;
        Some((purchase.launch_id, purchase.customer.to_vec()))
    }

    /// Adds the launch to the row of an offer.
    pub(super) fn launch_columns(&self, offer: OfferRow) -> OfferRow {
        let Some(launch_id) = offer.sku_id.and_then(|sku_id| self.launch_of(sku_id)) else { return offer };
        let Some(launch) = self.launches.get(&launch_id) else { return offer };
        let sold = self.committed.launched.get(&launch_id).copied().unwrap_or(0);
        OfferRow {
            launch_id: Some(launch_id),
            opens_at: Some(0),
            opens_in: Some(0),
            customer_limit: Some(launch.customer_limit),
            units_left: launch.units.map(|units| units - sold),
            ..offer
        }
    }

    /// Returns the units that these customers have from these launches. The brands are not
    /// compared, because no customer of one brand has units from a launch of another one.
    pub(super) fn purchases_of(
        &self,
        launches: &[i64],
        customers: &[(&str, CustomerTag)],
    ) -> Vec<PurchasedRow> {
        let is_of = |purchase: &Purchase| {
            let by = |(_, customer): &(&str, CustomerTag)| *customer.as_bytes() == purchase.customer;
            !purchase.given_back && launches.contains(&purchase.launch_id) && customers.iter().any(by)
        };
        let found = self.committed.purchases.iter().filter(|(_, purchase)| is_of(purchase));
        let row = |((_, sku_id), purchase): (&(Uuid, i64), &Purchase)| PurchasedRow {
            launch_id: purchase.launch_id,
            customer: purchase.customer.to_vec(),
            sku_id: *sku_id,
            units: purchase.units,
        };
        found.map(row).collect()
    }

    pub(super) fn insert_purchases(&mut self, id: TransactionId, rows: &[PurchaseRow<'_>]) {
        let row = |row: &PurchaseRow<'_>| {
            let (launch_id, units) = (row.units.launch_id, row.units.units);
            let purchase =
                Purchase { launch_id, customer: *row.units.customer.as_bytes(), units, given_back: false };
            ((row.order, row.units.sku_id), purchase)
        };
        self.write(id, |written| written.purchases.extend(rows.iter().map(row)));
    }

    pub(super) fn give_back(&mut self, id: TransactionId, orders: &[Uuid]) {
        let mut committed = self.committed.purchases.clone();
        committed.retain(|(order, _), _| orders.contains(order));
        self.write(id, |written| {
            for (key, purchase) in committed {
                written.purchases.entry(key).or_insert(purchase);
            }
            let own = written.purchases.iter_mut().filter(|((order, _), _)| orders.contains(order));
            own.for_each(|(_, purchase)| purchase.given_back = true);
        });
    }

    /// Moves units of launches. Returns the number of launches that had the units.
    pub(super) fn move_launches(&mut self, id: TransactionId, moves: &[(i64, i64)]) -> usize {
        let moved = moves.iter().filter_map(|(launch_id, units)| {
            let sold = self.committed.launched.get(launch_id).copied().unwrap_or(0) + units;
            let most = self.launches.get(launch_id)?.units.filter(|_| *units > 0);
            most.is_none_or(|most| sold <= most).then_some((*launch_id, sold))
        });
        let moved = Vec::from_iter(moved);
        let count = moved.len();
        self.write(id, |written| written.launched.extend(moved));
        count
    }
}

impl ModelDatabase {
    /// Adds a launch, before the first batch.
    pub fn launch(&self, launch: ModelLaunch) {
        let mut tables = self.tables.borrow_mut();
        let launch_id = i64::try_from(tables.launches.len()).unwrap_or(i64::MAX).saturating_add(1);
        tables.launches.insert(launch_id, launch);
    }

    /// Breaks the limits of launches: units that a customer bought before are forgotten.
    pub fn forget_purchases(&self) {
        self.tables.borrow_mut().forgets_purchases = true;
    }

    /// Checks that each launch sold the units of orders that stand, and no customer has more than
    /// the limit.
    pub(super) fn check_launches(&self) -> Result<(), String> {
        let tables = self.tables.borrow();
        let Rows { purchases, launched, states, .. } = &tables.committed;
        let (mut sold, mut bought) = (BTreeMap::<i64, i64>::new(), BTreeMap::<(i64, [u8; 32]), i64>::new());
        for ((order, sku_id), purchase) in purchases {
            if purchase.given_back != (states.get(order) != Some(&"placed")) {
                return Err(format!("units of SKU row {sku_id} of order {order}: {purchase:?}"));
            }
            if !purchase.given_back {
                *sold.entry(purchase.launch_id).or_default() += purchase.units;
                *bought.entry((purchase.launch_id, purchase.customer)).or_default() += purchase.units;
            }
        }
        for (launch_id, launch) in &tables.launches {
            let (counted, sold) = (launched.get(launch_id), sold.get(launch_id).copied().unwrap_or(0));
            if counted.copied().unwrap_or(0) != sold || launch.units.is_some_and(|units| sold > units) {
                return Err(format!("launch {launch_id}: counted {counted:?}, in orders {sold}, {launch:?}"));
            }
            let customers = bought.iter().filter(|((of, _), _)| of == launch_id);
            if let Some(most) =
                customers.map(|(_, units)| *units).max().filter(|most| *most > launch.customer_limit)
            {
                return Err(format!("launch {launch_id}: a customer has {most} units, {launch:?}"));
            }
        }
        Ok(())
    }
}
