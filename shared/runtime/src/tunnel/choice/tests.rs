//! Tests of the decision between QUIC and TCP, without a clock.

use super::*;
use TransportKind::{Quic, Tcp};

const PAUSE: Duration = Duration::from_millis(100);
const SILENCE_MAX: Duration = Duration::from_millis(1_500);

/// A decision at a time that the test moves.
struct Scene {
    choice: Choice,
    now: Instant,
    packets: Packets,
}

impl Scene {
    fn new() -> Self {
        let now = Instant::now();
        Self { choice: Choice::new(now), now, packets: Packets { received: 0, sent: 0, lost: 0 } }
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.choice.poll(self.now)).collect()
    }

    fn after(&mut self, millis: u64) -> Vec<Action> {
        self.now += Duration::from_millis(millis);
        self.actions()
    }

    fn up(&mut self, transport: TransportKind) -> Vec<Action> {
        self.choice.handle_up(transport, self.now);
        self.actions()
    }

    fn failed(&mut self, transport: TransportKind) -> Vec<Action> {
        self.choice.handle_failed(transport, "no answer within 5 s", PAUSE, self.now);
        self.actions()
    }

    fn down(&mut self, transport: TransportKind) -> Vec<Action> {
        self.choice.handle_down(transport, "nothing was heard", PAUSE, self.now);
        self.actions()
    }

    /// Lets a second pass in which these packets were sent, lost and received.
    fn second(&mut self, sent: u64, lost: u64, received: u64) -> Vec<Action> {
        self.packets.sent += sent;
        self.packets.lost += lost;
        self.packets.received += received;
        self.now += Duration::from_secs(1);
        self.choice.handle_packets(self.packets, SILENCE_MAX, self.now);
        self.actions()
    }

    /// Returns a dialler with a TCP link, after QUIC did not connect.
    fn over_tcp() -> Self {
        let mut scene = Self::new();
        assert_eq!(scene.actions(), [Action::Dial(Quic)]);
        assert_eq!(scene.after(300), [Action::Dial(Tcp)]);
        assert_eq!(scene.up(Tcp), []);
        assert_eq!(scene.choice.why_tcp(), Some(&Reason::NoLink(Duration::from_millis(300))));
        scene
    }

    fn over_quic() -> Self {
        let mut scene = Self::new();
        assert_eq!(scene.actions(), [Action::Dial(Quic)]);
        assert_eq!(scene.up(Quic), []);
        scene
    }
}

#[test]
fn tcp_is_dialled_a_moment_after_quic_and_dropped_if_quic_wins() {
    let mut scene = Scene::new();
    assert_eq!(scene.actions(), [Action::Dial(Quic)]);
    assert_eq!(scene.choice.next_at(), Some(scene.now + HEAD_START));
    assert_eq!(scene.after(299), []);
    assert_eq!(scene.after(1), [Action::Dial(Tcp)]);
    assert_eq!(scene.up(Quic), [Action::Drop(Tcp)]);
    assert_eq!((scene.choice.why_tcp(), scene.choice.next_at()), (None, None));
    assert_eq!(scene.after(3_600_000), []);
}

#[test]
fn a_tcp_link_that_came_up_while_it_was_dropped_ends_later() {
    let mut scene = Scene::new();
    assert_eq!(scene.actions(), [Action::Dial(Quic)]);
    assert_eq!(scene.after(300), [Action::Dial(Tcp)]);
    assert_eq!(scene.up(Quic), [Action::Drop(Tcp)]);
    assert_eq!(scene.up(Tcp), []);
    for _ in 0..2 {
        assert_eq!(scene.second(10, 0, 10), []);
    }
    assert_eq!(scene.second(10, 0, 10), [Action::End(Tcp, Reason::Carries(TRIAL_TIME))]);
}

#[test]
fn a_healthy_quic_link_leaves_tcp_alone() {
    let mut scene = Scene::over_quic();
    for _ in 0..100 {
        assert_eq!(scene.second(100, 5, 100), [], "5 % loss");
    }
    assert_eq!(scene.second(3, 3, 1), [], "a few packets are chance");
}

