//! The command line of bridge-idc.

mod catalogue;
mod compare;
mod files;
mod launch;
mod payments;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bridge_protocol::audit::entry::{Shown, Word};
use bridge_protocol::audit::{Entry, Event};
use bridge_protocol::domain::OrderId;
use bridge_protocol::domain::identity::Role;
use bridge_runtime::cli::{self, Failure, Outcome, out};
use bridge_runtime::config::Reader;
use bridge_runtime::telemetry::{self, Service};
use bridge_runtime::{audit_log, check, clock, config, folder, hardening, owner};
use clap::{Args, Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::catalogue::import::stock::StockFile;
use crate::config::{IdcConfig, LedgerConfig};
use crate::import_file::parts::WAIT;
use crate::orders::store::{Ledger, NotReady};
use crate::serve;
use crate::vault;
use crate::vault::keyring::{self, Keyring};

#[derive(Parser)]
#[command(
    name = "bridge-idc",
    version,
    about = "Stands beside the on-prem database: opens sealed orders, commits them, and certifies what it committed.",
    after_help = "Examples:\n  bridge-idc keys init --dir keys --name idc.example.com\n  bridge-idc migrate --config bridge-idc.toml\n  \
                  bridge-idc catalogue import catalogue.jsonl --config bridge-idc.toml\n  bridge-idc serve --config bridge-idc.toml\n\n\
                  Exit codes: 0 done, 1 failed, 2 usage or configuration."
)]
struct Arguments {
    /// The configuration file; samples/bridge-idc.toml explains every key.
    #[arg(long, value_name = "FILE", default_value = "bridge-idc.toml", global = true)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM, then drain and exit 0.
    Serve,
    /// Check the configuration and every file that it names, and report all mistakes. The database,
    /// the gateway and the other side are not asked: `migrate`, `/readyz` and `status` show these.
    Check {
        /// Also show the effective configuration without secrets.
        #[arg(long)]
        print_config: bool,
    },
    /// Show the state of the running agent.
    Status {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Bring the ledger's tables up to date.
    Migrate,
    /// Import and export the catalogue: brands, categories, products, variants, prices and stock.
    #[command(subcommand)]
    Catalogue(catalogue::Command),
    /// Import prices and stock alone.
    #[command(subcommand)]
    Stock(Stock),
    /// Add, list, show and end launches: sales of some SKUs from a moment on, with a limit a
    /// customer.
    #[command(subcommand)]
    Launch(launch::Command),
    /// Manage the keys that only the IDC has.
    #[command(subcommand)]
    Keys(Keys),
    /// Show personal data to people who must see it.
    #[command(subcommand)]
    Personal(PersonalData),
    /// Read, verify, prove and compare the audit log, the append-only log of everything that passed
    /// the tunnel.
    Audit(Audit),
    /// Show payments, and resolve those whose outcome the gateway leaves unknown.
    #[command(subcommand)]
    Payments(payments::Command),
}

/// Commands on an audit log, and on the ledger beside it.
#[derive(Args)]
#[command(after_help = format!("Examples:\n  audit compare                            # the ledger, after its database was put back\n{}", audit_log::command::HELP))]
struct Audit {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Subcommand)]
enum AuditCommand {
    #[command(flatten)]
    Log(audit_log::command::Command),
    /// Compare the ledger with the commits in the IDC agents' logs: finds what a database lost when
    /// it was restored to an earlier time.
    Compare(compare::Compare),
}

#[derive(Subcommand)]
enum Stock {
    /// Import brands, SKUs, prices and stock: the whole file, or nothing if a row is wrong.
    #[command(
        after_help = "The header is brand,sku,unit_price,currency,quantity. Prices are in the currency's own unit, as in a catalogue's CSV: \
                      3 and 3.00 of GBP are 300 pence, 18000 of KRW is 18000 won. A price that is 50 times the old one gets a warning. \
                      An existing SKU gets the file's price, and the file's quantity is its number of units for sale from now on.\n\n\
                      The whole file is checked before the first write. It must be UTF-8, with commas between its columns and a line \
                      end after its last row: without that line end, a cut file looks complete. Rows are written 2,500 at a time, and \
                      no order waits for more than that. Rows that another session holds come last: the command names and awaits them."
    )]
    Import {
        /// The CSV file, or - for standard input.
        file: PathBuf,
        /// The file is complete, although its last line has no line end.
        #[arg(long)]
        whole: bool,
        /// Seconds to wait for rows that another session holds, once everything else is written.
        #[arg(long, value_name = "SECONDS", default_value_t = WAIT.as_secs(), value_parser = clap::value_parser!(u64).range(..=86_400))]
        wait: u64,
    },
}

