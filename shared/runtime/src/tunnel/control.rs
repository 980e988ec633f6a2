//! The control lane of a live link: our heartbeats and news in one direction, the peer's in the
//! other, and its silence.

use std::collections::BTreeSet;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bridge_protocol::wire::control::{
    CREDITS, Control, Goodbye, Grants, Heartbeat, Hello, Manifest, Obstacle, Readiness, Refused, message,
};
use bridge_protocol::wire::frame::{self, CONTROL_FRAME_BYTES_MAX};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout, timeout_at};

use super::context::{Greeting, Phase};
use super::end::LinkEnd;
use super::event::TunnelEvent;
use super::hello;
use super::lanes::{FrameReader, ReadError};
use super::live_link::Link;
use crate::clock;
use crate::transport::refusal::printable;

impl Link {
    /// Writes heartbeats, a new window, manifest, readiness or grants, and the goodbye.
    ///
    /// `ours` is our hello, and `theirs` the peer's. What the hello says is no news.
    pub(super) async fn write_control(
        &self,
        mut writer: impl AsyncWrite + Unpin,
        ours: &Hello,
        theirs: &Hello,
    ) -> LinkEnd {
        let mut greeting = self.context.greeting.clone();
        greeting.mark_changed();
        let mut said = SentState::after_hello(ours, theirs);
        let mut beat = interval(self.context.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said_goodbye = false;
        loop {
            let messages = tokio::select! {
                _ = beat.tick() => vec![self.heartbeat()],
                () = self.context.reached(Phase::Draining), if !said_goodbye => {
                    said_goodbye = true;
                    vec![Goodbye { reason: "this agent is stopping".to_owned() }.into()]
                }
                () = changed(&mut greeting) => {
                    let mut news = said.news(&greeting.borrow_and_update());
                    if std::mem::take(&mut said.window_is_news) {
                        news.push(self.heartbeat());
                    }
                    news
                }
            };
            for message in messages {
                if let Err(end) = self.write(&mut writer, &message).await {
                    return end;
                }
            }
        }
    }

    fn heartbeat(&self) -> Control {
        let window = self.context.greeting.borrow().window;
        Heartbeat { clock_micros: clock::now().get(), window }.into()
    }

    async fn write(&self, writer: &mut (impl AsyncWrite + Unpin), message: &Control) -> Result<(), LinkEnd> {
        let bytes = frame::to_bytes(message, CONTROL_FRAME_BYTES_MAX).map_err(|error| {
            LinkEnd::Broken(format!("this agent's greeting does not fit a frame: {error}"))
        })?;
        let written = async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        let written: Result<io::Result<()>, _> = timeout(self.context.idle_timeout, written).await;
        match written {
            Ok(Ok(())) => {
                self.traffic.sent(bytes.len());
                Ok(())
            }
            Ok(Err(error)) => Err(self.cut(error.into()).await),
            Err(_) => Err(LinkEnd::NotReading),
        }
    }
}

/// The parts of this agent's greeting that the peer knows, besides those in each heartbeat.
struct SentState {
    manifest: Bytes,
    readiness: Option<BTreeSet<Obstacle>>,
    /// Number of the last grants; `None` if the peer takes none.
    grants: Option<u64>,
    window: u32,
    /// True if the window has changed. A heartbeat has it.
    window_is_news: bool,
}

impl SentState {
    fn after_hello(ours: &Hello, theirs: &Hello) -> Self {
        let takes_grants = theirs.features.iter().any(|feature| feature == CREDITS);
        Self {
            manifest: ours.manifest.clone(),
            readiness: None,
            grants: takes_grants.then_some(0),
            window: ours.window,
            window_is_news: false,
        }
    }

    /// Returns the changes that the peer does not know yet, and counts them as sent.
    fn news(&mut self, greeting: &Greeting) -> Vec<Control> {
        let mut news = Vec::new();
        if greeting.manifest != self.manifest {
            self.manifest.clone_from(&greeting.manifest);
            news.push(Manifest { note: greeting.manifest.clone() }.into());
        }
        if let Some(obstacles) = &greeting.readiness
            && greeting.readiness != self.readiness
        {
            news.push(Readiness::of(obstacles).into());
            self.readiness.clone_from(&greeting.readiness);
        }
        if let (Some(grants), Some(sent)) = (&greeting.grants, &mut self.grants)
            && grants.number > *sent
        {
            news.push(Grants::clone(grants).into());
            *sent = grants.number;
        }
        self.window_is_news = std::mem::replace(&mut self.window, greeting.window) != greeting.window;
        news
    }
}

/// Waits for a change. Waits forever if there is no sender any more.
async fn changed(greeting: &mut watch::Receiver<Greeting>) {
    if greeting.changed().await.is_err() {
        pending().await
    }
}

/// Heartbeats that a peer may miss: one may be late, and one lost with the packets around it.
const BEATS_MISSED: u32 = 3;

/// Returns the time of silence to tolerate from a peer with this heartbeat. A peer with a longer
/// interval than this side's configuration assumes is given more time.
fn patience(configured: Duration, heartbeat_millis: u32) -> Duration {
    configured.max(Duration::from_millis(heartbeat_millis.into()) * BEATS_MISSED)
}

/// Control messages that a peer may send at once. Each manifest costs the owner the verification of
/// a signature.
const BURST: u32 = 100;

/// Interval of further ones. A peer sends at most ten heartbeats a second.
const ONE_EVERY: Duration = Duration::from_millis(10);

/// Counts a control message. If too many came, returns the time until which the next one is left
/// unread.
fn paced(rested_at: &mut Instant, now: Instant) -> Option<Instant> {
    *rested_at = (*rested_at).max(now) + ONE_EVERY;
    rested_at.checked_sub(ONE_EVERY * BURST).filter(|until| *until > now)
}

/// Reads the control lane and notices its silence.
pub(super) struct ControlReader {
    link: Arc<Link>,
    /// The peer's last window.
    window: u32,
    /// The peer's last readiness; `None` if it has sent none.
    readiness: Option<BTreeSet<Obstacle>>,
    /// Time of silence after which it is reported.
    patience: Duration,
    silent: bool,
    heard: Instant,
    /// Time from which the peer may send a whole burst again.
    rested_at: Instant,
}

impl ControlReader {
    /// Makes a reader for a link whose peer has just sent this hello.
    pub(super) fn new(link: Arc<Link>, hello: &Hello) -> Self {
        let patience = patience(link.context.silent_after, hello.heartbeat_millis);
        let now = Instant::now();
        let window = hello.window;
        Self { link, window, readiness: None, patience, silent: false, heard: now, rested_at: now }
    }

