//! A data centre's audit log, and the judge of P8: nothing is committed before its receipt is durable there, and nothing
//! settled told before its outcome is.

use std::collections::BTreeSet;

use bridge_idc::agent::Input;
use bridge_idc::auditing::Round;
use bridge_idc::ledger::Batch;
use bridge_protocol::audit::{Entry, Event as Logged};
use bridge_protocol::domain::KeyDigest;
use bridge_protocol::wire::frame;
use bridge_protocol::wire::order::{ReceiptFacts, ToCloud, to_cloud};

use super::super::options::Sabotage;
use super::{Event, World};

/// The keys that one process of an agent has durable in its log.
#[derive(Debug, Default)]
pub(super) struct Log {
    received: BTreeSet<KeyDigest>,
    committed: BTreeSet<KeyDigest>,
}

impl World {
    /// A round goes to the disk, which may be full.
    pub(super) fn audit(&mut self, idc: usize, Round { entries, again }: Round) {
        let fails = self.dice.happens(self.weather.audit_fails);
        self.counts.audit_rounds_failed += u64::from(fails);
        // The agent's shell waits before it tries again.
        let delay = if again { self.dice.millis(5..=200) } else { self.dice.micros(100..=2_000) };
        let life = self.idcs[idc].life;
        self.after(delay, Event::Audited { idc, life, entries, fails });
    }

    /// The agent hears how its round ended, if it is still the same process.
    pub(super) fn audited(&mut self, idc: usize, life: u32, entries: Vec<Entry>, fails: bool) {
        if self.idcs[idc].life != life {
            return;
        }
        if fails && self.sabotage == Some(Sabotage::LoseEntries) {
            return self.tell_idc(idc, Input::Audited(Ok(())));
        }
        if fails {
            return self.tell_idc(idc, Input::Audited(Err(entries)));
        }
        let log = &mut self.idcs[idc].log;
        for entry in &entries {
            match &entry.event {
                Logged::OrderReceived(carried) => log.received.insert(carried.key),
                Logged::OrderCommitted(ended) => log.committed.insert(ended.key),
                _ => false,
            };
        }
        self.tell_idc(idc, Input::Audited(Ok(())));
    }

    /// P8 before a commit.
    pub(super) fn judge_logged_batch(&mut self, idc: usize, batch: &Batch) {
        let log = &self.idcs[idc].log;
        if batch.requests.iter().any(|request| !log.received.contains(&request.key)) {
            self.violate("P8", "a request is committed before its receipt is in the audit log".to_owned());
        }
    }

    /// P8 before an answer.
    pub(super) fn judge_logged_answer(&mut self, idc: usize, message: &ToCloud) {
        let Some(to_cloud::Kind::Settled(settled)) = &message.kind else { return };
        let facts = settled.receipt.as_ref().map(|receipt| receipt.facts.clone()).unwrap_or_default();
        let key =
            frame::decode::<ReceiptFacts>(facts).ok().and_then(|facts| KeyDigest::from_bytes(&facts.key));
        if !key.is_some_and(|key| self.idcs[idc].log.committed.contains(&key)) {
            self.violate("P8", "an outcome is told before it is in the audit log".to_owned());
        }
    }
}
