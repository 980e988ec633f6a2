//! Credits of each brand, for all threads. An order or a cancellation spends one before work is
//! spent on it, and gives it back when it is answered.
//!
//! The order link's owner knows what the data centre grants, and sets the limits here. The brand
//! that has as many requests outstanding as its limit allows is refused, and no other. A refused
//! caller is told when to come back, so that callers do not all come at once.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bridge_protocol::domain::Brand;
use bridge_protocol::order_link::adaptive::SeenAnswers;
use bridge_protocol::order_link::come_back::{ComeBack, ComeBacks};
use bridge_protocol::order_link::credits::{BrandLimit, CreditClass};
use bridge_protocol::order_link::fair_share::BrandIndex;
use tokio::time::sleep;

use super::backlog::Backlog;
use crate::admission::OutOfCredit;
use crate::metrics::CreditGauges;

/// Most refusals whose answer waits for its pause. Further ones are answered at once, unless their
/// brand has less than its share of them.
const PAUSED_MAX: usize = 4_096;

/// Limit of a brand that has none.
const NO_LIMIT: u32 = u32::MAX;

/// The credits of all brands.
#[derive(Debug)]
pub(super) struct Credits {
    brands: Box<[BrandCredits]>,
    /// Start of the clock of [`ComeBacks`].
    started: Instant,
    /// Refusals whose answer waits, by brand.
    paused: Arc<Backlog>,
    gauges: CreditGauges,
}

#[derive(Debug)]
struct BrandCredits {
    brand: Brand,
    /// Requests that may be outstanding.
    limit: AtomicU32,
    /// Requests a second that the data centre commits; 0 if that is not known.
    per_second: AtomicU32,
    outstanding: AtomicU32,
    answers: AnswerTimes,
    come_backs: Mutex<ComeBacks>,
}

/// Answers of one brand since they were last taken. Times are in microseconds.
#[derive(Debug)]
struct AnswerTimes {
    done: AtomicU32,
    shortest: AtomicU64,
    longest: AtomicU64,
    /// Time of the last answer, or of the first request that was outstanding after all others.
    progress: AtomicU64,
}

/// The credit of one request.
#[derive(Debug)]
pub(super) struct Credit {
    credits: Arc<Credits>,
    brand: BrandIndex,
    /// Time when it was spent.
    since: Duration,
}

/// A brand's credits, for `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreditReport {
    /// The brand.
    pub brand: Brand,
    /// Its orders and cancellations that are outstanding.
    pub outstanding: u32,
    /// Its limit, if it has one.
    pub limit: Option<BrandLimit>,
}

impl Credits {
    /// Makes credits without limits, for brands of these weights. The gauges show the limits.
    pub(super) fn new(brands: &[(Brand, usize)], gauges: CreditGauges) -> Self {
        let of = |(brand, _): &(Brand, usize)| BrandCredits {
            brand: brand.clone(),
            limit: AtomicU32::new(NO_LIMIT),
            per_second: AtomicU32::new(0),
            outstanding: AtomicU32::new(0),
            answers: AnswerTimes {
                done: AtomicU32::new(0),
                shortest: AtomicU64::new(u64::MAX),
                longest: AtomicU64::new(0),
                progress: AtomicU64::new(0),
            },
            come_backs: Mutex::default(),
        };
        let weights: Vec<usize> = brands.iter().map(|(_, weight)| *weight).collect();
        Self {
            brands: brands.iter().map(of).collect(),
            started: Instant::now(),
            paused: Arc::new(Backlog::new(PAUSED_MAX, &weights)),
            gauges,
        }
    }

    /// Sets the limit of each brand.
    pub(super) fn set_limits(&self, limit_of: impl Fn(BrandIndex, &Brand) -> Option<BrandLimit>) {
        for (index, of_brand) in self.brands.iter().enumerate() {
            let limit = limit_of(BrandIndex(index), &of_brand.brand);
            let outstanding = limit.map_or(NO_LIMIT, |limit| limit.outstanding);
            if of_brand.limit.swap(outstanding, Ordering::Relaxed) != outstanding {
                self.gauges.set(&of_brand.brand, limit.map(|limit| limit.outstanding));
            }
            of_brand.per_second.store(limit.map_or(0, |limit| limit.per_second), Ordering::Relaxed);
        }
    }

