//! IPv4 packets on the line: their properties, their direction, and their addresses at the other
//! end.
//!
//! Both ends are on one machine, whose kernel would never send a packet between two of its own
//! addresses through a device. So each end uses addresses for the other end that no host has. The
//! line receives the packets to these addresses, replaces both addresses, and hands the packets
//! back to the kernel. Two bits of an address's last byte name its owner:
//!
//! | | last byte | is |
//! |---|---|---|
//! | `near` | 0 + host | the near end, an address of this machine |
//! | `far, from near` | 192 + host | the far end, as the near end dials it |
//! | `near, from far` | 64 + host | the near end, as the far end sees it |
//! | `far` | 128 + host | the far end, an address of this machine |
//!
//! So both addresses change by one bit (64), one up and one down, and no checksum changes with
//! them. IP options and IPv6 are not carried.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::conditions::{Protocol, Traffic, Way};
use super::flows::{Flows, Segment};

/// Most hosts of each end; they are numbered from 1.
pub const HOSTS: u8 = 62;
/// Bits of an address's last byte that name its owner.
const OWNER: u8 = 0b1100_0000;
const NEAR: u8 = 0;
const NEAR_FROM_FAR: u8 = 64;
const FAR: u8 = 128;
const FAR_FROM_NEAR: u8 = 192;
const CROSSING: u8 = 64;

/// Sizes of an IP header without options, and of a UDP or ICMP header.
const IP_BYTES: usize = 20;
const SHORT_HEADER_BYTES: usize = 8;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The addresses of one line. The first three bytes belong to the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network(pub(super) [u8; 3]);

impl Network {
    /// Returns the address of a host of the near end.
    pub(super) fn near(self, host: u8) -> Ipv4Addr {
        self.address(NEAR, host)
    }

    /// Returns the address of a host of the far end.
    pub(super) fn far(self, host: u8) -> Ipv4Addr {
        self.address(FAR, host)
    }

    /// Returns the address that the other end must use to reach `own`. Returns `None` if `own` is
    /// not an address of [`Network::near`] or [`Network::far`].
    pub(super) fn seen_from_other_end(self, own: Ipv4Addr) -> Option<Ipv4Addr> {
        let [.., last] = self.own(own)?;
        match last & OWNER {
            NEAR | FAR => Some(self.address(last & OWNER | CROSSING, last & !OWNER)),
            _ => None,
        }
    }

    /// Returns the route from the near end to all hosts of the far end.
    pub(super) fn route_there(self) -> String {
        format!("{}/26", self.address(FAR_FROM_NEAR, 0))
    }

    /// Returns the route from the far end to all hosts of the near end.
    pub(super) fn route_back(self) -> String {
        format!("{}/26", self.address(NEAR_FROM_FAR, 0))
    }

    fn address(self, owner: u8, host: u8) -> Ipv4Addr {
        let [a, b, c] = self.0;
        Ipv4Addr::new(a, b, c, owner | host)
    }

    fn own(self, address: Ipv4Addr) -> Option<[u8; 4]> {
        let octets = address.octets();
        (octets[..3] == self.0).then_some(octets)
    }

    /// Returns the direction of a packet. Returns `None` if the packet does not cross the line: it
    /// is no IPv4 packet, or not from one end to the other.
    pub(super) fn way_of(self, packet: &[u8]) -> Option<Way> {
        let (source, target) = addresses(packet)?;
        let ([.., source], [.., target]) = (self.own(source)?, self.own(target)?);
        match (source & OWNER, target & OWNER) {
            (NEAR, FAR_FROM_NEAR) => Some(Way::There),
            (FAR, NEAR_FROM_FAR) => Some(Way::Back),
            _ => None,
        }
    }
}

/// Replaces the addresses of a crossing packet by those at the other end. Checksums stay right.
///
/// An ICMP error quotes the packet that it is about. The addresses in the quoted packet are
/// replaced as well.
pub(super) fn cross(packet: &mut [u8]) {
    let is_error =
        packet.get(9) == Some(&ICMP) && packet.get(IP_BYTES).is_some_and(|kind| [3, 11].contains(kind));
    let quoted = IP_BYTES + SHORT_HEADER_BYTES;
    let last_bytes: &[usize] = if is_error { &[15, 19, quoted + 15, quoted + 19] } else { &[15, 19] };
    for last in last_bytes {
        if let Some(last) = packet.get_mut(*last) {
            *last ^= CROSSING;
        }
    }
}

