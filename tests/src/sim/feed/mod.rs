//! The feed's part of a schedule: replicas, data centres, lines and a source in one thread, under
//! the schedule's seed.
//!
//! The publishers and subscribers are the real ones. The source in memory and the drivers are
//! simulated. The oracles know the source's whole history.

mod faults;
mod lines;
mod oracles;
mod replica;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::domain::Brand;
use bridge_protocol::domain::catalogue::{Code, EntityKey, EntityKind};
use bridge_protocol::feed::Head;
use bridge_protocol::feed::publisher::{self, Read, ReadFailed, ReadResult};
use bridge_protocol::feed::subscriber;
use bridge_protocol::order_link::LinkId;
use bridge_protocol::wire::feed::{ToPublisher, ToSubscriber};

use super::counts::Counts;
use super::dice::Dice;
use super::options::Sabotage;
use super::trace::Trace;
use super::world::Ended;
use lines::{DataCentre, Line, Slot};
use replica::Replica;
use source::Source;

/// The first moment by the database's clock, in microseconds since 1970.
const EPOCH_MICROS: i64 = 1_795_343_485_000_000;

/// Interval between two draws of faults.
const TICK: Duration = Duration::from_millis(20);

/// After the last fault, the replicas must be equal to the source within this time.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

/// Brands of the source. A replica serves the first two.
const BRANDS: [&str; 3] = ["shoes", "tea", "toys"];

/// Chances in 10,000 at each tick.
#[derive(Default)]
struct FeedFaultRates {
    link_dies: u32,
    link_silent: u32,
    cloud_dies: u32,
    idc_dies: u32,
    slow: u32,
    drift: u32,
    sequencer_pauses: u32,
    restores: u32,
}

/// An event of the simulation.
enum Event {
    Tick,
    Write,
    Commit(u64),
    Sequence,
    Look(usize),
    Head { idc: usize, life: u32, head: Head },
    Dial(usize),
    ToPublisher { link: LinkId, message: ToPublisher },
    ToSubscriber { link: LinkId, message: ToSubscriber },
    PublisherDown(LinkId),
    SubscriberDown(LinkId),
    PublisherTimer(LinkId),
    Read { link: LinkId, brands: Arc<[Brand]>, read: Read },
    Found { link: LinkId, found: Result<ReadResult, ReadFailed> },
    ReplicaTimer { index: usize, life: u32 },
    Applied { index: usize, life: u32 },
    ReplicaStarts(usize),
    IdcStarts(usize),
}

/// The feed of one schedule.
pub(super) struct World {
    now: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    events_made: u64,
    dice: Dice,
    fault_rates: FeedFaultRates,
    sabotage: Option<Sabotage>,
    faults_until: Duration,
    healed_at: Duration,
    done: bool,

    source: Source,
    /// Keys that transactions write, of all brands.
    keys: Vec<EntityKey>,
    transactions: u64,
    /// Longest time between two transactions, in milliseconds.
    writes_every: u64,
    /// Most changes that the sequencer takes at once.
    sequenced_max: usize,
    paused_until: Duration,
    read_fails: u32,

    brands: Vec<Brand>,
    publisher_limits: publisher::PublisherLimits,
    subscriber_limits: subscriber::SubscriberLimits,
    replicas: Vec<Replica>,
    idcs: Vec<DataCentre>,
    slots: Vec<Slot>,
    lines: BTreeMap<LinkId, Line>,
    links_made: u64,

