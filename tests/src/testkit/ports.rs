//! Loopback ports for servers that the harness starts in other processes.
//!
//! A port that the system picks and that is let go again belongs to whoever asks next, and UDP ports are picked at random.
//! So these come from below the range that the system picks from, and each process has blocks of its own: a block is whose
//! process listens on its first port.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Linux picks from 32768 on unless it is told otherwise (`ip_local_port_range`).
const PORTS: Range<u16> = 20_000..32_000;

/// Ports in a block, the one that is listened on included.
const BLOCK: u16 = 60;

/// A block of ports.
struct Block {
    /// What says that it is taken.
    _claim: TcpListener,
    /// Ports of it that have not been handed out.
    left: Range<u16>,
}

/// A loopback address that nobody uses, for TCP and UDP. No other process of the harness gets it as long as this one runs.
///
/// # Errors
/// When no port is free.
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
