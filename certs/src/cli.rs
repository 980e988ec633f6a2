//! The command line: its arguments and its output.
//!
//! Role: one match arm for each command, with a call of the library and a few lines of text.
//! Neighbours: `authority` and `inspection` do the work. It prints results on standard output, and
//! warnings and errors on standard error. It never prints a key.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use bridge_console::{out, reader_is_gone, shown, shown_lines};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, value_parser};
use serde::Serialize;

use crate::{
    Authority, CertsError, Crl, DEFAULT_AGENT_DAYS, DEFAULT_CA_DAYS, DEFAULT_CRL_DAYS, DEFAULT_TRUST_DOMAIN,
    InitOptions, Inspection, IssueOptions, Issued, ListInspection, Revocation, RevocationStatus, Role,
    inspect, inspect_list,
};

/// Days before expiry at which `inspect` starts to warn.
const WARN_DAYS: i64 = 7;

/// Exit codes: 0 done, 1 failed, 2 impossible request.
const FAILED: u8 = 1;
const USAGE: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  bridge-certs init                           a new authority in ./pki
  bridge-certs issue cloud seoul              pki/cloud-seoul.pem and .key
  bridge-certs issue idc pangyo --days 7
  bridge-certs renew cloud seoul              a new key; the old certificate stays valid
  bridge-certs revoke cloud seoul             all of its certificates, in pki/crl.pem
  bridge-certs crl                            sign pki/crl.pem again before it is due
  bridge-certs inspect pki/cloud-seoul.pem
  bridge-certs inspect pki/crl.pem            when the next list is due

An agent is given its own .pem and .key, ca.pem and crl.pem. ca.key never leaves this machine.
Exit codes: 0 done, 1 failed, 2 wrong usage.";

/// Makes, renews, revokes and explains the certificates of a bridge's agents.
#[derive(Parser)]
#[command(name = "bridge-certs", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    /// Directory of the authority
    #[arg(long, global = true, value_name = "DIR", env = "BRIDGE_CERTS_DIR", default_value = "pki")]
    dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a new authority: ca.pem, ca.key and an empty crl.pem
    Init {
        /// Trust domain of all identities: spiffe://DOMAIN/...
        #[arg(long, value_name = "DOMAIN", default_value = DEFAULT_TRUST_DOMAIN)]
        trust_domain: String,
        /// Days the authority's own certificate is valid
        #[arg(long, default_value_t = DEFAULT_CA_DAYS, value_parser = value_parser!(u32).range(1..))]
        days: u32,
        /// Replace the existing authority: every certificate that it signed is void at once
        #[arg(long)]
        force: bool,
    },
    /// Issue the certificate and key of an agent
    Issue {
        #[command(flatten)]
        agent: AgentArgs,
        #[command(flatten)]
        validity: ValidityArgs,
        /// Replace the agent's certificate and key files
        #[arg(long)]
        force: bool,
    },
    /// Issue an agent's next certificate, with a new key; the old one stays valid until it ends
    Renew {
        #[command(flatten)]
        agent: AgentArgs,
        #[command(flatten)]
        validity: ValidityArgs,
    },
    /// Revoke every certificate an agent ever got and sign crl.pem again
    Revoke {
        #[command(flatten)]
        agent: AgentArgs,
    },
    /// Sign crl.pem again, unchanged, before it falls due
    Crl {
        /// Days until the next one is due
        #[arg(long, default_value_t = DEFAULT_CRL_DAYS, value_parser = value_parser!(u32).range(1..))]
        days: u32,
    },
    /// Explain a certificate or a revocation list
    Inspect {
        /// PEM file with the certificate or the list
        file: PathBuf,
        /// Revocation list to look it up in [default: crl.pem in the authority's directory, if
        /// there is one]
        #[arg(long, value_name = "FILE")]
        crl: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct AgentArgs {
    /// Role of the agent
    #[arg(value_parser = role())]
    role: Role,
    /// Its name: 1 to 63 of a-z, 0-9 and '-'
    name: String,
}

#[derive(Args)]
struct ValidityArgs {
    /// Days it is valid
    #[arg(long, default_value_t = DEFAULT_AGENT_DAYS, value_parser = value_parser!(u32).range(1..))]
    days: u32,
}

/// Parses the role. A cloud agent accepts only IDC identities, and the reverse.
fn role() -> impl TypedValueParser<Value = Role> {
    let value = |role: Role, help: &'static str| PossibleValue::new(role.as_str()).help(help);
    let values = [
        value(Role::Cloud, "`bridge-cloud`, beside the storefront"),
        value(Role::Idc, "`bridge-idc`, beside the database"),
    ];
    PossibleValuesParser::new(values).try_map(|text| Role::parse(&text).ok_or("it is neither of them"))
}

/// Reasons why a command failed.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Certs(#[from] CertsError),
    #[error("cannot print the result: {0}")]
    Print(#[from] io::Error),
}

/// Runs the command in this process's arguments.
pub fn run() -> ExitCode {
    let Cli { dir, command } = Cli::parse();
    let mut out = out();
    let done = execute(&dir, command, &mut out, &mut io::stderr());
    match done.and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of the output has closed it: `bridge-certs inspect ... | head`.
        Err(error) if reader_is_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed too, nobody can be told.
            let _ = writeln!(io::stderr(), "error: {}", shown_lines(&error.to_string()));
            ExitCode::from(if matches!(&error, CliError::Certs(error) if error.is_usage()) {
                USAGE
            } else {
                FAILED
            })
        }
    }
}

