//! Queueing of requests: their number, the room for one more of a class, and the choice of the next
//! request and its link.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::fair_queue::{QueueEnd, Room};
use super::super::link::Link;
use super::super::request::RequestState;
use super::super::window_use::WindowUse;
use super::{BrandIndex, LinkId, Output, RequestClass, RequestId, Sender};
use crate::seal::KeyId;

impl Sender {
    /// Returns the requests of a class that wait to be sent, to be sealed again, or for the end of
    /// another request.
    ///
    /// Requests that no link opens are not counted, so that they take no room from others. They
    /// wait for a link at most until settling is given up.
    pub fn queued(&self, class: RequestClass) -> usize {
        self.queues.of(class).waiting(&self.lost_keys())
    }

    /// Returns true if the queue of a class has room for one more request of a brand.
    pub fn has_room(&self, class: RequestClass, brand: BrandIndex) -> bool {
        self.room_for(class, brand) != Room::Full
    }

    fn room_for(&self, class: RequestClass, brand: BrandIndex) -> Room {
        self.queues.of(class).room_for(brand, self.limits.max_of(class), &self.lost_keys())
    }

    /// Returns a brand whose number of waiting requests of this class may have changed since this
    /// last returned it, with that number.
    pub fn poll_waiting(&mut self, class: RequestClass) -> Option<(BrandIndex, usize)> {
        let brand = self.queues.of_mut(class).poll_changed()?;
        Some((brand, self.queues.of(class).waiting_of(brand, &self.lost_keys())))
    }

    /// Makes room in the queue of a class for one more request of a brand. If necessary, another
    /// brand's newest request leaves.
    ///
    /// Returns true if the request is one above the limit, and `None` if there is no room. Such a
    /// request counts until it is settled, and so does one that takes its place. So there are never
    /// more of them than the sum of all brands' shares.
    pub(super) fn make_room(&mut self, class: RequestClass, brand: BrandIndex) -> Option<bool> {
        let is_extra = match self.room_for(class, brand) {
            Room::Free => false,
            Room::Above => true,
            Room::Instead(leaves) => {
                let is_extra = self.requests.get(&leaves).is_some_and(|request| request.is_extra);
                self.outputs.push_back(Output::PushedOut { request: leaves });
                self.forget(leaves);
                is_extra
            }
            Room::Full => return None,
        };
        if is_extra {
            self.queues.of_mut(class).add_extra();
        }
        Some(is_extra)
    }

    /// Returns the keys that requests wait for and that no link opens. There is nearly never one.
    fn lost_keys(&self) -> Vec<KeyId> {
        let keys = self.queues.of(RequestClass::Write).keys();
        keys.filter(|key| self.is_opened_nowhere(*key)).collect()
    }

    /// Sets a link's window of unanswered requests.
    pub fn handle_window(&mut self, now: Duration, link: LinkId, window: u32) {
        if let Some(link) = self.links.get_mut(&link) {
            let window = window as usize;
            link.set_window(window, self.reserve.of_window(window));
        }
        self.update_reserve();
        self.send_queued(now);
    }

    /// Computes the brands' shares of the reserve again, after a change of the links.
    fn update_reserve(&mut self) {
        let open = self.links.values().filter(|link| link.open);
        self.reserve.set_size(open.map(Link::reserve).sum());
        self.reserve.brands().for_each(|brand| self.update_window_use(brand));
    }

    /// Handles a change of the links, of their openness or of their keys.
    pub(super) fn links_changed(&mut self, now: Duration) {
        self.keys_version += 1;
        self.note_reach(now);
        self.update_reserve();
        for key in self.lost_keys() {
            for id in self.queues.of(RequestClass::Write).of_key(Some(key)) {
                let brand = self.requests.get(&id).map(|request| request.brand);
                if let Some(brand) = brand
                    && self.has_sealed_again(id)
                {
                    self.queues.of_mut(RequestClass::Write).remove(brand, Some(key), id);
                }
            }
        }
        self.queues.of_mut(RequestClass::Write).mark_all_changed();
        self.send_queued(now);
    }

    /// Returns true if no link opens this key, but some link opens another one.
    fn is_opened_nowhere(&self, key: KeyId) -> bool {
        let mut others = false;
        for link in self.links.values().filter(|link| link.open) {
            if link.keys.contains(&key) {
                return false;
            }
            others |= !link.keys.is_empty();
        }
        others
    }

    /// Returns an order that no link opens to its caller for sealing. Returns false if it has no
    /// caller.
    fn has_sealed_again(&mut self, id: RequestId) -> bool {
        let waited_for = self.requests.get_mut(&id).filter(|request| request.caller_until.is_some());
        let Some(request) = waited_for else { return false };
        request.place = RequestState::Sealing(None);
        self.queues.of_mut(request.class()).hold(request.brand);
        self.outputs.push_back(Output::SealAgain { request: id });
        self.set_timer(id);
        true
    }

    /// Puts a request into the queue, unless it must be sealed again first.
    fn queue_at(&mut self, end: QueueEnd, id: RequestId) {
        let lost = self.requests.get(&id).and_then(|request| request.sealed_to);
        let is_lost = lost.is_some_and(|key| self.is_opened_nowhere(key));
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.place = RequestState::Queued;
        let (class, brand, key, queued) =
            (request.class(), request.brand, request.sealed_to, request.queued(id));
        if !(is_lost && self.has_sealed_again(id)) {
            self.queues.of_mut(class).push(end, brand, key, queued);
        }
        self.set_timer(id);
    }

    pub(super) fn queue_back(&mut self, id: RequestId) {
        self.queue_at(QueueEnd::Back, id);
    }

    /// Takes a request off its link and puts it at the head of its brand's queue, because it is the
    /// oldest.
    pub(super) fn requeue(&mut self, id: RequestId) {
        if self.take_off_link(id) {
            self.queue_at(QueueEnd::Front, id);
        }
    }

    /// Sends waiting requests, brand by brand, to links that have room and the key.
    pub(super) fn send_queued(&mut self, now: Duration) {
        let next = |sender: &mut Self| {
            let links = &sender.links;
            sender.queues.take_next(|class, key, used| link_for(links, now, class, key, used))
        };
        while let Some((id, link)) = next(self) {
            if let Some(request) = self.requests.get_mut(&id) {
                request.down_on.clear();
            }
            self.send(now, id, link);
        }
    }
}

/// Returns the least loaded link with room for the class whose agent opens the key. While some such
/// agent can commit, the others get nothing.
fn link_for(
    links: &BTreeMap<LinkId, Link>,
    now: Duration,
    class: RequestClass,
    key: Option<KeyId>,
    window_use: WindowUse,
) -> Option<LinkId> {
    let opening = || links.iter().filter(|(_, link)| link.opens(key));
    let free = opening().filter(|(_, link)| link.has_room(class, window_use));
    let (id, link) = free.min_by_key(|(_, link)| (link.is_away(now), link.in_flight))?;
    let may_go = !link.is_away(now) || opening().all(|(_, other)| other.is_away(now));
    may_go.then_some(*id)
}
