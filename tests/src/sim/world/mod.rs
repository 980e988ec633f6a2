//! The world of one schedule: its parts, its time, and its events in order of time.
//!
//! The world takes the next event off the queue and passes it to the part that it concerns. The
//! part's reaction becomes later events. Each other file of this folder is one part.

/// A cloud agent: the real sender and sealing session, and a simulated driver.
mod cloud;

/// A data centre's agent: the real core, and a simulated driver.
mod data_centre;

/// The database that the data centres share, statement by statement.
mod database;

/// Look-ups in the database.
mod look_ups;

/// DBAs who change rows of the database.
mod dba;

/// The lines between the agents.
mod lines;

/// Sealing keys, and the operator who rotates them.
mod keys;

/// A data centre's audit log.
mod logs;

/// A cloud agent's audit log.
mod cloud_log;

/// The clocks of all hosts.
mod clocks;

/// The faults.
mod faults;

/// Restores of the database to an earlier moment.
mod restores;

/// Comparison of a ledger as a restore would leave it with the logs and the gateway's books.
mod put_back;

/// Callers: their wishes, and their reactions to answers.
mod callers;

/// Answers as callers see them.
mod replies;

/// The checkers: they test the promises at every step.
mod checkers;

/// The payment gateway behind its line, and the rest of the environment of payments.
mod gateway;

/// A data centre's payments.
mod payments;

/// Callers who pay.
mod payers;

/// The checker of payments.
mod payment_checker;

/// Comparison of the logs of both sides.
mod reconciled;

/// Content of the database, in the types of the reference model.
mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bridge_idc::orders;
use bridge_idc::orders::store::model::{Broken, Ends, Holder, ModelDatabase};
use bridge_protocol::audit::Entry;
use bridge_protocol::domain::OrderId;
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::sender;
use bridge_protocol::seal::opening::Decapsulated;
use bytes::Bytes;

use super::counts::Counts;
use super::dice::Dice;
use super::fault_rates::FaultRates;
use super::options::Sabotage;
use super::reference;
use super::reference::history::History;
use super::reference::receipt::Receipts;
use super::shop::Shop;
use super::trace::Trace;
use callers::{Attempt, Write};
use clocks::Clock;
use cloud::Cloud;
use data_centre::DataCentre;
use database::Commit;
use dba::Dba;
use gateway::{GatewayCall, GatewayReply};
use keys::Keys;
use lines::{Direction, Line, Slot};
use look_ups::{LookUp, Question};
use payments::PaymentWorld;
use restores::Named;

/// The first moment of every schedule by a correct clock, in microseconds since 1970.
const EPOCH_MICROS: i64 = 1_795_343_485_000_000;

/// Interval between two draws of faults.
const TICK: Duration = Duration::from_millis(10);

/// Longest time that a statement of the model waits for a row: for a statement of a batch, and for
/// a statement that does nothing but wait.
const LOCK_TIMEOUT: Duration = Duration::from_millis(50);
const AWAITED_FOR: Duration = Duration::from_millis(200);

/// After the last fault, a schedule must become quiet within this time.
const QUIET_WITHIN: Duration = Duration::from_secs(120);

