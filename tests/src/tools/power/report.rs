//! What power losses came to, as text and as one JSON object.

use std::fmt;

use serde::Serialize;

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The run's seed, and its first power loss's.
    pub seed: u64,
    /// One a store.
    pub stores: Vec<StoreReport>,
}

/// What the power losses of one store came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreReport {
    /// The store.
    pub store: &'static str,
    /// Power losses.
    pub schedules: u64,
    /// How often the store was run for them.
    pub recordings: u64,
    /// Acknowledgements that were looked for, of all power losses together.
    pub acknowledged: u64,
    /// Power losses after which something that was acknowledged was lost; a store's run ends with the first.
    pub lost: u64,
    /// How long it took.
    pub seconds: u64,
    /// The first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<Loss>,
}

/// A power loss after which something was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// What is lost.
    pub what: String,
    /// When the power was lost, and what of the rest was left.
    pub fate: String,
    /// Its seed.
    pub seed: u64,
    /// The command that repeats it.
    pub repeat: String,
}

impl Report {
    /// Whether nothing was lost.
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
