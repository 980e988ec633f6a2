//! Credits of the cloud agent: what the agents of the data centre grant it, by brand, and the
//! classes of requests that spend it.
//!
//! Sans-IO. A grant is absolute and expires, so a lost one is replaced by the next. A link whose
//! agent grants nothing, because it is of an earlier release or was silent for too long, leaves
//! every brand without a limit from here: the windows and queues still bound it. An agent that
//! takes no orders counts only if no other one takes them. An agent that has granted and whose
//! grants have expired takes none as long as another one grants.

use std::collections::BTreeMap;
use std::time::Duration;

use super::LinkId;
use crate::domain::Brand;
use crate::wire::control::Grants;

/// Most brands of one link that are kept. A peer cannot fill the memory with more.
const BRANDS_MAX: usize = 4_096;

/// Longest time for which a grant is valid, whatever its message says.
const VALID_MAX: Duration = Duration::from_secs(60);

/// Part of a brand's limit, one in this many, that a class leaves to those above it.
const KEPT_PART: u32 = 8;

/// Classes of the requests that spend a brand's credits, the highest first. A lower class never
/// takes the last part of them. So when a brand has no credit left for all, its lowest class is
/// refused first.
///
/// Payments, refunds and questions spend none. They have lanes, queues and windows of their own,
/// and a payment waits for its gateway for far longer than for the database. So no order can take
/// the place of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CreditClass {
    /// A cancellation. It gives stock back.
    Cancellation,
    /// A new order.
    Order,
    /// An order of the shop's own batch job, for which nobody waits.
    Bulk,
}

impl CreditClass {
    /// Returns the part of a limit that requests of this class may take, together with those of
    /// the higher classes. For an order it is never 0, unless the limit is.
    pub fn part_of(self, limit: u32) -> u32 {
        let kept = limit.div_ceil(KEPT_PART);
        match self {
            Self::Cancellation => limit,
            Self::Order => (limit - kept).max(limit.min(1)),
            Self::Bulk => (limit - kept).saturating_sub(kept),
        }
    }

    /// Returns the part of a queue that requests of this class may fill. It has no part for
    /// cancellations: an order that waits is sent within milliseconds, or the brand has a limit.
    pub const fn part_of_queue(self, queue_max: usize) -> usize {
        match self {
            Self::Cancellation | Self::Order => queue_max,
            Self::Bulk => queue_max - queue_max.div_ceil(KEPT_PART as usize),
        }
    }
}

/// Limit of a brand over all links together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrandLimit {
    /// Requests that may be outstanding.
    pub outstanding: u32,
    /// Requests a second that the data centre commits; 0 if that is not known.
    pub per_second: u32,
}

/// Writes of a brand on one link, as far as they count in its limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WritesOnLink {
    /// Writes whose callers wait.
    pub waited_for: u32,
    /// Writes whose callers were told that the outcome is unknown, as far as they spend the grant
    /// of the link.
    pub settling: u32,
}

/// The grants of all links.
#[derive(Debug, Default)]
pub struct GrantBook {
    links: BTreeMap<LinkId, LinkGrants>,
}

/// The grants of one link.
#[derive(Debug)]
struct LinkGrants {
    /// True if it takes new requests.
    is_open: bool,
    /// True if its agent reports that it takes no orders.
    is_stopped: bool,
    /// Number of the last message.
    number: u64,
    /// End of the last message's time; `None` before the first, and after it has expired.
    valid_until: Option<Duration>,
    /// Brands with a limit.
    brands: BTreeMap<Brand, BrandLimit>,
}

impl GrantBook {
    /// Takes a new link.
    pub fn handle_link_up(&mut self, link: LinkId) {
        let grants = LinkGrants {
            is_open: true,
            is_stopped: false,
            number: 0,
            valid_until: None,
            brands: BTreeMap::new(),
        };
        self.links.insert(link, grants);
    }

    /// Takes that a link takes new requests, or does not.
    pub fn handle_link_open(&mut self, link: LinkId, is_open: bool) {
        if let Some(grants) = self.links.get_mut(&link) {
            grants.is_open = is_open;
        }
    }

    /// Takes that a link's agent takes no orders, or that it takes orders again.
    pub fn handle_stopped(&mut self, link: LinkId, is_stopped: bool) {
        if let Some(grants) = self.links.get_mut(&link) {
            grants.is_stopped = is_stopped;
        }
    }

