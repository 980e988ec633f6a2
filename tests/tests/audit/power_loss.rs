//! Simulates power losses for each store: everything that was acknowledged must survive. The check
//! is tested as well. On a disk that lies about its syncs every store loses data, and the seed and
//! the recording reproduce the loss.

#![expect(clippy::expect_used, reason = "all of this is a test, its helpers included")]

use std::path::Path;

use bridge_tests::tools::power::{Command, Report, run};
use clap::Parser as _;

async fn lose(arguments: &str) -> Report {
    let arguments = ["power-loss"].into_iter().chain(arguments.split(' '));
    let command = Command::try_parse_from(arguments).expect("valid arguments");
    run(&command.options, Path::new(env!("CARGO_BIN_EXE_power-loss"))).await.expect("the run succeeds")
}

/// Checks a few power losses for each kind of disk failure.
async fn nothing_is_lost(store: &str, schedules: u64, each: u64) {
    let report = lose(&format!("--store {store} --schedules {schedules} --each {each} --seed 12")).await;
    assert!(report.passed(), "{report}");
    assert!(report.stores[0].acknowledged > schedules, "next to nothing was acknowledged: {report}");
}

#[tokio::test]
async fn the_audit_log_survives_a_power_loss_with_tiles_and_checkpoint() {
    nothing_is_lost("audit", 50, 10).await;
}

#[tokio::test]
async fn a_power_loss_takes_nothing_from_the_audit_log_s_journal() {
    nothing_is_lost("journal", 50, 10).await;
}

#[tokio::test]
async fn a_power_loss_takes_nothing_from_the_replica_s_snapshot() {
    nothing_is_lost("snapshot", 100, 12).await;
}

#[tokio::test]
async fn a_power_loss_takes_no_order_from_a_ledger_in_sqlite() {
    nothing_is_lost("sqlite", 50, 10).await;
}

#[tokio::test]
async fn a_power_loss_takes_no_order_from_a_ledger_in_postgres() {
    // PostgreSQL gets a twentieth of these power losses, which is three, since each one starts a
    // server.
    nothing_is_lost("postgres", 60, 3).await;
}

#[tokio::test]
async fn every_store_loses_data_on_a_lying_disk_and_seeds_repeat_it() {
    for store in ["audit", "journal", "snapshot", "sqlite"] {
        let report = lose(&format!("--store {store} --schedules 100 --seed 3 --lying")).await;
        let found = report.stores[0].found.clone().unwrap_or_else(|| panic!("{store} loses nothing"));
        let again = found.repeat.strip_prefix("cargo power-loss ").expect("a command");
        let again = lose(again).await.stores[0].found.clone().expect("the loss is found again");
        assert_eq!((again.what, again.fate), (found.what, found.fate), "{store}");
    }
}
