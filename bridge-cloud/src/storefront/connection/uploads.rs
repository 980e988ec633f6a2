//! Bodies of requests that are still arriving. A request without its whole body has had no effect.
//! So if a new caller needs room, such a request may be given up; it is answered 408.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

/// Incomplete bodies of one connection. Each is shared with its request, which another thread may
/// hold.
#[derive(Default)]
pub(super) struct Uploads(RefCell<Vec<Arc<SharedUpload>>>);

/// State of a body that a request and its connection share.
#[derive(Default)]
struct SharedUpload(Mutex<UploadState>);

#[derive(Default)]
struct UploadState {
    is_given_up: bool,
    /// Waker of the task that waits for its next part.
    reader: Option<Waker>,
}

/// A body that is not whole.
struct Upload<B> {
    body: B,
    /// `None` after it is whole.
    waiting: Option<Arc<SharedUpload>>,
}

/// The body was given up because its connection had to make room.
#[derive(Debug)]
struct GivenUp;

impl Uploads {
    /// Returns the body for its request.
    pub(super) fn watch<B>(&self, body: B) -> Body
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        if body.is_end_stream() {
            return Body::new(body);
        }
        let waiting = Arc::<SharedUpload>::default();
        let mut uploads = self.0.borrow_mut();
        uploads.retain(is_open);
        uploads.push(waiting.clone());
        Body::new(Upload { body, waiting: Some(waiting) })
    }

    /// Returns the number of incomplete bodies whose requests still wait.
    pub(super) fn open(&self) -> usize {
        self.0.borrow().iter().filter(|waiting| is_open(waiting)).count()
    }

    /// Gives up all of them.
    pub(super) fn give_up(&self) {
        self.0.borrow().iter().for_each(|waiting| waiting.give_up());
    }
}

/// Returns true if its request still holds it.
fn is_open(waiting: &Arc<SharedUpload>) -> bool {
    Arc::strong_count(waiting) > 1
}

impl SharedUpload {
    fn give_up(&self) {
        let mut standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        standing.is_given_up = true;
        if let Some(reader) = standing.reader.take() {
            reader.wake();
        }
    }

    /// Waits until the body is given up.
    fn poll(&self, cx: &Context<'_>) -> Poll<GivenUp> {
        let mut standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.is_given_up {
            return Poll::Ready(GivenUp);
        }
        let known = standing.reader.take().filter(|reader| reader.will_wake(cx.waker()));
        standing.reader = known.or_else(|| Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl<B> HttpBody for Upload<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match (&frame, &self.waiting) {
            (Poll::Pending, Some(waiting)) => waiting.poll(cx).map(|given_up| Some(Err(given_up.into()))),
            (Poll::Ready(Some(Ok(_))), _) if !self.body.is_end_stream() => frame.map_err(Into::into),
            (_, _) => {
                self.waiting = None;
                frame.map_err(Into::into)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body was not whole when its connection had to make room")
    }
}

impl Error for GivenUp {}

/// Returns true if a body was given up for this reason.
pub(in crate::storefront) fn is_given_up(error: axum::Error) -> bool {
    error.into_inner().is::<GivenUp>()
}
