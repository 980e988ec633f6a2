//! Lines between replicas and data centres: one ordered lane in each direction, over links that die
//! and lose a suffix or fall silent. The driver of each link's real publisher is here as well.

use std::time::Duration;

use bridge_protocol::feed::Head;
use bridge_protocol::feed::publisher::{Output, Publisher, Read, ReadFailed, ReadResult};
use bridge_protocol::order_link::LinkId;
use bridge_protocol::wire::feed::{ToPublisher, ToSubscriber, to_publisher, to_subscriber};

use super::super::options::Sabotage;
use super::{Event, World, note};

/// A slot for one link. A link that dies is dialled again.
pub(super) struct Slot {
    pub(super) replica: usize,
    pub(super) idc: usize,
}

/// One link between a replica and a data centre.
pub(super) struct Line {
    slot: usize,
    pub(super) replica: usize,
    pub(super) idc: usize,
    /// Number of the replica's process that dialled.
    life: u32,
    /// `None` once the data centre knows that the link is down.
    publisher: Option<Publisher>,
    /// Time of death. Frames that would arrive later are lost.
    cut: Option<Duration>,
    silent_until: Duration,
    /// Arrival of the last frame, at the publisher and at the subscriber.
    last: [Duration; 2],
    timer: Option<Duration>,
    /// Pages of the subscription that were sent and that were applied.
    sent: u64,
    acknowledged: u64,
    /// The source's head at the start of the bootstrap.
    pub(super) s0: Option<u64>,
}

/// The feed's part of a data centre's agent.
pub(super) struct DataCentre {
    pub(super) up: bool,
    pub(super) life: u32,
    pub(super) head: Option<Head>,
    pub(super) slow_until: Duration,
}

impl World {
    pub(super) fn lines_of(&self, which: impl Fn(&Line) -> bool) -> Vec<LinkId> {
        let lines = self.lines.iter().filter(|(_, line)| line.cut.is_none() && which(line));
        lines.map(|(link, _)| *link).collect()
    }

    pub(super) fn dial(&mut self, slot: usize) {
        let Slot { replica, idc } = self.slots[slot];
        if !self.replicas[replica].up || !self.idcs[idc].up {
            let delay = self.dice.millis(20..=100);
            self.after(delay, Event::Dial(slot));
            return;
        }
        self.links_made += 1;
        let link = LinkId(self.links_made);
        let mut publisher = Publisher::new(self.publisher_limits);
        if let Some(head) = self.idcs[idc].head {
            publisher.handle_head(self.now, head);
        }
        let line = Line {
            slot,
            replica,
            idc,
            life: self.replicas[replica].life,
            publisher: Some(publisher),
            cut: None,
            silent_until: Duration::ZERO,
            last: [Duration::ZERO; 2],
            timer: None,
            sent: 0,
            acknowledged: 0,
            s0: None,
        };
        self.lines.insert(link, line);
        note!(self, "link {} is up, replica {replica} and data centre {idc}", link.0);
        let now = self.replica_now(replica);
        self.replicas[replica].subscriber.handle_link_up(now, link);
        self.do_replica(replica);
    }

    /// Kills a link. Each lane loses a suffix, and each end learns of it later.
    pub(super) fn kill_line(&mut self, link: LinkId) {
        let delays = [5, 50, 50].map(|most| self.dice.millis(0..=most));
        let Some(line) = self.lines.get_mut(&link).filter(|line| line.cut.is_none()) else { return };
        self.counts.feed_links_killed += 1;
        let cut = self.now + delays[0];
        line.cut = Some(cut);
        note!(self, "link {} dies", link.0);
        self.at(cut + delays[1], Event::PublisherDown(link));
        self.at(cut + delays[2], Event::SubscriberDown(link));
    }

