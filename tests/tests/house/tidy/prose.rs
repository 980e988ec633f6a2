//! Rules about comments: their width, and the first word of documentation.

use super::{is_rust, lines, within};

/// Folders whose comments must keep the rules.
const FOLDERS: &[&str] = &["bridge-cloud/", "bridge-idc/", "certs/", "shared/", "tests/"];

const COLUMNS_MAX: usize = 100;

/// Question words. A description that opens with one reads as a question, and its reader has to
/// find the answer.
const QUESTION_WORDS: &str =
    "how that until what whatever when where whether which whichever who whoever whom whose why";

/// Returns true if the comments of a file keep the rules.
pub(super) fn is_held(path: &str) -> bool {
    is_rust(path) && within(path, FOLDERS)
}

/// Returns the lines with a comment that ends behind the last column.
pub(super) fn wide_comments(text: &str) -> Vec<usize> {
    lines(text, |line| line.chars().count() > COLUMNS_MAX && has_comment(line))
}

/// Returns the lines on which documentation or a heading in it opens with a question word.
pub(super) fn opening_questions(text: &str) -> Vec<usize> {
    let mut was_documentation = false;
    lines(text, |line| {
        let words = documentation(line);
        let opens = !was_documentation || words.is_some_and(|words| words.starts_with('#'));
        was_documentation = words.is_some();
        opens && words.is_some_and(|words| QUESTION_WORDS.split(' ').any(|word| word == first_word(words)))
    })
}

fn first_word(words: &str) -> String {
    let text = words.trim_start_matches(|c: char| !c.is_alphabetic());
    text.chars().take_while(|c| c.is_alphabetic()).flat_map(char::to_lowercase).collect()
}

/// Returns true if a comment is alone on the line or behind code. A text in quotation marks may
/// contain two slashes.
fn has_comment(line: &str) -> bool {
    let unquoted: String = line.split('"').step_by(2).collect();
    line.trim_start().starts_with("//") || unquoted.contains(" // ")
}

/// Returns the text of a line of documentation.
fn documentation(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let text = line.strip_prefix("//!").or_else(|| line.strip_prefix("///"))?;
    Some(text.trim_start())
}
