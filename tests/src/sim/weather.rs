//! Which faults a schedule has, and how many: some are off in each schedule, so that the others are seen alone as well.

use super::dice::Dice;
use super::options::Sabotage;

/// Chances in 10,000: of each frame, of each thing at each tick, of each commit.
#[derive(Debug, Clone, Default)]
pub(super) struct Weather {
    // Of each frame.
    pub(super) frame_lost: u32,
    pub(super) frame_doubled: u32,
    pub(super) frame_late: u32,
    // Of each link or agent, a tick.
    pub(super) link_dies: u32,
    pub(super) link_silent: u32,
    pub(super) window_shrinks: u32,
    pub(super) cloud_dies: u32,
    pub(super) idc_dies: u32,
    pub(super) database_dies: u32,
    // Of each batch or look-up.
    pub(super) commit_denied: u32,
    pub(super) commit_reply_lost: u32,
    pub(super) commit_in_part: u32,
    pub(super) commit_lost: u32,
    pub(super) look_up_fails: u32,
    // Of each round of a data centre's audit log.
    pub(super) audit_fails: u32,
}

impl Weather {
    /// Draws a schedule's weather.
    pub(super) fn drawn(dice: &mut Dice, sabotage: Option<Sabotage>) -> Self {
        let mut often = |most: u32| match dice.index(3) {
            0 => 0,
            1 => most / 8,
            _ => most,
        };
        let mut weather = Self {
            frame_lost: often(300),
            frame_doubled: often(500),
            frame_late: often(400),
            link_dies: often(150),
            link_silent: often(150),
            window_shrinks: often(150),
            cloud_dies: often(60),
            idc_dies: often(120),
            database_dies: often(80),
            commit_denied: often(500),
            commit_reply_lost: often(500),
            commit_in_part: often(300),
            commit_lost: often(500),
            look_up_fails: often(800),
            audit_fails: often(400),
        };
        match sabotage {
            Some(Sabotage::AcknowledgeBeforeCommit) => weather.database_dies = 200,
            Some(Sabotage::DenyLostCommits) => weather.commit_reply_lost = 1_000,
            Some(Sabotage::LoseEntries) => weather.audit_fails = 400,
            _ => {}
        }
        weather
    }
}
