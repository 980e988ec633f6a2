//! Detection of TCP segments that carry data after a connection's handshake.
//!
//! Most of a TLS handshake is encrypted. So the first bytes of each direction of a connection count
//! as its handshake, and all later bytes as data. The code does no I/O; it sees each segment once.

use std::collections::HashMap;
use std::net::SocketAddrV4;

/// Bytes that count as the handshake in each direction. A handshake of TLS 1.3 with certificates of
/// both sides and a post-quantum key exchange is not longer.
pub const HANDSHAKE_BYTES: u64 = 8 << 10;
/// Most connections that are remembered; each direction counts by itself. Segments of other
/// connections count as data, unless they begin a connection.
const FLOWS_MAX: usize = 8_192;

/// One direction of a connection: source and target.
pub(super) type Flow = (SocketAddrV4, SocketAddrV4);

/// Bytes that each direction of each connection has carried.
#[derive(Debug, Default)]
pub(super) struct Flows {
    bytes: HashMap<Flow, u64>,
}

/// A TCP segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) flow: Flow,
    /// True if the segment begins a connection (SYN).
    pub(super) begins: bool,
    /// True if the segment aborts a connection (RST).
    pub(super) resets: bool,
    /// Bytes of data, without headers.
    pub(super) bytes: usize,
}

impl Flows {
    /// Returns true if a segment has data after the handshake. A segment without data never has, so
    /// that connections stay open.
    pub(super) fn is_behind_handshake(&mut self, segment: Segment) -> bool {
        if segment.resets {
            self.bytes.remove(&segment.flow);
            return false;
        }
        if segment.begins {
            self.forget_one_if_full();
            self.bytes.insert(segment.flow, 0);
        }
        if segment.bytes == 0 {
            return false;
        }
        let Some(carried) = self.bytes.get_mut(&segment.flow) else { return true };
        *carried = carried.saturating_add(segment.bytes as u64);
        *carried > HANDSHAKE_BYTES
    }

    /// Removes any one connection if the limit is reached. Ends of connections are not tracked,
    /// because both sides may still retransmit.
    fn forget_one_if_full(&mut self) {
        if self.bytes.len() >= FLOWS_MAX
            && let Some(flow) = self.bytes.keys().next().copied()
        {
            self.bytes.remove(&flow);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn flow(port: u16) -> Flow {
        let address = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        (address(port), address(443))
    }

    fn data(port: u16, bytes: usize) -> Segment {
        Segment { flow: flow(port), begins: false, resets: false, bytes }
    }

    fn syn(port: u16) -> Segment {
        Segment { begins: true, ..data(port, 0) }
    }

    #[test]
    fn the_first_bytes_of_each_way_are_its_handshake() {
        let mut flows = Flows::default();
        let all = HANDSHAKE_BYTES as usize;
        for port in [1, 2] {
            assert!(!flows.is_behind_handshake(syn(port)));
            assert!(!flows.is_behind_handshake(data(port, all)));
            assert!(flows.is_behind_handshake(data(port, 1)));
            assert!(!flows.is_behind_handshake(data(port, 0)), "an acknowledgement");
        }
        assert!(!flows.is_behind_handshake(syn(1)), "the port is used again");
        assert!(!flows.is_behind_handshake(data(1, 1)));
        assert!(flows.is_behind_handshake(data(3, 1)), "it began before the line did");
    }

    #[test]
    fn connections_without_number_take_bounded_memory() {
        let mut flows = Flows::default();
        for port in 0..20_000 {
            flows.is_behind_handshake(syn(port));
        }
        assert_eq!(flows.bytes.len(), FLOWS_MAX);
        flows.is_behind_handshake(Segment { resets: true, ..data(19_999, 0) });
        assert_eq!(flows.bytes.len(), FLOWS_MAX - 1);
    }
}
