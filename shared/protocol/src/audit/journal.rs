//! The journal: durable entries, with or without a checkpoint that covers them.
//!
//! A segment begins with the log's state before it. Entries that become durable together form a
//! round. Each round is sealed over the one before, so that a changed, missing or moved round is
//! found. The journal is not signed: it shows the acknowledged entries, and the checkpoint proves
//! them.
//!
//! ```text
//! segment  magic (24) | first entry's index (8) | root before it (32) | seal (32) | rounds
//!          | zeros (any number)
//! round    complement of the length (4) | length of the entries (4)
//!          | size of a published checkpoint, or 0 (8) | seal (32) | entries | line feed (1)
//! entry    its length (2) | its bytes, as in a bundle of C2SP tlog-tiles
//! ```
//!
//! Integers are big-endian. A round's seal is SHA-256 over the seal before it, the leaf hash of
//! each entry (which the tree needs too), and the round's first 16 bytes. The zeros are written
//! ahead. So a round needs no change of the file's length, which would be a second write to another
//! place of the disk.
//!
//! A round that was cut short by a crash was acknowledged to nobody. It is distinguished from a
//! damaged round by how disks write: a sector is written whole or not at all, and an unwritten
//! sector is zeros or beyond the end of the file. Every sector of a written round has a byte that
//! is not zero: a round begins with ones, because it is shorter than 2^24 bytes, and ends with a
//! line feed.

use std::iter::Peekable;

use sha2::{Digest as _, Sha256};

use super::entry::ENTRY_BYTES_MAX;
use super::tile;
use crate::merkle::{Hash, leaf_hash};

/// The start of every segment.
const MAGIC: &[u8; 24] = b"bridge audit journal v2\n";

/// Length of a segment's header.
pub const HEADER_BYTES: usize = 24 + 8 + 32 + 32;

/// Length of a round before its seal: complement, length, checkpoint.
const HEAD_BYTES: usize = 4 + 4 + 8;

/// Length of a round without its entries.
const ROUND_BYTES_MIN: usize = HEAD_BYTES + 32 + 1;

/// Most bytes of a round's entries.
const ENTRIES_BYTES_MAX: usize = (1 << 24) - 1;

/// Bytes that a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Last byte of a round.
const END: u8 = b'\n';

/// Header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Index of its first entry.
    pub first: u64,
    /// Root of the log before that entry.
    pub root: Hash,
}

/// Entries that became durable together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round<'bytes> {
    /// Size of a checkpoint that was published. An older checkpoint in the folder was then put
    /// back.
    pub published: Option<u64>,
    /// Entries, in order.
    pub entries: Vec<&'bytes [u8]>,
}

/// Reasons why reading a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Its last round is incomplete, so it was acknowledged to nobody.
    #[error("the last round is cut short at byte {0}")]
    Torn(usize),
    /// It was changed after it was written.
    #[error("damaged at byte {0}")]
    Damaged(usize),
}

/// Writes rounds, each sealed over the one before.
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

/// Returns the path of the segment that begins with this entry.
pub fn path(first: u64) -> String {
    format!("journal/{first:020}")
}

/// Returns the first entry of the segment at this path, or `None` for another file's path.
pub fn first_of(path: &str) -> Option<u64> {
    let first = path.strip_prefix("journal/")?.parse().ok()?;
    (self::path(first) == path).then_some(first)
}

impl Header {
    /// Returns a segment's first bytes and the writer of its rounds.
    pub fn encode(&self) -> (Vec<u8>, Writer) {
        let mut bytes = [MAGIC.as_slice(), &self.first.to_be_bytes(), &self.root].concat();
        let seal: Hash = Sha256::digest(&bytes).into();
        bytes.extend_from_slice(&seal);
        (bytes, Writer { seal })
    }
}

