//! A data centre's agent: the real core, and a simulated driver around it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bridge_idc::orders::core::{AttemptEnd, Input, OrderCore, OrderLimits, Output};
use bridge_idc::orders::open::OpenFailure;
use bridge_idc::payments::core::PaymentCore;
use bridge_idc::vault::keyring::Keyring;
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::receiver::Reply;
use bridge_protocol::seal::opening::{Decapsulated, OpenError};

use super::clocks::{Clock, Host};
use super::logs::Log;
use super::look_ups::Question;
use super::payments::Service;
use super::{Event, World, note};

/// The agent of one data centre.
pub(super) struct DataCentre {
    /// Number of the process, counted from 0.
    pub(super) life: u32,
    pub(super) up: bool,
    pub(super) agent: OrderCore,
    /// The needs (keys, orders, SKUs) of the batch that each committer has under way.
    pub(super) committing: BTreeMap<usize, BTreeSet<String>>,
    /// The audit log on the disk of the agent's host.
    pub(super) log: Log,
    pub(super) clock: Clock,
    /// The core of payments, which routes requests and answers, and the service that carries
    /// requests out.
    pub(super) payment_core: PaymentCore,
    pub(super) service: Option<Service>,
}

impl DataCentre {
    pub(super) fn new(limits: OrderLimits, keys: Arc<Keyring>) -> Self {
        let agent = OrderCore::new(limits, keys);
        Self {
            life: 0,
            up: true,
            agent,
            committing: BTreeMap::new(),
            log: Log::default(),
            clock: Clock::default(),
            payment_core: PaymentCore::new(0),
            service: None,
        }
    }
}

impl World {
    /// Passes an input to the core, and carries out its outputs.
    pub(super) fn tell_idc(&mut self, idc: usize, input: Input) {
        let now = self.clock(Host::Idc(idc));
        self.idcs[idc].agent.set_time(self.now);
        self.idcs[idc].agent.handle(input, now, self.dice.rng());
        let life = self.idcs[idc].life;
        while let Some(output) = self.idcs[idc].agent.poll_output(now) {
            match output {
                Output::Decapsulate { link, session } => {
                    let delay = self.dice.micros(100..=3_000);
                    let session = session.decapsulate();
                    self.after(delay, Event::Decapsulated { idc, life, link, session });
                }
                Output::Audit(round) => self.audit(idc, round),
                Output::Commit(attempt) => {
                    let (committer, batch) = (attempt.committer, &attempt.batch);
                    note!(
                        self,
                        "committer {committer} of idc {idc} commits {} requests",
                        batch.requests.len()
                    );
                    self.check_batch(idc, batch);
                    self.check_committers(idc, &attempt);
                    self.check_logged_batch(idc, batch);
                    let delay = match attempt.again {
                        // The real driver also waits before it tries again.
                        true => self.dice.millis(5..=200),
                        false => self.dice.micros(50..=500),
                    };
                    self.after(delay, Event::Commit { idc, life, attempt });
                }
                Output::LookUp { token, brand, order, key } => {
                    let delay = self.dice.micros(100..=3_000);
                    let question = Question { token, brand, order, key };
                    self.after(delay, Event::LookUp { idc, life, question });
                }
                Output::Send(Reply { link, lane, message }) => {
                    self.check_logged_answer(idc, &message);
                    self.send_answer(link, lane, &message);
                }
                Output::Rejected { failure: OpenFailure::Envelope(OpenError::SessionUnknown), .. } => {
                    self.counts.sessions_unknown += 1;
                }
                Output::Rejected { order, failure: OpenFailure::Envelope(OpenError::UnknownKey) } => {
                    self.check_unknown_key(idc, order);
                }
                Output::Rejected { failure, .. } => {
                    self.violate("SEALING", format!("an honest order is refused: {failure}"));
                }
            }
        }
        self.tell_payment_core_of_log(idc);
    }

    /// Passes the end of a batch to the core, if the process is still the same.
    pub(super) fn batch_ends(&mut self, idc: usize, life: u32, ended: AttemptEnd) {
        if self.idcs[idc].life == life {
            if ended.awaited.is_none() {
                self.idcs[idc].committing.remove(&ended.committer);
            }
            self.tell_idc(idc, Input::Batch(ended));
        }
    }

    /// Passes a decapsulated session to the core, if the process is still the same.
    pub(super) fn decapsulated(&mut self, idc: usize, life: u32, link: LinkId, session: Decapsulated) {
        if self.idcs[idc].life == life {
            self.tell_idc(idc, Input::Decapsulated { link, session });
        }
    }

    /// Kills the process. Its links die, and work that is not committed is lost.
    pub(super) fn kill_idc(&mut self, idc: usize) {
        self.counts.idc_restarts += 1;
        note!(self, "idc {idc} is killed");
        for slot in 0..self.slots.len() {
            if self.slots[slot].idc == idc
                && let Some(link) = self.slots[slot].link
            {
                self.kill_link(link);
            }
        }
        self.orphan_commits(idc);
        self.close_payments(idc);
        self.idcs[idc].log.crash(&mut self.dice);
        self.idcs[idc].life += 1;
        self.idcs[idc].up = false;
        let delay = self.downtime();
        self.after(delay, Event::IdcStarts(idc));
    }

    pub(super) fn idc_starts(&mut self, idc: usize) {
        if self.now < self.restored_at {
            let delay = self.dice.millis(1..=300);
            return self.at(self.restored_at + delay, Event::IdcStarts(idc));
        }
        note!(self, "idc {idc} starts");
        self.idcs[idc].agent = OrderCore::new(self.idc_limits, self.keys.folders[idc].ring.clone());
        self.idcs[idc].committing.clear();
        self.recover_log(idc);
        self.book_idc_start(idc);
        self.idcs[idc].up = true;
        self.open_payments(idc);
    }
}
