//! Faults of the world of orders: they are drawn at every tick until the world heals.

use std::time::Duration;

use bridge_protocol::order_link::LinkId;

use super::super::fault_rates::FaultRates;
use super::super::options::Sabotage;
use super::clocks::Host;
use super::{Event, TICK, World, note};

impl World {
    /// Draws faults for every link, every agent and the database, until a second after the last
    /// caller has come.
    pub(super) fn tick(&mut self) {
        for link in self.live_links() {
            let FaultRates { link_dies, link_silent, window_shrinks, .. } = self.fault_rates;
            if self.dice.happens(link_dies) {
                self.kill_link(link);
            } else if self.dice.happens(link_silent) {
                self.silence(link);
            } else if self.dice.happens(window_shrinks) {
                self.shrink_window(link);
            }
        }
        for cloud in 0..self.clouds.len() {
            if self.clouds[cloud].up && self.dice.happens(self.fault_rates.cloud_dies) {
                self.kill_cloud(cloud);
            }
            if self.dice.happens(self.fault_rates.cloud_disk_full) {
                self.fill_cloud_disk(cloud);
            }
            if self.dice.happens(self.fault_rates.clock_steps) {
                self.step_clock(Host::Cloud(cloud));
            }
        }
        for idc in 0..self.idcs.len() {
            if self.idcs[idc].up && self.dice.happens(self.fault_rates.idc_dies) {
                self.kill_idc(idc);
            }
            if self.dice.happens(self.fault_rates.clock_steps) {
                self.step_clock(Host::Idc(idc));
            }
        }
        if self.now >= self.database_down_until && self.dice.happens(self.fault_rates.database_dies) {
            self.kill_database();
        }
        if self.dice.happens(self.fault_rates.row_held) {
            self.hold_row();
        }
        if self.dice.happens(self.fault_rates.dba_writes) {
            self.dba_begins();
        }
        if self.payment_world.operator && self.dice.happens(self.fault_rates.operator_speaks) {
            self.resolve_doubts();
        }
        if self.now < self.faults_until {
            self.after(TICK, Event::Tick);
        }
    }

    /// Ends all faults. Processes that are down come back by themselves.
    pub(super) fn heal(&mut self) {
        note!(self, "all faults end");
        self.fault_rates = FaultRates::default();
        self.set_clocks_right();
    }

    fn silence(&mut self, link: LinkId) {
        let Some(cloud) = self.cloud_of(link) else { return };
        self.counts.silences += 1;
        note!(self, "link {} falls silent", link.0);
        let now = self.cloud_now(cloud);
        self.clouds[cloud].sender.handle_link_open(now, link, false);
        self.clouds[cloud].payments.handle_link_open(now, link, false);
        self.do_cloud_outputs(cloud);
        self.do_payment_outputs(cloud);
        let delay = self.dice.millis(10..=400);
        self.after(delay, Event::Heard(link));
    }

    pub(super) fn heard(&mut self, link: LinkId) {
        let Some(cloud) = self.cloud_of(link) else { return };
        note!(self, "link {} is heard again", link.0);
        let now = self.cloud_now(cloud);
        self.clouds[cloud].sender.handle_link_open(now, link, true);
        self.clouds[cloud].payments.handle_link_open(now, link, true);
        self.do_payment_outputs(cloud);
        self.do_cloud_outputs(cloud);
    }

    fn shrink_window(&mut self, link: LinkId) {
        let Some(cloud) = self.cloud_of(link) else { return };
        self.counts.windows_shrunk += 1;
        let window = u32::try_from(self.dice.between(0..=4)).unwrap_or(0);
        note!(self, "link {} accepts {window} from now on", link.0);
        let now = self.cloud_now(cloud);
        self.clouds[cloud].sender.handle_window(now, link, window);
        self.do_cloud_outputs(cloud);
        let delay = self.dice.millis(10..=300);
        self.after(delay, Event::Window(link));
    }

    pub(super) fn window_is_back(&mut self, link: LinkId) {
        let Some(cloud) = self.cloud_of(link) else { return };
        let (now, window) = (self.cloud_now(cloud), self.window);
        note!(self, "link {} accepts {window} again", link.0);
        self.clouds[cloud].sender.handle_window(now, link, window);
        self.do_cloud_outputs(cloud);
    }

    /// Stops the database for a while. It keeps what was durable.
    fn kill_database(&mut self) {
        self.counts.database_restarts += 1;
        self.database_down_until = self.now + self.dice.millis(5..=400);
        note!(self, "the database goes away");
        self.ledger.go_away(self.database_down_until);
        if self.sabotage == Some(Sabotage::AcknowledgeBeforeCommit) {
            self.ledger.crash();
            self.check_after_crash();
        }
    }

    /// Draws the time for which a process is down.
    pub(super) fn downtime(&mut self) -> Duration {
        self.dice.millis(5..=500)
    }
}
