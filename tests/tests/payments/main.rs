//! Payments against a gateway that misbehaves: the adapter, the service with its reconciler, webhooks, and all of it end to end.

mod checkout;
#[path = "../common/mod.rs"]
mod common;

// Said to be tests, which all of this is, so that what clippy.toml allows in tests is allowed here.
#[cfg(test)]
#[path = "../ledger/database.rs"]
#[allow(dead_code, reason = "the ledger's tests use the rest")]
mod database;
#[cfg(test)]
mod gateway;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod log_first;
#[cfg(test)]
mod service;
#[cfg(test)]
#[path = "../ledger/shop.rs"]
#[allow(dead_code, reason = "the ledger's tests use the rest")]
mod shop;
