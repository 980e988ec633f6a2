//! The statements of payments, implemented by the model.

use std::rc::Rc;

use sqlx::Result;
use uuid::Uuid;

use super::broken::Broken;
use super::refusal::Refusal;
use super::statements::ModelTransaction;
use super::tables::{Lock, Patience, Step, Tables, TransactionId};
use super::{OutcomeColumns, PaymentColumns, RefundColumns, RequestColumns};
use crate::payments::Charge;
use crate::payments::store::{
    DoubtRow, DueRow, NewPayment, OrderRow, PaymentEnd, PaymentRow, RefundBegin, RefundEnd, RefundRow,
    RequestRow, Statements,
};

impl ModelTransaction {
    /// Writes rows once no other transaction holds them. Returns the number of rows.
    async fn update(
        &mut self,
        find: impl Fn(&Tables, TransactionId) -> Vec<Written>,
        lock: impl Fn(&Written) -> Lock,
    ) -> Result<u64> {
        self.statement(|tables, id| {
            let rows = find(tables, id);
            if tables.lock(id, rows.iter().map(&lock), Patience::Lock)? == Step::Waits {
                return Ok(Step::Waits);
            }
            let count = rows.len() as u64;
            rows.into_iter().for_each(|row| row.write(tables, id));
            Ok(Step::Done(count))
        })
        .await
    }
}

/// A row to write.
enum Written {
    Payment(PaymentColumns),
    Refund(RefundColumns),
}

impl Written {
    fn lock(&self) -> Lock {
        match self {
            Self::Payment(row) => Lock::Payment(row.payment),
            Self::Refund(row) => Lock::Refund(row.refund),
        }
    }

    fn write(self, tables: &mut Tables, id: TransactionId) {
        tables.write(id, |written| match self {
            Self::Payment(row) => drop(written.payments.insert(row.payment, Rc::new(row))),
            Self::Refund(row) => drop(written.refunds.insert(row.refund, Rc::new(row))),
        });
    }
}

impl Statements for ModelTransaction {
    async fn clock(&mut self) -> Result<i64> {
        self.at_once(|tables, _| tables.clock()).await
    }

    async fn lock_order(&mut self, order: Uuid) -> Result<Option<OrderRow>> {
        self.statement(|tables, id| {
            if tables.state(id, &order).is_none() {
                return Ok(Step::Done(None));
            }
            if !tables.try_lock(id, Lock::Order(order)) {
                return Err(Refusal::LockTimeout);
            }
            let state = tables.state(id, &order).unwrap_or_default().to_owned();
            let columns = tables.committed.orders.get(&order);
            let row = |row: &Rc<super::OrderColumns>| OrderRow {
                brand: row.brand.clone(),
                state: state.clone(),
                currency: row.currency.clone(),
                total: row.total,
            };
            Ok(Step::Done(columns.map(row)))
        })
        .await
    }

    async fn request(&mut self, key: &[u8]) -> Result<Option<RequestRow>> {
        self.at_once(|tables, id| {
            if tables.broken == Broken::ForgetsRequests {
                return None;
            }
            let RequestColumns { fingerprint, payment, refund } = tables.request(id, key)?;
            Some(RequestRow { fingerprint: fingerprint.clone(), payment: *payment, refund: *refund })
        })
        .await
    }

    async fn add_request(&mut self, key: &[u8], row: RequestRow) -> Result<u64> {
        let RequestRow { fingerprint, payment, refund } = row;
        self.statement(|tables, id| {
            if tables.lock(id, [Lock::Request(key.to_vec())], Patience::Lock)? == Step::Waits {
                return Ok(Step::Waits);
            }
            if tables.broken != Broken::ForgetsRequests && tables.request(id, key).is_some() {
                return Ok(Step::Done(0));
            }
            let row = RequestColumns { fingerprint: fingerprint.clone(), payment, refund };
            tables.write(id, |written| drop(written.requests.insert(key.to_vec(), Rc::new(row))));
            Ok(Step::Done(1))
        })
        .await
    }

    async fn charging(&mut self, order: Uuid) -> Result<Option<(Uuid, String)>> {
        self.at_once(|tables, id| {
            if tables.broken == Broken::ForgetsCharges {
                return None;
            }
            let payments = tables.payments(id, |row| row.order == order && !row.is_given_up());
            let charging = payments.into_iter().min_by_key(|row| row.is_late());
            charging.map(|row| (row.payment, row.state.clone()))
        })
        .await
    }

    async fn was_rejected(&mut self, brand: &str, order: Uuid) -> Result<i64> {
        self.at_once(|tables, id| {
            let is_rejected =
                |placing: &OutcomeColumns| placing.brand == brand && placing.outcome != "placed";
            i64::from(tables.placing(id, &order).is_some_and(|placing| is_rejected(placing)))
        })
        .await
    }

