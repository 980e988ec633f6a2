//! `audit reconcile`: any number of logs of both sides, each verified by its key where keys are given, then compared.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::PathBuf;

use bridge_protocol::audit::entry::Word;
use bridge_protocol::audit::finding::{Finding, Unverified};
use bridge_protocol::audit::folder::Folder as _;
use bridge_protocol::audit::reconcile::{Difference, LogId, Reconciled, Reconciler, Side};
use bridge_protocol::audit::verify::{verify, verify_copied};
use bridge_protocol::audit::{Checkpoint, Entry, folder};
use bridge_protocol::note::NoteVerifier;
use clap::Args;
use serde_json::{Value, json};

use super::{Disk, existing, look};
use crate::cli::{self, Failure, Outcome};

/// What is compared.
#[derive(Args)]
pub(super) struct Reconcile {
    /// Their folders, of all agents of both sides, in any order: which side's a log is, it says itself.
    #[arg(required = true, num_args = 2.., value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// A log's verifier key, as `audit key` prints it; one for each log. Then each log is verified first, and what its checkpoint
    /// signs is compared. Without keys nothing is verified.
    #[arg(long = "key", value_name = "VKEY")]
    keys: Vec<String>,
    /// As a JSON object.
    #[arg(long)]
    json: bool,
}

/// One of the logs.
struct Given {
    folder: String,
    disk: Disk,
    /// The name in its checkpoint; none while it has no checkpoint.
    origin: String,
    side: Side,
    /// Entries that its key signs, if it is verified.
    signed: Option<u64>,
}

/// What came out.
struct Compared {
    logs: Vec<Given>,
    reconciled: Reconciled,
    /// Entries in no form that this version reads.
    unread: u64,
}

/// Compares.
pub(super) fn reconcile(Reconcile { folders, keys, json }: Reconcile) -> Outcome {
    let keys: Vec<NoteVerifier> =
        keys.iter().map(|key| NoteVerifier::parse(key)).collect::<Result<_, _>>().map_err(cli::usage)?;
    let disks = folders.into_iter().map(existing_log).collect::<Result<Vec<_>, _>>()?;
    let logs: Vec<Given> = disks.into_iter().map(given).collect::<Result<_, _>>()?;
    distinct(&logs)?;
    both_sides(&logs)?;
    let check = |log| if keys.is_empty() { Ok(log) } else { verified(log, &keys, json) };
    let compared = compare(logs.into_iter().map(check).collect::<Result<_, _>>()?)?;
    let told = tell(&compared, json);
    // The verdict does not depend on whether somebody reads it.
    let Reconciled { differences, not_given, .. } = &compared.reconciled;
    match (differences.len(), not_given.len()) {
        (0, 0) => Ok(told?),
        (0, requests) => Err(cli::usage(format!(
            "{requests} requests cannot be compared without the logs of {}: give their folders as well",
            agents(&compared.reconciled)
        ))),
        (count, _) => Err(cli::failed(format!("the logs differ about {count} requests"))),
    }
}

fn existing_log(folder: PathBuf) -> Result<(String, Disk), Failure> {
    Ok((folder.display().to_string(), existing(folder)?))
}

/// Whose log this is, by its checkpoint, or by its entries where it is called otherwise.
fn given((folder, disk): (String, Disk)) -> Result<Given, Failure> {
    let note = disk.read(folder::CHECKPOINT).map_err(cli::failed)?;
    let checkpoint = note.and_then(|note| Checkpoint::unverified(&note));
    let origin = checkpoint.map(|checkpoint| checkpoint.origin).unwrap_or_default();
    let side = match Side::of_origin(&origin) {
        Some(side) => Some(side),
        None => side_by_entries(&disk)?,
    };
    let unknown = || {
        let origin = if origin.is_empty() { "none" } else { &origin };
        cli::usage(format!(
            "{folder}: whether it is the log of a cloud agent or of an IDC agent, neither its checkpoint (origin: {origin}) nor an \
             entry says"
        ))
    };
    let side = side.ok_or_else(unknown)?;
    Ok(Given { folder, disk, origin, side, signed: None })
}

fn side_by_entries(disk: &Disk) -> Result<Option<Side>, Failure> {
    let mut side = None;
    let take = |_, bytes: &[u8]| {
        if side.is_none() {
            side = Entry::parse(bytes).ok().and_then(|entry| Side::of_event(&entry.event));
        }
    };
    folder::entries(disk, 0, take).map_err(cli::failed)?;
    Ok(side)
}

/// A log is given once: a second copy of it would be another agent's word. The first entry, with its time, tells.
fn distinct(logs: &[Given]) -> Outcome {
    let mut firsts: BTreeMap<Vec<u8>, &Given> = BTreeMap::new();
    for log in logs {
        let Some(first) = first_entry(&log.disk)? else { continue };
        if let Some(known) = firsts.insert(first, log) {
            return Err(cli::usage(format!(
                "{} and {} are of one log ({}): give each log once",
                known.folder, log.folder, log.origin
            )));
        }
    }
    Ok(())
}

