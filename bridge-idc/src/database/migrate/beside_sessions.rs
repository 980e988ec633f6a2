//! Migrations on PostgreSQL beside sessions that use the tables.
//!
//! A statement that changes a table waits until no other transaction uses it, and every later
//! statement on the table waits behind it. Such a wait behind a report would stop all orders. So a
//! migration waits for a short time only, gives way to the others, and tries again.

use std::convert::Infallible;
use std::time::Duration;

use sqlx::postgres::PgPool;
use tokio::time::{Instant, sleep};

use super::{Applied, PendingMigrations};
use crate::database::error::LedgerError;
use crate::database::faults::{is_held, of_migrating};
use crate::database::postgres::Postgres;
use crate::database::postgres::held::{HolderRow, named};
use crate::database::row::row;

/// Longest wait for a lock. It is shorter than `LOCK_TIMEOUT`, so that no batch that waits behind
/// the migration fails.
const LOCKED_WITHIN: &str = "200ms";

/// Pause between two tries, in which the other sessions go on.
const PAUSE: Duration = Duration::from_millis(800);

/// Longest time for all tries.
const TRIED_FOR: Duration = Duration::from_secs(10);

/// Interval of the looks at who holds the lock.
const LOOK_EVERY: Duration = Duration::from_millis(40);

row! {
    /// The holder of a lock, and the table that it is on.
    struct BlockerRow {
        table: Option<String>,
        process: i32,
        user: String,
        application: String,
    }
}

/// Applies the migrations that are missing.
///
/// # Errors
///
/// Fails if a migration fails, or if others use its tables all the time.
pub(super) async fn migrate(
    database: &Postgres,
    mut migrations: PendingMigrations,
) -> Result<Vec<Applied>, LedgerError> {
    let mut connection = database.writer().acquire().await?;
    // A failed migration leaves its settings and the lock against other migrations behind.
    connection.close_on_drop();
    let (_, process): (String, i32) =
        sqlx::query_as("SELECT set_config('lock_timeout', $1, false), pg_backend_pid()")
            .bind(LOCKED_WITHIN)
            .fetch_one(&mut *connection)
            .await?;
    let (until, mut said) = (Instant::now() + TRIED_FOR, None);
    loop {
        let mut holder = None;
        let error = tokio::select! {
            applied = migrations.apply(&mut *connection) => match applied {
                Ok(applied) => return Ok(applied),
                Err(error) => error,
            },
            never = watch(&database.pool, process, &mut holder) => match never {},
        };
        if !is_held(&error) {
            return Err(of_migrating(error));
        }
        let holder = holder.unwrap_or_else(|| "another session, which is gone by now".to_owned());
        if Instant::now() >= until {
            return Err(LedgerError::TablesInUse { holder, seconds: TRIED_FOR.as_secs() });
        }
        if said.as_ref() != Some(&holder) {
            tracing::warn!(
                holder,
                "a migration needs what another session uses; it gives way and tries again"
            );
            said = Some(holder);
        }
        sleep(PAUSE).await;
    }
}

/// Looks who keeps a process waiting, without end.
async fn watch(pool: &PgPool, process: i32, holder: &mut Option<String>) -> Infallible {
    loop {
        sleep(LOOK_EVERY).await;
        let ask = sqlx::query_as(include_str!("who_blocks.sql")).bind(process);
        // The name only adds to a message, so an error counts as no name.
        let found: Option<BlockerRow> = ask.fetch_optional(pool).await.ok().flatten();
        if let Some(BlockerRow { table, process, user, application }) = found {
            let table = table.map(|table| format!("table {table}: ")).unwrap_or_default();
            *holder = Some(table + &named(HolderRow { process, user, application }));
        }
    }
}
