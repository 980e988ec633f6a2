//! Checks that every importer makes before it reads a record of a file: the catalogue as CSV and as
//! JSON Lines, and stock.
//!
//! The whole file is checked first. A file that is not UTF-8 text, or that may be cut, is refused
//! as a whole: its readable records may not be what its owner meant. Only then is each record
//! checked, and refused by line and field.

/// Recognises files that are not text.
mod kinds;

/// Reads CSV: rows below a header.
pub(crate) mod table;

/// Reads JSON without repeated members.
pub(crate) mod strict_json;

/// Divides a file into parts, and sets rows apart that wait for another session.
pub mod parts;

use std::fmt;

use self::kinds::Kind;

/// Largest file that is read into memory, in bytes. A larger one must be split.
pub const FILE_BYTES_MAX: u64 = 1 << 30;

/// Longest record, in bytes: several times the limit of a product's columns.
pub(crate) const RECORD_BYTES_MAX: usize = 4 << 20;

/// A file's bytes, and its owner's word on whether they are complete.
#[derive(Debug, Clone, Copy)]
pub struct GivenFile<'a> {
    bytes: &'a [u8],
    is_whole: bool,
}

impl<'a> GivenFile<'a> {
    /// Makes a file whose bytes must show that they are complete: the last line must have a line
    /// end.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, is_whole: false }
    }

    /// Makes a file whose owner says that it is complete. The last line may lack its line end (RFC
    /// 4180 section 2, rule 2).
    pub fn whole(bytes: &'a [u8]) -> Self {
        Self { bytes, is_whole: true }
    }

    /// Returns the text without a byte order mark, or the reason to refuse the whole file. `closes`
    /// returns true if a last line is complete without its line end, as a JSON object is and a CSV
    /// row is not.
    pub(crate) fn text(self, closes: impl Fn(&str) -> bool) -> Result<&'a str, Refusal> {
        let refuse = |line, reason: String| Refusal { line, field: String::new(), reason };
        if let Some(kind) = Kind::of(self.bytes) {
            return Err(refuse(1, kind.to_string()));
        }
        let bytes = self.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(self.bytes);
        if bytes.trim_ascii().is_empty() {
            return Err(refuse(1, "the file is empty".to_owned()));
        }
        if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
            let reason = "holds a NUL byte, which no text does: the file is damaged, or of another kind";
            return Err(refuse(line_at(bytes, at), reason.to_owned()));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = line_at(bytes, error.valid_up_to());
            refuse(line, format!("is not UTF-8, and nothing of the file is imported: {CONVERT}"))
        })?;
        let last = text.rsplit(['\n', '\r']).next().unwrap_or_default();
        if !self.is_whole && !last.is_empty() && !closes(last) {
            let reason = "has no line's end, and nothing of the file is imported: the file may be cut here. If it is \
                whole, say so with --whole, or end its last line";
            return Err(refuse(line_at(bytes, bytes.len()), reason.to_owned()));
        }
        Ok(text)
    }
}

const CONVERT: &str = "save it as UTF-8, or convert it from what it is, such as Korean Windows' encoding: \
    iconv -f CP949 -t UTF-8 FILE > FILE.utf8";

impl<'a> From<&'a [u8]> for GivenFile<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::new(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for GivenFile<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

/// A record that is not imported, or that is imported and looks like a mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Line of the file, from 1.
    pub line: u64,
    /// Column or member; empty for the whole line.
    pub field: String,
    /// The mistake, and what would be right. It never repeats the file's content.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.field.is_empty() { "" } else { ": " };
        write!(f, "line {}: {}{colon}{}", self.line, self.field, self.reason)
    }
}

/// Returns the lines with their numbers, as an editor shows them. A line ends with LF, CRLF, or CR
/// alone.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (u64, &str)> {
    let mut rest = Some(text);
    let lines = std::iter::from_fn(move || {
        let text = rest.filter(|text| !text.is_empty())?;
        let end = text.find(['\n', '\r']);
        let line = text.get(..end.unwrap_or(text.len()))?;
        rest = end.and_then(|end| text.get(end..)).map(|behind| {
            behind.strip_prefix("\r\n").or_else(|| behind.strip_prefix(['\n', '\r'])).unwrap_or(behind)
        });
        Some(line)
    });
    (1..).zip(lines)
}

