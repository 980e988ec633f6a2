//! Entries on their way to the log, all in one buffer.

use bridge_protocol::audit::entry::{Entry, EntryError};

/// Entries in their canonical bytes, one after another.
#[derive(Debug, Default)]
pub(super) struct EntryBuffer {
    bytes: Vec<u8>,
    /// Offset of each entry's end.
    ends: Vec<usize>,
}

/// Expected size of an entry. Most entries of an order are shorter.
const BYTES_EXPECTED: usize = 384;

impl EntryBuffer {
    /// Makes a buffer of these entries. Fails if one of them is too long.
    pub(super) fn of(entries: &[Entry]) -> Result<Self, EntryError> {
        let (bytes, ends) = (entries.len() * BYTES_EXPECTED, entries.len());
        let mut lines = Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(ends) };
        entries.iter().try_for_each(|entry| lines.push(entry))?;
        Ok(lines)
    }

    /// Appends an entry. After an error nothing is appended.
    pub(super) fn push(&mut self, entry: &Entry) -> Result<(), EntryError> {
        entry.encode_into(&mut self.bytes)?;
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// Removes the entries and keeps the memory.
    pub(super) fn emptied(mut self) -> Self {
        self.bytes.clear();
        self.ends.clear();
        self
    }

    /// Returns the number of entries.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns each entry's bytes, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(*start..*end).unwrap_or_default())
    }
}
