//! A congestion window with a floor: CUBIC, but never below the provisioned rate of the line.
//!
//! On a provisioned line, random loss makes CUBIC on one connection collapse although nothing is
//! congested. The floor keeps the window at the committed rate times the smoothed round-trip time.
//! It yields when the round trip has grown so much that our own data must be queuing. The code is
//! pure: quinn drives it, and it reads no clock.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, Cubic, CubicConfig};
use quinn_proto::RttEstimator;

/// The floor yields if the smoothed round trip is more than this many times the smallest one.
const QUEUE_RTT_FACTOR: u32 = 3;

/// Makes a [`FlooredCubic`] for each connection.
#[derive(Debug, Clone)]
pub(crate) struct FlooredCubicConfig {
    /// Provisioned rate of the line, in bytes per second.
    pub(crate) committed_bytes_per_second: u64,
}

impl ControllerFactory for FlooredCubicConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(FlooredCubic {
            cubic: Cubic::new(Arc::new(CubicConfig::default()), now, current_mtu),
            committed_bytes_per_second: self.committed_bytes_per_second,
            floor: 0,
        })
    }
}

/// CUBIC (RFC 9438) with a lower bound on its window.
#[derive(Debug, Clone)]
struct FlooredCubic {
    cubic: Cubic,
    committed_bytes_per_second: u64,
    /// In bytes; 0 until the first round trip is measured, and while the floor yields.
    floor: u64,
}

impl FlooredCubic {
    fn observe(&mut self, smoothed: Duration, smallest: Duration) {
        self.floor = floor(self.committed_bytes_per_second, smoothed, smallest);
    }
}

/// Returns the bytes in flight that fill the committed rate at this round-trip time, or 0 if a
/// queue has built up.
fn floor(bytes_per_second: u64, smoothed: Duration, smallest: Duration) -> u64 {
    if smoothed > smallest * QUEUE_RTT_FACTOR {
        return 0;
    }
    let bytes = u128::from(bytes_per_second).saturating_mul(smoothed.as_micros()) / 1_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

impl Controller for FlooredCubic {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
        self.observe(rtt.get(), rtt.min());
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_acked: Option<u64>) {
        self.cubic.on_end_acks(now, in_flight, app_limited, largest_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent: bool, lost_bytes: u64) {
        self.cubic.on_congestion_event(now, sent, is_persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window().max(self.floor)
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.cubic.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MBIT_50: u64 = 50_000_000 / 8;

    fn controller() -> FlooredCubic {
        FlooredCubic {
            cubic: Cubic::new(Arc::new(CubicConfig::default()), Instant::now(), 1200),
            committed_bytes_per_second: MBIT_50,
            floor: 0,
        }
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_floor_is_the_committed_rate_times_the_round_trip() {
        assert_eq!(floor(MBIT_50, ms(10), ms(10)), 62_500);
        assert_eq!(floor(MBIT_50, ms(30), ms(10)), 187_500);
    }

    #[test]
    fn the_floor_yields_to_a_queue_of_our_own_making() {
        assert_eq!(floor(MBIT_50, ms(31), ms(10)), 0);
    }

    #[test]
    fn an_absurd_rate_does_not_overflow() {
        assert_eq!(floor(u64::MAX, Duration::MAX / 4, Duration::MAX / 4), u64::MAX);
    }

    #[test]
    fn loss_does_not_take_the_window_below_the_floor() {
        let mut controller = controller();
        controller.observe(ms(10), ms(10));
        let now = Instant::now();
        for i in 1..50 {
            let later = now + ms(100 * i);
            controller.on_congestion_event(later, later, true, 1200);
        }
        assert!(controller.cubic.window() < 62_500, "CUBIC itself collapsed");
        assert_eq!(controller.window(), 62_500);
    }

    #[test]
    fn while_the_floor_yields_cubic_alone_decides() {
        let mut controller = controller();
        controller.observe(ms(10), ms(10));
        controller.observe(ms(40), ms(10));
        assert_eq!(controller.window(), controller.cubic.window());
    }

    #[test]
    fn before_the_first_measurement_cubic_alone_decides() {
        assert_eq!(controller().window(), controller().initial_window());
    }
}
