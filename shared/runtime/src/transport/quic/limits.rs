//! QUIC's limits and assumptions, each number with its reason.

use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::wire::lane::LANES_MAX;
use quinn::congestion::CubicConfig;
use quinn::{ServerConfig, TransportConfig, VarInt};

use crate::config::TunnelConfig;
use crate::transport::floor::FlooredCubicConfig;
use crate::transport::keep_alive_interval;

/// Unread data that a lane buffers: enough for 20 MB/s on four lanes at a round trip of 50 ms.
const LANE_RECEIVE_WINDOW: u32 = 256 * 1024;

/// The same limit for all lanes together. It bounds the memory that a peer can fill.
const RECEIVE_WINDOW: u32 = 32 * 1024 * 1024;

/// Data of all lanes that is sent and not yet acknowledged.
const SEND_WINDOW: u64 = 8 * 1024 * 1024;

/// Assumed before the first measurement. With quinn's 333 ms, the first lost packet of a handshake
/// would cost a third of a second.
const INITIAL_RTT: Duration = Duration::from_millis(50);

/// Peers that connected and wait in quinn, and the bytes of theirs that it buffers.
const INCOMING_MAX: usize = 1024;
const INCOMING_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Returns the configuration of the listening side. The peer opens lanes towards it.
pub(super) fn listening(tunnel: &TunnelConfig) -> Arc<TransportConfig> {
    Arc::new(transport_config(tunnel, LANES_MAX.into()))
}

/// Returns the configuration of the dialling side. A listener must not open lanes.
pub(super) fn dialling(tunnel: &TunnelConfig) -> Arc<TransportConfig> {
    Arc::new(transport_config(tunnel, 0))
}

/// Bounds the cost of peers that are not admitted yet.
pub(super) fn bound_incoming(config: &mut ServerConfig) {
    config.max_incoming(INCOMING_MAX).incoming_buffer_size_total(INCOMING_BYTES_MAX);
}

fn transport_config(tunnel: &TunnelConfig, lanes_from_peer: u32) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(lanes_from_peer))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(LANE_RECEIVE_WINDOW))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .send_window(SEND_WINDOW)
        // Fairness would split every packet among the lanes. Frames are small and should go out
        // whole.
        .send_fairness(false)
        .initial_rtt(INITIAL_RTT)
        .max_idle_timeout(tunnel.idle_timeout.try_into().ok())
        .keep_alive_interval(Some(keep_alive_interval(tunnel.idle_timeout)))
        .datagram_receive_buffer_size(None);
    match tunnel.committed_rate {
        Some(rate) => config.congestion_controller_factory(Arc::new(FlooredCubicConfig {
            committed_bytes_per_second: rate.bytes_per_second(),
        })),
        None => config.congestion_controller_factory(Arc::new(CubicConfig::default())),
    };
    config
}
