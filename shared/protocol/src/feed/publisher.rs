//! The IDC agent's side of one subscription: brings a replica up to the source, and keeps it there.
//!
//! It asks its shell for rows, one read at a time, cuts them into pages, and sends as many pages as
//! the window allows. It knows only the heads and rows that it is given, and never guesses. The
//! result of a read for an earlier subscription of the link is dropped.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::sums::Sums;
use super::{Head, Row};
use crate::domain::Brand;
use crate::domain::catalogue::{EntityKey, Position};
use crate::wire::feed::{
    Begin, Entry, Fresh, Heard, Page, Subscribe, Sums as WireSums, ToPublisher, ToSubscriber, to_publisher,
};
use crate::wire::frame::{FEED_PAGE_BYTES, FEED_ROW_BYTES_MAX};

/// Pause after a read that the database did not answer.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Most brands of one replica.
const BRANDS_MAX: usize = 1_024;

/// Largest window that a subscriber may ask for, in pages.
const WINDOW_MAX: u32 = 64;

/// The publisher's limits.
#[derive(Debug, Clone, Copy)]
pub struct PublisherLimits {
    /// Rows or changes in one read.
    pub rows_max: usize,
    /// Most pages that are sent and not yet applied, whatever the subscriber asks for.
    pub window_max: u32,
    /// Interval at which the subscriber is told the source's position.
    pub fresh_every: Duration,
}

/// Violation of the protocol by the peer. Its link ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The subscription is invalid.
    #[error("a subscription to {0}")]
    BadSubscription(&'static str),
    /// There is no subscription yet.
    #[error("a message about a subscription that does not exist")]
    NotSubscribed,
    /// The peer acknowledged a page that was not sent.
    #[error("page {page} was applied, {sent} were sent")]
    NeverSent {
        /// Page that the peer named.
        page: u64,
        /// Pages that were sent.
        sent: u64,
    },
}

/// The database did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadFailed;

/// A read that the shell must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// Rows in the order of their keys.
    Page {
        /// Key after which to start; `None` for the first row.
        after: Option<EntityKey>,
        /// Largest number of rows.
        rows_max: usize,
    },
    /// Latest state of rows that changed after a position.
    Changes {
        /// Position after which to start.
        after: Position,
        /// Most changes.
        rows_max: usize,
    },
    /// Checksums of the source.
    Sums,
}

/// Result of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadResult {
    /// Rows in the order of their keys.
    Page {
        /// The rows.
        rows: Vec<Row>,
        /// Set if there are no more.
        last: bool,
    },
    /// Changed rows.
    Changes {
        /// The rows, one for each key.
        rows: Vec<Row>,
        /// Position up to which every change is included.
        position: Position,
    },
    /// The changes after that position are no longer kept, or the position is of another history.
    Lost,
    /// Checksums of the source.
    Sums {
        /// The last number that was given at the time of the read.
        head: Position,
        /// Sums of the buckets.
        sums: Sums,
        /// Buckets with a change that had no number yet.
        unsettled: Vec<u32>,
    },
}

/// Next action of the shell.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send this on the feed lane.
    Send(ToSubscriber),
    /// Read this and hand in the result. No other read is requested before that.
    Read {
        /// Brands of the rows.
        brands: Arc<[Brand]>,
        /// Kind of the read.
        read: Read,
    },
    /// This row is too large for the feed and counts as deleted. The shell logs it.
    TooLarge(EntityKey),
}

