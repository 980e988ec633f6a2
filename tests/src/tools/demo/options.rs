//! Options of the demo's command line.

use std::path::PathBuf;

use clap::Parser;

use crate::testkit::database::Database;
use crate::testkit::retail::Days;
use crate::tools::command::Usage;

/// A whole bridge on this machine: certificates, a database, a catalogue, both agents, and a
/// launch.
#[derive(Debug, Parser)]
#[command(name = "cargo demo")]
pub struct Options {
    /// Import the real catalogue and replay the real invoices in this folder, instead of made-up
    /// ones.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Only the invoices of this day, for example 2010-12-01 [default: the first in the data].
    #[arg(long, value_name = "DATE", requires = "data")]
    pub day: Option<String>,

    /// All invoices.
    #[arg(long, requires = "data", conflicts_with = "day")]
    pub all: bool,

    /// Commit to this empty database; `postgres` starts a temporary PostgreSQL [default: a
    /// temporary SQLite file].
    #[arg(long, value_name = "URL|postgres")]
    pub database: Option<String>,

    /// Orders in each made-up part: the launch, the hot SKU, the spread SKUs.
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub orders: u32,

    /// Concurrent callers.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub callers: u32,

    /// Duration of the calm before the launch.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub calm_seconds: u32,

    /// Duration of the launch.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..))]
    pub launch_seconds: u32,

    /// Page views a second in the calm, of two reads each; the launch begins with 30 times as many.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub page_views: u32,

    /// Seed of everything that is made up.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Print one JSON object and nothing else on standard output.
    #[arg(long)]
    pub json: bool,

    /// Write the page with plots to this file [default: demo.html in the target folder].
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Stay up for curl until Ctrl-C, before the last checks.
    #[arg(long)]
    pub keep: bool,
}

impl Options {
    /// Checks the options.
    ///
    /// # Errors
    ///
    /// Fails if they have no meaning. The error says which would.
    pub(super) fn check(&self) -> Result<(), Usage> {
        let url = self.database.as_deref().filter(|url| *url != "postgres");
        url.map_or(Ok(()), |url| Database::parse(url).map(drop))
            .map_err(|error| Usage(format!("--database: {error:#}; or postgres, for a temporary one")))
    }

    /// Returns the choice of invoices.
    #[must_use]
    pub fn days(&self) -> Days {
        match &self.day {
            _ if self.all => Days::All,
            Some(day) => Days::One(day.clone()),
            None => Days::First,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_chosen_or_all_or_the_first() {
        let days = |arguments: &[&str]| {
            Options::try_parse_from([&["demo", "--data", "d"], arguments].concat())
                .map(|options| options.days())
        };
        assert_eq!(days(&[]).expect("valid"), Days::First);
        assert_eq!(days(&["--all"]).expect("valid"), Days::All);
        assert_eq!(days(&["--day", "2011-01-04"]).expect("valid"), Days::One("2011-01-04".to_owned()));
        assert!(days(&["--all", "--day", "2011-01-04"]).is_err());
        assert!(Options::try_parse_from(["demo", "--all"]).is_err(), "all of what?");
        assert!(Options::try_parse_from(["demo", "--callers", "0"]).is_err());
    }
}
