//! Reader of the log that `recorder.c` writes: the operations on a disk, in order.

use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

/// Length of a record before its path, in bytes: see `struct record` in `recorder.c`.
const HEAD_BYTES: usize = 32;

/// All operations on a disk. The written bytes stay in the log.
#[derive(Debug)]
pub struct Recording {
    log: Vec<u8>,
    /// The operations in order.
    pub events: Vec<Event>,
    /// All operations before this index were durable when the recording began.
    pub begin: usize,
}

/// One operation. A node is the file system's number of a file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A file was created.
    Made {
        /// Node of the file.
        node: u64,
        /// Permissions of the file.
        mode: u32,
        /// Path of the file.
        path: String,
    },
    /// A folder was created.
    FolderMade {
        /// Node of the folder.
        node: u64,
        /// Permissions of the folder.
        mode: u32,
        /// Path of the folder; empty for the disk's own folder.
        path: String,
    },
    /// A name was removed.
    Removed {
        /// Path of the removed name.
        path: String,
    },
    /// A file or folder was renamed.
    Renamed {
        /// Path before the rename.
        from: String,
        /// Path after the rename. A file that had this path loses it.
        to: String,
    },
    /// A file got a further name.
    Linked {
        /// Path of the existing name.
        from: String,
        /// Path of the new name.
        to: String,
    },
    /// Bytes were written to a file.
    Written {
        /// Node of the file.
        node: u64,
        /// Position in the file.
        at: u64,
        /// Position of the bytes in the log.
        bytes: Range<usize>,
        /// True if the file was opened with O_SYNC or O_DSYNC, so that a write returns once it is
        /// durable.
        durable: bool,
    },
    /// A file was truncated or extended to this length.
    Cut {
        /// Node of the file.
        node: u64,
        /// Length of the file after the change.
        length: u64,
    },
    /// A file was extended to at least this length.
    Room {
        /// Node of the file.
        node: u64,
        /// Smallest length of the file after the change.
        length: u64,
    },
    /// An fsync has begun.
    SyncBegun {
        /// Node of the file or folder to sync.
        node: u64,
        /// Number of the fsync.
        id: u64,
    },
    /// An fsync has returned.
    SyncEnded {
        /// Number of the fsync.
        id: u64,
        /// Result of the fsync.
        end: SyncEnd,
    },
    /// An acknowledgement: a text that the store's own check understands.
    Acknowledged {
        /// Position of the text in the log.
        text: Range<usize>,
    },
}

/// Result of an fsync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncEnd {
    /// Success.
    Done,
    /// A reported failure.
    Failed,
    /// Reported success, although nothing was done.
    Lied,
}

impl Recording {
    /// Reads a log.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, or is not a log.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(fs::read(path).with_context(|| format!("read {}", path.display()))?)
    }

    fn parse(log: Vec<u8>) -> Result<Self> {
        let mut recording = Self { log, events: Vec::new(), begin: 0 };
        let mut at = 0;
        // The last record is incomplete if its process ended in the middle. That operation was not
        // completed, so the record is ignored.
        while let Some(head) = recording.log.get(at..at + HEAD_BYTES) {
            let bytes = usize::try_from(number(head, 0, 4))?;
            if recording.log.len() < at + bytes {
                break;
            }
            let (kind, flag, path_bytes) = (head[4], head[5], usize::try_from(number(head, 6, 2))?);
            let (node, a) = (number(head, 8, 8), number(head, 16, 8));
            let data = at + HEAD_BYTES + path_bytes..at + bytes;
            ensure!(data.start <= data.end, "a record is shorter than its path");
            let path = text(&recording.log[at + HEAD_BYTES..data.start])?;
            at = data.end;
            if kind == b'S' {
                recording.begin = recording.events.len();
                continue;
            }
            let mode = u32::try_from(a).unwrap_or_default();
            recording.events.push(match kind {
                b'C' => Event::Made { node, mode, path },
                b'D' => Event::FolderMade { node, mode, path },
                b'U' => Event::Removed { path },
                b'R' => Event::Renamed { from: path, to: text(&recording.log[data])? },
                b'L' => Event::Linked { from: path, to: text(&recording.log[data])? },
                b'W' => Event::Written { node, at: a, bytes: data, durable: flag == 1 },
                b'T' => Event::Cut { node, length: a },
                b'A' => Event::Room { node, length: a },
                b'B' => Event::SyncBegun { node, id: a },
                b'E' => Event::SyncEnded { id: a, end: SyncEnd::of(flag)? },
                b'M' => Event::Acknowledged { text: data },
                _ => bail!("no record is of the kind {kind}"),
            });
        }
        Ok(recording)
    }

    /// Returns the length of the log.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.log.len()
    }

    /// Returns the bytes of the log in a range that an event names.
    #[must_use]
    pub fn slice(&self, range: &Range<usize>) -> &[u8] {
        self.log.get(range.clone()).unwrap_or_default()
    }

    /// Returns the acknowledgements before this event.
    ///
    /// # Errors
    ///
    /// Fails if an acknowledgement is not valid text.
    pub fn acknowledged(&self, before: usize) -> Result<Vec<String>> {
        let texts = self.events.iter().take(before).filter_map(|event| match event {
            Event::Acknowledged { text } => Some(self.slice(text)),
            _ => None,
        });
        let lines = texts.map(text).collect::<Result<Vec<_>>>()?;
        Ok(lines.iter().flat_map(|lines| lines.lines()).map(str::to_owned).collect())
    }
}

impl SyncEnd {
    fn of(flag: u8) -> Result<Self> {
        [Self::Done, Self::Failed, Self::Lied]
            .get(usize::from(flag))
            .copied()
            .context("an unknown end of an fsync")
    }
}

/// Makes a record as `recorder.c` writes it.
#[must_use]
pub(super) fn record(kind: u8, path: &str, node: u64, a: u64, data: &[u8]) -> Vec<u8> {
    let bytes = u32::try_from(HEAD_BYTES + path.len() + data.len()).unwrap_or(u32::MAX);
    let path_bytes = u16::try_from(path.len()).unwrap_or(u16::MAX);
    let head = [&bytes.to_ne_bytes()[..], &[kind, 0], &path_bytes.to_ne_bytes()].concat();
    let numbers = [node.to_ne_bytes(), a.to_ne_bytes(), [0; 8]].concat();
    [&head[..], &numbers, path.as_bytes(), data].concat()
}

fn number(head: &[u8], from: usize, bytes: usize) -> u64 {
    let mut number = [0; 8];
    number[..bytes].copy_from_slice(&head[from..from + bytes]);
    u64::from_le_bytes(number)
}

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).context("a path or a text that is not UTF-8")
}
