//! Payments in the ledger: short transactions, each behind the lock of its order's row. None of them asks a gateway.
//!
//! What happens to an order's payments and refunds, its cancellation included, waits for that one lock: so an order is
//! charged once, refunds never exceed what was paid, and money that comes in for a cancelled order is seen to.

/// Transactions, whichever database they are on.
mod begins;

/// What the flow asks of a database.
mod statements;

/// Charges and refunds begun.
mod begin;

/// What the gateway's answers come to.
mod conclude;

/// Rows between SQL and the domain's types.
mod rows;

/// Questions, and rows that are due.
mod read;

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bridge_protocol::domain::{Brand, KeyDigest, OrderId, PaymentId, RefundId, UnixMicros};
use bridge_protocol::wire::order::Refusal;
use sqlx::{PgConnection, SqliteConnection};
use tokio::time::timeout;

use super::transaction::give_up;
use super::{Kind, Ledger, LedgerError, postgres, sqlite};
use crate::payment::audit::{Conclusion, Witness};
use crate::payment::{PayAsked, Payment, RefundAsked};

pub(super) use begin::NewRefund;
pub(super) use begins::{Begins, Ends};
pub(super) use conclude::refund_cancelled;
pub use conclude::{Concluded, Resolved, Told, Verdict};
pub use read::{Doubt, DuePayment, DueRefund, Sums};
pub(super) use rows::{DueRow, OrderRow, PaymentRow, RefundRow, RequestRow};
pub(super) use statements::{NewPayment, PaymentEnd, RefundEnd, Statements};

/// Rounds against other writers.
const TRIES: u32 = 8;

/// How long an order's row is waited for that somebody else holds.
const HELD_FOR: Duration = Duration::from_secs(5);

/// Between two looks whether it is free: the first and the longest pause.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(320));

/// How long a transaction's statements, and its COMMIT, may take before the database counts as gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a request to charge or to give back comes to at first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun<T> {
    /// It is durable, and the gateway is to be asked by whoever is told this.
    New(T),
    /// An earlier request under the same key is: here is how it stands.
    Known(T),
    /// It had no effect.
    Refused(Refusal),
}

/// A refund that was begun: its payment with all refunds, and which of them it is.
pub type BegunRefund = (Payment, RefundId);

