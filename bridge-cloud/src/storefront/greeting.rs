//! A connection whose first bytes are waited for only so long, and whose requests' lines end as they should.
//!
//! hyper's clock for a request's head starts once it knows which HTTP it reads. Until then it waits without end, and a
//! caller that connects and says nothing, or half of HTTP/2's preface, would keep its place.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::lines::Lines;

/// Bytes of HTTP/2's preface (RFC 9113 section 3.4): by then hyper knows, and its own clocks run.
const GREETING_BYTES: usize = 24;

/// A stream that fails to be read if its greeting is late, or a line of a request ends wrongly.
pub(super) struct Greeting {
    stream: TcpStream,
    lines: Lines,
    missing: usize,
    /// Set while `missing` > 0.
    late: Option<Pin<Box<Sleep>>>,
}

impl Greeting {
    /// Waits for the first bytes of a connection for at most `patience`.
    pub(super) fn within(patience: Duration, stream: TcpStream) -> Self {
        Self {
            stream,
            lines: Lines::default(),
            missing: GREETING_BYTES,
            late: Some(Box::pin(sleep(patience))),
        }
    }
}

impl AsyncRead for Greeting {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, into);
        if let Err(error) = this.lines.take(&into.filled()[before..]) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        let Some(late) = &mut this.late else { return read };
        this.missing = this.missing.saturating_sub(into.filled().len() - before);
        if this.missing == 0 {
            this.late = None;
        } else if read.is_pending() && late.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Greeting {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, from)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
