//! Looks for planted personal values in files, in every form in which one leaks by accident.
//!
//! The demo and the privacy tests build [`Needles`] from a plan and search everything outside the IDC's database. A
//! report says how often and in which file, and never shows the value itself.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes by which a needle is looked up; a needle is never shorter.
const WINDOW: usize = 8;
const CHUNK: usize = 1 << 20;

/// The values to look for, in all their forms.
pub struct Needles {
    bytes: Vec<u8>,
    /// First bytes, and where the needle lies in `bytes`; sorted.
    entries: Vec<(u64, u32, u32)>,
    /// A bit for each hash of first bytes: nearly every position of a file is dismissed by one look here.
    filter: Vec<u64>,
    shift: u32,
    longest: usize,
}

/// What was found in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub length: u64,
    /// Occurrences in it.
    pub hits: u64,
}

impl Needles {
    /// Prepares `values` of at least eight bytes; shorter ones would be found by accident and are not searched for.
    #[must_use]
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Needles {
        let (mut bytes, mut entries, mut longest) = (Vec::new(), Vec::new(), WINDOW);
        for form in values.into_iter().filter(|value| value.len() >= WINDOW).flat_map(forms) {
            let Some((first, _)) = form.split_first_chunk() else { continue };
            let (start, length) = (bytes.len(), form.len());
            let (Ok(start), Ok(length)) = (u32::try_from(start), u32::try_from(length)) else { break };
            entries.push((u64::from_le_bytes(*first), start, length));
            longest = longest.max(form.len());
            bytes.extend_from_slice(&form);
        }
        entries.sort_unstable();
        // 32 bits an entry: one position in thirty or so passes the filter by accident.
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

    /// How often any of the values stands in `text`.
    #[must_use]
    pub fn count(&self, text: &[u8]) -> u64 {
        self.count_starting_before(text, text.len())
    }

    /// Searches one file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn search_file(&self, path: &Path) -> io::Result<Found> {
        let (length, hits) = self.search_stream(&mut File::open(path)?)?;
        Ok(Found { path: path.to_owned(), length, hits })
    }

    /// Searches what can be read: how many bytes that was, and how often a value stood in them.
    ///
    /// # Errors
    /// When it cannot be read to its end.
    pub fn search_stream(&self, stream: &mut impl Read) -> io::Result<(u64, u64)> {
        let (mut length, mut hits) = (0, 0);
        let mut text = Vec::new();
        loop {
            let kept = text.len();
            let read = stream.by_ref().take(CHUNK as u64).read_to_end(&mut text)?;
            length += read as u64;
            // What could run on into the next chunk is counted with that one.
            let complete =
                if read == 0 { text.len() } else { (kept + read).saturating_sub(self.longest - 1) };
            hits += self.count_starting_before(&text, complete);
            if read == 0 {
                return Ok((length, hits));
            }
            text.drain(..complete);
        }
    }

    /// Searches a file, or every file under a folder, in the order of their names. Symbolic links are not followed.
    ///
    /// # Errors
    /// When something in it cannot be read: then nothing can be said of it.
    pub fn search(&self, root: &Path) -> io::Result<Vec<Found>> {
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

    fn count_starting_before(&self, text: &[u8], end: usize) -> u64 {
        let mut hits = 0;
        for (start, window) in text.windows(WINDOW).enumerate().take(end) {
            let Ok(window) = window.try_into() else { continue };
            let window = u64::from_le_bytes(window);
            let (word, bit) = self.place(window);
            if self.filter[word] & bit != 0 && self.stands_at(window, &text[start..]) {
                hits += 1;
            }
        }
        hits
    }

    fn stands_at(&self, window: u64, text: &[u8]) -> bool {
        let first = self.entries.partition_point(|entry| entry.0 < window);
        self.entries[first..]
            .iter()
            .take_while(|entry| entry.0 == window)
            .any(|&(_, start, length)| text.starts_with(&self.bytes[start as usize..][..length as usize]))
    }

    fn place(&self, window: u64) -> (usize, u64) {
        let hash = window.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift;
        ((hash / 64) as usize, 1 << (hash % 64))
    }
}

/// The value itself, and what encoders and careless log lines make of it.
fn forms(value: &str) -> Vec<Vec<u8>> {
    let bytes = value.as_bytes();
    let mut forms = vec![bytes.to_vec(), hex(bytes, "0123456789abcdef"), hex(bytes, "0123456789ABCDEF")];
    for alphabet in [STANDARD, URL_SAFE] {
        forms.extend((0..3).map(|offset| base64_inside(bytes, offset, alphabet)));
    }
    // `{:?}` of a byte vector: [80, 69, ...]
    let decimals: Vec<_> = bytes.iter().map(u8::to_string).collect();
    forms.push(decimals.join(", ").into_bytes());
    // What `serde_json` and `{:?}` of a string make of quotes, without the quotes around.
    let quoted = format!("{value:?}");
    forms.push(quoted.as_bytes()[1..quoted.len() - 1].to_vec());
    if !value.is_ascii() {
        forms.push(json_escaped(value, |unit| format!("\\u{unit:04x}")));
        forms.push(json_escaped(value, |unit| format!("\\u{unit:04X}")));
        // `{:?}` of `Bytes`: b"\xea\xb9\x80"
        forms.push(bytes.escape_ascii().collect());
    }
    forms.sort();
    forms.dedup();
    forms
}

fn hex(bytes: &[u8], digits: &str) -> Vec<u8> {
    let digits = digits.as_bytes();
    bytes.iter().flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]).collect()
}