/// Why nothing is known of a transaction's end, or why there was none.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// Nothing was committed, for certain.
    #[error("nothing was committed")]
    Nothing(#[source] LedgerError),
    /// It may be committed. The same again is safe: a key has one effect.
    #[error("it may be committed")]
    Perhaps(#[source] LedgerError),
}

impl NotDone {
    /// How a second try failed, when nothing is known of the first: nothing is known of both.
    pub(crate) fn after_another(self) -> Self {
        let (Self::Nothing(error) | Self::Perhaps(error)) = self;
        Self::Perhaps(error)
    }
}

impl From<NotDone> for LedgerError {
    fn from((NotDone::Nothing(error) | NotDone::Perhaps(error)): NotDone) -> Self {
        error
    }
}

/// A connection with a transaction open on it, to either database.
pub(in crate::ledger) enum Tx<'t> {
    /// PostgreSQL.
    Postgres(&'t mut PgConnection),
    /// SQLite.
    Sqlite(&'t mut SqliteConnection),
}

/// When a transaction that came to nothing is tried again.
struct Again {
    tries: u32,
    /// How long it has paused so far.
    paused: Duration,
    pause: Duration,
}

impl Again {
    fn new() -> Self {
        Self { tries: TRIES, paused: Duration::ZERO, pause: PAUSES.0 }
    }

    /// After which pause another try may do better, if one may.
    fn may_help(&mut self, error: &LedgerError) -> Option<Duration> {
        match error {
            LedgerError::Conflict => {
                self.tries = self.tries.saturating_sub(1);
                (self.tries > 0).then_some(Duration::ZERO)
            }
            LedgerError::Held(_) if self.paused < HELD_FOR => {
                let pause = self.pause;
                (self.paused, self.pause) = (self.paused + pause, PAUSES.1.min(pause * 2));
                Some(pause)
            }
            _ => None,
        }
    }
}

/// Runs the same expression on whichever database a transaction is on.
macro_rules! on_connection {
    ($tx:expr, $connection:ident => $run:expr) => {
        match $tx {
            $crate::ledger::payments::Tx::Postgres($connection) => $run,
            $crate::ledger::payments::Tx::Sqlite($connection) => $run,
        }
    };
}
use on_connection;

/// A statement that reads alike in both databases.
macro_rules! common {
    ($file:literal) => {
        include_str!(concat!("common/", $file, ".sql"))
    };
}
use common;

/// Runs an expression in a transaction of its own, and again while other writers are in the way, or somebody holds what it needs.
/// Between two tries it has no connection: those who wait for one row leave the others to everybody else.
macro_rules! in_transaction {
    ($ledger:expr, rehearsing $tx:ident => $work:expr) => {
        in_transaction!($ledger, writing $tx => $work, and take_back)
    };
    ($ledger:expr, $begin:ident $tx:ident => $work:expr) => {
        in_transaction!($ledger, $begin $tx => $work, and commit)
    };
    ($ledger:expr, $begin:ident $tx:ident => $work:expr, and $end:ident) => {{
        let mut again = $crate::ledger::payments::Again::new();
        loop {
            // Boxed: both databases' states together are too large to be moved about inside every caller's.
            let work = Box::pin(async {
                let mut own = $ledger.$begin().await?;
                let worked = {
                    let $tx = &mut own;
                    $work
                };
                match worked {
                    Ok(value) => Ok((own, value)),
                    Err(error) => {
                        own.give_up().await;
                        Err(error)
                    }
                }
            });
            let error = match $crate::ledger::payments::soon(work).await {
                Ok((own, value)) => match $crate::ledger::payments::soon(own.$end()).await {
                    Ok(()) => break Ok(value),
                    Err(error @ $crate::ledger::LedgerError::Unavailable(_)) => {
                        break Err($crate::ledger::payments::NotDone::Perhaps(error));
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            match again.may_help(&error) {
                Some(pause) if pause.is_zero() => {}
                Some(pause) => $ledger.pause(pause).await,
                None => break Err($crate::ledger::payments::NotDone::Nothing(error)),
            }
        }
    }};
}
use in_transaction;

/// What is done about payments, over any database with transactions.
#[expect(async_fn_in_trait, reason = "whoever calls it knows which database it is")]
pub trait PaymentLedger: Begins {
    /// Takes a request to charge for an order: refused, known, or durable as `confirming`. For so long the request to the
    /// gateway counts as on its way; should nobody conclude it before, it is asked about then.
    async fn begin_payment(&self, asked: &PayAsked, hold: Duration) -> Result<Begun<Payment>, NotDone> {
        in_transaction!(self, writing tx => begin::begin_payment(tx, asked, hold).await)
    }

    /// Before a gateway is asked to charge once more: the payment as it stands while that request is on its way, for so long.
    /// `None` if it may not be asked: it is known what became of it, its order does not stand, or another request is on its
    /// way.
    async fn begin_again(
        &self,
        order: OrderId,
        id: PaymentId,
        hold: Duration,
    ) -> Result<Option<Payment>, NotDone> {
        in_transaction!(self, writing tx => begin::begin_again(tx, order, id, hold).await)
    }

    /// Takes a request to give back: refused, known, or durable. For so long the request to the gateway counts as on its way;
    /// should nobody conclude it before, it is asked for again then.
    async fn begin_refund(&self, asked: &RefundAsked, hold: Duration) -> Result<Begun<BegunRefund>, NotDone> {
        in_transaction!(self, writing tx => begin::begin_refund(tx, asked, hold).await)
    }

    /// Writes what was told about a payment. What contradicts what is known changes nothing, but for money that moved: that
    /// is charged late, and goes back. `held` is the payment's `confirm_until` if this is the answer to the request that it
    /// is about, which is on its way no longer.
    async fn conclude_payment(
        &self,
        order: OrderId,
        id: PaymentId,
        told: &Told,
        held: Option<UnixMicros>,
        witness: Witness<'_>,
    ) -> Result<Concluded, NotDone> {
        in_transaction!(self, writing tx => conclude::conclude_payment(tx, order, id, told, held, witness).await)
    }

    /// What an operator's word about a payment, or a refund of it, would come to; nothing of it is kept. `None` beside what it
    /// comes to if that is nothing.
    async fn rehearse_resolution(
        &self,
        order: OrderId,
        id: PaymentId,
        refund: Option<RefundId>,
        verdict: Verdict<'_>,
    ) -> Result<(Resolved, Option<Conclusion>), NotDone> {
        let found = Mutex::new(None);
        let witness = Witness::Rehearsal(&found);
        let resolved = in_transaction!(self, rehearsing tx => match refund {
            Some(refund) => conclude::resolve_refund(tx, order, id, refund, verdict, witness).await,
            None => conclude::resolve_payment(tx, order, id, verdict, witness).await,
        })?;
        Ok((resolved, found.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Ends the doubt about a payment by an operator's word, and keeps the reason.
    async fn resolve_payment(
        &self,
        order: OrderId,
        id: PaymentId,
        verdict: Verdict<'_>,
        witness: Witness<'_>,
    ) -> Result<Resolved, NotDone> {
        in_transaction!(self, writing tx => conclude::resolve_payment(tx, order, id, verdict, witness).await)
    }

    /// As [`Self::resolve_payment`], about a refund: whether the money went back. Of one that nobody asked for and the gateway
    /// refused it can be said as well that its money went back in another way, or what is left of it.
    async fn resolve_refund(
        &self,
        order: OrderId,
        id: PaymentId,
        refund: RefundId,
        verdict: Verdict<'_>,
        witness: Witness<'_>,
    ) -> Result<Resolved, NotDone> {
        in_transaction!(self, writing tx =>
            conclude::resolve_refund(tx, order, id, refund, verdict, witness).await)
    }

    /// Writes what was told about a refund; how its payment stands now.
    async fn conclude_refund(
        &self,
        order: OrderId,
        id: PaymentId,
        refund: RefundId,
        told: &Told,
        witness: Witness<'_>,
    ) -> Result<Concluded, NotDone> {
        in_transaction!(self, writing tx => conclude::conclude_refund(tx, order, id, refund, told, witness).await)
    }

    /// A payment of this order; with a key, the one that was asked for under it, whatever its id.
    async fn look_up_payment(
        &self,
        brand: &Brand,
        order: OrderId,
        payment: PaymentId,
        key: Option<KeyDigest>,
    ) -> Result<Option<Payment>, NotDone> {
        in_transaction!(self, reading tx => read::look_up(tx, brand, order, payment, key).await)
    }

    /// Takes at most so many payments whose time has come. For so long nobody else takes them.
    async fn take_due_payments(&self, hold: Duration, rows_max: i64) -> Result<Vec<DuePayment>, NotDone> {
        in_transaction!(self, writing tx => read::take_due_payments(tx, hold, rows_max).await)
    }

    /// Takes at most so many refunds whose time has come. For so long nobody else takes them, and a request for each counts as on
    /// its way.
    async fn take_due_refunds(&self, hold: Duration, rows_max: i64) -> Result<Vec<DueRefund>, NotDone> {
        in_transaction!(self, writing tx => read::take_due_refunds(tx, hold, rows_max).await)
    }

    /// Somebody says that the gateway knows more of an order's payment: it is due after so long, unless it is due before.
    /// True if one in doubt, or one that was given up, is due earlier now.
    async fn hint_payment(&self, order: OrderId, ask_after: Duration) -> Result<bool, NotDone> {
        in_transaction!(self, writing tx => read::hint(tx, order, ask_after).await)
    }

    /// A payment with its refunds, by its id alone.
    async fn payment(&self, id: PaymentId) -> Result<Option<Payment>, NotDone> {
        in_transaction!(self, reading tx => rows::payment(tx, id).await)
    }

    /// How much nobody can tell about.
    async fn doubt(&self) -> Result<Doubt, NotDone> {
        in_transaction!(self, reading tx => read::doubt(tx).await)
    }
}

impl<D: Begins> PaymentLedger for D {}

/// A database that does not answer in time is one that does not answer.
async fn soon<V>(work: impl Future<Output = Result<V, LedgerError>>) -> Result<V, LedgerError> {
    let late = |_| LedgerError::Unavailable(sqlx::Error::Io(io::ErrorKind::TimedOut.into()));
    timeout(PATIENCE, work).await.map_err(late)?
}
