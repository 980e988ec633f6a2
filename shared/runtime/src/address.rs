//! Listening on addresses that this machine does not have now: on a network that comes up later, or
//! addresses that move between two hosts.
//!
//! A socket is bound to such an address all the same (`IP_FREEBIND`, ip(7)), and receives as soon
//! as the machine has it. So the agent need not be restarted.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel queues until they are accepted.
const BACKLOG: i32 = 128;

/// Binds a socket to an address, even if this machine does not have it now.
///
/// # Errors
///
/// Fails if the address cannot be bound, for example because it is in use.
pub fn bind(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    // If the kernel does not support the option, the machine must have the address.
    let _wish = match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true),
        SocketAddr::V6(_) => socket.set_freebind_v6(true),
    };
    socket.bind(&address.into())
}

/// Listens on an address, even if this machine does not have it now. Call it within a tokio
/// runtime.
///
/// # Errors
///
/// Fails if the address cannot be bound.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    bind(&socket, address)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Returns one sentence for all addresses of a setting that this machine does not have now, and
/// none if it has them all.
pub fn obstacles(setting: &str, addresses: &[SocketAddr]) -> Vec<String> {
    let is_missing = |address: &&SocketAddr| {
        let here = UdpSocket::bind((address.ip(), 0));
        here.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
    };
    let sentence = |address: &SocketAddr| {
        format!(
            "{setting}: this machine does not have {} now; nothing can be received there until it has",
            address.ip()
        )
    };
    addresses.iter().filter(is_missing).map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_address_is_bound_all_the_same_and_reported() {
        // Addresses for documentation (RFC 5737, RFC 3849), which no machine has.
        let missing: [SocketAddr; 2] = ["192.0.2.7:0".parse().unwrap(), "[2001:db8::7]:0".parse().unwrap()];
        for address in missing {
            if address.is_ipv6() && UdpSocket::bind("[::1]:0").is_err() {
                continue;
            }
            assert_eq!(listen(address).unwrap().local_addr().unwrap().ip(), address.ip());
            let told = obstacles("tunnel.listen", &[address]);
            assert!(told.len() == 1 && told[0].starts_with("tunnel.listen: "), "{told:?}");
        }
        let here = ["127.0.0.1:1".parse().unwrap(), "0.0.0.0:1".parse().unwrap()];
        assert_eq!(obstacles("tunnel.listen", &here), Vec::<String>::new());
    }

    #[test]
    fn an_address_that_is_taken_is_refused_as_ever() {
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = listen(first.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
