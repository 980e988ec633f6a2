//! Holds names to the glossary of `docs/architecture.md`. Names that the glossary replaces must not
//! return, and a function's name has a bounded number of words.

use super::{files, is_rust, read};

/// Upper limit of the words in a function's name. A test's name states the case and the
/// expectation.
const WORDS_MAX: usize = 12;

/// The names to which a refused word applies.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// Any name of a type, module or file that contains the word, since the field has a better
    /// term.
    Any,
    /// A type's name that is only this word, since it does not say whose type it is. A module's
    /// path already says that.
    Whole,
}

/// Refused words in names of types, modules and files, each with its replacement. The table in
/// `docs/architecture.md` has the same rows.
const REFUSED: &[(&str, Part, &str)] = &[
    ("agent", Part::Whole, "what it is of an agent, such as `OrderCore`: an agent is a program"),
    ("answer", Part::Whole, "whose answer it is, such as `GatewayAnswer`"),
    ("asked", Part::Whole, "a request, such as `ServiceRequest`"),
    ("desk", Part::Any, "`core`"),
    ("door", Part::Any, "`command_socket`"),
    ("end", Part::Whole, "whose end it is, such as `RequestEnd`"),
    ("found", Part::Whole, "what was found, such as `ChargeStatus`"),
    ("gathering", Part::Any, "`batcher`"),
    ("given", Part::Whole, "what was given, such as `GivenFile`"),
    ("heard", Part::Whole, "what was heard, such as `Notifications`"),
    ("judge", Part::Any, "`verifier` of a peer, `checkers` of a promise, `comparer` of logs"),
    ("knock", Part::Any, "`incoming`"),
    ("last", Part::Whole, "the last of what, such as `LastLogged`"),
    ("limits", Part::Whole, "whose limits they are, such as `SenderLimits`"),
    ("place", Part::Whole, "what is there, such as `SortKey` or `LogFolder`"),
    ("said", Part::Whole, "what was said, such as `OperatorResult`"),
    ("sparing", Part::Any, "`rate_limit`"),
    ("till", Part::Any, "`payments`, or `gateway` for the tests' own"),
    ("told", Part::Whole, "what was told, such as `ReportedOutcome`"),
    ("weather", Part::Any, "`fault_rates`"),
    ("what", Part::Whole, "a kind of what, such as `DifferenceKind`"),
    ("whereabouts", Part::Any, "`index`"),
    ("witness", Part::Any, "`log`"),
];

/// Names that were released and are part of the byte descriptions.
const RELEASED: &[(&str, &str)] = &[("shared/protocol/src/wire/feed.rs", "Heard")];

#[test]
fn no_name_that_the_glossary_replaces_comes_back() {
    let mut offences = Vec::new();
    for path in files() {
        let own = path.rsplit('/').next().and_then(|file| file.strip_suffix(".rs"));
        let text = own.map(|_| read(&path)).unwrap_or_default();
        let declared =
            declared(&text).into_iter().filter(|(_, name)| !RELEASED.contains(&(path.as_str(), *name)));
        let names = declared.chain(own.map(|name| (1, name)));
        offences.extend(names.filter_map(|(line, name)| {
            instead_of(name).map(|instead| format!("{path}:{line}: {name}: rather {instead}"))
        }));
    }
    assert!(offences.is_empty(), "{} names\n{}", offences.len(), offences.join("\n"));
}

#[test]
fn what_the_glossary_replaces_is_found_and_nothing_else() {
    let refused = |text| declared(text).into_iter().any(|(_, name)| instead_of(name).is_some());
    for planted in [
        "pub struct Desk {",
        "    pub(super) enum Told<'a> {",
        "pub(in crate::ledger) trait Witness: Send {",
        "struct PaymentDesk(u8);",
        "mod till;",
        "pub mod peer_judge {",
        "type Answer = (StatusCode, Value);",
        "struct WHAT;",
    ] {
        assert!(refused(planted), "not refused: {planted}");
    }
    for fine in [
        "pub struct PaymentCore {",
        "enum ReportedOutcome {",
        "// struct Desk",
        "let text = \"struct Desk\";",
        "type Output = Answer;",
        "enum Output { Answer(u8) }",
        "struct Indoors;",
        "mod what_stands_there;",
        "mod answer;",
        "struct Endless;",
    ] {
        assert!(!refused(fine), "refused: {fine}");
    }
}

