//! A connection's bytes on their way to hyper. Every transfer is noted as activity, ambiguous
//! requests are refused, and remains of a body in hyper's buffer are overwritten.
//!
//! A caller may close its sending side after its last request and wait for the answer (`shutdown`;
//! `nc -N` and some C clients do so). hyper would count such a caller as gone, so it sees the end
//! only after the last answer is written. A caller that is really gone looks the same until
//! something is written to it. Its requests continue in either case.
//!
//! A refused request is replaced by a request of our own, which the front answers with the reason.
//! So this answer keeps its order after those of earlier requests. hyper's own answer to a request
//! that it cannot read is suppressed, because the front gives the same answer.
//!
//! hyper keeps its read buffer and offers the free part of it on each read. Over HTTP/1.1 this is
//! the whole buffer, unless it holds an incomplete request or was enlarged. So a head is handed
//! over whole. Over HTTP/2 it is the whole buffer after the rest was filled (`frames`). Buffers
//! that are freed are wiped by the allocator.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf, Take};
use tokio::net::TcpStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::answer_batcher::AnswerBatcher;
use super::connections::ConnectionActivity;
use super::frames::{Frames, PREFACE};
use super::lines::{Lines, Refusal, Refused};

/// Size of hyper's HTTP/1.1 buffer until something does not fit.
const BUFFER_BYTES: usize = 8 * 1024;

/// Most bytes of one read. hyper enlarges its buffer after a read that fills it.
const READ_BYTES_MAX: usize = BUFFER_BYTES - 1;

/// Path of the request that replaces a refused one. No real path has it.
pub(in crate::storefront) const REFUSED_PATH: &str = "/refused";

/// The request that replaces a refused one.
const IN_PLACE_OF_REFUSED: &[u8] = b"GET /refused HTTP/1.1\r\nhost: bridge\r\nconnection: close\r\n\r\n";

/// Offset of an answer's status.
const STATUS_AT: usize = "HTTP/1.1 ".len();

/// Header line of an answer without a body.
const NOTHING_MORE: &[u8] = b"content-length: 0\r\n";

/// End of a head, followed by the start of a read.
const NEXT_READ: &[u8] = b"\r\n\r\nGET ";

/// Pipelined reads after the first one from which on a caller's answers are batched.
const PIPELINED_FROM: usize = 3;

/// Time for which data after the last answer is still read.
const LINGER_FOR: Duration = Duration::from_secs(2);

/// Most bytes of such data.
const LINGER_BYTES_MAX: u64 = 1 << 20;

/// Size of one read of such data in `poll_shutdown`.
const LEFT_BYTES: usize = 512;

/// HTTP version of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::storefront) enum Version {
    One,
    Two,
}

/// A watched stream of a caller.
pub(in crate::storefront) struct WatchedStream {
    stream: Take<TcpStream>,
    /// The first bytes, which are not processed yet.
    first: Zeroizing<Vec<u8>>,
    speaks: HttpState,
    /// Batcher for a caller that pipelines many reads.
    together: Option<AnswerBatcher>,
    activity: Rc<ConnectionActivity>,
}

/// State of the HTTP version.
enum HttpState {
    One(Http1State),
    Two(Http2State),
}

#[derive(Default)]
struct Http1State {
    lines: Lines,
    /// Start of a head, kept until its end arrives.
    open: Vec<u8>,
    next: NextBytes,
    /// Set if hyper has refused a request by itself.
    has_refused: bool,
    /// Set if hyper's buffer has, or had, a part of a body.
    is_dirty: bool,
    /// Set if the caller sends no more and hyper does not know yet.
    has_ended: bool,
}

/// The next bytes for hyper.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum NextBytes {
    /// The caller's bytes.
    #[default]
    Requests,
    /// The request that replaces a refused one.
    Refused,
    /// No more requests.
    Nothing,
    /// An error, because it is in the middle of a request.
    Error,
}

#[derive(Default)]
struct Http2State {
    frames: Frames,
    /// Set if the buffer was filled to its end. The next read then starts with an empty buffer.
    is_full: bool,
}

impl WatchedStream {
    /// Makes a watched stream that has read nothing yet.
    pub(in crate::storefront) fn of(stream: TcpStream, activity: Rc<ConnectionActivity>) -> Self {
        let speaks = HttpState::One(Http1State::default());
        let stream = stream.take(READ_BYTES_MAX as u64);
        Self { stream, first: Zeroizing::default(), speaks, together: None, activity }
    }

