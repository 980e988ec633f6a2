//! Tests of payments against a faulty gateway: the adapter, the service with its reconciler,
//! webhooks, and the whole way end to end.

mod checkout;
#[path = "../common/mod.rs"]
mod common;

// All of this is test code. The attribute makes clippy.toml's exceptions for tests apply.
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
