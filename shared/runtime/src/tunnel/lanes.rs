//! Frames on a lane: a reader that cuts them out of the stream, a queue to send from anywhere, and its writer.
//!
//! Sending never waits: a frame is appended to its lane's buffer, and the lane's writer takes all that has gathered and
//! writes it in one go. What gathers is bounded for the link as a whole; a peer that does not read loses its link
//! instead of filling our memory.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bridge_protocol::wire::frame::{FrameDecoder, FrameError, HEADER_BYTES};
use bytes::{Bytes, BytesMut};
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::end::LinkEnd;
use crate::telemetry::metrics::{Direction, Metrics};

/// Waiting on one link, all lanes together. The sender's window keeps it far below, unless the peer stops reading.
const QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Room made for one read: some forty packets.
const READ_BYTES: usize = 64 * 1024;

/// Below this much room the buffer is extended before the next read.
const READ_BYTES_MIN: usize = 4 * 1024;

/// The link has ended; what was sent may or may not have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the link is closed")]
pub struct Closed;

/// Sends frames on one link.
#[derive(Debug, Clone)]
pub struct LinkSender {
    queues: Arc<Queues>,
}

impl LinkSender {
    /// Queues a whole frame (as `wire::frame::to_bytes` makes it) on an order lane, `0..LinkUp::lanes`; never waits.
    ///
    /// Frames of one lane arrive in order. `Ok` says that the frame is queued, not that it will arrive.
    pub fn send(&self, lane: u8, frame: Bytes) -> Result<(), Closed> {
        let queue = self.queues.orders.get(usize::from(lane)).ok_or(Closed)?;
        self.queues.send(queue, &frame)
    }

    /// The same on the payment lane, where `LinkUp::payments` says that there is one.
    pub fn send_payment(&self, frame: &[u8]) -> Result<(), Closed> {
        self.queues.send(&self.queues.payments, frame)
    }

    /// Ends the link: a frame of the peer is no message of this protocol, as only the owner can tell.
    pub fn refuse(&self, error: &FrameError) {
        self.queues.condemn(LinkEnd::Violation(error.to_string()));
    }
}

/// Sends frames on the feed lane of one link.
#[derive(Debug, Clone)]
pub struct FeedSender {
    queues: Arc<Queues>,
}

impl FeedSender {
    /// Queues a whole frame (as `wire::frame::to_bytes` makes it); never waits.
    pub fn send(&self, frame: &[u8]) -> Result<(), Closed> {
        self.queues.send(&self.queues.feed, frame)
    }

    /// Ends the link: what the peer sent is against the feed's rules, as only the owner can tell.
    pub fn refuse(&self, why: &impl ToString) {
        self.queues.condemn(LinkEnd::Violation(why.to_string()));
    }
}

/// Counts frames; clones count on the same counters.
#[derive(Debug, Clone, Default)]
pub(super) struct Traffic {
    frames: [Counter; 2],
    bytes: [Counter; 2],
}

impl Traffic {
    pub(super) fn of(metrics: &Metrics) -> Self {
        let both = [Direction::Sent, Direction::Received];
        Self {
            frames: both.map(|direction| metrics.frames.of(direction).clone()),
            bytes: both.map(|direction| metrics.frame_bytes.of(direction).clone()),
        }
    }

    /// One frame was sent or queued, of so many bytes with its head.
    pub(super) fn sent(&self, bytes: usize) {
        let ([frames, _], [counted, _]) = (&self.frames, &self.bytes);
        frames.inc();
        counted.inc_by(bytes as u64);
    }

    /// One frame was received, with so many bytes of payload.
    pub(super) fn received(&self, payload: usize) {
        let ([_, frames], [_, counted]) = (&self.frames, &self.bytes);
        frames.inc();
        counted.inc_by((HEADER_BYTES + payload) as u64);
    }
}

/// What waits to be written on a link.
#[derive(Debug)]
pub(super) struct Queues {
    traffic: Traffic,
    orders: Vec<Queue>,
    /// Stays empty on a link without a feed lane.
    feed: Queue,
    /// Stays empty on a link without a payment lane.
    payments: Queue,
    /// Waiting or being written, all lanes together.
    bytes: AtomicUsize,
    bytes_max: usize,
    /// How long a lane may take nothing at all.
    stalled_after: Duration,
    /// Why the link must end, once that is found here; the first reason stands.
    verdict: Mutex<Option<LinkEnd>>,
    condemned: Notify,
}

