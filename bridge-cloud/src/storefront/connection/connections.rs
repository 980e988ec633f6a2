//! The connections of one serving thread: which of them make progress, and which is closed to make
//! room for a new caller.
//!
//! The deadlines of a request (for head, body and answer) are elsewhere. The deadlines of a
//! connection are here: for one without a request, and for one whose caller does not take its
//! answer. A connection that makes progress leaves a mark, which costs two stores. A single sweep
//! reads the marks of all connections, so no connection has a timer.

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

/// Sweeps within the shortest deadline, which give the precision of the deadlines.
const SWEEPS_A_DEADLINE: u32 = 8;

/// Longest time between two sweeps.
const SWEEP_MAX: Duration = Duration::from_secs(1);

/// Shortest time between two sweeps.
const SWEEP_MIN: Duration = Duration::from_millis(10);

/// Bytes that count as progress. A caller that takes less of its answers within a deadline does not
/// read.
const BYTES_THAT_COUNT: usize = 4 * 1024;

/// Connections of a thread that made room and are still telling their callers so. Further ones are
/// cut at once.
pub(in crate::storefront) const LEAVING_MAX: usize = 16;

/// Time of a connection's last progress: the sweep, and the number of the mark.
type Mark = (u64, u64);

/// A deadline, in sweeps.
type Sweeps = u64;

/// All connections of one thread.
pub(in crate::storefront) struct Connections {
    open: RefCell<BTreeMap<u64, Rc<ConnectionActivity>>>,
    /// Connections that had to make room and have not ended yet.
    leaving: Cell<usize>,
    now: Rc<Cell<Mark>>,
    max: Cell<usize>,
    deadlines: Deadlines,
    metrics: Arc<Metrics>,
    /// Notified when a connection ends or comes to rest.
    moved: Rc<Notify>,
}

#[derive(Clone, Copy)]
struct Deadlines {
    sweep: Duration,
    greeting: Sweeps,
    idle: Sweeps,
    stall: Sweeps,
}

/// Instruction to a connection's task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::storefront) enum Order {
    /// End after the pending requests are answered.
    Leave,
    /// End soon: the requests are given up, and the caller is told so.
    GiveUp,
    /// End now.
    Cut,
}

/// Activity of one connection.
pub(in crate::storefront) struct ConnectionActivity {
    now: Rc<Cell<Mark>>,
    moved: Rc<Notify>,
    /// Mark of its last progress.
    mark: Cell<Mark>,
    /// Set after the HTTP version is known.
    is_greeted: Cell<bool>,
    /// Requests that wait for something other than their caller, or for their body. Each has its
    /// own deadline.
    under_way: Cell<usize>,
    /// Requests that wait for their body.
    uploads: Uploads,
    /// HTTP/1.1 requests without an answer.
    unanswered: Cell<usize>,
    /// Set while there is such a request, or a part of an answer that the socket has not got.
    owes: Cell<bool>,
    /// Bytes of bodies since the mark.
    received: Cell<usize>,
    /// Set while the caller takes no more of its answer.
    is_stuck: Cell<bool>,
    /// Bytes of answers since the mark.
    bytes: Cell<usize>,
    /// State of its collected answers.
    gathered: Cell<GatheredAnswers>,
    /// Reason why a request is refused for its form. Its caller must be told.
    refused: Cell<Option<Refusal>>,
    order: Cell<Option<Order>>,
    /// An order that its task has not seen yet, and the waker for it.
    unheard: Cell<Option<Order>>,
    waker: Cell<Option<Waker>>,
}

/// State of answers that are collected to be written together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum GatheredAnswers {
    /// There are none.
    #[default]
    Nothing,
    /// They wait for more.
    Held,
    /// They must be written, because no more are ready.
    Due,
}

/// State of a connection that waits only for its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RestReason {
    /// It has no request.
    Idle,
    /// Each of its requests waits for the rest of its body.
    Uploading,
}

impl Connections {
    /// Makes an empty set of at most `max` connections.
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

    /// Adds a connection and returns its number.
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

    /// Removes a connection that has ended.
    pub(in crate::storefront) fn close(&self, number: u64) {
        if self.open.borrow_mut().remove(&number).is_none() {
            self.leaving.set(self.leaving.get().saturating_sub(1));
        }
        self.moved.notify_one();
    }

