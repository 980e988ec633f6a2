//! A replica: the real subscriber, and a driver that applies pages one after the other and may be
//! slow.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bridge_protocol::domain::Brand;
use bridge_protocol::domain::catalogue::{EntityKey, Position};
use bridge_protocol::feed::Row;
use bridge_protocol::feed::subscriber::{Output, Subscriber, SubscriberLimits};

use super::source::{Rows, sums};
use super::{Event, World, note};

/// A page to apply, or the beginning of a bootstrap.
pub(super) enum Step {
    StartAnew,
    Apply { page: u64, rows: Vec<Row>, complete: bool },
}

/// State that survives the end of the process.
#[derive(Clone, Default)]
pub(super) struct Snapshot {
    rows: Rows,
    pub(super) position: Option<Position>,
    planted: BTreeSet<EntityKey>,
}

/// One replica.
pub(super) struct Replica {
    pub(super) subscriber: Subscriber,
    pub(super) up: bool,
    pub(super) life: u32,
    started: Duration,
    pub(super) rows: Rows,
    collected: Option<Rows>,
    steps: VecDeque<Step>,
    applying: bool,
    pub(super) slow_until: Duration,
    pub(super) snapshot: Snapshot,
    /// Rows that the simulation changed on purpose and that are not repaired yet.
    pub(super) planted: BTreeSet<EntityKey>,
    /// Last moment at which the served rows were known to be equal to the source.
    pub(super) fresh_at: Duration,
    timer: Option<Duration>,
}

impl Replica {
    /// Returns true if the replica collects rows for a bootstrap, or is about to.
    pub(super) fn is_bootstrapping(&self) -> bool {
        self.collected.is_some() || self.steps.iter().any(|step| matches!(step, Step::StartAnew))
    }

    pub(super) fn new(limits: SubscriberLimits, brands: &[Brand]) -> Self {
        Self {
            subscriber: Subscriber::new(limits, brands.to_vec(), None),
            up: true,
            life: 0,
            started: Duration::ZERO,
            rows: Rows::new(),
            collected: None,
            steps: VecDeque::new(),
            applying: false,
            slow_until: Duration::ZERO,
            snapshot: Snapshot::default(),
            planted: BTreeSet::new(),
            fresh_at: Duration::ZERO,
            timer: None,
        }
    }
}

impl World {
    /// Kills a replica's process and schedules its next start.
    pub(super) fn kill_replica(&mut self, index: usize) {
        let (lines, delay) = (self.lines_of(|line| line.replica == index), self.dice.millis(5..=400));
        lines.into_iter().for_each(|link| self.kill_line(link));
        let replica = &mut self.replicas[index];
        (replica.up, replica.life) = (false, replica.life + 1);
        note!(self, "replica {index} is killed");
        self.after(delay, Event::ReplicaStarts(index));
    }

    /// Starts a replica with its last snapshot, unless the snapshot is lost.
    pub(super) fn replica_starts(&mut self, index: usize) {
        let warm = self.dice.happens(7_000) && self.replicas[index].snapshot.position.is_some();
        let (limits, now) = (self.subscriber_limits, self.now);
        let replica = &mut self.replicas[index];
        if !warm {
            replica.snapshot = Snapshot::default();
        }
        let Snapshot { rows, position, planted } = replica.snapshot.clone();
        let (life, snapshot) = (replica.life, replica.snapshot.clone());
        let subscriber = Subscriber::new(limits, self.brands.clone(), position);
        *replica =
            Replica { subscriber, life, started: now, rows, planted, snapshot, ..Replica::new(limits, &[]) };
        match warm {
            true => self.counts.replicas_warm += 1,
            false => self.counts.replicas_cold += 1,
        }
        note!(self, "replica {index} starts at {:?}", position.map(|at| at.seq));
        self.do_replica(index);
    }

    /// Returns the time since the process started, which is its clock.
    pub(super) fn replica_now(&self, index: usize) -> Duration {
        self.now - self.replicas[index].started
    }

