//! A data centre's audit log, and the checks of its half of P8. The entry "received" is durable
//! before a commit, and the entry of an outcome is durable before an answer. The log is a journal
//! on a disk: a crash may leave a torn round, and the next process recovers the whole rounds.

use std::collections::BTreeSet;

use bridge_idc::orders::audit_gate::AuditRound;
use bridge_idc::orders::core::Input;
use bridge_idc::orders::store::Batch;
use bridge_protocol::audit::journal::{Header, JournalError, Reader, Writer};
use bridge_protocol::audit::{Entry, Event as Logged};
use bridge_protocol::domain::KeyDigest;
use bridge_protocol::merkle::leaf_hash;
use bridge_protocol::wire::frame;
use bridge_protocol::wire::order::{ReceiptFacts, ToCloud, to_cloud};

use super::super::dice::Dice;
use super::super::options::Sabotage;
use super::reconciled::entries_of;
use super::{Event, World, note};

/// A disk writes a sector whole or not at all.
const SECTOR_BYTES: usize = 512;

/// A data centre's log on its disk.
pub(super) struct Log {
    acknowledged: Keys,
    /// Keys in entries of this process.
    own: Keys,
    segment: Vec<u8>,
    writer: Writer,
    /// The round that is being written.
    round: Vec<Entry>,
}

/// The keys that entries are about.
#[derive(Debug, Default)]
struct Keys {
    received: BTreeSet<KeyDigest>,
    committed: BTreeSet<KeyDigest>,
    /// Entries of payments: the key, and the outcome or `received`.
    payments: BTreeSet<(KeyDigest, String)>,
}

impl Keys {
    fn add(&mut self, entry: &Entry) {
        match &entry.event {
            Logged::OrderReceived(carried) => self.received.insert(carried.key),
            Logged::OrderCommitted(ended) => self.committed.insert(ended.key),
            Logged::PaymentReceived(carried) => self.payments.insert((carried.key, "received".to_owned())),
            Logged::PaymentCommitted(ended) => {
                self.payments.insert((ended.key, ended.outcome.as_str().to_owned()))
            }
            _ => false,
        };
    }

    fn has_all(&self, others: &Self) -> bool {
        self.received.is_superset(&others.received)
            && self.committed.is_superset(&others.committed)
            && self.payments.is_superset(&others.payments)
    }
}

impl Default for Log {
    fn default() -> Self {
        let (segment, writer) = Header { first: 0, root: [0; 32] }.encode();
        Self { acknowledged: Keys::default(), own: Keys::default(), segment, writer, round: Vec::new() }
    }
}

impl Log {
    fn append(&mut self, entries: &[Entry]) {
        let lines: Vec<Vec<u8>> = entries.iter().filter_map(|entry| entry.encode().ok()).collect();
        let leaves: Vec<[u8; 32]> = lines.iter().map(|line| leaf_hash(line)).collect();
        let entries = lines.iter().map(Vec::as_slice).zip(&leaves);
        self.writer.round(None, entries, &mut self.segment);
    }

