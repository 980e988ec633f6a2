//! Keeps one link over the transport that carries: the driver of `choice`.
//!
//! Each attempt is a task, from its dialling to the end of its link. While a link moves, both
//! transports have one, and the owner of the tunnel sends over both.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::{Backoff, HEALTHY, unwanted};
use crate::telemetry::metrics::TransportKind;
use crate::transport::Connection;
use crate::tunnel::choice::{Action, Choice, Reason};
use crate::tunnel::context::Context;
use crate::tunnel::dialled::DialledAddress;
use crate::tunnel::end::LinkEnd;
use crate::tunnel::link::{self, Dialled, Ended};
use crate::tunnel::links::Presence;
use crate::tunnel::report;

/// Interval at which the packets of a QUIC link are judged.
const LOOK: Duration = Duration::from_millis(250);

/// Shortest silence after which a QUIC link is doubted.
const SILENCE_MIN: Duration = Duration::from_millis(1_500);

/// Links of one dialler that came up and are not noted yet: more than there can be.
const UPS: usize = 4;

/// Keeps one link to one address of a target.
pub(super) async fn keep_linked(
    context: Arc<Context>,
    target: Arc<str>,
    address: SocketAddr,
    wanted: watch::Receiver<()>,
) {
    let (up, mut ups) = mpsc::channel(UPS);
    let dialled = Arc::new(context.dialled.begin(target.clone(), address));
    let mut driver = AutoDriver {
        context: context.clone(),
        target,
        address,
        dialled,
        choice: Choice::new(Instant::now()),
        attempts: Vec::new(),
        next: 0,
        running: JoinSet::new(),
        backoff: Backoff::default(),
        complaint: None,
        up,
        carries: None,
        tcp_end: String::new(),
    };
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        driver.act();
        tokio::select! {
            // What came up is known before its end, and before the next decision.
            biased;
            Some(up) = ups.recv() => driver.handle_up(up),
            Some(ended) = driver.running.join_next() => {
                // A dropped attempt has no result.
                if let Ok(ended) = ended {
                    driver.handle_end(ended);
                }
            }
            _ = look.tick() => driver.judge(),
            () = until(driver.choice.next_at()) => {}
            () = unwanted(&context, &wanted) => break,
        }
    }
    driver.drop_attempts();
    while driver.running.join_next().await.is_some() {}
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => pending().await,
    }
}

struct AutoDriver {
    context: Arc<Context>,
    target: Arc<str>,
    address: SocketAddr,
    dialled: Arc<DialledAddress>,
    choice: Choice,
    /// The attempts and links of this dialler, at most one for each transport.
    attempts: Vec<Attempt>,
    next: u64,
    running: JoinSet<AttemptEnd>,
    backoff: Backoff,
    complaint: Option<String>,
    up: mpsc::Sender<LinkedAttempt>,
    /// Transport that carried last.
    carries: Option<TransportKind>,
    /// Reason of the end of the last link over TCP.
    tcp_end: String,
}

/// One attempt, or its link.
struct Attempt {
    id: u64,
    transport: TransportKind,
    task: AbortHandle,
    presence: Arc<Presence>,
    /// Set by the first of two: the task when its link comes up, or the driver when it drops the
    /// attempt. So a link that has been announced is never aborted.
    is_decided: Arc<AtomicBool>,
    /// Set when its link is up.
    connection: Option<Arc<dyn Connection>>,
}

/// An attempt whose link came up.
struct LinkedAttempt {
    id: u64,
    connection: Arc<dyn Connection>,
}

/// End of an attempt or of its link.
struct AttemptEnd {
    id: u64,
    ended: Ended,
}

impl AutoDriver {
    /// Carries out what the core decides now.
    fn act(&mut self) {
        while let Some(action) = self.choice.poll(Instant::now()) {
            match action {
                Action::Dial(transport) => self.dial(transport),
                Action::Drop(transport) => self.drop_attempt(transport),
                Action::End(transport, reason) => self.end(transport, &reason),
            }
        }
    }

    fn dial(&mut self, transport: TransportKind) {
        // An attempt that came up while it was to be dropped. Its link is about to be known.
        if self.attempts.iter().any(|attempt| attempt.transport == transport) {
            return;
        }
        self.next += 1;
        let (id, presence, is_decided) =
            (self.next, Arc::<Presence>::default(), Arc::<AtomicBool>::default());
        let (context, target, address) = (self.context.clone(), self.target.clone(), self.address);
        let (dialled, up, seen) = (self.dialled.clone(), self.up.clone(), presence.clone());
        let decided = is_decided.clone();
        let task = self.running.spawn(async move {
            let connection = match context.transports.dial(transport, address).await {
                Ok(connection) => connection,
                Err(error) => {
                    let why = error.to_string();
                    dialled.failed(&why);
                    report::refusal(&context, address, &error);
                    return AttemptEnd { id, ended: Ended { lived: None, why } };
                }
            };
            let linked = connection.clone();
            let is_up = move || {
                let is_dropped = decided.swap(true, Ordering::Relaxed);
                if !is_dropped {
                    let _full = up.try_send(LinkedAttempt { id, connection: linked.clone() });
                }
                !is_dropped
            };
            let dialled = Dialled { target, address: &dialled, is_up: &is_up };
            AttemptEnd { id, ended: link::run(&context, connection, Some(dialled), seen).await }
        });
        self.attempts.push(Attempt { id, transport, task, presence, is_decided, connection: None });
    }

