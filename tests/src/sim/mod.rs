//! The deterministic simulation: cloud agents, data centres, lines, a ledger and callers in one
//! thread, under one seed.
//!
//! All code that decides is the real code: the order link's sender and receiver, sealing and
//! opening, the IDC's agent with its planner, the flow that commits, receipts and their
//! verification. Only the environment is simulated: time, lines that die and lose a suffix, a
//! database whose statements interleave, rows that another session holds, commits whose reply is
//! lost, processes that end at any moment, an operator who rotates sealing keys, a DBA who changes
//! rows. Two oracles judge each schedule: checkers of the promises P1 to P4 at every step, and a
//! small reference model at the end.
//!
//! The feed of the catalogue is simulated after the orders, in a world of its own (`feed`). Its
//! oracles know the source's whole history.
//!
//! A run consists of many short schedules. Each schedule depends on its own seed alone, so one
//! command repeats a violation.

/// Options of the command line.
mod options;

/// Counts of the events of a run.
mod counts;

/// Report of a run.
mod report;

/// The seeded random generator. Nothing else is random.
mod dice;

/// Rates of the faults of a schedule.
mod fault_rates;

/// The offers, and the bodies of orders.
mod shop;

/// Events of a schedule, as a hash and as the last lines of a story.
mod trace;

/// The reference model: an independent implementation that decides which results are right.
mod reference;

/// The world of orders: its agents, lines, ledger, callers and checkers.
mod world;

/// The feed's part of each schedule.
mod feed;

use std::io::{self, Write};
use std::time::{Duration, Instant};

pub use counts::Counts;
pub use options::{Options, Sabotage};
pub use report::{Report, Violation};
use world::{Ended, World};

/// A run with fewer orders than this is too short to contain every kind of fault.
const ORDERS_FOR_EVERY_FAULT: u64 = 20_000;

/// A count that is 0 in most schedules: an operator speaks about a refund while a request for that
/// refund is under way. Only runs of at least [`ORDERS_FOR_WHAT_IS_RARE`] orders must have it.
const RARE: &str = "told_to_wait";
const ORDERS_FOR_WHAT_IS_RARE: u64 = 100_000;

/// Runs schedules until the number of orders is reached, the time is over, or a violation is found.
pub fn run(options: &Options, progress: &mut impl Write) -> io::Result<Report> {
    // The ledger's code sets timers, and nothing drives them here: the model of the database
    // decides when a statement has waited for a row too long.
    let timers = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let _timers = timers.enter();
    let started = Instant::now();
    let mut report = Report::new(options);
    let mut seed = report.seed;
    let mut next_word = Duration::from_secs(5);
    while !options.is_done(&report, started.elapsed()) {
        let ended = schedule(seed, options.sabotage, 0);
        report.add(&ended);
        if ended.violation.is_some() {
            // The schedule runs again from its start, this time with its story.
            report.found = schedule(seed, options.sabotage, options.story).found(seed, options.sabotage);
            break;
        }
        if started.elapsed() >= next_word {
            next_word += Duration::from_secs(5);
            writeln!(progress, "{} orders in {} schedules, no violation", report.orders, report.schedules)?;
        }
        seed = following(seed);
    }
    report.seconds = started.elapsed().as_secs();
    report.per_second = u128::from(report.orders) * 1_000 / started.elapsed().as_millis().max(1);
    if report.found.is_none() && report.orders >= ORDERS_FOR_EVERY_FAULT {
        report.missing = report.counts.zeros();
        let demands_all = report.orders >= ORDERS_FOR_WHAT_IS_RARE;
        report.missing.retain(|name| demands_all || *name != RARE);
    }
    Ok(report)
}

/// Runs one schedule: its orders, then the feed of the same seed.
fn schedule(seed: u64, sabotage: Option<Sabotage>, story: usize) -> Ended {
    let orders = World::new(seed, sabotage, story).run();
    if orders.violation.is_some() {
        return orders;
    }
    let feed = feed::World::new(seed, sabotage, story).run();
    let mut counts = orders.counts;
    counts.add(&feed.counts);
    Ended { orders: orders.orders, counts, trace: orders.trace.rotate_left(32) ^ feed.trace, ..feed }
}

/// Returns the next schedule's seed (SplitMix64).
fn following(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