#[derive(Debug)]
struct Queue {
    /// `None` once the link has ended.
    waiting: Mutex<Option<BytesMut>>,
    filled: Notify,
}

impl Queues {
    /// Empty queues for that many order lanes.
    pub(super) fn new(lanes: u8, stalled_after: Duration, traffic: Traffic) -> Arc<Self> {
        Self::bounded(lanes, QUEUED_BYTES_MAX, stalled_after, traffic)
    }

    fn bounded(lanes: u8, bytes_max: usize, stalled_after: Duration, traffic: Traffic) -> Arc<Self> {
        let orders = std::iter::repeat_with(Queue::default).take(usize::from(lanes)).collect();
        let (verdict, condemned) = (Mutex::new(None), Notify::new());
        let (feed, payments, bytes) = (Queue::default(), Queue::default(), AtomicUsize::new(0));
        Arc::new(Self {
            traffic,
            orders,
            feed,
            payments,
            bytes,
            bytes_max,
            stalled_after,
            verdict,
            condemned,
        })
    }

    /// The owner's end of the order lanes.
    pub(super) fn sender(self: &Arc<Self>) -> LinkSender {
        LinkSender { queues: self.clone() }
    }

    /// The owner's end of the feed lane.
    pub(super) fn feed_sender(self: &Arc<Self>) -> FeedSender {
        FeedSender { queues: self.clone() }
    }

    fn send(&self, queue: &Queue, frame: &[u8]) -> Result<(), Closed> {
        {
            let mut waiting = queue.lock();
            let buffer = waiting.as_mut().ok_or(Closed)?;
            let queued = self.bytes.fetch_add(frame.len(), Ordering::Relaxed) + frame.len();
            if queued > self.bytes_max {
                self.condemn(LinkEnd::NotReading);
                return Err(Closed);
            }
            buffer.extend_from_slice(frame);
        }
        self.traffic.sent(frame.len());
        queue.filled.notify_one();
        Ok(())
    }

