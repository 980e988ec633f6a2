//! The forms of a value that encoders and careless log lines produce.

use std::fmt;

/// A form of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// The unchanged value.
    Plain,
    /// In lower or upper case.
    Recased,
    /// Only the digits of a phone number.
    Digits,
    /// Hangul as single letters, as file systems and sorting decompose it.
    Decomposed,
    /// With escaped quotes, as JSON or `{:?}` writes them.
    Quoted,
    /// With `\uXXXX`, as some JSON writers do.
    JsonEscaped,
    /// With `\xNN`, as `{:?}` writes bytes.
    ByteEscaped,
    /// With `%NN`, as in a URL or a form.
    PercentEncoded,
    /// Two hexadecimal digits for each byte.
    Hexadecimal,
    /// A list of numbers, as `{:?}` or `{:02x?}` writes bytes.
    Numbers,
    /// Base64, in both alphabets.
    Base64,
    /// UTF-16, in both byte orders.
    Utf16,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Form::Plain => "plain",
            Form::Recased => "plain, in other letters",
            Form::Digits => "its digits alone",
            Form::Decomposed => "decomposed",
            Form::Quoted => "quoted",
            Form::JsonEscaped => "with \\u escapes",
            Form::ByteEscaped => "with \\x escapes",
            Form::PercentEncoded => "percent-encoded",
            Form::Hexadecimal => "hexadecimal",
            Form::Numbers => "as a list of numbers",
            Form::Base64 => "base64",
            Form::Utf16 => "UTF-16",
        })
    }
}

/// Returns the value in every form. No text occurs twice.
pub(super) fn of(value: &str) -> Vec<(Form, Vec<u8>)> {
    let bytes = value.as_bytes();
    let mut forms = vec![(Form::Plain, bytes.to_vec())];
    for recased in [value.to_lowercase(), value.to_uppercase()] {
        forms.push((Form::Recased, recased.into_bytes()));
    }
    forms.push((Form::Digits, digits_of_a_phone(value)));
    forms.push((Form::Decomposed, decomposed(value).into_bytes()));
    // The escapes that `serde_json` and `{:?}` write in a string, without the quotes around it.
    let quoted = format!("{value:?}");
    forms.push((Form::Quoted, quoted.as_bytes()[1..quoted.len() - 1].to_vec()));
    if !value.is_ascii() {
        forms.push((Form::JsonEscaped, json_escaped(value, |unit| format!("\\u{unit:04x}"))));
        forms.push((Form::JsonEscaped, json_escaped(value, |unit| format!("\\u{unit:04X}"))));
        // `{:?}` of `Bytes` gives b"\xea\xb9\x80".
        forms.push((Form::ByteEscaped, bytes.escape_ascii().collect()));
    }
    forms.extend(percent_encoded(bytes).map(|text| (Form::PercentEncoded, text)));
    for digits in ["0123456789abcdef", "0123456789ABCDEF"] {
        forms.push((Form::Hexadecimal, hex(bytes, digits)));
    }
    // `{:?}` of a byte vector gives [80, 69, ...], and `{:02x?}` gives [50, 45, ...].
    for list in [joined(bytes, |byte| byte.to_string()), joined(bytes, |byte| format!("{byte:02x}"))] {
        forms.push((Form::Numbers, list));
    }
    for alphabet in [STANDARD, URL_SAFE] {
        forms.extend((0..3).map(|offset| (Form::Base64, base64_inside(bytes, offset, alphabet))));
    }
    for order in [u16::to_le_bytes, u16::to_be_bytes] {
        forms.push((Form::Utf16, value.encode_utf16().flat_map(order).collect()));
    }
    let mut texts = std::collections::BTreeSet::new();
    forms.retain(|(_, text)| texts.insert(text.clone()));
    forms
}

