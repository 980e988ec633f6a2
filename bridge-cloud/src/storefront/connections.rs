//! The connections of one serving thread: which of them get on, and which is closed so that a new caller finds room.
//!
//! A request's own deadlines (for its head, its body, its answer) stand elsewhere. Here stand those of a connection: one
//! that asks for nothing, and one whose caller does not take its answer. A connection leaves a mark when it gets on, which
//! costs two stores; one sweep at a time looks at the marks of all of them. No connection has a timer here.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bridge_runtime::telemetry::metrics::{ConnectionEnd, Metrics};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::StorefrontConfig;

/// Sweeps in the shortest of the deadlines, each of which is so exact.
const SWEEPS_A_DEADLINE: u32 = 8;

/// Between two sweeps lies no more,
const SWEEP_MAX: Duration = Duration::from_secs(1);

/// and no less.
const SWEEP_MIN: Duration = Duration::from_millis(10);

/// Bytes of answers that count as getting on: a caller that takes fewer in all of a deadline does not read.
const BYTES_THAT_COUNT: usize = 4 * 1024;

/// When a connection got on: the sweep it was in, and which mark of all.
type Mark = (u64, u64);

/// A deadline in sweeps.
type Sweeps = u64;

/// All connections of one thread.
pub(super) struct Connections {
    open: RefCell<BTreeMap<u64, Rc<Pulse>>>,
    now: Rc<Cell<Mark>>,
    max: usize,
    deadlines: Deadlines,
    metrics: Arc<Metrics>,
    /// Told of every connection that ends or comes to rest.
    moved: Rc<Notify>,
}

#[derive(Clone, Copy)]
struct Deadlines {
    sweep: Duration,
    greeting: Sweeps,
    idle: Sweeps,
    stall: Sweeps,
}

/// What a connection's task is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// To end once it has answered what was asked.
    Leave,
    /// To end.
    Cut,
}

/// What one connection shows of itself.
pub(super) struct Pulse {
    now: Rc<Cell<Mark>>,
    moved: Rc<Notify>,
    /// When it got on last.
    mark: Cell<Mark>,
    /// It has said which HTTP it speaks.
    is_greeted: Cell<bool>,
    /// Requests that wait for somebody else than their caller, or for its body: each has a deadline of its own.
    under_way: Cell<usize>,
    /// The caller takes no more of its answer for now.
    is_stuck: Cell<bool>,
    /// Bytes of answers since the mark.
    bytes: Cell<usize>,
    order: Cell<Option<Order>>,
    /// An order that its task has not heard, and whom to wake for it.
    unheard: Cell<Option<Order>>,
    waker: Cell<Option<Waker>>,
}

impl Connections {
    /// At most `max` at a time.
    pub(super) fn new(config: &StorefrontConfig, max: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            open: RefCell::default(),
            now: Rc::default(),
            max,
            deadlines: Deadlines::of(config),
            metrics,
            moved: Rc::default(),
        }
    }

    /// Takes a connection in; its number.
    pub(super) fn open(&self) -> (u64, Rc<Pulse>) {
        let pulse = Pulse {
            now: self.now.clone(),
            moved: self.moved.clone(),
            mark: Cell::default(),
            is_greeted: Cell::default(),
            under_way: Cell::default(),
            is_stuck: Cell::default(),
            bytes: Cell::default(),
            order: Cell::default(),
            unheard: Cell::default(),
            waker: Cell::default(),
        };
        pulse.get_on();
        let (pulse, (_, number)) = (Rc::new(pulse), self.now.get());
        self.open.borrow_mut().insert(number, pulse.clone());
        (number, pulse)
    }

    /// A connection has ended.
    pub(super) fn close(&self, number: u64) {
        self.open.borrow_mut().remove(&number);
        self.moved.notify_one();
    }

    /// Waits until there is room for one more: at once, since the connection that got on the longest ago is closed for it. Only
    /// where every one of them has a request under way, one of those is waited for.
    pub(super) async fn room(&self) {
        while self.open.borrow().len() >= self.max && !self.cut_longest_idle() {
            self.moved.notified().await;
        }
    }

    /// Closes the connection that got on the longest ago and has no request under way; `false` if there is none.
    pub(super) fn cut_longest_idle(&self) -> bool {
        let mut open = self.open.borrow_mut();
        let at_rest = open.iter().filter(|(_, pulse)| pulse.under_way.get() == 0);
        let Some((number, _)) = at_rest.min_by_key(|(_, pulse)| pulse.mark.get()) else { return false };
        let number = *number;
        if let Some(pulse) = open.remove(&number) {
            pulse.tell(Order::Cut);
            self.metrics.connections_closed.of(ConnectionEnd::NoRoom).inc();
        }
        true
    }

    /// Tells all of them to end, and waits until they have.
    pub(super) async fn end(&self) {
        self.open.borrow().values().for_each(|pulse| pulse.tell(Order::Leave));
        while !self.open.borrow().is_empty() {
            self.moved.notified().await;
        }
    }

    /// Looks after all of them, for ever.
    pub(super) async fn watch(&self) {
        let mut sweeps = interval(self.deadlines.sweep);
        // Never two at once: a thread that was busy does not hold its delay against its callers.
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            sweeps.tick().await;
            self.sweep();
        }
    }

    fn sweep(&self) {
        let (sweep, mark) = self.now.get();
        self.now.set((sweep + 1, mark));
        for pulse in self.open.borrow().values() {
            if let Some((order, end)) = pulse.overdue(sweep + 1, self.deadlines) {
                if pulse.order.get().is_none() {
                    self.metrics.connections_closed.of(end).inc();
                }
                pulse.tell(order);
            }
        }
    }
}

