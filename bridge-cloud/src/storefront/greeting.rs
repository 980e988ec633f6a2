//! A connection's bytes as hyper gets them: each that moves is noted in the connection's pulse, and lines that could be
//! read in two ways do not get through.
//!
//! hyper's clock for a request's head starts once it knows which HTTP it reads. Until then it waits without end, so it is
//! noted here when that is known.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::connections::Pulse;
use super::lines::Lines;

/// Bytes of HTTP/2's preface (RFC 9113 section 3.4): by then hyper knows, and its own clocks run.
const GREETING_BYTES: usize = 24;

/// No line of a request may hold it, and hyper answers 400 where it stands.
const NO_BYTE_OF_A_HEAD: u8 = 0;

/// A stream whose callers are watched.
pub(super) struct Greeting {
    stream: TcpStream,
    lines: Lines,
    missing: usize,
    pulse: Rc<Pulse>,
}

impl Greeting {
    /// A stream that has said nothing so far.
    pub(super) fn of(stream: TcpStream, pulse: Rc<Pulse>) -> Self {
        Self { stream, lines: Lines::default(), missing: GREETING_BYTES, pulse }
    }

    fn note_written(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(bytes)) => self.pulse.wrote(Some(*bytes)),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.pulse.wrote(None),
        }
    }
}

impl AsyncRead for Greeting {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, into);
        let bytes = into.filled_mut().get_mut(before..).unwrap_or_default();
        if this.missing > 0 {
            this.missing = this.missing.saturating_sub(bytes.len());
            if this.missing == 0 {
                this.pulse.greeted();
            }
        }
        if let Err(refused) = this.lines.take(bytes) {
            // What came before it is served; hyper refuses what it is in, and hangs up.
            bytes.iter_mut().skip(refused.at).take(1).for_each(|byte| *byte = NO_BYTE_OF_A_HEAD);
            into.set_filled(before + refused.at + 1);
        }
        read
    }
}

impl AsyncWrite for Greeting {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, from);
        this.note_written(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, from);
        this.note_written(&written);
        written
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
