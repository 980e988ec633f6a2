//! Addresses to listen on that this machine does not have yet, or has no more: of a network that comes up later, or one that
//! moves between two hosts.
//!
//! A socket is bound to such an address all the same (`IP_FREEBIND`, ip(7)), and hears from the moment that it is there. So an
//! agent need not end and be started again until it is.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel keeps for us until they are accepted.
const BACKLOG: i32 = 128;

/// Binds a socket to an address, whether or not this machine has it now.
pub fn bind(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    // A wish: where the kernel does not know it, the address has to be there.
    let _wish = match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true),
        SocketAddr::V6(_) => socket.set_freebind_v6(true),
    };
    socket.bind(&address.into())
}

/// Listens on an address, whether or not this machine has it now. For a tokio runtime.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    bind(&socket, address)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The addresses of a setting that this machine does not have now, each as a sentence.
pub fn obstacles(setting: &str, addresses: &[SocketAddr]) -> Vec<String> {
    let is_missing = |address: &&SocketAddr| {
        let here = UdpSocket::bind((address.ip(), 0));
        here.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
    };
    let sentence = |address: &SocketAddr| {
        format!(
            "{setting}: this machine does not have {} now; nobody is heard there before it has",
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
        // For documents (RFC 5737, RFC 3849): nobody has them.
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