/// The publisher's state.
#[derive(Debug)]
pub struct Publisher {
    limits: PublisherLimits,
    head: Option<Head>,
    subscription: Option<Subscription>,
    /// Number of subscriptions so far. Each read belongs to one.
    subscriptions: u64,
    /// Subscription of the pending read.
    reading: Option<u64>,
    read_again_at: Option<Duration>,
    /// The subscriber's clock when it last sent it, and the time of its arrival.
    clock: Option<(u64, Duration)>,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Subscription {
    /// Number that the subscriber gave it.
    id: u64,
    brands: Arc<[Brand]>,
    window: u64,
    stage: Stage,
    /// Pages that are not yet sent and have no number yet. One read at a time fills it.
    ready: VecDeque<Page>,
    /// Pages sent, and those of them that are applied.
    sent: u64,
    applied: u64,
    sums_asked: bool,
    /// Head that was last sent to the subscriber, and the time of the next sending.
    told: Option<Position>,
    tell_at: Duration,
    /// Set if the head and the published changes may be of two histories. Only a read can decide
    /// it.
    doubtful: bool,
}

/// State of the subscriber after the pages cut so far.
#[derive(Debug)]
enum Stage {
    /// It named its position. A pending read shows if it can be resumed.
    Resuming(Position),
    /// It needs everything, and the head is not known yet.
    Waiting,
    /// Rows in the order of their keys, with S0 noted. The next read starts after this key.
    Rows { s0: Position, after: Option<EntityKey> },
    /// Changes from S0 up to S1.
    Replaying { at: Position, s1: Position },
    /// New changes.
    Following { at: Position },
}

impl Publisher {
    /// Makes a publisher for one feed lane, without a subscription.
    pub fn new(limits: PublisherLimits) -> Self {
        Self {
            limits,
            head: None,
            subscription: None,
            subscriptions: 0,
            reading: None,
            read_again_at: None,
            clock: None,
            outputs: VecDeque::new(),
        }
    }

    /// Takes a message of the subscriber.
    ///
    /// # Errors
    ///
    /// Fails if the subscriber breaks the protocol. Its link must then end.
    pub fn handle_message(&mut self, now: Duration, message: ToPublisher) -> Result<(), Violation> {
        self.clock = message.clock_micros.map(|clock| (clock, now)).or(self.clock);
        match message.kind {
            Some(to_publisher::Kind::Subscribe(subscribe)) => self.subscribe(now, subscribe)?,
            Some(to_publisher::Kind::Applied(applied)) => {
                let subscription = self.subscription.as_mut().ok_or(Violation::NotSubscribed)?;
                let (page, sent) = (applied.page, subscription.sent);
                if page > sent {
                    return Err(Violation::NeverSent { page, sent });
                }
                // A late acknowledgement of an earlier subscription has no effect.
                subscription.applied = subscription.applied.max(page);
            }
            Some(to_publisher::Kind::AskSums(_)) => {
                self.subscription.as_mut().ok_or(Violation::NotSubscribed)?.sums_asked = true;
            }
            // A message of a later version, which may be ignored.
            None => {}
        }
        self.go_on(now);
        Ok(())
    }

    /// Takes the source's current head. A head behind the published changes may be late or of
    /// another history. A read decides it.
    pub fn handle_head(&mut self, now: Duration, head: Head) {
        self.head = Some(head);
        if let Some(subscription) = &mut self.subscription {
            subscription.doubtful = subscription.is_ahead_of(head.position);
        }
        self.go_on(now);
    }

    /// Takes the result of the pending read.
    pub fn handle_found(&mut self, now: Duration, found: Result<ReadResult, ReadFailed>) {
        let belongs = self.reading.take() == Some(self.subscriptions);
        if let (true, Some(subscription)) = (belongs, &mut self.subscription) {
            match found {
                Ok(found) => subscription.take(found, self.head, &mut self.outputs),
                Err(ReadFailed) => self.read_again_at = Some(now + READ_AGAIN_AFTER),
            }
        }
        self.go_on(now);
    }

