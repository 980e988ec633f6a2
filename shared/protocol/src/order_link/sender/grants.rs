//! Limits that the agents grant: each is spent on the link of the agent that granted it. And agents
//! that report that they take no orders.

use std::collections::HashMap;
use std::time::Duration;

use super::super::credits::WritesOnLink;
use super::super::link::Link;
use super::{BrandIndex, LinkId, LinkSet, Sender, WindowUse};

impl Sender {
    /// Replaces the limits of a link's agent: most writes of a brand that it has at a time. A brand
    /// that is not listed has no limit. What is above a new limit stays on the link.
    pub fn handle_grants(
        &mut self,
        now: Duration,
        link: LinkId,
        granted: impl IntoIterator<Item = (BrandIndex, u32)>,
    ) {
        let Some(known) = self.links.get_mut(&link) else { return };
        let granted: HashMap<_, _> =
            granted.into_iter().map(|(brand, writes)| (brand, writes as usize)).collect();
        let mut changed: Vec<BrandIndex> = granted.keys().copied().collect();
        changed.extend(known.set_granted(granted).into_keys());
        changed.into_iter().for_each(|brand| self.update_window_use(brand));
        self.send_queued(now);
    }

    /// Takes that a link's agent reports that it takes no orders, or that it takes orders again.
    pub fn handle_stopped(&mut self, now: Duration, link: LinkId, is_stopped: bool) {
        let known = self.links.get_mut(&link).filter(|link| link.is_stopped != is_stopped);
        if let Some(link) = known {
            link.is_stopped = is_stopped;
            self.send_queued(now);
        }
    }

    /// Returns the writes of a brand on a link that count in its limit.
    pub fn writes_on(&self, link: LinkId, brand: BrandIndex) -> WritesOnLink {
        self.links.get(&link).map(|link| link.writes(brand)).unwrap_or_default()
    }

    /// Returns what a brand may use of the links' windows.
    pub(super) fn window_use(&self, brand: BrandIndex) -> WindowUse {
        let spent = self.links.values().filter(|link| link.is_spent(brand)).filter_map(Link::slot);
        WindowUse { reserve: self.reserve.is_for(brand), spent: spent.collect::<LinkSet>() }
    }

    pub(super) fn update_window_use(&mut self, brand: BrandIndex) {
        self.queues.set_window_use(brand, self.window_use(brand));
    }
}