#[test]
fn the_page_has_the_names_that_are_refused() {
    let page = read("docs/architecture.md");
    let rows = page.split("\n### Names that are not used\n").nth(1).expect("the page has the table");
    let rows = rows.split("\n## ").next().unwrap_or_default();
    let on_page: Vec<_> = rows.lines().filter(|line| line.starts_with("| `")).collect();
    let here: Vec<_> = REFUSED
        .iter()
        .map(|(word, part, instead)| {
            let part = if *part == Part::Any { "anywhere" } else { "as a whole type" };
            format!("| `{word}` | {part} | {instead} |")
        })
        .collect();
    assert_eq!(on_page, here, "docs/architecture.md and this file name other words");
}

#[test]
fn a_function_is_named_in_at_most_twelve_words() {
    let mut offences = Vec::new();
    for path in files().into_iter().filter(|path| is_rust(path)) {
        let text = read(&path);
        let long = functions(&text).into_iter().filter(|(_, name)| name.split('_').count() > WORDS_MAX);
        offences.extend(long.map(|(line, name)| format!("{path}:{line}: {name}")));
    }
    assert!(offences.is_empty(), "{} names\n{}", offences.len(), offences.join("\n"));
    let planted =
        "#[test]\nfn a_b() {}\n    pub(crate) async fn c_d<T>() {}\n// fn e()\nlet f = |g: fn(u8)| 1;";
    assert_eq!(functions(planted), [(2, "a_b"), (3, "c_d")]);
}

/// Returns the types and modules that a text declares, each with its line.
fn declared(text: &str) -> Vec<(usize, &str)> {
    let name = |line| {
        let rest = visibility(str::trim_start(line));
        let (keyword, rest) = rest.split_once(' ')?;
        ["struct", "enum", "trait", "type", "union", "mod"].contains(&keyword).then(|| first_name(rest))
    };
    (1..).zip(text.lines()).filter_map(|(number, line)| Some((number, name(line)?))).collect()
}

/// Returns the functions that a text declares, each with its line. They include tests, and cases
/// from which a macro makes tests.
fn functions(text: &str) -> Vec<(usize, &str)> {
    let name = |line| {
        let rest = visibility(str::trim_start(line));
        rest.strip_prefix("async ").unwrap_or(rest).strip_prefix("fn ").map(first_name)
    };
    (1..).zip(text.lines()).filter_map(|(number, line)| Some((number, name(line)?))).collect()
}

/// Removes `pub`, `pub(crate)` and the like from the start of a line.
fn visibility(line: &str) -> &str {
    let Some(rest) = line.strip_prefix("pub") else { return line };
    match rest.strip_prefix('(') {
        Some(rest) => rest.split_once(") ").map_or(rest, |(_, rest)| rest),
        None => rest.trim_start(),
    }
}

fn first_name(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// Returns the replacement of a name, or `None` if the name is allowed.
fn instead_of(name: &str) -> Option<&'static str> {
    let (words, is_type) = (words(name), name.starts_with(char::is_uppercase));
    let is_refused = |(word, part, _): &&(&str, Part, &str)| match part {
        Part::Any => words.iter().any(|of_name| of_name == word),
        Part::Whole => is_type && words == [*word],
    };
    REFUSED.iter().find(is_refused).map(|(_, _, instead)| *instead)
}

/// Returns the words of a name in camel case or snake case.
fn words(name: &str) -> Vec<String> {
    if !name.contains(char::is_lowercase) {
        return name.split('_').map(str::to_lowercase).collect();
    }
    let mut words = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c.is_uppercase() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c != '_') {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
