//! How PostgreSQL is set up where Bridge is compared with it: as its manual says of each setting (version 15, chapter 20 unless it
//! is named). Nothing is set that the manual leaves alone.

use crate::testkit::postgres::More;

/// The database that both Bridge and PostgreSQL's own replicas copy. What is committed there is durable, for either side.
const SOURCE: [&str; 3] = [
    // "A reasonable starting value for shared_buffers is 25% of the memory": here all tables fit into it.
    "shared_buffers=512MB",
    // No checkpoint in the middle of a copy, see "Populating a Database" (14.4).
    "max_wal_size=4GB",
    // Logical replication has to find what changed while the tables were copied.
    "wal_level=logical",
];

/// A replica that can be made again, as Bridge's can.
const REPLICA: [&str; 4] = [
    // "A read-only database clone which gets recreated frequently and is not used for failover" is the manual's own example of
    // who may turn it off. Bridge's replica waits for no disk either.
    "fsync=off",
    // "If you turn this parameter off, also consider turning off full_page_writes."
    "full_page_writes=off",
    // As at the source.
    "shared_buffers=512MB",
    "max_wal_size=4GB",
];

/// What a subscriber has beside that.
const SUBSCRIBER: [&str; 4] = [
    // "The amount of parallelism of the initial data copy", each table by a worker of its own: the default is 2.
    "max_sync_workers_per_subscription=6",
    // They come out of these, with the one that applies what changes.
    "max_logical_replication_workers=8",
    "max_worker_processes=16",
    // "Increasing maintenance_work_mem" helps the building of indexes (14.4).
    "maintenance_work_mem=256MB",
];

/// The database that is copied.
pub(super) fn source() -> More {
    more(&SOURCE)
}

/// A streaming standby.
pub(super) fn replica() -> More {
    more(&REPLICA)
}

/// A subscriber to tables.
pub(super) fn subscriber() -> More {
    more(&[&REPLICA[..], &SUBSCRIBER].concat())
}

fn more(settings: &[&str]) -> More {
    More { settings: settings.iter().map(|setting| (*setting).to_owned()).collect(), ..More::default() }
}
