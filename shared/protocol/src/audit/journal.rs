//! The journal: entries that are durable, whether or not a checkpoint covers them yet.
//!
//! A segment begins with what came before it; each record is sealed over the one before, so that a record that is changed,
//! missing or elsewhere is found. Nobody signs it: it says what was acknowledged, the checkpoint says what happened.
//!
//! ```text
//! segment  magic (24) | first entry's index (8) | root before it (32) | seal (32) | records
//! record   length, or 2^15 for a mark (2) | its complement (2) | payload | seal (32)
//! ```
//!
//! Integers are big-endian. The complement tells a length that was damaged from a record that was cut short, which is
//! how the last one looks when a machine died while it was written. A mark says that the checkpoint of a size is out.

use sha2::{Digest as _, Sha256};

use super::entry::ENTRY_BYTES_MAX;
use crate::merkle::Hash;

/// The start of every segment.
const MAGIC: &[u8; 24] = b"bridge audit journal v1\n";

/// Bytes of a segment before its first record.
pub const HEADER_BYTES: usize = 24 + 8 + 32 + 32;

/// In place of a length: a mark, whose payload is a size.
const MARK: u16 = 1 << 15;

/// What a segment begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The index of its first entry.
    pub first: u64,
    /// The log's root before that entry.
    pub root: Hash,
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'bytes> {
    /// An entry.
    Entry(&'bytes [u8]),
    /// The checkpoint of this size is out: an older one in the folder was put back.
    Published(u64),
}

/// Why a segment cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Its last record was not written to its end, so nobody was told that it is durable.
    #[error("the last record is cut short at byte {0}")]
    Torn(usize),
    /// Something in it is not as it was written.
    #[error("damaged at byte {0}")]
    Damaged(usize),
}

/// Writes records, each sealed over the last.
#[derive(Debug, Clone)]
pub struct Writer {
    seal: Hash,
}

/// Reads a segment.
#[derive(Debug, Clone)]
pub struct Reader<'bytes> {
    bytes: &'bytes [u8],
    at: usize,
    seal: Hash,
}

/// The path of the segment that begins with this entry.
pub fn path(first: u64) -> String {
    format!("journal/{first:020}")
}

/// The first entry of the segment at this path; `None` if it is no segment's path.
pub fn first_of(path: &str) -> Option<u64> {
    let first = path.strip_prefix("journal/")?.parse().ok()?;
    (self::path(first) == path).then_some(first)
}

impl Header {
    /// A segment's first bytes, and what writes its records.
    pub fn encode(&self) -> (Vec<u8>, Writer) {
        let mut bytes = [MAGIC.as_slice(), &self.first.to_be_bytes(), &self.root].concat();
        let seal: Hash = Sha256::digest(&bytes).into();
        bytes.extend_from_slice(&seal);
        (bytes, Writer { seal })
    }
}

impl Writer {
    /// Appends an entry's record to `out`.
    pub fn entry(&mut self, entry: &[u8], out: &mut Vec<u8>) {
        let length = u16::try_from(entry.len()).unwrap_or(MARK);
        self.record(length, entry, out);
    }

    /// Appends the mark that the checkpoint of this size is out.
    pub fn published(&mut self, size: u64, out: &mut Vec<u8>) {
        self.record(MARK, &size.to_be_bytes(), out);
    }

    fn record(&mut self, length: u16, payload: &[u8], out: &mut Vec<u8>) {
        let from = out.len();
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&(!length).to_be_bytes());
        out.extend_from_slice(payload);
        self.seal = seal_over(&self.seal, out.get(from..).unwrap_or_default());
        out.extend_from_slice(&self.seal);
    }
}

impl<'bytes> Reader<'bytes> {
    /// Reads a segment's header.
    pub fn open(bytes: &'bytes [u8]) -> Result<(Header, Self), JournalError> {
        let short = || {
            let written = bytes.len().min(MAGIC.len());
            let torn = bytes.get(..written) == MAGIC.get(..written) || bytes.iter().all(|byte| *byte == 0);
            if torn { JournalError::Torn(0) } else { JournalError::Damaged(0) }
        };
        let header = bytes.get(..HEADER_BYTES).ok_or_else(short)?;
        let (text, seal) = header.split_at(HEADER_BYTES - 32);
        let expected: Hash = Sha256::digest(text).into();
        let (magic, rest) = text.split_at(MAGIC.len());
        let (first, root) = rest.split_at(8);
        match (first.try_into(), root.try_into()) {
            (Ok(first), Ok(root)) if seal == expected && magic == MAGIC => {
                let header = Header { first: u64::from_be_bytes(first), root };
                Ok((header, Self { bytes, at: HEADER_BYTES, seal: expected }))
            }
            _ => Err(JournalError::Damaged(0)),
        }
    }

