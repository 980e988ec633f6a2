//! One round of the sequencer as one transaction, on either database.
//!
//! PostgreSQL runs it as one statement, a function of `0002_catalogue.sql`, which is all that the agent's role may do to
//! the log. SQLite, where a statement costs no round trip, runs the same steps from here.

use std::time::Duration;

use bridge_protocol::domain::catalogue::Position;
use bridge_runtime::clock;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection, SqlitePool};

use super::sequencer::Limits;
use crate::ledger::{Open, Pools, make_durable};

/// Pending rows in one round: a large import goes in several, each a moment long.
const PENDING_MAX: i64 = 10_000;

/// The log's oldest rows that are looked at in one statement.
const FORGET_MAX: i64 = 5_000;

/// A lease that ends later than this was written before the clock was set back. As in 0002_catalogue.sql.
const LEASE_MICROS_MAX: i64 = 60_000_000;

/// What a round came to.
pub(super) struct Round {
    /// Whether this agent holds the lease.
    pub(super) held: bool,
    /// Keys that got a number.
    pub(super) numbered: i64,
    /// Nothing is pending that was committed before the round.
    pub(super) emptied: bool,
    /// The log's last number.
    pub(super) position: Position,
    /// How long before the round whatever was committed had its number.
    pub(super) lag: Duration,
}

/// The statements of one agent.
pub(super) struct Numbers {
    agent: String,
    database: Database,
}

enum Database {
    /// A connection of its own, so that a round never waits behind orders for one of the pool's. It is taken out for
    /// each statement: one that was not answered is closed.
    Postgres { options: Box<PgConnectOptions>, connection: Option<PgConnection> },
    /// The ledger's: whoever writes takes turns there.
    Sqlite { writer: SqlitePool, readers: SqlitePool },
}

/// `held, numbered, emptied, last_seq, last_mark, swept_ago`, and the setting's value.
type RoundColumns = (bool, i64, bool, i64, i64, i64, String);

/// `last_seq, last_mark, swept_at, holder, expires_at`, and whether something is pending.
type StateColumns = (i64, i64, i64, String, i64, bool);

impl Numbers {
    pub(super) fn new(pools: &Pools, agent: String) -> Self {
        let database = match pools {
            Pools::Postgres(pool) => {
                // Each statement of a round must see what was committed before it, whatever a DBA made the default.
                let isolation = [("default_transaction_isolation", "read committed")];
                let options = Box::new((*pool.connect_options()).clone().options(isolation));
                Database::Postgres { options, connection: None }
            }
            Pools::Sqlite { writer, readers } => {
                Database::Sqlite { writer: writer.clone(), readers: readers.clone() }
            }
        };
        Self { agent, database }
    }

    /// Numbers what is pending, if this agent holds the lease or can take it; with no time at all, gives it back.
    pub(super) async fn round(&mut self, lease: Duration) -> sqlx::Result<Round> {
        match &mut self.database {
            Database::Postgres { options, connection } => {
                let mut own = own(options, connection).await?;
                let round = sqlx::query_as(include_str!("postgres/round.sql"))
                    .bind(&self.agent)
                    .bind(micros(lease))
                    .bind(i32::try_from(PENDING_MAX).unwrap_or(i32::MAX))
                    .fetch_one(&mut own)
                    .await?;
                *connection = Some(own);
                let (held, numbered, emptied, seq, mark, lag, _): RoundColumns = round;
                let position = Position { seq: seq.unsigned_abs(), mark };
                Ok(Round {
                    held,
                    numbered,
                    emptied,
                    position,
                    lag: Duration::from_micros(lag.unsigned_abs()),
                })
            }
            Database::Sqlite { writer, readers } => {
                sqlite_round(writer, readers, &self.agent, micros(lease)).await
            }
        }
    }

    /// Wakes the agent that holds the lease, where that may be another process's on PostgreSQL.
    pub(super) async fn tell(&mut self) -> sqlx::Result<()> {
        if let Database::Postgres { options, connection } = &mut self.database {
            let mut own = own(options, connection).await?;
            sqlx::query(include_str!("postgres/tell.sql")).execute(&mut own).await?;
            *connection = Some(own);
        }
        Ok(())
    }