    /// Spends a credit of a brand.
    ///
    /// # Errors
    ///
    /// Fails if the brand has as many requests outstanding as this class may have.
    pub(super) fn spend(
        self: &Arc<Self>,
        brand: BrandIndex,
        class: CreditClass,
    ) -> Result<Option<Credit>, OutOfCredit> {
        let Some(of_brand) = self.brands.get(brand.0) else { return Ok(None) };
        let limit = of_brand.limit.load(Ordering::Relaxed);
        let before = of_brand.outstanding.fetch_add(1, Ordering::AcqRel);
        let since = self.started.elapsed();
        if before == 0 {
            of_brand.answers.progress.store(micros(since), Ordering::Relaxed);
        }
        let credit = Credit { credits: self.clone(), brand, since };
        if limit == NO_LIMIT || before < class.part_of(limit) {
            return Ok(Some(credit));
        }
        drop(credit);
        Err(self.refuse(brand, of_brand, limit))
    }

    /// Checks that a brand has a credit left, without spending it.
    ///
    /// # Errors
    ///
    /// Fails if the brand has as many requests outstanding as this class may have.
    pub(super) fn check(&self, brand: BrandIndex, class: CreditClass) -> Result<(), OutOfCredit> {
        let Some(of_brand) = self.brands.get(brand.0) else { return Ok(()) };
        let limit = of_brand.limit.load(Ordering::Relaxed);
        if limit == NO_LIMIT || of_brand.outstanding.load(Ordering::Relaxed) < class.part_of(limit) {
            return Ok(());
        }
        Err(self.refuse(brand, of_brand, limit))
    }

    /// Gives a refused caller a time to come back.
    fn refuse(&self, brand: BrandIndex, of_brand: &BrandCredits, limit: u32) -> OutOfCredit {
        let per_second = of_brand.per_second.load(Ordering::Relaxed);
        let mut come_backs = of_brand.come_backs.lock().unwrap_or_else(PoisonError::into_inner);
        let ComeBack { pause, after_secs } = come_backs.refuse(self.started.elapsed(), per_second);
        OutOfCredit { brand, limit, per_second, pause, after_secs }
    }

    /// Takes what was seen of a brand's answers since the last call.
    pub(super) fn take_seen(&self, brand: BrandIndex) -> SeenAnswers {
        let Some(of_brand) = self.brands.get(brand.0) else { return SeenAnswers::default() };
        let AnswerTimes { done, shortest, longest, progress } = &of_brand.answers;
        let done = done.swap(0, Ordering::Relaxed);
        let shortest = shortest.swap(u64::MAX, Ordering::Relaxed);
        let mut longest = longest.swap(0, Ordering::Relaxed);
        if done == 0 && of_brand.outstanding.load(Ordering::Relaxed) > 0 {
            let waits = micros(self.started.elapsed()).saturating_sub(progress.load(Ordering::Relaxed));
            longest = longest.max(waits);
        }
        let shortest = (shortest != u64::MAX).then(|| Duration::from_micros(shortest));
        SeenAnswers { done, shortest, longest: Duration::from_micros(longest) }
    }

    /// Waits for the pause of a refusal. If too many wait, and the brand has its share of them, it
    /// returns at once.
    pub(super) async fn pause(&self, refused: OutOfCredit) {
        if !refused.pause.is_zero()
            && let Some(_waits) = self.paused.take(refused.brand)
        {
            sleep(refused.pause).await;
        }
    }

    /// Returns the credits of the brands that have a limit or requests outstanding.
    pub(super) fn report(&self) -> Vec<CreditReport> {
        let report = |of_brand: &BrandCredits| {
            let limit = of_brand.limit.load(Ordering::Relaxed);
            let per_second = of_brand.per_second.load(Ordering::Relaxed);
            CreditReport {
                brand: of_brand.brand.clone(),
                outstanding: of_brand.outstanding.load(Ordering::Relaxed),
                limit: (limit != NO_LIMIT).then_some(BrandLimit { outstanding: limit, per_second }),
            }
        };
        self.brands.iter().map(report).filter(|of| of.limit.is_some() || of.outstanding > 0).collect()
    }
}

