//! Answers to a caller that asks for many reads at a time, without waiting: they are written together.
//!
//! hyper could hold them back as well (`pipeline_flush`); it then drops them where it comes to a request that it cannot
//! read, so that nothing could be told about that one either. Here they are on their way by then.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;

use super::connections::ConnectionActivity;

/// More than this is not gathered: a caller that reads none of it is written to, and its socket is full.
const GATHERED_MAX: usize = 64 << 10;

/// The answers that are gathered, or are being written.
#[derive(Default)]
pub(super) struct AnswerBatcher {
    bytes: Vec<u8>,
    /// So many of them are written.
    written: usize,
    /// hyper got something when it read last: it answers that before it waits for anything.
    has_more: bool,
}

impl AnswerBatcher {
    /// Takes an answer, or a part of one.
    pub(super) fn poll_take(
        &mut self,
        stream: &mut TcpStream,
        activity: &ConnectionActivity,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.bytes.len() + from.len() > GATHERED_MAX {
            ready!(self.poll_write(stream, activity, cx))?;
        }
        let taken = from.len().min(GATHERED_MAX);
        self.bytes.extend_from_slice(&from[..taken]);
        Poll::Ready(Ok(taken))
    }

    /// Writes what is gathered, unless hyper has more to answer.
    pub(super) fn poll_flush(
        &mut self,
        stream: &mut TcpStream,
        activity: &ConnectionActivity,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.has_more && !activity.is_to_write() {
            if !self.bytes.is_empty() {
                activity.holds_back();
            }
            return Poll::Ready(Ok(()));
        }
        self.poll_write(stream, activity, cx)
    }

    /// Writes what is gathered.
    pub(super) fn poll_write(
        &mut self,
        stream: &mut TcpStream,
        activity: &ConnectionActivity,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(rest) = self.bytes.get(self.written..).filter(|rest| !rest.is_empty()) {
            let written = Pin::new(&mut *stream).poll_write(cx, rest);
            activity.note_written(&written);
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => self.written += bytes,
            }
        }
        self.bytes.clear();
        self.written = 0;
        activity.has_written();
        Poll::Ready(Ok(()))
    }

    /// hyper has read something, or nothing.
    pub(super) fn note_read(&mut self, has_more: bool) {
        self.has_more = has_more;
    }
}
