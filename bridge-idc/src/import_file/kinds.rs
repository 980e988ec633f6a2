//! Recognises files that are not UTF-8 text by their first bytes: users rename spreadsheets and
//! archives to `.csv`.

use std::fmt;

/// Bytes that are checked for UTF-16 without a byte order mark.
const LOOKED_AT: usize = 512;

/// A kind of file that cannot be imported directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Compressed(&'static str),
    Spreadsheet,
    Utf16,
    Utf32,
    Pdf,
    Html,
}

impl Kind {
    /// Returns the kind of a file. `None` if it may be text.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        const BEGINNINGS: [(&[u8], Kind); 12] = [
            (b"\x1f\x8b", Kind::Compressed("gzip -d")),
            (b"\x28\xb5\x2f\xfd", Kind::Compressed("zstd -d")),
            (b"BZh", Kind::Compressed("bzip2 -d")),
            (b"\xfd7zXZ", Kind::Compressed("xz -d")),
            (b"PK\x03\x04", Kind::Spreadsheet),
            (b"\xd0\xcf\x11\xe0", Kind::Spreadsheet),
            (b"\xff\xfe\0\0", Kind::Utf32),
            (b"\0\0\xfe\xff", Kind::Utf32),
            (b"\xff\xfe", Kind::Utf16),
            (b"\xfe\xff", Kind::Utf16),
            (b"%PDF", Kind::Pdf),
            (b"<", Kind::Html),
        ];
        let known = BEGINNINGS.iter().find(|(beginning, _)| bytes.starts_with(beginning));
        known.map(|(_, kind)| *kind).or_else(|| is_utf_16(bytes).then_some(Self::Utf16))
    }
}

/// True if every second byte is mostly zero, as in UTF-16 of mostly Latin text.
fn is_utf_16(bytes: &[u8]) -> bool {
    let looked_at = bytes.get(..LOOKED_AT).unwrap_or(bytes);
    let nuls = |from: usize| looked_at.iter().skip(from).step_by(2).filter(|byte| **byte == 0).count();
    let (even, odd) = (nuls(0), nuls(1));
    looked_at.len() >= 4 && even.max(odd) * 4 > looked_at.len() && even.min(odd) * 8 < looked_at.len()
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compressed(by) => write!(f, "the file is compressed: give what `{by}` makes of it"),
            Self::Spreadsheet => f.write_str(
                "the file is a spreadsheet or an archive (XLSX, ODS, XLS, ZIP): export it as CSV in UTF-8",
            ),
            Self::Utf16 => f.write_str(
                "the file is UTF-16: save it as UTF-8, or iconv -f UTF-16 -t UTF-8 FILE > FILE.utf8 (UTF-16LE or \
                 UTF-16BE where it has no byte order mark)",
            ),
            Self::Utf32 => f.write_str("the file is UTF-32: iconv -f UTF-32 -t UTF-8 FILE > FILE.utf8"),
            Self::Pdf => f.write_str("the file is a PDF"),
            Self::Html => f.write_str("the file is HTML or XML: some programs call that a spreadsheet; export CSV"),
        }
    }
}
