//! A connection's bytes as hyper gets them: each that moves is noted in the connection's pulse, lines that could be read in
//! two ways do not get through, and what a body left in hyper's buffer is overwritten.
//!
//! hyper reads into a buffer that it keeps, and of which it shows what is free whenever it reads. Over HTTP/1.1 that is all
//! of it, as long as nothing in it waits for more and it was never made larger; so a head is handed over whole. Over HTTP/2
//! it is all of it once the rest was filled (`frames`). Whatever is freed instead is wiped by the allocator.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::connections::Pulse;
use super::frames::{Frames, PREFACE};
use super::lines::Lines;

/// hyper's buffer for HTTP/1.1, until something does not fit into it.
const BUFFER_BYTES: usize = 8 * 1024;

/// Bytes that hyper gets at a time: it makes its buffer larger after a read that fills it.
const READ_BYTES_MAX: usize = BUFFER_BYTES - 1;

/// No line of a request may hold it, and hyper answers 400 where it stands.
const NO_BYTE_OF_A_HEAD: u8 = 0;

/// Which HTTP a caller speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// A stream whose callers are watched.
pub(super) struct Greeting {
    stream: Take<TcpStream>,
    /// The first bytes, which nobody has looked at.
    first: Zeroizing<Vec<u8>>,
    speaks: Speaks,
    pulse: Rc<Pulse>,
}

/// What its requests are made of.
enum Speaks {
    One(One),
    Two(Two),
}

#[derive(Default)]
struct One {
    lines: Lines,
    /// The begin of a head, which is handed over with its end.
    open: Vec<u8>,
    /// hyper's buffer holds something of a body, or did.
    is_dirty: bool,
}

#[derive(Default)]
struct Two {
    frames: Frames,
    /// The buffer was filled to its end: the next one holds nothing that is still read.
    is_full: bool,
}

impl Greeting {
    /// A stream that has said nothing so far.
    pub(super) fn of(stream: TcpStream, pulse: Rc<Pulse>) -> Self {
        let speaks = Speaks::One(One::default());
        Self { stream: stream.take(READ_BYTES_MAX as u64), first: Zeroizing::default(), speaks, pulse }
    }

    /// Waits until it is clear what the caller speaks; an error if it hangs up before.
    pub(super) async fn version(&mut self) -> io::Result<Version> {
        // Room for all of it at once: a buffer that grows leaves copies behind.
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
        if version == Version::Two {
            self.speaks = Speaks::Two(Two::default());
        }
        self.pulse.greeted();
        Ok(version)
    }

    fn note_written(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(bytes)) => self.pulse.wrote(Some(*bytes)),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.pulse.wrote(None),
        }
    }
}

/// Reads from the first bytes as long as there are some, then from the stream.
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

impl Greeting {
    fn poll_one(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, first, speaks: Speaks::One(one), pulse } = self else { return Poll::Pending };
        if one.is_dirty && into.remaining() <= BUFFER_BYTES {
            into.initialize_unfilled();
            one.is_dirty = false;
        } else if one.is_dirty {
            // It was made larger for a long head, and shows only a part of itself from then on.
            pulse.leave();
        }
        loop {
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
            let bytes = into.filled_mut().get_mut(known..).unwrap_or_default();
            let is_end = bytes.is_empty();
            one.open.clear();
            if let Err(refused) = one.lines.take(bytes) {
                // What came before it is served; hyper refuses what it is in, and hangs up.
                bytes.iter_mut().skip(refused.at).take(1).for_each(|byte| *byte = NO_BYTE_OF_A_HEAD);
                into.set_filled(known + refused.at + 1);
                return Poll::Ready(Ok(()));
            }
            one.is_dirty |= one.lines.had_body();
            let (all, open) = (into.filled().len() - before, one.lines.open_head());
            // One that is too long for that, or has begun to be handed over, is not kept.
            if is_end || open == 0 || open > all || all >= READ_BYTES_MAX {
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

    fn poll_two(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, first, speaks: Speaks::Two(two), .. } = self else { return Poll::Pending };
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
        if read.is_pending() && two.frames.is_due() {
            return two.fill(into);
        }
        read
    }
}

impl Two {
    fn fill(&mut self, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let filled = self.frames.fill(into.initialize_unfilled());
        into.advance(filled);
        self.is_full = into.remaining() == 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Greeting {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.speaks {
            Speaks::One(_) => this.poll_one(cx, into),
            Speaks::Two(_) => this.poll_two(cx, into),
        }
    }
}

impl AsyncWrite for Greeting {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(this.stream.get_mut()).poll_write(cx, from);
        this.note_written(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(this.stream.get_mut()).poll_write_vectored(cx, from);
        this.note_written(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().stream.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().stream.get_mut()).poll_shutdown(cx)
    }
}
