//! Credits: the number of requests of each brand that a cloud agent may have outstanding, by what
//! the database has shown.
//!
//! Sans-IO. Each brand has a limit of its own, because the committers already give it its share by
//! weight: its queue tells how much of the database it gets. `QueueControl` has the law. A brand
//! without a queue has no limit.

#![expect(clippy::float_arithmetic, reason = "a limit is an estimate, and no money")]

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bridge_protocol::domain::Brand;
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::queue_control::{ControlTimes, QueueControl, whole};
use bridge_protocol::wire::control::{BrandGrant, Grants};

/// Interval at which the limits are computed.
const COMPUTED_EVERY: Duration = Duration::from_millis(50);

/// Interval of grants while some brand has a limit. A limit that has halved is sent at once.
const SENT_EVERY: Duration = Duration::from_millis(100);

/// Interval of grants while no brand has one.
const SENT_IDLE_EVERY: Duration = Duration::from_secs(1);

/// Grants expire after this many intervals without a new one.
const EXPIRES_AFTER: u32 = 10;

/// Longest time of a commit that counts. A database that is slower gets fewer requests, not older
/// ones: a caller waits for some seconds.
const COMMIT_COUNTED_MAX: Duration = Duration::from_secs(5);

/// Longest round trip of a line that counts, so that one slow line changes the limits of no other
/// agent much.
const ROUND_TRIP_COUNTED_MAX: Duration = Duration::from_millis(500);

/// Number of the last commits whose times count.
const COMMITS_COUNTED: usize = 5;

/// Most brands that are remembered. A cloud agent may send any names; a brand above this number has
/// no limit.
const BRANDS_MAX: usize = 4_096;

/// Time of a request in both agents outside the queue and the commit: sealing, and the writes of
/// two audit logs.
const AROUND: Duration = Duration::from_millis(20);

/// Smallest limit of one cloud agent. It is large enough that a quiet brand is not refused because
/// the database hesitates.
const LIMIT_MIN: f64 = 16.0;

/// Time for which a link counts as using a brand's limit.
const LINK_USES_FOR: Duration = Duration::from_secs(1);

/// Most brands in one message: those with the smallest limits. It fits into a control frame with
/// the longest names.
const TOLD_MAX: usize = 512;

/// The limits of all brands.
#[derive(Debug)]
pub(super) struct Credits {
    /// Largest limit of one cloud agent: the window of a link. A brand that has it is not limited.
    limit_max: f64,
    /// Brands with requests in the last moments, or with a limit.
    brands: BTreeMap<Brand, BrandCredit>,
    commit_times: CommitTimes,
    computed_at: Duration,
    sent_at: Option<Duration>,
    /// Number of the last message.
    number: u64,
}

/// The limit of one brand, and what the database has shown of it.
#[derive(Debug)]
struct BrandCredit {
    /// Control of the requests that all cloud agents together may have outstanding.
    control: QueueControl,
    /// Requests that wait for held rows whose queues stand still.
    standing: f64,
    /// Limit of one cloud agent in the last message; infinite if it had none.
    sent: f64,
    /// Links that sent a request, with the time of the last one.
    links: BTreeMap<LinkId, Duration>,
}

impl Credits {
    /// Creates credits without limits. `limit_max` is the window of a link.
    pub(super) fn new(limit_max: usize) -> Self {
        Self {
            limit_max: number(limit_max).max(LIMIT_MIN),
            brands: BTreeMap::new(),
            commit_times: CommitTimes::default(),
            computed_at: Duration::ZERO,
            sent_at: None,
            number: 0,
        }
    }

    /// Notes a request of a brand that came on a link.
    pub(super) fn came(&mut self, now: Duration, link: LinkId, brand: &Brand) {
        if let Some(known) = self.brands.get_mut(brand) {
            known.links.insert(link, now);
        } else if self.brands.len() < BRANDS_MAX {
            let mut new = BrandCredit::without_limit(self.limit_max);
            new.links.insert(link, now);
            self.brands.insert(brand.clone(), new);
        }
    }

    /// Notes that a batch begins with a request of a brand that waited for this time.
    pub(super) fn began(&mut self, brand: &Brand, waited: Duration) {
        if let Some(brand) = self.brands.get_mut(brand) {
            brand.control.waited(waited);
        }
    }

    /// Notes a committed request of a brand.
    pub(super) fn committed(&mut self, brand: &Brand) {
        if let Some(brand) = self.brands.get_mut(brand) {
            brand.control.done(1);
        }
    }

    /// Notes the time of a commit of this many requests.
    pub(super) fn took(&mut self, took: Duration, requests: usize) {
        self.commit_times.note(took, requests);
    }