/// Result of a schedule.
pub(super) struct Ended {
    pub(super) orders: u64,
    pub(super) counts: Counts,
    /// The broken promise, and a description of the violation.
    pub(super) violation: Option<(&'static str, String)>,
    pub(super) trace: u64,
    pub(super) story: Vec<String>,
}

/// An event of the simulation.
enum Event {
    /// Faults are drawn.
    Tick,
    /// A cloud agent dials a link.
    Dial(usize),
    /// The last bytes of a frame arrive.
    Frame { link: LinkId, direction: Direction, lane: u8, bytes: Bytes },
    /// One end of a link learns that it is down.
    Down { link: LinkId, direction: Direction },
    /// A peer that was silent is active again.
    Heard(LinkId),
    /// A window returns to its normal size.
    Window(LinkId),
    /// The operator makes a sealing key.
    Rotate,
    /// A host receives a sealing key.
    KeyComes { host: usize, number: usize },
    /// A host loses the sealing keys that are older than this one.
    KeyGoes { host: usize, number: usize },
    /// A cloud agent receives the manifest of a link's agent.
    Manifest { link: LinkId, note: Bytes },
    /// A sender's timer expires.
    Timer { cloud: usize, at: Duration },
    /// A batch reaches the database.
    Commit { idc: usize, life: u32, attempt: orders::core::Attempt },
    /// The database runs the next statement of a batch.
    Statement(u64),
    /// COMMITs that were late are done or fail.
    LateCommits,
    /// A session other than an agent's releases a row.
    LetGo(u64),
    /// A DBA stops the agents to restore the database.
    StopForRestore,
    /// The database has the state of that moment again.
    Restored { to: Duration },
    /// The checker compares a ledger as a restore to this moment would leave it.
    PutBack,
    /// The database runs a DBA's next statement.
    Dba(u64),
    /// The agent receives the end of a batch.
    BatchEnd { idc: usize, life: u32, ended: orders::core::AttemptEnd },
    /// A sealing session is decapsulated.
    Decapsulated { idc: usize, life: u32, link: LinkId, session: Decapsulated },
    /// The disk under a cloud agent's log has written or refused an entry.
    CloudLogged { cloud: usize, life: u32, entry: u64 },
    /// The disk under a data centre's log has written or refused a round.
    Audited { idc: usize, life: u32, entries: Vec<Entry>, fails: bool },
    /// A look-up reaches the database.
    LookUp { idc: usize, life: u32, question: Question },
    /// The database runs the next statement of a look-up.
    LookUpGoes(u64),
    /// Answers that a database gave before become durable.
    Sync,
    /// A cloud agent is started.
    CloudStarts(usize),
    /// An IDC agent is started.
    IdcStarts(usize),
    /// A task of a data centre's payments continues.
    PaymentTask(u64),
    /// A request reaches the gateway.
    Gateway { task: u64, ask: u64, what: GatewayCall },
    /// A task receives an answer to its request.
    Replied { task: u64, ask: u64, reply: GatewayReply },
    /// The disk under a data centre's log has written or refused an entry about a payment.
    PaymentLogged { task: u64, ask: u64, event: Box<bridge_protocol::audit::Event>, fails: bool },
    /// A data centre searches for payments and refunds that are due.
    Look { idc: usize, life: u32 },
    /// A hint arrives that the gateway knows more about an order's payment.
    Hint(OrderId),
    /// The timer of a sender of payments expires.
    PayTimer { cloud: usize, at: Duration },
    /// A payer takes its next step.
    PayWake(usize),
    /// A payer that still waits may lose its patience.
    PayImpatient(usize),
    /// A caller takes its next step.
    Wake(usize),
    /// A caller that still waits may lose its patience.
    Impatient(usize),
}

/// The world of one schedule.
pub(super) struct World {
    now: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    events_made: u64,
    dice: Dice,
    fault_rates: FaultRates,
    sabotage: Option<Sabotage>,
    /// The key of each write that a link carried. The index is the link, true for payments, and the
    /// request's number; payments have numbers of their own.
    keys_carried: BTreeMap<(LinkId, bool, u64), reference::Key>,
    /// Keys of requests whose frame was lost, or arrived after later ones, while the lane
    /// continued.
    spoilt: BTreeSet<reference::Key>,
    /// No fault happens after this moment.
    faults_until: Duration,
    /// Set once every caller must learn the outcome of its order.
    finding_out: bool,

    shop: Shop,
    keys: Keys,
    sender_limits: sender::SenderLimits,
    idc_limits: orders::core::OrderLimits,
    /// Most unanswered requests that a link accepts when nothing is wrong.
    window: u32,

    clouds: Vec<Cloud>,
    idcs: Vec<DataCentre>,
    slots: Vec<Slot>,
    lines: BTreeMap<LinkId, Line>,
    links_made: u64,
    ledger: ModelDatabase,
    /// Batches that the database has begun.
    commits: BTreeMap<u64, Commit>,
    commits_made: u64,
    /// Look-ups that the database has begun.
    look_ups: BTreeMap<u64, LookUp>,
    look_ups_made: u64,
    /// Sessions other than the agents' that hold rows.
    holders: BTreeMap<u64, Holder>,
    holders_made: u64,
    /// Transactions of DBAs.
    dbas: BTreeMap<u64, Dba>,
    dbas_made: u64,
    /// The database does not answer before this moment.
    database_down_until: Duration,
    /// No data centre's agent starts before this moment, because a DBA restores the database.
    restored_at: Duration,
    /// True if any clock was set far off.
    clocks_jumped: bool,
    /// Outcomes that restores removed, as the logs name them.
    taken: BTreeSet<Named>,

    payment_world: PaymentWorld,
    /// Number of tokens that shoppers received.
    tokens_made: u64,
    writes: Vec<Write>,
    attempts: Vec<Attempt>,
    /// The write that each idempotency key stands for.
    keys_sent: BTreeMap<reference::Key, usize>,
    /// The attempt for which each order's id was made.
    orders: BTreeMap<OrderId, usize>,

