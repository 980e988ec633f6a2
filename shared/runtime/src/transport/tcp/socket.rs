//! TCP sockets of anchors and lanes: their options, and listening.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::address;

/// Connections that the kernel queues until they are accepted. A restart of a fleet brings them at
/// once.
const BACKLOG: i32 = 1_024;

/// Idle time of a connection after which the kernel probes it. A lane may be idle for hours, and
/// firewalls forget idle connections after minutes.
const PROBE_AFTER: Duration = Duration::from_secs(15);

/// Interval of further probes.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// Listens on an address, even if this machine does not have it now.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // As for UDP: an IPv4 and an IPv6 listener can share a port.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    address::bind(&socket, address)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Sets the options of a new connection. Frames are sent at once. If data stay unacknowledged for
/// longer than the idle timeout, the path of this connection is dead, and the kernel ends it.
pub(super) fn prepare(stream: &TcpStream, idle_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY))?;
    // A quarter more than the time after which the tunnel itself ends a link whose peer does not
    // read, so that the reason is that one.
    socket.set_tcp_user_timeout(Some(idle_timeout + idle_timeout / 4))
}
