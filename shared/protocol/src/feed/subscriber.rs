//! The cloud agent's side of the feed: follows one publisher at a time, and knows the age of the
//! replica.
//!
//! Pages change the replica only in order. The rows of a bootstrap are collected beside the served
//! ones and replace them with the last page. An interrupted bootstrap is dropped and begun anew.
//!
//! **Drift** is found by comparing sums, and there are no false alarms. The source's sums are
//! compared after the replica has reached the head at which they were read. A bucket counts only if
//! none of its changes was unnumbered at that read and no later page brought one of its rows. Then
//! every change in the bucket that the read saw is numbered, applied, and was sent before the sums.
//! The state sent for its key was read after that change and before the sums, so it is the state
//! that the sums saw.
//!
//! Two reads with equal sums would prove less. A unit of stock that was taken and returned between
//! them leaves no trace in the second, but the replica may have the row from between.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::Row;
use super::sums::{BUCKETS, Sums, bucket};
use crate::domain::Brand;
use crate::domain::catalogue::{EntityKind, Position};
use crate::wire::feed::{
    Applied, AskSums, Begin, Entry, Fresh, Page, Subscribe, Sums as WireSums, ToPublisher, ToSubscriber,
    to_subscriber,
};
use crate::wire::lane::LinkId;

/// Pause before another comparison, after sums that differ for any reason.
const COMPARE_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// The subscriber's limits.
#[derive(Debug, Clone, Copy)]
pub struct SubscriberLimits {
    /// Most pages that may be unacknowledged.
    pub window: u32,
    /// Time without a message after which a publisher is left for another one.
    pub silent_after: Duration,
    /// Interval at which sums are compared.
    pub sums_every: Duration,
}

/// Violation of the protocol by the peer. Its link ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A page is missing or came twice.
    #[error("page {came} came in the place of page {expected}")]
    OutOfOrder {
        /// Page that came.
        came: u64,
        /// Page that was expected.
        expected: u64,
    },
    /// The source resumes a replica that is empty.
    #[error("the feed resumes although the replica holds nothing")]
    NothingToResume,
    /// More pages came than the window allows.
    #[error("more pages came than the window allows")]
    BeyondWindow,
    /// A page's position goes back or is missing.
    #[error("a page's position goes back, or is missing where it must be")]
    BadPosition,
    /// A bootstrap ended that was not begun.
    #[error("a bootstrap was completed that was not begun")]
    NotBootstrapping,
    /// A row has a brand that was not requested, or an invalid key.
    #[error("a page has a row that was not asked for")]
    ForeignRow,
    /// The number of sums is wrong.
    #[error("sums that are not of {BUCKETS} buckets")]
    BadSums,
}

/// Next action of the shell.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send this on the feed lane of a link.
    Send {
        /// The link.
        link: LinkId,
        /// The message.
        message: ToPublisher,
    },
    /// A bootstrap begins. Collect the next rows beside the served ones, and drop those of an
    /// unfinished bootstrap.
    StartAnew,
    /// Apply these rows and report the page as applied.
    Apply {
        /// Number of the page.
        page: u64,
        /// The rows, one for each key.
        rows: Vec<Row>,
        /// Position of the replica afterwards; `None` within a bootstrap.
        position: Option<Position>,
        /// Set if the collected rows must replace the served ones.
        complete: bool,
    },
    /// The served rows were equal to the source at this moment of the caller's clock or later (see
    /// [`Heard`](crate::wire::feed::Heard)).
    Fresh {
        /// The moment.
        at: Duration,
    },
    /// Hand in the sums of the served rows.
    OwnSums,
    /// The served rows differ from the source in these buckets. The shell logs it, and a bootstrap
    /// follows.
    Drifted {
        /// Indexes of the buckets.
        buckets: Vec<usize>,
    },
}