#[derive(Subcommand)]
enum Keys {
    /// Create the keys of a new data centre; never overwrites a key. Back up the folder: without it
    /// no personal data can be read.
    Init {
        #[command(flatten)]
        folder: KeysFolder,
        /// Name of the signing key; the cloud's configuration pins the key under this name.
        #[arg(long, default_value = "idc")]
        name: String,
    },
    /// Print the verifier key for sealing.verifier_keys in the cloud's configuration.
    Show {
        #[command(flatten)]
        folder: KeysFolder,
    },
    /// Add a key. Older keys stay in use for data that they encrypted. A running agent loads the
    /// new key within seconds. With several agents, copy the new file to the keys' folder of each:
    /// a sealing key is used once all of them have it.
    Rotate {
        /// Kind of key.
        kind: Rotated,
        #[command(flatten)]
        folder: KeysFolder,
        /// Days for which a new sealing key is valid.
        #[arg(long, default_value_t = keyring::SEALING_DAYS, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
}

#[derive(Args)]
struct KeysFolder {
    /// Folder of the keys [default: keys.dir of the configuration]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Rotated {
    /// The key to which the cloud seals orders.
    Sealing,
    /// The key that wraps the keys of stored personal data.
    Kek,
}

#[derive(Subcommand)]
enum PersonalData {
    /// Decrypt and print one order's personal data. First records that it was read, by whom and
    /// why.
    Show {
        /// The order's id.
        order: String,
        /// Reason for reading it, as one word: a code such as TICKET_4711. The ledger and the audit
        /// log keep it, and the audit log has no free text.
        #[arg(long)]
        purpose: String,
        /// Print one JSON object instead of lines.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command of this process's command line.
pub fn run() -> ExitCode {
    cli::exit(execute(Arguments::parse()))
}

fn execute(Arguments { config, command }: Arguments) -> Outcome {
    match command {
        Command::Serve => {
            let config = load(&config)?;
            hardening::forbid_core_dumps()?;
            let service = Service { name: "bridge-idc", instance: &config.agent.name };
            let _telemetry = telemetry::init(&config.log, &service)?;
            cli::serve(serve::serve(config))?;
        }
        Command::Check { print_config } => {
            let loaded = IdcConfig::load_and_check(&config, config::environment(), check_files);
            let loaded = loaded.map_err(cli::usage)?;
            let effective = print_config.then_some(loaded.effective.as_str());
            cli::checked(&config, &loaded.warnings, effective)?;
        }
        Command::Status { json } => {
            cli::runtime()?.block_on(cli::status(load(&config)?.admin.listen, json))?
        }
        Command::Migrate => cli::runtime()?.block_on(migrate(&load(&config)?))?,
        Command::Stock(Stock::Import { file, whole, wait }) => {
            let wait = Duration::from_secs(wait);
            cli::runtime()?.block_on(import_stock(&load(&config)?, &file, whole, wait))?;
        }
        Command::Catalogue(command) => cli::runtime()?.block_on(catalogue::run(&config, command))?,
        Command::Launch(command) => cli::runtime()?.block_on(launch::run(&load(&config)?, command))?,
        Command::Payments(command) => cli::runtime()?.block_on(payments::run(&load(&config)?, command))?,
        Command::Keys(command) => keys(&config, command)?,
        Command::Audit(Audit { command: AuditCommand::Log(command) }) => {
            audit_log::command::run(command, || Ok(load(&config)?.audit))?;
        }
        Command::Audit(Audit { command: AuditCommand::Compare(asked) }) => {
            compare::run(asked, || load(&config))?;
        }
        Command::Personal(PersonalData::Show { order, purpose, json }) => {
            hardening::forbid_core_dumps()?;
            cli::runtime()?.block_on(show_personal(&load(&config)?, &order, &purpose, json))?;
        }
    }
    Ok(())
}

fn load(path: &Path) -> Result<IdcConfig, Failure> {
    IdcConfig::load(path, config::environment()).map_err(cli::usage)
}

/// Adds the mistakes in the files and folders that the configuration names.
fn check_files(config: &IdcConfig, reader: &mut Reader) {
    check::files(reader, Role::Idc, &config.agent, &config.audit, &config.tunnel);
    reader.refuse_each("keys.dir", Keyring::faults(&config.keys.dir));
    if let Err(error) = config.payments.adapter() {
        reader.refuse("payments.secret_key_file", error.to_string());
    }
}

/// Opens the ledger for a command. Fails if this would create a file that the agent cannot open, or
/// if a pooler could make commits less durable than requested. SQLite gives its extra files to the
/// owner of the database file.
async fn open_ledger(config: &LedgerConfig) -> Result<Ledger, Failure> {
    if let Some(path) = config.url.file()
        && !path.exists()
    {
        owner::check(folder::of(path))?;
    }
    let ledger = serve::open_ledger(config).await?;
    match ledger.connections().await {
        Err(pooled @ NotReady::Pooled(_)) => Err(pooled.into()),
        Err(NotReady::Unavailable(error)) if error.is_for_want_of_a_connection() => {
            Err(ledger.why_unreachable().await.unwrap_or(error).into())
        }
        // The command itself reports any other problem.
        Ok(()) | Err(_) => Ok(ledger),
    }
}

/// Opens the ledger for a command that needs its tables.
async fn open_tables(config: &LedgerConfig) -> Result<Ledger, Failure> {
    let ledger = open_ledger(config).await?;
    match ledger.ready().await {
        Err(empty @ NotReady::Empty) => Err(empty.into()),
        // The command itself reports any other problem.
        Ok(()) | Err(_) => Ok(ledger),
    }
}

async fn migrate(config: &IdcConfig) -> Outcome {
    let applied = open_ledger(&config.ledger).await?.migrate().await?;
    let mut out = out();
    for migration in &applied {
        writeln!(out, "applied {}, {}", migration.version, migration.description)?;
    }
    if applied.is_empty() {
        writeln!(out, "the ledger is up to date")?;
    }
    Ok(())
}

async fn import_stock(config: &IdcConfig, path: &Path, is_whole: bool, wait: Duration) -> Outcome {
    let bytes = files::read(path)?;
    let stock = StockFile::read(files::given(&bytes, is_whole));
    let stock = stock.map_err(|error| cli::failed(format!("{}: {error}", path.display())))?;
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} rows, {eta} left")?;
    let progress = ProgressBar::new(stock.len() as u64).with_style(style);
    let ledger = open_ledger(&config.ledger).await?;
    // Before the first write, because a new price is public at once.
    files::warn(&ledger.doubts(&stock, wait, |told| files::show(&progress, told)).await?);
    let imported = ledger.import_stock(&stock, wait, |told| files::show(&progress, told)).await?;
    progress.finish_and_clear();
    writeln!(
        out(),
        "imported {} rows: {} new brands, {} new SKUs, {} updated",
        stock.len(),
        imported.brands,
        imported.skus_new,
        imported.skus_updated
    )?;
    Ok(())
}

fn keys(config: &Path, command: Keys) -> Outcome {
    let dir = |folder: KeysFolder| match folder.dir {
        Some(dir) => Ok(dir),
        None => load(config).map(|config| config.keys.dir),
    };
    let mut out = out();
    match command {
        Keys::Init { folder, name } => {
            let dir = dir(folder)?;
            owner::check(&dir)?;
            keyring::init(&dir, &name, clock::now(), &mut rand::rng())?;
            writeln!(out, "made the keys in {}: back the folder up", dir.display())?;
            writeln!(out, "verifier key: {}", Keyring::load(&dir)?.verifier())?;
        }
        Keys::Show { folder } => writeln!(out, "{}", Keyring::load(&dir(folder)?)?.verifier())?,
        Keys::Rotate { kind, folder, days } => {
            let dir = dir(folder)?;
            owner::check(&dir)?;
            Keyring::load(&dir)?;
            let path = match kind {
                Rotated::Sealing => keyring::add_sealing(&dir, clock::now(), days, &mut rand::rng())?,
                Rotated::Kek => keyring::add_encryption(&dir, &mut rand::rng())?,
            };
            let path = path.display();
            writeln!(out, "made {path}: back it up, and copy it to the keys' folder of every other agent")?;
        }
    }
    Ok(())
}

async fn show_personal(config: &IdcConfig, order: &str, purpose: &str, json: bool) -> Outcome {
    let order: OrderId = order.parse().map_err(cli::usage)?;
    // The audit log could store only a part of a sentence, and a part may be misleading.
    let code = Word::new(purpose).map_err(|error| {
        cli::usage(format!(
            "--purpose must say why, in one word, such as TICKET_4711, which is recorded: the word {error}"
        ))
    })?;
    let keys = Keyring::load(&config.keys.dir)?;
    let ledger = open_tables(&config.ledger).await?;
    let found = ledger.personal(order).await?;
    let (_brand, at_rest) = found.ok_or_else(|| cli::failed("no personal data is held for this order"))?;
    let login = ledger.login().await?;
    let who = audit_log::account::own_with_login(login.as_deref());
    ledger.record_personal_access(order, purpose, who.as_str(), clock::now()).await?;
    let shown = Shown { order, purpose: code, who };
    let entry = Entry::new(clock::now(), Event::PersonalShown(shown));
    audit_log::append_for_command(&config.audit, &entry).await?;
    let personal = vault::decrypt(order, &at_rest, &keys)?;
    let mut out = out();
    if json {
        let members = personal.iter().map(|(field, value)| (field.column(), value.expose()));
        writeln!(out, "{}", json!({"order": order.to_string(), "personal": BTreeMap::from_iter(members)}))?;
        return Ok(());
    }
    for (field, value) in personal.iter() {
        // The text comes from a shopper, so control characters are escaped before they reach the
        // terminal. An address has several lines.
        let lines = value.expose().split('\n').map(|line| cli::shown(line).to_string());
        writeln!(out, "{}: {}", field.column(), lines.collect::<Vec<_>>().join(" / "))?;
    }
    Ok(())
}
