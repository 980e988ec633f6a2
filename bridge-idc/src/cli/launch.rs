//! `bridge-idc launch add|list|show|end`: launches with a limit a customer.

use std::io::Write as _;

use bridge_protocol::domain::{Brand, Sku, UnixMicros};
use bridge_runtime::cli::{self, Failure, Outcome, out};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::config::IdcConfig;
use crate::launches::{
    self, AddResult, EndResult, Launch, LaunchDraft, LaunchName, LaunchSku, LaunchState, NewLaunch,
};
use crate::orders::store::LedgerError;

/// Largest number of units, as the table has it.
const UNITS_MAX: i64 = 1_000_000_000;

/// Largest number of people who are let in a second, as the table has it.
const RATE_MAX: i64 = 1_000_000;

/// Shortest and longest session and claim window in seconds, as the table has them.
const SECONDS: (i64, i64) = (10, 86_400);

#[derive(Subcommand)]
pub(super) enum Command {
    /// Add a launch: some SKUs, a time from which they are sold, and the units that one customer
    /// can buy.
    #[command(
        after_help = "From now on these SKUs are sold by the launch alone: nothing before --opens-at, by the database's clock, and then at \
                      most --limit units to one customer (the shop's customer.reference), over all SKUs of the launch and over every \
                      device. Cancelled orders give their units back. Once the launch has ended, its SKUs sell as any other does.\n\n\
                      All mistakes are reported at once, and then nothing is added.\n\n\
                      Examples:\n  bridge-idc launch add air-one --brand acme --opens-at 2026-12-01T10:00:00+09:00 \\\n    \
                      --sku AIR-1-270 --sku AIR-1-280 --limit 1 --units 10000\n  \
                      bridge-idc launch add winter --brand acme --opens-at 2026-12-05T00:00:00Z --ends-at 2026-12-06T00:00:00Z \\\n    \
                      --sku COAT-M --sku COAT-L --limit 3 --sku-limit COAT-M=1 --rate 500"
    )]
    Add(Box<NewArguments>),
    /// List launches, those that open last first.
    List {
        /// Only launches of this brand.
        #[arg(long)]
        brand: Option<String>,
        /// Print one JSON object instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Show a launch with its SKUs and sales.
    Show {
        #[command(flatten)]
        which: Which,
        /// Print one JSON object instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// End a launch now, for good. Its SKUs then sell as any other does, without a limit.
    #[command(after_help = "Examples:\n  bridge-idc launch end air-one --brand acme")]
    End {
        #[command(flatten)]
        which: Which,
        /// Print one JSON object instead of a line.
        #[arg(long)]
        json: bool,
    },
}

/// The arguments of a new launch. They are texts, so that all mistakes are reported together.
#[derive(Args)]
#[command(allow_negative_numbers = true)]
pub(super) struct NewArguments {
    /// Name of the launch: 1 to 64 of a to z, 0 to 9 and hyphen.
    name: String,
    /// Brand of the launch.
    #[arg(long)]
    brand: String,
    /// Time from which the SKUs are sold: RFC 3339 with its zone.
    #[arg(long, value_name = "TIME")]
    opens_at: String,
    /// Time at which the launch ends by itself [default: it ends by `launch end`]
    #[arg(long, value_name = "TIME")]
    ends_at: Option<String>,
    /// SKU that the launch sells. Repeat it for each one.
    #[arg(long = "sku", value_name = "SKU", required = true)]
    skus: Vec<String>,
    /// Units that one customer can buy, over all SKUs of the launch.
    #[arg(long, value_name = "UNITS")]
    limit: String,
    /// Units of this SKU that one customer can buy. Repeat it for each one.
    #[arg(long = "sku-limit", value_name = "SKU=UNITS")]
    sku_limits: Vec<String>,
    /// Units that the launch sells in all [default: all that is in stock]
    #[arg(long)]
    units: Option<String>,
    /// People who are let in a second: a number, or `auto` for as many as the ledger can take.
    #[arg(long, value_name = "NUMBER|auto", default_value = "auto")]
    rate: String,
    /// Seconds that a person who was let in has to order and pay.
    #[arg(long, value_name = "SECONDS", default_value = "600")]
    session: String,
    /// Seconds after which a place that is not claimed is given to the next person.
    #[arg(long, value_name = "SECONDS", default_value = "120")]
    claim: String,
    /// Print one JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

/// One launch.
#[derive(Args)]
pub(super) struct Which {
    /// Name of the launch.
    name: String,
    /// Brand of the launch.
    #[arg(long)]
    brand: String,
}

pub(super) async fn run(config: &IdcConfig, command: Command) -> Outcome {
    match command {
        Command::Add(arguments) => add(config, &arguments).await,
        Command::List { brand, json } => {
            let brand = brand.map(|brand| brand_of(&brand)).transpose().map_err(cli::usage)?;
            let ledger = super::open_ledger(&config.ledger).await?;
            let launches = launches::list(&ledger, brand.as_ref(), None).await?;
            if json {
                return print(&json!({ "launches": launches.iter().map(object).collect::<Vec<_>>() }));
            }
            table(&launches)
        }
        Command::Show { which, json } => {
            let (brand, name) = which.read()?;
            let ledger = super::open_ledger(&config.ledger).await?;
            let found = launches::list(&ledger, Some(&brand), Some(&name)).await?;
            show(found.first().ok_or_else(|| unknown(&brand, &name))?, json)
        }
        Command::End { which, json } => {
            let (brand, name) = which.read()?;
            let ledger = super::open_ledger(&config.ledger).await?;
            let (launch, before) = match launches::end(&ledger, &brand, &name).await? {
                EndResult::Ended(launch) => (launch, false),
                EndResult::EndedBefore(launch) => (launch, true),
                EndResult::Unknown => return Err(unknown(&brand, &name)),
            };
            if json {
                return print(&json!({ "launch": object(&launch), "ended_before": before }));
            }
            let at = launch.end().map(|at| at.to_string()).unwrap_or_default();
            let (name, sold) = (name.as_str(), launch.sold);
            if before {
                writeln!(
                    out(),
                    "launch {name} had ended before, at {at}: nothing was changed; it sold {sold} units"
                )?;
            } else {
                writeln!(
                    out(),
                    "launch {name} ended at {at}; it sold {sold} units, and its SKUs sell as any other now"
                )?;
            }
            Ok(())
        }
    }
}

impl Which {
    fn read(&self) -> Result<(Brand, LaunchName), Failure> {
        let (brand, name) = (brand_of(&self.brand), name_of(&self.name));
        match (brand, name) {
            (Ok(brand), Ok(name)) => Ok((brand, name)),
            (brand, name) => {
                let mistakes = [brand.err(), name.err()].into_iter().flatten();
                Err(cli::usage(mistakes.collect::<Vec<_>>().join("\n")))
            }
        }
    }
}

fn unknown(brand: &Brand, name: &LaunchName) -> Failure {
    let name = name.as_str();
    cli::failed(format!("brand {brand} has no launch {name}; bridge-idc launch list shows those that it has"))
}

async fn add(config: &IdcConfig, arguments: &NewArguments) -> Outcome {
    let mut mistakes = Vec::new();
    let new = arguments.read(&mut mistakes);
    let ledger = super::open_ledger(&config.ledger).await;
    let Some(new) = new.filter(|_| mistakes.is_empty()) else {
        // The mistakes of the arguments count, whether or not the database can add others.
        if let (Ok(ledger), Some(draft)) = (ledger, arguments.draft())
            && let Ok(more) = launches::check(&ledger, &draft).await
        {
            mistakes.extend(more.iter().map(ToString::to_string));
        }
        return Err(cli::usage(mistakes.join("\n")));
    };
    match launches::add(&ledger?, &new).await {
        Ok(AddResult::Added(launch)) if arguments.json => print(&json!({ "launch": object(&launch) })),
        Ok(AddResult::Added(launch)) => {
            show(&launch, false)?;
            writeln!(out(), "added: its SKUs are not sold before {}", launch.facts.opens_at)?;
            Ok(())
        }
        Ok(AddResult::Mistakes(found)) => {
            Err(cli::usage(found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
        }
        Err(LedgerError::Refused(state))
            if state.constraint.as_deref() == Some("one_launch_of_a_sku_at_a_time") =>
        {
            Err(cli::failed(
                "another launch of one of these SKUs was added at this moment: see it with bridge-idc launch list",
            ))
        }
        Err(error) => Err(error.into()),
    }
}

impl NewArguments {
    /// Reads the launch, and adds a sentence for each mistake.
    fn read(&self, mistakes: &mut Vec<String>) -> Option<NewLaunch> {
        let mut noted = Noted { mistakes };
        let brand = noted.take(brand_of(&self.brand));
        let name = noted.take(name_of(&self.name));
        let opens_at = noted.take(time_of("--opens-at", &self.opens_at));
        let ends_at = self.ends_at.as_ref().map(|at| noted.take(time_of("--ends-at", at)));
        let skus = self.read_skus(&mut noted);
        let units = self.units.as_ref().map(|units| noted.take(number_of("--units", units, 1, UNITS_MAX)));
        let customer_limit = noted.take(number_of("--limit", &self.limit, 1, UNITS_MAX));
        let rate_per_s = match self.rate.as_str() {
            "auto" => None,
            rate => {
                Some(noted.take(number_of("--rate", rate, 1, RATE_MAX).map_err(|text| text + ", or auto")))
            }
        };
        let session_s = noted.take(number_of("--session", &self.session, SECONDS.0, SECONDS.1));
        let claim_s = noted.take(number_of("--claim", &self.claim, SECONDS.0, SECONDS.1));
        // A wrong value ends this with `None`; a value that was not given does not.
        Some(NewLaunch {
            brand: brand?,
            name: name?,
            opens_at: opens_at?,
            ends_at: given(ends_at)?,
            skus,
            units: given(units)?,
            customer_limit: customer_limit?,
            rate_per_s: given(rate_per_s)?,
            session_s: session_s?,
            claim_s: claim_s?,
        })
    }

    fn read_skus(&self, noted: &mut Noted<'_>) -> Vec<LaunchSku> {
        let mut skus: Vec<LaunchSku> = Vec::with_capacity(self.skus.len());
        for text in &self.skus {
            let Some(sku) = noted.take(sku_of(text)) else { continue };
            if skus.iter().any(|known| known.sku == sku) {
                noted.mistakes.push(format!("--sku {sku} stands twice: give each SKU once"));
            } else {
                skus.push(LaunchSku { sku, customer_limit: None });
            }
        }
        for text in &self.sku_limits {
            // A SKU may contain an equals sign, and a number may not.
            let Some((sku, limit)) = text.rsplit_once('=') else {
                noted.mistakes.push("--sku-limit must be SKU=UNITS, such as COAT-M=1".to_owned());
                continue;
            };
            let limit = noted.take(number_of("--sku-limit", limit, 1, UNITS_MAX));
            match skus.iter_mut().find(|known| known.sku.as_str() == sku) {
                Some(known) => known.customer_limit = limit,
                None => noted
                    .mistakes
                    .push("--sku-limit names a SKU that no --sku names: add it there".to_owned()),
            }
        }
        skus
    }

    /// Returns the parts that can be checked against the ledger although others are wrong.
    fn draft(&self) -> Option<LaunchDraft> {
        let ends_at = self.ends_at.as_ref().map(|at| time_of("--ends-at", at));
        // An end that cannot be read would make an overlap out of every later launch.
        let opens_at =
            time_of("--opens-at", &self.opens_at).ok().filter(|_| !matches!(ends_at, Some(Err(_))));
        Some(LaunchDraft {
            brand: brand_of(&self.brand).ok()?,
            name: name_of(&self.name).ok(),
            opens_at,
            ends_at: ends_at.and_then(Result::ok),
            skus: self.skus.iter().filter_map(|sku| sku_of(sku).ok()).collect(),
        })
    }
}

/// Mistakes so far.
struct Noted<'a> {
    mistakes: &'a mut Vec<String>,
}

impl Noted<'_> {
    /// Returns the value, or notes the mistake.
    fn take<V>(&mut self, read: Result<V, String>) -> Option<V> {
        read.map_err(|mistake| self.mistakes.push(mistake)).ok()
    }
}

/// Tells an optional value that was not given (`Some(None)`) from a wrong one (`None`).
fn given<V>(value: Option<Option<V>>) -> Option<Option<V>> {
    match value {
        None => Some(None),
        Some(value) => value.map(Some),
    }
}

fn brand_of(text: &str) -> Result<Brand, String> {
    Brand::new(text).map_err(|_| "--brand must be 1 to 32 of a to z, 0 to 9 and hyphen".to_owned())
}

fn name_of(text: &str) -> Result<LaunchName, String> {
    LaunchName::new(text)
        .ok_or_else(|| "the launch's name must be 1 to 64 of a to z, 0 to 9 and hyphen".to_owned())
}

fn sku_of(text: &str) -> Result<Sku, String> {
    Sku::new(text).ok_or_else(|| {
        "--sku must be 1 to 64 printable ASCII characters, without a space at either end".to_owned()
    })
}

fn time_of(argument: &str, text: &str) -> Result<UnixMicros, String> {
    let time = text.parse::<jiff::Timestamp>().map(|time| UnixMicros::new(time.as_microsecond()));
    time.map_err(|_| {
        format!("{argument} must be a time with its zone (RFC 3339), such as 2026-12-01T10:00:00+09:00")
    })
}

fn number_of(argument: &str, text: &str, least: i64, most: i64) -> Result<i64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("{argument} must be a whole number from {least} to {most}"))
}