    /// Waits until the HTTP version is known. Fails if the caller hangs up before.
    pub(in crate::storefront) async fn version(&mut self) -> io::Result<Version> {
        // All memory is reserved first: a growing buffer leaves copies.
        self.first.reserve_exact(READ_BYTES_MAX);
        let version = loop {
            if self.stream.read_buf(&mut *self.first).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let known = self.first.iter().zip(PREFACE).take_while(|(said, known)| said == known).count();
            match known {
                _ if known == PREFACE.len() => break Version::Two,
                _ if known < self.first.len() => break Version::One,
                _ => {}
            }
        };
        match version {
            Version::One => self.together = self.is_pipelined().then(AnswerBatcher::default),
            Version::Two => self.speaks = HttpState::Two(Http2State::default()),
        }
        self.activity.greeted();
        Ok(version)
    }

    /// Returns true if the caller pipelines many reads.
    fn is_pipelined(&self) -> bool {
        let ends = self.first.windows(NEXT_READ.len()).filter(|bytes| *bytes == NEXT_READ);
        self.first.starts_with(&NEXT_READ[4..]) && ends.take(PIPELINED_FROM).count() == PIPELINED_FROM
    }

    /// Returns why the last request was refused, if hyper gave up the connection for it and the
    /// caller does not know.
    pub(in crate::storefront) fn refusal(&self, error: &hyper::Error) -> Option<Refusal> {
        match &self.speaks {
            HttpState::One(one) if one.has_refused && error.is_parse_too_large() => {
                Some(Refusal::HeadTooLarge)
            }
            HttpState::One(one) if one.has_refused => Some(Refusal::Form),
            _ => self.activity.refused(),
        }
    }

    /// Has a request that hyper could not read answered with this reason, by the next reader of
    /// this stream.
    pub(in crate::storefront) fn refuse(&mut self, why: Refusal) {
        self.activity.refuse(why);
        if let HttpState::One(one) = &mut self.speaks {
            one.next = NextBytes::Refused;
        }
    }

    /// Ends the sending side. If a socket is closed with unread data, the kernel discards answers
    /// that the caller has not read. So the rest of an unfinished request is read for a while.
    pub(in crate::storefront) async fn end(mut self) {
        if let Some(together) = &mut self.together {
            let (stream, activity) = (self.stream.get_mut(), &self.activity);
            let _has_hung_up = poll_fn(|cx| together.poll_write(stream, activity, cx)).await;
        }
        let Self { stream, speaks, .. } = self;
        let mut stream = stream.into_inner();
        let is_at_rest = match &speaks {
            HttpState::One(one) => one.next == NextBytes::Requests && one.lines.is_between_requests(),
            HttpState::Two(_) => true,
        };
        if stream.shutdown().await.is_err() || is_at_rest {
            return;
        }
        let mut rest = stream.take(LINGER_BYTES_MAX);
        let mut room = vec![0; BUFFER_BYTES];
        let reading = async { while let Ok(1..) = rest.read(&mut room).await {} };
        let _in_time_or_not = timeout(LINGER_FOR, reading).await;
    }

    /// Returns true if this is hyper's own answer to a request that it cannot read. hyper writes it
    /// at once, and no answer of ours with this beginning is empty.
    fn keeps_back(&mut self, answer: &[u8]) -> bool {
        let HttpState::One(one) = &mut self.speaks else { return false };
        let mut lines = answer.split_inclusive(|byte| *byte == b'\n');
        let is_its = lines.by_ref().take_while(|line| *line != b"\r\n").any(|line| line == NOTHING_MORE);
        one.has_refused |= is_its;
        is_its
    }
}

/// Reads from the first bytes while there are some, then from the stream.
fn poll_next(
    stream: &mut Take<TcpStream>,
    first: &mut Zeroizing<Vec<u8>>,
    cx: &mut Context<'_>,
    into: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    if first.is_empty() {
        return Pin::new(stream).poll_read(cx, into);
    }
    let here = first.len().min(into.remaining());
    into.put_slice(&first[..here]);
    first.drain(..here);
    if first.is_empty() {
        *first = Zeroizing::default();
    }
    Poll::Ready(Ok(()))
}

