//! Rows below a header in CSV (RFC 4180), for every importer.

use csv::StringRecord;

use super::{RECORD_BYTES_MAX, Refusal, ends_in};

/// A header, and the reader of the rows below it.
pub(crate) struct Table<'a> {
    /// The names of the columns, without spaces around them.
    pub(crate) header: StringRecord,
    reader: csv::Reader<&'a [u8]>,
    lines: Lines<'a>,
}

/// A row of the right form.
pub(crate) struct Row {
    /// The line on which the row begins.
    pub(crate) line: u64,
    /// The fields, without spaces around them. There are as many as in the header.
    pub(crate) fields: StringRecord,
}

impl<'a> Table<'a> {
    /// Reads the header of a whole text.
    pub(crate) fn of(text: &'a str) -> Result<Self, Refusal> {
        let mut reader =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
        let mut lines = Lines { bytes: text.as_bytes(), at: 0, line: 1 };
        let mut header = StringRecord::new();
        let read = reader.read_record(&mut header);
        let (line, written) = lines.of(0, reader.position().byte());
        let refuse = |reason: String| Refusal { line, field: String::new(), reason };
        read.map_err(|error| refuse(unreadable(&error)))?;
        header.trim();
        if let Some(reason) = other_form(&header) {
            return Err(refuse(reason));
        }
        if quotes(written) != Quotes::Fine {
            return Err(refuse("the header's quotes do not close".to_owned()));
        }
        Ok(Self { header, reader, lines })
    }

    /// Reads every row. `take` gets the rows of the right form, and `refuse` the mistakes of the
    /// others. Rows without a value are skipped. Fails if rows can no longer be told apart; then
    /// nothing of the file may be used.
    pub(crate) fn read(
        mut self,
        mut take: impl FnMut(Row),
        mut refuse: impl FnMut(u64, String),
    ) -> Result<(), Refusal> {
        let mut record = StringRecord::new();
        loop {
            let begins = self.reader.position().byte();
            let read = self.reader.read_record(&mut record);
            let (line, written) = self.lines.of(begins, self.reader.position().byte());
            match read {
                Ok(false) => return Ok(()),
                Ok(true) => {}
                Err(error) => {
                    return Err(Refusal { line, field: String::new(), reason: unreadable(&error) });
                }
            }
            record.trim();
            let quotes = quotes(written);
            if quotes == Quotes::Open {
                let reason = "opens a quote that nothing closes, so that the rest of the file is inside it: nothing of \
                    the file is imported";
                return Err(Refusal { line, field: String::new(), reason: reason.to_owned() });
            }
            if record.iter().all(str::is_empty) {
                continue;
            }
            match self.wrong(&record, written, quotes) {
                Some(reason) => refuse(line, reason),
                None => take(Row { line, fields: record.clone() }),
            }
        }
    }

    /// Returns the mistake in a row's form.
    fn wrong(&self, record: &StringRecord, written: &[u8], quotes: Quotes) -> Option<String> {
        let inside = ends_in(written.trim_ascii_end());
        if quotes == Quotes::TextBehind {
            let over = if inside > 0 {
                format!(", and {inside} more lines are taken for a part of this one")
            } else {
                String::new()
            };
            return Some(format!(
                "has text behind a closing quote: a quote within quotes is written twice{over}"
            ));
        }
        if written.len() > RECORD_BYTES_MAX {
            return Some(format!("must be {RECORD_BYTES_MAX} bytes at most"));
        }
        let without_mark = record.iter().map(|field| field.trim_start_matches('\u{feff}').trim_matches('"'));
        if without_mark.eq(self.header.iter()) {
            return Some("is the header again: the file seems to be several put together".to_owned());
        }
        let (found, wanted) = (record.len(), self.header.len());
        (found != wanted).then(|| format!("has {found} fields instead of {wanted}"))
    }
}

/// Returns the reason to refuse a header that is not a CSV header with commas.
fn other_form(header: &StringRecord) -> Option<String> {
    let first = header.get(0).unwrap_or_default();
    if first.starts_with(['{', '[']) {
        return Some(
            "is JSON and no header: the name of a CSV file ends in .csv, every other one is JSON Lines"
                .into(),
        );
    }
    if first.to_ascii_lowercase().starts_with("sep=") {
        return Some("must be the header: leave the line sep= out, and commas between the columns".into());
    }
    let columns = |separator| first.split(separator).count() > 1;
    let name = match header.len() {
        1 if columns(';') => "semicolons",
        1 if columns('\t') => "tabs",
        1 if columns('|') => "vertical bars",
        _ => return None,
    };
    Some(format!("has {name} between its columns: they must be commas, as in CSV (RFC 4180)"))
}

/// Returns the reason why a row cannot be read, without any part of the row.
fn unreadable(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8".to_owned(),
        _ => "cannot be read as CSV".to_owned(),
    }
}