    history: History,
    /// Verifier of receipts, from the reference model.
    receipts: Receipts,
    /// Order ids of attempts whose callers were told that nothing happened.
    denied: BTreeSet<reference::Order>,
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
        let mut dice = Dice::new(seed);
        let fault_rates = FaultRates::drawn(&mut dice, sabotage);
        let orders = dice.between(200..=1_000);
        #[expect(clippy::expect_used, reason = "the shop's names and prices stand in its file")]
        let shop = Shop::open(&mut dice, orders).expect("a shop of good names");
        let queue_max = usize::try_from(dice.between(8..=200)).unwrap_or(8);
        let sender_limits = sender::SenderLimits {
            queue_max,
            questions_max: queue_max,
            settling_max: usize::try_from(dice.between(5..=1_000)).unwrap_or(5),
            answer_within: dice.millis(300..=1_500),
            settle_for: dice.millis(1_000..=4_000),
            resend_after: dice.millis(60..=300),
        };
        let idc_limits = orders::core::OrderLimits {
            window_max: usize::try_from(dice.between(8..=300)).unwrap_or(8),
            committers: usize::try_from(dice.between(1..=4)).unwrap_or(1),
            batch_max: usize::try_from(dice.between(1..=100)).unwrap_or(1),
            batch_lines_max: usize::try_from(dice.between(1..=200)).unwrap_or(1),
            lines_max: super::shop::LINES_MAX,
            look_ups_at_once: usize::try_from(dice.between(1..=4)).unwrap_or(1),
        };
        let ledger = ModelDatabase::new(shop.for_sale(), LOCK_TIMEOUT, AWAITED_FOR);
        shop.launched().for_each(|launch| ledger.launch(launch));
        match sabotage {
            Some(Sabotage::AcknowledgeBeforeCommit) => ledger.acknowledge_before_commit(),
            Some(Sabotage::OvertakingCancels) => ledger.mislead(),
            Some(Sabotage::OverwriteStock) => ledger.overwrite_stock(),
            Some(Sabotage::ForgetPurchases) => ledger.forget_purchases(),
            Some(Sabotage::PayTwice) => ledger.break_payments(Broken::ForgetsCharges),
            Some(Sabotage::ForgetPayments) => ledger.break_payments(Broken::ForgetsRequests),
            Some(Sabotage::CountRefundsTwice) => ledger.break_payments(Broken::DoubtsRefunds),
            Some(Sabotage::RefundForEver) => ledger.break_payments(Broken::AsksForRefused),
            Some(Sabotage::NeverLookAgain) => ledger.break_payments(Broken::LooksAtNothing),
            Some(Sabotage::KeepMoney) => ledger.break_payments(Broken::KeepsMoney),
            Some(Sabotage::SpeakTooSoon) => ledger.break_payments(Broken::ForgetsWhatIsOnItsWay),
            _ => {}
        }
        let (clouds, idcs) = (dice.between(1..=3), dice.index(2) + 1);
        let first_key_ends = Self::life(&mut dice);
        let keys = Keys::new(&mut dice, idcs, first_key_ends);
        let window = u32::try_from(dice.between(4..=300)).unwrap_or(4);
        let payment_world = PaymentWorld::new(&mut dice, sabotage);
        let mut world = Self {
            now: Duration::ZERO,
            events: BTreeMap::new(),
            events_made: 0,
            dice,
            keys_carried: BTreeMap::new(),
            spoilt: BTreeSet::new(),
            fault_rates,
            sabotage,
            faults_until: Duration::ZERO,
            finding_out: false,
            history: History::new(&shop.stock, &shop.launches),
            receipts: Receipts::under(&keys.pinned.to_string()),
            shop,
            sender_limits,
            idc_limits,
            window,
            clouds: (0..clouds).map(|_| Cloud::new(sender_limits, sabotage, &keys.pinned)).collect(),
            idcs: keys.folders.iter().map(|host| DataCentre::new(idc_limits, host.ring.clone())).collect(),
            keys,
            slots: Vec::new(),
            lines: BTreeMap::new(),
            links_made: 0,
            ledger,
            commits: BTreeMap::new(),
            commits_made: 0,
            look_ups: BTreeMap::new(),
            look_ups_made: 0,
            holders: BTreeMap::new(),
            holders_made: 0,
            dbas: BTreeMap::new(),
            dbas_made: 0,
            database_down_until: Duration::ZERO,
            restored_at: Duration::ZERO,
            clocks_jumped: false,
            taken: BTreeSet::new(),
            payment_world,
            tokens_made: 0,
            writes: Vec::new(),
            attempts: Vec::new(),
            keys_sent: BTreeMap::new(),
            orders: BTreeMap::new(),
            denied: BTreeSet::new(),
            violation: None,
            counts: Counts::default(),
            trace: Trace::new(story_max),
        };
        for cloud in &mut world.clouds {
            cloud.clock = Clock::drawn(&mut world.dice);
        }
        for idc in &mut world.idcs {
            idc.clock = Clock::drawn(&mut world.dice);
        }
        (0..world.idcs.len()).for_each(|idc| world.open_payments(idc));
        (0..world.clouds.len()).for_each(|cloud| world.book_start(cloud));
        (0..world.idcs.len()).for_each(|idc| world.book_idc_start(idc));
        world.lay_lines();
        world.place_orders(orders);
        world.plan_rotations(first_key_ends);
        world.plan_restores();
        world.plan_put_backs();
        world.at(Duration::ZERO, Event::Tick);
        world
    }

