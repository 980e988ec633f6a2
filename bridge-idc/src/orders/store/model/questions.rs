//! Reads outside any transaction. Each statement stands alone, and other transactions run between
//! two of them.

use bridge_protocol::domain::{Brand, KeyDigest, OrderId};
use bridge_protocol::wire::order::State;
use uuid::Uuid;

use super::ModelDatabase;
use super::rows::Rows;
use super::statements::{gone, turn};
use super::tables::Tables;
use crate::orders::store::LedgerError;
use crate::orders::store::look_up::{self, LineRow, OrderRow, Question, Questions};

impl ModelDatabase {
    /// Looks an order up as [`Ledger::look_up`](crate::orders::store::Ledger::look_up) does.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer.
    pub async fn look_up(
        &self,
        brand: &Brand,
        order: OrderId,
        key: Option<KeyDigest>,
    ) -> Result<Option<State>, LedgerError> {
        let question = Question { brand: brand.clone(), order, key };
        let mut database = self;
        Ok(look_up::look_up(&mut database, &[question]).await?.pop().flatten())
    }

    async fn read<V>(&self, read: impl FnOnce(&Tables) -> V) -> sqlx::Result<V> {
        turn().await;
        let tables = self.tables.borrow();
        if tables.is_down() { Err(gone()) } else { Ok(read(&tables)) }
    }
}

impl Questions for &ModelDatabase {
    async fn orders(&mut self, questions: &[Question]) -> sqlx::Result<Vec<OrderRow>> {
        self.read(|tables| {
            let numbered = (1..).zip(questions);
            numbered.filter_map(|(number, question)| order(&tables.committed, number, question)).collect()
        })
        .await
    }

    async fn lines(&mut self, orders: &[Uuid]) -> sqlx::Result<Vec<LineRow>> {
        self.read(|tables| orders.iter().flat_map(|order| lines(tables, *order)).collect()).await
    }
}

fn order(rows: &Rows, number: i64, question: &Question) -> Option<OrderRow> {
    let by_key = question.key.and_then(|key| rows.outcomes.get(key.as_bytes().as_slice()));
    let order = by_key.map_or(question.order.as_uuid(), |outcome| outcome.order);
    let outcome = rows.outcomes.get(rows.placed.get(&order)?)?;
    let state = rows.states.get(&order).map_or(outcome.outcome.as_str(), |state| state);
    let columns = rows.orders.get(&order);
    (outcome.brand == question.brand.as_str()).then(|| OrderRow {
        question: number,
        order,
        state: state.to_owned(),
        position: outcome.position,
        committed_at: outcome.committed_at,
        customer_reference: columns.map(|columns| columns.customer_reference.clone()),
        currency: columns.map(|columns| columns.currency.clone()),
        shipping_fee: columns.map(|columns| columns.shipping_fee),
        total: columns.map(|columns| columns.total),
    })
}

fn lines(tables: &Tables, order: Uuid) -> Vec<LineRow> {
    let sku = |sku_id| tables.skus.iter().find(|(_, known)| **known == sku_id);
    let mut lines = tables.committed.lines.get(&order).cloned().unwrap_or_default();
    lines.sort_by_key(|line| line.line_no);
    let line = |line: &super::LineColumns| {
        let ((_, sku), _) = sku(line.sku_id)?;
        Some(LineRow { order, sku: sku.clone(), quantity: line.quantity, unit_price: line.unit_price })
    };
    lines.iter().filter_map(line).collect()
}