    /// Takes the number of requests of each brand that wait for held rows whose queues stand still.
    /// The database does nothing for them, so the grants are larger by them. Otherwise a row that a
    /// DBA holds would keep out the brand's other requests.
    pub(super) fn set_standing(&mut self, standing: &BTreeMap<&Brand, usize>) {
        for (name, brand) in &mut self.brands {
            brand.standing = number(standing.get(name).copied().unwrap_or(0));
        }
    }

    /// Lifts all limits. While the database is away, each request is refused at once with that
    /// reason, and none waits.
    pub(super) fn lift(&mut self) {
        for brand in self.brands.values_mut() {
            brand.control = QueueControl::new(LIMIT_MIN, self.limit_max);
        }
    }

    /// Returns true if the limits are due to be computed.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        now >= self.computed_at + COMPUTED_EVERY
    }

    /// Computes the limits. `waiting` has the brand of each waiting request and its wait so far,
    /// `round_trip` is that of the longest line. Returns a message if one is due.
    pub(super) fn compute<'a>(
        &mut self,
        now: Duration,
        round_trip: Duration,
        waiting: impl Iterator<Item = (&'a Brand, Duration)>,
    ) -> Option<Grants> {
        waiting.for_each(|(brand, waits)| self.began(brand, waits));
        let passed = now.saturating_sub(self.computed_at);
        self.computed_at = now;
        let service = self.commit_times.typical().min(COMMIT_COUNTED_MAX);
        let around = round_trip.min(ROUND_TRIP_COUNTED_MAX) + AROUND;
        let times = ControlTimes { passed, service, around };
        for brand in self.brands.values_mut() {
            brand.control.compute(times);
            brand.links.retain(|_, last| now.saturating_sub(*last) < LINK_USES_FOR);
        }
        let message = self.message(now);
        self.brands.retain(|_, brand| brand.control.is_limited() || !brand.links.is_empty());
        message
    }

    fn message(&mut self, now: Duration) -> Option<Grants> {
        let is_limited = |brand: &BrandCredit| brand.control.is_limited();
        let is_changed = |brand: &BrandCredit| is_limited(brand) != brand.sent.is_finite();
        let has_halved =
            self.brands.values().any(|brand| is_limited(brand) && brand.of_a_link() * 2.0 <= brand.sent);
        let any = self.brands.values().any(|brand| is_limited(brand) || is_changed(brand));
        let every = if any { SENT_EVERY } else { SENT_IDLE_EVERY };
        let is_due = self.sent_at.is_none_or(|sent_at| now >= sent_at + every);
        if !is_due && !has_halved {
            return None;
        }
        (self.sent_at, self.number) = (Some(now), self.number + 1);
        let mut brands = Vec::new();
        for (name, brand) in &mut self.brands {
            brand.sent = f64::INFINITY;
            if brand.control.is_limited() {
                brand.sent = brand.of_a_link();
                brands.push(BrandGrant {
                    brand: name.as_str().to_owned(),
                    outstanding: whole(brand.sent),
                    per_second: whole(brand.rate_of_a_link()),
                });
            }
        }
        brands.sort_by_key(|grant| grant.outstanding);
        brands.truncate(TOLD_MAX);
        let expires_millis = whole((every * EXPIRES_AFTER).as_secs_f64() * 1_000.0);
        Some(Grants { number: self.number, expires_millis, brands })
    }
}

/// Times of the last commits, with the numbers of their requests.
#[derive(Debug, Default)]
struct CommitTimes {
    last: VecDeque<(Duration, usize)>,
}

impl CommitTimes {
    fn note(&mut self, took: Duration, requests: usize) {
        if self.last.len() >= COMMITS_COUNTED {
            self.last.pop_front();
        }
        self.last.push_back((took, requests));
    }

    /// Returns the time of the commit of the median request. So one commit that stood still does
    /// not count, and a small one beside a large one counts little.
    fn typical(&self) -> Duration {
        let mut sorted: Vec<_> = self.last.iter().copied().collect();
        sorted.sort_unstable();
        let all: usize = sorted.iter().map(|(_, requests)| requests).sum();
        let mut shorter = 0;
        let median = sorted.iter().find(|(_, requests)| {
            shorter += requests;
            shorter * 2 >= all
        });
        median.map_or(Duration::ZERO, |(took, _)| *took)
    }
}

impl BrandCredit {
    fn without_limit(limit_max: f64) -> Self {
        Self {
            control: QueueControl::new(LIMIT_MIN, limit_max),
            standing: 0.0,
            sent: f64::INFINITY,
            links: BTreeMap::new(),
        }
    }

    /// Returns the number of links that share the limit.
    fn sharers(&self) -> f64 {
        number(self.links.len().max(1))
    }

    fn of_a_link(&self) -> f64 {
        let limit = (self.control.limit() / self.sharers()).ceil().max(LIMIT_MIN);
        limit + (self.standing / self.sharers()).ceil()
    }

    fn rate_of_a_link(&self) -> f64 {
        self.control.best_rate() / self.sharers()
    }
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
