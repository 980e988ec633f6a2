//! Recognises card numbers in text, so that none gets past the edge: payments go by a gateway's token alone.
//!
//! A card number has an issuer's prefix, the length that goes with it (13 to 19 digits) and a right check digit (ISO/IEC
//! 7812-1, annex B: Luhn). It counts whether its digits stand together or in groups, as people write them. What else has
//! many digits is spared as far as it can be told: ids in UUID form, times in milliseconds, lists of telephone numbers.

/// Digits of a card number.
const DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

/// Characters between two groups of one number: "4111 - 1111" has three.
const GAP_MAX: usize = 3;

/// Characters of an id in UUID form.
const UUID_CHARS: usize = 36;

/// First digits that issuers are given, from and to, and how many digits their numbers have, from and to. By the issuers'
/// own publications; 9 is for national schemes, as Korea's.
const ISSUERS: [(&str, &str, usize, usize); 19] = [
    ("2200", "2204", 16, 19),
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
    ("9", "9", 16, 16),
    ("1800", "1800", 15, 15),
];

/// Whether a card number stands anywhere in the text.
pub fn holds_card_number(text: &str) -> bool {
    numbers(text).iter().any(|groups| {
        (0..groups.len()).any(|first| {
            let mut digits = String::new();
            for (last, group) in groups.iter().enumerate().skip(first) {
                digits.push_str(group);
                if digits.len() > *DIGITS.end() {
                    break;
                }
                if is_card_number(&digits) && is_written_so(&groups[first..=last]) {
                    return true;
                }
            }
            false
        })
    })
}

/// Whether these digits are a card's: its issuer's prefix, its length, its check digit.
fn is_card_number(digits: &str) -> bool {
    let is_issued = ISSUERS.iter().any(|(from, to, least, most)| {
        let prefix = digits.get(..from.len());
        (*least..=*most).contains(&digits.len())
            && prefix.is_some_and(|prefix| (*from..=*to).contains(&prefix))
    });
    DIGITS.contains(&digits.len()) && is_issued && luhn(digits)
}

/// The check digit is right: every second digit from the right doubled, the digits of all summed, divisible by ten.
fn luhn(digits: &str) -> bool {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(digit - b'0');
            match (place % 2, digit) {
                (0, digit) => digit,
                (_, digit @ ..5) => 2 * digit,
                (_, digit) => 2 * digit - 9,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Whether people write a card number in these groups: all of a length but the last, or as American Express (4, 6, 5),
/// Diners Club (4, 6, 4) and some of 19 digits (6, 13) print theirs. Telephone numbers in a row do not look so.
fn is_written_so(groups: &[String]) -> bool {
    let lengths: Vec<usize> = groups.iter().map(String::len).collect();
    match lengths.as_slice() {
        [4, 6, 4 | 5] | [6, 13] => true,
        [first, middle @ .., _] => middle.iter().all(|length| length == first),
        [] | [_] => true,
    }
}

/// The numbers in a text, each as its groups of digits.
fn numbers(text: &str) -> Vec<Vec<String>> {
    let chars: Vec<char> = text.chars().collect();
    let mut numbers: Vec<Vec<String>> = Vec::new();
    let (mut at, mut gap) = (0, GAP_MAX + 1);
    while let Some(char) = chars.get(at) {
        if is_uuid(&chars[at..]) {
            at += UUID_CHARS;
            gap = GAP_MAX + 1;
            continue;
        }
        if let Some(digit) = ascii_digit(*char) {
            match numbers.last_mut() {
                Some(groups) if gap == 0 => {
                    groups.iter_mut().last().into_iter().for_each(|group| group.push(digit))
                }
                Some(groups) if gap <= GAP_MAX => groups.push(digit.to_string()),
                _ => numbers.push(vec![digit.to_string()]),
            }
        }
        gap = match ascii_digit(*char) {
            Some(_) => 0,
            None if is_separator(*char) => gap.saturating_add(1),
            None => GAP_MAX + 1,
        };
        at += 1;
    }
    numbers
}

/// Digits as keyboards for Latin and for Korean or Japanese text have them.
fn ascii_digit(char: char) -> Option<char> {
    match char {
        '0'..='9' => Some(char),
        '\u{ff10}'..='\u{ff19}' => char::from_digit(u32::from(char) - 0xff10, 10),
        _ => None,
    }
}

/// What stands between the groups of one number; characters that have no width as well.
fn is_separator(char: char) -> bool {
    char.is_whitespace()
        || matches!(char, '-' | '.' | '_' | '/' | '\u{b7}' | '\u{ad}' | '\u{2010}'..='\u{2015}' | '\u{2212}')
        || matches!(char, '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' | '\u{ff0d}' | '\u{ff0e}')
}

/// Whether a text begins with an id in UUID form (RFC 9562 section 4), which no card number is written in.
fn is_uuid(chars: &[char]) -> bool {
    let Some(id) = chars.get(..UUID_CHARS) else { return false };
    let dashes = [8, 13, 18, 23];
    id.iter().enumerate().all(|(place, char)| match dashes.contains(&place) {
        true => *char == '-',
        false => char.is_ascii_hexdigit(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that issuers publish for tests, and some made for prefixes without any.
    const CARDS: [&str; 13] = [
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
        "9410000000000005",
        "4000000000000000006",
    ];

    #[test]
    fn a_card_number_is_found_alone_and_amid_text() {
        for card in CARDS {
            for text in [card.to_owned(), format!("pay with {card}, please"), format!("카드{card}번")] {
                assert!(holds_card_number(&text), "{text}");
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
        ] {
            assert!(holds_card_number(text), "{text}");
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
            assert!(!holds_card_number(text), "{text}");
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
            "서울 중구 세종대로 110, 04524, 2층 201-1호",
            "DV1748-601-270",
        ] {
            assert!(!holds_card_number(text), "{text}");
        }
        // Every thirteen-digit time from 2001 to 2033 begins with 1, which is no issuer's.
        for millis in (1_000_000_000_000_u64..2_000_000_000_000).step_by(7_919_999_993) {
            assert!(!holds_card_number(&millis.to_string()), "{millis}");
        }
    }

    #[test]
    fn every_right_number_of_an_issuer_is_found_and_every_single_wrong_digit_is_not() {
        for card in CARDS {
            for place in 0..card.len() {
                for digit in '0'..='9' {
                    let mut changed = card.to_owned();
                    changed.replace_range(place..=place, &digit.to_string());
                    assert_eq!(holds_card_number(&changed), changed == card, "{changed}");
                }
            }
        }
    }

    #[test]
    fn a_made_up_number_with_its_check_digit_is_found_in_any_grouping() {
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
            let check = (0..10).find(|check| luhn(&format!("{digits}{check}"))).unwrap();
            digits.push_str(&check.to_string());
            let size = 1 + dice(19) as usize;
            let groups: Vec<String> = digits
                .as_bytes()
                .chunks(size)
                .map(|group| String::from_utf8_lossy(group).into_owned())
                .collect();
            let separator = [" ", "-", ".", " - ", "\u{a0}"][dice(5) as usize];
            let text = format!("note {} end", groups.join(separator));
            assert!(holds_card_number(&text), "round {round} of seed 7: {text}");
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
            holds_card_number(&text);
        }
    }
}