    fn drop_attempt(&mut self, transport: TransportKind) {
        self.attempts.retain(|attempt| {
            let is_dropped =
                attempt.transport == transport && !attempt.is_decided.swap(true, Ordering::Relaxed);
            if is_dropped {
                attempt.task.abort();
            }
            !is_dropped
        });
    }

    fn drop_attempts(&mut self) {
        self.drop_attempt(TransportKind::Quic);
        self.drop_attempt(TransportKind::Tcp);
    }

    /// Ends a link, because that over the other transport carries instead.
    fn end(&mut self, transport: TransportKind, reason: &Reason) {
        let Some(link) = self.attempts.iter().find(|attempt| attempt.transport == transport) else { return };
        link.presence.end(LinkEnd::Moved(reason.to_string()));
        let to = match transport {
            TransportKind::Quic => TransportKind::Tcp,
            TransportKind::Tcp => TransportKind::Quic,
        };
        let other = self.attempts.iter().find(|attempt| attempt.transport == to);
        other.inspect(|other| other.presence.explain(&reason.to_string()));
        if let Some(connection) = other.and_then(|other| other.connection.clone()) {
            // Over QUIC the peer would learn of it only if QUIC carried.
            if let Some(key) = link.connection.as_ref().and_then(|quic| quic.quic_key()) {
                connection.replace(key);
            }
            self.switched(&*connection, reason);
        }
    }

    fn handle_up(&mut self, LinkedAttempt { id, connection }: LinkedAttempt) {
        // Its link may have ended already.
        let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.id == id) else { return };
        let transport = attempt.transport;
        attempt.connection = Some(connection.clone());
        let presence = attempt.presence.clone();
        let is_alone = self.attempts.iter().filter(|attempt| attempt.connection.is_some()).count() == 1;
        self.complaint = None;
        self.choice.handle_up(transport, Instant::now());
        match self.choice.why_tcp().filter(|_| transport == TransportKind::Tcp).cloned() {
            Some(reason) => {
                presence.explain(&reason.to_string());
                if is_alone {
                    self.switched(&*connection, &reason);
                }
            }
            // If QUIC is still up, its end has the reason.
            None if transport == TransportKind::Tcp => {}
            None => {
                presence.explain("preferred");
                if is_alone {
                    self.switched(&*connection, &Reason::TcpEnded(self.tcp_end.clone()));
                }
            }
        }
        if self.carries.is_none() {
            self.carries = Some(transport);
        }
    }

    fn handle_end(&mut self, AttemptEnd { id, ended }: AttemptEnd) {
        let Some(place) = self.attempts.iter().position(|attempt| attempt.id == id) else { return };
        let attempt = self.attempts.swap_remove(place);
        let (pause, now) = (self.backoff.next(rand::random()), Instant::now());
        if ended.lived.is_some_and(|lived| lived >= HEALTHY) {
            self.backoff = Backoff::default();
        }
        match ended.lived {
            Some(_) => {
                self.choice.handle_down(attempt.transport, &ended.why, pause, now);
                self.handle_other_left(attempt.transport, ended.why);
            }
            None => {
                self.choice.handle_failed(attempt.transport, &ended.why, pause, now);
                if self.attempts.iter().all(|attempt| attempt.connection.is_none()) {
                    report::without_link(self.address, attempt.transport, &ended.why, &mut self.complaint);
                }
            }
        }
    }

    /// Takes that a link has ended, and notes a move if that over the other transport is left. If
    /// the core ended it, the move is noted already.
    fn handle_other_left(&mut self, ended: TransportKind, why: String) {
        let reason = match ended {
            TransportKind::Quic => Reason::Failed(why),
            TransportKind::Tcp => {
                self.tcp_end.clone_from(&why);
                Reason::TcpEnded(why)
            }
        };
        let left = self.attempts.iter().find(|attempt| attempt.connection.is_some());
        if let Some((presence, Some(connection))) =
            left.map(|left| (left.presence.clone(), left.connection.clone()))
        {
            presence.explain(&reason.to_string());
            self.switched(&*connection, &reason);
        }
    }

    /// Gives the packets of the QUIC link to the core.
    fn judge(&mut self) {
        let connections = self.attempts.iter().filter_map(|attempt| attempt.connection.as_ref());
        let judged =
            connections.filter_map(|connection| Some((connection.packets()?, connection.rtt()))).next();
        if let Some((packets, rtt)) = judged {
            // The peer acknowledges at least our heartbeats.
            let silence_max = (self.context.heartbeat * 3 / 2 + rtt * 2).max(SILENCE_MIN);
            self.choice.handle_packets(packets, silence_max, Instant::now());
        }
    }

    /// Notes that another transport carries than before.
    fn switched(&mut self, connection: &dyn Connection, reason: &Reason) {
        let to = connection.transport();
        if let Some(from) = self.carries.replace(to).filter(|from| *from != to) {
            report::switched(&self.context, connection, from, reason);
        }
    }
}
