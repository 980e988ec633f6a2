//! Lanes: the few long-lived ordered byte streams that carry everything on a link.
//!
//! A lane opens with a preamble of eight bytes that says which lane it is; after it there are only frames. Over QUIC
//! a lane is a stream, over TCP a connection of its own; the bytes are the same.

use std::fmt;

/// Which link to which peer, unique while the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Bytes of the preamble that opens a lane.
pub const PREAMBLE_BYTES: usize = 8;

/// Most order lanes of a link.
pub const ORDER_LANES_MAX: u8 = 16;

/// Most lanes of a link: those for orders, and one of each other kind.
pub const LANES_MAX: u8 = ORDER_LANES_MAX + 3;

const MAGIC: [u8; 4] = *b"BRDG";
const FORMAT: u8 = 1;

/// Which lane of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Hello, heartbeat, goodbye: one a link.
    Control,
    /// Orders, hashed by order id: `0..K` a link.
    Order(u8),
    /// The catalogue's changes: one a link, between agents that both say so in their hello.
    Feed,
    /// Payments: one a link, between agents that both say so in their hello.
    Payment,
}

/// Why a stream's first eight bytes open no lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PreambleError {
    /// Not Bridge at all.
    #[error("the stream does not open with a lane preamble")]
    NotBridge,
    /// A preamble of a later format.
    #[error("lane preamble format {0} is not known to this build: upgrade the side that logs this")]
    Format(u8),
    /// A lane kind this build does not know.
    #[error("lane kind {0} is not known to this build: upgrade the side that logs this")]
    Kind(u8),
}

impl Lane {
    /// The eight bytes that open this lane.
    pub fn preamble(self) -> [u8; PREAMBLE_BYTES] {
        let (kind, index) = match self {
            Self::Control => (1, 0),
            Self::Order(index) => (2, index),
            Self::Feed => (3, 0),
            Self::Payment => (4, 0),
        };
        let [a, b, c, d] = MAGIC;
        [a, b, c, d, FORMAT, kind, index, 0]
    }

    /// Reads a preamble.
    pub fn from_preamble(bytes: [u8; PREAMBLE_BYTES]) -> Result<Self, PreambleError> {
        let [a, b, c, d, format, kind, index, _] = bytes;
        if [a, b, c, d] != MAGIC {
            return Err(PreambleError::NotBridge);
        }
        if format != FORMAT {
            return Err(PreambleError::Format(format));
        }
        match kind {
            1 => Ok(Self::Control),
            2 => Ok(Self::Order(index)),
            3 => Ok(Self::Feed),
            4 => Ok(Self::Payment),
            other => Err(PreambleError::Kind(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_is_read_back_from_its_preamble() {
        for lane in [Lane::Control, Lane::Order(0), Lane::Order(15), Lane::Feed, Lane::Payment] {
            assert_eq!(Lane::from_preamble(lane.preamble()), Ok(lane));
        }
    }

    #[test]
    fn a_link_has_room_for_every_lane_that_can_be_named() {
        let others = [Lane::Control, Lane::Feed, Lane::Payment];
        let orders = (0..ORDER_LANES_MAX).map(Lane::Order);
        // A kind that is added without a place here would leave a link with all its order lanes one stream short.
        let kinds = (0..=u8::MAX)
            .filter(|kind| Lane::from_preamble([b'B', b'R', b'D', b'G', 1, *kind, 0, 0]).is_ok());
        assert_eq!(kinds.count(), others.len() + 1, "and the order lanes");
        assert_eq!(orders.chain(others).count(), usize::from(LANES_MAX));
    }

    #[test]
    fn a_stream_of_something_else_opens_no_lane() {
        assert_eq!(Lane::from_preamble(*b"GET / HT"), Err(PreambleError::NotBridge));
        assert_eq!(Lane::from_preamble(*b"BRDG\x01\x09\x00\x00"), Err(PreambleError::Kind(9)));
    }
}