    async fn add_payment(&mut self, row: NewPayment<'_>) -> Result<()> {
        let NewPayment { brand, charge, state, until, at } = row;
        self.statement(|tables, id| {
            let (payment, order) = (charge.payment.as_uuid(), charge.order.as_uuid());
            let same = |row: &PaymentColumns| {
                let pays = !row.is_given_up() && !row.is_late();
                row.payment == payment || (row.order == order && pays)
            };
            if tables.broken != Broken::ForgetsCharges && !tables.payments(id, same).is_empty() {
                return Err(Refusal::Duplicate);
            }
            let row = PaymentColumns {
                payment,
                brand: brand.to_owned(),
                order,
                amount: charge.amount.amount(),
                currency: charge.amount.currency().to_string(),
                payment_key: charge.payment_key.as_str().to_owned(),
                state: state.to_owned(),
                refunded: 0,
                code: None,
                asks: 0,
                next_ask_at: Some(until),
                created_at: at,
                concluded_at: None,
                confirm_until: until,
                look_at: None,
            };
            Written::Payment(row).write(tables, id);
            Ok(Step::Done(()))
        })
        .await
    }

    async fn hold(&mut self, payment: Uuid, until: i64) -> Result<()> {
        let find = |tables: &Tables, id| {
            let held = |row: Rc<PaymentColumns>| PaymentColumns {
                confirm_until: until,
                next_ask_at: Some(until),
                ..row.as_ref().clone()
            };
            tables.payment(id, payment).map(held).map(Written::Payment).into_iter().collect()
        };
        self.update(find, Written::lock).await.map(drop)
    }

    async fn add_refund(&mut self, row: RefundBegin<'_>) -> Result<()> {
        let RefundBegin { new, state, ask_at, at, until } = row;
        self.statement(|tables, id| {
            let refund = new.refund.as_uuid();
            if !tables.refunds(id, |row| row.refund == refund).is_empty() {
                return Err(Refusal::Duplicate);
            }
            if tables.broken == Broken::KeepsMoney && new.automatic {
                return Ok(Step::Done(()));
            }
            let row = RefundColumns {
                refund,
                payment: new.payment.as_uuid(),
                amount: new.amount,
                reason: new.reason.to_owned(),
                automatic: new.automatic,
                state: state.to_owned(),
                code: None,
                asks: 0,
                next_ask_at: Some(ask_at),
                created_at: at,
                concluded_at: None,
                give_back_until: until,
                look_at: None,
            };
            Written::Refund(row).write(tables, id);
            Ok(Step::Done(()))
        })
        .await
    }

    async fn payment(&mut self, payment: Uuid) -> Result<Option<PaymentRow>> {
        self.at_once(|tables, id| tables.payment(id, payment).map(|row| payment_row(&row))).await
    }

    async fn refunds(&mut self, payment: Uuid) -> Result<Vec<RefundRow>> {
        self.at_once(|tables, id| {
            let mut rows = tables.refunds(id, |row| row.payment == payment);
            rows.sort_by_key(|row| (row.created_at, row.refund));
            let doubts = tables.broken == Broken::DoubtsRefunds;
            let forgets = tables.broken == Broken::ForgetsWhatIsOnItsWay;
            let row = |row: &Rc<RefundColumns>| {
                let mut read = refund_row(row);
                if doubts && row.state == "done" {
                    read.state = "unknown".to_owned();
                }
                if forgets {
                    read.give_back_until = 0;
                }
                read
            };
            rows.iter().map(row).collect()
        })
        .await
    }

    async fn payment_of(
        &mut self,
        brand: &str,
        order: Uuid,
        payment: Uuid,
        key: Option<&[u8]>,
    ) -> Result<Option<PaymentRow>> {
        self.at_once(|tables, id| {
            let asked_for = key.and_then(|key| tables.request(id, key)).map(|request| request.payment);
            let row = tables.payment(id, asked_for.unwrap_or(payment))?;
            (row.brand == brand && row.order == order).then(|| payment_row(&row))
        })
        .await
    }

    async fn beside(&mut self, charge: &Charge) -> Result<i64> {
        self.at_once(|tables, id| {
            let beside = |row: &PaymentColumns| {
                row.order == charge.order.as_uuid()
                    && row.payment_key == charge.payment_key.as_str()
                    && row.payment != charge.payment.as_uuid()
                    && !row.is_given_up()
            };
            i64::try_from(tables.payments(id, beside).len()).unwrap_or(i64::MAX)
        })
        .await
    }

    async fn key_of(&mut self, payment: Uuid, refund: Option<Uuid>) -> Result<Option<Vec<u8>>> {
        self.at_once(|tables, id| tables.key_of(id, payment, refund)).await
    }