impl Deadlines {
    fn of(config: &StorefrontConfig) -> Self {
        let shortest = config.header_timeout.min(config.idle_timeout).min(config.stall_timeout);
        let sweep = (shortest / SWEEPS_A_DEADLINE).clamp(SWEEP_MIN, SWEEP_MAX);
        let sweeps = |deadline: Duration| {
            u64::try_from(deadline.as_nanos().div_ceil(sweep.as_nanos()))
                .unwrap_or(u64::MAX)
                .saturating_add(1)
        };
        Self {
            sweep,
            greeting: sweeps(config.header_timeout),
            idle: sweeps(config.idle_timeout),
            stall: sweeps(config.stall_timeout),
        }
    }
}

impl Pulse {
    /// It got on: something was asked for, answered or taken.
    pub(super) fn get_on(&self) {
        let (sweep, mark) = self.now.get();
        self.now.set((sweep, mark + 1));
        self.mark.set((sweep, mark + 1));
        self.bytes.set(0);
    }

    /// It has said which HTTP it speaks.
    pub(super) fn greeted(&self) {
        self.is_greeted.set(true);
    }

    /// Its caller took so many bytes; `None` if it takes none for now.
    pub(super) fn wrote(&self, bytes: Option<usize>) {
        self.is_stuck.set(bytes.is_none());
        let all = self.bytes.get() + bytes.unwrap_or_default();
        self.bytes.set(all);
        if all >= BYTES_THAT_COUNT {
            self.get_on();
        }
    }

    /// A request of it waits for somebody else, as long as what is returned lives.
    pub(super) fn request(self: &Rc<Self>) -> UnderWay {
        self.under_way.set(self.under_way.get() + 1);
        UnderWay(self.clone())
    }

    /// What its task is told to do, once.
    pub(super) fn poll_told(&self, cx: &Context<'_>) -> Poll<Order> {
        if let Some(order) = self.unheard.take() {
            return Poll::Ready(order);
        }
        let known = self.waker.take().filter(|waker| waker.will_wake(cx.waker()));
        self.waker.set(known.or_else(|| Some(cx.waker().clone())));
        Poll::Pending
    }

    /// It is to end once it has answered what was asked.
    pub(super) fn leave(&self) {
        self.tell(Order::Leave);
    }