    /// Handles the passing of time.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.read_again_at.is_some_and(|at| at <= now) {
            self.read_again_at = None;
        }
        self.go_on(now);
    }

    /// Returns the time of the next call of [`Publisher::handle_timeout`].
    pub fn next_timeout(&self) -> Option<Duration> {
        let tell_at = self.subscription.as_ref().filter(|_| self.head.is_some()).map(|one| one.tell_at);
        self.read_again_at.into_iter().chain(tell_at).min()
    }

    /// Returns the next action, or `None` until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn subscribe(&mut self, now: Duration, subscribe: Subscribe) -> Result<(), Violation> {
        if subscribe.brands.is_empty() || subscribe.brands.len() > BRANDS_MAX {
            return Err(Violation::BadSubscription("no brands or too many"));
        }
        let brands: Option<Vec<Brand>> = subscribe.brands.iter().map(|name| Brand::new(name).ok()).collect();
        let mut brands = brands.ok_or(Violation::BadSubscription("what is no brand"))?;
        brands.sort_unstable();
        brands.dedup();
        if !(1..=WINDOW_MAX).contains(&subscribe.window) {
            return Err(Violation::BadSubscription("a window that cannot be"));
        }
        let held = subscribe.position.map(Position::from).filter(|position| position.seq > 0);
        self.subscriptions += 1;
        self.read_again_at = None;
        let mut subscription = Subscription {
            id: subscribe.subscription,
            brands: brands.into(),
            window: u64::from(subscribe.window.min(self.limits.window_max)),
            stage: held.map_or(Stage::Waiting, Stage::Resuming),
            ready: VecDeque::new(),
            sent: 0,
            applied: 0,
            sums_asked: false,
            told: None,
            tell_at: now,
            doubtful: false,
        };
        if held.is_none() {
            subscription.begin_anew(&mut self.outputs);
        }
        self.subscription = Some(subscription);
        Ok(())
    }

    /// Sends pages that fit the window, sends the head, and requests the next read.
    fn go_on(&mut self, now: Duration) {
        let (Some(subscription), Some(head)) = (&mut self.subscription, self.head) else { return };
        subscription.send_pages(&mut self.outputs);
        let heard = self
            .clock
            .map(|(clock_micros, came)| Heard { clock_micros, ago_micros: micros(now.saturating_sub(came)) });
        subscription.tell(now, head, heard, self.limits.fresh_every, &mut self.outputs);
        if self.reading.is_none()
            && self.read_again_at.is_none()
            && let Some(read) = subscription.next_read(head, self.limits.rows_max)
        {
            self.reading = Some(self.subscriptions);
            self.outputs.push_back(Output::Read { brands: subscription.brands.clone(), read });
        }
    }
}

impl Subscription {
    /// Starts with the whole catalogue.
    fn begin_anew(&mut self, outputs: &mut VecDeque<Output>) {
        self.stage = Stage::Waiting;
        self.ready.clear();
        (self.told, self.doubtful) = (None, false);
        self.begin(true, outputs);
    }

    fn begin(&self, bootstrap: bool, outputs: &mut VecDeque<Output>) {
        outputs.push_back(Output::Send(Begin { subscription: self.id, bootstrap }.into()));
    }

    /// Returns true if the published changes may not belong to the history of this head. A
    /// bootstrap needs no such check: it ends with the changes after its first position.
    fn is_ahead_of(&self, head: Position) -> bool {
        let Stage::Following { at } = self.stage else { return false };
        at.seq > head.seq || (at.seq == head.seq && at.mark != head.mark)
    }

    fn take(&mut self, found: ReadResult, head: Option<Head>, outputs: &mut VecDeque<Output>) {
        match (&mut self.stage, found) {
            (Stage::Resuming(_), ReadResult::Changes { rows, position }) => {
                self.begin(false, outputs);
                self.stage = Stage::Following { at: position };
                self.cut(rows, Some(position), false, outputs);
            }
            (Stage::Rows { s0, .. }, ReadResult::Page { rows, last: true }) => {
                // The read is done even if nothing seems to have changed: it also shows that S0
                // still exists.
                let (s0, s1) = (*s0, head.map_or(*s0, |head| head.position));
                self.stage = Stage::Replaying { at: s0, s1 };
                self.cut(rows, None, false, outputs);
            }
            (Stage::Rows { after, .. }, ReadResult::Page { rows, last: false }) => {
                if let Some(row) = rows.last() {
                    *after = Some(row.key.clone());
                }
                self.cut(rows, None, false, outputs);
            }
            (Stage::Replaying { s1, .. }, ReadResult::Changes { rows, position }) => {
                let (s1, complete) = (*s1, position.seq >= s1.seq);
                self.stage = if complete {
                    Stage::Following { at: position }
                } else {
                    Stage::Replaying { at: position, s1 }
                };
                self.cut(rows, complete.then_some(position), complete, outputs);
            }
            (Stage::Following { at }, ReadResult::Changes { rows, position }) => {
                let moved = *at != position;
                *at = position;
                // The position was found, so the head is only late.
                self.doubtful = false;
                if moved || !rows.is_empty() {
                    self.cut(rows, Some(position), false, outputs);
                }
            }
            (_, ReadResult::Lost) => self.begin_anew(outputs),
            (_, ReadResult::Sums { head, sums, unsettled }) => {
                self.sums_asked = false;
                let sums = WireSums { head: Some(head.into()), buckets: sums.as_slice().to_vec(), unsettled };
                outputs.push_back(Output::Send(sums.into()));
            }
            // The stage began anew meanwhile, so the result is useless.
            (_, ReadResult::Page { .. } | ReadResult::Changes { .. }) => {}
        }
    }

