//! What can be wrong with a log: one kind each, with the first entry that it concerns.

use super::checkpoint::CheckpointError;

/// What is wrong, in words for whoever must find out why. Entries count from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The folder has no checkpoint.
    #[error("there is no checkpoint: this is no log's folder, or its checkpoint was removed")]
    NoCheckpoint,
    /// The checkpoint is not this log's.
    #[error("the checkpoint proves nothing: {0}")]
    Checkpoint(CheckpointError),
    /// The checkpoint that was seen before is not this log's.
    #[error("the checkpoint that was seen before proves nothing: {0}")]
    Seen(CheckpointError),
    /// The log has been larger than its checkpoint says.
    #[error("the checkpoint was put back: it says {size} entries, and there were {later} already")]
    PutBack {
        /// What the checkpoint says.
        size: u64,
        /// What there was.
        later: u64,
    },
    /// The log has another beginning than it had when it was seen before.
    #[error(
        "two histories of one log: its first {size} entries are not those of the checkpoint that was seen before"
    )]
    TwoHistories {
        /// The size that was seen.
        size: u64,
    },
    /// A file is missing.
    #[error("entry {entry} and those after it cannot be checked: {path} is missing")]
    Missing {
        /// Which file.
        path: String,
        /// The first entry it is about.
        entry: u64,
    },
    /// A folder that was copied while it was written ends before its checkpoint, and before every earlier one that it names.
    #[error(
        "nothing of this copy can be verified: its entries from {entry} on are not in it, and its checkpoint says {size}. So it is where \
         a log is copied file by file while it is written (`cp`, `tar`), or where its end was cut off. Copy it with `audit copy`"
    )]
    EndsEarly {
        /// The first entry that is not there.
        entry: u64,
        /// What the checkpoint says.
        size: u64,
    },
    /// An entry is not what was logged.
    #[error("entry {entry} was changed")]
    Changed {
        /// Which one.
        entry: u64,
    },
    /// An entry is not there any more.
    #[error("entry {entry} was removed")]
    Removed {
        /// Which one.
        entry: u64,
    },
    /// An entry was put between others.
    #[error("entry {entry} was added")]
    Added {
        /// Which one.
        entry: u64,
    },
    /// An entry stands in another's place.
    #[error("entry {entry} was reordered: another entry of the log stands in its place")]
    Reordered {
        /// Which one.
        entry: u64,
    },
    /// The entries end before the checkpoint's size.
    #[error("entry {entry} and those after it were cut off")]
    CutOff {
        /// The first one that is not there.
        entry: u64,
    },
    /// An entry is what was logged and is in no form that this version reads.
    #[error(
        "entry {entry} is signed and is not an entry in its canonical form: was it written by a later version?"
    )]
    Form {
        /// Which one.
        entry: u64,
    },
    /// A tile's hashes are not those of the entries.
    #[error(
        "{path} was changed: its hashes from entry {entry} on are not those of the entries that are signed"
    )]
    Tile {
        /// Which tile.
        path: String,
        /// The first entry it is about.
        entry: u64,
    },
    /// Entries and tiles agree with one another and not with the checkpoint.
    #[error(
        "entries were changed together with their tiles, between entry {from} and entry {to}: they do not lead to the root that is signed"
    )]
    Root {
        /// The first entry that may be changed.
        from: u64,
        /// The last one.
        to: u64,
    },
    /// The journal is not as it was written.
    #[error("{path} was changed at byte {at}, or what stood before it is missing")]
    Journal {
        /// Which segment.
        path: String,
        /// Where.
        at: usize,
    },
    /// The journal holds another entry than the log, or fewer entries than are signed.
    #[error("entry {entry} of {path} is not the one that is signed")]
    JournalEntry {
        /// Which segment.
        path: String,
        /// Which one.
        entry: u64,
    },
}

impl Finding {
    /// The code in `--json`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCheckpoint => "no-checkpoint",
            Self::Checkpoint(_) => "checkpoint",
            Self::Seen(_) => "seen-checkpoint",
            Self::PutBack { .. } => "put-back",
            Self::TwoHistories { .. } => "two-histories",
            Self::Missing { .. } => "missing",
            Self::EndsEarly { .. } => "ends-early",
            Self::Changed { .. } => "changed",
            Self::Removed { .. } => "removed",
            Self::Added { .. } => "added",
            Self::Reordered { .. } => "reordered",
            Self::CutOff { .. } => "cut-off",
            Self::Form { .. } => "form",
            Self::Tile { .. } => "tile",
            Self::Root { .. } => "root",
            Self::Journal { .. } => "journal",
            Self::JournalEntry { .. } => "journal-entry",
        }
    }

    /// The first entry that it concerns, where that can be told.
    pub fn entry(&self) -> Option<u64> {
        match self {
            Self::Missing { entry, .. }
            | Self::EndsEarly { entry, .. }
            | Self::Changed { entry }
            | Self::Removed { entry }
            | Self::Added { entry }
            | Self::Reordered { entry }
            | Self::CutOff { entry }
            | Self::Form { entry }
            | Self::Tile { entry, .. }
            | Self::Root { from: entry, .. }
            | Self::JournalEntry { entry, .. } => Some(*entry),
            Self::PutBack { size, .. } => Some(*size),
            Self::NoCheckpoint
            | Self::Checkpoint(_)
            | Self::Seen(_)
            | Self::TwoHistories { .. }
            | Self::Journal { .. } => None,
        }
    }
}

/// A file cannot be read, for a reason that has nothing to do with what is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotRead(pub String);

/// Why a log is not verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] NotRead),
    /// Something is wrong with it.
    #[error(transparent)]
    Found(#[from] Finding),
}

impl Unverified {
    /// The finding, if there is one.
    pub fn finding(&self) -> Option<&Finding> {
        match self {
            Self::Found(finding) => Some(finding),
            Self::Read(_) => None,
        }
    }
}
