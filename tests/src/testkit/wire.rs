//! A keep-alive HTTP/1.1 connection for open-loop generators. It is as cheap as possible: requests
//! are prepared bytes, and only the headers that are checked are parsed.
//!
//! Everything else uses the client of `crate::testkit::http`. This one runs thousands of times a
//! second on the same CPU as the server that it measures.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Largest answer that is read, in bytes. No answer of the catalogue is as large.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// A connection that is opened on demand.
#[derive(Debug)]
pub(crate) struct Connection {
    to: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
    /// The highest position in an answer on this connection.
    position: u64,
}

/// The reason why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// The connection could not be opened.
    #[error("no connection: {0}")]
    Connect(io::Error),
    /// The connection broke before the answer was complete.
    #[error("no answer")]
    Lost,
    /// The bytes are no answer that this client can parse.
    #[error("an answer that cannot be read")]
    Unreadable,
}

/// An answer. Only answers of the catalogue have a position and an age.
pub(crate) struct WireAnswer<'a> {
    pub(crate) status: u16,
    /// Value of `Bridge-Seq`.
    pub(crate) position: Option<u64>,
    /// True if the position is lower than an earlier one on the same connection. A connection stays
    /// with one serving thread, whose position never falls.
    pub(crate) fell: bool,
    /// Value of `Age`, in seconds.
    pub(crate) age: Option<u64>,
    pub(crate) body: &'a [u8],
}

impl Connection {
    pub(crate) fn new(to: SocketAddr) -> Connection {
        Connection { to, stream: None, buffer: Vec::with_capacity(64 << 10), position: 0 }
    }

    /// Sends a request and reads the whole answer. The request is sent again if the server closed
    /// an idle connection, so it must be one that may be repeated.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<WireAnswer<'_>, NoAnswer> {
        let used = self.stream.is_some();
        let mut done = self.exchange(request).await;
        // A server may close an idle connection at the moment of the next request.
        if used && matches!(done, Err(NoAnswer::Lost)) && self.buffer.is_empty() {
            done = self.exchange(request).await;
        }
        let Head { length, body_length, status, position, age, .. } = done?;
        let fell = position.is_some_and(|position| position < self.position);
        self.position = self.position.max(position.unwrap_or(0));
        Ok(WireAnswer { status, position, fell, age, body: &self.buffer[length..length + body_length] })
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<Head, NoAnswer> {
        self.buffer.clear();
        // The connection is put back only after a whole answer. If this future is dropped, no
        // half-used connection remains.
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                self.position = 0;
                let stream = TcpStream::connect(self.to).await.map_err(NoAnswer::Connect)?;
                stream.set_nodelay(true).map_err(NoAnswer::Connect)?;
                stream
            }
        };
        stream.write_all(request).await.map_err(|_| NoAnswer::Lost)?;
        loop {
            match stream.read_buf(&mut self.buffer).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(NoAnswer::Lost),
            }
            let Some(head) = Head::read(&self.buffer)? else { continue };
            let whole = head.length + head.body_length;
            if self.buffer.len() < whole {
                continue;
            }
            // Bytes after the answer belong to no request.
            if self.buffer.len() > whole {
                return Err(NoAnswer::Unreadable);
            }
            if !head.close {
                self.stream = Some(stream);
            }
            return Ok(head);
        }
    }
}

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    /// Length of the head up to the body.
    length: usize,
    body_length: usize,
    status: u16,
    position: Option<u64>,
    age: Option<u64>,
    /// True if the connection ends with this answer.
    close: bool,
}

impl Head {
    /// Parses the head. Returns `None` while it is not complete.
    fn read(buffer: &[u8]) -> Result<Option<Head>, NoAnswer> {
        let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
            return if buffer.len() > ANSWER_BYTES_MAX { Err(NoAnswer::Unreadable) } else { Ok(None) };
        };
        let text = std::str::from_utf8(&buffer[..end]).map_err(|_| NoAnswer::Unreadable)?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        let (mut body_length, mut position, mut age, mut close) = (None, None, None, false);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.len() {
                14 if name.eq_ignore_ascii_case("content-length") => body_length = value.parse().ok(),
                10 if name.eq_ignore_ascii_case("bridge-seq") => position = value.parse().ok(),
                10 if name.eq_ignore_ascii_case("connection") => close = value.eq_ignore_ascii_case("close"),
                3 if name.eq_ignore_ascii_case("age") => age = value.parse().ok(),
                _ => {}
            }
        }
        match (status, body_length) {
            (Some(status), Some(body_length @ 0..=ANSWER_BYTES_MAX)) => {
                Ok(Some(Head { length: end + 4, body_length, status, position, age, close }))
            }
            // Answers to reads and orders always have a length.
            _ => Err(NoAnswer::Unreadable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nbridge-seq: 41\r\nAge: 3\r\n\r\n{}";

    #[test]
    fn a_head_is_read_when_it_is_there_whole_and_not_before() {
        for end in 0..ANSWER.len() - 2 {
            assert_eq!(Head::read(&ANSWER.as_bytes()[..end]).ok(), Some(None), "after {end} bytes");
        }
        let head = Head::read(ANSWER.as_bytes()).ok().flatten().expect("whole");
        let (position, age) = (Some(41), Some(3));
        let length = ANSWER.len() - 2;
        assert_eq!(head, Head { length, body_length: 2, status: 200, position, age, close: false });
        let closing = ANSWER.replace("Age: 3", "connection: Close");
        assert!(Head::read(closing.as_bytes()).ok().flatten().is_some_and(|head| head.close));
    }

    #[test]
    fn what_is_no_answer_with_a_length_is_unreadable() {
        let chunked = ANSWER.replace("Content-Length: 2", "transfer-encoding: chunked");
        let huge = ANSWER.replace("Length: 2", "Length: 999999999999");
        for text in [&chunked, &huge, "SSH-2.0-x\r\n\r\n", "HTTP/1.1 2\r\ncontent-length: 0\r\n\r\n"] {
            assert!(matches!(Head::read(text.as_bytes()), Err(NoAnswer::Unreadable)), "{text}");
        }
    }
}
