//! `audit ...` of both command lines: read the log, verify it, prove an entry, compare logs.
//!
//! The commands only read, except that `copy` writes its copy. With `--dir` and `--key` they need
//! neither an agent nor its configuration.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bridge_protocol::audit::entry::Event;
use bridge_protocol::audit::finding::{Finding, Unverified};
use bridge_protocol::audit::verify::{Verified, is_newest, verify, verify_copied, verify_growing};
use bridge_protocol::audit::{Entry, folder, prove};
use bridge_protocol::domain::OrderId;
use bridge_protocol::note::NoteVerifier;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::seen_checkpoint::note_beside;
use super::{Disk, load_key};
use crate::cli::{self, Failure, Outcome};
use crate::config::AuditConfig;
use reading::Entries;

// Copying a log.
mod copy;

/// Logs that are given for a comparison.
pub mod logs;

// Reading entries.
mod reading;

// Comparing the logs of both sides.
mod reconcile;

// Showing one entry, or all entries of an order.
mod show;

/// Interval at which a followed log is read.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Number of attempts to read a log that its agent writes, because it may change between two reads.
const LOOKS: usize = 5;

/// Limit of a checkpoint's or proof's size.
const NOTE_BYTES_MAX: u64 = 64 << 10;

/// Examples for the help text of these commands, without the first line.
pub const HELP: &str = "  audit tail --follow --kind order-sent\n  audit show --order 0193e4a2-0000-7000-8000-000000000001\n  \
                  audit key                                # the line to give an auditor\n  \
                  audit verify --dir /srv/copy/audit --key 'bridge.internal/idc/seoul-1+1f2e3d4c+BASE64'\n  \
                  audit copy /srv/copy/audit               # of a log that is being written, too\n  \
                  audit prove 4711 > 4711.tlog-proof\n  audit check 4711.tlog-proof --key 'bridge.internal/...'\n  \
                  audit reconcile cloud-1/audit cloud-2/audit idc-1/audit idc-2/audit --key '...' --key '...'\n\n\
                  Exit codes: 0 done and nothing wrong, 1 something is wrong with the log, 2 usage or configuration, or a copy that says nothing.";

/// Commands about an audit log, for a command line of its own or for an agent's.
#[derive(Args)]
#[command(after_help = format!("Examples:\n{HELP}"))]
pub struct Audit {
    #[command(subcommand)]
    command: Command,
}

impl From<Audit> for Command {
    fn from(Audit { command }: Audit) -> Self {
        command
    }
}