    /// Cuts rows into pages. The last page gets the position that they lead to.
    fn cut(
        &mut self,
        rows: Vec<Row>,
        position: Option<Position>,
        complete: bool,
        outputs: &mut VecDeque<Output>,
    ) {
        let (mut page, mut bytes) = (Page::default(), 0);
        for Row { key, mut row } in rows {
            if row.as_ref().is_some_and(|row| row.len() > FEED_ROW_BYTES_MAX) {
                outputs.push_back(Output::TooLarge(key.clone()));
                row = None;
            }
            bytes += row.as_ref().map_or(0, |row| row.len()) + key.code.as_str().len() + ENTRY_BYTES;
            page.entries.push(Entry::new(&key, row));
            if bytes >= FEED_PAGE_BYTES {
                self.ready.push_back(std::mem::take(&mut page));
                bytes = 0;
            }
        }
        if !page.entries.is_empty() || position.is_some() {
            page.position = position.map(Into::into);
            page.complete = complete;
            self.ready.push_back(page);
        }
    }

    fn send_pages(&mut self, outputs: &mut VecDeque<Output>) {
        while self.sent - self.applied < self.window
            && let Some(mut page) = self.ready.pop_front()
        {
            self.sent += 1;
            page.number = self.sent;
            outputs.push_back(Output::Send(page.into()));
        }
    }

    /// Sends the head at its interval, and at once after the pages have led to it. A head behind
    /// the subscriber would look to it like another history.
    fn tell(
        &mut self,
        now: Duration,
        head: Head,
        heard: Option<Heard>,
        every: Duration,
        outputs: &mut VecDeque<Output>,
    ) {
        if self.is_ahead_of(head.position) {
            self.tell_at = self.tell_at.max(now + every);
            return;
        }
        let is_there = self.ready.is_empty()
            && matches!(self.stage, Stage::Following { at } if at == head.position)
            && self.told != Some(head.position);
        if is_there || self.tell_at <= now {
            let age_micros = micros(now.saturating_sub(head.swept_at));
            let fresh = Fresh { head: Some(head.position.into()), age_micros, heard };
            outputs.push_back(Output::Send(fresh.into()));
            // A head that the pages have not led to yet is sent again after they have.
            self.told = is_there.then_some(head.position).or(self.told);
            self.tell_at = now + every;
        }
    }

    /// Returns the next read, or `None` while pages wait for the window.
    fn next_read(&mut self, head: Head, rows_max: usize) -> Option<Read> {
        if !self.ready.is_empty() || self.sent - self.applied >= self.window {
            return None;
        }
        if let Stage::Waiting = self.stage {
            self.stage = Stage::Rows { s0: head.position, after: None };
        }
        match &self.stage {
            Stage::Resuming(at) | Stage::Replaying { at, .. } => Some(Read::Changes { after: *at, rows_max }),
            Stage::Rows { after, .. } => Some(Read::Page { after: after.clone(), rows_max }),
            Stage::Following { at } if at.seq < head.position.seq || self.doubtful => {
                Some(Read::Changes { after: *at, rows_max })
            }
            Stage::Following { .. } => self.sums_asked.then_some(Read::Sums),
            Stage::Waiting => None,
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Approximate size of an entry without its row and code, in bytes.
const ENTRY_BYTES: usize = 64;

#[cfg(test)]
mod tests;
