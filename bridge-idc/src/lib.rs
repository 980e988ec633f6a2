//! bridge-idc: stands beside the ledger, opens what the cloud sealed and commits it there.
//!
//! Modules stand in the order an order meets them.

/// Every setting, with its default.
pub mod config;