impl Credit {
    /// Notes that its request was carried out.
    pub(super) fn note_done(&self) {
        let Some(of_brand) = self.credits.brands.get(self.brand.0) else { return };
        let now = self.credits.started.elapsed();
        let (delay, answers) = (micros(now.saturating_sub(self.since)), &of_brand.answers);
        answers.done.fetch_add(1, Ordering::Relaxed);
        answers.shortest.fetch_min(delay, Ordering::Relaxed);
        answers.longest.fetch_max(delay, Ordering::Relaxed);
        answers.progress.store(micros(now), Ordering::Relaxed);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Drop for Credit {
    fn drop(&mut self) {
        if let Some(of_brand) = self.credits.brands.get(self.brand.0) {
            of_brand.outstanding.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const SHOES: BrandIndex = BrandIndex(0);
    const TEA: BrandIndex = BrandIndex(1);

    fn credits() -> Arc<Credits> {
        let brands = ["shoes", "tea"].map(|name| (Brand::new(name).unwrap(), 1));
        Arc::new(Credits::new(&brands, CreditGauges::default()))
    }

    fn limit_shoes(credits: &Credits, outstanding: u32) {
        credits.set_limits(|_, brand| {
            (brand.as_str() == "shoes").then_some(BrandLimit { outstanding, per_second: 100 })
        });
    }

    #[test]
    fn a_brand_beyond_its_limit_is_refused_alone() {
        let credits = credits();
        limit_shoes(&credits, 8);
        let spend = |brand, class| credits.spend(brand, class);
        let mut orders: Vec<_> = (0..20).filter_map(|_| spend(SHOES, CreditClass::Order).ok()).collect();
        assert_eq!(orders.len(), 7);
        assert!(spend(TEA, CreditClass::Order).is_ok(), "another brand is not concerned");
        let check = |brand, class| credits.check(brand, class).is_ok();
        assert!(!check(SHOES, CreditClass::Order) && check(SHOES, CreditClass::Cancellation));
        assert!(check(TEA, CreditClass::Order));
        let cancellation = spend(SHOES, CreditClass::Cancellation).unwrap();
        let refused = spend(SHOES, CreditClass::Cancellation).unwrap_err();
        assert_eq!((refused.limit, refused.per_second), (8, 100));
        drop((cancellation, orders.pop()));
        assert!(spend(SHOES, CreditClass::Order).is_ok(), "a credit comes back with its answer");
    }

    #[test]
    fn a_smaller_limit_waits_for_answers_and_none_refuses_nobody() {
        let credits = credits();
        let held: Vec<_> = (0..100).map(|_| credits.spend(SHOES, CreditClass::Order).unwrap()).collect();
        assert_eq!(credits.report()[0].outstanding, 100);
        limit_shoes(&credits, 50);
        assert!(credits.spend(SHOES, CreditClass::Cancellation).is_err());
        credits.set_limits(|_, _| None);
        assert!(credits.spend(SHOES, CreditClass::Order).is_ok());
        drop(held);
        assert!(credits.report().is_empty(), "{:?}", credits.report());
    }

    #[tokio::test]
    async fn the_pauses_of_one_brand_leave_another_brand_its_own() {
        let credits = credits();
        let refused = |brand| {
            let pause = Duration::from_secs(3_600);
            OutOfCredit { brand, limit: 1, per_second: 1, pause, after_secs: 1 }
        };
        let mut flood: Vec<_> =
            (0..2 * PAUSED_MAX).map(|_| Box::pin(credits.pause(refused(SHOES)))).collect();
        let mut waiting = 0;
        for pause in &mut flood {
            waiting += usize::from(timeout(Duration::ZERO, pause).await.is_err());
        }
        assert_eq!(waiting, PAUSED_MAX);
        let waits = async |brand| timeout(Duration::ZERO, credits.pause(refused(brand))).await.is_err();
        assert!(waits(TEA).await, "another brand has its share");
        assert!(!waits(SHOES).await, "this one has more than its share");
    }

    #[test]
    fn only_requests_that_were_carried_out_show_a_delay() {
        let credits = credits();
        let [done, refused] = [(); 2].map(|()| credits.spend(SHOES, CreditClass::Order).unwrap().unwrap());
        done.note_done();
        drop((done, refused));
        let seen = credits.take_seen(SHOES);
        assert_eq!((seen.done, seen.shortest), (1, Some(seen.longest)));
        let SeenAnswers { done, shortest, longest } = credits.take_seen(SHOES);
        assert_eq!((done, shortest, longest), (0, None, Duration::ZERO), "nothing is outstanding");
        let _waits = credits.spend(SHOES, CreditClass::Order).unwrap();
        std::thread::sleep(Duration::from_millis(1));
        assert!(credits.take_seen(SHOES).longest > Duration::ZERO);
    }
}
