//! Rows of the model by their primary keys.

use std::collections::BTreeMap;
use std::rc::Rc;

use uuid::Uuid;

use super::{LineColumns, OrderColumns, OutcomeColumns, PaymentColumns, RefundColumns, RequestColumns};
use crate::vault::PersonalAtRest;

/// Units of a SKU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stock {
    pub(super) initial: i64,
    pub(super) available: i64,
    pub(super) sold: i64,
}

/// Units of an order from a launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Purchase {
    pub(super) launch_id: i64,
    pub(super) customer: [u8; 32],
    pub(super) units: i64,
    pub(super) given_back: bool,
}

/// Rows by their primary keys: all committed rows, or the rows that one transaction wrote.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    pub(super) stock: BTreeMap<i64, Stock>,
    pub(super) prices: BTreeMap<i64, i64>,
    pub(super) outcomes: BTreeMap<Vec<u8>, Rc<OutcomeColumns>>,
    /// Key of the outcome that placed or rejected each order.
    pub(super) placed: BTreeMap<Uuid, Vec<u8>>,
    /// State of each order that was placed.
    pub(super) states: BTreeMap<Uuid, &'static str>,
    /// The other columns of each order that was placed.
    pub(super) orders: BTreeMap<Uuid, Rc<OrderColumns>>,
    pub(super) lines: BTreeMap<Uuid, Vec<LineColumns>>,
    pub(super) personal: BTreeMap<Uuid, Rc<PersonalAtRest>>,
    pub(super) payments: BTreeMap<Uuid, Rc<PaymentColumns>>,
    pub(super) refunds: BTreeMap<Uuid, Rc<RefundColumns>>,
    pub(super) requests: BTreeMap<Vec<u8>, Rc<RequestColumns>>,
    /// Units from launches, by order and SKU row.
    pub(super) purchases: BTreeMap<(Uuid, i64), Purchase>,
    /// Units that each launch sold.
    pub(super) launched: BTreeMap<i64, i64>,
}

impl Rows {
    pub(super) fn take(&mut self, written: Self) {
        self.stock.extend(written.stock);
        self.prices.extend(written.prices);
        self.outcomes.extend(written.outcomes);
        self.placed.extend(written.placed);
        self.states.extend(written.states);
        self.orders.extend(written.orders);
        self.lines.extend(written.lines);
        self.personal.extend(written.personal);
        self.payments.extend(written.payments);
        self.refunds.extend(written.refunds);
        self.requests.extend(written.requests);
        self.purchases.extend(written.purchases);
        self.launched.extend(written.launched);
    }
}
