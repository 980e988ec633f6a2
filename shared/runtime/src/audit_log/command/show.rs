//! `audit show`: one entry by its number, or all entries of an order by its id.

use std::collections::HashSet;
use std::io::{self, IsTerminal as _, Write as _};

use bridge_protocol::audit::finding::Unverified;
use bridge_protocol::audit::folder::{self, Folder as _};
use bridge_protocol::audit::{Checkpoint, Entry, Event};
use bridge_protocol::domain::{KeyDigest, OrderId};

use super::{Disk, look, print};
use crate::cli::{self, Failure, Outcome};

/// Entries between two words about how far it is.
const TOLD_EVERY: u64 = 8_192;

/// Shows the entry of this number.
pub(super) fn entry(disk: &Disk, wanted: u64, json: bool) -> Outcome {
    let read = || {
        let mut found = None;
        folder::entries(disk, wanted, |index, entry| {
            if index == wanted {
                found = Some(entry.to_vec());
            }
        })?;
        Ok(found)
    };
    let entry = look(disk, read).map_err(cli::failed)?;
    let entry = entry.ok_or_else(|| cli::failed(format!("the log has no entry {wanted} yet")))?;
    print(&mut cli::out(), wanted, &entry, json)?;
    Ok(())
}

/// Shows all entries of an order: by its id, and by the keys of the requests about it. A caller that tries again under a key gets
/// another order id, and the answer names the order that there is.
pub(super) fn order(disk: &Disk, order: OrderId, json: bool) -> Outcome {
    let progress = Progress::of(disk)?;
    let read_keys = || {
        let mut keys = HashSet::new();
        walk(disk, &progress, "look for the order's keys", |_, _, (about, key)| {
            if about == order {
                keys.extend(key);
            }
        })?;
        Ok(keys)
    };
    let keys = look(disk, read_keys).map_err(cli::failed)?;
    let read_entries = || {
        let mut entries = Vec::new();
        walk(disk, &progress, "look for its entries", |index, bytes, (about, key)| {
            if about == order || key.is_some_and(|key| keys.contains(&key)) {
                entries.push((index, bytes.to_vec()));
            }
        })?;
        Ok(entries)
    };
    let entries = look(disk, read_entries).map_err(cli::failed)?;
    progress.end();
    if entries.is_empty() {
        return Err(cli::failed(format!("no entry of this log is about order {order}")));
    }
    let mut out = cli::out();
    for (index, entry) in entries {
        print(&mut out, index, &entry, json)?;
    }
    Ok(())
}

/// Gives every entry that is about an order, and which order that is, under which key.
fn walk(
    disk: &Disk,
    progress: &Progress,
    what: &str,
    mut take: impl FnMut(u64, &[u8], (OrderId, Option<KeyDigest>)),
) -> Result<(), Unverified> {
    folder::entries(disk, 0, |index, bytes| {
        progress.tell(what, index);
        if let Some(about) = Entry::parse(bytes).ok().and_then(|entry| about(&entry.event)) {
            take(index, bytes, about);
        }
    })?;
    Ok(())
}

/// How far a long log is read, for whoever waits at a terminal.
struct Progress {
    /// Entries under the log's checkpoint.
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

    /// Leaves the line to what comes then.
    fn end(&self) {
        if self.is_told {
            let _nobody_looks = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}

/// Which order an entry is about, and under which key.
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