    /// Waits for room for one more connection. Usually this is immediate, because the connection
    /// without progress for the longest time is closed. It waits only if every connection has a
    /// pending request with a whole body.
    pub(in crate::storefront) async fn room(&self) {
        while self.open.borrow().len() >= self.max.get() && !self.cut_longest_idle(LEAVING_MAX) {
            self.moved.notified().await;
        }
    }

    /// Handles a lack of file descriptors: from now on at most `max` connections may be open, and
    /// at least one ends at once. Returns false if none can.
    pub(in crate::storefront) fn shrink(&self, max: usize) -> bool {
        self.max.set(self.max.get().min(max));
        let has_ended = self.cut_longest_idle(0);
        while self.open.borrow().len() > self.max.get() && self.cut_longest_idle(0) {}
        has_ended
    }

    /// Closes the resting connection without progress for the longest time. Returns false if none
    /// rests.
    ///
    /// It is chosen from the larger group: connections without a request, or connections that wait
    /// for bodies. So a caller that fills all places with one kind does not keep out the other
    /// kind: neither a new caller, which has not sent a request yet, nor a slow body, which is soon
    /// whole. If fewer than `leaving_max` are leaving, the connection gets time to tell its caller.
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

    /// Tells all connections to end, and waits until they have.
    pub(in crate::storefront) async fn end(&self) {
        self.open.borrow().values().for_each(|activity| activity.tell(Order::Leave));
        while !self.open.borrow().is_empty() {
            self.moved.notified().await;
        }
    }

    /// Sweeps forever.
    pub(in crate::storefront) async fn watch(&self) {
        let mut sweeps = interval(self.deadlines.sweep);
        // A late sweep is not followed by another one at once: the delay of a busy thread must not
        // count against its callers.
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

/// Connections that rest in the same way.
#[derive(Default)]
struct RestingGroup {
    count: usize,
    /// The one without progress for the longest time: its mark and its number.
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
    /// Notes progress: a request, an answer or a read by the caller.
    pub(in crate::storefront) fn get_on(&self) {
        let (sweep, mark) = self.now.get();
        self.now.set((sweep, mark + 1));
        self.mark.set((sweep, mark + 1));
        self.bytes.set(0);
        self.received.set(0);
    }

    /// Notes that a request is refused for its form.
    pub(super) fn refuse(&self, why: Refusal) {
        self.refused.set(Some(why));
    }

    /// Returns the reason of a refusal while the caller does not know it and can be told.
    pub(super) fn refused(&self) -> Option<Refusal> {
        self.refused.get().filter(|_| !self.is_stuck.get())
    }

    /// Returns the reason of a refusal and counts the caller as told.
    pub(in crate::storefront) fn answer_refused(&self) -> Option<Refusal> {
        self.refused.take()
    }

    /// Notes that the HTTP version is known.
    pub(super) fn greeted(&self) {
        self.is_greeted.set(true);
    }

    /// Notes that the caller took so many bytes; `None` if it takes none now.
    pub(super) fn wrote(&self, bytes: Option<usize>) {
        self.is_stuck.set(bytes.is_none());
        let all = self.bytes.get() + bytes.unwrap_or_default();
        self.bytes.set(all);
        if all >= BYTES_THAT_COUNT {
            self.get_on();
        }
    }

    /// Notes the result of a write to the socket.
    pub(super) fn note_written(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(bytes)) => self.wrote(Some(*bytes)),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.wrote(None),
        }
    }

    /// Notes that answers are held back, to be written with the next ones.
    pub(super) fn holds_back(&self) {
        self.gathered.set(GatheredAnswers::Held);
    }

    /// Notes that no answer is held back.
    pub(super) fn has_written(&self) {
        self.gathered.set(GatheredAnswers::Nothing);
    }

    /// Releases the answers that are held back, because no more are ready. Returns true if there
    /// were some.
    pub(in crate::storefront) fn write_held(&self) -> bool {
        let is_held = self.gathered.get() == GatheredAnswers::Held;
        if is_held {
            self.gathered.set(GatheredAnswers::Due);
        }
        is_held
    }

    /// Returns true if the answers that are held back must be written.
    pub(super) fn is_to_write(&self) -> bool {
        self.gathered.get() == GatheredAnswers::Due
    }