    /// The next record; `None` at the end.
    pub fn next_record(&mut self) -> Result<Option<Record<'bytes>>, JournalError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        // A file can grow before its bytes are written: zeros to the end are no record, and no damage.
        let torn = || Err(JournalError::Torn(self.at));
        if rest.iter().take(4).all(|byte| *byte == 0) && rest.iter().all(|byte| *byte == 0) {
            return torn();
        }
        let Some(([a, b, c, d], _)) = rest.split_first_chunk::<4>() else { return torn() };
        let (length, complement) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
        let payload = if length == MARK { 8 } else { usize::from(length) };
        if complement != !length || payload > ENTRY_BYTES_MAX {
            return Err(JournalError::Damaged(self.at));
        }
        let Some((record, seal)) = rest.get(..4 + payload + 32).map(|record| record.split_at(4 + payload))
        else {
            return torn();
        };
        let expected = seal_over(&self.seal, record);
        if seal != expected {
            return Err(JournalError::Damaged(self.at));
        }
        self.at += record.len() + seal.len();
        self.seal = expected;
        let payload = record.get(4..).unwrap_or_default();
        Ok(Some(match payload.try_into() {
            Ok(size) if length == MARK => Record::Published(u64::from_be_bytes(size)),
            _ => Record::Entry(payload),
        }))
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// What writes on where this has come to.
    pub fn into_writer(self) -> Writer {
        Writer { seal: self.seal }
    }
}

fn seal_over(last: &Hash, record: &[u8]) -> Hash {
    Sha256::new().chain_update(last).chain_update(record).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> Vec<u8> {
        let (mut bytes, mut writer) = Header { first: 7, root: [1; 32] }.encode();
        writer.entry(b"one", &mut bytes);
        writer.published(8, &mut bytes);
        writer.entry(b"two", &mut bytes);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<String>, JournalError> {
        let (header, mut reader) = Reader::open(bytes)?;
        let mut records = vec![format!("from {}", header.first)];
        while let Some(record) = reader.next_record()? {
            records.push(match record {
                Record::Entry(entry) => String::from_utf8_lossy(entry).into_owned(),
                Record::Published(size) => format!("published {size}"),
            });
        }
        Ok(records)
    }

    #[test]
    fn a_segment_is_read_back_and_written_on() {
        let mut bytes = segment();
        assert_eq!(read(&bytes).unwrap(), ["from 7", "one", "published 8", "two"]);
        let copy = bytes.clone();
        let (_, mut reader) = Reader::open(&copy).unwrap();
        while reader.next_record().unwrap().is_some() {}
        assert_eq!(reader.position(), bytes.len());
        reader.into_writer().entry(b"three", &mut bytes);
        assert_eq!(read(&bytes).unwrap().last().unwrap(), "three");
        assert_eq!((first_of(&path(7)), first_of("journal/7")), (Some(7), None));
    }

    #[test]
    fn a_segment_cut_anywhere_is_torn_and_never_damaged() {
        let bytes = segment();
        let segment_ends = [HEADER_BYTES, HEADER_BYTES + 39, HEADER_BYTES + 39 + 44];
        for cut in 0..bytes.len() {
            match read(&bytes[..cut]) {
                Err(JournalError::Torn(at)) => assert!(at <= cut),
                Ok(records) => assert!(segment_ends.contains(&cut), "cut at {cut}: {records:?}"),
                Err(damaged) => panic!("cut at {cut}: {damaged}"),
            }
            let mut zeros = bytes[..cut.max(HEADER_BYTES)].to_vec();
            let whole = read(&zeros).is_ok();
            zeros.resize(bytes.len() + 100, 0);
            assert!(!whole || matches!(read(&zeros), Err(JournalError::Torn(_))), "cut at {cut}");
        }
    }

    #[test]
    fn no_bit_of_a_segment_can_be_changed_and_no_record_moved() {
        let bytes = segment();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read(&changed), Err(JournalError::Damaged(_))), "bit {bit} can be changed");
        }
        let (one, mark) = (4 + 3 + 32, 4 + 8 + 32);
        let without = [&bytes[..HEADER_BYTES], &bytes[HEADER_BYTES + one..]].concat();
        assert_eq!(read(&without), Err(JournalError::Damaged(HEADER_BYTES)));
        let swapped = [
            &bytes[..HEADER_BYTES],
            &bytes[HEADER_BYTES + one + mark..],
            &bytes[HEADER_BYTES + one..HEADER_BYTES + one + mark],
            &bytes[HEADER_BYTES..HEADER_BYTES + one],
        ];
        assert_eq!(read(&swapped.concat()), Err(JournalError::Damaged(HEADER_BYTES)));
    }
}
