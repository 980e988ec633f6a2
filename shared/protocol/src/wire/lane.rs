//! Lanes: the few long-lived, ordered byte streams that carry everything on a link.
//!
//! A lane opens with a preamble of eight bytes that names the lane. After it there are only frames.
//! Over QUIC a lane is a stream. Over TCP it is a TLS connection of its own with the same bytes;
//! [`tcp`](crate::wire::tcp) has those before them.

use std::fmt;

/// Id of a link, unique while the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Length of the preamble that opens a lane.
pub const PREAMBLE_BYTES: usize = 8;

/// Most order lanes of a link.
pub const ORDER_LANES_MAX: u8 = 16;

/// Most lanes of a link: the order lanes, and one of each other kind.
pub const LANES_MAX: u8 = ORDER_LANES_MAX + 3;

const MAGIC: [u8; 4] = *b"BRDG";
const FORMAT: u8 = 1;

/// Name of a lane within a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Hello, heartbeat and goodbye; one in each link.
    Control,
    /// Orders, distributed by a hash of the order id; numbered `0..K` in each link.
    Order(u8),
    /// The catalogue's changes; one in each link whose agents both offer it in their hello.
    Feed,
    /// Payments; one in each link whose agents both offer it in their hello.
    Payment,
}

/// Reasons why a stream's first eight bytes open no lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PreambleError {
    /// The bytes are not Bridge's.
    #[error("the stream does not open with a lane preamble")]
    NotBridge,
    /// The preamble has a later format.
    #[error("lane preamble format {0} is not known to this build: upgrade the side that logs this")]
    Format(u8),
    /// This build does not know the lane's kind.
    #[error("lane kind {0} is not known to this build: upgrade the side that logs this")]
    Kind(u8),
}

impl Lane {
    /// Returns the eight bytes that open this lane.
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
    ///
    /// # Errors
    ///
    /// Fails if the bytes are no preamble that this build knows.
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
        // If a new kind is not counted in `LANES_MAX`, a link with all its order lanes has one
        // stream too few.
        let kinds = (0..=u8::MAX)
            .filter(|kind| Lane::from_preamble([b'B', b'R', b'D', b'G', 1, *kind, 0, 0]).is_ok());
        assert_eq!(
            kinds.count(),
            others.len() + 1,
            "the known kinds are the other lanes and the order lanes"
        );
        assert_eq!(orders.chain(others).count(), usize::from(LANES_MAX));
    }

    #[test]
    fn a_stream_of_something_else_opens_no_lane() {
        assert_eq!(Lane::from_preamble(*b"GET / HT"), Err(PreambleError::NotBridge));
        assert_eq!(Lane::from_preamble(*b"BRDG\x01\x09\x00\x00"), Err(PreambleError::Kind(9)));
    }
}
