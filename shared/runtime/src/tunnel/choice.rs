//! Decides between QUIC and TCP for one dialled link: the core of `transport = "auto"`.
//!
//! The code is pure: it is told of attempts, links and packets, with the time, and says which
//! transport to dial and which link to end. A transport is judged by what it carries, because a
//! firewall may let a handshake pass and drop what follows, or only large packets. QUIC is
//! preferred. While TCP carries, QUIC is tried again and again, beside it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::telemetry::metrics::TransportKind;
use crate::transport::Packets;

/// Time that QUIC has before TCP is tried as well.
const HEAD_START: Duration = Duration::from_millis(300);

/// Time for which a QUIC link beside a TCP link must carry before the TCP link ends.
const TRIAL_TIME: Duration = Duration::from_secs(3);

/// Pause before QUIC is tried again beside TCP. It doubles with each failure, up to the longest.
const TRIAL_PAUSE_MIN: Duration = Duration::from_secs(10);
const TRIAL_PAUSE_MAX: Duration = Duration::from_secs(40);

/// Time over which packets are counted to judge the loss.
const LOSS_WINDOW: Duration = Duration::from_secs(2);

/// Fewer lost packets than this are chance.
const LOST_MIN: u64 = 5;

/// Reason to carry over one transport and not over the other, with its packets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Reason {
    /// QUIC brought no link up.
    #[error("QUIC had no link after {} ms", .0.as_millis())]
    NoLink(Duration),
    /// An attempt over QUIC failed, or its link ended by itself.
    #[error("QUIC: {0}")]
    Failed(String),
    /// Nothing came from the peer for this time.
    #[error("nothing came over QUIC for {} ms", .0.as_millis())]
    Silent(Duration),
    /// Most packets within [`LOSS_WINDOW`] were lost.
    #[error("{lost} of {sent} packets over QUIC were lost within {} s", LOSS_WINDOW.as_secs())]
    Lossy {
        /// Lost packets.
        lost: u64,
        /// Sent packets.
        sent: u64,
    },
    /// A link over QUIC beside that over TCP carried for this time.
    #[error("QUIC has carried for {} s", .0.as_secs())]
    Carries(Duration),
    /// The link over TCP ended by itself.
    #[error("TCP: {0}")]
    TcpEnded(String),
}

impl Reason {
    /// Returns the reason as a code.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::NoLink(_) => "no-link",
            Self::Failed(_) => "failed",
            Self::Silent(_) => "silent",
            Self::Lossy { .. } => "lossy",
            Self::Carries(_) => "carries",
            Self::TcpEnded(_) => "tcp-ended",
        }
    }
}

/// Next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Begin an attempt.
    Dial(TransportKind),
    /// Drop the attempt.
    Drop(TransportKind),
    /// End the link: the other transport carries instead, for this reason.
    End(TransportKind, Reason),
}

/// State of one transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// There is no attempt before this time.
    Idle(Instant),
    Dialling,
    /// A link is up since this time.
    Up(Instant),
    /// The link was told to end.
    Ending,
}

impl Side {
    fn is_up(self) -> bool {
        matches!(self, Self::Up(_))
    }
}

/// The decision for one dialled link.
#[derive(Debug)]
pub(super) struct Choice {
    quic: Side,
    tcp: Side,
    /// Time since which no link is up.
    without_link: Instant,
    /// Reason why QUIC is not used or will not be, with packets.
    doubt: Option<Reason>,
    judge: PacketChecker,
    trial_pause: Duration,
}

