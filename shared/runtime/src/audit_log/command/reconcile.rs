//! `audit reconcile`: verifies any number of logs of both sides, if keys are given, and compares
//! them.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::PathBuf;

use bridge_protocol::audit::Entry;
use bridge_protocol::audit::entry::Word;
use bridge_protocol::audit::reconcile::{Difference, LogId, Reconciled, Reconciler, Side};
use bridge_protocol::note::NoteVerifier;
use clap::Args;
use serde_json::{Value, json};

use super::logs::{Folders, GivenLog, Log, Reach, agent_of, named};
use crate::cli::Failure;
use crate::cli::{self, Outcome};

/// Arguments of the comparison.
#[derive(Args)]
pub struct Reconcile {
    /// Folders of the logs of all agents of both sides, in any order. Each log shows its own side.
    #[arg(required = true, num_args = 2.., value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// Verifier key of a log, as `audit key` prints it; one for each log. Each log is then verified
    /// first, and its signed entries are compared. Without keys nothing is verified.
    #[arg(long = "key", value_name = "VKEY")]
    keys: Vec<String>,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

/// Most requests of missing logs that are listed for people. There may be as many as the agent ever
/// had.
const NOT_GIVEN_NAMED: usize = 20;

/// Result of the comparison.
struct Comparison<'place> {
    logs: Vec<(Log<'place>, Reach)>,
    reconciled: Reconciled,
    /// Entries that this version cannot read.
    unread: u64,
}

/// Runs the command.
pub(super) fn reconcile(Reconcile { folders, keys, json }: Reconcile) -> Outcome {
    let keys: Vec<NoteVerifier> =
        keys.iter().map(|key| NoteVerifier::parse(key)).collect::<Result<_, _>>().map_err(cli::usage)?;
    let folders = Folders::existing(folders)?;
    let logs = folders.given()?;
    both_sides(&logs)?;
    let logs = logs.into_iter().map(|log| log.read(&keys, json)).collect::<Result<_, _>>()?;
    let compared = compare(logs)?;
    let told = tell(&compared, json);
    // The exit code does not depend on a successful write.
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

fn both_sides(logs: &[GivenLog<'_>]) -> Outcome {
    let Some(first) = logs.first() else { return Ok(()) };
    if logs.iter().any(|log| log.side() != first.side()) {
        return Ok(());
    }
    let (these, others) = (agent_of(first.side()), agent_of(first.side().other()));
    let list: Vec<String> =
        logs.iter().map(|log| format!("{} ({})", log.folder(), named(log.origin()))).collect();
    Err(cli::usage(format!(
        "all of these are logs of {these} agents: {}; give those of {others} agents as well",
        list.join(", ")
    )))
}

fn compare(logs: Vec<Log<'_>>) -> Result<Comparison<'_>, Failure> {
    let mut reconciler = Reconciler::new();
    let ids: Vec<LogId> =
        logs.iter().map(|Log { given, .. }| reconciler.log(given.side(), given.origin())).collect();
    let mut unread = 0;
    // The receiving side is read first: if it has a request, the other side has logged it before.
    for side in [Side::Idc, Side::Cloud] {
        for (log, id) in logs.iter().zip(&ids).filter(|(log, _)| log.given.side() == side) {
            let folder = log.given.folder();
            if log.ends_early {
                reconciler.ends_early(*id);
            }
            let take = |_, bytes: &[u8]| match Entry::parse(bytes) {
                Ok(entry) => reconciler.take(*id, &entry),
                Err(_) => unread += 1,
            };
            log.each(take).map_err(|error| cli::failed(format!("{folder}: {error}")))?;
            if let Some(entry) = reconciler.foreign_entry(*id) {
                return Err(cli::usage(format!(
                    "{folder}: it is called a log of the {} side ({}), and entry {entry} is one that only agents of the other side log",
                    agent_of(side),
                    named(log.given.origin())
                )));
            }
        }
    }
    let reach = |id: &LogId| {
        let (entries, to) = reconciler.reach(*id);
        Reach { entries, to }
    };
    let reaches: Vec<Reach> = ids.iter().map(reach).collect();
    let logs = logs.into_iter().zip(reaches).collect();
    Ok(Comparison { logs, reconciled: reconciler.finish(), unread })
}

fn tell(compared: &Comparison<'_>, json: bool) -> io::Result<()> {
    let mut out = cli::out();
    if json {
        return writeln!(out, "{}", compared_json(compared));
    }
    let Comparison { logs, reconciled, unread } = compared;
    for (log, reach) in logs {
        log.describe(&mut out, reach)?;
    }
    let Reconciled { agreed, lost, differences, in_doubt, not_given, .. } = reconciled;
    writeln!(
        out,
        "{agreed} requests agree, {lost} were lost with a link or an agent, and no caller was told otherwise"
    )?;
    let named = &not_given[..not_given.len().min(NOT_GIVEN_NAMED)];
    let titles = ["different", "in doubt, one log ends earlier", "not known, a log is not given"];
    for (title, list) in titles.into_iter().zip([differences, in_doubt, named]) {
        for difference in list {
            writeln!(out, "{title}: {}", cli::shown(&sentence(difference, logs)))?;
        }
    }
    if named.len() < not_given.len() {
        let more = not_given.len() - named.len();
        writeln!(out, "and {more} more that are not known for want of a log; --json names them all")?;
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

/// Returns each agent without a given log, with the number of requests that its log may have.
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

fn sentence(difference: &Difference, logs: &[(Log<'_>, Reach)]) -> String {
    let Difference { brand, order, key, entries, what, agents, .. } = difference;
    let places = entries.iter().filter_map(|(log, entry)| {
        logs.get(log.index()).map(|(log, _)| format!("entry {entry} of {}", log.given.folder()))
    });
    let places = places.collect::<Vec<_>>().join(", ");
    let agents: Vec<&str> = agents.iter().map(Word::as_str).collect();
    let ask = if agents.is_empty() { String::new() } else { format!("; see {}", agents.join(" or ")) };
    format!("order {order} of {brand}, key {}: {what} ({places}{ask})", key.to_hex())
}

fn compared_json(Comparison { logs, reconciled, unread }: &Comparison<'_>) -> Value {
    let folder = |log: &LogId| logs.get(log.index()).map(|(log, _)| log.given.folder());
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
    let log = |(log, reach): &(Log<'_>, Reach)| log.object(reach);
    let missing = missing(reconciled);
    let missing =
        missing.iter().map(|(agent, requests)| json!({"agent": agent.as_str(), "requests": requests}));
    json!({
        "verified": logs.iter().all(|(log, _)| log.is_verified),
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
