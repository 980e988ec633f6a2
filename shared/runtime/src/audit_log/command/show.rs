//! `audit show`: one entry by its number, or all entries of an order by its id.

use std::collections::HashSet;
use std::io::{self, IsTerminal as _, Write as _};

use bridge_protocol::audit::finding::Unverified;
use bridge_protocol::audit::folder::{self, Folder as _};
use bridge_protocol::audit::{Checkpoint, Entry, Event};
use bridge_protocol::domain::{KeyDigest, OrderId};

use super::reading::{self, Entries};
use super::{Disk, LogFolder, look, print};
use crate::cli::{self, Failure, Outcome};

/// Entries between two progress messages.
const TOLD_EVERY: u64 = 8_192;

/// Shows the entry of this number.
pub(super) fn entry(place: &LogFolder, wanted: u64, json: bool) -> Outcome {
    let (found, entries) = reading::read(place, |entries| {
        let mut found = None;
        entries.each(wanted, |index, entry| {
            if index == wanted {
                found = Some(entry.to_vec());
            }
        })?;
        Ok(found)
    })?;
    match (found, entries.left_out()) {
        (Some(entry), _) => print(&mut cli::out(), wanted, &entry, json)?,
        // The copy does not have the entry, but the log may have it.
        (None, Some(left_out)) => {
            return Err(cli::usage(format!("entry {wanted} is not in what is read: {left_out}")));
        }
        (None, None) => return Err(cli::failed(format!("the log has no entry {wanted} yet"))),
    }
    Ok(())
}

/// Shows all entries of an order: by its id, and by the keys of the requests about it. A repeated
/// request under a key has another order id, and its answer names the existing order.
pub(super) fn order(place: &LogFolder, order: OrderId, json: bool) -> Outcome {
    let progress = Progress::of(&place.disk)?;
    let read_keys = |entries: &Entries<'_>| {
        let mut keys = HashSet::new();
        walk(entries, &progress, "look for the order's keys", |_, _, (about, key)| {
            if about == order {
                keys.extend(key);
            }
        })?;
        Ok(keys)
    };
    let (keys, entries) = reading::read(place, read_keys)?;
    let read_entries = || {
        let mut found = Vec::new();
        walk(&entries, &progress, "look for its entries", |index, bytes, (about, key)| {
            if about == order || key.is_some_and(|key| keys.contains(&key)) {
                found.push((index, bytes.to_vec()));
            }
        })?;
        Ok(found)
    };
    let found = look(&place.disk, read_entries).map_err(cli::failed)?;
    progress.end();
    if found.is_empty() {
        let none = format!("no entry of this log is about order {order}");
        return Err(match entries.left_out() {
            Some(left_out) => cli::usage(format!("{none}, as far as it is read: {left_out}")),
            None => cli::failed(none),
        });
    }
    let mut out = cli::out();
    for (index, entry) in found {
        print(&mut out, index, &entry, json)?;
    }
    out.flush()?;
    entries.tell_left_out();
    Ok(())
}

/// Passes every entry about an order to `take`, with its order and key.
fn walk(
    entries: &Entries<'_>,
    progress: &Progress,
    what: &str,
    mut take: impl FnMut(u64, &[u8], (OrderId, Option<KeyDigest>)),
) -> Result<(), Unverified> {
    entries.each(0, |index, bytes| {
        progress.tell(what, index);
        if let Some(about) = Entry::parse(bytes).ok().and_then(|entry| about(&entry.event)) {
            take(index, bytes, about);
        }
    })?;
    Ok(())
}

/// Progress message on a terminal while a long log is read.
struct Progress {
    /// Number of entries under the log's checkpoint.
    size: u64,
    is_told: bool,
}

impl Progress {
    fn of(disk: &Disk) -> Result<Self, Failure> {
        let note = disk.read(folder::CHECKPOINT).map_err(cli::failed)?.unwrap_or_default();
        let size = Checkpoint::unverified(&note).map_or(0, |checkpoint| checkpoint.size);
        Ok(Self { size, is_told: size > TOLD_EVERY && io::stderr().is_terminal() })
    }

    fn tell(&self, what: &str, index: u64) {
        if self.is_told && index.is_multiple_of(TOLD_EVERY) {
            let _nobody_looks = write!(io::stderr(), "\r{what}: {index} of {} entries", self.size);
        }
    }

    /// Clears the line for the following output.
    fn end(&self) {
        if self.is_told {
            let _nobody_looks = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}

/// Returns the order that an entry is about, and its key.
fn about(event: &Event) -> Option<(OrderId, Option<KeyDigest>)> {
    match event {
        Event::OrderSent(carried)
        | Event::OrderReceived(carried)
        | Event::PaymentSent(carried)
        | Event::PaymentReceived(carried) => Some((carried.order, Some(carried.key))),
        Event::OrderCommitted(ended)
        | Event::OrderAnswered(ended)
        | Event::PaymentCommitted(ended)
        | Event::PaymentAnswered(ended) => Some((ended.order, Some(ended.key))),
        Event::PaymentResolved(resolved) => Some((resolved.order, None)),
        Event::PersonalShown(shown) => Some((shown.order, None)),
        _ => None,
    }
}
