//! Finds card numbers in text, so that none passes the edge: payments use only a gateway's token.
//!
//! A card number has an issuer's prefix, a length that belongs to this prefix (13 to 19 digits),
//! and a right check digit (ISO/IEC 7812-1, annex B: Luhn). Digits of any script count. They may
//! stand together or in groups with gaps of any characters but letters. Some letters that are typed
//! for a dash or a dot count as gaps too.
//!
//! Other long numbers are spared as far as they can be recognised: ids in UUID form, times in
//! milliseconds, telephone numbers alone and in lists. The digits are zeroised after the search.

use std::ops::RangeInclusive;

use zeroize::Zeroizing;

use super::digits::digit;

/// Lengths of a card number in free text, in digits.
pub const IN_TEXT: RangeInclusive<usize> = 13..=19;

/// Lengths in a field for one telephone number. A telephone number has up to 15 digits (ITU-T
/// E.164), so shorter runs are not card numbers.
pub const IN_PHONE: RangeInclusive<usize> = 16..=19;

/// Lengths in an id of the caller. Longer runs of digits are taken as a 64-bit id, which many
/// generators make.
pub const IN_ID: RangeInclusive<usize> = 13..=16;

/// Most characters between two groups of one number. A run of white space counts as one, so
/// "4111 - 1111" has three.
const GAP_MAX: usize = 8;

/// Most digits of a telephone number after its plus sign (ITU-T E.164).
const PHONE_DIGITS_MAX: usize = 15;

/// Length of an id in UUID form.
const UUID_BYTES: usize = 36;

/// Issuers' prefixes as (lowest prefix, highest prefix, fewest digits, most digits), from the
/// issuers' own publications. Prefix 9 is for national schemes, such as Korea's.
const ISSUERS: [(&str, &str, usize, usize); 22] = [
    ("2131", "2131", 15, 15),
    ("2200", "2205", 16, 19),
    ("2221", "2720", 16, 16),
    ("300", "305", 14, 19),
    ("3095", "3095", 14, 19),
    ("34", "34", 15, 15),
    ("3528", "3589", 16, 19),
    ("36", "36", 14, 19),
    ("37", "37", 15, 15),
    ("38", "39", 14, 19),
    ("4", "4", 13, 13),
    ("4", "4", 16, 16),
    ("4", "4", 19, 19),
    ("50", "50", 13, 19),
    ("51", "55", 16, 16),
    ("56", "58", 13, 19),
    ("6", "6", 13, 19),
    ("81", "82", 16, 19),
    ("8600", "8600", 16, 16),
    ("9", "9", 16, 16),
    ("9704", "9704", 19, 19),
    ("1800", "1800", 15, 15),
];

/// Returns true if a card number with one of these lengths is anywhere in the text.
pub fn holds_card_number(text: &str, lengths: &RangeInclusive<usize>) -> bool {
    let mut number = Number::with_room_for(text);
    let (mut rest, mut gap, mut before) = (text, 0, ' ');
    while let Some(char) = rest.chars().next() {
        let is_uuid = is_uuid(rest);
        let mut is_over = is_uuid;
        if is_uuid {
            // The digits of an id are skipped.
        } else if let Some(digit) = digit(char) {
            if gap > 0 || number.is_empty() {
                number.groups.push(Group { length: 0, is_after_plus: before == '+' });
            }
            number.push(digit);
            gap = 0;
        } else if !(is_invisible(char) || char.is_whitespace() && before.is_whitespace()) {
            gap += 1;
            is_over = (char.is_alphabetic() && !is_typed_for_a_sign(char)) || gap > GAP_MAX;
        }
        if is_over {
            if number.holds_card(lengths) {
                return true;
            }
            number.clear();
            gap = 0;
        }
        before = char;
        rest = rest.get(if is_uuid { UUID_BYTES } else { char.len_utf8() }..).unwrap_or_default();
    }
    number.holds_card(lengths)
}

/// Digits with nothing but gaps between them, in their groups.
struct Number {
    digits: Zeroizing<Vec<u8>>,
    groups: Vec<Group>,
}

#[derive(Clone, Copy)]
struct Group {
    length: usize,
    is_after_plus: bool,
}

