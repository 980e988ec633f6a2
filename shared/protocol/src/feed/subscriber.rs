//! The cloud's side of the feed: follows one publisher at a time, and knows how old what it holds is.
//!
//! A page changes the replica only in its turn. A bootstrap's rows are collected beside what is served and take its place
//! with the page that completes them; one that is interrupted is dropped and begun anew.
//!
//! **Drift** is found by comparing sums, and never where there is none. The source's sums are compared once the replica
//! has reached the head at which they were read, and a bucket counts only if no change in it was unnumbered at that reading
//! and no page since brought a row of it. Every change that the reading saw in the bucket is then numbered, applied, and
//! was sent before the sums; what was sent of its key was read after that change and before the reading, so it is what the
//! reading saw. Two readings with equal sums would prove less: a unit of stock that was taken and given back between them
//! leaves no trace in the second, and the replica may hold the row from between.

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

/// After sums that differ for whatever reason.
const COMPARE_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// The subscriber's limits.
#[derive(Debug, Clone, Copy)]
pub struct SubscriberLimits {
    /// Pages that may be under way.
    pub window: u32,
    /// A publisher that says nothing for so long is left for another.
    pub silent_after: Duration,
    /// How often sums are compared.
    pub sums_every: Duration,
}

/// What the peer may not do; its link ends with this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A page is missing, or came twice.
    #[error("page {came} came in the place of page {expected}")]
    OutOfOrder {
        /// The page that came.
        came: u64,
        /// The page whose turn it was.
        expected: u64,
    },
    /// The source goes on where the replica is not.
    #[error("the feed resumes although the replica holds nothing")]
    NothingToResume,
    /// More than may be under way.
    #[error("more pages came than the window allows")]
    BeyondWindow,
    /// A position that cannot stand there.
    #[error("a page's position goes back, or is missing where it must be")]
    BadPosition,
    /// A bootstrap that was not begun ended.
    #[error("a bootstrap was completed that was not begun")]
    NotBootstrapping,
    /// A row of a brand that was not asked for, or under a name that is none.
    #[error("a page has a row that was not asked for")]
    ForeignRow,
    /// Sums that are none.
    #[error("sums that are not of {BUCKETS} buckets")]
    BadSums,
}

/// What the shell does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send this on the feed lane of a link.
    Send {
        /// Which link.
        link: LinkId,
        /// What.
        message: ToPublisher,
    },
    /// A bootstrap begins: collect the next rows beside what is served; drop those of an unfinished one.
    StartAnew,
    /// Apply these rows and report the page as applied.
    Apply {
        /// Which page.
        page: u64,
        /// One a key.
        rows: Vec<Row>,
        /// How far the replica is then; `None` within a bootstrap.
        position: Option<Position>,
        /// The collected rows take the place of those served.
        complete: bool,
    },
    /// What is served was equal to the source at this moment of the caller's clock, or later: see
    /// [`Heard`](crate::wire::feed::Heard).
    Fresh {
        /// That moment.
        at: Duration,
    },
    /// Hand in the sums of what is served.
    OwnSums,
    /// What is served is not equal to the source in these buckets; to be logged. A bootstrap follows.
    Drifted {
        /// Which buckets.
        buckets: Vec<usize>,
    },
}

/// The subscriber's state.
#[derive(Debug)]
pub struct Subscriber {
    limits: SubscriberLimits,
    brands: BTreeSet<Brand>,
    /// Of what is applied and served.
    held: Option<Position>,
    /// Whether only a bootstrap helps: one has begun and is not yet received, or what is served is drifted.
    anew: bool,
    /// Links with a feed lane, the one that was tried last at the end.
    links: VecDeque<LinkId>,
    following: Option<ActiveSubscription>,
    /// Numbers subscriptions.
    subscriptions: u64,
    /// Numbers pages over all subscriptions: the shell may still be applying one of an earlier subscription.
    pages: u64,
    /// The last page that is applied.
    pages_applied: u64,
    /// Positions of pages that are not applied yet, by page.
    on_the_way: VecDeque<(u64, Position)>,
    sums_at: Duration,
    /// What the source told, until it is compared.
    told: Option<SourceSums>,
    outputs: VecDeque<Output>,
}

/// A subscription.
#[derive(Debug)]
struct ActiveSubscription {
    link: LinkId,
    subscription: u64,
    /// Whether its answer has come; what comes before is of an earlier one.
    begun: bool,
    bootstrapping: bool,
    /// Pages of all subscriptions before it.
    before: u64,
    /// Pages received, and applied of these.
    received: u64,
    applied: u64,
    /// What the pages received lead to.
    reached: Option<Position>,
    /// What the source said last: its head, and when a replica at that head was equal to it.
    source: Option<(Position, Duration)>,
    heard_at: Duration,
}