    /// Takes the end of a link.
    pub fn handle_link_down(&mut self, link: LinkId) {
        self.links.remove(&link);
    }

    /// Takes a message. An older one than the last is ignored, and so is a brand that is no brand.
    pub fn handle_grants(&mut self, now: Duration, link: LinkId, message: &Grants) {
        let Some(grants) = self.links.get_mut(&link).filter(|grants| message.number > grants.number) else {
            return;
        };
        grants.number = message.number;
        let valid = Duration::from_millis(message.expires_millis.into()).min(VALID_MAX);
        grants.valid_until = Some(now + valid);
        let limits = message.brands.iter().take(BRANDS_MAX).filter_map(|grant| {
            let limit = BrandLimit { outstanding: grant.outstanding, per_second: grant.per_second };
            Some((Brand::new(&grant.brand).ok()?, limit))
        });
        grants.brands = limits.collect();
    }

    /// Forgets the grants that have expired. Returns true if there were some.
    pub fn expire(&mut self, now: Duration) -> bool {
        let mut any = false;
        for grants in self.links.values_mut().filter(|grants| grants.valid_until.is_some()) {
            if !grants.is_valid(now) {
                (grants.valid_until, any) = (None, true);
                grants.brands.clear();
            }
        }
        any
    }

    /// Returns true if a link's agent takes no orders: it reports so, or its grants have expired
    /// while another agent grants. An agent that stands still grants nothing. If it counted as one
    /// without a limit, it would get all orders until its link counts as silent.
    pub fn is_stopped(&self, now: Duration, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|grants| grants.takes_none(now, self.any_grants(now)))
    }

    fn any_grants(&self, now: Duration) -> bool {
        self.links.values().any(|grants| grants.is_open && !grants.is_stopped && grants.is_valid(now))
    }

    /// Returns the links that new requests go to: the open ones whose agents take orders, or all
    /// open ones if no agent does. The flag tells if it is one of them.
    fn by_use(&self, now: Duration) -> impl Iterator<Item = (LinkId, &LinkGrants, bool)> {
        let any_grants = self.any_grants(now);
        let works = move |grants: &LinkGrants| grants.is_open && !grants.takes_none(now, any_grants);
        let any_works = self.links.values().any(works);
        let is_used = move |grants: &LinkGrants| if any_works { works(grants) } else { grants.is_open };
        self.links.iter().map(move |(link, grants)| (*link, grants, is_used(grants)))
    }

    /// Returns the limit of a brand: what the agents on all links in use grant, and what is still
    /// on other links, because that takes nothing from these agents. `writes` returns the brand's
    /// writes on a link. Returns `None` if it has no limit: no link is open, some link in use
    /// grants nothing, or some link in use has no limit for it.
    pub fn limit_of(
        &self,
        now: Duration,
        brand: &Brand,
        writes: impl Fn(LinkId) -> WritesOnLink,
    ) -> Option<BrandLimit> {
        let (mut limit, mut elsewhere) = (None::<BrandLimit>, 0_u32);
        for (link, grants, is_used) in self.by_use(now) {
            if !is_used {
                elsewhere = elsewhere.saturating_add(writes(link).waited_for);
                continue;
            }
            let BrandLimit { outstanding, per_second } = grants.limit_of(now, brand)?;
            let outstanding = outstanding.saturating_sub(writes(link).settling);
            let before = limit.unwrap_or(BrandLimit { outstanding: 0, per_second: 0 });
            limit = Some(BrandLimit {
                outstanding: before.outstanding.saturating_add(outstanding),
                per_second: before.per_second.saturating_add(per_second),
            });
        }
        let limit = limit?;
        Some(BrandLimit { outstanding: limit.outstanding.saturating_add(elsewhere), ..limit })
    }

    /// Returns the brands that have a limit on some link.
    pub fn limited(&self) -> impl Iterator<Item = &Brand> {
        self.links.values().flat_map(|grants| grants.brands.keys())
    }

    /// Returns what a link's agent grants now, by brand. A brand that is not listed has no limit
    /// there.
    pub fn granted_on(&self, now: Duration, link: LinkId) -> impl Iterator<Item = (&Brand, u32)> {
        let valid = self.links.get(&link).filter(|grants| grants.is_valid(now));
        let brands = valid.into_iter().flat_map(|grants| &grants.brands);
        brands.map(|(brand, limit)| (brand, limit.outstanding))
    }

    /// Returns true if some link in use has no valid grants.
    pub fn lacks_grants(&self, now: Duration) -> bool {
        self.by_use(now).any(|(_, grants, is_used)| is_used && !grants.is_valid(now))
    }

    /// Returns the time of the next expiry that [`Self::expire`] has not handled.
    pub fn next_expiry(&self) -> Option<Duration> {
        self.links.values().filter_map(|grants| grants.valid_until).min()
    }
}