fn json_escaped(value: &str, escape: impl Fn(u16) -> String) -> Vec<u8> {
    let units = value.encode_utf16().map(|unit| match u8::try_from(unit) {
        Ok(quoted @ (b'"' | b'\\')) => format!("\\{}", char::from(quoted)),
        Ok(ascii @ 0x20..0x7F) => char::from(ascii).to_string(),
        _ => escape(unit),
    });
    units.collect::<String>().into_bytes()
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The base64 digits that depend on `bytes` alone when something of `offset` bytes (modulo 3) is encoded before them
/// and anything after: the digits at the two ends that share bits with neighbours are cut off.
fn base64_inside(bytes: &[u8], offset: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let bit = |index: usize| bytes[index / 8] >> (7 - index % 8) & 1;
    // A digit holds six bits; after `offset` bytes the next digit starts this many bits into our value.
    let skipped = (6 - offset * 8 % 6) % 6;
    let digits = (bytes.len() * 8 - skipped) / 6;
    (0..digits)
        .map(|digit| {
            let start = skipped + digit * 6;
            alphabet[usize::from((start..start + 6).fold(0, |value, index| value << 1 | bit(index)))]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "남궁뷁휼쟎";
    const PHONE: &str = "+82-10-1234-5678";

    #[test]
    fn every_form_of_a_value_is_found_wherever_it_stands() {
        let needles = Needles::new([NAME, PHONE]);
        let known_base64 = "eHgrODItMTAtMTIzNC01Njc4"; // xx+82-10-1234-5678
        for leak in [
            format!("name={NAME}"),
            r#"{"name":"\ub0a8\uad81\ubdc1\ud73c\uc7ce"}"#.to_owned(),
            r#"{"name":"\uB0A8\uAD81\uBDC1\uD73C\uC7CE"}"#.to_owned(),
            format!("body={:?}", format!("x{NAME}").as_bytes()),
            format!("body={:?}", bytes::Bytes::from(format!("x{NAME}"))),
            "2b38322d31302d313233342d35363738".to_owned(),
            "2B38322D31302D313233342D35363738".to_owned(),
            known_base64.to_owned(),
        ] {
            assert_eq!(needles.count(leak.as_bytes()), 1, "{leak}");
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
    fn base64_is_found_at_each_of_its_three_alignments() {
        let needles = Needles::new([NAME]);
        for before in 0..6 {
            let text = [vec![b'x'; before], NAME.as_bytes().to_vec(), b"yz".to_vec()].concat();
            let encoded = base64_inside(&text, 0, STANDARD);
            assert_eq!(needles.count(&encoded), 1, "after {before} bytes");
        }
    }

    #[test]
    fn what_is_not_planted_is_not_found() {
        let needles = Needles::new([NAME, PHONE, "short"]);
        let text = "남궁뷁휼 +82-10-1234-5679 short \u{0}\u{1} 남궁".repeat(100);
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
            let expected = Found { path: path.clone(), length: text.len() as u64, hits: 1 };
            assert_eq!(needles.search_file(&path).expect("readable"), expected);
        }
        let all = needles.search(dir.path()).expect("readable");
        assert_eq!((all.len(), all.iter().map(|found| found.hits).sum::<u64>()), (5, 5));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_not_a_zero() {
        assert!(Needles::new([NAME]).search(Path::new("/nowhere/at/all")).is_err());
    }
}
