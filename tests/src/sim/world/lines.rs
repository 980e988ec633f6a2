//! Lines: ordered lanes with a delay, over links that come up and die. A dying link loses a suffix
//! of each lane in each direction. Single frames may be lost, doubled or late. A line carries
//! bytes, not messages.

use std::time::Duration;

use bridge_idc::orders::core::Input;
use bridge_protocol::order_link::LinkId;
use bridge_protocol::seal::manifest::SealingKey;
use bridge_protocol::wire::frame::{self, FrameDecoder, ORDER_FRAME_BYTES_MAX};
use bridge_protocol::wire::order::{ToCloud, ToIdc, to_idc};
use bytes::{BufMut as _, Bytes};
use prost::Message;

use super::super::reference::Key;
use super::{Event, World, note};

/// The number of a link's payment lane, beside those of its order lanes.
pub(super) const PAYMENTS: u8 = u8::MAX;

/// Direction of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the cloud agent to the IDC agent.
    ToIdc,
    /// From the IDC agent to the cloud agent.
    ToCloud,
}

/// A slot for one link between two agents. Two agents have several.
pub(super) struct Slot {
    pub(super) cloud: usize,
    pub(super) idc: usize,
    pub(super) link: Option<LinkId>,
}

/// One link between two agents.
pub(super) struct Line {
    pub(super) slot: usize,
    /// Numbers of the processes at the link's ends. A later process of the same agent does not know
    /// the link.
    cloud_life: u32,
    idc_life: u32,
    alive: bool,
    /// The sealing keys of the link's IDC agent, as the cloud agent was told.
    keys: Vec<SealingKey>,
    /// Arrival of the last message on the control lane.
    told: Duration,
    /// Number of ends that know that the link is down. The line is removed once both do.
    ends_down: u8,
    to_idc: Vec<Lane>,
    to_cloud: Vec<Lane>,
}

/// One lane in one direction.
struct Lane {
    /// Arrival of the last frame that is in order.
    last: Duration,
    /// Set when the link has died. Frames that would arrive later are lost.
    cut: Option<Duration>,
    /// Set once the first frame was lost to the cut.
    ended: bool,
    decoder: FrameDecoder,
}

impl Line {
    /// Returns a lane. The last one in the list is that of payments.
    fn lane(&mut self, direction: Direction, lane: u8) -> Option<&mut Lane> {
        let lanes = self.lanes(direction);
        match lane {
            PAYMENTS => lanes.last_mut(),
            lane => {
                let orders = lanes.len() - 1;
                lanes[..orders].get_mut(usize::from(lane))
            }
        }
    }

    fn lanes(&mut self, direction: Direction) -> &mut Vec<Lane> {
        match direction {
            Direction::ToIdc => &mut self.to_idc,
            Direction::ToCloud => &mut self.to_cloud,
        }
    }
}

impl World {
    /// Prepares one to three links for each pair, and dials them all.
    pub(super) fn lay_lines(&mut self) {
        for cloud in 0..self.clouds.len() {
            for idc in 0..self.idcs.len() {
                for _ in 0..self.dice.between(1..=3) {
                    self.slots.push(Slot { cloud, idc, link: None });
                    let delay = self.dice.millis(0..=5);
                    self.after(delay, Event::Dial(self.slots.len() - 1));
                }
            }
        }
    }

    /// Dials a link, or tries again later if an agent is down.
    pub(super) fn dial(&mut self, slot: usize) {
        let Slot { cloud, idc, .. } = self.slots[slot];
        if !self.clouds[cloud].up || !self.idcs[idc].up {
            let delay = self.dice.millis(20..=100);
            return self.after(delay, Event::Dial(slot));
        }
        self.links_made += 1;
        let link = LinkId(self.links_made);
        let lanes = self.dice.index(4) + 1;
        let now = self.now;
        let make = || {
            let lane = || Lane {
                last: now,
                cut: None,
                ended: false,
                decoder: FrameDecoder::new(ORDER_FRAME_BYTES_MAX),
            };
            std::iter::repeat_with(lane).take(lanes + 1).collect()
        };
        let (cloud_life, idc_life) = (self.clouds[cloud].life, self.idcs[idc].life);
        let line = Line {
            slot,
            cloud_life,
            idc_life,
            alive: true,
            keys: Vec::new(),
            told: now,
            ends_down: 0,
            to_idc: make(),
            to_cloud: make(),
        };
        self.lines.insert(link, line);
        self.slots[slot].link = Some(link);
        self.counts.links_up += 1;
        note!(self, "link {} comes up: cloud {cloud} to idc {idc}, {lanes} lanes", link.0);
        self.book_link_up(cloud, idc, link);
        let (now, window) = (self.cloud_now(cloud), self.window);
        let lanes = u8::try_from(lanes).unwrap_or(1);
        self.clouds[cloud].sender.handle_link_up(now, link, lanes, window);
        self.clouds[cloud].payments.handle_link_up(now, link, 1, window);
        self.do_payment_outputs(cloud);
        self.hello(link, idc);
    }