/// Returns the digits of a phone number, or nothing for another value.
fn digits_of_a_phone(value: &str) -> Vec<u8> {
    let is_phone = value.bytes().all(|byte| byte.is_ascii_digit() || b"+-() ".contains(&byte));
    value.bytes().filter(|byte| is_phone && byte.is_ascii_digit()).collect()
}

/// Decomposes each syllable of Hangul into its letters (Unicode, section 3.12). Other characters do
/// not change.
fn decomposed(value: &str) -> String {
    const SYLLABLES: u32 = 0xAC00;
    let mut text = String::new();
    for character in value.chars() {
        let index = u32::from(character).wrapping_sub(SYLLABLES);
        if index >= 19 * 21 * 28 {
            text.push(character);
            continue;
        }
        let (lead, vowel, tail) = (index / (21 * 28), index / 28 % 21, index % 28);
        let letters = [0x1100 + lead, 0x1161 + vowel, 0x11A7 + tail];
        text.extend(letters[..if tail == 0 { 2 } else { 3 }].iter().copied().filter_map(char::from_u32));
    }
    text
}

fn joined(bytes: &[u8], number: impl Fn(&u8) -> String) -> Vec<u8> {
    bytes.iter().map(number).collect::<Vec<_>>().join(", ").into_bytes()
}

/// Returns the percent-encoding for URLs and for forms, each with upper-case and lower-case digits.
fn percent_encoded(bytes: &[u8]) -> [Vec<u8>; 4] {
    let encoded = |blank: &str, large: bool| {
        let one = |byte: &u8| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(*byte).to_string()
            }
            b' ' => blank.to_owned(),
            byte if large => format!("%{byte:02X}"),
            byte => format!("%{byte:02x}"),
        };
        bytes.iter().map(one).collect::<String>().into_bytes()
    };
    [encoded("%20", true), encoded("%20", false), encoded("+", true), encoded("+", false)]
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

/// Returns the base64 digits that depend on `bytes` alone, if `offset` bytes (modulo 3) are encoded
/// before them and anything after. The digits at both ends that share bits with a neighbour are cut
/// off.
fn base64_inside(bytes: &[u8], offset: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let bit = |index: usize| bytes[index / 8] >> (7 - index % 8) & 1;
    // A digit has six bits. After `offset` bytes, the next digit starts this many bits into the
    // value.
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

    fn form(value: &str, wanted: Form) -> Vec<String> {
        let texts = of(value).into_iter().filter(|(form, _)| *form == wanted);
        texts.map(|(_, text)| String::from_utf8_lossy(&text).into_owned()).collect()
    }

    #[test]
    fn a_value_is_written_as_each_encoder_writes_it() {
        assert_eq!(form("+82-10-1234", Form::Digits), ["82101234"]);
        assert!(form("Kim 82101234", Form::Digits).iter().all(String::is_empty), "no phone");
        assert_eq!(form("Ada Road", Form::Recased), ["ada road", "ADA ROAD"]);
        assert_eq!(form("a b@c", Form::PercentEncoded), ["a%20b%40c", "a+b%40c"]);
        assert_eq!(form("AB", Form::Numbers), ["65, 66", "41, 42"]);
        assert_eq!(form("ab", Form::Utf16), ["a\0b\0", "\0a\0b"]);
        // 한글, whose syllables have a final consonant each, and 가, which has none.
        assert_eq!(
            form("한글가", Form::Decomposed),
            ["\u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af}\u{1100}\u{1161}"]
        );
    }

    #[test]
    fn base64_is_right_at_each_of_its_three_alignments() {
        use base64::Engine as _;
        let value = "남궁뷁휼쟎".as_bytes();
        for before in 0..6 {
            let text = [vec![b'x'; before], value.to_vec(), b"yz".to_vec()].concat();
            let encoded = base64::engine::general_purpose::STANDARD.encode(&text);
            let inside = String::from_utf8(base64_inside(value, before % 3, STANDARD)).expect("ASCII");
            assert!(encoded.contains(&inside), "after {before} bytes");
        }
    }
}