/// One command about an audit log.
#[derive(Subcommand)]
#[expect(missing_docs, reason = "a comment at what several commands share would be the help of each")]
pub enum Command {
    /// Show the last entries.
    Tail {
        #[command(flatten)]
        at: LogChoice,
        /// Number of entries.
        #[arg(short = 'n', long, default_value_t = 10)]
        lines: u64,
        /// Show new entries as they come.
        #[arg(long)]
        follow: bool,
        /// Only entries of this kind.
        #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(Event::KINDS))]
        kind: Option<String>,
        /// Print one JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// Show one entry, or all entries of an order.
    Show {
        /// Number of the entry in the log, from 0: the first field of each line of `tail`. It is
        /// not the order's id.
        entry: Option<u64>,
        /// Show all entries of this order instead, and those of every other attempt under its
        /// idempotency keys. The whole log is read.
        #[arg(long, value_name = "ID", conflicts_with = "entry")]
        order: Option<OrderId>,
        #[command(flatten)]
        at: LogChoice,
        /// Print a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Verify the whole log, and name the first entry that was changed, removed, reordered or cut
    /// off.
    Verify {
        #[command(flatten)]
        at: LogChoice,
        #[command(flatten)]
        key: Key,
        /// An earlier checkpoint of this log that was kept elsewhere. The log must still begin with
        /// it.
        #[arg(long, value_name = "FILE")]
        seen: Option<PathBuf>,
        /// Print a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Copy everything that the newest checkpoint covers, and verify it on the way. An earlier copy
    /// is brought up to date. Other tools copy the files of a live log at different moments.
    Copy {
        /// Target folder; it is made if it is missing.
        to: PathBuf,
        #[command(flatten)]
        at: LogChoice,
        #[command(flatten)]
        key: Key,
    },
    /// Print a proof (c2sp.org/tlog-proof) that an entry is in the log.
    Prove {
        /// Number of the entry in the log, from 0, as `tail` and `show --order` print it.
        entry: u64,
        #[command(flatten)]
        at: LogChoice,
        #[command(flatten)]
        key: Key,
    },
    /// Check a proof without the log, and show its entry.
    Check {
        /// File with the proof.
        proof: PathBuf,
        #[command(flatten)]
        key: Key,
        /// Print a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Compare the logs of all agents at both ends of a tunnel.
    Reconcile(reconcile::Reconcile),
    /// Print the verifier key of this agent's log.
    Key,
}

/// Choice of the log.
#[derive(Args)]
pub struct LogChoice {
    /// Folder of the log; default: audit.dir of the configuration.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Choice of the verifier key.
#[derive(Args)]
pub struct Key {
    /// Verifier key of the log, as `audit key` prints it; default: the key of the configuration.
    #[arg(long, value_name = "VKEY")]
    key: Option<String>,
}

/// Runs a command. `config` is called only for settings that the command line leaves out.
///
/// # Errors
///
/// Fails if the command fails, or if its input or the configuration is wrong.
pub fn run(asked: impl Into<Command>, config: impl Fn() -> Result<AuditConfig, Failure>) -> Outcome {
    let verifier = |key: Key| match key.key {
        Some(key) => NoteVerifier::parse(&key).map_err(cli::usage),
        None => own_key(&config().map_err(needs_key)?),
    };
    match asked.into() {
        Command::Tail { at, lines, follow, kind, json } => {
            tail(&place(at, &config)?, lines, follow, kind.as_deref(), json)
        }
        Command::Show { entry: Some(entry), at, json, .. } => show::entry(&place(at, &config)?, entry, json),
        Command::Show { order: Some(order), at, json, .. } => show::order(&place(at, &config)?, order, json),
        Command::Show { .. } => Err(cli::usage("give an entry's number, or --order with an order's id")),
        Command::Verify { at, key, seen, json } => {
            let seen = seen.map(|path| read(&path)).transpose()?;
            let (is_own, key) = (at.dir.is_none(), verifier(key)?);
            // This is read before the log. So the checkpoint beside the key is never ahead of the
            // log.
            let seen = match seen {
                None if is_own => note_beside(&config()?.key_file, &key),
                seen => seen,
            };
            check_log(&place(at, &config)?, &key, seen.as_deref(), json)
        }
        Command::Copy { to, at, key } => copy::copy(&place(at, &config)?, &verifier(key)?, &to),
        Command::Prove { entry, at, key } => {
            let (place, key) = (place(at, &config)?, verifier(key)?);
            let proof = look(&place.disk, || prove::prove(&place.disk, &key, entry));
            let proof = proof.map_err(|found| reading::needs_its_end(&place, found))?;
            let none =
                || cli::failed(format!("entry {entry} is under no checkpoint yet: ask again in a second"));
            cli::out().write_all(proof.ok_or_else(none)?.as_bytes())?;
            Ok(())
        }
        Command::Check { proof, key, json } => {
            let text = String::from_utf8(read(&proof)?).unwrap_or_default();
            let proven = prove::check(&text, &verifier(key)?).map_err(cli::failed)?;
            let (origin, size) = (&proven.checkpoint.origin, proven.checkpoint.size);
            if !json {
                writeln!(
                    cli::out(),
                    "entry {} of {size} in {}, as its log signed it:",
                    proven.index,
                    cli::shown(origin)
                )?;
            }
            print(&mut cli::out(), proven.index, &proven.entry, json)?;
            Ok(())
        }
        Command::Reconcile(asked) => reconcile::reconcile(asked),
        Command::Key => {
            writeln!(cli::out(), "{}", own_key(&config()?)?)?;
            Ok(())
        }
    }
}

/// A log's folder, which may be a copy.
struct LogFolder {
    disk: Disk,
    /// Set if the user named the folder. Only such a folder may count as a copy: an attacker who
    /// can write to the agent's own folder could make it look like a copy, and hide that an old
    /// checkpoint was put back.
    named: bool,
}

impl LogFolder {
    fn is_copy(&self) -> bool {
        self.named && self.disk.is_copy()
    }
}

fn place(at: LogChoice, config: impl Fn() -> Result<AuditConfig, Failure>) -> Result<LogFolder, Failure> {
    let named = at.dir.is_some();
    let dir = at.dir.map_or_else(|| config().map(|config| config.dir), Ok)?;
    Ok(LogFolder { disk: existing(dir)?, named })
}

fn existing(dir: PathBuf) -> Result<Disk, Failure> {
    if dir.is_dir() {
        Ok(Disk::new(dir))
    } else {
        Err(cli::usage(format!("{}: there is no such folder: --dir names the audit log's", dir.display())))
    }
}

/// Adds to the failure to read a configuration how to do without one.
fn needs_key(failure: Failure) -> Failure {
    match failure {
        Failure::Usage(what) => cli::usage(format!(
            "{what}\nno configuration is needed with --key (the line of `audit key` at the log's agent) and --dir"
        )),
        other => other,
    }
}

fn own_key(config: &AuditConfig) -> Result<NoteVerifier, Failure> {
    load_key(&config.key_file).map(|signer| signer.verifier().clone()).map_err(|error| {
        cli::usage(format!("{error}; the agent makes it at its first start, and --key takes a verifier key"))
    })
}

/// Reads a checkpoint or a proof, which may come through a pipe.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let usage = |what: &dyn std::fmt::Display| cli::usage(format!("{}: {what}", path.display()));
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(NOTE_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| usage(&error))?;
    if bytes.len() as u64 > NOTE_BYTES_MAX {
        return Err(usage(&"is neither a checkpoint nor a proof: it is too long"));
    }
    Ok(bytes)
}

/// Returns the time of the log's last checkpoint.
fn stamp(disk: &Disk) -> Option<SystemTime> {
    fs::metadata(disk.path(folder::CHECKPOINT)).and_then(|file| file.modified()).ok()
}

/// Reads again while the log changes between two reads.
fn look<T>(disk: &Disk, look: impl Fn() -> Result<T, Unverified>) -> Result<T, Unverified> {
    let stamp = || stamp(disk);
    let mut found;
    let mut looks = 0;
    loop {
        let before = stamp();
        found = look();
        looks += 1;
        if found.is_ok() || looks >= LOOKS || stamp() == before && looks >= 3 {
            return found;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn tail(place: &LogFolder, lines: u64, follow: bool, kind: Option<&str>, json: bool) -> Outcome {
    let is_wanted = |entry: &[u8]| {
        kind.is_none_or(|kind| Entry::parse(entry).is_ok_and(|entry| entry.event.kind() == kind))
    };
    let from = |entries: &Entries<'_>, first: u64, lines: u64| {
        let mut last = VecDeque::new();
        let next = entries.each(first, |index, entry| {
            if is_wanted(entry) {
                last.push_back((index, entry.to_vec()));
                if last.len() as u64 > lines {
                    last.pop_front();
                }
            }
        })?;
        Ok((last, next))
    };
    let read_last = |entries: &Entries<'_>| {
        // Entries of one kind may be anywhere. Without a kind, reading the last ones is enough.
        let first = if kind.is_none() { entries.published()?.saturating_sub(lines) } else { 0 };
        from(entries, first, lines)
    };
    let ((mut last, mut next), entries) = reading::read(place, read_last)?;
    let mut out = cli::out();
    loop {
        for (index, entry) in last {
            print(&mut out, index, &entry, json)?;
        }
        if !follow || entries.left_out().is_some() {
            out.flush()?;
            entries.tell_left_out();
            return Ok(());
        }
        out.flush()?;
        std::thread::sleep(LOOK_EVERY);
        (last, next) = look(&place.disk, || from(&entries, next, u64::MAX)).map_err(cli::failed)?;
    }
}

/// Prints one line for an entry: index, time, kind, facts.
fn print(out: &mut impl io::Write, index: u64, bytes: &[u8], json: bool) -> io::Result<()> {
    let value: Value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
    if json {
        return writeln!(out, "{}", json!({"index": index, "entry": value}));
    }
    let Ok(entry) = Entry::parse(bytes) else {
        return writeln!(out, "{index:>8}  not an entry that this version reads: {} bytes", bytes.len());
    };
    let facts = value.get("facts").and_then(Value::as_object).into_iter().flatten().map(|(name, fact)| {
        let fact = fact.as_str().map_or_else(|| fact.to_string(), str::to_owned);
        format!(" {}={}", cli::shown(name), cli::shown(&fact))
    });
    writeln!(out, "{index:>8}  {}  {}{}", entry.at, entry.event.kind(), facts.collect::<String>())
}

fn check_log(place: &LogFolder, key: &NoteVerifier, seen: Option<&[u8]>, json: bool) -> Outcome {
    let checked = verified(place, key, seen);
    let copied = checked.as_ref().ok().filter(|verified| verified.in_flight && place.is_copy());
    let later = copied.and_then(|copied| later_checkpoint(&place.disk, copied));
    let mut out = cli::out();
    match checked {
        Ok(verified) if json => writeln!(out, "{}", verified_json(&verified, later))?,
        Ok(Verified { checkpoint, unpublished, torn, in_flight, ends_before, lacks }) => {
            let origin = cli::shown(&checkpoint.origin);
            writeln!(out, "{origin}: {} entries are as they were logged", checkpoint.size)?;
            if unpublished > 0 {
                writeln!(out, "{unpublished} more are durable and not under a checkpoint yet")?;
            }
            if in_flight {
                writeln!(
                    out,
                    "it was copied while it was written, or is written now: what lies beyond its checkpoint was not looked at; \
                     `audit copy` makes a copy of one moment"
                )?;
            }
            if let Some(newest) = ends_before {
                writeln!(
                    out,
                    "it ends before its newest checkpoint, of {newest} entries, which was copied after the rest, or its end was cut off: \
                     --seen with a checkpoint that you keep elsewhere tells whether all of that is in it"
                )?;
            }
            if let Some(first) = lacks.first() {
                writeln!(
                    out,
                    "{} files of its last entries are not in it, or not whole, such as {first}: the entries are there, and `audit prove` \
                     needs the files",
                    lacks.len()
                )?;
            }
            if let Some(later) = later {
                writeln!(
                    out,
                    "something in it is of a later checkpoint, of {later} entries at least: that came out while it was copied, or the one \
                     in it was put back; --seen with a checkpoint that you keep elsewhere tells which"
                )?;
            }
            if torn {
                writeln!(out, "the last record is incomplete; it was acknowledged to nobody")?;
            }
        }
        Err(unverified) => {
            if json {
                let finding = unverified.finding();
                let entry = finding.and_then(Finding::entry);
                let code = finding.map_or("unreadable", Finding::code);
                let text = unverified.to_string();
                // The exit code does not depend on a successful write.
                let found = json!({"verified": false, "finding": code, "entry": entry, "text": text});
                let _read_or_not = writeln!(out, "{found}");
            }
            return Err(match unverified {
                // The log may be good; only the copy was made wrongly.
                Unverified::Found(ends @ Finding::EndsEarly { .. }) => cli::usage(ends),
                unverified => cli::failed(unverified),
            });
        }
    }
    Ok(())
}

/// Verifies a whole log, or of a copy that was made while the log was written, the part that its
/// checkpoint covers.
fn verified(place: &LogFolder, key: &NoteVerifier, seen: Option<&[u8]>) -> Result<Verified, Unverified> {
    let disk = &place.disk;
    let before = stamp(disk);
    let found = match look(disk, || verify(disk, key, seen)) {
        Err(found @ Unverified::Found(_)) => found,
        checked => return checked,
    };
    if place.is_copy() {
        verify_copied(disk, key, seen).map_err(|copied| match copied {
            // The log may be good; only the copy was made wrongly.
            Unverified::Found(Finding::EndsEarly { .. }) => copied,
            // The result for a whole log describes the fault better.
            _ => found,
        })
    } else if stamp(disk) != before {
        look(disk, || verify_growing(disk, key, seen))
    } else {
        Err(found)
    }
}

/// Returns the size of a later checkpoint than the copy's own, if something in the copy shows one.
fn later_checkpoint(copy: &Disk, verified: &Verified) -> Option<u64> {
    let newest = verified.ends_before.unwrap_or(verified.checkpoint.size);
    let journal = folder::journal_so_far(copy, newest).ok()?;
    match is_newest(copy, newest, None, &journal) {
        Err(Unverified::Found(Finding::PutBack { later, .. })) => Some(later),
        _ => None,
    }
}

fn verified_json(
    Verified { checkpoint, unpublished, torn, in_flight, ends_before, lacks }: &Verified,
    later: Option<u64>,
) -> Value {
    let root: String = checkpoint.root.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "verified": true,
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": root,
        "unpublished": unpublished,
        "torn": torn,
        "in_flight": in_flight,
        "ends_before": ends_before,
        "lacks": lacks,
        "later": later,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(subcommand)]
        command: Command,
    }

    #[test]
    fn without_key_and_configuration_a_command_asks_for_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().display().to_string();
        for arguments in [&["verify", "--dir", &folder][..], &["prove", "7", "--dir", &folder]] {
            let line = CommandLine::parse_from(["audit"].iter().chain(arguments));
            let failure = run(line.command, || Err(cli::usage("bridge-idc.toml: cannot be read")));
            let Err(Failure::Usage(said)) = failure else { panic!("{arguments:?} is no usage error") };
            assert!(said.to_string().contains("with --key"), "{said}");
        }
    }
}