    pub(super) fn silence(&mut self, link: LinkId) {
        let until = self.now + self.dice.millis(50..=2_000);
        note!(self, "link {} falls silent", link.0);
        self.counts.feed_silences += 1;
        if let Some(line) = self.lines.get_mut(&link) {
            line.silent_until = until;
        }
    }

    pub(super) fn publisher_down(&mut self, link: LinkId) {
        if let Some(line) = self.lines.get_mut(&link) {
            (line.publisher, line.s0) = (None, None);
        }
    }

    pub(super) fn subscriber_down(&mut self, link: LinkId) {
        let Some((slot, index, life)) =
            self.lines.get(&link).map(|line| (line.slot, line.replica, line.life))
        else {
            return;
        };
        if self.replicas[index].up && self.replicas[index].life == life {
            let now = self.replica_now(index);
            self.replicas[index].subscriber.handle_link_down(now, link);
            self.do_replica(index);
        }
        let delay = self.dice.millis(5..=100);
        self.after(delay, Event::Dial(slot));
    }

    /// Returns the arrival time of a frame sent now, or `None` if its link is dead.
    fn comes(&mut self, link: LinkId, direction: usize) -> Option<Duration> {
        let delay = self.dice.micros(200..=4_000);
        let line = self.lines.get_mut(&link).filter(|line| line.cut.is_none())?;
        let last = &mut line.last[direction];
        *last = (self.now + delay).max(*last).max(line.silent_until);
        Some(*last)
    }

    pub(super) fn send_to_publisher(&mut self, link: LinkId, message: ToPublisher) {
        if let Some(at) = self.comes(link, 0) {
            self.at(at, Event::ToPublisher { link, message });
        }
    }

    /// Returns true if a frame is lost because its link was cut before the arrival.
    fn is_cut(&mut self, link: LinkId) -> bool {
        let cut = self.lines.get(&link).is_none_or(|line| line.cut.is_some_and(|cut| cut < self.now));
        self.counts.feed_frames_cut += u64::from(cut);
        cut
    }

    pub(super) fn publisher_hears(&mut self, link: LinkId, message: ToPublisher) {
        if self.is_cut(link) {
            return;
        }
        let now = self.now;
        let Some(line) = self.lines.get_mut(&link) else { return };
        let Some(publisher) = &mut line.publisher else { return };
        match &message.kind {
            Some(to_publisher::Kind::Subscribe(_)) => (line.sent, line.acknowledged, line.s0) = (0, 0, None),
            Some(to_publisher::Kind::Applied(applied)) => line.acknowledged = applied.page,
            _ => {}
        }
        if let Err(violation) = publisher.handle_message(now, message) {
            self.violate("P6", format!("an honest subscriber is refused: {violation}"));
        }
        self.do_publisher(link);
    }

    pub(super) fn subscriber_hears(&mut self, link: LinkId, message: ToSubscriber) {
        if self.is_cut(link) {
            return;
        }
        let Some((index, life)) = self.lines.get(&link).map(|line| (line.replica, line.life)) else { return };
        if !self.replicas[index].up || self.replicas[index].life != life {
            return;
        }
        let now = self.replica_now(index);
        if let Err(violation) = self.replicas[index].subscriber.handle_message(now, link, message) {
            self.violate("P6", format!("an honest publisher is refused: {violation}"));
        }
        self.do_replica(index);
    }

    pub(super) fn head_comes(&mut self, idc: usize, life: u32, head: Head) {
        if !self.idcs[idc].up || self.idcs[idc].life != life {
            return;
        }
        self.idcs[idc].head = Some(head);
        let links: Vec<LinkId> =
            self.lines.iter().filter(|(_, line)| line.idc == idc).map(|(link, _)| *link).collect();
        for link in links {
            let now = self.now;
            if let Some(publisher) = self.lines.get_mut(&link).and_then(|line| line.publisher.as_mut()) {
                publisher.handle_head(now, head);
                self.do_publisher(link);
            }
        }
    }