    /// Sends a request, and records if its frame is lost or late on a lane that continues.
    pub(super) fn send_request(&mut self, link: LinkId, lane: u8, message: &ToIdc) {
        if let Some(key) = message.kind.as_ref().and_then(key_of) {
            self.keys_carried.insert((link, lane == PAYMENTS, message.request), key);
        }
        if !self.send(link, Direction::ToIdc, lane, message) {
            self.spoil(link, lane, message.request);
        }
    }

    /// Sends an answer, and records if its frame is lost or late on a lane that continues.
    pub(super) fn send_answer(&mut self, link: LinkId, lane: u8, message: &ToCloud) {
        if !self.send(link, Direction::ToCloud, lane, message) {
            self.spoil(link, lane, message.request);
        }
    }

    /// Records that a frame of this request was lost or late. The receiver takes a late frame for a
    /// repeated one and drops it. Real lanes never do either.
    fn spoil(&mut self, link: LinkId, lane: u8, request: u64) {
        self.spoilt.extend(self.keys_carried.get(&(link, lane == PAYMENTS, request)));
    }

    /// Sends a message on a lane if the link is alive. Returns false if the frame is lost or late
    /// on a lane that continues, which no real lane does.
    fn send(&mut self, link: LinkId, direction: Direction, lane: u8, message: &impl Message) -> bool {
        let Ok(bytes) = frame::to_bytes(message, ORDER_FRAME_BYTES_MAX) else {
            self.violate("FRAMES", "a message does not fit into a frame".to_owned());
            return true;
        };
        let Some(line) = self.lines.get_mut(&link) else { return true };
        let Some(track) = line.lane(direction, lane) else {
            self.violate("FRAMES", format!("link {} has no lane {lane}", link.0));
            return true;
        };
        if track.cut.is_some() {
            self.counts.frames_cut += 1;
            return true;
        }
        if self.dice.happens(self.fault_rates.frame_lost) {
            self.counts.frames_lost += 1;
            note!(self, "a frame on lane {lane} of link {} is lost ({direction:?})", link.0);
            return false;
        }
        let mut is_late = false;
        let mut comes = track.last.max(self.now + self.dice.micros(500..=4_000));
        if self.dice.happens(self.fault_rates.frame_late) {
            self.counts.frames_late += 1;
            is_late = true;
            comes += self.dice.millis(5..=150);
        } else {
            track.last = comes;
        }
        if self.dice.happens(self.fault_rates.frame_doubled) {
            self.counts.frames_doubled += 1;
            let again = comes + self.dice.millis(0..=100);
            self.at(again, Event::Frame { link, direction, lane, bytes: bytes.clone() });
        }
        self.at(comes, Event::Frame { link, direction, lane, bytes });
        !is_late
    }

