//! Line ends and lengths in requests, checked so that no proxy reads other requests from the same
//! bytes.
//!
//! hyper accepts a bare LF as a line end, as RFC 9112 section 2.2 allows, chooses by itself between
//! two lengths, and reports neither. A proxy in front that decides otherwise would see other
//! requests, so both are refused here. A head that is too large is refused too: hyper's own limit
//! is its buffer, which depends on the other data in it. Bodies are skipped, chunked ones too, so
//! that the checks apply to every request of a connection. The code is pure: bytes come in as they
//! were read, in pieces of any size.

/// Largest head of a request. A larger one is answered 431.
pub(in crate::storefront) const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Most fields of a head. One with more is answered 431. hyper's own limit is higher; if it is set,
/// hyper clears that much memory for each request.
const HEAD_FIELDS_MAX: usize = 64;

/// Place and reason of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    /// Offset in the piece that was taken: the last byte of the refused line, or the first byte
    /// above the limit.
    pub(super) at: usize,
    /// Bytes of its head up to and with that byte; 0 if it is not in a head.
    pub(super) head: usize,
    /// The reason.
    pub(super) why: Refusal,
}

/// Reasons to refuse a request for its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::storefront) enum Refusal {
    /// A line ends with a bare LF.
    BareLineFeed,
    /// Its body has no length, or more than one.
    Length,
    /// Its body has an unknown transfer coding.
    TransferCoding,
    /// Its head is too large.
    HeadTooLarge,
    /// It is malformed in another way.
    Form,
}

/// Bytes of a line that are kept, without blanks: enough for a name and a length.
const KEPT_BYTES: usize = 48;

/// Most hexadecimal digits of a chunk's size.
const SIZE_DIGITS_MAX: usize = 15;

/// Follows the requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Lines {
    state: State,
    line: Line,
    framing: Framing,
    /// Bytes of the head so far.
    head: usize,
    /// Whole lines of the head so far: its first line, then one for each field.
    head_lines: usize,
    /// Set if the last bytes contained a part of a body.
    has_body: bool,
}

#[derive(Debug, Default)]
enum State {
    /// In a head.
    #[default]
    Head,
    /// In a body with this many remaining bytes.
    Body(u64),
    /// In the line before a chunk.
    Size,
    /// In a chunk with this many remaining bytes, its line end included.
    Chunk(u64),
    /// After the last chunk.
    Trailer,
    /// In another version of HTTP. Nothing is checked any more.
    Beyond,
    /// A request was refused. The following bytes have no meaning.
    Refused,
}

/// The body's framing, by the head so far.
#[derive(Debug, Default)]
struct Framing {
    length: Option<u64>,
    is_chunked: bool,
}

#[derive(Debug)]
struct Line {
    kept: [u8; KEPT_BYTES],
    kept_length: usize,
    length: usize,
    last: u8,
}

impl Default for Line {
    fn default() -> Self {
        Self { kept: [0; KEPT_BYTES], kept_length: 0, length: 0, last: 0 }
    }
}

