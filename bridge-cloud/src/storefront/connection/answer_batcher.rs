//! Batches the answers to a caller that pipelines many reads: they are written together.
//!
//! hyper's own batching (`pipeline_flush`) drops the collected answers when it meets a request that
//! it cannot read, and then that request cannot be answered either. Here they are already written.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;

use super::connections::ConnectionActivity;

/// Limit of the batch in bytes. If the caller reads none of it, its socket is full and the answers
/// are written to it anyway.
const GATHERED_MAX: usize = 64 << 10;

/// Answers that are collected or being written.
#[derive(Default)]
pub(super) struct AnswerBatcher {
    bytes: Vec<u8>,
    /// Bytes that are already written.
    written: usize,
    /// Set if hyper's last read returned bytes. It answers them before it waits.
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

    /// Writes the batch, unless hyper has more to answer.
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

    /// Writes the batch.
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

    /// Notes if hyper's read returned bytes.
    pub(super) fn note_read(&mut self, has_more: bool) {
        self.has_more = has_more;
    }
}
