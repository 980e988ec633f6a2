//! Findings of a verification: one kind for each fault, with the first entry that is concerned.

use super::checkpoint::CheckpointError;

/// A fault of a log, described for the person who must find its cause. Entries count from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The folder has no checkpoint.
    #[error("there is no checkpoint: this is no log's folder, or its checkpoint was removed")]
    NoCheckpoint,
    /// The checkpoint does not verify under the log's key.
    #[error("the checkpoint proves nothing: {0}")]
    Checkpoint(CheckpointError),
    /// The checkpoint that was seen before does not verify under the log's key.
    #[error("the checkpoint that was seen before proves nothing: {0}")]
    Seen(CheckpointError),
    /// The log was larger before than its checkpoint says now.
    #[error("the checkpoint was put back: it says {size} entries, and there were {later} already")]
    PutBack {
        /// Size in the checkpoint.
        size: u64,
        /// Size that the log had before.
        later: u64,
    },
    /// The log's beginning differs from the one that was seen before.
    #[error(
        "two histories of one log: its first {size} entries are not those of the checkpoint that was seen before"
    )]
    TwoHistories {
        /// Size that was seen before.
        size: u64,
    },
    /// A file is missing.
    #[error("entry {entry} and those after it cannot be checked: {path} is missing")]
    Missing {
        /// Path of the file.
        path: String,
        /// First entry that the file covers.
        entry: u64,
    },
    /// A folder that was copied while it was written ends before its checkpoint and before every
    /// earlier size in it.
    #[error(
        "nothing of this copy can be verified: its entries from {entry} on are missing, and its checkpoint says {size}. \
         Either the log was copied file by file while it was written (`cp`, `tar`), or its end was cut off. Copy it with `audit copy`"
    )]
    EndsEarly {
        /// First entry that is missing.
        entry: u64,
        /// Size in the checkpoint.
        size: u64,
    },
    /// An entry differs from the logged one.
    #[error("entry {entry} was changed")]
    Changed {
        /// Index of the entry.
        entry: u64,
    },
    /// An entry was removed.
    #[error("entry {entry} was removed")]
    Removed {
        /// Index of the entry.
        entry: u64,
    },
    /// An entry was inserted.
    #[error("entry {entry} was added")]
    Added {
        /// Index of the entry.
        entry: u64,
    },
    /// An entry has the place of another one.
    #[error("entry {entry} was reordered: another entry of the log stands in its place")]
    Reordered {
        /// Index of the entry.
        entry: u64,
    },
    /// The entries end before the checkpoint's size.
    #[error("entry {entry} and those after it were cut off")]
    CutOff {
        /// First entry that is missing.
        entry: u64,
    },
    /// A logged entry has a form that this version cannot read.
    #[error(
        "entry {entry} is signed and is not an entry in its canonical form: was it written by a later version?"
    )]
    Form {
        /// Index of the entry.
        entry: u64,
    },
    /// A tile's hashes differ from those of the entries.
    #[error(
        "{path} was changed: its hashes from entry {entry} on are not those of the entries that are signed"
    )]
    Tile {
        /// Path of the tile.
        path: String,
        /// First entry that the tile covers.
        entry: u64,
    },
    /// Entries and tiles agree with each other but not with the checkpoint.
    #[error(
        "entries were changed together with their tiles, between entry {from} and entry {to}: they do not lead to the root that is signed"
    )]
    Root {
        /// The first entry that may be changed.
        from: u64,
        /// The last entry that may be changed.
        to: u64,
    },
    /// The journal was changed.
    #[error("{path} was changed at byte {at}, or what stood before it is missing")]
    Journal {
        /// Path of the segment.
        path: String,
        /// Offset in bytes.
        at: usize,
    },
    /// The journal has another entry than the log, or fewer entries than are signed.
    #[error("entry {entry} of {path} is not the one that is signed")]
    JournalEntry {
        /// Path of the segment.
        path: String,
        /// Index of the entry.
        entry: u64,
    },
}

impl Finding {
    /// Returns the code for `--json`.
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

    /// Returns the first entry that is concerned, if it is known.
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

/// A file cannot be read, for a reason that is independent of its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotRead(pub String);

/// Reasons why a log is not verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] NotRead),
    /// The log has a fault.
    #[error(transparent)]
    Found(#[from] Finding),
}

impl Unverified {
    /// Returns the finding, if there is one.
    pub fn finding(&self) -> Option<&Finding> {
        match self {
            Self::Found(finding) => Some(finding),
            Self::Read(_) => None,
        }
    }
}
