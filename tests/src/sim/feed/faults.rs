//! Faults of the feed, and the transactions that write to the source.

use std::time::Duration;

use bridge_protocol::domain::catalogue::EntityKey;
use bridge_protocol::feed::Head;

use super::{EPOCH_MICROS, Event, TICK, World, note};

impl World {
    /// Draws faults until the time of faults is over, then waits until every replica is settled.
    pub(super) fn tick(&mut self) {
        if self.now >= self.faults_until {
            self.heal();
        } else {
            self.lines_go_wrong();
            self.processes_go_wrong();
            self.database_goes_wrong();
        }
        if self.healed_at > Duration::ZERO && self.is_settled() {
            self.done = true;
        }
        self.after(TICK, Event::Tick);
    }

    fn heal(&mut self) {
        if self.healed_at == Duration::ZERO {
            note!(self, "all faults end");
            (self.healed_at, self.read_fails) = (self.now, 0);
        }
    }

    fn lines_go_wrong(&mut self) {
        for link in self.lines_of(|_| true) {
            if self.dice.happens(self.fault_rates.link_dies) {
                self.kill_line(link);
            } else if self.dice.happens(self.fault_rates.link_silent) {
                self.silence(link);
            }
        }
    }

    fn processes_go_wrong(&mut self) {
        for index in 0..self.replicas.len() {
            if !self.replicas[index].up {
                continue;
            }
            if self.dice.happens(self.fault_rates.cloud_dies) {
                self.kill_replica(index);
            } else if self.dice.happens(self.fault_rates.slow) {
                self.counts.slow_applies += 1;
                self.replicas[index].slow_until = self.now + self.dice.millis(50..=800);
            } else if self.dice.happens(300) {
                self.save(index);
            } else if self.dice.happens(self.fault_rates.drift) {
                self.plant(index);
            }
        }
        for idc in 0..self.idcs.len() {
            if self.idcs[idc].up && self.dice.happens(self.fault_rates.idc_dies) {
                self.counts.publisher_restarts += 1;
                note!(self, "data centre {idc} is killed");
                for link in self.lines_of(|line| line.idc == idc) {
                    self.kill_line(link);
                    self.publisher_down(link);
                }
                let one = &mut self.idcs[idc];
                (one.up, one.life, one.head) = (false, one.life + 1, None);
                let delay = self.dice.millis(5..=400);
                self.after(delay, Event::IdcStarts(idc));
            } else if self.dice.happens(self.fault_rates.slow) {
                self.idcs[idc].slow_until = self.now + self.dice.millis(50..=800);
            }
        }
    }

    fn database_goes_wrong(&mut self) {
        if self.dice.happens(400) {
            self.source.back_up();
        }
        if self.dice.happens(self.fault_rates.sequencer_pauses) {
            self.counts.sequencer_pauses += 1;
            self.paused_until = self.now + self.dice.millis(50..=600);
        }
        if self.dice.happens(self.fault_rates.restores) {
            self.restore();
        }
    }

    /// Restores a backup that is older than any position that a replica or a line holds. Marks do
    /// not reveal a restore to a later point, and only the checksums then find the removed rows.
    /// During a bootstrap nothing is restored, because collected rows have no position.
    fn restore(&mut self) {
        if self.replicas.iter().any(|one| one.up && one.is_bootstrapping()) {
            return;
        }
        let served = self.replicas.iter().filter(|one| one.up).filter_map(|one| one.subscriber.position());
        let saved = self.replicas.iter().filter_map(|one| one.snapshot.position);
        let begun = self.lines.values().filter_map(|line| line.s0);
        let oldest = served.chain(saved).map(|position| position.seq).chain(begun).min();
        if self.source.restore(self.now, oldest.unwrap_or(u64::MAX)) {
            self.counts.restores += 1;
            note!(self, "the database is restored, its last number is {}", self.source.kept.last);
        }
    }

    /// Changes one row of a replica on purpose.
    fn plant(&mut self, index: usize) {
        let len = self.replicas[index].rows.len();
        let Some(key) = self.replicas[index].rows.keys().nth(self.dice.index(len)).cloned() else { return };
        self.counts.drifts_planted += 1;
        note!(self, "replica {index} drifts in {key}");
        let value = self.source.value();
        let replica = &mut self.replicas[index];
        if self.dice.happens(5_000) {
            replica.rows.remove(&key);
        } else {
            replica.rows.insert(key.clone(), value);
        }
        replica.planted.insert(key);
    }

    pub(super) fn idc_starts(&mut self, idc: usize) {
        self.idcs[idc].up = true;
        note!(self, "data centre {idc} starts");
    }

    /// Starts a transaction that writes and commits later. Schedules the next transaction until the
    /// faults end.
    pub(super) fn write(&mut self) {
        let keys: Vec<(EntityKey, bool)> = (0..self.dice.between(1..=4))
            .map(|_| (self.keys[self.dice.index(self.keys.len())].clone(), self.dice.happens(1_500)))
            .collect();
        self.transactions += 1;
        let number = self.transactions;
        self.source.write(number, keys);
        let most = if self.dice.happens(2_000) { 400 } else { 10 };
        let delay = self.dice.millis(0..=most);
        self.after(delay, Event::Commit(number));
        if self.healed_at == Duration::ZERO {
            let delay = self.dice.millis(0..=self.writes_every);
            self.after(delay, Event::Write);
        }
    }

    pub(super) fn commit(&mut self, number: u64) {
        if let Some(late) = self.source.commit(self.now, number) {
            self.counts.transactions += 1;
            self.counts.commits_out_of_order += u64::from(late);
        }
    }

    pub(super) fn sequence(&mut self) {
        if self.now >= self.paused_until {
            let mark = EPOCH_MICROS + i64::try_from(self.now.as_micros()).unwrap_or(0);
            let before = self.source.kept.last;
            let trimmed = self.source.sequence(self.now, mark, self.sequenced_max);
            self.counts.changes_trimmed += trimmed as u64;
            if self.source.kept.last != before {
                note!(self, "numbered up to {}", self.source.kept.last);
            }
        }
        let delay = self.dice.millis(2..=25);
        self.after(delay, Event::Sequence);
    }

    /// Reads the source's head for a data centre, which learns it a little later.
    pub(super) fn look(&mut self, idc: usize) {
        let head = Head { position: self.source.kept.last, swept_at: self.source.swept_at };
        let (life, delay) = (self.idcs[idc].life, self.dice.micros(0..=4_000));
        self.after(delay, Event::Head { idc, life, head });
        let delay = self.dice.millis(5..=30);
        self.after(delay, Event::Look(idc));
    }
}