impl Writer {
    /// Appends to `out` the size of a published checkpoint, and entries with their leaf hashes.
    ///
    /// They become one round, or several if there are very many entries.
    pub fn round<'entry>(
        &mut self,
        published: Option<u64>,
        entries: impl Iterator<Item = (&'entry [u8], &'entry Hash)>,
        out: &mut Vec<u8>,
    ) {
        let mut entries = entries.peekable();
        self.one_round(published, &mut entries, out);
        while entries.peek().is_some() {
            self.one_round(None, &mut entries, out);
        }
    }

    fn one_round<'entry>(
        &mut self,
        published: Option<u64>,
        entries: &mut Peekable<impl Iterator<Item = (&'entry [u8], &'entry Hash)>>,
        out: &mut Vec<u8>,
    ) {
        let (from, mut leaves) = (out.len(), Vec::new());
        out.extend_from_slice(&[0; HEAD_BYTES + 32]);
        let entries_from = out.len();
        while let Some((entry, leaf)) =
            entries.next_if(|(entry, _)| out.len() - entries_from + 2 + entry.len() <= ENTRIES_BYTES_MAX)
        {
            tile::push_entry(out, entry);
            leaves.push(*leaf);
        }
        let length = u32::try_from(out.len() - entries_from).unwrap_or(u32::MAX);
        let head = head(length, published.unwrap_or(0));
        self.seal = seal(&self.seal, &leaves, &head);
        if let Some(place) = out.get_mut(from..entries_from) {
            place.copy_from_slice(&[&head[..], &self.seal].concat());
        }
        out.push(END);
    }
}

impl<'bytes> Reader<'bytes> {
    /// Reads a segment's header.
    ///
    /// # Errors
    ///
    /// Fails if the header is cut short or damaged.
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

    /// Returns the next round, or `None` if only zeros or nothing follow.
    ///
    /// # Errors
    ///
    /// Fails if the round is cut short or damaged.
    pub fn next_round(&mut self) -> Result<Option<Round<'bytes>>, JournalError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let Some((head, after)) = rest.split_first_chunk::<HEAD_BYTES>() else {
            return Err(JournalError::Torn(self.at));
        };
        let Some(length) = length_of(head) else { return Err(self.torn_or_damaged(HEAD_BYTES)) };
        let total = ROUND_BYTES_MIN + length;
        if rest.len() < total {
            return Err(JournalError::Torn(self.at));
        }
        let round = after.split_first_chunk::<32>().and_then(|(sealed, after)| {
            let (entries, after) = after.split_at_checked(length)?;
            let entries = tile::entries(entries).ok()?;
            let fit = entries.iter().all(|entry| entry.len() <= ENTRY_BYTES_MAX);
            let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
            let seal = seal(&self.seal, &leaves, head);
            (fit && *sealed == seal && after.first() == Some(&END)).then_some((entries, seal))
        });
        let Some((entries, seal)) = round else { return Err(self.torn_or_damaged(total)) };
        self.at += total;
        self.seal = seal;
        let [.., a, b, c, d, e, f, g, h] = *head;
        let published = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        Ok(Some(Round { published: (published > 0).then_some(published), entries }))
    }

    /// Returns the error for a faulty round of `bytes` bytes: torn if one of its sectors was not
    /// written, damaged otherwise.
    fn torn_or_damaged(&self, bytes: usize) -> JournalError {
        let last = (self.at + bytes - 1) / SECTOR_BYTES;
        let unwritten = (self.at / SECTOR_BYTES..=last).any(|sector| {
            let from = (sector * SECTOR_BYTES).max(self.at);
            let to = self.bytes.len().min((sector + 1) * SECTOR_BYTES);
            self.bytes.get(from..to).is_some_and(|part| part.iter().all(|byte| *byte == 0))
        });
        if unwritten { JournalError::Torn(self.at) } else { JournalError::Damaged(self.at) }
    }

    /// Returns the bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Returns a writer that continues after the last round read.
    pub fn into_writer(self) -> Writer {
        Writer { seal: self.seal }
    }
}