    /// Waits until a reason is found to end the link.
    pub(super) async fn condemned(&self) -> LinkEnd {
        loop {
            self.condemned.notified().await;
            if let Some(end) = self.verdict.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return end;
            }
        }
    }

    fn condemn(&self, end: LinkEnd) {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(end);
        self.condemned.notify_one();
    }

    /// Makes every further send fail and frees what waits.
    pub(super) fn close(&self) {
        for queue in self.orders.iter().chain([&self.feed, &self.payments]) {
            *queue.lock() = None;
        }
    }

    /// Writes what gathers on an order lane until the link ends or the stream fails.
    pub(super) async fn write_orders(&self, lane: u8, writer: impl AsyncWrite + Unpin) -> io::Result<()> {
        match self.orders.get(usize::from(lane)) {
            Some(queue) => self.write(queue, writer).await,
            None => Ok(()),
        }
    }

    /// The same on the feed lane.
    pub(super) async fn write_feed(&self, writer: impl AsyncWrite + Unpin) -> io::Result<()> {
        self.write(&self.feed, writer).await
    }

    /// The same on the payment lane.
    pub(super) async fn write_payments(&self, writer: impl AsyncWrite + Unpin) -> io::Result<()> {
        self.write(&self.payments, writer).await
    }

    async fn write(&self, queue: &Queue, mut writer: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut batch = BytesMut::new();
        loop {
            match queue.lock().as_mut() {
                Some(waiting) => std::mem::swap(waiting, &mut batch),
                None => return Ok(()),
            }
            if batch.is_empty() {
                queue.filled.notified().await;
                continue;
            }
            let len = batch.len();
            self.write_all(&mut batch, &mut writer).await?;
            writer.flush().await?;
            self.bytes.fetch_sub(len, Ordering::Relaxed);
        }
    }

    /// Writes it all, as long as the peer takes something. One that keeps a lane's window shut has a heart that beats on
    /// another lane, and what waits for it here would never be answered.
    async fn write_all(
        &self,
        batch: &mut BytesMut,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        while !batch.is_empty() {
            match timeout(self.stalled_after, writer.write_buf(batch)).await {
                Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => drop(written?),
                Err(_) => {
                    self.condemn(LinkEnd::NotReading);
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
        Ok(())
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self { waiting: Mutex::new(Some(BytesMut::new())), filled: Notify::new() }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Option<BytesMut>> {
        // Appending to a buffer does not panic halfway.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads frames from a lane.
pub(super) struct FrameReader<R> {
    stream: R,
    decoder: FrameDecoder,
}

/// Why no further frame comes.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The peer broke the framing.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream failed or ended.
    #[error("the stream ended: {0}")]
    Stream(#[from] io::Error),
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames of at most `max` bytes.
    pub(super) fn new(stream: R, max: usize) -> Self {
        Self { stream, decoder: FrameDecoder::new(max) }
    }

    /// The next frame's payload. Cancelling it loses nothing.
    pub(super) async fn next(&mut self) -> Result<Bytes, ReadError> {
        loop {
            if let Some(payload) = self.decoder.next_frame()? {
                return Ok(payload);
            }
            self.read().await?;
        }
    }

    /// How long the next frame will be, once its length has come. Cancelling it loses nothing.
    pub(super) async fn announced(&mut self) -> Result<usize, ReadError> {
        loop {
            if let Some(bytes) = self.decoder.announced()? {
                return Ok(bytes);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        let buffer = self.decoder.buffer_mut();
        if buffer.capacity() - buffer.len() < READ_BYTES_MIN {
            buffer.reserve(READ_BYTES);
        }
        if self.stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bridge_protocol::wire::control::{Control, Heartbeat};
    use bridge_protocol::wire::frame::{self, CONTROL_FRAME_BYTES_MAX};
    use tokio::io::duplex;

    use super::*;

    /// Longer than a test waits.
    const PATIENCE: Duration = Duration::from_secs(3_600);

    fn heartbeat(window: u32) -> Bytes {
        let message = Control::from(Heartbeat { clock_micros: 1, window });
        frame::to_bytes(&message, CONTROL_FRAME_BYTES_MAX).unwrap()
    }

    #[tokio::test]
    async fn frames_arrive_in_the_order_they_were_sent() {
        let queues = Queues::bounded(2, 1 << 20, PATIENCE, Traffic::default());
        let sender = queues.sender();
        let (here, there) = duplex(16);
        let writer = tokio::spawn(async move { queues.write_orders(1, here).await });
        for window in 0..100 {
            sender.send(1, heartbeat(window)).unwrap();
        }
        let mut reader = FrameReader::new(there, CONTROL_FRAME_BYTES_MAX);
        for window in 0..100 {
            let payload = reader.next().await.unwrap();
            assert_eq!(payload, heartbeat(window).slice(4..));
        }
        sender.queues.close();
        sender.queues.orders[1].filled.notify_one();
        writer.await.unwrap().unwrap();
        assert_eq!(sender.queues.bytes.load(Ordering::Relaxed), 0, "all that was counted was written");
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_costs_no_more_than_the_bound() {
        let queues = Queues::bounded(1, 100, PATIENCE, Traffic::default());
        let sender = queues.sender();
        let refused = (0..1000).find(|_| sender.send(0, heartbeat(1)).is_err());
        assert!(refused.is_some_and(|sent| sent * heartbeat(1).len() <= 100));
        assert!(matches!(queues.condemned().await, LinkEnd::NotReading));
    }

    #[tokio::test]
    async fn a_lane_that_takes_nothing_ends_its_link() {
        let queues = Queues::bounded(1, 1 << 20, Duration::from_millis(20), Traffic::default());
        let sender = queues.sender();
        let (here, _never_read) = duplex(16);
        for _ in 0..4 {
            sender.send(0, heartbeat(1)).unwrap();
        }
        assert!(queues.write_orders(0, here).await.is_err());
        assert!(matches!(queues.condemned().await, LinkEnd::NotReading));
    }

    #[tokio::test]
    async fn a_frame_that_its_owner_rejects_ends_the_link_as_violation() {
        let queues = Queues::new(1, PATIENCE, Traffic::default());
        queues.sender().refuse(&FrameError::NotAMessage { len: 3 });
        assert!(matches!(queues.condemned().await, LinkEnd::Violation(_)));
    }

    #[test]
    fn a_closed_link_and_a_missing_lane_take_no_frames() {
        let queues = Queues::new(1, PATIENCE, Traffic::default());
        let sender = queues.sender();
        assert_eq!(sender.send(1, heartbeat(1)), Err(Closed));
        queues.close();
        assert_eq!(sender.send(0, heartbeat(1)), Err(Closed));
    }

    #[tokio::test]
    async fn a_stream_that_ends_within_a_frame_is_an_error() {
        let whole = heartbeat(1);
        let cut = whole.slice(..whole.len() - 1);
        let mut reader = FrameReader::new(&cut[..], CONTROL_FRAME_BYTES_MAX);
        assert!(matches!(reader.next().await, Err(ReadError::Stream(_))));
    }
}
