//! What must be there afterwards, and what must not: audit logs that verify and are compared with ledgers and gateways,
//! personal data on the record alone, and everything that was acknowledged before a power loss.

#[path = "../common/mod.rs"]
mod common;
mod logs;
mod personal;
mod power_loss;
mod reconcile;
mod restored;
