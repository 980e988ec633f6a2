//! The deterministic simulation: cloud agents, data centres, lines, a ledger and callers in one thread, under one seed.
//!
//! Everything that decides is the real code: the order link's sender and receiver, sealing and opening, the IDC's agent
//! with its planner, the flow that commits, receipts and their verification. What is made up is the world between them: time, lines
//! that die and lose a suffix, a database whose statements interleave, rows that somebody holds, commits whose reply is lost,
//! processes that end at any moment, an operator who rotates sealing keys, a DBA who changes rows. Two oracles watch: checkers of the
//! promises P1 to P4 at every step, and a small reference model at the end of each schedule.
//!
//! The feed of the catalogue follows in a world of its own (`feed`), whose oracles know the source's whole history.
//!
//! A run is many short schedules; each follows from its own seed alone, so a violation is repeated by one command.

/// What the simulation is told on its command line.
mod options;

/// What it counts.
mod counts;

/// What it reports.
mod report;

/// Chance, and nothing else that is random.
mod dice;

/// Which faults a schedule has, and how many.
mod fault_rates;

/// What is sold and what is ordered.
mod shop;

/// What happened, as a hash and as the last lines of a story.
mod trace;

/// What is right, decided by code of its own.
mod reference;

/// The world: its agents, lines, ledger, callers, and who watches them.
mod world;

/// The feed's part of each schedule.
mod feed;

use std::io::{self, Write};
use std::time::{Duration, Instant};

pub use counts::Counts;
pub use options::{Options, Sabotage};
pub use report::{Report, Violation};
use world::{Ended, World};

/// Runs below this many orders are too short to demand every kind of fault of them.
const ORDERS_FOR_EVERY_FAULT: u64 = 20_000;

/// What happens in so few schedules that only runs of as many orders must have it: an operator who speaks of a refund while a request
/// for that is on its way.
const RARE: &str = "told_to_wait";
const ORDERS_FOR_WHAT_IS_RARE: u64 = 100_000;

/// Runs schedules until as many orders were simulated as asked for, time is over, or a violation is found.
pub fn run(options: &Options, progress: &mut impl Write) -> io::Result<Report> {
    // The ledger's flow sets timers, which nobody drives here: the model tells when a row was waited for too long.
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
            // Told again from the start, this time with its story.
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

/// One schedule: its orders, then the feed of the same seed.
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

/// The next schedule's seed (SplitMix64).
fn following(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