#[test]
fn a_silent_quic_link_ends_after_tcp_is_up() {
    let mut scene = Scene::over_quic();
    assert_eq!(scene.second(10, 0, 10), []);
    assert_eq!(scene.second(10, 0, 0), []);
    assert_eq!(scene.second(10, 9, 0), [Action::Dial(Tcp)]);
    let silent = Reason::Silent(Duration::from_secs(2));
    assert_eq!(scene.up(Tcp), [Action::End(Quic, silent.clone())]);
    assert_eq!(scene.down(Quic), []);
    assert_eq!((scene.choice.why_tcp(), silent.code()), (Some(&silent), "silent"));
}

#[test]
fn quic_that_loses_what_it_sends_ends_though_small_packets_pass() {
    let mut scene = Scene::over_quic();
    assert_eq!(scene.second(40, 1, 40), []);
    assert_eq!(scene.second(40, 30, 2), [Action::Dial(Tcp)]);
    assert_eq!(scene.second(30, 25, 2), []);
    assert_eq!(scene.up(Tcp), [Action::End(Quic, Reason::Lossy { lost: 55, sent: 70 })]);
}

#[test]
fn a_quic_link_that_recovers_in_time_stays() {
    let mut scene = Scene::over_quic();
    assert_eq!(scene.second(10, 0, 0), []);
    assert_eq!(scene.second(10, 0, 0), [Action::Dial(Tcp)]);
    assert_eq!(scene.second(10, 0, 10), [Action::Drop(Tcp)]);
    assert_eq!(scene.after(3_600_000), []);
}

#[test]
fn quic_is_tried_beside_tcp_and_takes_over_after_it_has_carried() {
    let mut scene = Scene::over_tcp();
    assert_eq!(scene.failed(Quic), []);
    assert_eq!(scene.after(9_999), []);
    assert_eq!(scene.after(1), [Action::Dial(Quic)]);
    assert_eq!(scene.up(Quic), []);
    for _ in 0..2 {
        assert_eq!(scene.second(10, 0, 10), []);
    }
    assert_eq!(scene.second(10, 0, 10), [Action::End(Tcp, Reason::Carries(TRIAL_TIME))]);
    assert_eq!(scene.down(Tcp), []);
    assert_eq!(scene.choice.why_tcp(), None);
    assert_eq!(scene.after(3_600_000), []);
}

#[test]
fn quic_that_does_not_carry_beside_tcp_is_tried_less_often() {
    let mut scene = Scene::over_tcp();
    assert_eq!(scene.failed(Quic), []);
    for pause in [10_000, 20_000, 40_000, 40_000] {
        assert_eq!(scene.after(pause - 1), []);
        assert_eq!(scene.after(1), [Action::Dial(Quic)]);
        assert_eq!(scene.up(Quic), []);
        scene.packets = Packets { received: 0, sent: 0, lost: 0 };
        assert_eq!(scene.second(5, 0, 0), []);
        assert_eq!(scene.second(5, 0, 0), [Action::End(Quic, Reason::Silent(Duration::from_secs(2)))]);
        assert_eq!(scene.down(Quic), []);
    }
    assert!(scene.choice.why_tcp().is_some());
}

#[test]
fn an_unblocked_quic_is_tried_within_a_minute_whatever_failed_before() {
    let mut scene = Scene::over_tcp();
    for _ in 0..1_000 {
        scene.failed(Quic);
        let at = scene.choice.next_at().unwrap();
        assert!(at - scene.now <= Duration::from_secs(45));
        scene.now = at;
        assert_eq!(scene.actions(), [Action::Dial(Quic)]);
    }
}

#[test]
fn without_any_link_both_are_dialled_again_after_their_pauses() {
    let mut scene = Scene::over_tcp();
    assert_eq!(scene.failed(Quic), []);
    assert_eq!(scene.down(Tcp), []);
    assert_eq!(scene.after(300), [Action::Dial(Quic), Action::Dial(Tcp)]);
    assert_eq!(scene.failed(Tcp), []);
    assert_eq!(scene.after(100), [Action::Dial(Tcp)]);
}

#[test]
fn quic_that_ends_by_itself_is_dialled_again_before_tcp() {
    let mut scene = Scene::over_quic();
    scene.now += Duration::from_secs(60);
    assert_eq!(scene.down(Quic), []);
    assert_eq!(scene.after(100), [Action::Dial(Quic)]);
    assert_eq!(scene.after(200), [Action::Dial(Tcp)]);
    assert_eq!(scene.up(Tcp), []);
    assert_eq!(scene.choice.why_tcp(), Some(&Reason::Failed("nothing was heard".to_owned())));
}
