//! Tests the simulation itself: it finds no fault in correct code, repeats a seed exactly, and
//! finds every sabotage.

#![expect(clippy::expect_used, clippy::panic, reason = "all of this is a test, its helper included")]

use bridge_tests::sim::{Options, Report, Sabotage, run};
use clap::{Parser, ValueEnum};

fn simulate(arguments: &[&str]) -> Report {
    let options = Options::try_parse_from([&["simulate"], arguments].concat()).expect("valid arguments");
    run(&options, &mut std::io::sink()).expect("the report is written")
}

#[test]
fn a_short_run_breaks_no_promise_and_has_every_kind_of_fault() {
    let report = simulate(&["--seed", "1", "--orders", "20000"]);
    assert!(report.passed(), "{report}");
    assert!(report.orders >= 20_000);
}

#[test]
fn the_same_seed_is_the_same_run_to_the_last_event() {
    let trace = |seed| simulate(&["--seed", seed, "--orders", "2000"]).trace;
    assert_eq!(trace("2"), trace("2"));
    assert_ne!(trace("2"), trace("3"));
}

/// The promises that each sabotage may break. The first promise names the test that runs the
/// sabotage.
fn broken_by(sabotage: Sabotage) -> &'static [&'static str] {
    match sabotage {
        Sabotage::AcknowledgeBeforeCommit
        | Sabotage::SealAnothersData
        | Sabotage::LookUpByIdAlone
        | Sabotage::RestoreTooEarly => &["P1"],
        Sabotage::ForgetKeys
        | Sabotage::PayTwice
        | Sabotage::CountRefundsTwice
        | Sabotage::RefundForEver
        | Sabotage::CompareEndsAlone
        | Sabotage::CompareNoWords => &["P2"],
        Sabotage::LetAnotherBrandRefund => &["TENANCY"],
        Sabotage::NeverLookAgain | Sabotage::KeepMoney => &["MONEY"],
        Sabotage::OvertakingCancels | Sabotage::OverwriteStock | Sabotage::ForgetPurchases => &["P3"],
        Sabotage::DenyLostCommits | Sabotage::TakeSilenceForRefusal => &["P4"],
        Sabotage::OverfillQueues => &["P7"],
        Sabotage::LoseEntries
        | Sabotage::ForgetLastRounds
        | Sabotage::SendUnlogged
        | Sabotage::PayUnlogged
        | Sabotage::LogOtherBytes
        | Sabotage::LogOtherEnds
        | Sabotage::ResolveUnsaid => &["P8"],
        // The seed decides which broken promise is seen first.
        Sabotage::RememberAnswers => &["P1", "P2"],
        Sabotage::ForgetPayments => &["P2", "P4"],
        Sabotage::ForgetUnsettled => &["P4", "P8"],
        Sabotage::SpeakTooSoon => &["MONEY", "P2", "P4"],
        // A caller gets a refusal that only the sender may see, or one that another copy
        // contradicts.
        Sabotage::FinalRefusals => &["P4", "ANSWERS"],
        Sabotage::PreferNewestKeys | Sabotage::SealOnce => &["P11"],
        Sabotage::NumberBeforeCommit | Sabotage::SkipReplay | Sabotage::ResumeAnyHistory => &["P6"],
    }
}

/// Checks that a sabotage is found, and that the reported command finds it again.
fn is_found_again(sabotage: Sabotage) {
    let report = simulate(&["--seed", "2", "--sabotage", &sabotage.name()]);
    let found = report.found.as_ref().unwrap_or_else(|| panic!("{sabotage:?} is not found"));
    assert!(broken_by(sabotage).contains(&found.promise), "{report}");
    let again: Vec<&str> = found.repeat.split(' ').skip(2).collect();
    let again = simulate(&again);
    assert_eq!(
        again.found.map(|again| (again.what, again.story)),
        Some((found.what.clone(), found.story.clone()))
    );
}

/// Makes one test for each promise, which runs its sabotages. Each sabotage takes some seconds, so
/// several tests share the cores.
macro_rules! found_by_promise {
    ($($promise:literal: $test:ident)*) => {
        $(#[test] fn $test() {
            let of_promise = |sabotage: &&Sabotage| broken_by(**sabotage)[0] == $promise;
            Sabotage::value_variants().iter().filter(of_promise).for_each(|sabotage| is_found_again(*sabotage));
        })*

        #[test]
        fn every_sabotage_belongs_to_a_promise_that_is_tested() {
            for sabotage in Sabotage::value_variants() {
                assert!([$($promise),*].contains(&broken_by(*sabotage)[0]), "{sabotage:?} is in no test");
            }
        }
    };
}

found_by_promise! {
    "P1": each_sabotage_of_p1_is_found_and_told_with_its_command
    "P2": each_sabotage_of_p2_is_found_and_told_with_its_command
    "P3": each_sabotage_of_p3_is_found_and_told_with_its_command
    "P4": each_sabotage_of_p4_is_found_and_told_with_its_command
    "P6": each_sabotage_of_p6_is_found_and_told_with_its_command
    "P7": each_sabotage_of_p7_is_found_and_told_with_its_command
    "P8": each_sabotage_of_p8_is_found_and_told_with_its_command
    "P11": each_sabotage_of_p11_is_found_and_told_with_its_command
    "MONEY": each_sabotage_of_money_is_found_and_told_with_its_command
    "TENANCY": each_sabotage_of_tenancy_is_found_and_told_with_its_command
}