    /// Reads until the link ends.
    pub(super) async fn read(mut self, mut frames: FrameReader<impl AsyncRead + Unpin>) -> LinkEnd {
        loop {
            let deadline = self.heard + self.patience;
            let handled = if self.silent {
                self.handle(frames.next().await).await
            } else {
                match timeout_at(deadline.into(), frames.next()).await {
                    Ok(read) => self.handle(read).await,
                    Err(_) => self.set_silent(true).await,
                }
            };
            if let Err(end) = handled {
                return end;
            }
            if let Some(until) = paced(&mut self.rested_at, Instant::now()) {
                sleep_until(until.into()).await;
            }
        }
    }

    async fn handle(&mut self, read: Result<Bytes, ReadError>) -> Result<(), LinkEnd> {
        let payload = match read {
            Ok(payload) => payload,
            Err(error) => return Err(self.link.cut(error).await),
        };
        let bytes = payload.len();
        self.link.traffic.received(bytes);
        let id = self.link.id;
        match frame::decode::<Control>(payload)?.kind {
            Some(message::Kind::Heartbeat(heartbeat)) => self.on_heartbeat(heartbeat).await,
            Some(message::Kind::Manifest(Manifest { note })) => self.manifest(note).await,
            Some(message::Kind::Readiness(readiness)) => self.on_readiness(&readiness).await,
            Some(message::Kind::Grants(grants)) => {
                let share = self.link.room.share(bytes).await;
                self.link.send_event(TunnelEvent::Grants { link: id, grants }, share).await
            }
            Some(message::Kind::Goodbye(Goodbye { reason })) => {
                tracing::info!(link = %id, reason = printable(&reason), "the peer says goodbye");
                self.link.send_event(TunnelEvent::Goodbye { link: id }, None).await
            }
            Some(message::Kind::Hello(_)) => Err(LinkEnd::Violation("a second hello came".to_owned())),
            Some(message::Kind::Refused(Refused { reason })) => Err(LinkEnd::ByPeer(printable(&reason))),
            // A message of a later version, which may be ignored.
            None => Ok(()),
        }
    }

    async fn manifest(&self, note: Bytes) -> Result<(), LinkEnd> {
        let share = self.link.room.share(note.len()).await;
        self.link.send_event(TunnelEvent::Manifest { link: self.link.id, note }, share).await
    }

    async fn on_readiness(&mut self, readiness: &Readiness) -> Result<(), LinkEnd> {
        let obstacles = readiness.known();
        if self.readiness.as_ref() == Some(&obstacles) {
            return Ok(());
        }
        self.readiness = Some(obstacles.clone());
        self.link.send_event(TunnelEvent::Readiness { link: self.link.id, obstacles }, None).await
    }

    async fn on_heartbeat(&mut self, heartbeat: Heartbeat) -> Result<(), LinkEnd> {
        self.heard = Instant::now();
        let skew = hello::skew(heartbeat.clock_micros, self.link.record.connection.rtt());
        self.link.record.skew.store(skew, Ordering::Relaxed);
        if self.silent {
            self.set_silent(false).await?;
        }
        if heartbeat.window != self.window {
            self.window = heartbeat.window;
            let event = TunnelEvent::Window { link: self.link.id, window: self.window };
            self.link.send_event(event, None).await?;
        }
        Ok(())
    }

    async fn set_silent(&mut self, silent: bool) -> Result<(), LinkEnd> {
        self.silent = silent;
        self.link.record.presence.set_silent(silent);
        let (link, peer) = (self.link.id, self.link.record.connection.peer().id());
        let event = if silent {
            let after = self.patience;
            tracing::warn!(%link, %peer, ?after, "no heartbeat from the peer: the link gets no new requests");
            TunnelEvent::Silent { link }
        } else {
            tracing::info!(%link, %peer, "the silent peer is heard again");
            TunnelEvent::Heard { link }
        };
        self.link.send_event(event, None).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flooding_peer_is_read_at_a_limit_and_heartbeats_at_once() {
        let start = Instant::now();
        let mut rested_at = start;
        let waits = (0..300).filter_map(|_| paced(&mut rested_at, start)).count();
        assert_eq!(waits, 200);
        let last = paced(&mut rested_at, start).unwrap();
        assert_eq!(last - start, ONE_EVERY * 201);
        let mut rested_at = start;
        assert!((0..300).all(|n| paced(&mut rested_at, start + ONE_EVERY * n).is_none()));
    }

    #[test]
    fn a_slow_heartbeat_is_waited_for_only_if_it_was_announced() {
        let configured = Duration::from_secs(3);
        assert_eq!(patience(configured, 30_000), Duration::from_secs(90));
        assert_eq!(patience(configured, 1_000), configured);
        assert_eq!(patience(configured, 0), configured);
    }
}