/// The subscriber's state.
#[derive(Debug)]
pub struct Subscriber {
    limits: SubscriberLimits,
    brands: BTreeSet<Brand>,
    /// Position of the applied and served rows.
    held: Option<Position>,
    /// Set if only a bootstrap helps: one has begun and is not complete, or the served rows have
    /// drifted.
    anew: bool,
    /// Links with a feed lane, the most recently tried one last.
    links: VecDeque<LinkId>,
    following: Option<ActiveSubscription>,
    /// Last number of a subscription.
    subscriptions: u64,
    /// Last number of a page over all subscriptions. The shell may still be applying a page of an
    /// earlier one.
    pages: u64,
    /// Last page that is applied.
    pages_applied: u64,
    /// Positions of pages that are not applied yet.
    on_the_way: VecDeque<(u64, Position)>,
    sums_at: Duration,
    /// The source's sums, until they are compared.
    told: Option<SourceSums>,
    outputs: VecDeque<Output>,
}

/// A subscription.
#[derive(Debug)]
struct ActiveSubscription {
    link: LinkId,
    subscription: u64,
    /// Set after its answer has arrived. Earlier messages belong to an earlier subscription.
    begun: bool,
    bootstrapping: bool,
    /// Pages of all subscriptions before it.
    before: u64,
    /// Pages received, and those of them that are applied.
    received: u64,
    applied: u64,
    /// Position that the received pages lead to.
    reached: Option<Position>,
    /// The source's last head, and the moment at which a replica at that head was equal to it.
    source: Option<(Position, Duration)>,
    heard_at: Duration,
}

/// The source's sums, as it sent them.
#[derive(Debug)]
struct SourceSums {
    head: Position,
    /// Page before which the sums came. Until that page is applied, the replica may be of another
    /// history.
    behind: u64,
    sums: Sums,
    /// Buckets that cannot be compared: they had an unnumbered change at that read, or a row of
    /// them came since.
    unsettled: BTreeSet<usize>,
}

impl Subscriber {
    /// Makes a subscriber for a replica of these brands, with its position if it is not empty.
    pub fn new(limits: SubscriberLimits, brands: Vec<Brand>, held: Option<Position>) -> Self {
        Self {
            limits,
            brands: brands.into_iter().collect(),
            held,
            anew: false,
            links: VecDeque::new(),
            following: None,
            subscriptions: 0,
            pages: 0,
            pages_applied: 0,
            on_the_way: VecDeque::new(),
            sums_at: limits.sums_every,
            told: None,
            outputs: VecDeque::new(),
        }
    }

    /// Returns the position of the served rows; `None` while there are none.
    pub fn position(&self) -> Option<Position> {
        self.held
    }

    /// Takes a link with a feed lane that is up.
    pub fn handle_link_up(&mut self, now: Duration, link: LinkId) {
        // It goes before the links that were tried already.
        self.links.push_front(link);
        if self.following.is_none() {
            self.subscribe(now);
        }
    }

    /// Takes the loss of a link.
    pub fn handle_link_down(&mut self, now: Duration, link: LinkId) {
        self.links.retain(|known| *known != link);
        if self.following.as_ref().is_some_and(|following| following.link == link) {
            self.subscribe(now);
        }
    }

    /// Takes a message. A message of a link that is no longer followed has no effect.
    ///
    /// # Errors
    ///
    /// Fails if the publisher breaks the protocol. Its link must then end.
    pub fn handle_message(
        &mut self,
        now: Duration,
        link: LinkId,
        message: ToSubscriber,
    ) -> Result<(), Violation> {
        let Some(following) = self.following.as_mut().filter(|following| following.link == link) else {
            return Ok(());
        };
        following.heard_at = now;
        let handled = match message.kind {
            Some(to_subscriber::Kind::Begin(begin)) => self.begin(begin),
            // It belongs to an earlier subscription on the same link.
            Some(_) if !following.begun => Ok(()),
            Some(to_subscriber::Kind::Page(page)) => self.page(page),
            Some(to_subscriber::Kind::Fresh(fresh)) => {
                self.fresh(now, fresh);
                Ok(())
            }
            Some(to_subscriber::Kind::Sums(sums)) => self.sums(sums),
            // A message of a later version, which may be ignored.
            None => Ok(()),
        };
        if handled.is_err() {
            self.subscribe(now);
        }
        handled
    }