impl LinkGrants {
    fn is_valid(&self, now: Duration) -> bool {
        self.valid_until.is_some_and(|until| now < until)
    }

    /// Returns true if its agent reports that it takes no orders, or has granted before and no
    /// longer grants while some agent does.
    fn takes_none(&self, now: Duration, any_grants: bool) -> bool {
        let has_granted = self.number > 0;
        self.is_stopped || (any_grants && has_granted && !self.is_valid(now))
    }

    fn limit_of(&self, now: Duration, brand: &Brand) -> Option<BrandLimit> {
        self.brands.get(brand).copied().filter(|_| self.is_valid(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::control::BrandGrant;

    const A: LinkId = LinkId(1);
    const B: LinkId = LinkId(2);

    fn brand(name: &str) -> Brand {
        Brand::new(name).unwrap()
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn grants(number: u64, brands: &[(&str, u32)]) -> Grants {
        let grant = |(brand, outstanding): &(&str, u32)| BrandGrant {
            brand: (*brand).to_owned(),
            outstanding: *outstanding,
            per_second: outstanding * 10,
        };
        Grants { number, expires_millis: 1_000, brands: brands.iter().map(grant).collect() }
    }

    fn outstanding(book: &GrantBook, now: Duration, name: &str) -> Option<u32> {
        book.limit_of(now, &brand(name), |_| WritesOnLink::default()).map(|limit| limit.outstanding)
    }

    #[test]
    fn a_limit_is_the_sum_over_all_open_links() {
        let mut book = GrantBook::default();
        assert_eq!(outstanding(&book, at(0), "shoes"), None, "there is no link");
        book.handle_link_up(A);
        assert!(book.lacks_grants(at(0)), "an earlier release grants nothing");
        book.handle_grants(at(0), A, &grants(1, &[("shoes", 10), ("not a brand!", 5)]));
        assert_eq!((outstanding(&book, at(0), "shoes"), outstanding(&book, at(0), "tea")), (Some(10), None));
        book.handle_link_up(B);
        assert_eq!(outstanding(&book, at(0), "shoes"), None, "the other has not granted yet");
        book.handle_grants(at(0), B, &grants(1, &[("shoes", 7), ("tea", 1)]));
        let limit = book.limit_of(at(0), &brand("shoes"), |_| WritesOnLink::default());
        assert_eq!(limit, Some(BrandLimit { outstanding: 17, per_second: 170 }));
        assert_eq!(outstanding(&book, at(0), "tea"), None, "the first has no limit for it");
        book.handle_link_open(A, false);
        assert_eq!(outstanding(&book, at(0), "tea"), Some(1));
        book.handle_link_down(B);
        assert_eq!(outstanding(&book, at(0), "shoes"), None);
    }

    #[test]
    fn an_agent_that_takes_no_orders_counts_only_if_no_other_does() {
        let mut book = GrantBook::default();
        [A, B].into_iter().for_each(|link| book.handle_link_up(link));
        book.handle_grants(at(0), A, &grants(1, &[]));
        book.handle_grants(at(0), B, &grants(1, &[("shoes", 7)]));
        assert_eq!(outstanding(&book, at(0), "shoes"), None, "the first has no limit for it");
        book.handle_stopped(A, true);
        assert_eq!(outstanding(&book, at(0), "shoes"), Some(7));
        assert_eq!(book.granted_on(at(0), B).collect::<Vec<_>>(), [(&brand("shoes"), 7)]);
        assert_eq!((book.granted_on(at(0), A).count(), book.granted_on(at(1_000), B).count()), (0, 0));
        book.handle_grants(at(500), B, &grants(2, &[("shoes", 7)]));
        assert!(!book.lacks_grants(at(1_000)), "the silent one takes no orders");
        book.handle_stopped(B, true);
        assert_eq!((outstanding(&book, at(600), "shoes"), book.lacks_grants(at(1_000))), (None, true));
        book.handle_link_open(B, false);
        book.handle_stopped(A, false);
        assert_eq!(outstanding(&book, at(600), "shoes"), None);
    }

    #[test]
    fn an_agent_that_no_longer_grants_gets_nothing_while_another_one_grants() {
        let mut book = GrantBook::default();
        [A, B].into_iter().for_each(|link| book.handle_link_up(link));
        book.handle_grants(at(0), A, &grants(1, &[("shoes", 5)]));
        book.handle_grants(at(600), B, &grants(1, &[("shoes", 7)]));
        assert_eq!(outstanding(&book, at(600), "shoes"), Some(12));
        assert_eq!((book.is_stopped(at(999), A), book.is_stopped(at(1_000), A)), (false, true));
        assert_eq!((outstanding(&book, at(1_000), "shoes"), book.lacks_grants(at(1_000))), (Some(7), false));
        book.expire(at(1_100));
        assert!(book.is_stopped(at(1_100), A), "after its end as well");
        assert_eq!((book.is_stopped(at(1_600), A), outstanding(&book, at(1_600), "shoes")), (false, None));
        book.handle_grants(at(1_700), A, &grants(2, &[]));
        assert!(!book.is_stopped(at(1_700), A) && book.is_stopped(at(1_700), B));
        book.handle_link_down(A);
        book.handle_link_up(A);
        book.handle_grants(at(1_700), B, &grants(2, &[("shoes", 7)]));
        assert!(!book.is_stopped(at(1_700), A), "one that has never granted is of an earlier release");
        assert_eq!(outstanding(&book, at(1_700), "shoes"), None);
    }

    #[test]
    fn writes_at_an_agent_out_of_use_take_nothing_from_the_others() {
        let mut book = GrantBook::default();
        [A, B].into_iter().for_each(|link| book.handle_link_up(link));
        [A, B].into_iter().for_each(|link| book.handle_grants(at(0), link, &grants(1, &[("shoes", 10)])));
        let limit = |book: &GrantBook| {
            let writes = |link: LinkId| WritesOnLink { waited_for: 20 * link.0 as u32, settling: 3 };
            book.limit_of(at(0), &brand("shoes"), writes).map(|limit| limit.outstanding)
        };
        assert_eq!(limit(&book), Some(14), "what nobody waits for still spends the grants");
        book.handle_link_open(A, false);
        assert_eq!(limit(&book), Some(7 + 20), "20 of the outstanding ones are at the silent agent");
        book.handle_link_open(A, true);
        book.handle_stopped(B, true);
        assert_eq!(limit(&book), Some(7 + 40));
    }

    #[test]
    fn a_lost_grant_is_replaced_and_an_old_one_expires() {
        let mut book = GrantBook::default();
        book.handle_link_up(A);
        book.handle_grants(at(0), A, &grants(2, &[("shoes", 10)]));
        book.handle_grants(at(10), A, &grants(1, &[("shoes", 99)]));
        assert_eq!(outstanding(&book, at(999), "shoes"), Some(10), "an older message has no effect");
        assert_eq!(book.next_expiry(), Some(at(1_000)));
        assert!(!book.expire(at(999)));
        assert_eq!((outstanding(&book, at(1_000), "shoes"), book.lacks_grants(at(1_000))), (None, true));
        assert_eq!(book.next_expiry(), Some(at(1_000)), "however late it is looked at");
        assert!(book.expire(at(1_500)) && !book.expire(at(1_500)));
        assert_eq!(book.next_expiry(), None);
        book.handle_grants(at(1_500), A, &grants(4, &[]));
        assert_eq!((outstanding(&book, at(1_500), "shoes"), book.lacks_grants(at(1_500))), (None, false));
    }

    #[test]
    fn a_lower_class_never_takes_the_last_part() {
        let parts = |class: CreditClass| [0, 1, 2, 3, 8, 9, 80].map(|limit| class.part_of(limit));
        assert_eq!(parts(CreditClass::Cancellation), [0, 1, 2, 3, 8, 9, 80]);
        assert_eq!(parts(CreditClass::Order), [0, 1, 1, 2, 7, 7, 70]);
        assert_eq!(parts(CreditClass::Bulk), [0, 0, 0, 1, 6, 5, 60]);
        assert_eq!([0, 1, 2, 16].map(|max| CreditClass::Bulk.part_of_queue(max)), [0, 0, 1, 14]);
    }
}