    async fn charged_of(&mut self, orders: &[Uuid]) -> Result<Vec<Uuid>> {
        self.at_once(|tables, id| {
            let charged = |row: &PaymentColumns| {
                orders.contains(&row.order) && matches!(row.state.as_str(), "paid" | "partially_refunded")
            };
            tables.payments(id, charged).iter().map(|row| row.payment).collect()
        })
        .await
    }

    async fn set_payment(&mut self, end: PaymentEnd<'_>) -> Result<()> {
        let find = |tables: &Tables, id| {
            let set = |row: Rc<PaymentColumns>| PaymentColumns {
                state: end.state.to_owned(),
                refunded: end.refunded,
                code: end.code.map(str::to_owned).or_else(|| row.code.clone()),
                next_ask_at: end.next_ask_at,
                concluded_at: row.concluded_at.or(end.concluded_at),
                confirm_until: end.confirm_until,
                look_at: end.look_at,
                ..row.as_ref().clone()
            };
            tables.payment(id, end.payment).map(set).map(Written::Payment).into_iter().collect()
        };
        self.update(find, Written::lock).await.map(drop)
    }

    async fn set_refund(&mut self, end: RefundEnd<'_>) -> Result<u64> {
        let find = |tables: &Tables, id| {
            let now = tables.clock();
            let asks_again = tables.broken == Broken::AsksForRefused && end.state == "refused";
            let set = |row: &Rc<RefundColumns>| {
                let tells_again = tables.broken == Broken::DoubtsRefunds && row.next_ask_at.is_some();
                let (state, next_ask_at) = match end.state {
                    "refused" if asks_again && row.automatic => ("unknown", Some(now)),
                    "done" if tells_again && row.asks < 3 => ("done", Some(now)),
                    state => (state, end.next_ask_at),
                };
                Written::Refund(RefundColumns {
                    state: state.to_owned(),
                    code: end.code.map(str::to_owned),
                    next_ask_at,
                    concluded_at: end.concluded_at,
                    look_at: end.look_at,
                    ..row.as_ref().clone()
                })
            };
            let forgets = tables.broken == Broken::ForgetsWhatIsOnItsWay;
            let as_read = |row: &RefundColumns| {
                row.refund == end.refund && (forgets || row.give_back_until == end.give_back_until)
            };
            tables.refunds(id, as_read).iter().map(set).collect()
        };
        self.update(find, Written::lock).await
    }

    async fn take_payments(&mut self, now: i64, until: i64, rows_max: i64) -> Result<Vec<DueRow>> {
        self.at_once(|tables, id| {
            let due = |row: &PaymentColumns| row.next_ask_at.filter(|at| *at <= now);
            let taken = |row: &PaymentColumns| PaymentColumns {
                next_ask_at: Some(until),
                asks: row.asks + 1,
                ..row.clone()
            };
            take_payments(tables, id, rows_max, due, taken)
        })
        .await
    }

    async fn take_given_up(&mut self, now: i64, until: i64, rows_max: i64) -> Result<Vec<DueRow>> {
        self.at_once(|tables, id| {
            let looks = tables.broken != Broken::LooksAtNothing;
            let due = |row: &PaymentColumns| {
                let given_up = row.is_given_up() && row.next_ask_at.is_none() && looks;
                row.look_at.filter(|at| given_up && *at <= now)
            };
            let taken = |row: &PaymentColumns| PaymentColumns {
                look_at: Some(until),
                asks: row.asks + 1,
                ..row.clone()
            };
            take_payments(tables, id, rows_max, due, taken)
        })
        .await
    }

    async fn take_refunds(&mut self, now: i64, until: i64, rows_max: i64) -> Result<Vec<RefundRow>> {
        self.at_once(|tables, id| {
            let mut due = tables.refunds(id, |row| row.next_ask_at.is_some_and(|at| at <= now));
            due.sort_by_key(|row| row.next_ask_at);
            let mut rows = Vec::new();
            for row in due.into_iter().take(usize::try_from(rows_max).unwrap_or(0)) {
                if !tables.try_lock(id, Lock::Refund(row.refund)) {
                    continue;
                }
                let asks = row.asks + 1;
                let give_back_until = row.give_back_until.max(until);
                let taken =
                    RefundColumns { next_ask_at: Some(until), asks, give_back_until, ..row.as_ref().clone() };
                rows.push(refund_row(&taken));
                Written::Refund(taken).write(tables, id);
            }
            rows
        })
        .await
    }

    async fn take_refused(&mut self, now: i64, until: i64, rows_max: i64) -> Result<Vec<RefundRow>> {
        self.at_once(|tables, id| {
            let is_due =
                |row: &RefundColumns| row.state == "refused" && row.look_at.is_some_and(|at| at <= now);
            let mut due = tables.refunds(id, is_due);
            due.sort_by_key(|row| row.look_at);
            let mut rows = Vec::new();
            for row in due.into_iter().take(usize::try_from(rows_max).unwrap_or(0)) {
                if tables.try_lock(id, Lock::Refund(row.refund)) {
                    rows.push(refund_row(&row));
                    let taken = RefundColumns { look_at: Some(until), ..row.as_ref().clone() };
                    Written::Refund(taken).write(tables, id);
                }
            }
            rows
        })
        .await
    }

