//! A cloud agent's audit log, and the checks of its half of P8. The entry "sent" is durable before
//! a request is sent, and the entry of an outcome is durable before a caller learns it. The disk
//! may be full for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bridge_protocol::audit::Entry;
use bridge_protocol::order_link::sender::{BodyMark, RequestId};
use bridge_protocol::wire::order::to_idc;

use super::super::options::Sabotage;
use super::super::reference::Key;
use super::super::reference::answer::Payment;
use super::lines::key_of;
use super::replies::{CallerReply, NoEffect};
use super::{Event, World, note};

/// Longest time until an entry is durable or refused.
pub(super) const LOGGED_WITHIN: Duration = Duration::from_micros(1_500);

/// State of one process's log, and the actions that wait for entries.
#[derive(Default)]
pub(super) struct CloudLog {
    /// Keys that are logged as sent.
    sent: BTreeSet<Key>,
    /// Attempts whose outcomes are logged.
    answered: BTreeSet<usize>,
    payers_answered: BTreeSet<usize>,
    waiting: BTreeMap<u64, AfterLogging>,
    entries: u64,
    /// Entries of all processes of the agent.
    pub(super) book: Vec<Entry>,
    /// The disk is full until this moment.
    pub(super) refuses_until: Duration,
}

/// An action that waits until its entry is durable.
pub(super) enum AfterLogging {
    /// Pass a write to the order link.
    Send { attempt: usize, kind: Box<to_idc::Kind>, mark: BodyMark },
    /// Pass an order that was sealed again back to the order link.
    SendAgain { request: RequestId, attempt: usize, kind: Box<to_idc::Kind> },
    /// Answer a caller.
    Tell { attempt: usize, told: Box<CallerReply> },
    /// Pass a payer's request to the order link of payments.
    Pay { attempt: usize, kind: Box<to_idc::Kind>, mark: BodyMark },
    /// Answer a payer, with the state of its payment if it is known.
    TellPayer { attempt: usize, told: Box<CallerReply>, stands: Option<Box<Payment>> },
}

impl CloudLog {
    /// Returns the attempts of callers and of payers that wait only for the log.
    pub(super) fn into_callers(self) -> (Vec<usize>, Vec<usize>) {
        let (mut callers, mut payers) = (Vec::new(), Vec::new());
        for then in self.waiting.into_values() {
            match then {
                AfterLogging::Send { attempt, .. } | AfterLogging::Tell { attempt, .. } => {
                    callers.push(attempt)
                }
                AfterLogging::Pay { attempt, .. } | AfterLogging::TellPayer { attempt, .. } => {
                    payers.push(attempt)
                }
                AfterLogging::SendAgain { .. } => {}
            }
        }
        (callers, payers)
    }
}

impl World {
    /// Returns true if the agent believes that its log can be written.
    pub(super) fn cloud_log_is_writable(&self, cloud: usize) -> bool {
        self.now >= self.clouds[cloud].log.refuses_until
    }

    /// Makes the disk under an agent's log full for a while.
    pub(super) fn fill_cloud_disk(&mut self, cloud: usize) {
        note!(self, "the disk of cloud {cloud} is full");
        self.counts.cloud_disks_full += 1;
        self.clouds[cloud].log.refuses_until = self.now + self.dice.millis(5..=300);
    }

    /// Runs an action once its entry is durable.
    pub(super) fn log_at_cloud(&mut self, cloud: usize, then: AfterLogging) {
        let delay = self.dice.micros(50..=u64::try_from(LOGGED_WITHIN.as_micros()).unwrap_or(50));
        let (life, log) = (self.clouds[cloud].life, &mut self.clouds[cloud].log);
        log.entries += 1;
        let entry = log.entries;
        log.waiting.insert(entry, then);
        self.after(delay, Event::CloudLogged { cloud, life, entry });
    }

    /// Handles the disk's reply: the entry is written or refused.
    pub(super) fn cloud_logged(&mut self, cloud: usize, life: u32, entry: u64) {
        if self.clouds[cloud].life != life {
            return;
        }
        let Some(then) = self.clouds[cloud].log.waiting.remove(&entry) else { return };
        if self.cloud_log_is_writable(cloud) {
            self.note_logged(cloud, &then);
            self.do_logged(cloud, then);
        } else if self.sabotage == Some(Sabotage::SendUnlogged) {
            self.do_logged(cloud, then);
        } else {
            self.counts.cloud_entries_refused += 1;
            self.do_unlogged(cloud, then);
        }
    }

