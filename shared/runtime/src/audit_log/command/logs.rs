//! Logs for a comparison: side, verification and extent of each.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::PathBuf;

use bridge_protocol::audit::copied::CoveredPart;
use bridge_protocol::audit::finding::{Finding, Unverified};
use bridge_protocol::audit::folder::{self, Folder as _};
use bridge_protocol::audit::reconcile::Side;
use bridge_protocol::audit::verify::Verified;
use bridge_protocol::audit::{Checkpoint, Entry};
use bridge_protocol::domain::UnixMicros;
use bridge_protocol::note::NoteVerifier;
use serde_json::{Value, json};

use super::reading::{self, Entries, UnreadPart};
use super::{LogFolder, existing};
use crate::cli::{self, Failure, Outcome};

/// A log as it was given.
pub struct GivenLog<'place> {
    folder: &'place str,
    place: &'place LogFolder,
    /// Name in its checkpoint; empty if it has no checkpoint.
    origin: String,
    side: Side,
}

/// A log that can be read.
pub struct Log<'place> {
    /// The log as it was given.
    pub given: GivenLog<'place>,
    entries: Entries<'place>,
    /// Set if its key signed the entries and they are unchanged.
    pub is_verified: bool,
    /// Size in its checkpoint, if the folder ends before that.
    ends_before: Option<u64>,
    /// Set if its agent logged more than is compared.
    pub ends_early: bool,
}

/// Extent of a compared log.
pub struct Reach {
    /// Its entries.
    pub entries: u64,
    /// Latest time of an entry.
    pub to: Option<UnixMicros>,
}

/// Folders that a command line names.
pub struct Folders(Vec<(String, LogFolder)>);

impl Folders {
    /// Takes folders that must exist.
    ///
    /// # Errors
    ///
    /// Fails if a folder does not exist.
    pub fn existing(folders: Vec<PathBuf>) -> Result<Self, Failure> {
        folders.into_iter().map(|folder| existing_log(folder, true)).collect::<Result<_, _>>().map(Self)
    }

    /// Takes an agent's own folder from its configuration.
    ///
    /// # Errors
    ///
    /// Fails if the folder does not exist.
    pub fn own(folder: PathBuf) -> Result<Self, Failure> {
        existing_log(folder, false).map(|own| Self(vec![own]))
    }

    /// Returns the logs with their sides.
    ///
    /// # Errors
    ///
    /// Fails if a log's side is unknown, or if a log is given twice.
    pub fn given(&self) -> Result<Vec<GivenLog<'_>>, Failure> {
        let logs: Vec<GivenLog<'_>> = self.0.iter().map(given).collect::<Result<_, _>>()?;
        distinct(&logs)?;
        Ok(logs)
    }
}

impl<'place> GivenLog<'place> {
    /// Returns the folder as it was given.
    pub fn folder(&self) -> &'place str {
        self.folder
    }

    /// Returns the name in its checkpoint; empty if it has no checkpoint.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns its side.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Opens the log for reading. If there are keys, verifies it with the key of its name.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be read or does not verify. With `json`, the fault is also printed on
    /// standard output.
    pub fn read(self, keys: &[NoteVerifier], json: bool) -> Result<Log<'place>, Failure> {
        if keys.is_empty() { unverified(self) } else { verified(self, keys, json) }
    }

    /// Verifies the log with the key of its own agent, and opens it for reading as a whole: entries
    /// that no checkpoint signs yet are read as well, because a restored ledger lacks the newest
    /// ones first.
    ///
    /// # Errors
    ///
    /// Fails as [`GivenLog::read`] does.
    pub fn read_own(self, key: &NoteVerifier, json: bool) -> Result<Log<'place>, Failure> {
        match super::verified(self.place, key, None) {
            Ok(_) => Ok(Log { is_verified: true, ..unverified(self)? }),
            Err(fault) => Err(not_verified(&self, &fault, json)),
        }
    }
}

impl Log<'_> {
    /// Passes every entry to `take`, in order. If the agent writes the log meanwhile, this may
    /// start again from the first entry.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be read.
    pub fn each(&self, take: impl FnMut(u64, &[u8])) -> Result<u64, Unverified> {
        self.entries.each(0, take)
    }

    /// Returns the approximate number of entries.
    pub fn about(&self) -> u64 {
        self.entries.published().unwrap_or(0)
    }

    /// Writes one line about the log for people, and another one if it ends early.
    ///
    /// # Errors
    ///
    /// Fails if writing fails.
    pub fn describe(&self, out: &mut impl io::Write, reach: &Reach) -> io::Result<()> {
        tell_log(out, self, reach)
    }

    /// Returns the JSON object about the log.
    pub fn object(&self, reach: &Reach) -> Value {
        let GivenLog { folder, origin, side, .. } = &self.given;
        json!({
            "folder": folder,
            "side": side.code(),
            "origin": origin,
            "verified": self.is_verified,
            "entries": reach.entries,
            "to": reach.to.map(|to| to.to_string()),
            "ends_before": self.ends_before,
        })
    }
}

fn existing_log(folder: PathBuf, named: bool) -> Result<(String, LogFolder), Failure> {
    Ok((folder.display().to_string(), LogFolder { disk: existing(folder)?, named }))
}

