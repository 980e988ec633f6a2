//! Trace context of a request: the storefront's `traceparent` header (W3C Trace Context,
//! www.w3.org/TR/trace-context, section 3.2).

use std::fmt;

/// Length of the bytes of [`TraceParent::to_bytes`].
const BYTES: usize = 25;

/// A trace, the calling span in it, and the flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace: [u8; 16],
    parent: [u8; 8],
    flags: u8,
}

impl TraceParent {
    /// Reads a header's value.
    ///
    /// Returns `None` for values that the standard says to ignore: another form, ids of zeros,
    /// version `ff`. A later version may have more fields after the flags.
    pub fn parse(value: &str) -> Option<Self> {
        let mut parts = value.trim().split('-');
        let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let [version]: [u8; 1] = hex(version)?;
        let (trace, parent, [flags]) = (hex(trace)?, hex(parent)?, hex::<1>(flags)?);
        let is_known = version == 0 && parts.next().is_none();
        let is_later = version > 0 && version < u8::MAX;
        let has_ids = trace != [0; 16] && parent != [0; 8];
        ((is_known || is_later) && has_ids).then_some(Self { trace, parent, flags })
    }

    /// Returns the bytes for the wire: trace (16), parent (8), flags (1).
    pub fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [self.flags; BYTES];
        bytes[..16].copy_from_slice(&self.trace);
        bytes[16..24].copy_from_slice(&self.parent);
        bytes
    }

    /// Reads the bytes of [`Self::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let (trace, rest) = bytes.split_first_chunk::<16>()?;
        let (parent, flags) = rest.split_first_chunk::<8>()?;
        let flags = *flags.first()?;
        (*trace != [0; 16] && *parent != [0; 8]).then_some(Self { trace: *trace, parent: *parent, flags })
    }

    /// Returns the trace, the calling span, and the flags. Bit 0 of the flags says that the trace
    /// is recorded.
    pub fn parts(self) -> ([u8; 16], [u8; 8], u8) {
        (self.trace, self.parent, self.flags)
    }

    /// Returns the trace's id in hexadecimal, as logs show it.
    pub fn trace_id(self) -> String {
        self.trace.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Writes the value of a header, in version 00.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parent: String = self.parent.iter().map(|byte| format!("{byte:02x}")).collect();
        write!(f, "00-{}-{parent}-{:02x}", self.trace_id(), self.flags)
    }
}

/// Reads exactly `N` bytes in lower-case hexadecimal.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_parent_is_read_back_from_its_header_and_its_bytes() {
        let parent = TraceParent::parse(GOOD).unwrap();
        assert_eq!((parent.to_string().as_str(), parent.trace_id().len()), (GOOD, 32));
        assert_eq!(TraceParent::from_bytes(&parent.to_bytes()), Some(parent));
        let later = format!("01{}-what-comes-later", &GOOD[2..]);
        assert_eq!(TraceParent::parse(&later), Some(parent));
    }

    #[test]
    fn what_the_standard_says_to_ignore_is_ignored() {
        let zeros = |at: std::ops::Range<usize>| {
            let mut text = GOOD.to_owned();
            text.replace_range(at.clone(), &"0".repeat(at.len()));
            text
        };
        for bad in [
            String::new(),
            "00".to_owned(),
            GOOD.to_uppercase(),
            format!("{GOOD}-more"),
            format!("ff{}", &GOOD[2..]),
            GOOD[..54].to_owned(),
            zeros(3..35),
            zeros(36..52),
            GOOD.replace('-', "_"),
            GOOD.replace('4', "\u{ff14}"),
        ] {
            assert_eq!(TraceParent::parse(&bad), None, "{bad}");
        }
        assert_eq!(TraceParent::from_bytes(&[1; 24]), None);
        assert_eq!(TraceParent::from_bytes(&[0; 25]), None);
    }
}