    violation: Option<(&'static str, String)>,
    counts: Counts,
    trace: Trace,
}

/// Writes an event into the world's trace.
macro_rules! note {
    ($world:expr, $($text:tt)*) => { $world.trace.note($world.now, format_args!($($text)*)) };
}
use note;

impl World {
    /// Makes the schedule of a seed. Its last `story_max` events are kept as text.
    pub(super) fn new(seed: u64, sabotage: Option<Sabotage>, story_max: usize) -> Self {
        // The orders use the seed itself; the feed must not draw the same numbers.
        let mut dice = Dice::new(!seed);
        let mut often = |most: u32| match dice.index(3) {
            0 => 0,
            1 => most / 4,
            _ => most,
        };
        let fault_rates = FeedFaultRates {
            link_dies: often(150),
            link_silent: often(100),
            cloud_dies: often(120),
            idc_dies: often(80),
            slow: often(200),
            drift: often(60),
            sequencer_pauses: often(200),
            restores: if sabotage == Some(Sabotage::ResumeAnyHistory) { 100 } else { often(100) },
        };
        let read_fails = often(500);
        let mut some = |range| usize::try_from(dice.between(range)).unwrap_or(1);
        let publisher_limits = publisher::PublisherLimits {
            rows_max: some(2..=30),
            window_max: u32::try_from(some(1..=6)).unwrap_or(1),
            fresh_every: Duration::from_millis(some(40..=200) as u64),
        };
        let window = u32::try_from(some(1..=6)).unwrap_or(1);
        let (changes_max, sequenced_max, keys) = (some(60..=2_000), some(3..=60), some(20..=60));
        let (replicas, idcs) = (some(1..=2), some(1..=2));
        let subscriber_limits = subscriber::SubscriberLimits {
            window,
            silent_after: dice.millis(500..=1_500),
            sums_every: dice.millis(300..=1_500),
        };
        let brands: Vec<Brand> = BRANDS.iter().filter_map(|name| Brand::new(name).ok()).collect();
        let keys = keys_of(&brands, keys);
        let brands = brands[..2].to_vec();
        let mut world = Self {
            now: Duration::ZERO,
            events: BTreeMap::new(),
            events_made: 0,
            fault_rates,
            sabotage,
            faults_until: dice.millis(2_000..=5_000),
            healed_at: Duration::ZERO,
            done: false,
            source: Source::new(sabotage, changes_max),
            keys,
            transactions: 0,
            writes_every: dice.between(5..=60),
            sequenced_max,
            paused_until: Duration::ZERO,
            read_fails,
            replicas: (0..replicas).map(|_| Replica::new(subscriber_limits, &brands)).collect(),
            brands,
            publisher_limits,
            subscriber_limits,
            idcs: (0..idcs)
                .map(|_| DataCentre { up: true, life: 0, head: None, slow_until: Duration::ZERO })
                .collect(),
            slots: Vec::new(),
            lines: BTreeMap::new(),
            links_made: 0,
            violation: None,
            counts: Counts::default(),
            trace: Trace::new(story_max),
            dice,
        };
        world.begin();
        world
    }

    /// Fills the source and schedules the first events.
    fn begin(&mut self) {
        let all = self.keys.iter().map(|key| (key.clone(), false)).collect();
        self.source.write(0, all);
        self.commit(0);
        for replica in 0..self.replicas.len() {
            for idc in 0..self.idcs.len() {
                for _ in 0..self.dice.between(1..=2) {
                    self.slots.push(Slot { replica, idc });
                    let delay = self.dice.millis(0..=20);
                    self.after(delay, Event::Dial(self.slots.len() - 1));
                }
            }
        }
        for idc in 0..self.idcs.len() {
            self.after(Duration::ZERO, Event::Look(idc));
        }
        for event in [Event::Sequence, Event::Write, Event::Tick] {
            self.after(Duration::ZERO, event);
        }
    }

    /// Runs the schedule: first with faults, then without until every replica is equal to the
    /// source.
    pub(super) fn run(mut self) -> Ended {
        while self.violation.is_none()
            && !self.done
            && let Some(((at, _), event)) = self.events.pop_first()
        {
            self.now = at;
            if self.healed_at > Duration::ZERO && at > self.healed_at + SETTLED_WITHIN {
                break;
            }
            self.happen(event);
        }
        self.check_end();
        let Self { violation, counts, trace, .. } = self;
        let (trace, story) = trace.end();
        Ended { orders: 0, counts, violation, trace, story }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick => self.tick(),
            Event::Write => self.write(),
            Event::Commit(number) => self.commit(number),
            Event::Sequence => self.sequence(),
            Event::Look(idc) => self.look(idc),
            Event::Head { idc, life, head } => self.head_comes(idc, life, head),
            Event::Dial(slot) => self.dial(slot),
            Event::ToPublisher { link, message } => self.publisher_hears(link, message),
            Event::ToSubscriber { link, message } => self.subscriber_hears(link, message),
            Event::PublisherDown(link) => self.publisher_down(link),
            Event::SubscriberDown(link) => self.subscriber_down(link),
            Event::PublisherTimer(link) => self.publisher_timer(link),
            Event::Read { link, brands, read } => self.read(link, &brands, &read),
            Event::Found { link, found } => self.found(link, found),
            Event::ReplicaTimer { index, life } => self.replica_timer(index, life),
            Event::Applied { index, life } => self.applied(index, life),
            Event::ReplicaStarts(index) => self.replica_starts(index),
            Event::IdcStarts(idc) => self.idc_starts(idc),
        }
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    fn at(&mut self, when: Duration, event: Event) {
        self.events_made += 1;
        self.events.insert((when, self.events_made), event);
    }

    /// Records the first broken promise. The schedule ends with it.
    fn violate(&mut self, promise: &'static str, what: String) {
        note!(self, "{promise} IS BROKEN: {what}");
        self.violation.get_or_insert((promise, what));
    }
}

/// Returns `each` keys of each brand, with all kinds in turn.
fn keys_of(brands: &[Brand], each: usize) -> Vec<EntityKey> {
    let mut keys = Vec::new();
    for brand in brands {
        for (number, kind) in (0..each).zip(EntityKind::ALL.into_iter().cycle()) {
            if let Ok(code) = Code::new(&format!("K-{number}")) {
                keys.push(EntityKey { kind, brand: brand.clone(), code });
            }
        }
    }
    keys
}