    /// Delivers a frame, unless its link was cut before or the process there has ended.
    pub(super) fn frame_comes(&mut self, link: LinkId, direction: Direction, lane: u8, mut bytes: Bytes) {
        let Some(line) = self.lines.get_mut(&link) else { return };
        let (slot, cloud_life, idc_life) = (line.slot, line.cloud_life, line.idc_life);
        let Some(track) = line.lane(direction, lane) else { return };
        let cut_off = track.cut.is_some_and(|cut| self.now > cut);
        if cut_off {
            self.counts.frames_cut += 1;
            if std::mem::replace(&mut track.ended, true) {
                return;
            }
        }
        // Of the first frame behind the cut, a part arrives. Other frames arrive in pieces at
        // random.
        let torn = cut_off || self.dice.happens(self.fault_rates.frame_in_pieces);
        let part = if torn { bytes.split_to(self.dice.index(bytes.len())) } else { Bytes::new() };
        track.decoder.buffer_mut().put(part);
        if torn && !matches!(track.decoder.next_frame(), Ok(None)) {
            return self.violate("FRAMES", "a part of a frame is taken for one".to_owned());
        }
        self.counts.frames_torn += u64::from(cut_off);
        self.counts.frames_in_pieces += u64::from(torn && !cut_off);
        if cut_off {
            return;
        }
        track.decoder.buffer_mut().put(bytes);
        let Ok(Some(payload)) = track.decoder.next_frame() else {
            return self.violate("FRAMES", "a frame does not come out of a lane as it went in".to_owned());
        };
        let Slot { cloud, idc, .. } = self.slots[slot];
        match direction {
            Direction::ToIdc if self.idcs[idc].life == idc_life => match frame::decode::<ToIdc>(payload) {
                Ok(message) => {
                    note!(
                        self,
                        "idc {idc} takes request {} of cloud {cloud}, link {}",
                        message.request,
                        link.0
                    );
                    match lane {
                        PAYMENTS => self.payment_comes(idc, link, message),
                        lane => self.tell_idc(idc, Input::Message { link, lane, message }),
                    }
                }
                Err(error) => self.violate("FRAMES", error.to_string()),
            },
            Direction::ToCloud if self.clouds[cloud].life == cloud_life => {
                match frame::decode::<ToCloud>(payload.clone()) {
                    Ok(message) if lane == PAYMENTS => {
                        self.payment_answered(cloud, link, &payload, message);
                    }
                    Ok(message) => self.cloud_answered(cloud, link, &payload, message),
                    Err(error) => self.violate("FRAMES", error.to_string()),
                }
            }
            _ => {}
        }
    }

    /// Kills a link. Each lane still delivers a random part of the frames under way. Each end
    /// learns of the death in its own time, after the last frame that it receives.
    pub(super) fn kill_link(&mut self, link: LinkId) {
        let Some(line) = self.lines.get_mut(&link).filter(|line| line.alive) else { return };
        line.alive = false;
        self.counts.links_killed += 1;
        let mut learns = [self.now; 2];
        for (direction, learns) in [Direction::ToIdc, Direction::ToCloud].into_iter().zip(&mut learns) {
            for lane in line.lanes(direction) {
                let under_way = lane.last.saturating_sub(self.now);
                let kept = self.dice.micros(0..=u64::try_from(under_way.as_micros()).unwrap_or(0));
                lane.cut = Some(self.now + kept);
                *learns = (*learns).max(self.now + kept);
            }
        }
        note!(self, "link {} dies", link.0);
        for (direction, at) in [Direction::ToIdc, Direction::ToCloud].into_iter().zip(learns) {
            let at = at + self.dice.micros(1..=60_000);
            self.at(at, Event::Down { link, direction });
        }
    }

    /// Tells one end that the link is down: the end to which `direction` leads.
    pub(super) fn learns_down(&mut self, link: LinkId, direction: Direction) {
        let Some(line) = self.lines.get_mut(&link) else { return };
        line.ends_down += 1;
        let (slot, cloud_life, idc_life, ends_down) =
            (line.slot, line.cloud_life, line.idc_life, line.ends_down);
        if ends_down == 2 {
            self.lines.remove(&link);
        }
        let Slot { cloud, idc, .. } = self.slots[slot];
        match direction {
            Direction::ToIdc => {
                if self.idcs[idc].life == idc_life {
                    note!(self, "idc {idc} learns that link {} is down", link.0);
                    self.book_link_down_at_idc(cloud, idc, link);
                    self.idcs[idc].payment_core.handle_link_down(link);
                    self.tell_idc(idc, Input::LinkDown(link));
                }
            }
            Direction::ToCloud => {
                if self.clouds[cloud].life == cloud_life {
                    note!(self, "cloud {cloud} learns that link {} is down", link.0);
                    self.book_link_down(cloud, idc, link);
                    let now = self.cloud_now(cloud);
                    self.clouds[cloud].sender.handle_link_down(now, link);
                    self.clouds[cloud].payments.handle_link_down(now, link);
                    self.redial(slot);
                    self.do_cloud_outputs(cloud);
                    self.do_payment_outputs(cloud);
                }
            }
        }
    }

