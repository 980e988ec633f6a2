//! Changes to inputs: to any bytes, to lines of text, and to the fields of protobuf messages.
//!
//! Changes that know a format keep it readable. So they reach the rules behind the parser, and do
//! not end at a wrong length.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Numbers at which code tends to fail.
const HOSTILE: [u64; 16] = [
    0,
    1,
    127,
    128,
    255,
    256,
    1 << 16,
    (1 << 20) + 1,
    i32::MAX as u64,
    1 << 31,
    u32::MAX as u64,
    1_000_000_000_000_001,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];
/// Most levels of nested messages that are changed.
const DEPTH_MAX: u32 = 4;

/// Returns one of the numbers at which code tends to fail, or a random one.
pub(super) fn number(rng: &mut ChaCha8Rng) -> u64 {
    if rng.random_ratio(3, 4) { HOSTILE[rng.random_range(0..HOSTILE.len())] } else { rng.random() }
}

/// Returns a random range within `len`, with a length of at most `most`.
pub(super) fn range(rng: &mut ChaCha8Rng, len: usize, most: usize) -> std::ops::Range<usize> {
    let start = rng.random_range(0..=len);
    start..start + rng.random_range(0..=most.min(len - start))
}

/// Changes any bytes.
pub(super) fn bytes(rng: &mut ChaCha8Rng, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut out = input.to_vec();
    let piece = range(rng, out.len(), 16);
    match rng.random_range(0..7) {
        0 if !out.is_empty() => {
            let at = rng.random_range(0..out.len());
            out[at] ^= 1 << rng.random_range(0..8);
        }
        1 if !out.is_empty() => {
            let at = rng.random_range(0..out.len());
            out[at] = rng.random();
        }
        2 => {
            let word = number(rng).to_be_bytes();
            let width = [1, 2, 4, 8][rng.random_range(0..4)];
            let end = out.len().min(piece.start + width);
            out.splice(piece.start..end, word[8 - width..].iter().copied());
        }
        3 => drop(out.drain(piece)),
        4 => {
            let again = out[piece.clone()].to_vec();
            out.splice(piece.end..piece.end, again);
        }
        5 => out.truncate(piece.start),
        _ => {
            let borrowed = range(rng, other.len(), 64);
            out.splice(piece, other[borrowed].iter().copied());
        }
    }
    out
}

/// Removes, doubles, swaps, copies or changes a line.
pub(super) fn lines(rng: &mut ChaCha8Rng, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = input.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let others: Vec<&[u8]> = other.split(|byte| *byte == b'\n').collect();
    let (at, to) = (rng.random_range(0..lines.len()), rng.random_range(0..lines.len()));
    match rng.random_range(0..5) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(to, lines[at].clone()),
        2 => lines.swap(at, to),
        3 => lines.insert(at, others[rng.random_range(0..others.len())].to_vec()),
        _ => lines[at] = bytes(rng, &lines[at], other),
    }
    lines.join(&b'\n')
}

/// Changes one field of a protobuf message, or of a message nested in it.
pub(super) fn protobuf(rng: &mut ChaCha8Rng, input: &[u8], other: &[u8]) -> Vec<u8> {
    message(rng, input, other, DEPTH_MAX)
}

/// A field as it is on the wire (protobuf encoding, "Message Structure").
#[derive(Clone)]
struct Field {
    number: u64,
    value: Value,
}

#[derive(Clone)]
enum Value {
    Varint(u64),
    Bytes(Vec<u8>),
}

