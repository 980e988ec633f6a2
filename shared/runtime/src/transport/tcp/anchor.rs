//! The anchor of a link: the TLS connection that stands for it. Its task sends and answers pings,
//! measures the round trip, and notices and announces the end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bridge_protocol::domain::identity::SpiffeId;
use bridge_protocol::wire::frame::{self, FrameDecoder, FrameError};
use bridge_protocol::wire::tcp::{
    ANCHOR_FRAME_BYTES_MAX, Anchor, Close, LinkKey, Ping, Pong, Replaces, anchor,
};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_rustls::TlsStream;

use super::handshake;
use crate::transport::live_quic::LiveQuicLinks;
use crate::transport::refusal::printable;
use crate::transport::{CLOSE_TIME, CUT_TIME, CloseCode, Closed, keep_alive_interval};

/// Reason that this side gives for the end, with its code.
pub(super) type Closing = Option<(CloseCode, String)>;

/// State that a link's connections share.
#[derive(Debug)]
pub(super) struct LinkState {
    phase: watch::Sender<Phase>,
    /// Reason why one of its lanes broke. The first reason stays.
    broken_lane: watch::Sender<Option<String>>,
    /// Smoothed round trip in microseconds; 0 until one is measured.
    rtt_micros: AtomicU64,
}

#[derive(Debug, Clone)]
enum Phase {
    /// The peer has not answered on the anchor yet.
    Begun,
    /// The peer is there.
    Open,
    /// The link has ended.
    Ended(Closed),
}

impl LinkState {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            phase: watch::Sender::new(Phase::Begun),
            broken_lane: watch::Sender::new(None),
            rtt_micros: AtomicU64::new(0),
        })
    }

    /// Waits until the peer has answered on the anchor. Fails if the link ended before.
    pub(super) async fn open(&self) -> Result<(), Closed> {
        let mut phase = self.phase.subscribe();
        match phase.wait_for(|phase| !matches!(phase, Phase::Begun)).await.map(|phase| phase.clone()) {
            Ok(Phase::Ended(closed)) => Err(closed),
            _ => Ok(()),
        }
    }

    /// Waits for the end of the link.
    pub(super) async fn closed(&self) -> Closed {
        let mut phase = self.phase.subscribe();
        match phase.wait_for(|phase| matches!(phase, Phase::Ended(_))).await.map(|phase| phase.clone()) {
            Ok(Phase::Ended(closed)) => closed,
            // The sender lives as long as this.
            _ => Closed::Here,
        }
    }

    /// Takes that one of the link's lanes broke, which ends the link.
    pub(super) fn lane_broke(&self, error: &io::Error) {
        self.broken_lane.send_if_modified(|broken| {
            let is_first = broken.is_none();
            broken.get_or_insert_with(|| handshake::closed(error).to_string());
            is_first
        });
    }

    /// Returns true if one of the link's lanes broke.
    pub(super) fn has_broken_lane(&self) -> bool {
        self.broken_lane.borrow().is_some()
    }

    /// Returns the smoothed round trip.
    pub(super) fn rtt(&self) -> Duration {
        Duration::from_micros(self.rtt_micros.load(Ordering::Relaxed))
    }

    /// Takes a measured round trip. A new one weighs an eighth, as in TCP (RFC 6298).
    fn measured(&self, round_trip: Duration) {
        let new = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX).max(1);
        let smoothed = match self.rtt_micros.load(Ordering::Relaxed) {
            0 => new,
            before => before - before / 8 + new / 8,
        };
        self.rtt_micros.store(smoothed, Ordering::Relaxed);
    }

    fn enter(&self, next: Phase) {
        self.phase.send_if_modified(|phase| {
            let is_forward =
                !matches!((&*phase, &next), (Phase::Ended(_), _) | (Phase::Open, Phase::Begun | Phase::Open));
            if is_forward {
                *phase = next;
            }
            is_forward
        });
    }
}

/// The links over QUIC of one peer.
pub(super) struct Replaceable {
    pub(super) links: LiveQuicLinks,
    pub(super) peer: SpiffeId,
}

impl Replaceable {
    /// Ends the link with this key, if it is this peer's.
    fn end(&self, key: &[u8]) {
        let link = key.try_into().ok().and_then(|key| self.links.of(LinkKey(key), &self.peer));
        if let Some(link) = link {
            tracing::info!(peer = %self.peer, "the peer's link over QUIC is replaced by one over TCP");
            link.close(CloseCode::Done.number().into(), b"replaced by a link over TCP");
        }
    }
}