/// Returns the properties of a packet that a cut tests.
pub(super) fn traffic(packet: &[u8], flows: &mut Flows) -> Traffic {
    let behind =
        |protocol, is_behind_handshake| Traffic { protocol, bytes: packet.len(), is_behind_handshake };
    let fragment =
        packet.get(6..8).is_some_and(|field| u16::from_be_bytes([field[0], field[1]]) & 0x1FFF != 0);
    let above = packet.get(IP_BYTES..).unwrap_or_default();
    match packet.get(9) {
        // Only the first fragment has a UDP header. Only large packets are fragmented, so they
        // count as data.
        Some(&UDP) if fragment => behind(Protocol::Udp, true),
        Some(&UDP) => behind(Protocol::Udp, above.get(SHORT_HEADER_BYTES..).is_some_and(is_quic_data)),
        Some(&TCP) => {
            let segment = segment(packet, above);
            behind(Protocol::Tcp, segment.is_none_or(|segment| flows.is_behind_handshake(segment)))
        }
        _ => behind(Protocol::Other, false),
    }
}

/// Returns true if a QUIC datagram begins with a short header, which is only sent once the
/// handshake has given keys (RFC 9000, section 17.3). A datagram that begins with a long header
/// belongs to the handshake.
pub(super) fn is_quic_data(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| first & 0x80 == 0)
}

/// Makes the ICMP message to a sender whose packet was too large for the line (RFC 792, RFC 1191).
/// Returns `None` if the sender allowed fragments, or must not be told. Such a packet is only lost.
pub(super) fn too_large(packet: &[u8], mtu: u16) -> Option<Vec<u8>> {
    const DESTINATION_UNREACHABLE: u8 = 3;
    const FRAGMENTATION_NEEDED: u8 = 4;
    const DONT_FRAGMENT: u8 = 0x40;
    let (source, target) = addresses(packet)?;
    if packet[6] & DONT_FRAGMENT == 0 || packet[9] == ICMP {
        return None;
    }
    let quoted = &packet[..packet.len().min(IP_BYTES + SHORT_HEADER_BYTES)];
    let mut icmp = vec![DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED, 0, 0, 0, 0];
    icmp.extend(mtu.to_be_bytes());
    icmp.extend(quoted);
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let length = u16::try_from(IP_BYTES + icmp.len()).ok()?;
    let mut answer = vec![0x45, 0];
    answer.extend(length.to_be_bytes());
    // No identification, no fragments, a limit of 64 hops; the checksum follows.
    answer.extend([0, 0, 0, 0, 64, ICMP, 0, 0]);
    // From the address that the sender sent to, back to the sender.
    answer.extend(target.octets());
    answer.extend(source.octets());
    let sum = checksum(&answer);
    answer[10..12].copy_from_slice(&sum.to_be_bytes());
    answer.extend(icmp);
    Some(answer)
}

fn addresses(packet: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    // Version 4, and a header without options.
    let is_plain = packet.first() == Some(&0x45) && packet.len() >= IP_BYTES;
    is_plain.then(|| {
        let address = |at| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
        (address(12), address(16))
    })
}

