//! Line ends in the heads of requests: only CR LF is one.
//!
//! hyper takes a bare LF for a line's end, as RFC 9112 section 2.2 allows. A proxy in front that does not would read other
//! requests out of the same bytes, so it is refused here. Pure: bytes come in as they were read, in whatever pieces.

/// A line that ends with a bare LF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line of a request's head ends without a carriage return")]
pub(super) struct BareLineFeed;

/// The first bytes of a line: enough to know it by its name, and to read a length.
const KNOWN_BYTES: usize = 40;

/// Follows the requests of one connection.
#[derive(Debug)]
pub(super) struct Lines(State);

#[derive(Debug)]
enum State {
    /// In a head.
    Head(Head),
    /// In a body of so many bytes more.
    Body(u64),
    /// Beyond a body whose end only its reader knows, or in another version of HTTP: nothing is checked any more.
    Beyond,
}

#[derive(Debug)]
struct Head {
    line: [u8; KNOWN_BYTES],
    /// Bytes of the line so far.
    length: usize,
    last: u8,
    body: u64,
    is_chunked: bool,
}

impl Default for Head {
    fn default() -> Self {
        Self { line: [0; KNOWN_BYTES], length: 0, last: 0, body: 0, is_chunked: false }
    }
}

impl Default for Lines {
    fn default() -> Self {
        Self(State::Head(Head::default()))
    }
}

impl Lines {
    /// Takes what was read.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), BareLineFeed> {
        while !bytes.is_empty() {
            match &mut self.0 {
                State::Beyond => return Ok(()),
                State::Body(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[here..];
                    *left -= here as u64;
                    if *left == 0 {
                        self.0 = State::Head(Head::default());
                    }
                }
                State::Head(head) => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    head.add(&bytes[..end.unwrap_or(bytes.len())]);
                    let Some(end) = end else { return Ok(()) };
                    bytes = &bytes[end + 1..];
                    if let Some(next) = head.end_line()? {
                        self.0 = next;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Head {
    fn add(&mut self, bytes: &[u8]) {
        if let Some(room) = self.line.get_mut(self.length..) {
            let here = room.len().min(bytes.len());
            room[..here].copy_from_slice(&bytes[..here]);
        }
        self.length += bytes.len();
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    /// The line is over; what comes next, if it was the last one.
    fn end_line(&mut self) -> Result<Option<State>, BareLineFeed> {
        if self.length == 0 || self.last != b'\r' {
            return Err(BareLineFeed);
        }
        let line = &self.line[..(self.length - 1).min(KNOWN_BYTES)];
        let next = match line {
            [] if self.is_chunked => Some(State::Beyond),
            [] if self.body > 0 => Some(State::Body(self.body)),
            [] => Some(State::Head(Self::default())),
            b"PRI * HTTP/2.0" => Some(State::Beyond),
            _ => {
                if let Some(value) = value(line, b"content-length:") {
                    // One that is no number, hyper refuses.
                    self.body = std::str::from_utf8(value)
                        .ok()
                        .and_then(|text| text.trim().parse().ok())
                        .unwrap_or(0);
                }
                self.is_chunked |= value(line, b"transfer-encoding:").is_some();
                None
            }
        };
        (self.length, self.last) = (0, 0);
        Ok(next)
    }
}

fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In one piece, and by the byte.
    fn takes(text: &str) -> bool {
        let whole = Lines::default().take(text.as_bytes()).is_ok();
        let mut lines = Lines::default();
        let by_the_byte = text.bytes().all(|byte| lines.take(&[byte]).is_ok());
        assert_eq!(whole, by_the_byte, "{text:?}");
        whole
    }

    #[test]
    fn a_bare_line_feed_is_refused_wherever_it_ends_a_line_of_a_head() {
        assert!(takes("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n"));
        for text in [
            "GET / HTTP/1.1\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n\n",
            "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\n",
            "\n",
        ] {
            assert!(!takes(text), "{text:?}");
        }
    }

    #[test]
    fn a_body_may_hold_any_line_ends_and_the_next_head_may_not() {
        let post = |body: &str| format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        assert!(takes(&[post("a\nb\n\n"), post("")].concat()));
        assert!(!takes(&(post("a\nb") + "GET /\n")));
    }

    #[test]
    fn what_cannot_be_followed_is_let_through() {
        assert!(takes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\n\n"));
        assert!(takes("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\n\r\n"));
    }
}