    /// Frees a slot and schedules its next dial.
    pub(super) fn redial(&mut self, slot: usize) {
        self.slots[slot].link = None;
        let delay = self.dice.millis(1..=200);
        self.after(delay, Event::Dial(slot));
    }

    /// Returns the links that are alive.
    pub(super) fn live_links(&self) -> Vec<LinkId> {
        self.lines.iter().filter(|(_, line)| line.alive).map(|(link, _)| *link).collect()
    }

    /// Returns the arrival of a control message that would arrive at `at`. It is never before an
    /// earlier message's arrival.
    pub(super) fn told_at(&mut self, link: LinkId, at: Duration) -> Duration {
        let Some(line) = self.lines.get_mut(&link) else { return at };
        line.told = line.told.max(at);
        line.told
    }

    /// Returns the sealing keys of a link's IDC agent, as the cloud agent was told.
    pub(super) fn told_keys(&self, link: LinkId) -> &[SealingKey] {
        self.lines.get(&link).map_or(&[], |line| &line.keys)
    }

    pub(super) fn set_told_keys(&mut self, link: LinkId, keys: Vec<SealingKey>) {
        if let Some(line) = self.lines.get_mut(&link).filter(|line| line.alive) {
            line.keys = keys;
        }
    }

    /// Returns the data centre to which a link leads.
    pub(super) fn peer_of(&self, link: LinkId) -> Option<usize> {
        self.lines.get(&link).map(|line| self.slots[line.slot].idc)
    }

    /// Returns the data centre at the end of a link, if the link is alive and the process is the
    /// same.
    pub(super) fn idc_of(&self, link: LinkId) -> Option<usize> {
        let line = self.lines.get(&link).filter(|line| line.alive)?;
        let Slot { idc, .. } = self.slots[line.slot];
        (self.idcs[idc].life == line.idc_life).then_some(idc)
    }

    /// Returns the cloud agent at the end of a link, if it is still the same process.
    pub(super) fn cloud_of(&self, link: LinkId) -> Option<usize> {
        let line = self.lines.get(&link)?;
        let Slot { cloud, link: current, .. } = self.slots[line.slot];
        (current == Some(link)).then_some(cloud)
    }
}

/// Returns the key of a write, or `None` if the message is a question.
pub(super) fn key_of(kind: &to_idc::Kind) -> Option<Key> {
    let key = match kind {
        to_idc::Kind::Place(envelope) => &envelope.key,
        to_idc::Kind::Cancel(cancel) => &cancel.key,
        to_idc::Kind::Pay(pay) => &pay.key,
        to_idc::Kind::Refund(refund) => &refund.key,
        to_idc::Kind::Ask(_) | to_idc::Kind::AskPayment(_) => return None,
    };
    // A key of the wrong length becomes a key that no caller sent.
    Some(Key::try_from(&key[..]).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use bridge_protocol::wire::order::Cancel;

    use super::*;

    /// The receiver takes a frame that arrives after later ones of its lane for a repeated frame.
    #[test]
    fn a_frame_out_of_its_order_counts_as_lost() {
        for (late, lost, expected) in [(10_000, 0, true), (0, 10_000, true), (0, 0, false)] {
            let mut world = World::new(1, None, 0);
            (world.fault_rates.frame_late, world.fault_rates.frame_lost) = (late, lost);
            world.dial(0);
            let link = *world.lines.keys().next().unwrap();
            let key = [7; 32];
            let cancel = Cancel { key: Bytes::copy_from_slice(&key), ..Cancel::default() };
            let kind = Some(to_idc::Kind::Cancel(cancel));
            world.send_request(
                link,
                0,
                &ToIdc { request: 1, kind, sequence: 1, trace: None, remaining_millis: None },
            );
            assert_eq!(world.spoilt.contains(&key), expected, "late {late}, lost {lost}");
        }
    }
}