/// Counts lines. The reader's own count is wrong for empty lines before a row and between CR and
/// LF.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    /// Returns the line on which a row begins, and the row's bytes. `begins` and `ends` are the
    /// reader's positions before and after the row.
    fn of(&mut self, begins: u64, ends: u64) -> (u64, &'a [u8]) {
        let [begins, ends] = [begins, ends].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
        let read = self.bytes.get(begins..ends).unwrap_or_default();
        let empty = read.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let (from, to) = (self.at, (begins + empty).min(self.bytes.len()));
        self.line += ends_in(self.bytes.get(from..to).unwrap_or_default());
        self.at = to;
        (self.line, read.get(empty..).unwrap_or_default())
    }
}

/// The state of a row's quotes (RFC 4180 section 2). A quote in the middle of an unquoted field is
/// an ordinary character.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Fine,
    /// A quote is not closed.
    Open,
    /// Text follows a closing quote.
    TextBehind,
}

fn quotes(row: &[u8]) -> Quotes {
    let (mut is_quoted, mut is_start, mut was_quote) = (false, true, false);
    for byte in row {
        if is_quoted {
            (is_quoted, was_quote) = (*byte != b'"', *byte == b'"');
        } else if *byte == b'"' && (is_start || was_quote) {
            (is_quoted, is_start, was_quote) = (true, false, false);
        } else {
            is_start = matches!(byte, b',' | b'\n' | b'\r');
            if was_quote && !is_start {
                return Quotes::TextBehind;
            }
            was_quote = false;
        }
    }
    if is_quoted { Quotes::Open } else { Quotes::Fine }
}

#[cfg(test)]
mod tests {
    use super::*;

    type RowsAndRefusals = (Vec<(u64, String)>, Vec<(u64, String)>);

    /// Returns the first fields of the rows, and the refusals.
    fn read(text: &str) -> Result<RowsAndRefusals, Refusal> {
        let (mut rows, mut refused) = (Vec::new(), Vec::new());
        Table::of(text)?.read(
            |row| rows.push((row.line, row.fields[0].to_owned())),
            |line, reason| refused.push((line, reason)),
        )?;
        Ok((rows, refused))
    }

    fn lines(text: &str) -> (Vec<u64>, Vec<u64>) {
        let (rows, refused) = read(text).unwrap();
        (rows.iter().map(|row| row.0).collect(), refused.iter().map(|one| one.0).collect())
    }

    #[test]
    fn a_line_is_the_one_that_an_editor_shows_whatever_ends_it() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["a,b", "1,2", "", "1", "\"two", "lines\",2", "1,2", "1,2,3", ""].join(end);
            assert_eq!(lines(&text), (vec![2, 5, 7], vec![4, 8]), "{end:?}");
        }
    }

    #[test]
    fn rows_without_a_value_are_skipped() {
        let text = "a,b,c\n1,2,3\n,,\n , ,\u{a0}\n   \n,,,,,\n\"\",,\n4,5,6\n,,\n";
        assert_eq!(lines(text), (vec![2, 8], vec![]));
    }

    #[test]
    fn an_unclosed_quote_refuses_the_file_and_an_extra_one_its_row() {
        let refusal = read("a,b\n1,2\n3,\"4\n5,6\n").unwrap_err();
        assert_eq!(refusal.line, 3);
        let (rows, refused) = read("a,b\n1,\"x\n2,3\n4,\"y\n5,6\n").unwrap();
        assert_eq!((rows.len(), refused.len()), (1, 1));
        assert!(refused[0].1.contains("2 more lines"), "{}", refused[0].1);
    }

    #[test]
    fn what_is_no_table_between_commas_is_called_what_it_is() {
        for (text, name) in [
            ("a;b;c\n1;2;3\n", "semicolons"),
            ("a\tb\n1\t2\n", "tabs"),
            ("sep=;\na;b\n", "sep="),
            ("{\"brand\": \"tea\"}\n", "JSON"),
            ("[\n", "JSON"),
        ] {
            let refusal = read(text).unwrap_err();
            assert!(refusal.line == 1 && refusal.reason.contains(name), "{refusal}");
        }
    }

    #[test]
    fn a_header_in_the_middle_is_named_even_with_a_bom() {
        let (rows, refused) = read("a,b\n1,2\na,b\n\u{feff}\"a\",b\n3,4\n").unwrap();
        assert_eq!(rows.len(), 2);
        assert!(
            refused.len() == 2 && refused.iter().all(|one| one.1.contains("header again")),
            "{refused:?}"
        );
    }

    #[test]
    fn a_row_longer_than_any_product_is_refused_alone() {
        let text = format!("a,b\n1,{}\n3,4\n", "x".repeat(RECORD_BYTES_MAX));
        assert_eq!(lines(&text), (vec![3], vec![2]));
    }
}