/// Counts the line ends in these bytes. CRLF counts as one.
pub(crate) fn ends_in(bytes: &[u8]) -> u64 {
    let after = bytes.iter().skip(1).map(Some).chain([None]);
    let ends = bytes.iter().zip(after).filter(|(byte, after)| match byte {
        b'\n' => true,
        b'\r' => *after != Some(&b'\n'),
        _ => false,
    });
    ends.count() as u64
}

/// Returns the line of a byte.
fn line_at(bytes: &[u8], at: usize) -> u64 {
    // Both bytes of a CRLF belong to the line that they end.
    let before = bytes.get(..at).unwrap_or(bytes);
    let before = match (before.last(), bytes.get(at)) {
        (Some(b'\r'), Some(b'\n')) => before.get(..before.len() - 1).unwrap_or(before),
        _ => before,
    };
    1 + ends_in(before)
}

/// Returns signs of damaged text that a parser accepts, each at the first line that has it.
pub(crate) fn suspicions(text: &str) -> Vec<Refusal> {
    let first =
        |is_meant: fn(&str) -> bool| lines(text).find(|(_, line)| is_meant(line)).map(|(line, _)| line);
    let lost = first(|line| line.contains('\u{fffd}'));
    let asked =
        first(|line| values(line).any(|value| value.len() > 1 && value.bytes().all(|byte| byte == b'?')));
    let twice = first(is_encoded_twice);
    let misread = first(|line| !line.is_ascii()).filter(|_| is_misread_korean(text));
    let warn = |line: Option<u64>, reason: &str| {
        line.map(|line| Refusal { line, field: String::new(), reason: reason.to_owned() })
    };
    [
        warn(lost, "holds U+FFFD, which stands for a character that an earlier conversion lost"),
        warn(asked, "has a value of question marks alone, which is what some conversions make of characters that they lose"),
        warn(twice, "holds text that was taken for Windows-1252 although it was UTF-8 or CP949, and was converted once too often"),
        warn(
            misread,
            "looks like Korean in CP949 that happens to be UTF-8 as well: if it is, convert the file \
             (iconv -f CP949 -t UTF-8 FILE > FILE.utf8) and import it again",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Smallest factor of a price change that gets a warning. Such a change is more likely a wrong
/// unit, pence for pounds, than intended.
const LEAP: i64 = 50;

/// Returns the warning for a price that changes too much.
pub(crate) fn leap(before: i64, after: i64) -> Option<String> {
    let is_times = |small: i64, large: i64| small > 0 && large / LEAP >= small;
    if is_times(before, after) {
        Some(format!(
            "is {} times what it was: is it in the currency's own unit, as in 19.50?",
            after / before
        ))
    } else if is_times(after, before) {
        Some(format!(
            "was {} times what it is now: is it in the currency's own unit, as in 19.50?",
            before / after
        ))
    } else {
        (before >= LEAP && after == 0).then(|| "is zero now".to_owned())
    }
}

/// True if every letter beyond ASCII could be a pair of bytes of Hangul in CP949, and these letters
/// form words alone. Words of Western languages mix them with ASCII letters.
fn is_misread_korean(text: &str) -> bool {
    let is_pair = |c: char| {
        let mut bytes = [0; 4];
        matches!(c.encode_utf8(&mut bytes).as_bytes(), [0xc2..=0xc8, 0xa1..=0xbf])
    };
    let mut found = false;
    for run in text.split(|c: char| c.is_ascii() && !c.is_ascii_alphabetic()) {
        if run.is_ascii() {
            continue;
        }
        let is_misread =
            run.chars().count() > 1 && run.chars().all(is_pair) && run.chars().any(|c| c > '\u{ff}');
        if !is_misread {
            return false;
        }
        found = true;
    }
    found
}

/// Returns the values between the delimiters of CSV and JSON.
fn values(line: &str) -> impl Iterator<Item = &str> {
    line.split([',', ':', '"', '{', '}', '[', ']']).map(str::trim).filter(|value| !value.is_empty())
}

/// True if letters beyond ASCII that stand together are the Windows-1252 reading of bytes of UTF-8,
/// or of Hangul in CP949: `ì„¸` for 세, `¼¼ÀÛ` for 세작. Words of Western languages do not look like
/// this.
fn is_encoded_twice(line: &str) -> bool {
    line.split(|c: char| c.is_ascii()).filter(|run| !run.is_empty()).any(|run| {
        let Some(bytes) = run.chars().map(windows_1252).collect::<Option<Vec<u8>>>() else { return false };
        let is_hangul = |pair: &[u8]| matches!(pair, [0xb0..=0xc8, 0xa1..=0xfe]);
        std::str::from_utf8(&bytes).is_ok()
            || (bytes.len() >= 4 && bytes.len() % 2 == 0 && bytes.chunks(2).all(is_hangul))
    })
}

/// Returns the byte of Windows-1252 for a character beyond ASCII.
fn windows_1252(c: char) -> Option<u8> {
    const FROM_80: &str = "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ";
    let place = FROM_80.chars().position(|known| known == c).and_then(|place| u8::try_from(place).ok());
    let latin_1 = || u8::try_from(u32::from(c)).ok().filter(|byte| *byte >= 0xa0);
    place.map(|place| 0x80 + place).or_else(latin_1)
}

/// True if a spreadsheet changed this code: it took the code for a number or a date, could not
/// compute it, or found its column too narrow. Examples: `8.80123E+12`, `1-Mar`, `#N/A`, `####`.
pub(crate) fn is_spreadsheet_s(code: &str) -> bool {
    const ERRORS: [&str; 7] = ["#N/A", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!"];
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_scientific = code.split_once(['E', 'e']).is_some_and(|(mantissa, exponent)| {
        let (whole, decimals) = mantissa.split_once(['.', ',']).unwrap_or((mantissa, "0"));
        exponent.strip_prefix(['+', '-']).is_some_and(is_number) && is_number(whole) && is_number(decimals)
    });
    let is_too_wide = code.len() > 1 && code.bytes().all(|byte| byte == b'#');
    is_scientific || is_too_wide || is_day(code) || ERRORS.contains(&code)
}

/// True if this is a date as a spreadsheet writes it: `1-Mar`, `Mar-01`, `01-Mar-26`, `2026-03-01`,
/// `3/1/2026`.
fn is_day(code: &str) -> bool {
    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let is_number = |part: &str, digits: &[usize]| {
        digits.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_month = |part: &str| MONTHS.contains(&part.to_ascii_lowercase().as_str());
    let parts: Vec<&str> = code.split(['-', '/']).collect();
    match parts.as_slice() {
        [day, month] if is_month(month) => is_number(day, &[1, 2]),
        [month, year] if is_month(month) => is_number(year, &[2, 4]),
        [day, month, year] if is_month(month) => is_number(day, &[1, 2]) && is_number(year, &[2, 4]),
        [year, month, day] if year.len() == 4 => {
            is_number(year, &[4])
                && is_number(month, &[2])
                && is_number(day, &[2])
                && (*month <= "12" && *day <= "31")
        }
        [a, b, year] if code.contains('/') => {
            is_number(a, &[1, 2]) && is_number(b, &[1, 2]) && is_number(year, &[2, 4])
        }
        _ => false,
    }
}

/// The warning for a code that a spreadsheet changed.
pub(crate) const SPREADSHEET_S: &str = "is what a spreadsheet makes of a long number, of a code that looks like a day, or of a mistake: format its column as text and export the file again";

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> (u64, String) {
        let refusal = GivenFile::new(bytes).text(|_| false).unwrap_err();
        (refusal.line, refusal.reason)
    }

    #[test]
    fn another_encoding_refuses_the_file_and_says_how_to_convert_it() {
        let (line, reason) = refused(b"a\nb\n\xbc\xbc\xc0\xdb\nc\xff\n");
        assert_eq!(line, 3);
        assert!(reason.contains("is not UTF-8") && reason.contains("iconv -f CP949 -t UTF-8"), "{reason}");
    }

    #[test]
    fn what_is_no_text_is_called_what_it_is() {
        let utf_16: Vec<u8> = "a,b\n1,2\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = "a,b\n1,2\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
        for (bytes, name) in [
            (&b"\x1f\x8b\x08\0\0"[..], "gzip"),
            (b"PK\x03\x04\x14\0", "spreadsheet"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "spreadsheet"),
            (b"\xff\xfea\0,\0", "UTF-16"),
            (b"\xfe\xff\0a\0,", "UTF-16"),
            (&utf_16, "UTF-16"),
            (&big, "UTF-16"),
            (b"\xff\xfe\0\0a\0\0\0", "UTF-32"),
            (b"%PDF-1.7\n", "PDF"),
            (b"<!DOCTYPE html><table>\n", "HTML"),
            (b"a,b\n1,\0\n", "NUL"),
            (b"", "empty"),
            (b"\xef\xbb\xbf\r\n \n", "empty"),
        ] {
            let (_, reason) = refused(bytes);
            assert!(reason.contains(name), "{name}: {reason}");
        }
        assert_eq!(refused(b"a,b\r\n1,\0\r\n").0, 2);
    }

    #[test]
    fn an_unterminated_last_line_is_accepted_only_in_a_file_declared_whole() {
        let bytes = b"\xef\xbb\xbfsku,quantity\r\nA,4";
        let (line, reason) = refused(bytes);
        assert_eq!(line, 2);
        assert!(reason.contains("may be cut") && reason.contains("--whole"), "{reason}");
        assert_eq!(GivenFile::whole(bytes).text(|_| false).unwrap(), "sku,quantity\r\nA,4");
        for ended in [&b"a\n"[..], b"a\r\n", b"a\r"] {
            assert!(GivenFile::new(ended).text(|_| false).is_ok());
        }
        assert!(GivenFile::new(b"{}\n{}").text(|last| last == "{}").is_ok(), "an object closes");
    }

    #[test]
    fn lines_end_with_any_of_three_ends() {
        let text = "a\rb\r\nc\n\r\n\re";
        let found: Vec<(u64, &str)> = lines(text).collect();
        assert_eq!(found, [(1, "a"), (2, "b"), (3, "c"), (4, ""), (5, ""), (6, "e")]);
        assert_eq!(ends_in(text.as_bytes()), 5);
        assert_eq!([0, 2, 3, 4, 5].map(|at| line_at(text.as_bytes(), at)), [1, 2, 2, 2, 3]);
    }

    #[test]
    fn korean_misread_as_utf8_is_suspicious_and_other_languages_are_not() {
        let misread = format!("a,b\nK2,{}\n", std::str::from_utf8(b"\xc4\xbf\xc6\xb0").unwrap());
        assert_eq!(suspicions(&misread)[0].line, 2);
        assert_eq!(suspicions("a,b\nA,caf\u{fffd}\n")[0].line, 2);
        for damaged in ["A,ì„¸ìž‘\n", "A,Ã©tÃ©\n", "A,¼¼ÀÛ\n", "A,??\n", r#"{"names": {"ko": "???"}}"#]
        {
            assert_eq!(suspicions(&format!("a,b\n{damaged}"))[0].line, 2, "{damaged}");
        }
        for text in [
            "A,세작\n",
            "A,Café Zürich\n",
            "A,Łódź żółć\n",
            "A,plain\n",
            "é,à\n",
            "A,ÄÖ\n",
            "A,why?\n",
            "A,?\n",
            "A,£5 – “Ñandú”\n",
            "A,naïveté À LA CARTE °C ½\n",
        ] {
            assert_eq!(suspicions(text), [], "{text}");
        }
    }

    #[test]
    fn a_price_in_another_unit_leaps_and_a_sale_does_not() {
        for (before, after) in [(3, 300), (300, 3), (1_950, 195_000), (300, 0), (1, i64::MAX)] {
            assert!(leap(before, after).is_some(), "{before} to {after}");
        }
        for (before, after) in [(300, 300), (300, 150), (1_000, 30), (0, 300), (0, 0), (1, 0)] {
            assert_eq!(leap(before, after), None, "{before} to {after}");
        }
    }

    #[test]
    fn a_code_that_a_spreadsheet_ruined_is_known() {
        for code in [
            "8.80123E+12",
            "1E+05",
            "8,80123E+12",
            "1.5e-7",
            "#N/A",
            "####",
            "1-Mar",
            "Mar-01",
            "01-mar-26",
            "2026-03-01",
            "3/1/2026",
        ] {
            assert!(is_spreadsheet_s(code), "{code}");
        }
        for code in [
            "SE-1",
            "E+1",
            "1E5",
            "12E",
            "DV1748-601",
            "3E+X",
            "8801234567890",
            "#1",
            "1-MARS",
            "MAR-A",
            "2026-13-01",
            "12-34-56",
            "A-1/2",
            "10/2",
        ] {
            assert!(!is_spreadsheet_s(code), "{code}");
        }
    }
}
