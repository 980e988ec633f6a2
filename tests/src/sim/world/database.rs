//! The database that the data centres share. Batches run statement by statement, interleaved with
//! each other and with a session that holds rows. A COMMIT can end in every way in which a real
//! database's can.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bridge_idc::orders::core::{Attempt, AttemptEnd};
use bridge_idc::orders::planner::Awaited;
use bridge_idc::orders::store::model::{Change, CommitFate, Effect};
use bridge_idc::orders::store::{Batch, BatchEnd, RequestEnd};

use super::super::options::Sabotage;
use super::{Event, World, note, stored};

/// A batch that the database runs, and the agent that waits for its end.
pub(super) struct Commit {
    idc: usize,
    /// Number of the agent's process.
    life: u32,
    work: Pin<Box<dyn Future<Output = (Batch, BatchEnd)>>>,
    committer: usize,
    awaited: Option<Awaited>,
}

impl World {
    /// Starts a batch, unless its agent was killed meanwhile.
    pub(super) fn commit(&mut self, idc: usize, life: u32, attempt: Attempt) {
        if self.idcs[idc].life != life {
            return;
        }
        let Attempt { committer, awaited, batch, .. } = attempt;
        let (ledger, waits_for) = (self.ledger.clone(), awaited.clone());
        let work = Box::pin(async move {
            let end = ledger.commit(&batch, waits_for.as_ref()).await;
            (batch, end)
        });
        self.commits_made += 1;
        self.commits.insert(self.commits_made, Commit { idc, life, work, committer, awaited });
        self.statement(self.commits_made);
    }

    /// Runs the next statement of a batch.
    pub(super) fn statement(&mut self, id: u64) {
        let (fate, cancels) = (self.fate(), self.dice.happens(self.fault_rates.statement_cancelled));
        let Some(commit) = self.commits.get_mut(&id) else { return };
        self.ledger.set_now(self.now, fate, cancels);
        let before = self.ledger.ends();
        let polled = commit.work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        self.check_effects();
        if self.ledger.ends().late > before.late {
            let delay = self.dice.millis(1..=40);
            self.after(delay, Event::LateCommits);
        }
        match polled {
            Poll::Ready((batch, end)) => self.batch_end(id, batch, end),
            Poll::Pending => {
                let waits = self.ledger.waited();
                self.counts.row_waits += u64::from(waits);
                let delay = if waits { self.dice.micros(500..=5_000) } else { self.dice.micros(20..=600) };
                self.after(delay, Event::Statement(id));
            }
        }
    }

    pub(super) fn fate(&mut self) -> CommitFate {
        let fault_rates = &self.fault_rates;
        let fates = [
            (fault_rates.commit_reply_lost, CommitFate::ReplyLost),
            (fault_rates.commit_lost, CommitFate::Lost),
            (fault_rates.commit_late, CommitFate::Late),
        ];
        let fate = fates.into_iter().find(|(chance, _)| self.dice.happens(*chance));
        fate.map_or(CommitFate::Done, |(_, fate)| fate)
    }

