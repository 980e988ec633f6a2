//! The connections of one serving thread: which of them get on, and which is closed so that a new caller finds room.
//!
//! A request's own deadlines (for its head, its body, its answer) stand elsewhere. Here stand those of a connection: one
//! that asks for nothing, and one whose caller does not take its answer. A connection leaves a mark when it gets on, which
//! costs two stores; one sweep at a time looks at the marks of all of them. No connection has a timer here.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use super::lines::Refusal;
use super::uploads::Uploads;
use crate::config::StorefrontConfig;
use crate::metrics::{ConnectionEnd, Metrics};

/// Sweeps in the shortest of the deadlines, each of which is so exact.
const SWEEPS_A_DEADLINE: u32 = 8;

/// Between two sweeps lies no more,
const SWEEP_MAX: Duration = Duration::from_secs(1);

/// and no less.
const SWEEP_MIN: Duration = Duration::from_millis(10);

/// Bytes that count as getting on: a caller that takes fewer of its answers in all of a deadline does not read.
const BYTES_THAT_COUNT: usize = 4 * 1024;

/// Connections of a thread that have made room and are still telling their callers so; more of them are cut at once.
pub(in crate::storefront) const LEAVING_MAX: usize = 16;

/// When a connection got on: the sweep it was in, and which mark of all.
type Mark = (u64, u64);

/// A deadline in sweeps.
type Sweeps = u64;

/// All connections of one thread.
pub(in crate::storefront) struct Connections {
    open: RefCell<BTreeMap<u64, Rc<ConnectionActivity>>>,
    /// Those that had to make room and have not ended yet.
    leaving: Cell<usize>,
    now: Rc<Cell<Mark>>,
    max: Cell<usize>,
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
pub(in crate::storefront) enum Order {
    /// To end once it has answered what was asked.
    Leave,
    /// To end soon: its requests are given up, and its caller is told so.
    GiveUp,
    /// To end.
    Cut,
}

/// What one connection shows of itself.
pub(in crate::storefront) struct ConnectionActivity {
    now: Rc<Cell<Mark>>,
    moved: Rc<Notify>,
    /// When it got on last.
    mark: Cell<Mark>,
    /// It has said which HTTP it speaks.
    is_greeted: Cell<bool>,
    /// Requests that wait for somebody else than their caller, or for its body: each has a deadline of its own.
    under_way: Cell<usize>,
    /// Those that wait for their body.
    uploads: Uploads,
    /// Requests over HTTP/1.1 whose answer is not there yet.
    unanswered: Cell<usize>,
    /// There is one, or something of an answer that the socket has not got.
    owes: Cell<bool>,
    /// Bytes of bodies since the mark.
    received: Cell<usize>,
    /// The caller takes no more of its answer for now.
    is_stuck: Cell<bool>,
    /// Bytes of answers since the mark.
    bytes: Cell<usize>,
    /// Whether answers of it are gathered.
    gathered: Cell<GatheredAnswers>,
    /// Why a request of it is refused for its form; its caller is to be told.
    refused: Cell<Option<Refusal>>,
    order: Cell<Option<Order>>,
    /// An order that its task has not heard, and whom to wake for it.
    unheard: Cell<Option<Order>>,
    waker: Cell<Option<Waker>>,
}

/// Answers that are gathered to be written together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum GatheredAnswers {
    /// There are none.
    #[default]
    Nothing,
    /// They are held back for more.
    Held,
    /// They are to be written, since nothing more is ready.
    Due,
}

/// How a connection rests that nobody but its caller keeps from going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RestReason {
    /// It has no request.
    Idle,
    /// Each of its requests waits for the rest of its body.
    Uploading,
}

