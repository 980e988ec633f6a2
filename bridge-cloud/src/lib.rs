//! bridge-cloud: stands beside the storefront, answers its reads and relays its orders, sealed, to the IDC.
//!
//! Modules stand in the order a request meets them.

/// Every setting, with its default.
pub mod config;
