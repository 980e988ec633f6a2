//! Search for planted personal values in files, in every form in which a value may leak by
//! accident.
//!
//! `privacy` builds [`Needles`] from a plan and searches everything with them. A report names the
//! place and the form of a value, and never shows the value itself.

mod forms;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use forms::Form;

/// Length of the prefix by which a needle is looked up, in bytes. No needle is shorter.
const WINDOW: usize = 8;
const CHUNK: usize = 1 << 20;
/// Most occurrences in one file that are reported with their places. The others are only counted.
const TOLD_MAX: usize = 8;

/// The values to search for, in all their forms.
pub struct Needles {
    bytes: Vec<u8>,
    /// Prefix of each needle, its start and length in `bytes`, and its form; sorted.
    entries: Vec<(u64, u32, u32, Form)>,
    /// A bit for each hash of a prefix. One look at it rejects nearly every position of a file.
    filter: Vec<u64>,
    shift: u32,
    longest: usize,
}

/// Matches in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileHits {
    /// Path of the file.
    pub path: PathBuf,
    /// The matches.
    pub seen: SearchHits,
}

/// Matches in a text or stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchHits {
    /// Length of the searched text in bytes.
    pub length: u64,
    /// Number of matches.
    pub hits: u64,
    /// The first matches.
    pub first: Vec<Hit>,
}

/// One match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Its start in bytes.
    pub at: u64,
    /// Form of the value.
    pub form: Form,
}

impl Needles {
    /// Prepares the values that have at least eight bytes. Shorter values would match by accident,
    /// and are not searched for.
    #[must_use]
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Needles {
        let (mut bytes, mut entries, mut longest) = (Vec::new(), Vec::new(), WINDOW);
        let values = values.into_iter().filter(|value| value.len() >= WINDOW);
        for (form, text) in values.flat_map(forms::of) {
            let Some((first, _)) = text.split_first_chunk() else { continue };
            let (start, length) = (bytes.len(), text.len());
            let (Ok(start), Ok(length)) = (u32::try_from(start), u32::try_from(length)) else { break };
            entries.push((u64::from_le_bytes(*first), start, length, form));
            longest = longest.max(text.len());
            bytes.extend_from_slice(&text);
        }
        entries.sort_unstable();
        // With 32 bits for each entry, about one position in thirty passes the filter by accident.
        let bits = (entries.len() * 32).next_power_of_two().max(1 << 10);
        let mut needles = Needles {
            bytes,
            entries,
            filter: vec![0; bits / 64],
            shift: 64 - bits.trailing_zeros(),
            longest,
        };
        for index in 0..needles.entries.len() {
            let (word, bit) = needles.place(needles.entries[index].0);
            needles.filter[word] |= bit;
        }
        needles
    }

    /// Returns the number of matches in `text`.
    #[must_use]
    pub fn count(&self, text: &[u8]) -> u64 {
        self.find(text).hits
    }

    /// Returns the matches in `text`.
    #[must_use]
    pub fn find(&self, text: &[u8]) -> SearchHits {
        let mut seen = SearchHits { length: text.len() as u64, ..SearchHits::default() };
        self.find_starting_before(text, text.len(), 0, &mut seen);
        seen
    }

