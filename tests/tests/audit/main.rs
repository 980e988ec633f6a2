//! What must be there afterwards, and what must not: audit logs that verify and are compared with ledgers and gateways,
//! personal data on the record alone, and everything that was acknowledged before a kill or a power loss.

#[path = "../common/mod.rs"]
mod common;
mod kills;
mod logs;
mod memory;
mod personal;
mod power_loss;
mod reconcile;
mod restored;
