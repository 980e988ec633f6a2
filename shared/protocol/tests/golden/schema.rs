//! Messages of the wire with their fields, as the sources declare them.

use std::collections::BTreeMap;
use std::path::Path;

/// Every message by its name, such as `order::Envelope`.
pub(crate) struct Schema {
    messages: BTreeMap<String, Vec<Field>>,
}

/// One field of a message, or one kind of its oneof.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) tag: u32,
    pub(crate) name: String,
    /// Type by prost's name: `string`, `int64`, `message`.
    pub(crate) kind: String,
    /// Message in the field, if it has one.
    pub(crate) message: Option<String>,
}

/// Item that a source line is in.
enum Within {
    Nothing,
    Message(String),
    /// Kinds of a oneof, by its module.
    Oneof(String),
}

impl Schema {
    /// Reads all sources below `src/wire`.
    pub(crate) fn read() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wire");
        let mut messages = BTreeMap::new();
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let module = path.file_stem().unwrap().to_str().unwrap();
            read_module(module, &std::fs::read_to_string(&path).unwrap(), &mut messages);
        }
        Self { messages }
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = (&str, &[Field])> {
        self.messages.iter().map(|(name, fields)| (name.as_str(), fields.as_slice()))
    }

    pub(crate) fn field(&self, message: &str, tag: u32) -> Option<&Field> {
        self.messages.get(message)?.iter().find(|field| field.tag == tag)
    }
}

fn read_module(module: &str, text: &str, messages: &mut BTreeMap<String, Vec<Field>>) {
    let mut oneofs: BTreeMap<String, Vec<Field>> = BTreeMap::new();
    // Fields that are a oneof, as message, module of the oneof, and the tags that the message
    // names.
    let mut uses: Vec<(String, String, Vec<u32>)> = Vec::new();
    let (mut within, mut is_message, mut attribute, mut oneof) =
        (Within::Nothing, false, None, String::new());
    for line in text.lines().take_while(|line| !line.starts_with("mod tests")).map(str::trim) {
        if line.starts_with("#[derive(") {
            is_message = line.contains("prost::Message");
        } else if let Some(declared) = line.strip_prefix("pub mod ") {
            oneof = declared.trim_end_matches(" {").to_owned();
        } else if let Some(name) = line.strip_prefix("pub struct ").filter(|_| is_message) {
            let name = format!("{module}::{}", name.split([' ', '{']).next().unwrap());
            messages.insert(name.clone(), Vec::new());
            within = if line.ends_with('}') { Within::Nothing } else { Within::Message(name) };
        } else if line == "pub enum Kind {" {
            within = Within::Oneof(oneof.clone());
        } else if line == "}" {
            within = Within::Nothing;
        } else if let Some(options) = line.strip_prefix("#[prost(").and_then(|rest| rest.strip_suffix(")]")) {
            attribute = Some(options.to_owned());
        } else if let Some(options) = attribute.take_if(|_| !line.starts_with("//")) {
            match &within {
                Within::Message(name) if options.starts_with("oneof") => {
                    let of = quoted(&options, "oneof").split("::").next().unwrap().to_owned();
                    let tags = quoted(&options, "tags").split(", ").map(|tag| tag.parse().unwrap()).collect();
                    uses.push((name.clone(), of, tags));
                }
                Within::Message(name) => {
                    messages.get_mut(name).unwrap().push(field(module, &options, line));
                }
                Within::Oneof(name) => {
                    oneofs.entry(name.clone()).or_default().push(field(module, &options, line));
                }
                Within::Nothing => {}
            }
        }
    }
    for (message, oneof, tags) in uses {
        let kinds = oneofs.remove(&oneof).expect("a oneof has its kinds beside it");
        let of_kinds: Vec<_> = kinds.iter().map(|kind| kind.tag).collect();
        assert_eq!(of_kinds, tags, "{message} names other tags than {oneof} has");
        messages.get_mut(&message).unwrap().extend(kinds);
    }
}

/// Parses `pub name: Type,` of a message or `Name(Type),` of a oneof, with its attribute.
fn field(module: &str, options: &str, line: &str) -> Field {
    let kind = options.split([',', ' ']).next().unwrap().to_owned();
    let tag = quoted(options, "tag").parse().unwrap();
    let (name, declared) = line.trim_start_matches("pub ").split_once([':', '(']).unwrap();
    let message = (kind == "message").then(|| {
        let declared = declared.trim().trim_end_matches([',', ')']);
        let declared =
            declared.trim_start_matches("Option<").trim_start_matches("Vec<").trim_end_matches('>');
        match declared.strip_prefix("crate::wire::") {
            Some(other) => other.to_owned(),
            None => format!("{module}::{}", declared.trim_start_matches("super::")),
        }
    });
    Field { tag, name: name.to_owned(), kind, message }
}

/// Returns `value` of `name = "value"`.
fn quoted<'text>(options: &'text str, name: &str) -> &'text str {
    let begin = format!("{name} = \"");
    options.split_once(&begin).and_then(|(_, rest)| rest.split_once('"')).expect(name).0
}