    /// Ends a batch, and schedules the message to its agent.
    fn batch_end(&mut self, id: u64, batch: Batch, end: BatchEnd) {
        let Some(Commit { idc, life, committer, awaited, .. }) = self.commits.remove(&id) else { return };
        let BatchEnd { mut ends, outage } = end;
        let (mut committed, mut unknown, mut waiting) = (0, 0, 0);
        for (request, end) in batch.requests.iter().zip(&mut ends) {
            match end {
                RequestEnd::Committed(answer) => {
                    committed += 1;
                    self.check_answer(request.key.as_bytes(), &answer.answer().clone());
                }
                RequestEnd::Unknown if self.sabotage == Some(Sabotage::DenyLostCommits) => {
                    *end = RequestEnd::NotCommitted
                }
                RequestEnd::Unknown => unknown += 1,
                RequestEnd::Waits(_) => waiting += 1,
                RequestEnd::NotCommitted => {}
            }
        }
        let all = ends.len();
        note!(
            self,
            "the batch of idc {idc} ends: {committed} of {all} done, {waiting} wait, {unknown} in doubt"
        );
        self.counts.commits += u64::from(committed > 0);
        self.counts.commits_in_part += u64::from(committed > 0 && committed + waiting < ends.len());
        self.counts.commits_in_doubt += u64::from(unknown > 0);
        self.counts.commits_denied += u64::from(outage.is_some() && unknown == 0);
        self.counts.requests_set_apart += waiting as u64;
        let requests = batch.requests.into_iter().zip(ends).collect();
        let ended = AttemptEnd { committer, awaited, requests, outage: outage.is_some() };
        let delay = self.dice.micros(50..=1_000);
        self.after(delay, Event::BatchEnd { idc, life, ended });
    }

    /// Sets the ledger's clock for effects that no statement causes.
    pub(super) fn tell_ledger_the_time(&self) {
        self.ledger.set_now(self.now, CommitFate::Done, false);
    }

    /// Checks the effects that have become durable since the last call.
    pub(super) fn check_effects(&mut self) {
        let effects = self.ledger.take_effects();
        if effects.is_empty() {
            return;
        }
        self.history.set_now(self.now);
        for effect in effects {
            match effect {
                Effect::Outcome { row, began_after } => {
                    self.check_effect(stored::row(&row), row.operation == "place", began_after);
                }
                Effect::Changed(Change::Restock { sku_id, units }) => self.history.restock(sku_id, units),
                Effect::Changed(Change::Price { sku_id, price }) => self.history.set_price(sku_id, price),
                Effect::Payment(row) => self.check_payment(&row),
                Effect::Refund(row) => self.check_refund(&row),
            }
        }
        if let Err(broken) = self.ledger.invariants() {
            self.violate("P3", broken);
        }
        if self.sabotage == Some(Sabotage::AcknowledgeBeforeCommit) {
            let delay = self.dice.millis(1..=40);
            self.after(delay, Event::Sync);
        }
    }

    /// Ends the COMMITs that are late: all are done, or all fail.
    pub(super) fn end_late_commits(&mut self) {
        let commits = self.dice.happens(5_000);
        self.tell_ledger_the_time();
        self.ledger.end_late(commits);
        self.check_effects();
    }

    /// Ends the batches of an agent that was killed. A COMMIT that is under way may still be done.
    pub(super) fn orphan_commits(&mut self, idc: usize) {
        let orphans = self.commits.iter().filter(|(_, commit)| commit.idc == idc);
        for id in Vec::from_iter(orphans.map(|(id, _)| *id)) {
            self.counts.commits_orphaned += 1;
            let commits = self.dice.happens(5_000);
            self.tell_ledger_the_time();
            self.ledger.set_commits_orphans(commits);
            self.commits.remove(&id);
        }
        self.check_effects();
    }

    /// Holds the stock of a SKU for a while, as a DBA's session may.
    pub(super) fn hold_row(&mut self) {
        let sku_id = i64::try_from(self.dice.index(self.shop.stock.len())).unwrap_or(0) + 1;
        let hot = self.dice.happens(5_000);
        let sku_id = if hot { 1 } else { sku_id };
        let Some(holder) = self.ledger.hold(sku_id) else { return };
        self.counts.rows_held += 1;
        note!(self, "a session holds the stock of SKU row {sku_id}");
        self.holders_made += 1;
        self.holders.insert(self.holders_made, holder);
        let delay = self.dice.millis(5..=1_500);
        self.after(delay, Event::LetGo(self.holders_made));
    }

    pub(super) fn let_go(&mut self, holder: u64) {
        if let Some(holder) = self.holders.remove(&holder) {
            self.ledger.let_go(holder);
        }
    }
}