    /// Takes that a page, and all before it, is applied.
    pub fn handle_applied(&mut self, now: Duration, page: u64) {
        self.pages_applied = self.pages_applied.max(page);
        while let Some((_, position)) = self.on_the_way.pop_front_if(|(number, _)| *number <= page) {
            self.held = Some(position);
        }
        // The publisher does not know pages of an earlier subscription.
        let Some(following) = self.following.as_mut().filter(|one| page > one.before) else { return };
        let page = (page - following.before).min(following.received);
        following.applied = following.applied.max(page);
        let link = following.link;
        self.say(now, link, Applied { page });
        self.look_at_source();
        self.compare();
    }

    /// Takes the sums of the served rows.
    pub fn handle_own_sums(&mut self, now: Duration, own: &Sums) {
        if !self.is_comparable() {
            return;
        }
        let Some(told) = self.told.take() else { return };
        let drifted = told.drifted(own);
        if drifted.is_empty() {
            // The difference may still be on its way, so it is checked again soon.
            if told.sums != *own {
                self.sums_at = self.sums_at.min(now + COMPARE_AGAIN_AFTER);
            }
            return;
        }
        self.outputs.push_back(Output::Drifted { buckets: drifted });
        self.anew = true;
        self.subscribe(now);
    }

    /// Handles the passing of time.
    pub fn handle_timeout(&mut self, now: Duration) {
        let Some(following) = &self.following else { return };
        if now >= following.heard_at + self.limits.silent_after {
            self.subscribe(now);
        } else if now >= self.sums_at {
            self.sums_at = now + self.limits.sums_every;
            if following.begun && !following.bootstrapping {
                let link = following.link;
                self.say(now, link, AskSums {});
            }
        }
    }

    /// Returns the time of the next call of [`Subscriber::handle_timeout`].
    pub fn next_timeout(&self) -> Option<Duration> {
        let following = self.following.as_ref()?;
        Some(self.sums_at.min(following.heard_at + self.limits.silent_after))
    }

    /// Returns the next action, or `None` until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Sends a message together with the current clock.
    fn say(&mut self, now: Duration, link: LinkId, what: impl Into<ToPublisher>) {
        let clock_micros = u64::try_from(now.as_micros()).ok();
        let message = ToPublisher { clock_micros, ..what.into() };
        self.outputs.push_back(Output::Send { link, message });
    }

    /// Subscribes on the link that was tried least recently.
    fn subscribe(&mut self, now: Duration) {
        self.following = None;
        self.told = None;
        let Some(link) = self.links.pop_front() else { return };
        self.links.push_back(link);
        self.subscriptions += 1;
        let held = self.held.filter(|_| !self.anew);
        let subscribe = Subscribe {
            brands: self.brands.iter().map(|brand| brand.as_str().to_owned()).collect(),
            position: held.map(Into::into),
            window: self.limits.window,
            subscription: self.subscriptions,
        };
        self.say(now, link, subscribe);
        self.following = Some(ActiveSubscription {
            link,
            subscription: self.subscriptions,
            begun: false,
            bootstrapping: false,
            before: self.pages,
            received: 0,
            applied: 0,
            reached: held,
            source: None,
            heard_at: now,
        });
    }

    fn begin(&mut self, begin: Begin) -> Result<(), Violation> {
        let Some(following) = self.following.as_mut().filter(|one| one.subscription == begin.subscription)
        else {
            return Ok(());
        };
        following.begun = true;
        if begin.bootstrap {
            // It may come in the middle of a subscription, if the source cannot resume any more.
            following.bootstrapping = true;
            // This holds until the last page: rows collected so far have no position to resume
            // from.
            self.anew = true;
            (following.reached, following.source) = (None, None);
            self.told = None;
            self.outputs.push_back(Output::StartAnew);
        } else if following.reached.is_none() || following.bootstrapping {
            return Err(Violation::NothingToResume);
        }
        Ok(())
    }