impl Lines {
    /// Takes bytes that were read. Fails at the first byte that is refused.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match &mut self.state {
                State::Beyond => return Ok(()),
                State::Refused => return Err(Refused { at, head: 0, why: Refusal::Form }),
                State::Body(left) | State::Chunk(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    at += here;
                    *left -= here as u64;
                    self.has_body = true;
                    if *left == 0 {
                        let is_chunk = matches!(self.state, State::Chunk(_));
                        self.state = if is_chunk { State::Size } else { State::Head };
                    }
                }
                State::Head | State::Size | State::Trailer => {
                    let end = memchr::memchr(b'\n', rest);
                    // Only a few lines of a head matter, but all lines of chunks.
                    let is_head = matches!(self.state, State::Head);
                    self.line.add(&rest[..end.unwrap_or(rest.len())], is_head);
                    if is_head {
                        let (room, here) =
                            (HEAD_BYTES_MAX - self.head, end.map_or(rest.len(), |end| end + 1));
                        if here > room {
                            self.state = State::Refused;
                            let (at, head) = (at + room, HEAD_BYTES_MAX + 1);
                            return Err(Refused { at, head, why: Refusal::HeadTooLarge });
                        }
                        self.head += here;
                    }
                    let Some(end) = end else { return Ok(()) };
                    at += end + 1;
                    let head = if is_head { self.head } else { 0 };
                    if let Err(why) = self.end_line() {
                        self.state = State::Refused;
                        return Err(Refused { at: at - 1, head, why });
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the number of the last bytes taken that begin a head whose end is still to come.
    pub(super) fn open_head(&self) -> usize {
        if matches!(self.state, State::Head) { self.head } else { 0 }
    }

    /// Returns true if all bytes taken so far are whole requests.
    pub(super) fn is_between_requests(&self) -> bool {
        matches!(self.state, State::Head) && self.head == 0 && self.line.length == 0
    }

    /// Returns true if a part of a body was taken since the last call.
    pub(super) fn had_body(&mut self) -> bool {
        std::mem::take(&mut self.has_body)
    }

    /// Handles the end of a line. Fails if the line is ambiguous or malformed.
    fn end_line(&mut self) -> Result<(), Refusal> {
        if self.line.length == 0 || self.line.last != b'\r' {
            return Err(Refusal::BareLineFeed);
        }
        let is_empty = self.line.length == 1;
        let kept = &self.line.kept[..self.line.kept_length];
        let kept = kept.strip_suffix(b"\r").unwrap_or(kept);
        self.state = match self.state {
            State::Head if is_empty => {
                (self.head, self.head_lines) = (0, 0);
                std::mem::take(&mut self.framing).body()
            }
            State::Head if kept == b"PRI*HTTP/2.0" => State::Beyond,
            State::Head if self.head_lines > HEAD_FIELDS_MAX => return Err(Refusal::HeadTooLarge),
            State::Head => {
                self.head_lines += 1;
                self.framing.learn(kept).map(|()| State::Head)?
            }
            State::Size => match size(kept).ok_or(Refusal::Length)? {
                0 => State::Trailer,
                size => State::Chunk(size.checked_add(2).ok_or(Refusal::Length)?),
            },
            State::Trailer if is_empty => State::Head,
            State::Trailer => State::Trailer,
            State::Body(_) | State::Chunk(_) | State::Beyond | State::Refused => return Err(Refusal::Form),
        };
        (self.line.kept_length, self.line.length, self.line.last) = (0, 0, 0);
        Ok(())
    }
}

impl Framing {
    /// Takes a line of a head. Fails if it contradicts itself or an earlier line.
    fn learn(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if let Some(value) = value(line, b"content-length:") {
            let is_first = self.length.is_none() && line.len() < KEPT_BYTES - 1;
            let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            self.length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            let is_definite = is_first && is_number && self.length.is_some() && !self.is_chunked;
            return is_definite.then_some(()).ok_or(Refusal::Length);
        }
        if let Some(value) = value(line, b"transfer-encoding:") {
            let is_first = !std::mem::replace(&mut self.is_chunked, true);
            if !is_first || value.is_empty() || self.length.is_some() {
                return Err(Refusal::Length);
            }
            return value.eq_ignore_ascii_case(b"chunked").then_some(()).ok_or(Refusal::TransferCoding);
        }
        Ok(())
    }

    /// Returns the state after the head.
    fn body(self) -> State {
        match self {
            Self { is_chunked: true, .. } => State::Size,
            Self { length: Some(length @ 1..), .. } => State::Body(length),
            Self { .. } => State::Head,
        }
    }
}

impl Line {
    /// Adds bytes of a line. Of a head, only lines that may have one of the names above are kept.
    fn add(&mut self, bytes: &[u8], is_head: bool) {
        let Some(last) = bytes.last() else { return };
        let is_of_use = |first: &u8| !is_head || matches!(first, b'c' | b'C' | b't' | b'T' | b'P');
        if self.kept_length > 0 || (self.length == 0 && bytes.first().is_some_and(is_of_use)) {
            let room = self.kept.get_mut(self.kept_length..).unwrap_or_default();
            let visible = bytes.iter().filter(|byte| !matches!(byte, b' ' | b'\t'));
            self.kept_length += room.iter_mut().zip(visible).map(|(room, byte)| *room = *byte).count();
        }
        self.length += bytes.len();
        self.last = *last;
    }
}

/// Reads a chunk's size, without its extensions (RFC 9112 section 7.1).
fn size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    // A longer text may have been cut.
    let text = std::str::from_utf8(digits).ok().filter(|digits| digits.len() <= SIZE_DIGITS_MAX)?;
    u64::from_str_radix(text, 16).ok().filter(|_| !text.starts_with('+'))
}

fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Option<Refused> {
        Lines::default().take(text.as_bytes()).err()
    }

