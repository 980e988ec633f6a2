//! Percent escapes in paths and queries (RFC 3986 section 2.1), decoded strictly and once.

use std::borrow::Cow;

/// Decodes a part of a path. Returns `None` if an escape is broken or the result is not UTF-8.
pub(super) fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// Decodes a query's value: as in a path, and a plus is a space, as in forms.
pub(super) fn decode_value(text: &str) -> Option<Cow<'_, str>> {
    if text.contains('+') {
        return decode(&text.replace('+', " ")).map(|decoded| Cow::Owned(decoded.into_owned()));
    }
    decode(text)
}

/// Encodes a text for a query. All characters except the unreserved ones are escaped.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_back_from_its_escapes() {
        for text in ["HAT", "SHOE 1/2", "\u{ac00}%", "a+b&c=d"] {
            assert_eq!(decode(&encode(text)).as_deref(), Some(text));
            assert_eq!(decode_value(&encode(text)).as_deref(), Some(text));
        }
        assert_eq!(decode_value("a+b%2Bc").as_deref(), Some("a b+c"));
        assert_eq!(decode("a+b%25").as_deref(), Some("a+b%"));
    }

    #[test]
    fn a_broken_escape_stands_for_nothing() {
        for text in ["%", "%4", "a%zz", "%FF", "%+1", "%c0%af"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
