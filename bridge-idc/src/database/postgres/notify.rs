//! Receives PostgreSQL's notifications (NOTIFY) on a connection of its own.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::time::sleep;

use super::Postgres;

/// Time limit for connecting.
const CONNECTED_WITHIN: Duration = Duration::from_secs(3);

/// Pause between two attempts to listen.
const LISTEN_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Calls `hear` for each notification on these channels, on a connection of its own, and does not
/// return.
pub(in crate::database) async fn listen<const N: usize>(
    database: &Postgres,
    channels: [&'static str; N],
    hear: impl Fn(&str),
) {
    let own = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECTED_WITHIN);
    let own = own.connect_lazy_with((*database.pool.connect_options()).clone());
    loop {
        if let Err(error) = until_lost(&own, channels, &hear).await {
            tracing::debug!(%error, "the connection for PostgreSQL's notifications is lost, polling continues");
        }
        sleep(LISTEN_AGAIN_AFTER).await;
    }
}

/// Listens until the connection is lost.
async fn until_lost<const N: usize>(
    pool: &PgPool,
    channels: [&'static str; N],
    hear: &impl Fn(&str),
) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    listener.listen_all(channels).await?;
    // Notifications before this moment were not received, so each channel counts as notified.
    channels.into_iter().for_each(hear);
    while let Some(said) = listener.try_recv().await? {
        hear(said.channel());
    }
    Ok(())
}