/// Runs an anchor from its TLS handshake to the end of its link.
pub(super) struct AnchorTask {
    stream: TlsStream<TcpStream>,
    decoder: FrameDecoder,
    state: Arc<LinkState>,
    closing: watch::Receiver<Closing>,
    replaces: watch::Receiver<Option<LinkKey>>,
    replaceable: Replaceable,
    idle_timeout: Duration,
    /// Time of the last bytes from the peer.
    heard: Instant,
    /// The last ping and its time, until its pong comes.
    pinged: Option<(u64, Instant)>,
    pings: u64,
}

impl AnchorTask {
    /// Makes the task. The link ends when `closing` gets a reason, and when its sender is dropped.
    pub(super) fn new(
        stream: TlsStream<TcpStream>,
        state: Arc<LinkState>,
        closing: watch::Receiver<Closing>,
        replaces: watch::Receiver<Option<LinkKey>>,
        replaceable: Replaceable,
        idle_timeout: Duration,
    ) -> Self {
        Self {
            stream,
            decoder: FrameDecoder::new(ANCHOR_FRAME_BYTES_MAX),
            state,
            closing,
            replaces,
            replaceable,
            idle_timeout,
            heard: Instant::now(),
            pinged: None,
            pings: 0,
        }
    }

    /// Runs until the link has ended and the peer knows. `opening` is sent first.
    pub(super) async fn run(mut self, opening: &[u8]) {
        let closed = match self.ping(opening).await {
            Ok(()) => self.live().await,
            Err(closed) => closed,
        };
        // The peer's own reason may be on its way.
        let words = if matches!(closed, Closed::Broken(_)) { self.last_words().await } else { None };
        let closed = words.unwrap_or(closed);
        let is_ours = matches!(closed, Closed::Here);
        self.state.enter(Phase::Ended(closed));
        if is_ours {
            let _slow = timeout(CLOSE_TIME, self.announce_end()).await;
        }
    }

    async fn live(&mut self) -> Closed {
        let every = keep_alive_interval(self.idle_timeout);
        let mut beat = interval_at(Instant::now() + every, every);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut broken = self.state.broken_lane.subscribe();
        loop {
            let silent_at = self.heard + self.idle_timeout;
            let went_on = tokio::select! {
                read = self.stream.read_buf(self.decoder.buffer_mut()) => self.take(read).await,
                _ = beat.tick() => self.ping(&[]).await,
                // An error means that nobody holds the link any more.
                _ = self.closing.changed() => Err(Closed::Here),
                Ok(()) = self.replaces.changed() => self.replace().await,
                why = broken_lane(&mut broken) => Err(Closed::Broken(format!("one of its lanes: {why}"))),
                () = sleep_until(silent_at) => Err(Closed::TimedOut),
            };
            if let Err(closed) = went_on {
                return closed;
            }
        }
    }

    /// Takes the result of a read.
    async fn take(&mut self, read: io::Result<usize>) -> Result<(), Closed> {
        match read {
            Ok(0) => return Err(handshake::gone()),
            Ok(_) => self.heard = Instant::now(),
            Err(error) => return Err(handshake::closed(&error)),
        }
        let mut answers = BytesMut::new();
        while let Some(message) = self.next().map_err(|error| Closed::Broken(error.to_string()))? {
            match message.kind {
                Some(anchor::Kind::Ping(Ping { number })) => push(&Pong { number }.into(), &mut answers),
                Some(anchor::Kind::Pong(Pong { number })) => self.handle_pong(number),
                Some(anchor::Kind::Close(close)) => return Err(by_peer(&close)),
                Some(anchor::Kind::Replaces(Replaces { key })) => self.replaceable.end(&key),
                // A message of a later version, which may be ignored.
                None => {}
            }
        }
        if answers.is_empty() { Ok(()) } else { self.write(&answers).await }
    }

    fn next(&mut self) -> Result<Option<Anchor>, FrameError> {
        self.decoder.next_frame()?.map(frame::decode).transpose()
    }

    fn handle_pong(&mut self, number: u64) {
        if let Some((_, at)) = self.pinged.take_if(|(sent, _)| *sent == number) {
            self.state.measured(at.elapsed());
            self.state.enter(Phase::Open);
        }
    }

