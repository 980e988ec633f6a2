//! Restores of the database to an earlier moment, as the documents describe them. The DBA stops
//! every data centre's agent before, and starts them after. The restore removes what was committed
//! after that moment, and nothing else; the agents' logs name it.

use std::collections::BTreeSet;
use std::time::Duration;

use bridge_protocol::audit::Event as Logged;

use super::super::options::Sabotage;
use super::super::reference::{Key, Order, Row};
use super::callers::{Attempt, AttemptEnd, Request, Write};
use super::{Event, World, note};

/// A commit as a log names it: the key, the order, the outcome, and the ledger's position.
pub(super) type Named = (Key, Order, String, i64);

/// Most numbers of a sequence that a restore may skip, because PostgreSQL logs sequences ahead.
const SKIPPED_MAX: u64 = 32;

fn named(row: &Row) -> Named {
    (row.key, row.order, row.outcome.code.clone(), row.position)
}

impl World {
    /// Schedules the restores.
    pub(super) fn plan_restores(&mut self) {
        if self.fault_rates.restores > 0 {
            self.ledger.archive();
        }
        if self.sabotage == Some(Sabotage::RestoreTooEarly) {
            self.ledger.restore_too_early();
        }
        for _ in 0..self.fault_rates.restores {
            let until = u64::try_from(self.faults_until.as_micros()).unwrap_or(0);
            let at = self.dice.micros(0..=until);
            self.at(at, Event::StopForRestore);
        }
    }

    /// Stops the agents and the database.
    pub(super) fn stop_for_restore(&mut self) {
        if self.now < self.restored_at {
            return;
        }
        let back = match self.dice.index(3) {
            0 => self.dice.micros(0..=10_000),
            1 => self.dice.millis(0..=300),
            _ => self.dice.micros(0..=u64::try_from(self.now.as_micros()).unwrap_or(0)),
        };
        let (to, takes) = (self.now.saturating_sub(back), self.dice.millis(100..=600));
        note!(self, "a DBA stops all data centres' agents, to restore what was {back:?} ago");
        self.restored_at = self.now + takes;
        for idc in 0..self.idcs.len() {
            if self.idcs[idc].up {
                self.kill_idc(idc);
            }
        }
        self.database_down_until = self.database_down_until.max(self.restored_at);
        self.ledger.go_away(self.database_down_until);
        self.after(takes, Event::Restored { to });
    }

    /// Brings the database back. P1: it lacks what was committed after that moment, and nothing
    /// else.
    pub(super) fn restored(&mut self, to: Duration) {
        let skipped = self.dice.between(0..=SKIPPED_MAX);
        self.ledger.restore(to, i64::try_from(skipped).unwrap_or(0));
        let taken = self.history.restore(to);
        note!(self, "the database is restored to {to:?}; {} outcomes are gone", taken.len());
        self.counts.ledger_restores += 1;
        self.counts.outcomes_taken += taken.len() as u64;
        self.taken.extend(taken.iter().map(named));
        self.check_restored();
        let names = match self.named_by_logs() {
            Ok(names) => names,
            Err(what) => return self.violate("P8", format!("a log cannot be read: {what}")),
        };
        for row in taken {
            let Some(id) = self.keys_sent.get(&row.key).copied() else { continue };
            let write = &mut self.writes[id];
            write.row = None;
            if write.receipt.as_ref() == Some(&row) {
                self.receipt_taken(id, &row, names.contains(&named(&row)));
            }
        }
        self.check_names(&names);
        self.look_again_what_existed();
        self.settle_by_hand(to);
    }

    fn check_restored(&mut self) {
        let (outcomes, orders, available) =
            (self.stored_outcomes(), self.stored_orders(), self.ledger.available());
        if let Err((_, differs)) =
            self.history.compare(&outcomes, &orders, &available, |order| self.body_of(order))
        {
            self.violate("P1", format!("after a restore {differs}"));
        }
        if let Err(broken) = self.ledger.invariants() {
            self.violate("P3", format!("after a restore {broken}"));
        }
    }

    /// Handles a caller whose receipt is for a removed outcome. P8: some data centre's log must
    /// name the outcome, so that the shop can settle it with its customer. The caller may try again
    /// under the same key.
    fn receipt_taken(&mut self, id: usize, row: &Row, is_named: bool) {
        self.counts.receipts_taken += 1;
        if !is_named {
            self.violate(
                "P8",
                format!("a restore took what caller {id} was told, and no log names it: {row:?}"),
            );
        }
        self.writes[id].forget_receipt();
        if self.dice.happens(6_000) {
            let delay = self.dice.millis(1..=800);
            self.after(delay, Event::Wake(id));
        }
    }

    /// P8: each commit that the logs name is in the ledger, or a restore removed it.
    fn check_names(&mut self, names: &BTreeSet<Named>) {
        let is_known = |name: &&Named| {
            let there = self.history.row(&name.0).map(named);
            there.as_ref() == Some(*name) || self.taken.contains(*name)
        };
        if let Some(name) = names.iter().find(|name| !is_known(name)) {
            self.violate("P8", format!("a log says that this was committed, which it never was: {name:?}"));
        }
    }

    /// Returns the commits that data centres' logs name.
    fn named_by_logs(&self) -> Result<BTreeSet<Named>, String> {
        let mut names = BTreeSet::new();
        for idc in &self.idcs {
            for entry in idc.log.whole_entries()? {
                if let Logged::OrderCommitted(ended) = entry.event
                    && let Some(position) = ended.position
                {
                    let (key, order) = (*ended.key.as_bytes(), *ended.order.as_bytes());
                    names.insert((key, order, ended.outcome.as_str().to_owned(), position));
                }
            }
        }
        Ok(names)
    }

    /// Updates `existed` of open attempts: a question from before the restore is answered after it,
    /// and a removed order is not found.
    fn look_again_what_existed(&mut self) {
        for attempt in 0..self.attempts.len() {
            let Attempt { write, request, order, key, existed, ending, .. } = &self.attempts[attempt];
            if !*existed || *ending != AttemptEnd::Open {
                continue;
            }
            let Write { brand, .. } = &self.writes[*write];
            let brand = self.shop.brands().get(*brand).map_or("", |brand| brand.as_str());
            let key = key.as_ref().filter(|_| *request == Request::Ask { by_key: true });
            let exists = self.history.find(brand, *order.as_bytes(), key).is_some();
            self.attempts[attempt].existed = exists;
        }
    }
}