impl Connections {
    /// At most `max` at a time.
    pub(in crate::storefront) fn new(config: &StorefrontConfig, max: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            open: RefCell::default(),
            leaving: Cell::default(),
            now: Rc::default(),
            max: Cell::new(max),
            deadlines: Deadlines::of(config),
            metrics,
            moved: Rc::default(),
        }
    }

    /// Takes a connection in; its number.
    pub(in crate::storefront) fn open(&self) -> (u64, Rc<ConnectionActivity>) {
        let activity = ConnectionActivity {
            now: self.now.clone(),
            moved: self.moved.clone(),
            mark: Cell::default(),
            is_greeted: Cell::default(),
            under_way: Cell::default(),
            uploads: Uploads::default(),
            unanswered: Cell::default(),
            owes: Cell::default(),
            received: Cell::default(),
            is_stuck: Cell::default(),
            bytes: Cell::default(),
            gathered: Cell::default(),
            refused: Cell::default(),
            order: Cell::default(),
            unheard: Cell::default(),
            waker: Cell::default(),
        };
        activity.get_on();
        let (activity, (_, number)) = (Rc::new(activity), self.now.get());
        self.open.borrow_mut().insert(number, activity.clone());
        (number, activity)
    }

    /// A connection has ended.
    pub(in crate::storefront) fn close(&self, number: u64) {
        if self.open.borrow_mut().remove(&number).is_none() {
            self.leaving.set(self.leaving.get().saturating_sub(1));
        }
        self.moved.notify_one();
    }

    /// Waits until there is room for one more: at once, since the connection that got on the longest ago is closed for it. Only
    /// where every one of them has a request under way whose body is whole, one of those is waited for.
    pub(in crate::storefront) async fn room(&self) {
        while self.open.borrow().len() >= self.max.get() && !self.cut_longest_idle(LEAVING_MAX) {
            self.moved.notified().await;
        }
    }

    /// Nobody can be accepted, for want of files: at most `max` connections may be open from now on, and one at least ends at once.
    /// `false` if none can.
    pub(in crate::storefront) fn shrink(&self, max: usize) -> bool {
        self.max.set(self.max.get().min(max));
        let has_ended = self.cut_longest_idle(0);
        while self.open.borrow().len() > self.max.get() && self.cut_longest_idle(0) {}
        has_ended
    }

    /// Closes a connection that rests, the one that got on the longest ago; `false` if none does.
    ///
    /// It is one of the larger group, those without a request or those that wait for bodies: whoever fills all places with
    /// either keeps out neither a new caller, which has not asked yet, nor a slow body, which is soon whole.
    /// As long as fewer than `leaving_max` are leaving, it has time to tell its caller.
    fn cut_longest_idle(&self, leaving_max: usize) -> bool {
        let (mut idle, mut uploading) = (RestingGroup::default(), RestingGroup::default());
        for (number, activity) in self.open.borrow().iter() {
            match activity.rest() {
                Some(RestReason::Idle) => idle.add(*number, activity),
                Some(RestReason::Uploading) => uploading.add(*number, activity),
                None => {}
            }
        }
        let larger = if uploading.count > idle.count { uploading } else { idle };
        let Some(activity) = larger.longest.and_then(|(_, number)| self.open.borrow_mut().remove(&number))
        else {
            return false;
        };
        let has_time = activity.rest() == Some(RestReason::Uploading) && self.leaving.get() < leaving_max;
        activity.tell(if has_time { Order::GiveUp } else { Order::Cut });
        activity.uploads.give_up();
        self.leaving.set(self.leaving.get() + 1);
        self.metrics.connections_closed.of(ConnectionEnd::NoRoom).inc();
        true
    }

    /// Tells all of them to end, and waits until they have.
    pub(in crate::storefront) async fn end(&self) {
        self.open.borrow().values().for_each(|activity| activity.tell(Order::Leave));
        while !self.open.borrow().is_empty() {
            self.moved.notified().await;
        }
    }

    /// Looks after all of them, for ever.
    pub(in crate::storefront) async fn watch(&self) {
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
        for activity in self.open.borrow().values() {
            if let Some((order, end)) = activity.overdue(sweep + 1, self.deadlines) {
                if activity.order.get().is_none() {
                    self.metrics.connections_closed.of(end).inc();
                }
                activity.tell(order);
            }
        }
    }
}

/// Connections that rest alike.
#[derive(Default)]
struct RestingGroup {
    count: usize,
    /// Which of them got on the longest ago, and when.
    longest: Option<(Mark, u64)>,
}