impl WatchedStream {
    fn poll_one(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, first, speaks: HttpState::One(one), activity, .. } = self else {
            return Poll::Pending;
        };
        if one.is_dirty && into.remaining() <= BUFFER_BYTES {
            into.initialize_unfilled();
            one.is_dirty = false;
        } else if one.is_dirty {
            // The buffer was enlarged for a long head. From then on hyper offers only a part of it.
            activity.leave();
        }
        loop {
            if one.next != NextBytes::Requests {
                return one.instead(into);
            }
            if one.has_ended && activity.owes_an_answer() {
                // Writing the last answer wakes this read again.
                return Poll::Pending;
            }
            let before = into.filled().len();
            if one.open.len() >= into.remaining().min(READ_BYTES_MAX) {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            into.put_slice(&one.open);
            let known = into.filled().len();
            stream.set_limit((READ_BYTES_MAX - one.open.len()) as u64);
            let read = poll_next(stream, first, cx, into);
            if !matches!(read, Poll::Ready(Ok(()))) {
                into.set_filled(before);
                return read;
            }
            let bytes = into.filled().get(known..).unwrap_or_default();
            let length = bytes.len();
            one.has_ended = length == 0 && one.lines.is_between_requests();
            if one.has_ended && activity.owes_an_answer() {
                continue;
            }
            one.open.clear();
            if let Err(refused) = one.lines.take(bytes) {
                one.refuse(activity, refused, before, known, into);
                if into.filled().len() > before {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            if one.lines.had_body() {
                one.is_dirty = true;
                activity.received(length);
            }
            let (all, open) = (into.filled().len() - before, one.lines.open_head());
            // A head that is too long, or partly handed over, is not kept.
            if length == 0 || open == 0 || open > all || all >= READ_BYTES_MAX {
                return Poll::Ready(Ok(()));
            }
            let whole = into.filled().len() - open;
            one.open.extend_from_slice(&into.filled()[whole..]);
            into.set_filled(whole);
            if whole > before {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads for a caller with batched answers: hyper reads after it has answered everything that
    /// it got.
    fn poll_many(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(together) = &mut self.together {
            ready!(together.poll_write(self.stream.get_mut(), &self.activity, cx))?;
        }
        let before = into.filled().len();
        let read = self.poll_one(cx, into);
        if let Some(together) = &mut self.together {
            together.note_read(read.is_ready() && into.filled().len() > before);
        }
        read
    }

    fn poll_two(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, first, speaks: HttpState::Two(two), activity, .. } = self else {
            return Poll::Pending;
        };
        if std::mem::take(&mut two.is_full) {
            into.initialize_unfilled();
        }
        if two.frames.is_filling() {
            return two.fill(into);
        }
        let before = into.filled().len();
        stream.set_limit(u64::MAX);
        let read = poll_next(stream, first, cx, into);
        two.frames.take(into.filled().get(before..).unwrap_or_default());
        activity.received(two.frames.data());
        if read.is_pending() && two.frames.is_due() {
            return two.fill(into);
        }
        read
    }
}

impl Http1State {
    /// Returns the bytes for hyper when no more requests follow.
    fn instead(&mut self, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.next {
            NextBytes::Refused if into.remaining() >= IN_PLACE_OF_REFUSED.len() => {
                into.put_slice(IN_PLACE_OF_REFUSED);
                self.next = NextBytes::Nothing;
                Poll::Ready(Ok(()))
            }
            // It is about to close and need not be woken.
            NextBytes::Requests | NextBytes::Nothing => Poll::Pending,
            NextBytes::Refused | NextBytes::Error => Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
        }
    }

    /// Hands over the bytes before the refused request, and nothing more.
    fn refuse(
        &mut self,
        activity: &ConnectionActivity,
        refused: Refused,
        before: usize,
        known: usize,
        into: &mut ReadBuf<'_>,
    ) {
        let end = known + refused.at + 1;
        let is_in_head = refused.head > 0;
        if is_in_head {
            activity.refuse(refused.why);
        }
        match end.checked_sub(refused.head).filter(|begin| is_in_head && *begin >= before) {
            Some(begin) => {
                into.set_filled(begin);
                self.next = NextBytes::Refused;
            }
            // hyper already has its beginning.
            None => {
                into.set_filled(end - 1);
                self.next = NextBytes::Error;
            }
        }
    }
}

impl Http2State {
    fn fill(&mut self, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let filled = self.frames.fill(into.initialize_unfilled());
        into.advance(filled);
        self.is_full = into.remaining() == 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match (&this.speaks, &this.together) {
            (HttpState::One(_), None) => this.poll_one(cx, into),
            (HttpState::One(_), Some(_)) => this.poll_many(cx, into),
            (HttpState::Two(_), _) => this.poll_two(cx, into),
        }
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if from.get(STATUS_AT) == Some(&b'4') && this.keeps_back(from) {
            return Poll::Ready(Ok(from.len()));
        }
        let stream = this.stream.get_mut();
        if let Some(together) = &mut this.together {
            return together.poll_take(stream, &this.activity, cx, from);
        }
        let written = Pin::new(stream).poll_write(cx, from);
        this.activity.note_written(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(this.stream.get_mut()).poll_write_vectored(cx, from);
        this.activity.note_written(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(together) = &mut this.together {
            ready!(together.poll_flush(this.stream.get_mut(), &this.activity, cx))?;
        }
        // Data that was written to the socket needs no flush.
        if this.activity.flushed() && matches!(&this.speaks, HttpState::One(one) if one.has_ended) {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(this.stream.get_mut()).poll_shutdown(cx))?;
        // As in `end`. The task that gave the instruction limits the time. The data may be a part
        // of an order, so it goes to the heap: a stack is not wiped.
        while this.activity.gives_up() {
            let mut room = vec![0; LEFT_BYTES];
            let mut read = ReadBuf::new(&mut room);
            ready!(Pin::new(this.stream.get_mut()).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}