/// The source's sums as it told them.
#[derive(Debug)]
struct SourceSums {
    head: Position,
    /// The page that it came behind: before that one is applied, what is held may be of another history.
    behind: u64,
    sums: Sums,
    /// Buckets of which nothing is known: with an unnumbered change at that reading, or a row that came since.
    unsettled: BTreeSet<usize>,
}

impl Subscriber {
    /// For a replica of these brands that holds what it has up to a position, if it has anything.
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

    /// How far what is served is; `None` while there is nothing.
    pub fn position(&self) -> Option<Position> {
        self.held
    }

    /// A link with a feed lane is up.
    pub fn handle_link_up(&mut self, now: Duration, link: LinkId) {
        // Before those that were tried already.
        self.links.push_front(link);
        if self.following.is_none() {
            self.subscribe(now);
        }
    }

    /// A link is gone.
    pub fn handle_link_down(&mut self, now: Duration, link: LinkId) {
        self.links.retain(|known| *known != link);
        if self.following.as_ref().is_some_and(|following| following.link == link) {
            self.subscribe(now);
        }
    }

    /// Takes a message; one of a link that is not followed any more changes nothing.
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
            // Of an earlier subscription on the same link.
            Some(_) if !following.begun => Ok(()),
            Some(to_subscriber::Kind::Page(page)) => self.page(page),
            Some(to_subscriber::Kind::Fresh(fresh)) => {
                self.fresh(now, fresh);
                Ok(())
            }
            Some(to_subscriber::Kind::Sums(sums)) => self.sums(sums),
            // A later version's message, which this one may ignore.
            None => Ok(()),
        };
        if handled.is_err() {
            self.subscribe(now);
        }
        handled
    }

    /// A page that was put out is applied, and those before it.
    pub fn handle_applied(&mut self, now: Duration, page: u64) {
        self.pages_applied = self.pages_applied.max(page);
        while let Some((_, position)) = self.on_the_way.pop_front_if(|(number, _)| *number <= page) {
            self.held = Some(position);
        }
        // A page of an earlier subscription means nothing to the publisher of this one.
        let Some(following) = self.following.as_mut().filter(|one| page > one.before) else { return };
        let page = (page - following.before).min(following.received);
        following.applied = following.applied.max(page);
        let link = following.link;
        self.say(now, link, Applied { page });
        self.look_at_source();
        self.compare();
    }

    /// Takes the sums of what is served.
    pub fn handle_own_sums(&mut self, now: Duration, own: &Sums) {
        if !self.is_comparable() {
            return;
        }
        let Some(told) = self.told.take() else { return };
        let drifted = told.drifted(own);
        if drifted.is_empty() {
            // What differs now may only be on its way: soon looked at again.
            if told.sums != *own {
                self.sums_at = self.sums_at.min(now + COMPARE_AGAIN_AFTER);
            }
            return;
        }
        self.outputs.push_back(Output::Drifted { buckets: drifted });
        self.anew = true;
        self.subscribe(now);
    }

    /// Takes that time has passed.
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

    /// When [`Subscriber::handle_timeout`] has something to do.
    pub fn next_timeout(&self) -> Option<Duration> {
        let following = self.following.as_ref()?;
        Some(self.sums_at.min(following.heard_at + self.limits.silent_after))
    }

    /// The next thing to do, `None` until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Says something, and by the way what this end's clock is.
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
            // Also in the middle of a subscription, when the source can no longer go on from where it was.
            following.bootstrapping = true;
            // Until its last page is here: what was collected by then has no position to go on from.
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
            // Another history: its publisher finds out, and says so.
            self.subscribe(now);
            return;
        }
        // It was so old when it was sent, at this moment or later. A publisher of the release before tells no such moment:
        // then how long it was under way is not known, and counts as nothing.
        let sent = fresh.heard.map_or(now, |heard| {
            let since = heard.clock_micros.saturating_add(heard.ago_micros);
            Duration::from_micros(since).min(now)
        });
        // A source that has been so since before our clock began says nothing new.
        let at = sent.checked_sub(Duration::from_micros(fresh.age_micros));
        following.source = at.map(|at| (head, at));
        self.look_at_source();
    }

    /// What the source's head says of what is served, once every page received is applied.
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
            // Of another history than what was received before: its publisher finds out, and says so.
            return Ok(());
        }
        let unsettled =
            sums.unsettled.into_iter().filter_map(|bucket| usize::try_from(bucket).ok()).collect();
        self.told = Some(SourceSums { head, behind: self.pages, sums: told, unsettled });
        self.compare();
        Ok(())
    }

    /// Compares what the source told, once that much is applied.
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
    /// The buckets that are drifted, by the rule at the top of this file.
    fn drifted(&self, own: &Sums) -> Vec<usize> {
        let sums = self.sums.as_slice().iter().zip(own.as_slice()).enumerate();
        let drifted = sums.filter(|(bucket, (told, own))| told != own && !self.unsettled.contains(bucket));
        drifted.map(|(bucket, _)| bucket).collect()
    }
}

/// The rows of a page. Kinds that a later version added are passed over.
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