fn segment(packet: &[u8], tcp: &[u8]) -> Option<Segment> {
    const SYN: u8 = 0x02;
    const RST: u8 = 0x04;
    let (source, target) = addresses(packet)?;
    let (offset, flags) = (tcp.get(12)?, tcp.get(13)?);
    let port = |at: usize| Some(u16::from_be_bytes([*tcp.get(at)?, *tcp.get(at + 1)?]));
    Some(Segment {
        flow: (SocketAddrV4::new(source, port(0)?), SocketAddrV4::new(target, port(2)?)),
        begins: flags & SYN != 0,
        resets: flags & RST != 0,
        bytes: tcp.len().saturating_sub(usize::from(offset >> 4) * 4),
    })
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: Network = Network([198, 18, 7]);

    /// Makes a packet with a valid header checksum, and `above` behind the header.
    fn packet(protocol: u8, source: Ipv4Addr, target: Ipv4Addr, above: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0];
        packet.extend(u16::try_from(IP_BYTES + above.len()).expect("small").to_be_bytes());
        packet.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
        packet.extend(source.octets());
        packet.extend(target.octets());
        let sum = checksum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(above);
        packet
    }

    fn seen(own: Ipv4Addr) -> Ipv4Addr {
        NETWORK.seen_from_other_end(own).expect("an address of this machine")
    }

    #[test]
    fn a_packet_crosses_to_the_other_end_and_its_answer_comes_back() {
        for (near, far) in [(1, 1), (7, 62), (62, 3)] {
            let (near, far) = (NETWORK.near(near), NETWORK.far(far));
            let mut there = packet(UDP, near, seen(far), b"12345678");
            assert_eq!(NETWORK.way_of(&there), Some(Way::There));
            cross(&mut there);
            assert_eq!(addresses(&there), Some((seen(near), far)));
            let mut back = packet(UDP, far, seen(near), b"12345678");
            assert_eq!(NETWORK.way_of(&back), Some(Way::Back));
            cross(&mut back);
            assert_eq!(addresses(&back), Some((seen(far), near)));
            for crossed in [there, back] {
                assert_eq!(checksum(&crossed[..IP_BYTES]), 0, "the header's checksum stays right");
            }
        }
    }

    #[test]
    fn the_checksum_of_what_is_above_stays_right_as_well() {
        let (near, far) = (NETWORK.near(1), NETWORK.far(1));
        let sum_of_addresses = |packet: &[u8]| checksum(&packet[12..20]);
        let mut crossing = packet(TCP, near, seen(far), &[0; 20]);
        let before = sum_of_addresses(&crossing);
        cross(&mut crossing);
        assert_eq!(sum_of_addresses(&crossing), before);
    }

    #[test]
    fn an_icmp_error_quotes_the_addresses_that_its_reader_knows() {
        let (near, far) = (NETWORK.near(1), NETWORK.far(1));
        let refused = packet(UDP, seen(near), far, b"12345678");
        let mut error = packet(ICMP, far, seen(near), &[&[3, 3, 0, 0, 0, 0, 0, 0], &refused[..]].concat());
        let before = checksum(&error[IP_BYTES..]);
        cross(&mut error);
        assert_eq!(addresses(&error[28..]), Some((near, seen(far))));
        assert_eq!(checksum(&error[IP_BYTES..]), before);
    }

    #[test]
    fn what_does_not_cross_has_no_way() {
        let (near, far) = (NETWORK.near(1), NETWORK.far(1));
        let strange = Ipv4Addr::new(192, 0, 2, 1);
        for (source, target) in [(near, far), (near, seen(near)), (strange, seen(far)), (near, strange)] {
            assert_eq!(NETWORK.way_of(&packet(UDP, source, target, &[])), None, "{source} to {target}");
        }
        assert_eq!(NETWORK.way_of(&[0x60; 40]), None, "IPv6");
        assert_eq!(NETWORK.way_of(&[0x45; 10]), None, "torn");
        assert_eq!(NETWORK.seen_from_other_end(strange), None);
        assert_eq!(NETWORK.seen_from_other_end(seen(far)), None);
    }

    #[test]
    fn quic_data_and_tcp_beyond_the_handshake_are_behind_it() {
        let (near, far) = (NETWORK.near(1), seen(NETWORK.far(1)));
        let mut flows = Flows::default();
        let mut of = |protocol, above: &[u8]| traffic(&packet(protocol, near, far, above), &mut flows);
        let datagram = |first| [&[0; 8], &[first; 30][..]].concat();
        let udp = |is_behind_handshake| Traffic { protocol: Protocol::Udp, bytes: 58, is_behind_handshake };
        assert_eq!(of(UDP, &datagram(0xC3)), udp(false));
        assert_eq!(of(UDP, &datagram(0x43)), udp(true));
        let segment = |flags, bytes: usize| {
            let mut tcp = vec![0_u8; 20 + bytes];
            (tcp[12], tcp[13]) = (0x50, flags);
            tcp
        };
        let mut is_behind = |flags, bytes| of(TCP, &segment(flags, bytes)).is_behind_handshake;
        assert!(!is_behind(0x02, 0));
        assert!(!is_behind(0x10, 8_000));
        assert!(!is_behind(0x10, 0));
        assert!(is_behind(0x10, 1_000));
        assert_eq!(of(ICMP, &[8, 0]).protocol, Protocol::Other);
    }

    #[test]
    fn a_sender_is_told_that_its_packet_was_too_large() {
        let (near, far) = (NETWORK.near(1), seen(NETWORK.far(1)));
        let sent = packet(UDP, near, far, &[7; 1_400]);
        let message = too_large(&sent, 1_280).expect("it may not be cut into fragments");
        assert_eq!(addresses(&message), Some((far, near)));
        assert_eq!((checksum(&message[..IP_BYTES]), checksum(&message[IP_BYTES..])), (0, 0));
        assert_eq!(message[IP_BYTES..IP_BYTES + 8], [3, 4, message[22], message[23], 0, 0, 5, 0]);
        assert_eq!(message[28..], sent[..28]);
        let mut may_be_cut = sent;
        may_be_cut[6] = 0;
        assert_eq!(too_large(&may_be_cut, 1_280), None);
    }
}