/// Returns the log with its side, by its checkpoint's name or else by its entries.
fn given((folder, place): &(String, LogFolder)) -> Result<GivenLog<'_>, Failure> {
    let note = place.disk.read(folder::CHECKPOINT).map_err(cli::failed)?;
    let checkpoint = note.and_then(|note| Checkpoint::unverified(&note));
    let origin = checkpoint.map(|checkpoint| checkpoint.origin).unwrap_or_default();
    let side = match Side::of_origin(&origin) {
        Some(side) => Some(side),
        None => side_by_entries(place)?,
    };
    let unknown = || {
        let origin = if origin.is_empty() { "none" } else { &origin };
        cli::usage(format!(
            "{folder}: whether it is the log of a cloud agent or of an IDC agent, neither its checkpoint (origin: {origin}) nor an \
             entry says"
        ))
    };
    let side = side.ok_or_else(unknown)?;
    Ok(GivenLog { folder, place, origin, side })
}

fn side_by_entries(place: &LogFolder) -> Result<Option<Side>, Failure> {
    let (side, _) = reading::read(place, |entries| {
        let mut side = None;
        entries.each(0, |_, bytes| {
            if side.is_none() {
                side = Entry::parse(bytes).ok().and_then(|entry| Side::of_event(&entry.event));
            }
        })?;
        Ok(side)
    })?;
    Ok(side)
}

/// Refuses a log that is given twice: the copy would count as another agent's log. Two logs are the
/// same if their first entries, with their times, are the same.
fn distinct(logs: &[GivenLog<'_>]) -> Outcome {
    let mut firsts: BTreeMap<Vec<u8>, &GivenLog<'_>> = BTreeMap::new();
    for log in logs {
        let Some(first) = reading::read(log.place, Entries::first)?.0 else { continue };
        if let Some(known) = firsts.insert(first, log) {
            return Err(cli::usage(format!(
                "{} and {} are of one log ({}): give each log once",
                known.folder, log.folder, log.origin
            )));
        }
    }
    Ok(())
}

pub(super) fn named(origin: &str) -> &str {
    if origin.is_empty() { "without a checkpoint" } else { origin }
}

pub(super) fn agent_of(side: Side) -> &'static str {
    match side {
        Side::Cloud => "cloud",
        Side::Idc => "IDC",
    }
}

/// Takes a log without verification. Of a copy that was made while it was written, takes the
/// complete part.
fn unverified(given: GivenLog<'_>) -> Result<Log<'_>, Failure> {
    let (_end, entries) = reading::read(given.place, |entries| entries.each(0, |_, _| ()))?;
    let left_out = entries.left_out();
    let (ends_before, ends_early) = (left_out.as_ref().and_then(UnreadPart::newest), left_out.is_some());
    Ok(Log { given, entries, is_verified: false, ends_before, ends_early })
}

/// Verifies a log by a key of its name. A log that was begun anew has another key under the same
/// name.
fn verified<'place>(
    given: GivenLog<'place>,
    keys: &[NoteVerifier],
    json: bool,
) -> Result<Log<'place>, Failure> {
    let mut found = None;
    for key in keys.iter().filter(|key| key.name() == given.origin) {
        match super::verified(given.place, key, None) {
            Ok(verified) => return signed_log(given, verified),
            Err(unverified) => found = Some(unverified),
        }
    }
    let Some(unverified) = found else {
        return Err(cli::usage(format!(
            "{}: no --key is of this log ({}): `audit key` prints it on its agent's host",
            given.folder,
            named(&given.origin)
        )));
    };
    Err(not_verified(&given, &unverified, json))
}

/// Returns the failure of a log that does not verify.
fn not_verified(given: &GivenLog<'_>, unverified: &Unverified, json: bool) -> Failure {
    if json {
        let finding = unverified.finding();
        let code = finding.map_or("unreadable", Finding::code);
        let (entry, text) = (finding.and_then(Finding::entry), unverified.to_string());
        let found = json!({
            "verified": false, "folder": given.folder, "finding": code, "entry": entry, "text": text,
        });
        // The exit code does not depend on a successful write.
        let _read_or_not = writeln!(cli::out(), "{found}");
    }
    let said = format!("{}: {unverified}", given.folder);
    match unverified {
        // The log may be good; only the copy was made wrongly.
        Unverified::Found(Finding::EndsEarly { .. }) => cli::usage(said),
        _ => cli::failed(said),
    }
}

fn signed_log(given: GivenLog<'_>, verified: Verified) -> Result<Log<'_>, Failure> {
    let Verified { checkpoint, unpublished, in_flight, ends_before, .. } = verified;
    let disk = &given.place.disk;
    let entries = if in_flight {
        let failed = |error: Unverified| cli::failed(format!("{}: {error}", given.folder));
        Entries::Whole(CoveredPart::all(disk, checkpoint).map_err(failed)?)
    } else {
        Entries::Signed(disk, checkpoint.size)
    };
    Ok(Log { given, entries, is_verified: true, ends_before, ends_early: in_flight || unpublished > 0 })
}

fn tell_log(out: &mut impl io::Write, log: &Log<'_>, Reach { entries, to }: &Reach) -> io::Result<()> {
    let GivenLog { folder, origin, side, .. } = &log.given;
    let state = if log.is_verified { "verified" } else { "not verified: give --key" };
    write!(
        out,
        "{} log {} ({}): {entries} entries {state}",
        agent_of(*side),
        cli::shown(folder),
        cli::shown(named(origin))
    )?;
    if let Some(to) = to {
        write!(out, "; it reaches to {to}")?;
    }
    writeln!(out)?;
    if let Some(left_out) = log.entries.left_out().filter(|_| log.ends_before.is_none()) {
        writeln!(out, "  {left_out}")?;
    }
    if let Some(newest) = log.ends_before {
        writeln!(
            out,
            "  this copy ends before its newest checkpoint, of {newest} entries: those from {entries} on are left out, and are no \
             difference. `audit copy` makes a copy that has all of them"
        )?;
    }
    Ok(())
}