fn first_entry(disk: &Disk) -> Result<Option<Vec<u8>>, Failure> {
    let note = disk.read(folder::CHECKPOINT).map_err(cli::failed)?;
    let size = note.and_then(|note| Checkpoint::unverified(&note)).map_or(0, |checkpoint| checkpoint.size);
    if size > 0 {
        return Ok(folder::bundle(disk, size, 0).map_err(cli::failed)?.into_iter().next());
    }
    let mut first = None;
    folder::entries(disk, 0, |_, bytes| {
        first.get_or_insert_with(|| bytes.to_vec());
    })
    .map_err(cli::failed)?;
    Ok(first)
}

fn both_sides(logs: &[Given]) -> Outcome {
    let Some(first) = logs.first() else { return Ok(()) };
    if logs.iter().any(|log| log.side != first.side) {
        return Ok(());
    }
    let (these, others) = (agent_of(first.side), agent_of(first.side.other()));
    let list: Vec<String> =
        logs.iter().map(|log| format!("{} ({})", log.folder, named(&log.origin))).collect();
    Err(cli::usage(format!(
        "all of these are logs of {these} agents: {}; give those of {others} agents as well",
        list.join(", ")
    )))
}

fn named(origin: &str) -> &str {
    if origin.is_empty() { "without a checkpoint" } else { origin }
}

fn agent_of(side: Side) -> &'static str {
    match side {
        Side::Cloud => "cloud",
        Side::Idc => "IDC",
    }
}

/// A log by a key of its name. One that was begun anew has another key under the same name.
fn verified(log: Given, keys: &[NoteVerifier], json: bool) -> Result<Given, Failure> {
    let mut found = None;
    let mut size = None;
    for key in keys.iter().filter(|key| key.name() == log.origin) {
        match signed(&log.disk, key) {
            Ok(entries) => size = Some(entries),
            Err(unverified) => found = Some(unverified),
        }
    }
    if size.is_some() {
        return Ok(Given { signed: size, ..log });
    }
    let Some(unverified) = found else {
        return Err(cli::usage(format!(
            "{}: no --key is of this log ({}): `audit key` prints it on its agent's host",
            log.folder,
            named(&log.origin)
        )));
    };
    if json {
        let finding = unverified.finding();
        let code = finding.map_or("unreadable", Finding::code);
        let (entry, text) = (finding.and_then(Finding::entry), unverified.to_string());
        let found = json!({
            "verified": false, "folder": log.folder, "finding": code, "entry": entry, "text": text,
        });
        // The verdict does not depend on whether somebody reads this.
        let _read_or_not = writeln!(cli::out(), "{found}");
    }
    Err(cli::failed(format!("{}: {unverified}", log.folder)))
}

/// Entries under a checkpoint that this key signed, all of which are as they were logged.
fn signed(disk: &Disk, key: &NoteVerifier) -> Result<u64, Unverified> {
    let checked = look(disk, || verify(disk, key, None));
    let verified = match checked {
        // A copy that was made while the log was written: what its checkpoint covers.
        Err(found @ Unverified::Found(_)) if disk.is_copy() => {
            verify_copied(disk, key, None).map_err(|_| found)?
        }
        checked => checked?,
    };
    Ok(verified.checkpoint.size)
}

fn compare(logs: Vec<Given>) -> Result<Compared, Failure> {
    let mut reconciler = Reconciler::new();
    let ids: Vec<LogId> = logs.iter().map(|log| reconciler.log(log.side, &log.origin)).collect();
    let mut unread = 0;
    // The side that receives first: what it has, the other one has sent before.
    for side in [Side::Idc, Side::Cloud] {
        for (log, id) in logs.iter().zip(&ids).filter(|(log, _)| log.side == side) {
            read(log, |bytes| match Entry::parse(bytes) {
                Ok(entry) => reconciler.take(*id, &entry),
                Err(_) => unread += 1,
            })
            .map_err(|error| cli::failed(format!("{}: {error}", log.folder)))?;
            if let Some(entry) = reconciler.foreign_entry(*id) {
                return Err(cli::usage(format!(
                    "{}: it is called a log of the {} side ({}), and entry {entry} is one that only agents of the other side log",
                    log.folder,
                    agent_of(side),
                    named(&log.origin)
                )));
            }
        }
    }
    Ok(Compared { logs, reconciled: reconciler.finish(), unread })
}

