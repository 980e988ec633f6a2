//! Frames on a lane: a reader that splits the stream into frames, a send queue for any task, and
//! its writer.
//!
//! Sending never waits. A frame is appended to its lane's buffer, and the lane's writer writes
//! everything in the buffer at once. The buffers are bounded for the link as a whole: a peer that
//! does not read loses its link instead of filling our memory.

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

/// Bytes that wait on all lanes of one link. The sender's window keeps them far below, unless the
/// peer stops reading.
const QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Room that is made for one read: about forty packets.
const READ_BYTES: usize = 64 * 1024;

/// The buffer is extended before the next read if it has less room than this.
const READ_BYTES_MIN: usize = 4 * 1024;

/// The link has ended. Sent frames may or may not have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the link is closed")]
pub struct Closed;

/// Sends frames on one link.
#[derive(Debug, Clone)]
pub struct LinkSender {
    queues: Arc<Queues>,
}

impl LinkSender {
    /// Queues a whole frame (made by `wire::frame::to_bytes`) on an order lane, `0..LinkUp::lanes`.
    /// It never waits.
    ///
    /// Frames of one lane arrive in order. `Ok` means that the frame is queued, not that it will
    /// arrive.
    ///
    /// # Errors
    ///
    /// Fails if the link has ended or has no such lane.
    pub fn send(&self, lane: u8, frame: Bytes) -> Result<(), Closed> {
        let queue = self.queues.orders.get(usize::from(lane)).ok_or(Closed)?;
        self.queues.send(queue, &frame)
    }

    /// Queues a whole frame on the payment lane, if `LinkUp::payments` is set.
    ///
    /// # Errors
    ///
    /// Fails if the link has ended.
    pub fn send_payment(&self, frame: &[u8]) -> Result<(), Closed> {
        self.queues.send(&self.queues.payments, frame)
    }

    /// Ends the link because a frame of the peer is no message of the protocol. Only the owner can
    /// detect it.
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
    /// Queues a whole frame (made by `wire::frame::to_bytes`). It never waits.
    ///
    /// # Errors
    ///
    /// Fails if the link has ended.
    pub fn send(&self, frame: &[u8]) -> Result<(), Closed> {
        self.queues.send(&self.queues.feed, frame)
    }

    /// Ends the link because the peer broke the feed's rules. Only the owner can detect it.
    pub fn refuse(&self, why: &impl ToString) {
        self.queues.condemn(LinkEnd::Violation(why.to_string()));
    }
}

/// Counts frames. Clones share the counters.
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

    /// Counts a frame that was sent or queued, by its size with the length.
    pub(super) fn sent(&self, bytes: usize) {
        let ([frames, _], [counted, _]) = (&self.frames, &self.bytes);
        frames.inc();
        counted.inc_by(bytes as u64);
    }

    /// Counts a received frame, by the size of its payload.
    pub(super) fn received(&self, payload: usize) {
        let ([_, frames], [_, counted]) = (&self.frames, &self.bytes);
        frames.inc();
        counted.inc_by((HEADER_BYTES + payload) as u64);
    }
}

/// Frames that wait to be written on a link.
#[derive(Debug)]
pub(super) struct Queues {
    traffic: Traffic,
    orders: Vec<Queue>,
    /// Empty on a link without a feed lane.
    feed: Queue,
    /// Empty on a link without a payment lane.
    payments: Queue,
    /// Bytes that wait or are being written, on all lanes together.
    bytes: AtomicUsize,
    bytes_max: usize,
    /// Time without any progress after which a lane counts as stalled.
    stalled_after: Duration,
    /// Reason why the link must end, if it was found here. The first reason stays.
    verdict: Mutex<Option<LinkEnd>>,
    condemned: Notify,
}

#[derive(Debug)]
struct Queue {
    /// `None` after the link has ended.
    waiting: Mutex<Option<BytesMut>>,
    filled: Notify,
}

impl Queues {
    /// Makes empty queues for this many order lanes.
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

    /// Returns the owner's sender for the order and payment lanes.
    pub(super) fn sender(self: &Arc<Self>) -> LinkSender {
        LinkSender { queues: self.clone() }
    }

    /// Returns the owner's sender for the feed lane.
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

    /// Waits for a reason to end the link.
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

    /// Makes every later send fail, and drops the waiting frames.
    pub(super) fn close(&self) {
        for queue in self.orders.iter().chain([&self.feed, &self.payments]) {
            *queue.lock() = None;
        }
    }

    /// Writes the queued frames of an order lane until the link ends or the stream fails.
    pub(super) async fn write_orders(&self, lane: u8, writer: impl AsyncWrite + Unpin) -> io::Result<()> {
        match self.orders.get(usize::from(lane)) {
            Some(queue) => self.write(queue, writer).await,
            None => Ok(()),
        }
    }

    /// Does the same for the feed lane.
    pub(super) async fn write_feed(&self, writer: impl AsyncWrite + Unpin) -> io::Result<()> {
        self.write(&self.feed, writer).await
    }

    /// Does the same for the payment lane.
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

    /// Writes everything as long as the peer takes some of it. A peer may send heartbeats on the
    /// control lane and still keep another lane's window closed. Requests on that lane would never
    /// be answered.
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
        // Appending to a buffer cannot panic halfway.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads frames from a lane.
pub(super) struct FrameReader<R> {
    stream: R,
    decoder: FrameDecoder,
}

/// Reasons why no further frame comes.
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
    /// Makes a reader of frames of at most `max` bytes.
    pub(super) fn new(stream: R, max: usize) -> Self {
        Self { stream, decoder: FrameDecoder::new(max) }
    }

    /// Returns the next frame's payload. Cancelling it loses nothing.
    pub(super) async fn next(&mut self) -> Result<Bytes, ReadError> {
        loop {
            if let Some(payload) = self.decoder.next_frame()? {
                return Ok(payload);
            }
            self.read().await?;
        }
    }

    /// Returns the size of the next frame's payload, after its length has arrived. Cancelling it
    /// loses nothing.
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

    /// A time that is longer than a test runs.
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
        assert_eq!(
            sender.queues.bytes.load(Ordering::Relaxed),
            0,
            "the queue still counts bytes that were written"
        );
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
