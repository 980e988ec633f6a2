//! Tests of traces that must exist and traces that must not. Audit logs verify, and agree with
//! ledgers and gateways. Personal data is shown only by an audited command. Everything that was
//! acknowledged survives a kill or a power loss.

#[path = "../common/mod.rs"]
mod common;
mod kills;
mod logs;
mod memory;
mod personal;
mod power_loss;
mod reconcile;
mod restored;
