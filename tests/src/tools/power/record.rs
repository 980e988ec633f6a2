//! The log that `recorder.c` writes, read back: what was done to a disk, in order.

use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

/// Bytes of a record before its path: see `struct record` in `recorder.c`.
const HEAD_BYTES: usize = 32;

/// Everything that was done to a disk. The bytes that were written stay in the log that was read.
#[derive(Debug)]
pub struct Recording {
    log: Vec<u8>,
    /// In order.
    pub events: Vec<Event>,
    /// Whatever comes before this event was durable when the recording began.
    pub begin: usize,
}

/// One thing that was done. A node is the number that the file system has given to a file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A file was made.
    Made {
        /// The file.
        node: u64,
        /// Its permissions.
        mode: u32,
        /// Its path.
        path: String,
    },
    /// A folder was made.
    FolderMade {
        /// The folder.
        node: u64,
        /// Its permissions.
        mode: u32,
        /// Its path; empty for the folder that is the disk.
        path: String,
    },
    /// A name was taken away.
    Removed {
        /// The path.
        path: String,
    },
    /// A file or folder has another name.
    Renamed {
        /// Its path before.
        from: String,
        /// Its path now; whatever had it before has lost it.
        to: String,
    },
    /// A file has a further name.
    Linked {
        /// Its path before.
        from: String,
        /// Its second path.
        to: String,
    },
    /// Bytes were written.
    Written {
        /// The file.
        node: u64,
        /// Where in it.
        at: u64,
        /// Where they are in the log.
        bytes: Range<usize>,
        /// Whether the file was opened so that a write returns when it is durable.
        durable: bool,
    },
    /// A file was given this length.
    Cut {
        /// The file.
        node: u64,
        /// Its length.
        length: u64,
    },
    /// A file was made at least so long.
    Room {
        /// The file.
        node: u64,
        /// Its length at least.
        length: u64,
    },
    /// An fsync has begun.
    SyncBegun {
        /// What is to be durable.
        node: u64,
        /// Its number.
        id: u64,
    },
    /// It has returned.
    SyncEnded {
        /// Its number.
        id: u64,
        /// What came of it.
        end: SyncEnd,
    },
    /// Something was acknowledged: a text that the store's own check understands.
    Acknowledged {
        /// Where it is in the log.
        text: Range<usize>,
    },
}

/// What came of an fsync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncEnd {
    /// It is done.
    Done,
    /// It failed, and said so.
    Failed,
    /// It did nothing, and did not say so.
    Lied,
}

impl Recording {
    /// Reads a log.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(fs::read(path).with_context(|| format!("read {}", path.display()))?)
    }

    fn parse(log: Vec<u8>) -> Result<Self> {
        let mut recording = Self { log, events: Vec::new(), begin: 0 };
        let mut at = 0;
        // The last record is cut short where its process ended in the middle of it: what it says was not done to its end.
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

    /// How long the log is.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.log.len()
    }

    /// Bytes of the log, which an event names.
    #[must_use]
    pub fn slice(&self, range: &Range<usize>) -> &[u8] {
        self.log.get(range.clone()).unwrap_or_default()
    }

    /// What was acknowledged before this event.
    ///
    /// # Errors
    /// When it is no text.
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

/// A record as `recorder.c` writes it.
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
