//! Files of a corpus: bytes in hexadecimal, each line with its meaning after a `#`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::schema::Schema;
use crate::tree::{Node, Value};

/// Bytes in one line, and the column of their meaning.
const BYTES_A_LINE: usize = 16;
const MEANING_AT: usize = 54;

/// Returns the path of a file, such as `v1/control-hello`.
pub(crate) fn path(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
    if name.contains('/') { folder.join(format!("{name}.txt")) } else { folder.join(name) }
}

/// Returns every file of a corpus by its name, without the list of digests.
pub(crate) fn files(corpus: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for file in std::fs::read_dir(path(corpus)).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name != "digests.txt" {
            files.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
    files
}

/// Returns the lines of a file that have bytes, each with its meaning.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (Vec<u8>, &str)> {
    text.lines().filter_map(|line| {
        let (hex, meaning) = line.split_once('#')?;
        let hex = hex.trim();
        (!hex.is_empty()).then(|| (bytes(hex), meaning.trim()))
    })
}

/// Returns all bytes of a file's text.
pub(crate) fn message(text: &str) -> Vec<u8> {
    lines(text).flat_map(|(bytes, _)| bytes).collect()
}

/// Returns the bytes of one file.
pub(crate) fn read(name: &str) -> Vec<u8> {
    message(&std::fs::read_to_string(path(name)).expect(name))
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect(hex)).collect()
}

/// Writes a message in the form of a corpus file. It is the draft of a missing file.
pub(crate) fn show(schema: &Schema, message: &str, nodes: &[Node]) -> String {
    let mut text = String::new();
    show_within(schema, message, nodes, 0, &mut text);
    text
}

fn show_within(schema: &Schema, message: &str, nodes: &[Node], depth: usize, text: &mut String) {
    for node in nodes {
        let field = schema.field(message, node.tag);
        let name = field.map_or("a field of a later version", |field| &field.name);
        let indent = "  ".repeat(depth);
        let whole = node.write();
        let (shown, meaning) = match &node.value {
            Value::Varint(value) => (whole, value.cast_signed().to_string()),
            Value::Bytes(bytes) if field.is_some_and(|field| field.kind == "string") => {
                (whole, format!("{:?}", String::from_utf8_lossy(bytes)))
            }
            Value::Bytes(bytes) => (whole, format!("{} bytes", bytes.len())),
            Value::Message(of, within) => {
                let held = crate::tree::write(within).len();
                (whole[..whole.len() - held].to_vec(), format!("{of}, {held} bytes"))
            }
            Value::Eight(_) | Value::Four(_) => (whole, "a number of fixed length".to_owned()),
        };
        for (number, bytes) in shown.chunks(BYTES_A_LINE).enumerate() {
            let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let left = format!("{indent}{}", hex.join(" "));
            let right =
                if number == 0 { format!(" {indent}{} {name}: {meaning}", node.tag) } else { String::new() };
            text.push_str(&format!("{left:<MEANING_AT$}#{right}\n"));
        }
        if let Value::Message(of, within) = &node.value {
            show_within(schema, of, within, depth + 1, text);
        }
    }
}
