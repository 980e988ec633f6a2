//! The world of one schedule: who is in it, its time, and its events one by one.
//!
//! An event is taken off the queue, told to whom it concerns, and what they do about it becomes later events. Each
//! neighbour of this file is one inhabitant.

/// A cloud agent: the real sender and sealing session, and the shell around them.
mod cloud;

/// A data centre's agent: the real one, and the shell around it.
mod data_centre;

/// The database that the data centres share, statement by statement.
mod database;

/// Look-ups in that database.
mod look_ups;

/// Who changes it beside the agents.
mod dba;

/// The lines between them.
mod lines;

/// Sealing keys, and the operator who rotates them.
mod keys;

/// A data centre's audit log.
mod logs;

/// A cloud agent's audit log.
mod cloud_log;

/// Everybody's clock.
mod clocks;

/// What goes wrong, and when.
mod faults;

/// Restores of the database to an earlier moment.
mod restores;

/// A ledger that would be put back, beside the logs and the gateway's books.
mod put_back;

/// Callers: what they want, and what they do about an answer.
mod callers;

/// What a caller makes of an answer.
mod replies;

/// The checkers: the promises, at every step.
mod checkers;

/// The payment gateway behind its line, and whatever else payments have around them.
mod gateway;

/// A data centre's payments.
mod payments;

/// Callers who pay.
mod payers;

/// The checker of payments.
mod payment_checker;

/// Both ends' logs side by side.
mod reconciled;

/// What the database holds, as the reference model reads it.
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

/// The first moment of every schedule by a clock that is right.
const EPOCH_MICROS: i64 = 1_795_343_485_000_000;

/// Between two throws of the dice over what goes wrong.
const TICK: Duration = Duration::from_millis(10);

/// How long a statement of the model waits for a row, and how long one that does nothing else.
const LOCK_TIMEOUT: Duration = Duration::from_millis(50);
const AWAITED_FOR: Duration = Duration::from_millis(200);

/// A schedule that is not quiet so long after its last fault never will be.
const QUIET_WITHIN: Duration = Duration::from_secs(120);

/// What a schedule came to.
pub(super) struct Ended {
    pub(super) orders: u64,
    pub(super) counts: Counts,
    /// Which promise, and how it was broken.
    pub(super) violation: Option<(&'static str, String)>,
    pub(super) trace: u64,
    pub(super) story: Vec<String>,
}

/// What happens next.
enum Event {
    /// The dice are thrown over what goes wrong.
    Tick,
    /// A cloud agent dials.
    Dial(usize),
    /// The last bytes of a frame come.
    Frame { link: LinkId, direction: Direction, lane: u8, bytes: Bytes },
    /// One end of a link learns that it is down.
    Down { link: LinkId, direction: Direction },
    /// A silent peer is heard again.
    Heard(LinkId),
    /// A window is what it was.
    Window(LinkId),
    /// The operator makes a sealing key.
    Rotate,
    /// A host gets a sealing key.
    KeyComes { host: usize, number: usize },
    /// A host loses the sealing keys before this one.
    KeyGoes { host: usize, number: usize },
    /// A cloud agent is told which keys a link's agent opens.
    Manifest { link: LinkId, note: Bytes },
    /// A sender's timer.
    Timer { cloud: usize, at: Duration },
    /// A batch comes to the database.
    Commit { idc: usize, life: u32, attempt: orders::core::Attempt },
    /// The database gets to the next statement of a batch.
    Statement(u64),
    /// COMMITs that were late are done, or not.
    LateCommits,
    /// Somebody beside the agents lets a row go.
    LetGo(u64),
    /// A DBA stops the agents, to restore the database.
    StopForRestore,
    /// The database is as it was at that moment.
    Restored { to: Duration },
    /// Somebody looks what a restore at this moment would lack.
    PutBack,
    /// The database gets to a DBA's next statement.
    Dba(u64),
    /// The agent hears how a batch ended.
    BatchEnd { idc: usize, life: u32, ended: orders::core::AttemptEnd },
    /// A sealing session is decapsulated.
    Decapsulated { idc: usize, life: u32, link: LinkId, session: Decapsulated },
    /// The disk under a cloud agent's log has taken an entry, or refuses it.
    CloudLogged { cloud: usize, life: u32, entry: u64 },
    /// The disk under a data centre's log has taken a round, or refuses it.
    Audited { idc: usize, life: u32, entries: Vec<Entry>, fails: bool },
    /// A look-up comes to the database.
    LookUp { idc: usize, life: u32, question: Question },
    /// The database gets to the next statement of a look-up.
    LookUpGoes(u64),
    /// What an agent answered before is durable.
    Sync,
    /// A cloud agent is started.
    CloudStarts(usize),
    /// An IDC agent is started.
    IdcStarts(usize),
    /// A task of a data centre's payments goes on.
    PaymentTask(u64),
    /// A request comes to the gateway.
    Gateway { task: u64, ask: u64, what: GatewayCall },
    /// What a task asked is answered.
    Replied { task: u64, ask: u64, reply: GatewayReply },
    /// The disk under a data centre's log has taken an entry about a payment, or refuses it.
    PaymentLogged { task: u64, ask: u64, event: Box<bridge_protocol::audit::Event>, fails: bool },
    /// A data centre looks for payments and refunds that are due.
    Look { idc: usize, life: u32 },
    /// Somebody says that the gateway knows more of an order's payment.
    Hint(OrderId),
    /// The timer of a sender of payments.
    PayTimer { cloud: usize, at: Duration },
    /// A payer does the next thing.
    PayWake(usize),
    /// A payer may run out of patience.
    PayImpatient(usize),
    /// A caller does the next thing.
    Wake(usize),
    /// A caller may run out of patience.
    Impatient(usize),
}

/// One schedule.
pub(super) struct World {
    now: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    events_made: u64,
    dice: Dice,
    fault_rates: FaultRates,
    sabotage: Option<Sabotage>,
    /// The key of each write that a link carried, by its number there, which payments have of their own.
    keys_carried: BTreeMap<(LinkId, bool, u64), reference::Key>,
    /// Keys of which a single frame was lost, or came after later ones, on a lane that goes on.
    spoilt: BTreeSet<reference::Key>,
    /// When the last fault may happen.
    faults_until: Duration,
    /// Set once every caller is to find out how its order ended.
    finding_out: bool,