    /// Tells its task, unless it was told as much before.
    fn tell(&self, order: Order) {
        if self.order.get() >= Some(order) {
            return;
        }
        self.order.set(Some(order));
        self.unheard.set(Some(order));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// What it is to do, if one of its deadlines is over.
    fn overdue(&self, sweep: u64, deadlines: Deadlines) -> Option<(Order, ConnectionEnd)> {
        let since = sweep.saturating_sub(self.mark.get().0);
        if self.is_stuck.get() {
            return (since > deadlines.stall).then_some((Order::Cut, ConnectionEnd::Stalled));
        }
        if self.under_way.get() > 0 {
            return None;
        }
        if !self.is_greeted.get() {
            return (since > deadlines.greeting).then_some((Order::Cut, ConnectionEnd::Idle));
        }
        // One that is told to leave may have to be cut: its caller need not answer, nor take what it asked for.
        let order = if since > deadlines.idle + deadlines.stall { Order::Cut } else { Order::Leave };
        (since > deadlines.idle).then_some((order, ConnectionEnd::Idle))
    }
}

/// A request that waits for somebody else than its caller.
pub(super) struct UnderWay(Rc<Pulse>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Self(pulse) = self;
        pulse.under_way.set(pulse.under_way.get().saturating_sub(1));
        pulse.get_on();
        pulse.moved.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINES: Deadlines = Deadlines { sweep: SWEEP_MIN, greeting: 2, idle: 8, stall: 4 };

    fn connections(max: usize) -> Connections {
        Connections {
            open: RefCell::default(),
            now: Rc::default(),
            max,
            deadlines: DEADLINES,
            metrics: Arc::new(Metrics::cloud()),
            moved: Rc::default(),
        }
    }

    fn sweep(connections: &Connections, times: u64) {
        (0..times).for_each(|_| connections.sweep());
    }

    fn room(connections: &Connections) -> bool {
        connections.open.borrow().len() < connections.max || connections.cut_longest_idle()
    }

    #[test]
    fn a_caller_that_does_not_say_what_it_speaks_is_cut_and_one_that_asks_for_nothing_is_told_to_leave_first()
    {
        let connections = connections(9);
        let (_, silent) = connections.open();
        let (_, idle) = connections.open();
        idle.greeted();
        sweep(&connections, 3);
        assert_eq!((silent.order.get(), idle.order.get()), (Some(Order::Cut), None));
        sweep(&connections, 5);
        assert_eq!(idle.order.get(), None);
        sweep(&connections, 1);
        assert_eq!(idle.order.get(), Some(Order::Leave));
        sweep(&connections, 4);
        assert_eq!(idle.order.get(), Some(Order::Cut));
    }

    #[test]
    fn a_caller_that_takes_a_little_of_its_answer_now_and_then_is_cut_and_one_that_reads_is_not() {
        let connections = connections(9);
        let pulses: Vec<_> = (0..2).map(|_| connections.open().1).collect();
        for _ in 0..40 {
            for (pulse, bytes) in pulses.iter().zip([100, BYTES_THAT_COUNT]) {
                pulse.greeted();
                pulse.wrote(Some(bytes));
                pulse.wrote(None);
            }
            sweep(&connections, 1);
        }
        assert_eq!((pulses[0].order.get(), pulses[1].order.get()), (Some(Order::Cut), None));
    }

    #[test]
    fn a_request_under_way_keeps_its_connection_whatever_time_it_takes() {
        let connections = connections(2);
        let (_, busy) = connections.open();
        busy.greeted();
        let request = busy.request();
        sweep(&connections, 100);
        assert_eq!(busy.order.get(), None);
        let (_, other) = connections.open();
        assert!(room(&connections));
        assert_eq!((busy.order.get(), other.order.get()), (None, Some(Order::Cut)));
        let (_, third) = connections.open();
        let _of_third = third.request();
        assert!(!room(&connections), "each has a request under way");
        drop(request);
        sweep(&connections, DEADLINES.idle);
        assert_eq!(busy.order.get(), None, "it rests from the end of its request on");
        assert!(room(&connections));
        assert_eq!(busy.order.get(), Some(Order::Cut));
    }

    #[test]
    fn the_connection_that_asked_the_longest_ago_makes_room() {
        let connections = connections(3);
        let pulses: Vec<_> = (0..3).map(|_| connections.open().1).collect();
        pulses[0].get_on();
        assert!(room(&connections));
        let orders: Vec<_> = pulses.iter().map(|pulse| pulse.order.get()).collect();
        assert_eq!(orders, [None, Some(Order::Cut), None]);
        assert_eq!(connections.open.borrow().len(), 2);
    }
}
