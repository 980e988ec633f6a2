//! Entries on their way to the log: one buffer for all of them, however many there are.

use bridge_protocol::audit::entry::{Entry, EntryError};

/// Entries in their canonical bytes, one behind the other.
#[derive(Debug, Default)]
pub(super) struct EntryBuffer {
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
}

/// Most entries of an order have fewer.
const BYTES_EXPECTED: usize = 384;

impl EntryBuffer {
    /// These entries; an error if one of them is none.
    pub(super) fn of(entries: &[Entry]) -> Result<Self, EntryError> {
        let (bytes, ends) = (entries.len() * BYTES_EXPECTED, entries.len());
        let mut lines = Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(ends) };
        entries.iter().try_for_each(|entry| lines.push(entry))?;
        Ok(lines)
    }

    /// Appends an entry; after an error nothing is appended.
    pub(super) fn push(&mut self, entry: &Entry) -> Result<(), EntryError> {
        entry.encode_into(&mut self.bytes)?;
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// Without entries, and with its room.
    pub(super) fn emptied(mut self) -> Self {
        self.bytes.clear();
        self.ends.clear();
        self
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Each entry's bytes, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(*start..*end).unwrap_or_default())
    }
}
