//! UDP sockets with requested buffer sizes. If the kernel grants less, a warning is logged.
//!
//! Linux silently reduces a request to a system-wide limit that is far too small for a surge. The
//! warning names the sysctl and the value that it needs.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::address;

/// Returns a bound socket with buffers of `buffer_bytes` for each direction, as far as the kernel
/// grants them.
pub(super) fn bind(address: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // Each family gets its own socket, so that an IPv4 and an IPv6 listener can share a port.
        socket.set_only_v6(true)?;
    }
    socket.set_recv_buffer_size(buffer_bytes)?;
    socket.set_send_buffer_size(buffer_bytes)?;
    address::bind(&socket, address)?;
    let receive = granted(socket.recv_buffer_size()?);
    let send = granted(socket.send_buffer_size()?);
    if let Some(advice) = shortfall(buffer_bytes, receive, send) {
        tracing::warn!(%address, receive, send, asked = buffer_bytes, "small UDP buffers lose packets in a surge: {advice}");
    }
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Returns the granted size. Linux reports twice the granted size, for its own bookkeeping
/// (socket(7)).
fn granted(reported: usize) -> usize {
    if cfg!(target_os = "linux") { reported / 2 } else { reported }
}

/// Returns the sysctl settings to change, if less was granted than requested.
fn shortfall(asked: usize, receive: usize, send: usize) -> Option<String> {
    let short = [("net.core.rmem_max", receive), ("net.core.wmem_max", send)];
    let settings: Vec<_> = short
        .into_iter()
        .filter(|(_, granted)| *granted < asked)
        .map(|(name, _)| format!("sysctl -w {name}={asked}"))
        .collect();
    (!settings.is_empty()).then(|| settings.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_below_the_request_names_the_sysctl_and_its_value() {
        let advice = shortfall(8_388_608, 212_992, 8_388_608).unwrap();
        assert_eq!(advice, "sysctl -w net.core.rmem_max=8388608");
        assert_eq!(shortfall(100, 100, 100), None);
    }

    #[test]
    fn a_port_is_bound_even_where_the_kernel_grants_less() {
        let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1 << 30).unwrap();
        assert_ne!(socket.local_addr().unwrap().port(), 0);
    }
}