    /// Notes that the caller sent so many bytes of a body.
    pub(super) fn received(&self, bytes: usize) {
        let all = self.received.get() + bytes;
        self.received.set(all);
        if all >= BYTES_THAT_COUNT && self.under_way.get() > 0 {
            self.get_on();
        }
    }

    /// Returns the body of a pending request, watched until it is whole.
    pub(in crate::storefront) fn upload(&self, body: Incoming) -> Body {
        self.uploads.watch(body)
    }

    fn rest(&self) -> Option<RestReason> {
        match self.under_way.get() {
            0 => Some(RestReason::Idle),
            under_way => (self.uploads.open() >= under_way).then_some(RestReason::Uploading),
        }
    }

    /// Counts a request that waits for something other than its caller, until the returned value is
    /// dropped.
    pub(in crate::storefront) fn request(self: &Rc<Self>) -> InFlight {
        self.under_way.set(self.under_way.get() + 1);
        InFlight(self.clone())
    }

    /// Counts an HTTP/1.1 request as unanswered until the returned value is dropped.
    pub(in crate::storefront) fn asked(self: &Rc<Self>) -> UnansweredRequest {
        self.unanswered.set(self.unanswered.get() + 1);
        self.owes.set(true);
        UnansweredRequest(self.clone())
    }

    /// Returns true if the caller is owed an answer or a part of one.
    pub(super) fn owes_an_answer(&self) -> bool {
        self.owes.get()
    }

    /// Notes that the socket has all of the answers. Returns true if the last owed answer is out.
    pub(super) fn flushed(&self) -> bool {
        self.unanswered.get() == 0 && self.owes.replace(false)
    }

    /// Returns an instruction for its task, once.
    pub(in crate::storefront) fn poll_order(&self, cx: &Context<'_>) -> Poll<Order> {
        if let Some(order) = self.unheard.take() {
            return Poll::Ready(order);
        }
        let known = self.waker.take().filter(|waker| waker.will_wake(cx.waker()));
        self.waker.set(known.or_else(|| Some(cx.waker().clone())));
        Poll::Pending
    }

    /// Makes it end after its pending requests are answered.
    pub(super) fn leave(&self) {
        self.tell(Order::Leave);
    }

    /// Returns true if its requests were given up and its caller is not told yet.
    pub(super) fn gives_up(&self) -> bool {
        self.order.get() == Some(Order::GiveUp)
    }

    /// Gives an instruction to its task, unless it has one at least as strong.
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

    /// Returns its instruction and reason if one of its deadlines has passed.
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
        // A connection that must leave may have to be cut: its caller need not answer, or take its
        // answers.
        let order = if since > deadlines.idle + deadlines.stall { Order::Cut } else { Order::Leave };
        (since > deadlines.idle).then_some((order, ConnectionEnd::Idle))
    }
}

/// A request that waits for something other than its caller.
pub(in crate::storefront) struct InFlight(Rc<ConnectionActivity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let Self(activity) = self;
        activity.under_way.set(activity.under_way.get().saturating_sub(1));
        activity.get_on();
        activity.moved.notify_one();
    }
}

/// An HTTP/1.1 request without an answer.
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

    /// Returns a connection with a request of whose body a part has come.
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
        assert!(!room(&connections), "a connection with a request under way was closed");
        drop(request);
        sweep(&connections, DEADLINES.idle);
        assert_eq!(busy.order.get(), None, "a connection is idle only since the end of its request");
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
        assert_eq!(
            told(),
            [None, Some(Order::GiveUp), None],
            "the connection that recently sent the least gives up"
        );
        assert_eq!(newcomer.order.get(), None, "a new connection was closed before it could send a request");

        // If most connections have no request, one without a request is closed.
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
        assert!(!room(&connections), "a request on its way to the IDC was given up");
        assert_eq!(activity.order.get(), None);
        let (_more, other) = (activity.uploads.watch(Body::from("not read")), activity.request());
        assert!(!room(&connections), "a connection with such a request was closed");
        drop(request);
        connections.leaving.set(LEAVING_MAX);
        assert!(room(&connections));
        assert_eq!(
            activity.order.get(),
            Some(Order::Cut),
            "the limit of connections that send their last answer is reached"
        );
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