    fn page(&mut self, page: Page) -> Result<(), Violation> {
        let Some(following) = &mut self.following else { return Ok(()) };
        let expected = following.received + 1;
        if page.number != expected {
            return Err(Violation::OutOfOrder { came: page.number, expected });
        }
        if expected - following.applied > u64::from(self.limits.window) {
            return Err(Violation::BeyondWindow);
        }
        let position = page.position.map(Position::from);
        if page.complete && (!following.bootstrapping || position.is_none()) {
            return Err(Violation::NotBootstrapping);
        }
        let goes_back = following.reached.is_some_and(|at| position.is_some_and(|to| to.seq < at.seq));
        if goes_back || (following.bootstrapping && !page.complete && position.is_some()) {
            return Err(Violation::BadPosition);
        }
        let rows = rows(page.entries, &self.brands)?;
        if let Some(told) = &mut self.told {
            told.unsettled.extend(rows.iter().map(|row| bucket(&row.key)));
        }
        following.received = expected;
        self.pages = following.before + expected;
        if page.complete {
            (following.bootstrapping, self.anew) = (false, false);
        }
        if let Some(position) = position {
            following.reached = Some(position);
            self.on_the_way.push_back((self.pages, position));
        }
        let complete = page.complete;
        self.outputs.push_back(Output::Apply { page: self.pages, rows, position, complete });
        Ok(())
    }

    fn fresh(&mut self, now: Duration, fresh: Fresh) {
        let (Some(following), Some(head)) = (&mut self.following, fresh.head.map(Position::from)) else {
            return;
        };
        if !following.bootstrapping
            && following.reached.is_some_and(|at| at.seq > head.seq || (at.seq == head.seq && at != head))
        {
            // Another history: its publisher finds it out and says so.
            self.subscribe(now);
            return;
        }
        // The age is of this moment or later. A publisher of the previous release does not repeat
        // our clock. Then the time on the way is unknown and counts as zero.
        let sent = fresh.heard.map_or(now, |heard| {
            let since = heard.clock_micros.saturating_add(heard.ago_micros);
            Duration::from_micros(since).min(now)
        });
        // An age that reaches back before our clock began says nothing new.
        let at = sent.checked_sub(Duration::from_micros(fresh.age_micros));
        following.source = at.map(|at| (head, at));
        self.look_at_source();
    }

    /// Reports the freshness of the served rows, if every received page is applied and they are at
    /// the source's head.
    fn look_at_source(&mut self) {
        let Some(following) = &self.following else { return };
        let (Some((head, at)), Some(held)) = (following.source, self.held) else { return };
        if !following.bootstrapping && following.applied == following.received && held == head {
            self.outputs.push_back(Output::Fresh { at });
        }
    }

    fn sums(&mut self, sums: WireSums) -> Result<(), Violation> {
        let (Some(head), Some(told)) = (sums.head, Sums::from_slice(&sums.buckets)) else {
            return Err(Violation::BadSums);
        };
        let head = Position::from(head);
        let reached = self.following.as_ref().and_then(|following| following.reached);
        if self.anew || reached.is_some_and(|at| at.seq > head.seq || (at.seq == head.seq && at != head)) {
            // The sums are of another history than the pages. The publisher finds it out and says
            // so.
            return Ok(());
        }
        let unsettled =
            sums.unsettled.into_iter().filter_map(|bucket| usize::try_from(bucket).ok()).collect();
        self.told = Some(SourceSums { head, behind: self.pages, sums: told, unsettled });
        self.compare();
        Ok(())
    }

    /// Compares the source's sums after everything up to them is applied.
    fn compare(&mut self) {
        if self.is_comparable() {
            self.outputs.push_back(Output::OwnSums);
        }
    }

    fn is_comparable(&self) -> bool {
        let (Some(told), Some(held)) = (&self.told, self.held) else { return false };
        self.pages_applied >= told.behind && held.seq >= told.head.seq
    }
}

impl SourceSums {
    /// Returns the drifted buckets, by the rule at the top of this file.
    fn drifted(&self, own: &Sums) -> Vec<usize> {
        let sums = self.sums.as_slice().iter().zip(own.as_slice()).enumerate();
        let drifted = sums.filter(|(bucket, (told, own))| told != own && !self.unsettled.contains(bucket));
        drifted.map(|(bucket, _)| bucket).collect()
    }
}

/// Returns the rows of a page. Kinds of a later version are skipped.
fn rows(entries: Vec<Entry>, brands: &BTreeSet<Brand>) -> Result<Vec<Row>, Violation> {
    let mut rows = Vec::with_capacity(entries.len());
    for entry in entries {
        if EntityKind::from_number(entry.kind).is_none() {
            continue;
        }
        let key = entry.key().filter(|key| brands.contains(&key.brand)).ok_or(Violation::ForeignRow)?;
        rows.push(Row { key, row: entry.row });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;