    /// Searches one file.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub fn search_file(&self, path: &Path) -> io::Result<FileHits> {
        let seen = self.search_stream(&mut File::open(path)?)?;
        Ok(FileHits { path: path.to_owned(), seen })
    }

    /// Searches a stream to its end.
    ///
    /// # Errors
    ///
    /// Fails if the stream cannot be read.
    pub fn search_stream(&self, stream: &mut impl Read) -> io::Result<SearchHits> {
        let mut seen = SearchHits::default();
        let mut text = Vec::new();
        loop {
            let kept = text.len();
            let begins = seen.length - kept as u64;
            let read = stream.by_ref().take(CHUNK as u64).read_to_end(&mut text)?;
            seen.length += read as u64;
            // A match that may continue in the next chunk is counted with that chunk.
            let complete =
                if read == 0 { text.len() } else { (kept + read).saturating_sub(self.longest - 1) };
            self.find_starting_before(&text, complete, begins, &mut seen);
            if read == 0 {
                return Ok(seen);
            }
            text.drain(..complete);
        }
    }

    /// Searches a file, or every file under a folder, in the order of names. Symbolic links are not
    /// followed.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read, because then the result would not be complete.
    pub fn search(&self, root: &Path) -> io::Result<Vec<FileHits>> {
        let kind = fs::symlink_metadata(root)?.file_type();
        if kind.is_file() {
            return Ok(vec![self.search_file(root)?]);
        }
        let mut found = Vec::new();
        if kind.is_dir() {
            let mut entries: Vec<_> =
                fs::read_dir(root)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
            entries.sort();
            for entry in entries {
                found.extend(self.search(&entry)?);
            }
        }
        Ok(found)
    }

    /// Adds the matches that begin before `end`. The text begins at position `begins` of the
    /// stream.
    fn find_starting_before(&self, text: &[u8], end: usize, begins: u64, seen: &mut SearchHits) {
        for (start, window) in text.windows(WINDOW).enumerate().take(end) {
            let Ok(window) = window.try_into() else { continue };
            let window = u64::from_le_bytes(window);
            let (word, bit) = self.place(window);
            if self.filter[word] & bit == 0 {
                continue;
            }
            let before = start.checked_sub(1).and_then(|index| text.get(index));
            if let Some(form) = self.standing_at(window, before, &text[start..]) {
                seen.hits += 1;
                if seen.first.len() < TOLD_MAX {
                    seen.first.push(Hit { at: begins + start as u64, form });
                }
            }
        }
    }

    fn standing_at(&self, window: u64, before: Option<&u8>, text: &[u8]) -> Option<Form> {
        let first = self.entries.partition_point(|entry| entry.0 < window);
        let of_window = self.entries[first..].iter().take_while(|entry| entry.0 == window);
        let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
        let mut standing = of_window.filter(|&&(_, start, length, form)| {
            let is_there = text.starts_with(&self.bytes[start as usize..][..length as usize]);
            // A phone's digits within a longer number match only by accident.
            let is_part = form == Form::Digits && (is_digit(before) || is_digit(text.get(length as usize)));
            is_there && !is_part
        });
        standing.next().map(|entry| entry.3)
    }

    fn place(&self, window: u64) -> (usize, u64) {
        let hash = window.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift;
        ((hash / 64) as usize, 1 << (hash % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "남궁뷁휼쟎";
    const PHONE: &str = "+82-10-1234-5678";

    #[test]
    fn every_form_of_a_value_is_found_wherever_it_stands() {
        let needles = Needles::new([NAME, PHONE]);
        let known_base64 = "eHgrODItMTAtMTIzNC01Njc4"; // encodes xx+82-10-1234-5678
        for leak in [
            format!("name={NAME}"),
            r#"{"name":"\ub0a8\uad81\ubdc1\ud73c\uc7ce"}"#.to_owned(),
            r#"{"name":"\uB0A8\uAD81\uBDC1\uD73C\uC7CE"}"#.to_owned(),
            format!("body={:?}", format!("x{NAME}").as_bytes()),
            format!("body={:?}", bytes::Bytes::from(format!("x{NAME}"))),
            "2b38322d31302d313233342d35363738".to_owned(),
            "2B38322D31302D313233342D35363738".to_owned(),
            "821012345678".to_owned(),
            "phone=%2B82-10-1234-5678".to_owned(),
            format!("body={:02x?}", PHONE.as_bytes()),
            known_base64.to_owned(),
        ] {
            assert_eq!(needles.count(leak.as_bytes()), 1, "{leak}");
        }
        for order in [u16::to_le_bytes, u16::to_be_bytes] {
            let leak: Vec<u8> = format!("x{NAME}").encode_utf16().flat_map(order).collect();
            assert_eq!(needles.find(&leak).first, [Hit { at: 2, form: Form::Utf16 }]);
        }
    }

    #[test]
    fn quotes_in_a_value_do_not_hide_it() {
        let needles = Needles::new([r#"has the "spare" key"#, r#"남궁뷁 "열쇠""#]);
        for leak in [
            r#"note=has the \"spare\" key"#,
            r#"note=\ub0a8\uad81\ubdc1 \"\uc5f4\uc1e0\""#,
            r#"남궁뷁 \"열쇠\""#,
        ] {
            assert_eq!(needles.count(leak.as_bytes()), 1, "{leak}");
        }
    }

    #[test]
    fn what_is_not_planted_is_not_found() {
        let needles = Needles::new([NAME, PHONE, "short"]);
        let text = "남궁뷁휼 +82-10-1234-5679 9821012345678 8210123456780 short \u{0}\u{1} 남궁".repeat(100);
        assert_eq!(needles.count(text.as_bytes()), 0);
        assert_eq!(Needles::new([]).count(text.as_bytes()), 0);
    }

    #[test]
    fn a_value_across_the_border_of_two_chunks_is_found_once() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let needles = Needles::new([NAME, PHONE]);
        for before in [CHUNK - 20, CHUNK - 8, CHUNK - 1, CHUNK, 0] {
            let path = dir.path().join(format!("log-{before}"));
            let text = [vec![b'.'; before], PHONE.as_bytes().to_vec(), vec![b'.'; 100]].concat();
            fs::write(&path, &text).expect("write");
            let first = vec![Hit { at: before as u64, form: Form::Plain }];
            let seen = SearchHits { length: text.len() as u64, hits: 1, first };
            let expected = FileHits { path: path.clone(), seen };
            assert_eq!(needles.search_file(&path).expect("readable"), expected);
        }
        let all = needles.search(dir.path()).expect("readable");
        assert_eq!((all.len(), all.iter().map(|found| found.seen.hits).sum::<u64>()), (5, 5));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_not_a_zero() {
        assert!(Needles::new([NAME]).search(Path::new("/nowhere/at/all")).is_err());
    }
}