fn execute(
    dir: &Path,
    command: Command,
    out: &mut impl Write,
    warnings: &mut impl Write,
) -> Result<(), CliError> {
    match command {
        Command::Init { trust_domain, days, force } => {
            let authority = Authority::init(dir, &InitOptions { trust_domain, days, force })?;
            writeln!(out, "authority    {}", authority.ca().trust_domain())?;
            writeln!(out, "valid        {}", authority.ca().validity())?;
            print_crl(&authority.crl()?, out)?;
            writeln!(out, "Keep {} on this machine, and back it up.", dir.join("ca.key").display())?;
        }
        Command::Issue { agent: AgentArgs { role, name }, validity: ValidityArgs { days }, force } => {
            let authority = Authority::open(dir)?;
            let issued =
                authority.issue(role, &name, &IssueOptions { days, force, ..IssueOptions::default() })?;
            print_issued(&authority, role, &name, &issued, out)?;
        }
        Command::Renew { agent: AgentArgs { role, name }, validity: ValidityArgs { days } } => {
            let authority = Authority::open(dir)?;
            let renewal = authority.renew(role, &name, &IssueOptions { days, ..IssueOptions::default() })?;
            print_issued(&authority, role, &name, &renewal.issued, out)?;
            for old in renewal.still_valid {
                writeln!(out, "still valid  {}, {}", old.serial, old.validity)?;
            }
        }
        Command::Revoke { agent: AgentArgs { role, name } } => {
            let Revocation { newly_revoked, crl } = Authority::open(dir)?.revoke(role, &name)?;
            if newly_revoked.is_empty() {
                writeln!(out, "All certificates of {role} {name} were revoked before.")?;
            }
            for serial in newly_revoked {
                writeln!(out, "revoked      {serial}")?;
            }
            print_crl(&crl, out)?;
            writeln!(out, "It takes effect where the new {} arrives.", dir.join("crl.pem").display())?;
        }
        Command::Crl { days } => print_crl(&Authority::open(dir)?.refresh_crl(days)?, out)?,
        Command::Inspect { file, crl, json } => {
            let now = SystemTime::now();
            if let Some(list) = inspect_list(&file, now)? {
                if json {
                    print_json(&list, out)?;
                } else {
                    print_list(&list, out)?;
                }
                warn_of_list(&file, &list, warnings)?;
                return Ok(());
            }
            let crl = crl.or_else(|| Some(dir.join("crl.pem")).filter(|path| path.exists()));
            let inspection = inspect(&file, crl.as_deref(), now)?;
            if json {
                print_json(&inspection, out)?;
            } else {
                print_inspection(&inspection, out)?;
            }
            warn(&file, &inspection, now, warnings)?;
        }
    }
    Ok(())
}

fn print_issued(
    authority: &Authority,
    role: Role,
    name: &str,
    issued: &Issued,
    out: &mut impl Write,
) -> Result<(), CliError> {
    writeln!(out, "identity     {}", issued.spiffe_id.as_deref().unwrap_or("none"))?;
    writeln!(out, "serial       {}", issued.serial)?;
    writeln!(out, "valid        {}", issued.validity)?;
    writeln!(out, "certificate  {}", authority.certificate_path(role, name)?.display())?;
    writeln!(out, "key          {}", authority.key_path(role, name)?.display())?;
    Ok(())
}

fn print_crl(crl: &Crl, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "revocations  list {} with {} entries, valid {}",
        crl.number,
        crl.revoked.len(),
        crl.validity
    )
}

fn print_json(inspection: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, inspection)?;
    writeln!(out)
}

fn print_list(list: &ListInspection, out: &mut impl Write) -> io::Result<()> {
    // The maker of the list wrote this text.
    writeln!(out, "issuer       {}", shown(&list.issuer))?;
    writeln!(out, "number       {}", list.number)?;
    writeln!(out, "valid        {} ({} days left)", list.validity, list.days_left)?;
    list.revoked.iter().try_for_each(|serial| writeln!(out, "revoked      {serial}"))
}

fn warn_of_list(path: &Path, list: &ListInspection, warnings: &mut impl Write) -> io::Result<()> {
    let (path, days) = (path.display(), list.days_left);
    match days {
        ..0 => writeln!(warnings, "warning: {path} is overdue: sign it again now with `bridge-certs crl`"),
        0..WARN_DAYS => {
            writeln!(warnings, "warning: {path} has {days} days left: sign it again with `bridge-certs crl`")
        }
        _ => Ok(()),
    }
}

fn print_inspection(inspection: &Inspection, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "identity     {}", shown(inspection.spiffe_id.as_deref().unwrap_or("none")))?;
    // The maker of the certificate wrote these texts.
    writeln!(out, "subject      {}", shown(&inspection.subject))?;
    writeln!(out, "issuer       {}", shown(&inspection.issuer))?;
    writeln!(out, "serial       {}", inspection.serial)?;
    writeln!(out, "valid        {} ({} days left)", inspection.validity, inspection.days_left)?;
    writeln!(out, "fingerprint  SHA-256 {}", inspection.fingerprint_sha256)?;
    writeln!(out, "key          {}", inspection.key_algorithm)?;
    writeln!(out, "revocation   {}", inspection.revocation)
}

fn warn(path: &Path, inspection: &Inspection, now: SystemTime, warnings: &mut impl Write) -> io::Result<()> {
    let path = path.display();
    if inspection.revocation == RevocationStatus::Revoked {
        writeln!(warnings, "warning: {path} is revoked: no agent accepts it")?;
    }
    if now < inspection.validity.not_before() {
        writeln!(warnings, "warning: {path} is not valid yet: is the clock of this machine right?")?;
    }
    match inspection.days_left {
        ..0 => writeln!(warnings, "warning: {path} is expired: renew it now"),
        0..WARN_DAYS => {
            writeln!(warnings, "warning: {path} has {} days left: renew it", inspection.days_left)
        }
        _ => Ok(()),
    }
}
