//! Protobuf messages as trees of fields, read by the schema alone and not by the code under test.
//! Fields can be removed and added.

use crate::schema::Schema;

/// One field of a message as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) tag: u32,
    pub(crate) value: Value,
}

/// Value of a field, by its wire type.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Varint(u64),
    Eight([u8; 8]),
    Four([u8; 4]),
    Bytes(Vec<u8>),
    /// A message that the schema knows.
    Message(String, Vec<Node>),
}

/// Returns fields that no version has, one of each wire type.
pub(crate) fn unknown() -> [Node; 4] {
    let values =
        [Value::Varint(1), Value::Eight([2; 8]), Value::Bytes(b"later".to_vec()), Value::Four([3; 4])];
    let mut tag = 899;
    values.map(|value| {
        tag += 1;
        Node { tag, value }
    })
}

/// Reads a message of the schema.
pub(crate) fn read(schema: &Schema, message: &str, mut bytes: &[u8]) -> Vec<Node> {
    let mut nodes = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let tag = u32::try_from(key >> 3).unwrap();
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut bytes)),
            1 => Value::Eight(take(&mut bytes, 8).try_into().unwrap()),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                let held = take(&mut bytes, length);
                match schema.field(message, tag).and_then(|field| field.message.as_deref()) {
                    Some(name) => Value::Message(name.to_owned(), read(schema, name, held)),
                    None => Value::Bytes(held.to_vec()),
                }
            }
            5 => Value::Four(take(&mut bytes, 4).try_into().unwrap()),
            other => panic!("wire type {other} in {message}"),
        };
        nodes.push(Node { tag, value });
    }
    nodes
}

/// Writes the bytes of the fields.
pub(crate) fn write(nodes: &[Node]) -> Vec<u8> {
    nodes.iter().flat_map(Node::write).collect()
}

/// Returns the message once without each of its fields, fields of inner messages included.
pub(crate) fn without_one(nodes: &[Node]) -> Vec<(String, Vec<Node>)> {
    vary(nodes, &|nodes, at| {
        let mut without = nodes.to_vec();
        without.remove(at);
        without
    })
}

/// Returns the message once for each place in it and in its inner messages, with unknown fields at
/// that place.
pub(crate) fn with_unknown(nodes: &[Node]) -> Vec<(String, Vec<Node>)> {
    vary(nodes, &|nodes, at| {
        let mut with = nodes.to_vec();
        with.splice(at..at, unknown());
        with
    })
}

fn vary(nodes: &[Node], change: &dyn Fn(&[Node], usize) -> Vec<Node>) -> Vec<(String, Vec<Node>)> {
    let mut all = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        all.push((format!("{}", node.tag), change(nodes, at)));
        let Value::Message(name, within) = &node.value else { continue };
        for (place, changed) in vary(within, change) {
            let mut whole = nodes.to_vec();
            whole[at].value = Value::Message(name.clone(), changed);
            all.push((format!("{}.{place}", node.tag), whole));
        }
    }
    all
}

impl Node {
    pub(crate) fn write(&self) -> Vec<u8> {
        let (kind, value) = match &self.value {
            Value::Varint(value) => (0, to_varint(*value)),
            Value::Eight(bytes) => (1, bytes.to_vec()),
            Value::Bytes(bytes) => (2, [to_varint(bytes.len() as u64), bytes.clone()].concat()),
            Value::Message(_, nodes) => {
                let bytes = write(nodes);
                (2, [to_varint(bytes.len() as u64), bytes].concat())
            }
            Value::Four(bytes) => (5, bytes.to_vec()),
        };
        [to_varint(u64::from(self.tag << 3 | kind)), value].concat()
    }
}

fn take<'bytes>(bytes: &mut &'bytes [u8], count: usize) -> &'bytes [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn to_varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
    bytes
}