    /// Forgets some of the log's oldest changes; returns how many.
    pub(super) async fn forget(&mut self, limits: &Limits) -> sqlx::Result<u64> {
        let kept = i64::try_from(limits.changes_kept).unwrap_or(i64::MAX);
        let kept_micros = micros(limits.changes_kept_for);
        match &mut self.database {
            Database::Postgres { options, connection } => {
                let mut own = own(options, connection).await?;
                let forgotten: i64 = sqlx::query_scalar(include_str!("postgres/forget.sql"))
                    .bind(kept)
                    .bind(kept_micros)
                    .bind(i32::try_from(FORGET_MAX).unwrap_or(i32::MAX))
                    .fetch_one(&mut own)
                    .await?;
                *connection = Some(own);
                Ok(forgotten.unsigned_abs())
            }
            Database::Sqlite { writer, .. } => {
                let oldest = clock::now().get().saturating_sub(kept_micros);
                let forget = sqlx::query(include_str!("sqlite/forget.sql"));
                let forget = forget.bind(kept).bind(oldest).bind(FORGET_MAX);
                let forgotten = forget.execute(&*writer).await?.rows_affected();
                Ok(forgotten)
            }
        }
    }
}

/// Takes the connection out, or makes one.
async fn own(
    options: &PgConnectOptions,
    connection: &mut Option<PgConnection>,
) -> sqlx::Result<PgConnection> {
    match connection.take() {
        Some(own) => Ok(own),
        None => {
            let mut own = PgConnection::connect_with(options).await?;
            make_durable(&mut own).await?;
            Ok(own)
        }
    }
}

/// The steps of `catalogue_sequence()` in 0002_catalogue.sql.
async fn sqlite_round(
    writer: &SqlitePool,
    readers: &SqlitePool,
    agent: &str,
    lease: i64,
) -> sqlx::Result<Round> {
    let state_sql = include_str!("sqlite/state.sql");
    // Before the first look at what is pending: what is committed by now will be seen.
    let started = clock::now().get();
    let state: StateColumns = sqlx::query_as(state_sql).fetch_one(readers).await?;
    let (seq, mark, swept, holder, expires_at, is_pending) = &state;
    let held = holds(agent, holder, *expires_at, started);
    let is_fresh = holder == agent && (started + lease / 3 * 2..=started + lease).contains(expires_at);
    if !held || (!is_pending && is_fresh && lease > 0) {
        let swept = if held { started } else { *swept };
        return Ok(round(held, 0, !is_pending, (*seq, *mark), started - swept));
    }

    // From here on no other agent numbers anything.
    let mut open = Open::begin(writer.acquire().await?, "BEGIN IMMEDIATE").await?;
    let state: StateColumns = sqlx::query_as(state_sql).fetch_one(open.connection()).await?;
    let (seq, mark, swept, holder, expires_at, is_pending) = state;
    if !holds(agent, &holder, expires_at, started) {
        open.commit().await?;
        return Ok(round(false, 0, !is_pending, (seq, mark), started - swept));
    }
    // A moment of its own for each round, whatever the clock does.
    let new_mark = started.max(mark + 1);
    let number = sqlx::query(include_str!("sqlite/number.sql")).bind(seq).bind(new_mark).bind(PENDING_MAX);
    let numbered = number.execute(open.connection()).await?.rows_affected().cast_signed();
    let take = sqlx::query(include_str!("sqlite/take.sql")).bind(PENDING_MAX);
    let taken = take.execute(open.connection()).await?.rows_affected().cast_signed();
    let emptied = taken < PENDING_MAX;
    let (seq, mark) = (seq + numbered, if numbered > 0 { new_mark } else { mark });
    let swept = if emptied { started } else { swept };
    let advance = sqlx::query(include_str!("sqlite/advance.sql"));
    let advance = advance.bind(seq).bind(mark).bind(swept).bind(agent).bind(started + lease);
    advance.execute(open.connection()).await?;
    open.commit().await?;
    Ok(round(true, numbered, emptied, (seq, mark), started - swept))
}

fn holds(agent: &str, holder: &str, expires_at: i64, now: i64) -> bool {
    holder == agent || expires_at <= now || expires_at > now + LEASE_MICROS_MAX
}

fn round(held: bool, numbered: i64, emptied: bool, (seq, mark): (i64, i64), lag: i64) -> Round {
    let position = Position { seq: seq.unsigned_abs(), mark };
    Round { held, numbered, emptied, position, lag: Duration::from_micros(lag.max(0).unsigned_abs()) }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
