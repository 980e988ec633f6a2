//! Limits of the brands: by the grants of the data centre's agents, or by the delays of the answers
//! while an agent grants none.
//!
//! Sans-IO, except that the delays come from [`Credits`]. The order link's owner has it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::domain::Brand;
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::adaptive::AdaptiveLimit;
use bridge_protocol::order_link::credits::{GrantBook, WritesOnLink};
use bridge_protocol::order_link::fair_share::BrandIndex;

use super::credits::Credits;

/// The limits of all brands.
pub(super) struct BrandLimits {
    credits: Arc<Credits>,
    grants: GrantBook,
    /// Limit of each brand by the delays; empty while all agents grant.
    adaptive: Vec<AdaptiveLimit>,
    brands: HashMap<Brand, BrandIndex>,
    /// Largest limit of one brand by the delays. A brand that has it is not limited.
    limit_max: u32,
}

impl BrandLimits {
    /// Makes limits for these brands. None has a limit yet.
    pub(super) fn new(credits: Arc<Credits>, brands: &[Brand], limit_max: u32) -> Self {
        let brands = (0..).map(BrandIndex).zip(brands).map(|(index, brand)| (brand.clone(), index)).collect();
        Self { credits, grants: GrantBook::default(), adaptive: Vec::new(), brands, limit_max }
    }

    /// Changes the grants. The limits must be set after that.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut GrantBook)) {
        change(&mut self.grants);
    }

    /// Forgets the grants that have expired. Returns true if there were some: the limits must then
    /// be set.
    pub(super) fn expire(&mut self, now: Duration) -> bool {
        self.grants.expire(now)
    }

    /// Returns true if a link's agent takes no orders, or has stopped granting while another one
    /// grants.
    pub(super) fn is_stopped(&self, now: Duration, link: LinkId) -> bool {
        self.grants.is_stopped(now, link)
    }

    /// Returns what a link's agent grants now. A brand that is not listed has no limit there.
    pub(super) fn granted_on(&self, now: Duration, link: LinkId) -> impl Iterator<Item = (BrandIndex, u32)> {
        let granted = self.grants.granted_on(now, link);
        granted.filter_map(|(brand, writes)| Some((*self.brands.get(brand)?, writes)))
    }

    /// Returns the time of the next expiry of a grant that [`Self::expire`] has not handled.
    pub(super) fn next_expiry(&self) -> Option<Duration> {
        self.grants.next_expiry()
    }

    /// Sets the limits that the serving threads see. `writes` returns a brand's writes on a link.
    pub(super) fn set(&self, now: Duration, writes: impl Fn(LinkId, BrandIndex) -> WritesOnLink) {
        let adaptive = |index: BrandIndex| self.adaptive.get(index.0)?.limit();
        self.credits.set_limits(|index, brand| {
            let granted = self.grants.limit_of(now, brand, |link| writes(link, index));
            granted.or_else(|| adaptive(index))
        });
    }

    /// Returns true if limits by the delays must be computed, or are no longer needed.
    pub(super) fn adapts(&self, now: Duration) -> bool {
        self.grants.lacks_grants(now) || !self.adaptive.is_empty()
    }

    /// Computes the limits by the delays. The limits must be set after that.
    pub(super) fn adapt(&mut self, now: Duration) {
        if !self.grants.lacks_grants(now) {
            self.adaptive.clear();
        } else if self.adaptive.is_empty() {
            for index in 0..self.brands.len() {
                let _from_before = self.credits.take_seen(BrandIndex(index));
                self.adaptive.push(AdaptiveLimit::new(now, self.limit_max));
            }
        } else {
            for (index, limit) in self.adaptive.iter_mut().enumerate() {
                limit.compute(now, self.credits.take_seen(BrandIndex(index)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bridge_protocol::wire::control::{BrandGrant, Grants};

    use super::*;
    use crate::metrics::CreditGauges;

    const OLD: LinkId = LinkId(1);
    const NEW: LinkId = LinkId(2);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn delays_limit_a_brand_only_while_an_agent_grants_nothing() {
        let brands = ["shoes", "tea"].map(|name| Brand::new(name).unwrap());
        let credits = Credits::new(&brands.clone().map(|brand| (brand, 1)), CreditGauges::default());
        let credits = Arc::new(credits);
        let mut limits = BrandLimits::new(credits.clone(), &brands, 100);
        assert!(!limits.adapts(at(0)), "there is no link");
        let shoes = BrandGrant { brand: "shoes".to_owned(), outstanding: 10, per_second: 5 };
        let grants = Grants { number: 1, expires_millis: 1_000, brands: vec![shoes] };
        let set = |limits: &BrandLimits, now| limits.set(now, |_, _| WritesOnLink::default());
        limits.change(|book| {
            book.handle_link_up(NEW);
            book.handle_grants(at(0), NEW, &grants);
        });
        set(&limits, at(0));
        let limited =
            |credits: &Credits| credits.report().into_iter().filter(|of| of.limit.is_some()).count();
        assert!(!limits.adapts(at(0)) && limited(&credits) == 1);
        assert_eq!(limits.granted_on(at(0), NEW).collect::<Vec<_>>(), [(BrandIndex(0), 10)]);
        limits.change(|book| book.handle_link_up(OLD));
        assert!(limits.adapts(at(10)), "the other agent is of an earlier release");
        limits.adapt(at(50));
        limits.adapt(at(100));
        set(&limits, at(100));
        assert_eq!((limits.adaptive.len(), limited(&credits)), (2, 0), "nothing waits");
        limits.change(|book| book.handle_link_down(OLD));
        assert!(limits.adapts(at(150)), "once more, to forget the delays");
        limits.adapt(at(150));
        set(&limits, at(150));
        assert!(!limits.adapts(at(150)) && limited(&credits) == 1);
        assert_eq!(limits.next_expiry(), Some(at(1_000)));
        assert!(!limits.expire(at(999)) && limits.expire(at(1_050)), "however late it is looked at");
        set(&limits, at(1_050));
        assert!(limits.adapts(at(1_050)) && limited(&credits) == 0, "the grant has expired");
    }
}
