//! Register of the addresses that this side dials, for its operator: since when an address has no
//! link, and the reason of the last attempt. No decision depends on it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bridge_protocol::domain::UnixMicros;

use crate::clock;

/// Most characters of a reason. A peer's own words may be in it.
const REASON_CHARS_MAX: usize = 300;

/// Time without a link before an operator is told: longer than a restart of the peer takes.
const GRACE: Duration = Duration::from_secs(10);

/// The register. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct DialledAddresses(Arc<Mutex<BTreeMap<AddressOfTarget, AddressRecord>>>);

/// An address, with the target whose name has it.
type AddressOfTarget = (Arc<str>, SocketAddr);

#[derive(Debug)]
struct AddressRecord {
    /// Number of tasks that dial it.
    diallers: usize,
    /// Number of its links that are up or being made known to the peer.
    links: usize,
    /// Time since which it has no link, by two clocks: one to measure, one to show.
    since: (Instant, UnixMicros),
    /// Reason for the end of the last attempt, or of the last link.
    why: Option<String>,
}

/// One task's entry. Dropping it takes the task out of the register.
#[derive(Debug)]
pub(super) struct DialledAddress {
    all: DialledAddresses,
    address: AddressOfTarget,
}

impl DialledAddresses {
    /// Adds a task that dials an address of a target.
    pub(super) fn begin(&self, target: Arc<str>, address: SocketAddr) -> DialledAddress {
        let address = (target, address);
        let new = || AddressRecord { diallers: 0, links: 0, since: now(), why: None };
        self.lock().entry(address.clone()).or_insert_with(new).diallers += 1;
        DialledAddress { all: self.clone(), address }
    }

    /// Returns a sentence about each address that has been without a link for longer than the grace
    /// period.
    pub(super) fn notes(&self, at: Instant) -> Vec<String> {
        let lasts = |record: &AddressRecord| {
            record.links == 0 && at.saturating_duration_since(record.since.0) >= GRACE
        };
        let note = |((target, address), record): (&AddressOfTarget, &AddressRecord)| {
            let (since, why) = (record.since.1, record.why.as_deref().unwrap_or("no attempt has ended yet"));
            format!(
                "the agent at {target} ({address}), which this one dials, is not linked since {since}: {why}"
            )
        };
        self.lock().iter().filter(|(_, record)| lasts(record)).map(note).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AddressOfTarget, AddressRecord>> {
        // No code panics while it holds the lock, and the register only informs.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DialledAddress {
    /// Takes that an attempt made no link.
    pub(super) fn failed(&self, why: &str) {
        self.change(|record| record.why = Some(shown(why)));
    }

    /// Takes that a link is up.
    pub(super) fn linked(&self) {
        self.change(|record| (record.links, record.why) = (record.links + 1, None));
    }

    /// Takes that a link has ended.
    pub(super) fn unlinked(&self, why: &str) {
        self.change(|record| {
            record.links = record.links.saturating_sub(1);
            record.why = Some(shown(why));
            if record.links == 0 {
                record.since = now();
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut AddressRecord)) {
        if let Some(record) = self.all.lock().get_mut(&self.address) {
            change(record);
        }
    }
}

impl Drop for DialledAddress {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(record) = all.get_mut(&self.address) {
            record.diallers -= 1;
            if record.diallers == 0 {
                all.remove(&self.address);
            }
        }
    }
}

/// Returns the reason for an operator's terminal.
fn shown(why: &str) -> String {
    why.chars().filter(|character| !character.is_control()).take(REASON_CHARS_MAX).collect()
}

fn now() -> (Instant, UnixMicros) {
    (Instant::now(), clock::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_link_is_noted_after_the_grace_with_its_reason() {
        let all = DialledAddresses::default();
        let (target, address): (Arc<str>, _) =
            ("front.example:7443".into(), "192.0.2.1:7443".parse().unwrap());
        let [first, second] = [all.begin(target.clone(), address), all.begin(target, address)];
        let notes = |after: Duration| all.notes(Instant::now() + after);
        first.failed("refused by the peer: not on its list");
        assert_eq!(notes(Duration::ZERO), Vec::<String>::new());
        let noted = notes(GRACE);
        assert_eq!(noted.len(), 1, "two tasks dial one address");
        assert!(
            noted[0].contains("front.example:7443 (192.0.2.1:7443)") && noted[0].contains("not on its list")
        );
        first.linked();
        second.failed("no answer");
        assert_eq!(notes(GRACE), Vec::<String>::new(), "one link is enough");
        first.unlinked(&format!("the certificate was\u{1b}[2J revoked{}", "!".repeat(1_000)));
        assert_eq!(notes(Duration::ZERO), Vec::<String>::new(), "a restart is noted");
        let noted = notes(GRACE).remove(0);
        assert!(noted.contains("was[2J revoked!") && noted.len() < 500, "{noted}");
        drop((first, second));
        assert_eq!(notes(GRACE), Vec::<String>::new(), "the name lost the address");
    }
}