    /// Runs the schedule in four steps: with faults until every caller has come; without faults
    /// until everything is quiet; until every caller has learned the outcome of its order; and the
    /// comparison with the reference model.
    pub(super) fn run(mut self) -> Ended {
        let orders = self.writes.len() as u64;
        self.run_until_quiet();
        self.heal();
        self.run_until_quiet();
        self.find_out_all();
        self.run_until_quiet();
        self.end_payments();
        if self.violation.is_none() {
            self.check_end();
            self.check_money();
            self.check_both_logs();
            if self.counts.ledger_restores == 0 {
                self.check_compared();
            }
        }
        let Ends { reply_lost, lost, late, .. } = self.ledger.ends();
        let Self { violation, mut counts, trace, .. } = self;
        (counts.commits_reply_lost, counts.commits_lost, counts.commits_late) = (reply_lost, lost, late);
        (counts.deadlocks, counts.lock_timeouts) = self.ledger.refusals();
        let (trace, story) = trace.end();
        Ended { orders, counts, violation, trace, story }
    }

    fn run_until_quiet(&mut self) {
        let deadline = self.now + QUIET_WITHIN;
        while self.violation.is_none()
            && let Some(((at, _), event)) = self.events.pop_first()
        {
            self.now = at;
            if at > deadline {
                self.violate("LIVENESS", "the world does not become quiet".to_owned());
            }
            self.happen(event);
            self.check_bounds();
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick => self.tick(),
            Event::Dial(slot) => self.dial(slot),
            Event::Frame { link, direction, lane, bytes } => self.frame_comes(link, direction, lane, bytes),
            Event::Down { link, direction } => self.learns_down(link, direction),
            Event::Heard(link) => self.heard(link),
            Event::Window(link) => self.window_is_back(link),
            Event::Rotate => self.rotate(),
            Event::KeyComes { host, number } => self.key_comes(host, number),
            Event::KeyGoes { host, number } => self.key_goes(host, number),
            Event::Manifest { link, note } => self.manifest_comes(link, &note),
            Event::Timer { cloud, at } => self.cloud_timer(cloud, at),
            Event::Commit { idc, life, attempt } => self.commit(idc, life, attempt),
            Event::Statement(commit) => self.statement(commit),
            Event::LateCommits => self.end_late_commits(),
            Event::LetGo(holder) => self.let_go(holder),
            Event::StopForRestore => self.stop_for_restore(),
            Event::Restored { to } => self.restored(to),
            Event::PutBack => self.check_put_back(),
            Event::Dba(dba) => self.dba_goes(dba),
            Event::BatchEnd { idc, life, ended } => self.batch_ends(idc, life, ended),
            Event::Decapsulated { idc, life, link, session } => self.decapsulated(idc, life, link, session),
            Event::Audited { idc, life, entries, fails } => self.audited(idc, life, entries, fails),
            Event::LookUp { idc, life, question } => self.look_up(idc, life, question),
            Event::LookUpGoes(look_up) => self.look_up_goes(look_up),
            Event::CloudLogged { cloud, life, entry } => self.cloud_logged(cloud, life, entry),
            Event::Sync => self.ledger.sync(),
            Event::CloudStarts(cloud) => self.cloud_starts(cloud),
            Event::IdcStarts(idc) => self.idc_starts(idc),
            Event::PaymentTask(task) => self.run_payment_task(task),
            Event::Gateway { task, ask, what } => self.gateway_takes(task, ask, &what),
            Event::Replied { task, ask, reply } => self.replied(task, ask, reply),
            Event::PaymentLogged { task, ask, event, fails } => self.payment_logged(task, ask, *event, fails),
            Event::Look { idc, life } => self.look(idc, life),
            Event::Hint(order) => self.hint(order),
            Event::PayTimer { cloud, at } => self.pay_timer(cloud, at),
            Event::PayWake(write) => self.pay_wake(write),
            Event::PayImpatient(write) => self.pay_impatient(write),
            Event::Wake(write) => self.wake(write),
            Event::Impatient(write) => self.impatient(write),
        }
    }

    /// Schedules an event.
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