    fn note_logged(&mut self, cloud: usize, then: &AfterLogging) {
        let booked = match then {
            AfterLogging::Send { kind, .. }
            | AfterLogging::SendAgain { kind, .. }
            | AfterLogging::Pay { kind, .. } => self.sent(kind),
            AfterLogging::Tell { attempt, told } => self.answered(*attempt, told),
            AfterLogging::TellPayer { attempt, told, stands } => {
                self.payer_answered(*attempt, told, stands.as_deref())
            }
        };
        if let Some(event) = booked {
            self.book(cloud, event);
        }
        let log = &mut self.clouds[cloud].log;
        match then {
            AfterLogging::Send { attempt, .. } | AfterLogging::SendAgain { attempt, .. } => {
                log.sent.extend(self.attempts[*attempt].key);
            }
            AfterLogging::Tell { attempt, .. } => {
                log.answered.insert(*attempt);
            }
            AfterLogging::Pay { attempt, .. } => {
                log.sent.insert(self.payment_world.attempts[*attempt].key);
            }
            AfterLogging::TellPayer { attempt, .. } => {
                log.payers_answered.insert(*attempt);
            }
        }
    }

    fn do_logged(&mut self, cloud: usize, then: AfterLogging) {
        match then {
            AfterLogging::Send { attempt, kind, mark } => self.submit(attempt, *kind, mark),
            AfterLogging::SendAgain { request, kind, .. } => self.sealed(cloud, request, Some(*kind)),
            AfterLogging::Tell { attempt, told } => {
                if !self.clouds[cloud].log.answered.contains(&attempt) {
                    self.violate(
                        "P8",
                        format!("attempt {attempt} is told {told:?}, and the cloud's log lacks it"),
                    );
                }
                self.tell(attempt, *told);
            }
            AfterLogging::Pay { attempt, kind, mark } => self.submit_payment(attempt, *kind, mark),
            AfterLogging::TellPayer { attempt, told, stands } => {
                if !self.clouds[cloud].log.payers_answered.contains(&attempt) {
                    let what =
                        format!("payment attempt {attempt} is told {told:?}, and the cloud's log lacks it");
                    self.violate("P8", what);
                }
                self.tell_payer(attempt, &told, stands.map(|stands| *stands));
            }
        }
    }

    /// Handles an action whose entry was refused. A request without an entry is not sent. An
    /// outcome without an entry is not told: the caller gets "unknown" and can ask. Answers which
    /// say that nothing was taken are still given. Every answer given is logged as soon as the disk
    /// has room.
    fn do_unlogged(&mut self, cloud: usize, then: AfterLogging) {
        match then {
            AfterLogging::Send { attempt, .. } => {
                self.tell(attempt, CallerReply::Nothing(NoEffect::NotLogged))
            }
            AfterLogging::SendAgain { request, attempt, .. } => {
                // The order is refused because of the log, not for lack of a key.
                self.attempts[attempt].sealable = false;
                self.sealed(cloud, request, None);
            }
            AfterLogging::Tell { attempt, told } => {
                let told = if told.says_not_taken() { *told } else { CallerReply::Unknown };
                let booked = self.answered(attempt, &told);
                booked.into_iter().for_each(|event| self.book(cloud, event));
                self.tell(attempt, told);
            }
            AfterLogging::Pay { attempt, .. } => {
                self.tell_payer(attempt, &CallerReply::Nothing(NoEffect::NotLogged), None)
            }
            AfterLogging::TellPayer { attempt, told, .. } => {
                let told = if told.says_not_taken() { *told } else { CallerReply::Unknown };
                let booked = self.payer_answered(attempt, &told, None);
                booked.into_iter().for_each(|event| self.book(cloud, event));
                self.tell_payer(attempt, &told, None);
            }
        }
    }

    /// P8: checks before a write is sent that its entry is durable.
    pub(super) fn check_logged_send(&mut self, cloud: usize, kind: Option<&to_idc::Kind>) {
        let Some(key) = kind.and_then(key_of) else { return };
        if !self.clouds[cloud].log.sent.contains(&key) {
            self.violate("P8", format!("cloud {cloud} sends a write that its log does not have as sent"));
        }
    }
}