    /// Returns the entries on the disk.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, String> {
        entries_of(&self.segment)
    }

    /// Returns the entries on the disk before a torn round.
    pub(super) fn whole_entries(&self) -> Result<Vec<Entry>, String> {
        let (_, mut reader) = Reader::open(&self.segment).map_err(|error| error.to_string())?;
        let mut entries = Vec::new();
        loop {
            match reader.next_round() {
                Ok(Some(round)) => {
                    for line in round.entries {
                        entries.push(Entry::parse(line).map_err(|error| error.to_string())?);
                    }
                }
                Ok(None) | Err(JournalError::Torn(_)) => return Ok(entries),
                Err(damaged) => return Err(damaged.to_string()),
            }
        }
    }

    /// Adds a durable entry that is not part of the orders' rounds.
    pub(super) fn add(&mut self, entry: &Entry) {
        self.append(std::slice::from_ref(entry));
        self.acknowledged.add(entry);
    }

    /// Ends the process. Of the round that is being written, a random set of sectors has reached
    /// the disk.
    pub(super) fn crash(&mut self, dice: &mut Dice) {
        let round = std::mem::take(&mut self.round);
        let from = self.segment.len();
        if round.is_empty() {
            return;
        }
        self.append(&round);
        for sector in from / SECTOR_BYTES..=(self.segment.len() - 1) / SECTOR_BYTES {
            if dice.happens(4_000) {
                let (start, end) = (sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
                let end = end.min(self.segment.len());
                self.segment[start.max(from)..end].fill(0);
            }
        }
    }

    /// Reads the log in a new process, and cuts off a torn round. Returns true if there was one.
    fn recover(&mut self, sabotage: Option<Sabotage>) -> Result<bool, String> {
        let segment = self.segment.clone();
        let (_, mut reader) = Reader::open(&segment).map_err(|error| error.to_string())?;
        let mut rounds = Vec::new();
        let torn = loop {
            match reader.next_round() {
                Ok(Some(round)) => rounds.push(round.entries),
                Ok(None) => break false,
                Err(JournalError::Torn(_)) => break true,
                Err(damaged) => return Err(damaged.to_string()),
            }
        };
        self.segment.truncate(reader.position());
        self.writer = reader.into_writer();
        if sabotage == Some(Sabotage::ForgetLastRounds) {
            rounds.pop();
        }
        let mut found = Keys::default();
        for entry in rounds.concat() {
            found.add(&Entry::parse(entry).map_err(|error| error.to_string())?);
        }
        if !found.has_all(&self.acknowledged) {
            return Err("acknowledged entries are missing".to_owned());
        }
        (self.acknowledged, self.own) = (found, Keys::default());
        Ok(torn)
    }
}

impl World {
    /// Writes a round to the disk, which may be full.
    pub(super) fn audit(&mut self, idc: usize, AuditRound { entries, again }: AuditRound) {
        let fails = self.dice.happens(self.fault_rates.audit_fails);
        self.counts.audit_rounds_failed += u64::from(fails);
        // The real driver also waits before it tries again.
        let delay = if again { self.dice.millis(5..=200) } else { self.dice.micros(100..=2_000) };
        let life = self.idcs[idc].life;
        if !fails {
            self.idcs[idc].log.round.clone_from(&entries);
        }
        self.after(delay, Event::Audited { idc, life, entries, fails });
    }

    /// Passes the end of a round to the core, if the process is still the same.
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
        log.round.clear();
        log.append(&entries);
        for entry in &entries {
            log.acknowledged.add(entry);
            log.own.add(entry);
        }
        self.tell_idc(idc, Input::Audited(Ok(())));
    }

    /// P8: after a crash, every acknowledged entry is in the log.
    pub(super) fn recover_log(&mut self, idc: usize) {
        match self.idcs[idc].log.recover(self.sabotage) {
            Ok(torn) => {
                self.counts.logs_recovered += 1;
                self.counts.rounds_torn += u64::from(torn);
                note!(self, "idc {idc} recovers its log, torn: {torn}");
            }
            Err(what) => self.violate("P8", format!("idc {idc} cannot go on with its log: {what}")),
        }
    }

    /// P8 before a commit: the entry "received" of each request is durable.
    pub(super) fn check_logged_batch(&mut self, idc: usize, batch: &Batch) {
        let received = &self.idcs[idc].log.own.received;
        if batch.requests.iter().any(|request| !received.contains(&request.key)) {
            self.violate("P8", "a request is committed before its receipt is in the audit log".to_owned());
        }
    }

    /// P8 before an answer: the entry of the outcome is durable.
    pub(super) fn check_logged_answer(&mut self, idc: usize, message: &ToCloud) {
        let Some(to_cloud::Kind::Settled(settled)) = &message.kind else { return };
        let facts = settled.receipt.as_ref().map(|receipt| receipt.facts.clone()).unwrap_or_default();
        let key =
            frame::decode::<ReceiptFacts>(facts).ok().and_then(|facts| KeyDigest::from_bytes(&facts.key));
        if !key.is_some_and(|key| self.idcs[idc].log.own.committed.contains(&key)) {
            self.violate("P8", "an outcome is told before it is in the audit log".to_owned());
        }
    }
}
