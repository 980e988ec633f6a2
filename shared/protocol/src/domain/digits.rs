//! Values of the decimal digits of every script.
//!
//! By Unicode 17: general category Nd, and other characters with a digit value, such as circled and
//! raised digits and digits with a full stop.

/// Zeros of all scripts whose ten digits have consecutive code points.
#[rustfmt::skip]
const ZEROS: [char; 78] = [
    '\u{30}', '\u{660}', '\u{6f0}', '\u{7c0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}',
    '\u{b66}', '\u{be6}', '\u{c66}', '\u{ce6}', '\u{d66}', '\u{de6}', '\u{e50}', '\u{ed0}',
    '\u{f20}', '\u{1040}', '\u{1090}', '\u{17e0}', '\u{1810}', '\u{1946}', '\u{19d0}', '\u{1a80}',
    '\u{1a90}', '\u{1b50}', '\u{1bb0}', '\u{1c40}', '\u{1c50}', '\u{2080}', '\u{a620}', '\u{a8d0}',
    '\u{a900}', '\u{a9d0}', '\u{a9f0}', '\u{aa50}', '\u{abf0}', '\u{ff10}', '\u{104a0}', '\u{10d30}',
    '\u{10d40}', '\u{11066}', '\u{110f0}', '\u{11136}', '\u{111d0}', '\u{112f0}', '\u{11450}', '\u{114d0}',
    '\u{11650}', '\u{116c0}', '\u{116d0}', '\u{116da}', '\u{11730}', '\u{118e0}', '\u{11950}', '\u{11bf0}',
    '\u{11c50}', '\u{11d50}', '\u{11da0}', '\u{11de0}', '\u{11f50}', '\u{16a60}', '\u{16ac0}', '\u{16b50}',
    '\u{16d70}', '\u{1ccf0}', '\u{1d7ce}', '\u{1d7d8}', '\u{1d7e2}', '\u{1d7ec}', '\u{1d7f6}', '\u{1e140}',
    '\u{1e2f0}', '\u{1e4f0}', '\u{1e5f1}', '\u{1e950}', '\u{1f101}', '\u{1fbf0}',
];

/// Other rows of digits: first character, its value, number of digits.
#[rustfmt::skip]
const ROWS: [(char, u8, u32); 19] = [
    ('\u{b2}', 2, 2), ('\u{b9}', 1, 1), ('\u{1369}', 1, 9), ('\u{19da}', 1, 1),
    ('\u{2070}', 0, 1), ('\u{2074}', 4, 6), ('\u{2460}', 1, 9), ('\u{2474}', 1, 9),
    ('\u{2488}', 1, 9), ('\u{24ea}', 0, 1), ('\u{24f5}', 1, 9), ('\u{24ff}', 0, 1),
    ('\u{2776}', 1, 9), ('\u{2780}', 1, 9), ('\u{278a}', 1, 9), ('\u{10a40}', 1, 4),
    ('\u{10e60}', 1, 9), ('\u{11052}', 1, 9), ('\u{1f100}', 0, 1),
];

/// Returns the value of a digit of any script.
pub(super) fn digit(char: char) -> Option<u8> {
    if char.is_ascii() {
        return char.is_ascii_digit().then(|| char as u8 - b'0');
    }
    let begin = ZEROS.partition_point(|zero| *zero <= char).checked_sub(1)?;
    let value = ZEROS.get(begin).and_then(|zero| u32::from(char).checked_sub(u32::from(*zero)));
    let of_row = || {
        ROWS.iter().find_map(|(first, value, count)| {
            let place = u32::from(char).checked_sub(u32::from(*first)).filter(|place| place < count)?;
            u8::try_from(place).ok().map(|place| value + place)
        })
    };
    value.filter(|value| *value < 10).and_then(|value| u8::try_from(value).ok()).or_else(of_row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digit_of_any_script_has_its_value() {
        assert!(ZEROS.is_sorted() && ROWS.is_sorted());
        for (chars, value) in [
            ("7\u{667}\u{6f7}\u{96d}\u{e57}\u{ff17}\u{1d7d5}\u{1d7fd}\u{2077}\u{2087}", 7),
            ("0\u{660}\u{2070}\u{24ea}\u{24ff}\u{2080}\u{1f101}\u{1f100}", 0),
            ("1\u{b9}\u{2460}\u{2474}\u{2488}\u{2776}\u{1369}", 1),
        ] {
            for char in chars.chars() {
                assert_eq!(digit(char), Some(value), "U+{:04X}", u32::from(char));
            }
        }
        for char in ['a', ' ', '\u{0}', '\u{66a}', '\u{2469}', '\u{4e00}', '\u{216f}', '\u{10ffff}'] {
            assert_eq!(digit(char), None, "U+{:04X}", u32::from(char));
        }
    }

    #[test]
    fn whatever_the_standard_library_calls_no_number_is_no_digit() {
        for char in '\0'..=char::MAX {
            assert!(digit(char).is_none() || char.is_numeric(), "U+{:04X}", u32::from(char));
        }
    }
}