impl Number {
    /// Reserves all memory first. A vector that grows leaves copies that are not zeroised.
    fn with_room_for(text: &str) -> Self {
        Self { digits: Zeroizing::new(Vec::with_capacity(text.len())), groups: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    fn push(&mut self, digit: u8) {
        self.digits.push(digit);
        if let Some(group) = self.groups.last_mut() {
            group.length += 1;
        }
    }

    fn clear(&mut self) {
        self.digits.clear();
        self.groups.clear();
    }

    /// Returns true if some consecutive groups form a card number.
    fn holds_card(&self, lengths: &RangeInclusive<usize>) -> bool {
        let mut begin = 0;
        (0..self.groups.len()).any(|first| {
            let mut length = 0;
            let found = (first..self.groups.len()).any(|last| {
                length += self.groups[last].length;
                lengths.contains(&length)
                    && self.is_written_so(first, last)
                    && self.digits.get(begin..begin + length).is_some_and(is_card_number)
            });
            begin += self.groups[first].length;
            found
        })
    }

    /// Returns true if card numbers are written in these groups.
    ///
    /// That is: groups of one size with a shorter last one, or the printed forms of American
    /// Express (4, 6, 5), Diners Club (4, 6, 4) and some 19-digit cards (6, 13). Telephone numbers
    /// in a row do not have these forms.
    fn is_written_so(&self, first: usize, last: usize) -> bool {
        let lengths: Vec<usize> = self.groups[first..=last].iter().map(|group| group.length).collect();
        match lengths.as_slice() {
            [length] => !(self.groups[first].is_after_plus && *length <= PHONE_DIGITS_MAX),
            [4, 6, 4 | 5] => true,
            // A postal code and a telephone number are also two groups, but the second one is
            // longer.
            [size, rest] => rest <= size || [4, 6].contains(size),
            // First, fours, some of them written together. Second, a number with thousands
            // separators, as a spreadsheet writes it.
            [before @ .., rest] if *rest <= 8 && before.iter().all(|length| [4, 8, 12].contains(length)) => {
                true
            }
            [1..=3, thousands @ ..]
                if thousands.len() >= 4 && thousands.iter().all(|length| *length == 3) =>
            {
                !self.is_in_a_longer_row(first, last, 3)
            }
            [size, middle @ .., rest] => {
                middle.iter().all(|length| length == size)
                    && *rest <= 2 * size
                    && !self.is_in_a_longer_row(first, last, *size)
            }
            [] => false,
        }
    }

    /// Returns true if a neighbouring group has the same size of 2 or 3 digits. Telephone numbers,
    /// times and sizes are written in such rows, card numbers are not.
    fn is_in_a_longer_row(&self, first: usize, last: usize, size: usize) -> bool {
        let goes_on = |group: Option<&Group>| group.is_some_and(|group| group.length == size);
        let before = first.checked_sub(1).and_then(|before| self.groups.get(before));
        (2..=3).contains(&size) && (goes_on(before) || goes_on(self.groups.get(last + 1)))
    }
}

/// Returns true if the digits have an issuer's prefix, its length and a right check digit.
fn is_card_number(digits: &[u8]) -> bool {
    let is_issued = ISSUERS.iter().any(|(from, to, least, most)| {
        let prefix = digits.iter().take(from.len()).map(|digit| digit + b'0');
        (*least..=*most).contains(&digits.len()) && prefix.clone().ge(from.bytes()) && prefix.le(to.bytes())
    });
    is_issued && luhn(digits)
}

/// Checks the check digit: double every second digit from the right, sum the digits of all results,
/// and divide by ten without remainder.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit @ ..5) => 2 * digit,
            (_, digit) => 2 * digit - 9,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Letters that Koreans and Japanese type for a dash or a dot, because their keyboards have them in
/// that position: the prolonged sound mark, the vowel EU, and the old vowel that is drawn as a dot.
fn is_typed_for_a_sign(char: char) -> bool {
    matches!(
        char,
        '\u{30fc}'
            | '\u{ff70}'
            | '\u{3161}'
            | '\u{1173}'
            | '\u{ffda}'
            | '\u{318d}'
            | '\u{119e}'
            | '\u{aa}'
            | '\u{ba}'
    )
}

/// Returns true for a character that is invisible between two digits, or that only marks a digit: a
/// keycap's frame, a soft hyphen, a stroke.
fn is_invisible(char: char) -> bool {
    matches!(char, '\u{ad}' | '\u{300}'..='\u{36f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}')
        || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{20d0}'..='\u{20ff}' | '\u{feff}')
        || matches!(char, '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e01ef}')
}

/// Returns true if the text begins with an id in UUID form (RFC 9562 section 4).
fn is_uuid(text: &str) -> bool {
    let Some(id) = text.as_bytes().get(..UUID_BYTES) else { return false };
    let dashes = [8, 13, 18, 23];
    id.iter().enumerate().all(|(place, byte)| match dashes.contains(&place) {
        true => *byte == b'-',
        false => byte.is_ascii_hexdigit(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_found(text: &str) -> bool {
        holds_card_number(text, &IN_TEXT)
    }

    /// Test numbers that issuers publish, and made-up numbers for prefixes without one.
    const CARDS: [&str; 15] = [
        "4111111111111111",
        "4222222222222",
        "5555555555554444",
        "2223003122003222",
        "378282246310005",
        "371449635398431",
        "6011111111111117",
        "3530111333300000",
        "30569309025904",
        "6200000000000005",
        "6304000000000000",
        "6761000000001",
        "6304900017740292441",
        "9410000000000005",
        "4000000000000000006",
    ];

    #[test]
    fn a_card_number_is_found_alone_and_amid_text() {
        for card in CARDS {
            for text in [card.to_owned(), format!("pay with {card}, please"), format!("카드{card}번")] {
                assert!(is_found(&text), "{text}");
            }
        }
    }

    #[test]
    fn a_card_number_is_found_in_whatever_groups_it_is_written() {
        for text in [
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "4111.1111.1111.1111",
            "4111 - 1111 - 1111 - 1111",
            "4111-1111 1111.1111",
            "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
            "41111111 11111111",
            "3782 822463 10005",
            "3056 930902 5904",
            "４１１１－１１１１－１１１１－１１１１",
            "4111\u{a0}1111\u{2013}1111\n1111",
            "010-1234-5678 4111 1111 1111 1111 123",
            "4111\u{200b}111111111111",
            "41\u{ad}11 1111 1\u{200d}111 1111",
            "4111,1111,1111,1111",
            "4111:1111+1111*1111",
            "4111|1111|1111|1111",
            "(4111)(1111)(1111)(1111)",
            "4111 ---- 1111 ---- 1111 ---- 1111",
            "4/1+1,1:1;1*1#1_1~1=1'1\"1&1%1!1",
            "\u{1f4b3}4111\u{1f4b3}1111\u{1f4b3}1111\u{1f4b3}1111",
            "4\u{fe0f}\u{20e3}1\u{fe0f}\u{20e3}1\u{fe0f}\u{20e3}1\u{fe0f}\u{20e3} 1111 1111 1111",
            "4\u{336}1\u{336}1\u{336}1\u{336}111111111111",
            "+4111111111111111",
            "4111\u{30fc}1111\u{30fc}1111\u{30fc}1111",
            "4111\u{ff70}1111\u{ff70}1111\u{ff70}1111",
            "4111\u{3161}1111\u{3161}1111\u{3161}1111",
            "4111\u{318d}1111\u{318d}1111\u{318d}1111",
            "4111            1111\t\t\t\t\t\t\t\t\t\t1111\n\n\n\n\n\n\n\n\n\n1111",
            "4111 11111111 1111",
            "4111-1111-11111111",
            "41111111 1111 1111",
            "4,111,111,111,111,111",
            "38 520 000 023 237",
        ] {
            assert!(is_found(text), "{text}");
        }
    }

    #[test]
    fn a_wrong_check_digit_prefix_or_length_is_no_card() {
        for text in [
            "4111111111111112",
            "1111111111111117",
            "411111111111",
            "41111111111111111111",
            "555555555555",
            "",
        ] {
            assert!(!is_found(text), "{text}");
        }
    }

    #[test]
    fn telephone_numbers_ids_and_times_are_no_cards() {
        for text in [
            "010-1234-5678",
            "+82 10-1234-5678",
            "010-5555-5555 010-4444-4444 010-3333-3333",
            "02-555-5678 / 031-444-1234",
            "12345678-1234-4567-8901-123456789012",
            "41111111-1111-1111-8901-123456789012",
            "서울 중구 세종대로 110, 04524, 2층 201-1호",
            "+4915123456787",
            "+49 1512 3456784, +49 1512 3456784",
            "06 12 34 56 78 / 06 98 76 54 32",
            "60601 3125551235, 60601-1234",
            "04524 010-1234-5678 2026-11-28 10:30-12:00",
            "2026-11-28 18:30:00 ~ 2026-11-28 20:00:00",
            "(415) 555-2671, (415) 555-2672",
            "37.566535, 126.977969",
            "36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46",
            "DV1748-601-270",
            "합계 4,111,111원, 1,111,111원",
            "1588-1234, 1577-5678, 4111-1111",
            "4가 1111, 1111호, 1111-1111",
            "우체국 400123-01-012345, 국민 4001-02-03-456789",
            "4,111,111 1,111,111 111",
        ] {
            assert!(!is_found(text), "{text}");
        }
        // Every time in milliseconds from 2001 to 2033 has 13 digits and begins with 1. No issuer
        // has this prefix.
        for millis in (1_000_000_000_000_u64..2_000_000_000_000).step_by(7_919_999_993) {
            assert!(!is_found(&millis.to_string()), "{millis}");
        }
    }

    #[test]
    fn a_card_number_is_found_in_the_digits_of_any_script() {
        for zero in
            ['\u{660}', '\u{6f0}', '\u{966}', '\u{e50}', '\u{ff10}', '\u{1d7ce}', '\u{1d7f6}', '\u{1ccf0}']
        {
            for card in CARDS {
                let digit = |digit: char| char::from_u32(u32::from(zero) + u32::from(digit) - u32::from('0'));
                let text: String = card.chars().filter_map(digit).collect();
                assert!(is_found(&text) && is_found(&format!("{}{text}", "1 \u{ac00}")), "{text}");
            }
        }
        assert!(is_found("\u{2463}\u{2460}\u{b9}\u{ff11} \u{661}111 1111 1111"));
    }

    #[test]
    fn a_telephone_number_or_id_is_no_card_number_in_its_field() {
        let digits = |text: &str, lengths| holds_card_number(text, lengths);
        assert!(!digits("4915123456787", &IN_PHONE) && digits("4915123456787", &IN_TEXT));
        assert!(!digits("6912345678901234564", &IN_ID) && digits("6912345678901234564", &IN_TEXT));
        for lengths in [&IN_PHONE, &IN_ID, &IN_TEXT] {
            assert!(digits("4111-1111-1111-1111", lengths));
        }
    }

    #[test]
    fn every_valid_card_number_is_found_and_every_wrong_digit_is_not() {
        for card in CARDS {
            for place in 0..card.len() {
                for digit in '0'..='9' {
                    let mut changed = card.to_owned();
                    changed.replace_range(place..=place, &digit.to_string());
                    assert_eq!(is_found(&changed), changed == card, "{changed}");
                }
            }
        }
    }

    /// Returns the check digit that makes the number valid.
    fn with_check_digit(digits: &str) -> char {
        let values = |text: String| text.bytes().map(|digit| digit - b'0').collect::<Vec<u8>>();
        ('0'..='9').find(|check| luhn(&values(format!("{digits}{check}")))).unwrap()
    }

    #[test]
    fn a_generated_card_number_is_found_in_any_grouping() {
        let mut state = 7_u64;
        let mut dice = |sides: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % sides
        };
        for round in 0..2_000 {
            let (from, _, least, most) = ISSUERS[dice(ISSUERS.len() as u64) as usize];
            let length = least + dice((most - least + 1) as u64) as usize;
            let mut digits = from.to_owned();
            while digits.len() < length - 1 {
                digits.push(char::from(b'0' + dice(10) as u8));
            }
            digits.push(with_check_digit(&digits));
            let size = 1 + dice(19) as usize;
            let groups: Vec<String> = digits
                .as_bytes()
                .chunks(size)
                .map(|group| String::from_utf8_lossy(group).into_owned())
                .collect();
            let separator = [" ", "-", ".", " - ", "\u{a0}", ",", ":", " + ", "*", "\n| ", "\u{1f600}"]
                [dice(11) as usize];
            let text = format!("note {} end", groups.join(separator));
            assert!(is_found(&text), "round {round} of seed 7: {text}");
        }
    }

    #[test]
    fn no_text_makes_it_fail() {
        let mut state = 11_u64;
        for _ in 0..2_000 {
            let text: String = (0..40)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    ['4', '1', '5', '0', ' ', '-', '.', 'a', '한', '\u{ff11}', '\u{0}', ',']
                        [(state >> 40) as usize % 12]
                })
                .collect();
            is_found(&text);
        }
    }
}
