//! `cargo wan`: a line for programs that are started by hand, or a measurement of a line's
//! precision on this machine.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

use crate::testkit::wan::{Conditions, OneWay, Wan, lacks, precision};
use crate::tools::command::{Usage, tell};

/// A WAN between two ends on this machine, until Ctrl-C. A client reaches servers on the far end's
/// address across the line.
#[derive(Debug, Parser)]
#[command(name = "cargo wan")]
pub struct Options {
    /// Round trip in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 10)]
    pub round_trip: u64,

    /// Largest addition to the delay of each direction, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub jitter: u64,

    /// Packets in a million that are lost, in each direction: 10000 is 1 %.
    #[arg(long, value_name = "PPM", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub loss: u32,

    /// Packets in a million that are overtaken, in each direction.
    #[arg(long, value_name = "PPM", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub reorder: u32,

    /// Rate of each direction in megabits a second [default: no limit].
    #[arg(long, value_name = "MBIT")]
    pub rate: Option<u64>,

    /// Seed of all randomness [default: another one each time].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Measure the precision of a line on this machine, and end.
    #[arg(long)]
    pub check: bool,

    /// Print the figures of --check as one JSON object.
    #[arg(long, requires = "check")]
    pub json: bool,
}

/// Duration of each measurement of `--check`.
const EACH: Duration = Duration::from_secs(3);

/// Opens the line, or measures one.
///
/// # Errors
///
/// Fails if this machine lacks something that a line needs.
pub async fn run(options: &Options) -> Result<()> {
    if let Some(lack) = lacks() {
        return Err(Usage(format!("there is no WAN of IP packets without {lack}")).into());
    }
    if options.check {
        let precision = tokio::task::spawn_blocking(|| precision::measure(EACH)).await??;
        return tell(&precision, options.json);
    }
    let seed = options.seed.unwrap_or_else(rand::random);
    let wan = Wan::start(seed, None)?;
    wan.line().set(conditions(options));
    let listening = (wan.far(1), 0).into();
    let dialled = wan.from_other_end(listening)?.ip();
    writeln!(io::stdout(), "{} is up, --seed {seed}", wan.device())?;
    writeln!(io::stdout(), "listen on {}, dial {dialled}; Ctrl-C ends it", wan.far(1))?;
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    tokio::select! {
        pressed = ctrl_c() => pressed.context("wait for Ctrl-C")?,
        _ = terminate.recv() => {}
    }
    let counts = wan.line().counts();
    writeln!(io::stdout(), "{} packets entered, {} were dropped", counts.entered, counts.dropped())?;
    Ok(())
}

fn conditions(options: &Options) -> Conditions {
    Conditions::both(OneWay {
        delay: Duration::from_millis(options.round_trip) / 2,
        jitter: Duration::from_millis(options.jitter),
        loss: options.loss,
        reorder: options.reorder,
        rate: options.rate.map(|megabits| megabits.saturating_mul(1_000_000)),
        ..OneWay::default()
    })
}