/// What is signed of a log that is verified, or all of one that is not.
fn read(Given { disk, signed, .. }: &Given, mut take: impl FnMut(&[u8])) -> Result<(), Unverified> {
    let Some(size) = *signed else {
        return folder::entries(disk, 0, |_, bytes| take(bytes)).map(drop);
    };
    let (mut index, mut read) = (0, 0);
    while read < size {
        let entries = folder::bundle(disk, size, index)?;
        entries.iter().for_each(|entry| take(entry));
        read += entries.len() as u64;
        index += 1;
    }
    Ok(())
}

fn tell(compared: &Compared, json: bool) -> io::Result<()> {
    let mut out = cli::out();
    if json {
        return writeln!(out, "{}", compared_json(compared));
    }
    let Compared { logs, reconciled, unread } = compared;
    for log in logs {
        let (side, origin) = (agent_of(log.side), cli::shown(named(&log.origin)));
        let state = match log.signed {
            Some(size) => format!("{size} entries verified"),
            None => "not verified: give --key".to_owned(),
        };
        writeln!(out, "{side} log {} ({origin}): {state}", cli::shown(&log.folder))?;
    }
    let Reconciled { agreed, lost, differences, in_doubt, not_given, .. } = reconciled;
    writeln!(
        out,
        "{agreed} requests agree, {lost} were lost with a link or an agent and nobody was told otherwise"
    )?;
    let titles = ["different", "in doubt, one log ends earlier", "not known, a log is not given"];
    for (title, list) in titles.into_iter().zip([differences, in_doubt, not_given]) {
        for difference in list {
            writeln!(out, "{title}: {}", cli::shown(&sentence(difference, logs)))?;
        }
    }
    for (agent, requests) in missing(reconciled) {
        writeln!(
            out,
            "the log of {} is not given: {requests} requests may be in it",
            cli::shown(agent.as_str())
        )?;
    }
    if *unread > 0 {
        writeln!(out, "{unread} entries are in no form that this version reads")?;
    }
    Ok(())
}

/// Each agent without a log here, and how many requests its log may tell of.
fn missing(reconciled: &Reconciled) -> BTreeMap<&Word, usize> {
    let mut missing: BTreeMap<&Word, usize> = reconciled.missing.iter().map(|agent| (agent, 0)).collect();
    for agent in reconciled.not_given.iter().flat_map(|difference| &difference.agents) {
        *missing.entry(agent).or_default() += 1;
    }
    missing
}

fn agents(reconciled: &Reconciled) -> String {
    let needed = missing(reconciled).into_iter().filter(|(_, requests)| *requests > 0);
    let names: Vec<&str> = needed.map(|(agent, _)| agent.as_str()).collect();
    names.join(" and ")
}

fn sentence(difference: &Difference, logs: &[Given]) -> String {
    let Difference { brand, order, key, entries, what, agents, .. } = difference;
    let places = entries.iter().filter_map(|(log, entry)| {
        logs.get(log.index()).map(|log| format!("entry {entry} of {}", log.folder))
    });
    let places = places.collect::<Vec<_>>().join(", ");
    let agents: Vec<&str> = agents.iter().map(Word::as_str).collect();
    let ask = if agents.is_empty() { String::new() } else { format!("; see {}", agents.join(" or ")) };
    format!("order {order} of {brand}, key {}: {what} ({places}{ask})", key.to_hex())
}

fn compared_json(Compared { logs, reconciled, unread }: &Compared) -> Value {
    let folder = |log: &LogId| logs.get(log.index()).map(|log| log.folder.as_str());
    let list = |differences: &[Difference]| -> Vec<Value> {
        let one = |difference: &Difference| {
            let entries = difference.entries.iter();
            let agents = difference.agents.iter();
            json!({
                "brand": difference.brand.as_str(),
                "order": difference.order.to_string(),
                "key": difference.key.to_hex(),
                "cloud_entry": difference.cloud_entry,
                "idc_entry": difference.idc_entry,
                "entries": entries.map(|(log, entry)| json!({"folder": folder(log), "entry": entry})).collect::<Vec<_>>(),
                "what": difference.what.code(),
                "text": difference.what.to_string(),
                "agents": agents.map(Word::as_str).collect::<Vec<_>>(),
            })
        };
        differences.iter().map(one).collect()
    };
    let log = |log: &Given| {
        let verified = log.signed.is_some();
        json!({"folder": log.folder, "side": log.side.code(), "origin": log.origin, "verified": verified})
    };
    let missing = missing(reconciled);
    let missing =
        missing.iter().map(|(agent, requests)| json!({"agent": agent.as_str(), "requests": requests}));
    json!({
        "verified": logs.iter().all(|log| log.signed.is_some()),
        "logs": logs.iter().map(log).collect::<Vec<_>>(),
        "agreed": reconciled.agreed,
        "lost": reconciled.lost,
        "differences": list(&reconciled.differences),
        "in_doubt": list(&reconciled.in_doubt),
        "not_given": list(&reconciled.not_given),
        "missing": missing.collect::<Vec<_>>(),
        "unread": unread,
    })
}
