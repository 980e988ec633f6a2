//! The command line of bridge-cloud.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bridge_protocol::domain::identity::Role;
use bridge_runtime::cli::{self, Outcome};
use bridge_runtime::config::Reader;
use bridge_runtime::telemetry::{self, Service};
use bridge_runtime::{audit_log, check, config, hardening};
use clap::{Parser, Subcommand};

use crate::config::CloudConfig;
use crate::currencies;
use crate::serve;

#[derive(Parser)]
#[command(
    name = "bridge-cloud",
    version,
    about = "Stands beside the storefront: relays orders to the data centre, their personal data sealed.",
    after_help = "Examples:\n  bridge-cloud check --config bridge-cloud.toml\n  bridge-cloud serve --config bridge-cloud.toml\n  \
                  bridge-cloud status --config bridge-cloud.toml\n\nExit codes: 0 done, 1 failed, 2 usage or configuration."
)]
struct Arguments {
    /// Configuration file; samples/bridge-cloud.toml explains every key.
    #[arg(long, value_name = "FILE", default_value = "bridge-cloud.toml", global = true)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM, then drain and exit 0.
    Serve,
    /// Check the configuration and all files that it names, and print all mistakes. The other side
    /// is not asked: `/readyz` and `status` show it.
    Check {
        /// Print the effective configuration without secrets.
        #[arg(long)]
        print_config: bool,
    },
    /// Show the state of the running agent.
    Status {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Read, verify, prove and compare the append-only log of what passed the tunnel.
    Audit(audit_log::command::Audit),
}

/// Runs the command in this process's arguments.
pub fn run() -> ExitCode {
    cli::exit(execute(Arguments::parse()))
}

fn execute(Arguments { config, command }: Arguments) -> Outcome {
    match command {
        Command::Serve => {
            let config = load(&config)?;
            hardening::forbid_core_dumps()?;
            let service = Service { name: "bridge-cloud", instance: &config.agent.name };
            let _telemetry = telemetry::init(&config.log, &service)?;
            cli::serve(serve::serve(config))?;
        }
        Command::Check { print_config } => {
            let loaded = CloudConfig::load_and_check(&config, config::environment(), check_files);
            let loaded = loaded.map_err(cli::usage)?;
            let effective = print_config.then_some(loaded.effective.as_str());
            cli::checked(&config, &loaded.warnings, effective)?;
        }
        Command::Status { json } => {
            cli::runtime()?.block_on(cli::status(load(&config)?.admin.listen, json))?
        }
        Command::Audit(command) => audit_log::command::run(command, || Ok(load(&config)?.audit))?,
    }
    Ok(())
}

/// Adds the mistakes in the files and folders that the configuration names.
fn check_files(config: &CloudConfig, reader: &mut Reader) {
    check::files(reader, Role::Cloud, &config.agent, &config.audit, &config.tunnel);
    reader.refuse_each("sealing.verifier_keys", serve::key_mistakes(&config.sealing.verifier_keys));
    let snapshot = serve::snapshot_file(&config.agent.state_dir);
    for (setting, mistake) in currencies::check(&serve::currencies_of(&config.brands), &snapshot) {
        reader.refuse(&setting, mistake);
    }
}

fn load(path: &Path) -> Result<CloudConfig, cli::Failure> {
    CloudConfig::load(path, config::environment()).map_err(cli::usage)
}