    /// Sends a ping, after these bytes.
    async fn ping(&mut self, first: &[u8]) -> Result<(), Closed> {
        self.pings += 1;
        let mut bytes = BytesMut::from(first);
        push(&Ping { number: self.pings }.into(), &mut bytes);
        self.pinged = Some((self.pings, Instant::now()));
        self.write(&bytes).await
    }

    /// Tells the peer which link this one replaces.
    async fn replace(&mut self) -> Result<(), Closed> {
        let Some(LinkKey(key)) = *self.replaces.borrow() else { return Ok(()) };
        let mut bytes = BytesMut::new();
        push(&Replaces { key: Bytes::copy_from_slice(&key) }.into(), &mut bytes);
        self.write(&bytes).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        let stream = &mut self.stream;
        let written = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        match timeout(self.idle_timeout, written).await {
            Ok(written) => written.map_err(|error| handshake::closed(&error)),
            Err(_) => Err(Closed::TimedOut),
        }
    }

    /// Waits shortly for the reason that the peer gives: a message or a TLS alert.
    async fn last_words(&mut self) -> Option<Closed> {
        let words = async {
            loop {
                while let Ok(Some(message)) = self.next() {
                    if let Some(anchor::Kind::Close(close)) = message.kind {
                        return Some(by_peer(&close));
                    }
                }
                match self.stream.read_buf(self.decoder.buffer_mut()).await {
                    Ok(1..) if self.decoder.announced().is_ok() => {}
                    Ok(_) => return None,
                    Err(error) => {
                        let closed = handshake::closed(&error);
                        return matches!(closed, Closed::RefusedByPeer(_)).then_some(closed);
                    }
                }
            }
        };
        timeout(CUT_TIME, words).await.ok().flatten()
    }

    /// Tells the peer why the link ends, and waits until it has closed its side.
    async fn announce_end(&mut self) {
        let said = self.closing.borrow().clone();
        let (code, sentence) = said.unwrap_or((CloseCode::Done, String::new()));
        let mut bytes = BytesMut::new();
        push(&Close { code: code.number(), sentence: printable(&sentence) }.into(), &mut bytes);
        if self.write(&bytes).await.is_ok() && self.stream.shutdown().await.is_ok() {
            let mut unread = [0; 1_024];
            while matches!(self.stream.read(&mut unread).await, Ok(1..)) {}
        }
    }
}

/// Waits until a lane breaks. Returns the reason.
async fn broken_lane(broken: &mut watch::Receiver<Option<String>>) -> String {
    let why = broken.wait_for(Option::is_some).await;
    why.ok().and_then(|why| why.clone()).unwrap_or_default()
}

fn by_peer(close: &Close) -> Closed {
    Closed::ByPeer { code: CloseCode::from_number(close.code.into()), sentence: printable(&close.sentence) }
}

fn push(message: &Anchor, bytes: &mut BytesMut) {
    if let Err(error) = frame::encode(message, ANCHOR_FRAME_BYTES_MAX, bytes) {
        tracing::error!(%error, "an anchor's message is too long, and is not sent");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_of_a_broken_lane_stays() {
        let state = LinkState::new();
        assert!(!state.has_broken_lane());
        state.lane_broke(&io::Error::from(io::ErrorKind::TimedOut));
        state.lane_broke(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(state.broken_lane.borrow().as_deref().is_some_and(|why| why.contains("idle timeout")));
    }

    #[test]
    fn a_link_that_has_ended_is_not_opened_again() {
        let state = LinkState::new();
        state.enter(Phase::Ended(Closed::Here));
        state.enter(Phase::Open);
        assert!(matches!(*state.phase.borrow(), Phase::Ended(Closed::Here)));
    }

    #[test]
    fn the_longest_sentence_fits_a_frame() {
        let mut bytes = BytesMut::new();
        let sentence = printable(&"\u{1f600}".repeat(9_999));
        push(&Close { code: u32::MAX, sentence }.into(), &mut bytes);
        assert!(!bytes.is_empty());
    }

    #[test]
    fn a_round_trip_is_smoothed() {
        let state = LinkState::new();
        state.measured(Duration::from_millis(8));
        assert_eq!(state.rtt(), Duration::from_millis(8));
        state.measured(Duration::from_millis(16));
        assert_eq!(state.rtt(), Duration::from_millis(9));
    }
}