fn message(rng: &mut ChaCha8Rng, input: &[u8], other: &[u8], depth: u32) -> Vec<u8> {
    let Some(mut fields) = fields(input).filter(|fields| depth > 0 && !fields.is_empty()) else {
        return bytes(rng, input, other);
    };
    let (at, to) = (rng.random_range(0..fields.len()), rng.random_range(0..fields.len()));
    let theirs = self::fields(other).unwrap_or_default();
    let same = theirs.into_iter().find(|field| field.number == fields[at].number);
    match rng.random_range(0..9) {
        0 => drop(fields.remove(at)),
        1 => fields.insert(to, fields[at].clone()),
        2 => fields.swap(at, to),
        3 => fields[at].number = number(rng) >> 3,
        4 => fields[at].value = Value::Varint(number(rng)),
        5 | 6 => fields.splice(at..at + usize::from(same.is_some()), same).for_each(drop),
        _ => match (&mut fields[at].value, same.map(|field| field.value)) {
            (Value::Varint(value), _) => {
                *value = if rng.random() { number(rng) } else { value.wrapping_add(1) }
            }
            (Value::Bytes(value), Some(Value::Bytes(theirs))) => {
                *value = message(rng, value, &theirs, depth - 1)
            }
            (Value::Bytes(value), _) => *value = message(rng, value, other, depth - 1),
        },
    }
    fields.iter().flat_map(Field::to_bytes).collect()
}

/// Returns the fields of a message. Returns `None` if the bytes are no message, or have a field of
/// fixed width, which Bridge's messages never have.
fn fields(mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let (tag, rest) = read_varint(bytes)?;
        let (number, rest) = (tag >> 3, read_varint(rest)?);
        let value = match (tag & 7, rest) {
            (0, (value, rest)) => {
                bytes = rest;
                Value::Varint(value)
            }
            (2, (len, rest)) => {
                let (value, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
                bytes = rest;
                Value::Bytes(value.to_vec())
            }
            _ => return None,
        };
        fields.push(Field { number, value });
    }
    Some(fields)
}

fn read_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().take(10).position(|byte| byte & 0x80 == 0)? + 1;
    let (varint, rest) = bytes.split_at(end);
    let value = varint.iter().rev().fold(0_u64, |value, byte| value << 7 | u64::from(byte & 0x7f));
    Some((value, rest))
}

fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

impl Field {
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match &self.value {
            Value::Varint(value) => {
                write_varint(self.number << 3, &mut out);
                write_varint(*value, &mut out);
            }
            Value::Bytes(value) => {
                write_varint(self.number << 3 | 2, &mut out);
                write_varint(value.len() as u64, &mut out);
                out.extend_from_slice(value);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use bridge_protocol::wire::frame;
    use bridge_protocol::wire::order::{Ask, ToIdc, to_idc};
    use rand::SeedableRng;

    use super::*;

    fn ask() -> Vec<u8> {
        let ask = Ask { brand: "shoes".into(), order: vec![7; 16].into(), key: Some(vec![8; 32].into()) };
        let message = ToIdc {
            request: 300,
            kind: Some(to_idc::Kind::Ask(ask)),
            sequence: u64::MAX,
            trace: None,
            remaining_millis: None,
        };
        frame::to_bytes(&message, 1024).expect("it is short")[frame::HEADER_BYTES..].to_vec()
    }

    #[test]
    fn a_message_is_written_as_it_was_read() {
        let again: Vec<u8> = fields(&ask()).expect("a message").iter().flat_map(Field::to_bytes).collect();
        assert_eq!(again, ask());
    }

    #[test]
    fn most_changed_messages_are_messages_still_and_hardly_any_is_the_same() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let changed: Vec<_> = (0..1_000).map(|_| protobuf(&mut rng, &ask(), &ask())).collect();
        let read = |bytes: &&Vec<u8>| frame::decode::<ToIdc>((*bytes).clone().into()).is_ok();
        assert!(changed.iter().filter(read).count() > 500);
        assert!(changed.iter().filter(|bytes| **bytes != ask()).count() > 500);
    }

    #[test]
    fn no_change_minds_an_empty_input() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for change in [bytes, lines, protobuf] {
            for _ in 0..1_000 {
                change(&mut rng, &[], &[]);
            }
        }
    }
}