impl Choice {
    /// Makes the decision of a dialler without a link.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            quic: Side::Idle(now),
            tcp: Side::Idle(now),
            without_link: now,
            doubt: None,
            judge: PacketChecker::new(now),
            trial_pause: TRIAL_PAUSE_MIN,
        }
    }

    /// Takes that an attempt brought a link up.
    pub(super) fn handle_up(&mut self, transport: TransportKind, now: Instant) {
        if transport == TransportKind::Quic {
            (self.judge, self.doubt) = (PacketChecker::new(now), None);
        } else if !self.quic.is_up() && self.doubt.is_none() {
            let waited = now.saturating_duration_since(self.without_link);
            self.doubt = Some(Reason::NoLink(waited));
        }
        *self.side(transport) = Side::Up(now);
        if transport == TransportKind::Tcp && matches!(self.quic, Side::Idle(_)) {
            self.quic = Side::Idle(now + self.trial_pause);
        }
    }

    /// Takes that an attempt failed. `pause` is the pause before the next one if no link is up.
    pub(super) fn handle_failed(
        &mut self,
        transport: TransportKind,
        why: &str,
        pause: Duration,
        now: Instant,
    ) {
        if transport == TransportKind::Quic {
            self.doubt = Some(Reason::Failed(why.to_owned()));
            self.end_trial(pause, now);
        } else {
            self.tcp = Side::Idle(now + pause);
        }
    }

    /// Takes that a link has ended, with its reason and the pause before it is dialled again.
    pub(super) fn handle_down(&mut self, transport: TransportKind, why: &str, pause: Duration, now: Instant) {
        let was_told = *self.side(transport) == Side::Ending;
        if transport == TransportKind::Quic {
            if !was_told {
                self.doubt = Some(Reason::Failed(why.to_owned()));
            }
            self.end_trial(pause, now);
        } else {
            self.tcp = Side::Idle(now + pause);
            // A trial may wait, the only way to a link may not.
            if let Side::Idle(from) = &mut self.quic {
                *from = (*from).min(now + pause);
            }
        }
        if !self.quic.is_up() && !self.tcp.is_up() {
            self.without_link = now;
        }
    }

    /// Takes the packets of the QUIC link. `silence_max` is the longest time in which a healthy
    /// peer sends nothing.
    pub(super) fn handle_packets(&mut self, packets: Packets, silence_max: Duration, now: Instant) {
        let doubt = self.judge.judge(packets, silence_max, now);
        if self.quic.is_up() {
            self.doubt = doubt;
        }
    }

    /// Returns the next action, until there is none.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Action> {
        let action = self.next(now)?;
        match &action {
            Action::Dial(transport) => *self.side(*transport) = Side::Dialling,
            Action::Drop(transport) => *self.side(*transport) = Side::Idle(now),
            Action::End(transport, _) => *self.side(*transport) = Side::Ending,
        }
        Some(action)
    }

    fn next(&self, now: Instant) -> Option<Action> {
        match (self.quic, self.tcp, &self.doubt) {
            (Side::Up(_), Side::Up(_), Some(doubt)) => {
                return Some(Action::End(TransportKind::Quic, doubt.clone()));
            }
            (Side::Up(since), Side::Up(_), None) if now >= since + TRIAL_TIME => {
                return Some(Action::End(TransportKind::Tcp, Reason::Carries(TRIAL_TIME)));
            }
            (Side::Up(_), Side::Dialling, None) => return Some(Action::Drop(TransportKind::Tcp)),
            _ => {}
        }
        if matches!(self.quic, Side::Idle(from) if from <= now) {
            return Some(Action::Dial(TransportKind::Quic));
        }
        let tcp_is_due = matches!(self.tcp, Side::Idle(from) if from <= now);
        (tcp_is_due && self.wants_tcp_at().is_some_and(|at| at <= now))
            .then_some(Action::Dial(TransportKind::Tcp))
    }

    /// Returns the time of the next action if nothing happens before.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let idle = |side| if let Side::Idle(from) = side { Some(from) } else { None };
        let tcp = idle(self.tcp).zip(self.wants_tcp_at()).map(|(from, wanted)| from.max(wanted));
        let trial = match (self.quic, self.tcp) {
            (Side::Up(since), Side::Up(_)) => Some(since + TRIAL_TIME),
            _ => None,
        };
        [idle(self.quic), tcp, trial].into_iter().flatten().min()
    }

    /// Returns why the link is over TCP, or `None` if it is over QUIC.
    pub(super) fn why_tcp(&self) -> Option<&Reason> {
        self.doubt.as_ref().filter(|_| !self.quic.is_up())
    }

    /// Returns the time from which TCP is wanted, if it is.
    fn wants_tcp_at(&self) -> Option<Instant> {
        match (self.quic, &self.doubt) {
            (Side::Up(_), None) => None,
            (Side::Up(_) | Side::Ending, _) => Some(self.without_link),
            (Side::Idle(_) | Side::Dialling, _) => Some(self.without_link + HEAD_START),
        }
    }

    fn side(&mut self, transport: TransportKind) -> &mut Side {
        match transport {
            TransportKind::Quic => &mut self.quic,
            TransportKind::Tcp => &mut self.tcp,
        }
    }

    /// Sets the time of the next attempt over QUIC.
    fn end_trial(&mut self, pause: Duration, now: Instant) {
        if self.tcp.is_up() {
            self.quic = Side::Idle(now + self.trial_pause);
            self.trial_pause = (self.trial_pause * 2).min(TRIAL_PAUSE_MAX);
        } else {
            self.quic = Side::Idle(now + pause);
            self.trial_pause = TRIAL_PAUSE_MIN;
        }
    }
}

/// Checks what a QUIC link carries.
#[derive(Debug)]
struct PacketChecker {
    /// Time of the last figure with new datagrams from the peer, and their number.
    heard: (Instant, u64),
    /// Packets of the last [`LOSS_WINDOW`], and one before it.
    window: VecDeque<(Instant, Packets)>,
}

impl PacketChecker {
    fn new(now: Instant) -> Self {
        Self { heard: (now, 0), window: VecDeque::new() }
    }

    /// Returns why the link does not carry, if it does not.
    fn judge(&mut self, packets: Packets, silence_max: Duration, now: Instant) -> Option<Reason> {
        if packets.received > self.heard.1 {
            self.heard = (now, packets.received);
        }
        self.window.push_back((now, packets));
        while self.window.get(1).is_some_and(|(at, _)| *at + LOSS_WINDOW <= now) {
            self.window.pop_front();
        }
        let silence = now.saturating_duration_since(self.heard.0);
        if silence >= silence_max {
            return Some(Reason::Silent(silence));
        }
        let (_, before) = self.window.front()?;
        let sent = packets.sent.saturating_sub(before.sent);
        let lost = packets.lost.saturating_sub(before.lost);
        (lost >= LOST_MIN && lost.saturating_mul(2) >= sent).then_some(Reason::Lossy { lost, sent })
    }
}

#[cfg(test)]
mod tests;