fn print(object: &Value) -> Outcome {
    writeln!(out(), "{object}")?;
    Ok(())
}

fn table(launches: &[Launch]) -> Outcome {
    let mut out = out();
    if launches.is_empty() {
        writeln!(out, "no launches")?;
        return Ok(());
    }
    writeln!(
        out,
        "{:<10} {:<16} {:<24} {:<27} {:>5} {:>10} sold",
        "state", "brand", "launch", "opens", "limit", "units"
    )?;
    for launch in launches {
        let NewLaunch { brand, name, opens_at, customer_limit, units, .. } = &launch.facts;
        let units = units.map_or_else(|| "all".to_owned(), |units| units.to_string());
        let (state, name, sold) = (launch.state.name(), name.as_str(), launch.sold);
        let (brand, opens_at) = (brand.as_str(), opens_at.to_string());
        writeln!(
            out,
            "{state:<10} {brand:<16} {name:<24} {opens_at:<27} {customer_limit:>5} {units:>10} {sold}"
        )?;
    }
    Ok(())
}

fn show(launch: &Launch, as_json: bool) -> Outcome {
    if as_json {
        return print(&json!({ "launch": object(launch) }));
    }
    let facts = &launch.facts;
    let mut out = out();
    writeln!(out, "launch {} of brand {}: {}", facts.name.as_str(), facts.brand, launch.state.name())?;
    writeln!(out, "opens at {}", facts.opens_at)?;
    match (launch.end(), launch.state) {
        (Some(at), LaunchState::Ended) => writeln!(out, "ended at {at}")?,
        (Some(at), _) => writeln!(out, "ends at {at}")?,
        (None, _) => writeln!(out, "ends when it is ended: bridge-idc launch end")?,
    }
    let in_all =
        facts.units.map_or_else(|| "all units in stock".to_owned(), |units| format!("{units} units"));
    writeln!(out, "sells {in_all}, {} to one customer; sold {}", facts.customer_limit, launch.sold)?;
    let rate = facts.rate_per_s.map_or_else(|| "auto".to_owned(), |rate| format!("{rate} a second"));
    writeln!(
        out,
        "lets in {rate}; a session lasts {} s, a place is kept {} s",
        facts.session_s, facts.claim_s
    )?;
    for LaunchSku { sku, customer_limit } in &facts.skus {
        let limit = customer_limit.map(|limit| format!(", {limit} to one customer")).unwrap_or_default();
        writeln!(out, "SKU {sku}{limit}")?;
    }
    Ok(())
}

fn object(launch: &Launch) -> Value {
    let facts = &launch.facts;
    let sku = |sold: &LaunchSku| json!({ "sku": sold.sku.as_str(), "customer_limit": sold.customer_limit });
    json!({
        "brand": facts.brand.as_str(),
        "launch": facts.name.as_str(),
        "state": launch.state.name(),
        "opens_at": facts.opens_at.to_string(),
        "ends_at": facts.ends_at.map(|at| at.to_string()),
        "ended_at": launch.ended_at.map(|at| at.to_string()),
        "units": facts.units,
        "customer_limit": facts.customer_limit,
        "rate_per_s": facts.rate_per_s,
        "session_s": facts.session_s,
        "claim_s": facts.claim_s,
        "sold": launch.sold,
        "skus": facts.skus.iter().map(sku).collect::<Vec<_>>(),
    })
}