    pub(super) fn publisher_timer(&mut self, link: LinkId) {
        let now = self.now;
        let Some(line) = self.lines.get_mut(&link) else { return };
        let Some(publisher) = line.publisher.as_mut().filter(|_| line.timer.is_some_and(|at| at <= now))
        else {
            return;
        };
        line.timer = None;
        publisher.handle_timeout(now);
        self.do_publisher(link);
    }

    /// Runs a publisher's read in the database.
    pub(super) fn read(&mut self, link: LinkId, brands: &[bridge_protocol::domain::Brand], read: &Read) {
        let Some((idc, s0)) = self.lines.get(&link).map(|line| (line.idc, line.s0)) else { return };
        let found = if self.dice.happens(self.read_fails) {
            self.counts.reads_failed += 1;
            Err(ReadFailed)
        } else if self.sabotage == Some(Sabotage::SkipReplay)
            && s0.is_some()
            && matches!(read, Read::Changes { .. })
        {
            Ok(ReadResult::Changes { rows: Vec::new(), position: self.source.kept.last })
        } else {
            Ok(self.source.read(brands, read))
        };
        if let (Ok(ReadResult::Lost), Read::Changes { .. }) = (&found, read) {
            self.counts.positions_lost += 1;
        }
        let slow = self.now < self.idcs[idc].slow_until;
        let delay = if slow { self.dice.millis(5..=100) } else { self.dice.micros(100..=4_000) };
        self.after(delay, Event::Found { link, found });
    }

    pub(super) fn found(&mut self, link: LinkId, found: Result<ReadResult, ReadFailed>) {
        let now = self.now;
        if let Some(publisher) = self.lines.get_mut(&link).and_then(|line| line.publisher.as_mut()) {
            publisher.handle_found(now, found);
            self.do_publisher(link);
        }
    }

    /// Carries out a publisher's outputs, then sets its timer.
    fn do_publisher(&mut self, link: LinkId) {
        while let Some(output) = self
            .lines
            .get_mut(&link)
            .and_then(|line| line.publisher.as_mut())
            .and_then(Publisher::poll_output)
        {
            match output {
                Output::Send(message) => self.publisher_says(link, message),
                Output::Read { brands, read } => {
                    let delay = self.dice.micros(100..=4_000);
                    if let Some(line) = self.lines.get_mut(&link)
                        && matches!(read, Read::Page { after: None, .. })
                    {
                        line.s0 = self.idcs[line.idc].head.map(|head| head.position.seq);
                    }
                    self.after(delay, Event::Read { link, brands, read });
                }
                Output::TooLarge(key) => self.violate("P6", format!("{key} is too large")),
            }
        }
        let now = self.now;
        let Some(line) = self.lines.get_mut(&link) else { return };
        let next = line.publisher.as_ref().and_then(Publisher::next_timeout).map(|at| at.max(now));
        if let Some(at) = next
            && line.timer.is_none_or(|timer| at < timer)
        {
            line.timer = Some(at);
            self.at(at, Event::PublisherTimer(link));
        }
    }

    fn publisher_says(&mut self, link: LinkId, message: ToSubscriber) {
        let Some(line) = self.lines.get_mut(&link) else { return };
        match &message.kind {
            Some(to_subscriber::Kind::Page(page)) => {
                line.sent += 1;
                if page.complete {
                    line.s0 = None;
                }
                let window = self.subscriber_limits.window.min(self.publisher_limits.window_max);
                let under_way = line.sent - line.acknowledged.min(line.sent);
                if under_way > u64::from(window) {
                    self.violate("P7", format!("{under_way} pages are under way in a window of {window}"));
                }
            }
            Some(to_subscriber::Kind::Begin(begin)) if !begin.bootstrap => self.counts.resumptions += 1,
            _ => {}
        }
        if let Some(at) = self.comes(link, 1) {
            self.at(at, Event::ToSubscriber { link, message });
        }
    }
}