    shop: Shop,
    keys: Keys,
    sender_limits: sender::SenderLimits,
    idc_limits: orders::core::OrderLimits,
    /// What a link accepts unanswered when nothing is wrong.
    window: u32,

    clouds: Vec<Cloud>,
    idcs: Vec<DataCentre>,
    slots: Vec<Slot>,
    lines: BTreeMap<LinkId, Line>,
    links_made: u64,
    ledger: ModelDatabase,
    /// Batches on their way through the database.
    commits: BTreeMap<u64, Commit>,
    commits_made: u64,
    /// Look-ups on their way through it.
    look_ups: BTreeMap<u64, LookUp>,
    look_ups_made: u64,
    /// Who holds rows beside the agents.
    holders: BTreeMap<u64, Holder>,
    holders_made: u64,
    /// Who changes rows beside them.
    dbas: BTreeMap<u64, Dba>,
    dbas_made: u64,
    /// The database does not answer before this moment.
    database_down_until: Duration,
    /// No data centre's agent is started before this moment: a DBA restores the database.
    restored_at: Duration,
    /// Whether any clock was set far off.
    clocks_jumped: bool,
    /// What restores took, as the logs name it.
    taken: BTreeSet<Named>,

    payment_world: PaymentWorld,
    /// Tokens that shoppers were given.
    tokens_made: u64,
    writes: Vec<Write>,
    attempts: Vec<Attempt>,
    /// Which write each idempotency key that was sent stands for.
    keys_sent: BTreeMap<reference::Key, usize>,
    /// The attempt that each order's id was made for.
    orders: BTreeMap<OrderId, usize>,

    history: History,
    /// Reads receipts as the reference model does.
    receipts: Receipts,
    /// Ids of attempts at placing whose callers were told that nothing happened.
    denied: BTreeSet<reference::Order>,
    violation: Option<(&'static str, String)>,
    counts: Counts,
    trace: Trace,
}

/// Notes an event in the world's trace.
macro_rules! note {
    ($world:expr, $($text:tt)*) => { $world.trace.note($world.now, format_args!($($text)*)) };
}
use note;

impl World {
    /// A schedule that follows from this seed. It keeps its last `story_max` events as text.
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
        match sabotage {
            Some(Sabotage::AcknowledgeBeforeCommit) => ledger.acknowledge_before_commit(),
            Some(Sabotage::OvertakingCancels) => ledger.mislead(),
            Some(Sabotage::OverwriteStock) => ledger.overwrite_stock(),
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
            history: History::new(&shop.stock),
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

    /// Runs the schedule: first with faults until every caller has come, then without until everything is quiet, then
    /// every caller who does not know the end of an order finds out, and the reference model is compared.
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

    /// Lets something happen later.
    fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    fn at(&mut self, when: Duration, event: Event) {
        self.events_made += 1;
        self.events.insert((when, self.events_made), event);
    }

    /// Notes the first broken promise; the schedule ends with it.
    fn violate(&mut self, promise: &'static str, what: String) {
        note!(self, "{promise} IS BROKEN: {what}");
        self.violation.get_or_insert((promise, what));
    }
}
