//! Rates of the faults of a schedule. In each schedule some faults are off, so that the others also
//! happen alone.

use super::dice::Dice;
use super::options::Sabotage;

/// Chances in 10,000, unless the field says otherwise.
#[derive(Debug, Clone, Default)]
pub(super) struct FaultRates {
    // For each frame.
    pub(super) frame_lost: u32,
    pub(super) frame_doubled: u32,
    pub(super) frame_late: u32,
    pub(super) frame_in_pieces: u32,
    // For each link or agent, at each tick.
    pub(super) link_dies: u32,
    pub(super) link_silent: u32,
    pub(super) window_shrinks: u32,
    pub(super) cloud_dies: u32,
    pub(super) idc_dies: u32,
    pub(super) database_dies: u32,
    pub(super) row_held: u32,
    pub(super) dba_writes: u32,
    pub(super) cloud_disk_full: u32,
    pub(super) clock_steps: u32,
    /// Number of restores of the database in a schedule.
    pub(super) restores: u32,
    // For each statement, COMMIT or look-up.
    pub(super) statement_cancelled: u32,
    pub(super) commit_reply_lost: u32,
    pub(super) commit_lost: u32,
    pub(super) commit_late: u32,
    pub(super) look_up_fails: u32,
    // For each attempt at placing an order, and for each further attempt after a caller got
    // "unknown".
    pub(super) cancels_at_once: u32,
    pub(super) cancels_unseen: u32,
    // For each order that was placed.
    pub(super) pays: u32,
    // For each request to the gateway, and for each of its answers.
    pub(super) gateway_loses: u32,
    pub(super) gateway_late: u32,
    pub(super) gateway_holds_up: u32,
    pub(super) gateway_errs: u32,
    // For each tick, if there is an operator.
    pub(super) operator_speaks: u32,
    // For each round of a data centre's audit log.
    pub(super) audit_fails: u32,
}

impl FaultRates {
    /// Draws the rates of faults for a schedule.
    pub(super) fn drawn(dice: &mut Dice, sabotage: Option<Sabotage>) -> Self {
        let mut often = |most: u32| match dice.index(3) {
            0 => 0,
            1 => most / 8,
            _ => most,
        };
        let mut fault_rates = Self {
            frame_lost: often(300),
            frame_doubled: often(500),
            frame_late: often(400),
            frame_in_pieces: often(2_000),
            link_dies: often(150),
            link_silent: often(150),
            window_shrinks: often(150),
            cloud_dies: often(60),
            idc_dies: often(120),
            database_dies: often(80),
            row_held: often(150),
            dba_writes: often(2_000),
            cloud_disk_full: often(80),
            clock_steps: often(80),
            statement_cancelled: often(40),
            commit_reply_lost: often(500),
            commit_lost: often(500),
            commit_late: often(300),
            look_up_fails: often(800),
            audit_fails: often(400),
            cancels_at_once: often(200),
            cancels_unseen: often(2_000),
            pays: often(3_000),
            gateway_loses: often(800),
            gateway_late: often(500),
            gateway_holds_up: often(1_200),
            gateway_errs: often(1_000),
            operator_speaks: often(1_000).max(50),
            restores: 0,
        };
        fault_rates.restores = [0, 0, 0, 0, 1, 2][dice.index(6)];
        if sabotage.is_some_and(|sabotage| !sabotage.is_of_payments()) {
            fault_rates.pays = 0;
        }
        if let Some(sabotage) = sabotage {
            fault_rates.restores = if sabotage.is_of_restores() { 2 } else { 0 };
        }
        match sabotage {
            // If a batch overwrites the changes of a DBA, the sums still add up and hide the
            // sabotage.
            Some(Sabotage::OverwriteStock) => fault_rates.dba_writes = 0,
            // A crash also takes changes that a DBA was told are committed. No checker watches
            // those.
            Some(Sabotage::AcknowledgeBeforeCommit) => {
                (fault_rates.database_dies, fault_rates.dba_writes) = (200, 0);
            }
            Some(Sabotage::OvertakingCancels) => fault_rates.cancels_at_once = 5_000,
            Some(Sabotage::DenyLostCommits) => fault_rates.commit_reply_lost = 1_000,
            Some(Sabotage::SealOnce) => fault_rates.link_dies = 400,
            Some(Sabotage::ForgetUnsettled) => (fault_rates.link_dies, fault_rates.commit_late) = (300, 600),
            Some(Sabotage::SendUnlogged) => fault_rates.cloud_disk_full = 80,
            Some(Sabotage::ForgetLastRounds) => fault_rates.idc_dies = 120,
            Some(Sabotage::LoseEntries) => fault_rates.audit_fails = 400,
            Some(Sabotage::PayUnlogged) => (fault_rates.audit_fails, fault_rates.pays) = (400, 3_000),
            Some(sabotage) if sabotage.is_of_payments() => {
                fault_rates.operator_speaks = 1_000;
                (fault_rates.pays, fault_rates.gateway_loses, fault_rates.gateway_holds_up) =
                    (3_000, 400, 300);
            }
            _ => {}
        }
        fault_rates
    }
}
