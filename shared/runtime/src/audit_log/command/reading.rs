//! Entries as `tail`, `show` and `reconcile` read them: all durable entries, or of a copy that was
//! made while its agent wrote it, the complete part. `verify` uses the same code to find this part.

use std::fmt;
use std::io::{self, Write as _};

use bridge_protocol::audit::Checkpoint;
use bridge_protocol::audit::copied::CoveredPart;
use bridge_protocol::audit::finding::{Finding, Unverified};
use bridge_protocol::audit::folder::{self, Folder as _};

use super::{Disk, LogFolder, look};
use crate::cli::{self, Failure};

/// Source of entries.
pub(super) enum Entries<'disk> {
    /// All durable entries, with or without a checkpoint.
    Durable(&'disk Disk),
    /// The first entries up to this signed size.
    Signed(&'disk Disk, u64),
    /// The complete part of a copy.
    Whole(CoveredPart<'disk, Disk>),
}

/// The part of a copy that is not read.
pub(super) struct UnreadPart {
    /// Number of entries that are read.
    size: u64,
    /// Size in the copy's own checkpoint, if the copy ends before that.
    newest: Option<u64>,
}

impl Entries<'_> {
    /// Passes the entries from index `from` on to `take`, in order. Returns the index after the
    /// last one.
    pub(super) fn each(&self, from: u64, take: impl FnMut(u64, &[u8])) -> Result<u64, Unverified> {
        match self {
            Self::Durable(disk) => folder::entries(*disk, from, take),
            Self::Signed(disk, size) => folder::covered(*disk, *size, from, take),
            Self::Whole(whole) => whole.entries(from, take),
        }
    }

    /// Returns the number of readable entries under a checkpoint.
    pub(super) fn published(&self) -> Result<u64, Unverified> {
        match self {
            Self::Durable(disk) => {
                let note = disk.read(folder::CHECKPOINT)?.unwrap_or_default();
                Ok(Checkpoint::unverified(&note).map_or(0, |checkpoint| checkpoint.size))
            }
            Self::Signed(_, size) => Ok(*size),
            Self::Whole(whole) => Ok(whole.checkpoint().size),
        }
    }

    /// Returns the first entry, if there is one.
    pub(super) fn first(&self) -> Result<Option<Vec<u8>>, Unverified> {
        let mut first = None;
        let mut take = |_, bytes: &[u8]| {
            first.get_or_insert_with(|| bytes.to_vec());
        };
        match (self, self.published()?.min(1)) {
            // Nothing is published, so the entry is in the journal, which is short.
            (_, 0) => self.each(0, take)?,
            (Self::Whole(_), _) => self.each(0, take)?,
            (Self::Durable(disk) | Self::Signed(disk, _), _) => {
                let bundle = folder::bundle(*disk, self.published()?, 0)?;
                bundle.first().into_iter().for_each(|entry| take(0, entry));
                0
            }
        };
        Ok(first)
    }

    /// Returns the part that is not read, if this is a copy that was made while it was written.
    pub(super) fn left_out(&self) -> Option<UnreadPart> {
        match self {
            Self::Whole(whole) => {
                Some(UnreadPart { size: whole.checkpoint().size, newest: whole.ends_before() })
            }
            Self::Durable(_) | Self::Signed(..) => None,
        }
    }

    /// Tells the user on standard error which part is not read. Standard output has only entries.
    pub(super) fn tell_left_out(&self) {
        if let Some(left_out) = self.left_out() {
            let _nobody_looks = writeln!(io::stderr(), "{left_out}");
        }
    }
}

impl UnreadPart {
    /// Returns the size in the copy's own checkpoint, if the copy ends before that.
    pub(super) fn newest(&self) -> Option<u64> {
        self.newest
    }
}

impl fmt::Display for UnreadPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.size;
        match self.newest {
            Some(newest) => write!(
                f,
                "this copy ends before its newest checkpoint: of {newest} entries it has the first {size} whole. Those from {size} on are \
                 left out. It was copied file by file while it was written (`cp`, `tar`), or its end was cut off: `audit copy` makes \
                 a copy that has all of them"
            ),
            None => write!(
                f,
                "this copy was made file by file while it was written: the {size} entries under its checkpoint are read, and what is \
                 beyond is left out. `audit copy` makes a copy of one moment"
            ),
        }
    }
}

/// Describes the fault of a log that is needed up to its checkpoint. If a copy ends before its
/// checkpoint, it cannot be proven or copied, although the log itself may be good.
pub(super) fn needs_its_end(place: &LogFolder, found: Unverified) -> Failure {
    let whole = matches!(found, Unverified::Found(_)).then(|| CoveredPart::unverified(&place.disk));
    match whole.filter(|_| place.is_copy()) {
        Some(Ok(whole)) if whole.ends_before().is_some() => {
            let left_out = Entries::Whole(whole).left_out().map(|left_out| left_out.to_string());
            let left_out = left_out.unwrap_or_default();
            cli::usage(format!(
                "{left_out}. Nothing is proven and nothing copied of what is before that either: it is under no checkpoint of \
                 its own that is signed"
            ))
        }
        Some(Err(Unverified::Found(ends @ Finding::EndsEarly { .. }))) => cli::usage(ends),
        _ => cli::failed(found),
    }
}

/// Reads a log and returns the source too. A copy that cannot be read like an agent's own folder is
/// read as far as it is complete.
pub(super) fn read<'disk, T>(
    place: &'disk LogFolder,
    read: impl Fn(&Entries<'disk>) -> Result<T, Unverified>,
) -> Result<(T, Entries<'disk>), Failure> {
    let disk = &place.disk;
    let durable = Entries::Durable(disk);
    let found = match look(disk, || read(&durable)) {
        Ok(done) => return Ok((done, durable)),
        Err(found @ Unverified::Found(_)) if place.is_copy() => found,
        Err(unverified) => return Err(cli::failed(unverified)),
    };
    match CoveredPart::unverified(disk) {
        Ok(whole) => {
            let whole = Entries::Whole(whole);
            let done = read(&whole).map_err(cli::failed)?;
            Ok((done, whole))
        }
        // The log may be good; only the copy was made wrongly.
        Err(Unverified::Found(ends @ Finding::EndsEarly { .. })) => Err(cli::usage(ends)),
        // The error for an agent's own folder describes the fault better.
        Err(_) => Err(cli::failed(found)),
    }
}
