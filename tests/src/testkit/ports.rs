//! Loopback ports for servers that the harness starts in other processes.
//!
//! If a port is taken from the system and released again, another process may get it. So these
//! ports come from below the system's range, and each process has its own blocks of ports. A
//! process owns a block while it listens on the block's first port.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// The system's own range begins at 32,768 by default (`ip_local_port_range`).
const PORTS: Range<u16> = 20_000..32_000;

/// Ports in a block, including the first port, which marks the owner.
const BLOCK: u16 = 60;

/// A block of ports that this process owns.
struct Block {
    /// The listener on the block's first port.
    _claim: TcpListener,
    /// Ports of the block that are still free.
    left: Range<u16>,
}

/// Returns a free loopback address, for TCP and UDP. No other process of the harness gets the
/// address while this process runs.
///
/// # Errors
///
/// Fails if no port is free.
pub fn free_address() -> io::Result<SocketAddr> {
    static BLOCKS: Mutex<Vec<Block>> = Mutex::new(Vec::new());
    let mut blocks = BLOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(block) = blocks.last_mut()
            && let Some(address) = block.left.by_ref().map(on_loopback).find(|address| is_free(*address))
        {
            return Ok(address);
        }
        blocks.push(claim()?);
    }
}

fn claim() -> io::Result<Block> {
    PORTS
        .step_by(usize::from(BLOCK))
        .find_map(|first| {
            let claim = TcpListener::bind(on_loopback(first)).ok()?;
            Some(Block { _claim: claim, left: first + 1..first + BLOCK })
        })
        .ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, format!("no port in {PORTS:?} is free")))
}

fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}

fn on_loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_address_is_given_once_and_never_by_the_system() {
        let addresses: HashSet<SocketAddr> = (0..3 * BLOCK).map(|_| free_address().unwrap()).collect();
        assert_eq!(addresses.len(), usize::from(3 * BLOCK));
        for _ in 0..1_000 {
            let picked = UdpSocket::bind(on_loopback(0)).unwrap().local_addr().unwrap();
            assert!(!addresses.contains(&picked), "{picked}");
        }
    }

    #[test]
    fn a_port_that_somebody_uses_is_not_handed_out() {
        let (tcp, udp) = (free_address().unwrap(), free_address().unwrap());
        let (_tcp, _udp) = (TcpListener::bind(tcp).unwrap(), UdpSocket::bind(udp).unwrap());
        assert!(!is_free(tcp) && !is_free(udp));
    }
}