    pub(super) fn save(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        let position = replica.subscriber.position();
        replica.snapshot =
            Snapshot { rows: replica.rows.clone(), position, planted: replica.planted.clone() };
    }

    pub(super) fn replica_timer(&mut self, index: usize, life: u32) {
        let (now, replica) = (self.now, &mut self.replicas[index]);
        if replica.up && replica.life == life && replica.timer.is_some_and(|at| at <= now) {
            replica.timer = None;
            let now = self.replica_now(index);
            self.replicas[index].subscriber.handle_timeout(now);
            self.do_replica(index);
        }
    }

    /// Carries out the outputs of a replica's subscriber, then sets its timer.
    pub(super) fn do_replica(&mut self, index: usize) {
        while self.violation.is_none()
            && let Some(output) = self.replicas[index].subscriber.poll_output()
        {
            match output {
                Output::Send { link, message } => self.send_to_publisher(link, message),
                Output::StartAnew => {
                    self.counts.bootstraps += 1;
                    note!(self, "replica {index} starts anew");
                    self.replicas[index].steps.push_back(Step::StartAnew);
                }
                Output::Apply { page, rows, complete, .. } => {
                    self.counts.pages += 1;
                    self.replicas[index].steps.push_back(Step::Apply { page, rows, complete });
                }
                Output::Fresh { at } => {
                    self.counts.freshnesses += 1;
                    let at = at + self.replicas[index].started;
                    self.replicas[index].fresh_at = at;
                    self.check_fresh(index, at);
                }
                Output::OwnSums => {
                    let (now, own) = (self.replica_now(index), sums(self.replicas[index].rows.iter()));
                    self.replicas[index].subscriber.handle_own_sums(now, &own);
                }
                Output::Drifted { buckets } => self.check_drifted(index, &buckets),
            }
        }
        self.apply_next(index);
        let (started, replica) = (self.replicas[index].started, &self.replicas[index]);
        let next = replica.subscriber.next_timeout().map(|at| (at + started).max(self.now));
        if let Some(at) = next
            && replica.timer.is_none_or(|timer| at < timer)
        {
            let life = replica.life;
            self.replicas[index].timer = Some(at);
            self.at(at, Event::ReplicaTimer { index, life });
        }
    }

    fn apply_next(&mut self, index: usize) {
        let now = self.now;
        let replica = &mut self.replicas[index];
        if replica.applying || replica.steps.is_empty() {
            return;
        }
        replica.applying = true;
        let (slow, life) = (now < replica.slow_until, replica.life);
        let delay = if slow { self.dice.millis(20..=150) } else { self.dice.micros(10..=3_000) };
        self.after(delay, Event::Applied { index, life });
    }

    pub(super) fn applied(&mut self, index: usize, life: u32) {
        let replica = &mut self.replicas[index];
        if !replica.up || replica.life != life {
            return;
        }
        replica.applying = false;
        match replica.steps.pop_front() {
            Some(Step::StartAnew) => replica.collected = Some(Rows::new()),
            Some(Step::Apply { page, rows, complete }) => {
                let bootstrapping = replica.collected.is_some();
                let target = replica.collected.as_mut().unwrap_or(&mut replica.rows);
                for Row { key, row } in rows {
                    if !bootstrapping {
                        replica.planted.remove(&key);
                    }
                    match row {
                        Some(row) => target.insert(key, row),
                        None => target.remove(&key),
                    };
                }
                if complete && let Some(collected) = replica.collected.take() {
                    replica.rows = collected;
                    replica.planted.clear();
                }
                let before = replica.subscriber.position();
                let now = self.replica_now(index);
                self.replicas[index].subscriber.handle_applied(now, page);
                let position = self.replicas[index].subscriber.position();
                note!(self, "replica {index} applied page {page}, at {:?}", position.map(|at| at.seq));
                if position != before {
                    self.check_position(index);
                }
            }
            None => {}
        }
        self.do_replica(index);
    }
}
