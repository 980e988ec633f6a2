//! The simulation on itself: it is clean, it repeats, and it finds what is broken on purpose.

#![expect(clippy::expect_used, reason = "all of this is a test, its helper included")]

use bridge_tests::sim::{Options, Report, Sabotage, run};
use clap::{Parser, ValueEnum};

fn simulate(arguments: &[&str]) -> Report {
    let options = Options::try_parse_from([&["simulate"], arguments].concat()).expect("valid");
    run(&options, &mut std::io::sink()).expect("nothing is written")
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

#[test]
fn every_sabotage_is_found_and_told_with_the_command_that_repeats_it() {
    for sabotage in Sabotage::value_variants() {
        let promises: &[&str] = match sabotage {
            Sabotage::AcknowledgeBeforeCommit
            | Sabotage::SealAnothersData
            | Sabotage::LookUpByIdAlone
            | Sabotage::RestoreTooEarly
            | Sabotage::RememberAnswers => &["P1"],
            Sabotage::ForgetKeys
            | Sabotage::PayTwice
            | Sabotage::CountRefundsTwice
            | Sabotage::RefundForEver
            | Sabotage::CompareEndsAlone
            | Sabotage::CompareNoWords => &["P2"],
            Sabotage::LetAnotherBrandRefund => &["TENANCY"],
            Sabotage::NeverLookAgain | Sabotage::KeepMoney => &["MONEY"],
            Sabotage::OvertakingCancels | Sabotage::OverwriteStock => &["P3"],
            Sabotage::DenyLostCommits | Sabotage::TakeSilenceForRefusal => &["P4"],
            Sabotage::OverfillQueues => &["P7"],
            Sabotage::LoseEntries
            | Sabotage::ForgetLastRounds
            | Sabotage::SendUnlogged
            | Sabotage::PayUnlogged
            | Sabotage::LogOtherBytes
            | Sabotage::LogOtherEnds
            | Sabotage::ResolveUnsaid => &["P8"],
            // Which of the two is seen first, the dice decide.
            Sabotage::ForgetPayments => &["P2", "P4"],
            Sabotage::ForgetUnsettled => &["P4", "P8"],
            Sabotage::SpeakTooSoon => &["MONEY", "P2", "P4"],
            // A refusal that the sender alone is to hear comes to a caller, or one that another copy makes wrong.
            Sabotage::FinalRefusals => &["P4", "ANSWERS"],
            Sabotage::PreferNewestKeys | Sabotage::SealOnce => &["P11"],
            Sabotage::NumberBeforeCommit | Sabotage::SkipReplay | Sabotage::ResumeAnyHistory => &["P6"],
        };
        let report = simulate(&["--seed", "2", "--sabotage", &sabotage.name()]);
        let found = report.found.as_ref().unwrap_or_else(|| panic!("{sabotage:?} is not found"));
        assert!(promises.contains(&found.promise), "{report}");
        let again: Vec<&str> = found.repeat.split(' ').skip(2).collect();
        let again = simulate(&again);
        assert_eq!(
            again.found.map(|again| (again.what, again.story)),
            Some((found.what.clone(), found.story.clone()))
        );
    }
}
