//! Report of a run of power losses, as text and as one JSON object.

use std::fmt;

use serde::Serialize;

/// Result of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Seed of the run, which is the seed of its first power loss.
    pub seed: u64,
    /// One report for each store.
    pub stores: Vec<StoreReport>,
}

/// Result for one store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreReport {
    /// Name of the store.
    pub store: &'static str,
    /// Number of power losses.
    pub schedules: u64,
    /// Number of recordings.
    pub recordings: u64,
    /// Number of acknowledgements that were checked, in all power losses together.
    pub acknowledged: u64,
    /// Number of power losses after which acknowledged data was missing. A store's run ends with
    /// the first.
    pub lost: u64,
    /// Duration of the run.
    pub seconds: u64,
    /// The first power loss with missing data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<Loss>,
}

/// A power loss after which acknowledged data was missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// Description of the missing data.
    pub what: String,
    /// Moment of the power loss, and the chances of what is left.
    pub fate: String,
    /// Seed of the power loss.
    pub seed: u64,
    /// Command that repeats the power loss.
    pub repeat: String,
}

impl Report {
    /// Returns true if no acknowledged data was missing.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.stores.iter().all(|store| store.lost == 0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for StoreReport { store, schedules, recordings, acknowledged, lost, seconds, found } in &self.stores {
            writeln!(
                f,
                "{store:<9} {schedules:>5} power losses in {recordings} recordings: {lost} lost something, of \
                 {acknowledged} acknowledgements looked for ({seconds} s)"
            )?;
            if let Some(Loss { what, fate, repeat, .. }) = found {
                writeln!(f, "  LOST: {what}\n  power was lost {fate}\n  repeat it with: {repeat}")?;
            }
        }
        writeln!(f, "seed {}", self.seed)
    }
}
