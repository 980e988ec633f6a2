//! Answers on HTTP/2 streams. An answer that its caller does not take ends alone, and the
//! connection's other streams continue.
//!
//! A caller gives each stream its own window. While it is closed, hyper waits with the stream's
//! task, and data handed to it stays in memory. So an answer is handed over in pieces, and a task
//! whose piece is not taken within a deadline is dropped, which resets its stream (RFC 9113 section
//! 6.4). hyper takes a piece as soon as the window has one byte. So the last byte is a piece of its
//! own: the task ends only after there is room for the whole answer.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::{Sleep, sleep};

use crate::metrics::Metrics;

/// Data that a caller must take of a stream within the deadline: the usual largest payload of a
/// frame.
const PIECE_BYTES: usize = 16 * 1024;

/// Runs the streams of one thread's connections, and hyper's other tasks, on that thread: a
/// connection's futures hold its view of the catalogue.
#[derive(Clone)]
pub(in crate::storefront) struct Streams {
    /// The stream whose request hyper has just reported. Its task is spawned next.
    begun: Rc<Cell<Option<Rc<DeliveryProgress>>>>,
    deadline: Duration,
    metrics: Arc<Metrics>,
}

/// Delivery of an answer to its caller.
#[derive(Debug, Default)]
pub(in crate::storefront) struct DeliveryProgress {
    /// Set after the answer is ready.
    is_answered: Cell<bool>,
    /// Set if a piece was taken since the last check.
    has_moved: Cell<bool>,
}

/// An answer's body, split into pieces if its delivery is watched.
pub(in crate::storefront) struct PiecewiseBody {
    body: Either<Full<Bytes>, Body>,
    /// The rest of the body's last frame.
    rest: Bytes,
    taking: Option<Rc<DeliveryProgress>>,
}

impl Streams {
    /// Makes an executor that resets streams without progress for this time.
    pub(in crate::storefront) fn new(deadline: Duration, metrics: Arc<Metrics>) -> Self {
        Self { begun: Rc::default(), deadline, metrics }
    }

    /// Notes an HTTP/2 request, whose task hyper spawns next.
    pub(in crate::storefront) fn begin(&self) -> Rc<DeliveryProgress> {
        let taking = Rc::<DeliveryProgress>::default();
        self.begun.set(Some(taking.clone()));
        taking
    }
}

impl<F: Future + 'static> Executor<F> for Streams {
    fn execute(&self, future: F) {
        let Some(taking) = self.begun.take() else {
            tokio::task::spawn_local(async { drop(future.await) });
            return;
        };
        let Self { deadline, metrics, .. } = self.clone();
        tokio::task::spawn_local(async move {
            if taking.watch(future, deadline).await.is_none() {
                metrics.streams_stalled.inc();
            }
        });
    }
}

impl DeliveryProgress {
    /// Runs a stream's task. Returns `None` if its answer was ready and nothing of it was taken for
    /// a deadline.
    async fn watch<F: Future>(&self, task: F, deadline: Duration) -> Option<F::Output> {
        let (mut task, mut timer) = (pin!(task), pin!(None::<Sleep>));
        poll_fn(|cx| {
            if let Poll::Ready(output) = task.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            if !self.is_answered.get() {
                return Poll::Pending;
            }
            // Most answers are taken at once and need no timer.
            if self.has_moved.take() || timer.is_none() {
                timer.set(Some(sleep(deadline)));
            }
            match timer.as_mut().as_pin_mut() {
                Some(timer) => timer.poll(cx).map(|()| None),
                None => Poll::Pending,
            }
        })
        .await
    }
}

impl PiecewiseBody {
    /// Makes a body that notes its delivery in `taking`.
    pub(in crate::storefront) fn of(
        body: Either<Full<Bytes>, Body>,
        taking: Option<Rc<DeliveryProgress>>,
    ) -> Self {
        if let Some(taking) = &taking {
            taking.is_answered.set(true);
        }
        Self { body, rest: Bytes::new(), taking }
    }

    fn piece(&mut self) -> Bytes {
        let is_last = self.rest.len() <= PIECE_BYTES && self.body.is_end_stream();
        let length = if is_last && self.rest.len() > 1 { self.rest.len() - 1 } else { self.rest.len() };
        self.rest.split_to(length.min(PIECE_BYTES))
    }
}

impl HttpBody for PiecewiseBody {
    type Data = Bytes;
    type Error = <Either<Full<Bytes>, Body> as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(taking) = &self.taking else { return Pin::new(&mut self.body).poll_frame(cx) };
        taking.has_moved.set(true);
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(self.piece()))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        match hint.exact() {
            Some(exact) => hint.set_exact(exact + rest),
            None => hint.set_lower(hint.lower() + rest),
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    const DEADLINE: Duration = Duration::from_millis(20);

    fn pieces(length: usize) -> PiecewiseBody {
        PiecewiseBody::of(Either::Left(Full::new(Bytes::from(vec![7; length]))), Some(Rc::default()))
    }

    #[tokio::test]
    async fn an_answer_is_whole_and_its_last_byte_comes_by_itself() {
        for length in [0, 1, 2, 1_400, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES] {
            let (mut body, mut lengths) = (pieces(length), Vec::new());
            assert_eq!(body.size_hint().exact(), Some(length as u64));
            while let Some(frame) = body.frame().await {
                lengths.push(frame.unwrap().into_data().unwrap().len());
                let left = length - lengths.iter().sum::<usize>();
                assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(left as u64), left == 0));
            }
            assert_eq!(lengths.iter().sum::<usize>(), length);
            assert!(lengths.iter().all(|piece| (1..=PIECE_BYTES).contains(piece)), "{lengths:?}");
            assert_eq!(lengths.last().copied(), (length > 0).then_some(1));
        }
    }

    #[tokio::test]
    async fn a_stream_taken_slowly_goes_on_and_an_untaken_one_ends() {
        let taking = DeliveryProgress::default();
        // The caller is not at fault while no answer has come. A piece that the caller takes
        // exactly at the deadline counts.
        let late = async {
            sleep(DEADLINE * 3).await;
            taking.is_answered.set(true);
            for _ in 0..5 {
                taking.has_moved.set(true);
                sleep(DEADLINE / 2).await;
            }
        };
        assert_eq!(taking.watch(late, DEADLINE).await, Some(()));
        taking.is_answered.set(true);
        assert_eq!(taking.watch(std::future::pending::<()>(), DEADLINE).await, None);
    }
}