    /// Takes the text in one piece, and again byte by byte. Returns true if both are accepted.
    fn takes(text: &str) -> bool {
        let refused = refused(text);
        let mut lines = Lines::default();
        let by_the_byte = text.bytes().position(|byte| lines.take(&[byte]).is_err());
        assert_eq!(refused.map(|refused| refused.at), by_the_byte, "{text:?}");
        refused.is_none()
    }

    fn post(framing: &str, body: &str) -> String {
        format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n{body}")
    }

    #[test]
    fn a_head_is_too_large_at_one_byte_whatever_came_before_it() {
        let head = |bytes: usize| {
            let rest = "GET / HTTP/1.1\r\nhost: a\r\nx: \r\n\r\n".len();
            format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(bytes - rest))
        };
        for before in [String::new(), NEXT.repeat(3), post("content-length: 3", "abc")] {
            assert!(takes(&(before.clone() + &head(HEAD_BYTES_MAX))));
            let text = before.clone() + &head(HEAD_BYTES_MAX + 1);
            assert!(!takes(&text));
            let (at, head) = (before.len() + HEAD_BYTES_MAX, HEAD_BYTES_MAX + 1);
            assert_eq!(refused(&text), Some(Refused { at, head, why: Refusal::HeadTooLarge }));
        }
    }

    #[test]
    fn a_head_has_at_most_64_fields_whatever_came_before_it() {
        let head = |fields: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(fields));
        for before in [String::new(), head(HEAD_FIELDS_MAX).repeat(3), post("content-length: 3", "abc")] {
            assert!(takes(&(before.clone() + &head(HEAD_FIELDS_MAX))));
            let text = before + &head(HEAD_FIELDS_MAX + 1);
            assert!(!takes(&text));
            assert_eq!(refused(&text).map(|refused| refused.why), Some(Refusal::HeadTooLarge));
        }
    }

    #[test]
    fn a_head_is_open_until_its_last_line_and_a_body_noticed() {
        let text = [
            post("content-length: 3", "abc"),
            NEXT.to_owned(),
            post("transfer-encoding: chunked", "1\r\na\r\n0\r\n\r\n"),
        ]
        .concat();
        let mut lines = Lines::default();
        let told: Vec<_> = text
            .bytes()
            .map(|byte| {
                lines.take(&[byte]).expect("the text is valid");
                (lines.open_head(), lines.had_body())
            })
            .collect();
        let head = |framing| post(framing, "").len();
        let first = head("content-length: 3");
        assert_eq!(
            told[first - 2..first + 4],
            [(first - 1, false), (0, false), (0, true), (0, true), (0, true), (1, false)]
        );
        let second = first + 3 + NEXT.len();
        assert_eq!(told[second - 2..=second], [(NEXT.len() - 1, false), (0, false), (1, false)]);
        let third = second + head("transfer-encoding: chunked");
        let chunk: Vec<_> = told[third..].iter().map(|(_, body)| *body).collect();
        assert_eq!(chunk, [false, false, false, true, true, true, false, false, false, false, false]);
        let mut all = Lines::default();
        all.take(&text.as_bytes()[..second]).expect("the text is valid");
        assert!(all.is_between_requests());
        all.take(&text.as_bytes()[second..second + 9]).expect("the text is valid");
        assert_eq!((all.open_head(), all.had_body(), all.had_body()), (9, true, false));
        assert!(!all.is_between_requests());
    }

    const NEXT: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    #[test]
    fn a_bare_line_feed_is_refused_at_any_line_of_a_head() {
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
    fn a_body_may_hold_bare_line_feeds_but_no_head_may() {
        let post = |body: &str| post(&format!("Content-Length: {}", body.len()), body);
        assert!(takes(&[post("a\nb\n\n"), post("")].concat()));
        assert!(!takes(&(post("a\nb") + "GET /\n")));
    }

    #[test]
    fn a_chunked_body_may_hold_bare_line_feeds_but_no_head_may() {
        for body in [
            "4\r\na\nb\n\r\n0\r\n\r\n",
            "4;ext=\"a\"\r\n\n\n\n\n\r\n000\r\nexpires: never\r\ncontent-length: 9\r\n\r\n",
            "1 ;x\r\n\n\r\nA\r\n0123456\n\n\n\r\n0\r\n\r\n",
            "0\r\n\r\n",
        ] {
            for name in ["transfer-encoding: chunked", "Transfer-Encoding:\t CHUNKED \t"] {
                let body = post(name, body);
                assert!(takes(&[&body, NEXT, &body].concat()), "{body:?}");
                assert!(!takes(&[&body, "GET / HTTP/1.1\n"].concat()), "{body:?}");
                assert!(!takes(&[&body, NEXT, "GET / HTTP/1.1\r\nhost: a\n"].concat()), "{body:?}");
            }
        }
        for body in [
            "1\n\n\r\n0\r\n\r\n",
            "1\r\n\n\r\n0\n\r\n",
            "0\r\na: b\n\r\n",
            "0\r\n\n",
            "\r\n",
            "x\r\n",
            "+1\r\n",
        ] {
            assert!(!takes(&post("transfer-encoding: chunked", body)), "{body:?}");
        }
        assert!(!takes(&post("transfer-encoding: chunked", "ffffffffffffffff\r\n")));
        assert!(!takes(&post("transfer-encoding: chunked", &format!("{}5\r\n", "0".repeat(100)))));
    }

    #[test]
    fn a_body_has_one_length_however_it_is_written() {
        assert!(takes(&post(&format!("content-length: {}5", " ".repeat(200)), &format!("\n\n\n\n\n{NEXT}"))));
        for framing in [
            "content-length: 5\r\ncontent-length: 5",
            "content-length: 5\r\nContent-Length: 6",
            "content-length: 5\r\ntransfer-encoding: chunked",
            "transfer-encoding: chunked\r\ncontent-length: 5",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
            "transfer-encoding: gzip, chunked",
            "transfer-encoding: identity",
            "transfer-encoding: xchunked",
            "transfer-encoding:",
            "content-length: +5",
            "content-length: -5",
            "content-length: 5, 5",
            "content-length: 0x5",
            "content-length:",
            "content-length: 99999999999999999999999",
        ] {
            assert!(!takes(&post(framing, "")), "{framing:?}");
        }
        let zeros = format!("content-length: {}5", "0".repeat(100));
        assert!(!takes(&post(&zeros, "")));
    }

    #[test]
    fn a_refusal_gives_its_reason_and_the_bytes_of_head_before_it() {
        for (framing, why) in [
            ("content-length: 5\r\ncontent-length: 5", Refusal::Length),
            ("content-length: 5\r\ntransfer-encoding: chunked", Refusal::Length),
            ("transfer-encoding:", Refusal::Length),
            ("transfer-encoding: xchunked", Refusal::TransferCoding),
            ("transfer-encoding: gzip, chunked", Refusal::TransferCoding),
            ("a: b\nc: d", Refusal::BareLineFeed),
        ] {
            let text = format!("{NEXT}{}", post(framing, ""));
            let refused = refused(&text).expect("the text is invalid");
            let line = text[refused.at - 4..=refused.at].to_owned();
            assert_eq!((refused.why, refused.head), (why, refused.at + 1 - NEXT.len()), "{line:?}");
        }
        let in_a_body = refused(&post("transfer-encoding: chunked", "x\r\n")).expect("the text is invalid");
        assert_eq!((in_a_body.why, in_a_body.head), (Refusal::Length, 0));
    }

    #[test]
    fn what_is_another_version_is_let_through() {
        assert!(takes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\n\n"));
    }
}