    async fn look_later(&mut self, refund: Uuid, look_at: Option<i64>) -> Result<()> {
        let find = |tables: &Tables, id| {
            let later =
                |row: &Rc<RefundColumns>| Written::Refund(RefundColumns { look_at, ..row.as_ref().clone() });
            let is_refused = |row: &RefundColumns| row.refund == refund && row.state == "refused";
            tables.refunds(id, is_refused).iter().map(later).collect()
        };
        self.update(find, Written::lock).await.map(drop)
    }

    async fn hint(&mut self, order: Uuid, ask_at: i64) -> Result<u64> {
        let find = |tables: &Tables, id| {
            let in_doubt = |row: &PaymentColumns| {
                let asked = row.state == "unknown" || (row.state == "confirming" && row.asks > 0);
                row.order == order && asked && row.next_ask_at.is_some_and(|at| at > ask_at)
            };
            let hinted = |row: &Rc<PaymentColumns>| {
                Written::Payment(PaymentColumns { next_ask_at: Some(ask_at), ..row.as_ref().clone() })
            };
            tables.payments(id, in_doubt).iter().map(hinted).collect()
        };
        self.update(find, Written::lock).await
    }

    async fn hint_given_up(&mut self, order: Uuid, ask_at: i64) -> Result<u64> {
        let find = |tables: &Tables, id| {
            let given_up = |row: &PaymentColumns| {
                row.order == order && row.is_given_up() && row.look_at.is_none_or(|at| at > ask_at)
            };
            let hinted = |row: &Rc<PaymentColumns>| {
                let row = row.as_ref().clone();
                Written::Payment(PaymentColumns { look_at: Some(ask_at), next_ask_at: None, ..row })
            };
            tables.payments(id, given_up).iter().map(hinted).collect()
        };
        self.update(find, Written::lock).await
    }

    async fn doubt(&mut self) -> Result<DoubtRow> {
        self.at_once(|tables, id| {
            let payments = tables.payments(id, |row| row.state == "unknown");
            let refunds = tables.refunds(id, |row| row.state == "unknown");
            let late = tables.payments(id, |row| row.state == "charged_late").len();
            let began = payments.iter().map(|row| row.created_at);
            let oldest = began.chain(refunds.iter().map(|row| row.created_at)).min();
            let count = |rows: usize| i64::try_from(rows).unwrap_or(i64::MAX);
            DoubtRow {
                count: count(payments.len() + refunds.len()),
                since: oldest,
                charged_late: count(late),
            }
        })
        .await
    }
}

/// Takes payments that are due, the longest overdue first. Skips those that another transaction
/// holds.
fn take_payments(
    tables: &mut Tables,
    id: TransactionId,
    rows_max: i64,
    due: impl Fn(&PaymentColumns) -> Option<i64>,
    taken: impl Fn(&PaymentColumns) -> PaymentColumns,
) -> Vec<DueRow> {
    let mut found = tables.payments(id, |row| due(row).is_some());
    found.sort_by_key(|row| due(row));
    found.retain(|row| tables.try_lock(id, Lock::Payment(row.payment)));
    found.truncate(usize::try_from(rows_max).unwrap_or(0));
    let take = |row: Rc<PaymentColumns>| {
        let row = taken(&row);
        let order_state = tables.state(id, &row.order).map(str::to_owned);
        let payment = payment_row(&row);
        Written::Payment(row).write(tables, id);
        DueRow { payment, order_state }
    };
    found.into_iter().map(take).collect()
}

fn payment_row(row: &PaymentColumns) -> PaymentRow {
    PaymentRow {
        payment: row.payment,
        brand: row.brand.clone(),
        order: row.order,
        amount: row.amount,
        currency: row.currency.clone(),
        payment_key: row.payment_key.clone(),
        state: row.state.clone(),
        refunded: row.refunded,
        code: row.code.clone(),
        asks: row.asks,
        created_at: row.created_at,
        concluded_at: row.concluded_at,
        confirm_until: row.confirm_until,
    }
}

fn refund_row(row: &RefundColumns) -> RefundRow {
    RefundRow {
        refund: row.refund,
        payment: row.payment,
        amount: row.amount,
        reason: row.reason.clone(),
        automatic: row.automatic,
        state: row.state.clone(),
        code: row.code.clone(),
        asks: row.asks,
        created_at: row.created_at,
        give_back_until: row.give_back_until,
        concluded_at: row.concluded_at,
    }
}
