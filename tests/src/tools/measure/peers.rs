//! Settings of PostgreSQL for comparisons with Bridge, as its manual recommends (version 15,
//! chapter 20 unless another one is named). Settings without a recommendation are not changed.

use crate::testkit::postgres::More;

/// Settings of the database that Bridge and PostgreSQL's own replicas copy. Commits there are
/// durable for both sides.
const SOURCE: [&str; 3] = [
    // "A reasonable starting value for shared_buffers is 25% of the memory". All tables fit into
    // this.
    "shared_buffers=512MB",
    // No checkpoint in the middle of a copy: see "Populating a Database" (14.4).
    "max_wal_size=4GB",
    // Logical replication must find the changes that happen while the tables are copied.
    "wal_level=logical",
];

/// Settings of a replica that can be made again, as Bridge's can.
const REPLICA: [&str; 4] = [
    // The manual's example of a database that may turn fsync off is "a read-only database clone
    // which gets recreated frequently and is not used for failover". Bridge's replica waits for no
    // disk either.
    "fsync=off",
    // "If you turn this parameter off, also consider turning off full_page_writes."
    "full_page_writes=off",
    // The same values as at the source.
    "shared_buffers=512MB",
    "max_wal_size=4GB",
];

/// Additional settings of a subscriber.
const SUBSCRIBER: [&str; 4] = [
    // "The amount of parallelism of the initial data copy". Each table gets its own worker; the
    // default is 2.
    "max_sync_workers_per_subscription=6",
    // The workers come out of these pools, together with the one that applies changes.
    "max_logical_replication_workers=8",
    "max_worker_processes=16",
    // "Increasing maintenance_work_mem" speeds up building indexes (14.4).
    "maintenance_work_mem=256MB",
];

/// Returns the settings of the database that is copied.
pub(super) fn source() -> More {
    more(&SOURCE)
}

/// Returns the settings of a streaming standby.
pub(super) fn replica() -> More {
    more(&REPLICA)
}

/// Returns the settings of a subscriber.
pub(super) fn subscriber() -> More {
    more(&[&REPLICA[..], &SUBSCRIBER].concat())
}

fn more(settings: &[&str]) -> More {
    More { settings: settings.iter().map(|setting| (*setting).to_owned()).collect(), ..More::default() }
}