/// Returns the first bytes of a round.
fn head(length: u32, published: u64) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    let (lengths, size) = head.split_at_mut(8);
    let (complement, plain) = lengths.split_at_mut(4);
    complement.copy_from_slice(&(!length).to_be_bytes());
    plain.copy_from_slice(&length.to_be_bytes());
    size.copy_from_slice(&published.to_be_bytes());
    head
}

/// Returns the length of the round's entries, or `None` if these are not a round's first bytes.
fn length_of(head: &[u8; HEAD_BYTES]) -> Option<usize> {
    let [a, b, c, d, e, f, g, h, ..] = *head;
    let (complement, length) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
    let length = (complement == !length).then_some(length)?;
    usize::try_from(length).ok().filter(|length| *length <= ENTRIES_BYTES_MAX)
}

fn seal(last: &Hash, leaves: &[Hash], head: &[u8]) -> Hash {
    Sha256::new().chain_update(last).chain_update(leaves.as_flattened()).chain_update(head).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a segment, and the offsets of its rounds' ends.
    fn segment() -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut writer) = Header { first: 7, root: [1; 32] }.encode();
        let mut ends = vec![bytes.len()];
        let large = "l".repeat(1_400);
        let rounds: [(Option<u64>, &[&str]); 4] =
            [(None, &["one", "two"]), (Some(1 << 8), &[]), (Some(9), &[&large, "three"]), (None, &["four"])];
        for (published, entries) in rounds {
            write(&mut writer, published, entries, &mut bytes);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn write(writer: &mut Writer, published: Option<u64>, entries: &[&str], out: &mut Vec<u8>) {
        let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry.as_bytes())).collect();
        writer.round(published, entries.iter().map(|entry| entry.as_bytes()).zip(&leaves), out);
    }

    fn read(bytes: &[u8]) -> Result<Vec<String>, JournalError> {
        let (header, mut reader) = Reader::open(bytes)?;
        let mut records = vec![format!("from {}", header.first)];
        while let Some(Round { published, entries }) = reader.next_round()? {
            records.extend(published.map(|size| format!("published {size}")));
            records
                .extend(entries.iter().map(|entry| String::from_utf8_lossy(entry).chars().take(3).collect()));
        }
        Ok(records)
    }

    #[test]
    fn a_segment_is_read_back_and_written_on() {
        let (mut bytes, _) = segment();
        let records = ["from 7", "one", "two", "published 256", "published 9", "lll", "thr", "fou"];
        assert_eq!(read(&bytes).unwrap(), records);
        let copy = bytes.clone();
        let (_, mut reader) = Reader::open(&copy).unwrap();
        while reader.next_round().unwrap().is_some() {}
        assert_eq!(reader.position(), bytes.len());
        write(&mut reader.into_writer(), None, &["five"], &mut bytes);
        assert_eq!(read(&bytes).unwrap().last().unwrap(), "fiv");
        assert_eq!((first_of(&path(7)), first_of("journal/7")), (Some(7), None));
    }

    #[test]
    fn more_entries_than_a_round_has_room_for_are_several_rounds() {
        let (mut bytes, mut writer) = Header { first: 0, root: [1; 32] }.encode();
        let (entry, leaf) = (vec![b'x'; ENTRY_BYTES_MAX], leaf_hash(&vec![b'x'; ENTRY_BYTES_MAX]));
        let count = ENTRIES_BYTES_MAX / ENTRY_BYTES_MAX + 1;
        writer.round(Some(3), std::iter::repeat_n((&entry[..], &leaf), count), &mut bytes);
        let (_, mut reader) = Reader::open(&bytes).unwrap();
        let mut rounds = Vec::new();
        while let Some(round) = reader.next_round().unwrap() {
            rounds.push((round.published, round.entries.len()));
        }
        assert_eq!((rounds.len(), rounds[0].0, rounds[1].0), (2, Some(3), None));
        assert_eq!(rounds.iter().map(|(_, entries)| entries).sum::<usize>(), count);
    }

    #[test]
    fn a_segment_cut_anywhere_is_torn_and_never_damaged() {
        let (bytes, ends) = segment();
        for cut in 0..bytes.len() {
            match read(&bytes[..cut]) {
                Err(JournalError::Torn(at)) => assert!(at <= cut),
                Ok(records) => assert!(ends.contains(&cut), "cut at {cut}: {records:?}"),
                Err(damaged) => panic!("cut at {cut}: {damaged}"),
            }
        }
    }

    #[test]
    fn a_partly_written_round_is_torn_and_never_damaged() {
        for shift in 0..SECTOR_BYTES {
            // The last round begins at any offset in a sector and covers four sectors.
            let (mut bytes, mut writer) = Header { first: 0, root: [1; 32] }.encode();
            write(&mut writer, None, &[&"s".repeat(1 + shift)], &mut bytes);
            let before = bytes.len();
            write(&mut writer, Some(1 << 8), &[&"l".repeat(1_400), "end"], &mut bytes);
            let sectors = before / SECTOR_BYTES..=(bytes.len() - 1) / SECTOR_BYTES;
            for unwritten in 1u32..1 << sectors.clone().count() {
                for zeros_behind in [0, 3, 700] {
                    let mut torn = bytes.clone();
                    for sector in sectors.clone().filter(|at| unwritten >> (at - sectors.start()) & 1 == 1) {
                        let (from, to) = (sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
                        torn[from.max(before)..to.min(bytes.len())].fill(0);
                    }
                    torn.resize(torn.len() + zeros_behind, 0);
                    let nothing_written = torn[before..].iter().all(|byte| *byte == 0);
                    let expected = if nothing_written {
                        read(&bytes[..before])
                    } else {
                        Err(JournalError::Torn(before))
                    };
                    assert_eq!(read(&torn), expected, "{shift} {unwritten:b} {zeros_behind}");
                }
            }
        }
    }

    #[test]
    fn zeros_after_the_last_round_end_it_and_are_overwritten() {
        let (mut bytes, _) = segment();
        let (records, end) = (read(&bytes).unwrap(), bytes.len());
        for zeros in [1, HEAD_BYTES - 1, HEAD_BYTES, 10_000] {
            bytes.truncate(end);
            bytes.resize(end + zeros, 0);
            assert_eq!(read(&bytes).as_ref(), Ok(&records), "{zeros}");
            let (_, mut reader) = Reader::open(&bytes).unwrap();
            while reader.next_round().unwrap().is_some() {}
            assert_eq!(reader.position(), end);
        }
        for at in end..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] = 1;
            assert!(read(&changed).is_err(), "byte {at} behind the end");
        }
        let (_, mut reader) = Reader::open(&bytes).unwrap();
        while reader.next_round().unwrap().is_some() {}
        let (mut round, mut writer) = (Vec::new(), reader.into_writer());
        write(&mut writer, None, &["five"], &mut round);
        bytes[end..end + round.len()].copy_from_slice(&round);
        assert_eq!(read(&bytes).unwrap().last().unwrap(), "fiv");
    }

    #[test]
    fn no_bit_of_a_segment_can_be_changed_and_no_round_moved() {
        let (bytes, ends) = segment();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read(&changed), Err(JournalError::Damaged(_))), "bit {bit} can be changed");
        }
        let without = [&bytes[..ends[0]], &bytes[ends[1]..]].concat();
        assert_eq!(read(&without), Err(JournalError::Damaged(ends[0])));
        let swapped =
            [&bytes[..ends[0]], &bytes[ends[1]..ends[2]], &bytes[ends[0]..ends[1]], &bytes[ends[2]..]];
        assert_eq!(read(&swapped.concat()), Err(JournalError::Damaged(ends[0])));
    }
}