impl RestingGroup {
    fn add(&mut self, number: u64, activity: &ConnectionActivity) {
        let this = (activity.mark.get(), number);
        self.count += 1;
        self.longest = Some(self.longest.map_or(this, |longest| longest.min(this)));
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

impl ConnectionActivity {
    /// It got on: something was asked for, answered or taken.
    pub(in crate::storefront) fn get_on(&self) {
        let (sweep, mark) = self.now.get();
        self.now.set((sweep, mark + 1));
        self.mark.set((sweep, mark + 1));
        self.bytes.set(0);
        self.received.set(0);
    }

    /// A request of it is refused for its form.
    pub(super) fn refuse(&self, why: Refusal) {
        self.refused.set(Some(why));
    }

    /// Why a request of it is refused, as long as its caller is not told, and can be.
    pub(super) fn refused(&self) -> Option<Refusal> {
        self.refused.get().filter(|_| !self.is_stuck.get())
    }

    /// The same, and its caller is told.
    pub(in crate::storefront) fn answer_refused(&self) -> Option<Refusal> {
        self.refused.take()
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

    /// The same, as the socket has said it.
    pub(super) fn note_written(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(bytes)) => self.wrote(Some(*bytes)),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.wrote(None),
        }
    }

    /// Answers of it are held back, to be written together with the next ones.
    pub(super) fn holds_back(&self) {
        self.gathered.set(GatheredAnswers::Held);
    }

    /// None of its answers is held back.
    pub(super) fn has_written(&self) {
        self.gathered.set(GatheredAnswers::Nothing);
    }

    /// Nothing more is ready: what is held back is to be written. Whether there is something.
    pub(in crate::storefront) fn write_held(&self) -> bool {
        let is_held = self.gathered.get() == GatheredAnswers::Held;
        if is_held {
            self.gathered.set(GatheredAnswers::Due);
        }
        is_held
    }

    /// Whether what is held back is to be written.
    pub(super) fn is_to_write(&self) -> bool {
        self.gathered.get() == GatheredAnswers::Due
    }

    /// Its caller sent so many bytes of a body.
    pub(super) fn received(&self, bytes: usize) {
        let all = self.received.get() + bytes;
        self.received.set(all);
        if all >= BYTES_THAT_COUNT && self.under_way.get() > 0 {
            self.get_on();
        }
    }

    /// The body of a request that is under way, watched until it is whole.
    pub(in crate::storefront) fn upload(&self, body: Incoming) -> Body {
        self.uploads.watch(body)
    }

    fn rest(&self) -> Option<RestReason> {
        match self.under_way.get() {
            0 => Some(RestReason::Idle),
            under_way => (self.uploads.open() >= under_way).then_some(RestReason::Uploading),
        }
    }

    /// A request of it waits for somebody else, as long as what is returned lives.
    pub(in crate::storefront) fn request(self: &Rc<Self>) -> InFlight {
        self.under_way.set(self.under_way.get() + 1);
        InFlight(self.clone())
    }

    /// A request of it came over HTTP/1.1; it is answered once what is returned is dropped.
    pub(in crate::storefront) fn asked(self: &Rc<Self>) -> UnansweredRequest {
        self.unanswered.set(self.unanswered.get() + 1);
        self.owes.set(true);
        UnansweredRequest(self.clone())
    }

    /// Its caller is owed an answer, or a part of one.
    pub(super) fn owes_an_answer(&self) -> bool {
        self.owes.get()
    }

    /// The socket has got all there is of its answers. Whether that was the last one that its caller was owed.
    pub(super) fn flushed(&self) -> bool {
        self.unanswered.get() == 0 && self.owes.replace(false)
    }

    /// What its task is told to do, once.
    pub(in crate::storefront) fn poll_order(&self, cx: &Context<'_>) -> Poll<Order> {
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

    /// Whether its requests were given up, and it is still to tell so.
    pub(super) fn gives_up(&self) -> bool {
        self.order.get() == Some(Order::GiveUp)
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
pub(in crate::storefront) struct InFlight(Rc<ConnectionActivity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let Self(activity) = self;
        activity.under_way.set(activity.under_way.get().saturating_sub(1));
        activity.get_on();
        activity.moved.notify_one();
    }
}

/// A request over HTTP/1.1 whose answer is not there yet.
pub(in crate::storefront) struct UnansweredRequest(Rc<ConnectionActivity>);

impl Drop for UnansweredRequest {
    fn drop(&mut self) {
        let Self(activity) = self;
        activity.unanswered.set(activity.unanswered.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINES: Deadlines = Deadlines { sweep: SWEEP_MIN, greeting: 2, idle: 8, stall: 4 };

    fn connections(max: usize) -> Connections {
        Connections {
            open: RefCell::default(),
            leaving: Cell::default(),
            now: Rc::default(),
            max: Cell::new(max),
            deadlines: DEADLINES,
            metrics: Arc::new(Metrics::default()),
            moved: Rc::default(),
        }
    }

    /// A connection with a request whose body has begun.
    fn uploading(connections: &Connections) -> (Rc<ConnectionActivity>, InFlight, Body) {
        let (_, activity) = connections.open();
        activity.greeted();
        let body = activity.uploads.watch(Body::from("not read"));
        let request = activity.request();
        (activity, request, body)
    }

    fn sweep(connections: &Connections, times: u64) {
        (0..times).for_each(|_| connections.sweep());
    }

    fn room(connections: &Connections) -> bool {
        connections.open.borrow().len() < connections.max.get() || connections.cut_longest_idle(LEAVING_MAX)
    }

    #[test]
    fn a_caller_that_never_greets_is_cut_and_an_idle_one_dismissed() {
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
    fn a_caller_that_takes_crumbs_is_cut_and_a_steady_reader_not() {
        let connections = connections(9);
        let pulses: Vec<_> = (0..2).map(|_| connections.open().1).collect();
        for _ in 0..40 {
            for (activity, bytes) in pulses.iter().zip([100, BYTES_THAT_COUNT]) {
                activity.greeted();
                activity.wrote(Some(bytes));
                activity.wrote(None);
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
        let orders: Vec<_> = pulses.iter().map(|activity| activity.order.get()).collect();
        assert_eq!(orders, [None, Some(Order::Cut), None]);
        assert_eq!(connections.open.borrow().len(), 2);
    }

    #[test]
    fn a_request_with_an_incomplete_body_is_given_up_under_pressure() {
        let connections = connections(4);
        let uploads: Vec<_> = (0..3).map(|_| uploading(&connections)).collect();
        let (_, newcomer) = connections.open();
        uploads[0].0.received(BYTES_THAT_COUNT);
        assert!(room(&connections));
        let told = || uploads.iter().map(|(activity, ..)| activity.order.get()).collect::<Vec<_>>();
        assert_eq!(told(), [None, Some(Order::GiveUp), None], "the one that sent the least of late");
        assert_eq!(newcomer.order.get(), None, "it has had no time to ask");

        // Where most ask for nothing, one of those goes.
        let silent: Vec<_> = (0..2).map(|_| connections.open().1).collect();
        assert!(room(&connections));
        assert_eq!((newcomer.order.get(), silent[0].order.get()), (Some(Order::Cut), None));
        assert_eq!(told(), [None, Some(Order::GiveUp), None]);
    }

    #[test]
    fn a_request_whose_body_is_whole_is_never_given_up_for_room() {
        let connections = connections(1);
        let (activity, request, body) = uploading(&connections);
        drop(body);
        assert!(!room(&connections), "it is on its way to the data centre");
        assert_eq!(activity.order.get(), None);
        let (_more, other) = (activity.uploads.watch(Body::from("not read")), activity.request());
        assert!(!room(&connections), "one of its requests is");
        drop(request);
        connections.leaving.set(LEAVING_MAX);
        assert!(room(&connections));
        assert_eq!(activity.order.get(), Some(Order::Cut), "as many as may are telling theirs");
        drop(other);
    }

    #[test]
    fn without_free_files_connections_end_at_once_until_there_is_room() {
        let connections = connections(9);
        let uploads: Vec<_> = (0..5).map(|_| uploading(&connections)).collect();
        assert!(connections.shrink(9));
        assert_eq!(uploads[0].0.order.get(), Some(Order::Cut));
        assert!(connections.shrink(2));
        assert_eq!((connections.open.borrow().len(), connections.max.get()), (2, 2));
        assert!(connections.shrink(7));
        assert_eq!((connections.open.borrow().len(), connections.max.get()), (1, 2));
    }
}
