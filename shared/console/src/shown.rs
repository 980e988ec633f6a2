//! Shows foreign text safely on an operator's terminal.
//!
//! A terminal obeys escape sequences. Such a sequence in a shopper's name could hide a line and
//! draw another one over it. This module writes control characters in escaped form, such as
//! `\u{1b}`. Output for programs (`--json`) does not need it.

use std::fmt::{self, Write};

/// Displays a text with every character escaped that a terminal obeys or that deceives a reader.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    text: &'a str,
    keeps_lines: bool,
}

/// Shows one value. Line ends are escaped too, so that a value cannot start a line of its own.
pub fn shown(text: &str) -> Shown<'_> {
    Shown { text, keeps_lines: false }
}

/// Shows a message of this program that has several lines and may contain foreign values.
pub fn shown_lines(text: &str) -> Shown<'_> {
    Shown { text, keeps_lines: true }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.chars().try_for_each(|c| match c {
            '\n' if self.keeps_lines => f.write_char(c),
            c if is_acted_upon(c) => write!(f, "{}", c.escape_unicode()),
            c => f.write_char(c),
        })
    }
}

/// Returns true for a character that a terminal obeys instead of drawing it, that changes the order
/// of the text, or that is invisible.
fn is_acted_upon(c: char) -> bool {
    // C0, DEL and C1. In C1, 0x9b begins a sequence just as ESC [ does.
    c.is_control()
        || matches!(
            c,
            // Direction of writing: marks, embeddings, overrides and isolates (UAX #9).
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Line and paragraph separators.
            | '\u{2028}' | '\u{2029}'
            // Invisible characters: with them, two different texts look alike. Joiners and
            // variation selectors stay, because some scripts need them.
            | '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let name = "Kim\u{1b}[2K\rdelivery_name: Lee";
        assert_eq!(shown(name).to_string(), r"Kim\u{1b}[2K\u{d}delivery_name: Lee");
        for c in ['\0', '\u{7}', '\u{8}', '\t', '\n', '\u{7f}', '\u{85}', '\u{9b}', '\u{202e}', '\u{2066}'] {
            let text = format!("a{c}b");
            assert_eq!(shown(&text).to_string(), format!("a{}b", c.escape_unicode()));
        }
        for c in
            ['\u{ad}', '\u{34f}', '\u{1160}', '\u{180e}', '\u{2800}', '\u{3164}', '\u{ffa0}', '\u{1d173}']
        {
            assert!(!shown(&c.to_string()).to_string().contains(c), "{}", c.escape_unicode());
        }
        for c in ['\u{61c}', '\u{200b}', '\u{200f}', '\u{2028}', '\u{2060}', '\u{feff}', '\u{e0041}'] {
            assert!(!shown(&c.to_string()).to_string().contains(c), "{}", c.escape_unicode());
        }
    }

    #[test]
    fn people_s_names_are_shown_as_they_are_written() {
        for name in
            ["김서연", "Zoë O'Neill \\ \"Jr\"", "नेहा", "👩\u{200d}🚒", "אבי", "ひらが な", "葛\u{e0100}城"]
        {
            assert_eq!(shown(name).to_string(), name);
        }
    }

    #[test]
    fn a_message_keeps_its_own_lines_and_nothing_else() {
        assert_eq!(shown_lines("a\n  b\r\u{1b}").to_string(), "a\n  b\\u{d}\\u{1b}");
    }
}
