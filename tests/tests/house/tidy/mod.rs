//! The project's rules that no lint can express, each with its reason. They are checked on every
//! file of the checkout.
//!
//! Each rule has an example that breaks it and an example that keeps it, so a rule that finds
//! nothing is noticed. This file contains the forbidden examples, so it is the only file that is
//! not checked.

#![expect(clippy::expect_used, clippy::panic, reason = "all of this is a test, its helpers included")]

/// Rules about the features of each build.
mod features;
/// Rules about names.
mod glossary;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Rules about imports between modules.
mod imports;

/// Length of the flows of an order and of a payment.
mod ways;

/// Rules about the prose of comments.
mod prose;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const LINES_MAX: usize = 700;

struct Rule {
    name: &'static str,
    why: &'static str,
    /// Returns true if the file at this path, counted from the root, is under the rule.
    covers: fn(&str) -> bool,
    /// Returns the lines that break the rule, counted from 1.
    broken: fn(&str) -> Vec<usize>,
    /// Path and text of a file that breaks the rule.
    planted: (&'static str, &'static str),
    /// Path and text of a file that keeps the rule or is not under it.
    fine: (&'static str, &'static str),
}

const RULES: &[Rule] = &[
    Rule {
        name: "only the ledger, the stores of payments and launches, the catalogue and the database speak SQL",
        why: "an order's effect is decided in one place, what may be published in another, and nowhere else",
        covers: |path| {
            let may = ["database/", "orders/store/", "payments/store/", "catalogue/", "launches/store"]
                .map(|room| format!("bridge-idc/src/{room}"));
            is_rust(path) && !may.iter().any(|room| path.starts_with(room)) && !path.starts_with("tests/")
        },
        broken: |text| code_lines(text, |line| names(line, "sqlx")),
        planted: ("bridge-idc/src/vault/mod.rs", "use sqlx::Row;"),
        fine: ("bridge-idc/src/orders/store/mod.rs", "use sqlx::Row;"),
    },
    Rule {
        name: "the database is the floor: it knows nothing of the rooms above it",
        why: "connections, transactions and errors are the same for orders, payments and the catalogue, and a circle is two rooms in one",
        covers: |path| is_rust(path) && path.starts_with("bridge-idc/src/database/"),
        broken: |text| {
            code_lines(text, |line| {
                line.match_indices("crate::").any(|(at, _)| !line[at..].starts_with("crate::database"))
            })
        },
        planted: ("bridge-idc/src/database/error.rs", "use crate::payments::audit::Log;"),
        fine: ("bridge-idc/src/database/error.rs", "use crate::database::Held;"),
    },
    Rule {
        name: "only the floor chooses between databases by a type of its own",
        why: "a third database is then one more folder, and no second list of databases to be found and kept equal",
        covers: |path| {
            let own = "bridge-idc/src/database/";
            is_rust(path) && path.starts_with("bridge-idc/src/") && !path.starts_with(own)
        },
        broken: |text| {
            let variant = |line: &str| {
                ["Postgres(", "Postgres {", "Postgres,"].iter().any(|one| line.trim_start().starts_with(one))
            };
            code_lines(text, variant)
        },
        planted: (
            "bridge-idc/src/catalogue/source.rs",
            "enum Reader {\n    Postgres(Open<Postgres>),\n    Sqlite(Open<Sqlite>),\n}",
        ),
        fine: (
            "bridge-idc/src/catalogue/source.rs",
            "        on_database!(database, database => database.pool.close().await)",
        ),
    },
    Rule {
        name: "no room asks which database it is on",
        why: "what differs is a function of the floor, or a trait that a room's folder for each database implements",
        covers: |path| {
            let own = "bridge-idc/src/database/";
            is_rust(path) && path.starts_with("bridge-idc/src/") && !path.starts_with(own)
        },
        broken: |text| {
            let variants = ["Database::Postgres", "Database::Sqlite"];
            code_lines(text, |line| variants.iter().any(|variant| line.contains(variant)))
        },
        planted: (
            "bridge-idc/src/catalogue/source.rs",
            "        match database {\n            Database::Postgres(pool) => {}\n        }",
        ),
        fine: (
            "bridge-idc/src/catalogue/source.rs",
            "        // As Database::Postgres has it.\n        on_database!(database, database => database.head().await)",
        ),
    },
    Rule {
        name: "the reference model shares no code with what it judges",
        why: "a mistake in a planner, a codec or a key's derivation that both sides share is seen by nobody",
        covers: |path| is_rust(path) && path.starts_with("tests/src/sim/reference/"),
        broken: |text| {
            let shared = ["bridge_protocol", "bridge_idc", "bridge_cloud", "bridge_runtime"];
            code_lines(text, |line| shared.iter().any(|name| names(line, name)))
        },
        planted: ("tests/src/sim/reference/receipt.rs", "use bridge_protocol::receipt;"),
        fine: ("tests/src/sim/world/cloud.rs", "use bridge_protocol::receipt::Verifier;"),
    },
    Rule {
        name: "harness and simulation know nothing of the commands above them",
        why: "tests and commands are built of them, and a circle is two rooms in one",
        covers: |path| is_rust(path) && within(path, &["tests/src/testkit/", "tests/src/sim/"]),
        broken: |text| code_lines(text, |line| line.contains("crate::tools")),
        planted: ("tests/src/testkit/site.rs", "use crate::tools::demo::Options;"),
        fine: ("tests/src/tools/demo/mod.rs", "use crate::tools::command::Usage;"),
    },
    Rule {
        name: "only the transport knows QUIC and TLS",
        why: "TCP is beside QUIC, and what is above a lane must not notice",
        covers: |path| {
            let may = ["shared/runtime/src/transport/", "shared/runtime/tests/", "certs/tests/", "tests/"];
            is_rust(path) && !within(path, &may)
        },
        broken: |text| {
            code_lines(text, |line| {
                ["quinn", "quinn_proto", "rustls", "tokio_rustls", "webpki"]
                    .iter()
                    .any(|name| names(line, name))
            })
        },
        planted: (
            "shared/runtime/src/tunnel/link.rs",
            "//! Links.\nfn close(connection: &quinn::Connection) {}",
        ),
        fine: (
            "shared/runtime/src/tunnel/link.rs",
            "let level = \"quinn=info\"; // rustls says more\nuse rustls_pki_types::pem;",
        ),
    },
    Rule {
        name: "only sealing and the vault encrypt",
        why: "whoever reviews the cryptography reads these two folders and nothing else",
        covers: |path| {
            is_rust(path) && !within(path, &["shared/protocol/src/seal/", "bridge-idc/src/vault/", "tests/"])
        },
        broken: |text| code_lines(text, |line| ["hpke", "aes_gcm"].iter().any(|name| names(line, name))),
        planted: ("bridge-cloud/src/seal.rs", "type Cipher = aes_gcm::Aes256Gcm;"),
        fine: ("shared/protocol/src/seal/mod.rs", "use aes_gcm::Aes256Gcm;"),
    },
    Rule {
        name: "the protocol's manifest has nothing that touches the world",
        why: "the same code runs in the agents, under the fuzzer and in the simulation, where one seed decides all",
        covers: |path| path == "shared/protocol/Cargo.toml",
        broken: |text| {
            const WORLDLY: [&str; 14] = [
                "tokio",
                "rand",
                "rand_chacha",
                "getrandom",
                "socket2",
                "rustix",
                "sqlx",
                "quinn",
                "rustls",
                "hyper",
                "axum",
                "reqwest",
                "tempfile",
                "bridge-runtime",
            ];
            lines(text, |line| WORLDLY.contains(&line.split([' ', '.', '=']).next().unwrap_or_default()))
        },
        planted: ("shared/protocol/Cargo.toml", "[dependencies]\nrand.workspace = true"),
        fine: ("shared/protocol/Cargo.toml", "[dependencies]\nrand_core.workspace = true\nprost = \"1\""),
    },
    Rule {
        name: "the protocol reads no clock and touches no disk, socket, environment or thread",
        why: "time and random bytes come in as arguments: what the standard library offers is no exception",
        covers: |path| is_rust(path) && path.starts_with("shared/protocol/src/"),
        broken: |text| {
            const WORLDLY: [&str; 7] =
                ["std::fs", "std::net", "std::env", "std::thread", "std::process", "SystemTime", "::now("];
            code_lines(text, |line| WORLDLY.iter().any(|name| line.contains(name)) || names(line, "Instant"))
        },
        planted: ("shared/protocol/src/merkle.rs", "let now = jiff::Timestamp::now();"),
        fine: ("shared/protocol/src/merkle.rs", "/// Unlike std::time::Instant.\nuse std::time::Duration;"),
    },
    Rule {
        name: "a field of a request is read as one value or as a list",
        why: "HeaderMap::get takes the first line of whatever there is; `fields` knows which fields stand once and joins the others",
        covers: |path| {
            let own = "shared/runtime/src/fields.rs";
            is_rust(path) && within(path, &["bridge-cloud/src/", "bridge-idc/src/", "shared/"]) && path != own
        },
        broken: |text| {
            let reads = ["headers.get(", "headers.get_all(", "headers().get(", "headers().get_all("];
            code_lines(text, |line| reads.iter().any(|read| line.contains(read)))
        },
        planted: ("bridge-cloud/src/storefront/router.rs", "let id = request.headers().get(REQUEST_ID);"),
        fine: ("bridge-cloud/src/storefront/router.rs", "let id = fields::single(headers, &REQUEST_ID)?;"),
    },
    Rule {
        name: "an agent prints nothing by macro",
        why: "println! panics when nobody reads; what an agent says goes through tracing or a writer whose error counts",
        covers: |path| is_rust(path) && within(path, &["bridge-cloud/src/", "bridge-idc/src/", "shared/"]),
        broken: |text| {
            let macros = ["println!", "eprintln!", "print!", "eprint!", "dbg!"];
            code_lines(text, |line| macros.iter().any(|name| line.trim_start().starts_with(name)))
        },
        planted: ("bridge-idc/src/orders/driver.rs", "    println!(\"{order}\");"),
        fine: ("bridge-idc/src/orders/driver.rs", "    /// println!(\"{order}\");\n    writeln!(out)?;"),
    },
    Rule {
        name: "a command writes to one standard output",
        why: "bridge_console::out tells a reader that went away (`| head`) apart from a fault; std's does not",
        covers: |path| {
            is_rust(path)
                && within(
                    path,
                    &["bridge-cloud/src/", "bridge-idc/src/", "shared/runtime/src/", "certs/src/"],
                )
        },
        broken: |text| code_lines(text, |line| line.contains("stdout()")),
        planted: ("bridge-idc/src/cli/mod.rs", "    let mut out = io::stdout();"),
        fine: ("shared/console/src/output.rs", "    Output(io::stdout())"),
    },
    Rule {
        name: "a file opens with its purpose",
        why: "a newcomer learns from the first lines what a file is for and what it never does",
        covers: is_rust,
        broken: |text| if text.starts_with("//! ") { Vec::new() } else { vec![1] },
        planted: ("certs/src/ca.rs", "use std::fmt;\n//! Late."),
        fine: ("certs/src/ca.rs", "//! The authority."),
    },
    Rule {
        name: "a file has one concern",
        why: "a file that needs more lines than this has two, and the centre of a state machine is where it begins",
        covers: is_rust,
        broken: |text| if text.lines().count() > LINES_MAX { vec![LINES_MAX + 1] } else { Vec::new() },
        planted: ("certs/src/ca.rs", include_str!("../../../../Cargo.lock")),
        fine: ("certs/src/ca.rs", "//! The authority."),
    },
    Rule {
        name: "nothing is left for later in a comment",
        why: "what is to be done is an issue that somebody sees, or it is done",
        covers: |path| path != "Cargo.lock",
        broken: |text| lines(text, |line| ["TODO", "FIXME", "XXX"].iter().any(|mark| names(line, mark))),
        planted: ("README.md", "TODO: say more"),
        fine: ("README.md", "XXXL is a size"),
    },
    Rule {
        name: "a comment is at most 100 columns wide",
        why: "prose is read line by line, and a wider line is hard to follow",
        covers: prose::is_held,
        broken: prose::wide_comments,
        planted: (
            "shared/runtime/src/clock.rs",
            "fn now() {\n    // A line of prose that is read from its first word to its last one, without one jump of an eye...\n}",
        ),
        fine: (
            "shared/runtime/src/clock.rs",
            "    // A line of prose that is read from its first word to its last one, without one jump of an eye.\n    call(\"code may be wider, also with // in a text that goes on and on until it is too wide for prose to be\");",
        ),
    },
    Rule {
        name: "documentation does not open with a question word",
        why: "it says what a thing is or does; \"What is read\" is a riddle whose answer the reader has to find",
        covers: prose::is_held,
        broken: prose::opening_questions,
        planted: ("certs/src/ca.rs", "//! The authority.\n\n/// Whether it holds now.\nfn holds() -> bool;"),
        fine: (
            "certs/src/ca.rs",
            "//! The authority.\n//! What it signs is an agent's.\n\n// How it is done.\n/// Returns true if it holds now.\n///\n/// # Errors\nfn holds();",
        ),
    },
    Rule {
        name: "a lint is expected, not allowed",
        why: "#[expect] says so when it is not needed any more; #[allow] stays for ever. Clippy asks for the reason",
        covers: is_rust,
        // Each test program uses only a part of a shared module, so `expect` would be unfulfilled
        // in some.
        broken: |text| {
            code_lines(text, |line| line.contains("[allow(") && !line.contains("[allow(dead_code, reason"))
        },
        planted: ("certs/src/ca.rs", "#[allow(clippy::unwrap_used, reason = \"brave\")]"),
        fine: ("certs/src/ca.rs", "#[expect(clippy::unwrap_used, reason = \"proven above\")]"),
    },
    Rule {
        name: "no test is ignored",
        why: "a test that does not run holds nothing, and looks as if it did",
        covers: is_rust,
        broken: |text| code_lines(text, |line| line.trim_start().starts_with("#[ignore")),
        planted: ("certs/tests/cli.rs", "#[test]\n#[ignore = \"slow\"]"),
        fine: ("certs/tests/cli.rs", "#[test]"),
    },
    Rule {
        name: "a test that cannot run says so by the one way that is counted",
        why: "a test that prints a line and returns looks as if it had passed",
        covers: |path| is_rust(path) && path != "tests/skips/src/lib.rs",
        broken: |text| lines(text, |line| line.contains("ln!(") && line.contains("skipped:")),
        planted: ("tests/tests/storefront/reads.rs", "println!(\"skipped: no data\");\nreturn Ok(());"),
        fine: ("tests/tests/storefront/reads.rs", "skipped(Lack::Data, \"no data\");\nreturn Ok(());"),
    },
    Rule {
        name: "a test's name is a sentence",
        why: "the list of tests is the list of what holds, and a red one says what does not",
        covers: is_rust,
        broken: unspoken_tests,
        planted: ("certs/src/ca.rs", "#[test]\nfn test_serial() {}"),
        fine: ("certs/src/ca.rs", "#[tokio::test]\nasync fn a_serial_is_never_reused() {}\nfn helper() {}"),
    },
    Rule {
        name: "no file knows the machine it was written on",
        why: "a fresh clone works in any folder, on any machine",
        covers: |_| true,
        broken: |text| {
            lines(text, |line| ["/home/", "/root/", "/Users/", "/tmp/"].iter().any(|dir| absolute(line, dir)))
        },
        planted: ("tests/src/testkit/site.rs", "const DATA: &str = \"/home/kim/bridge/data\";"),
        fine: (
            "tests/src/testkit/site.rs",
            "const DATA: &str = \"../shared/data/home/\"; // http://host/tmp/",
        ),
    },
    Rule {
        name: "every crate is under the workspace's lints",
        why: "they are switched on crate by crate, and a crate without them compiles just as well",
        covers: |path| path.ends_with("/Cargo.toml"),
        broken: |text| if text.contains("[lints]\nworkspace = true\n") { Vec::new() } else { vec![1] },
        planted: ("certs/Cargo.toml", "[package]\nname = \"bridge-certs\"\n"),
        fine: ("certs/Cargo.toml", "[package]\n\n[lints]\nworkspace = true\n"),
    },
];

#[test]
fn every_file_keeps_every_rule() {
    let mut offences = Vec::new();
    for path in files() {
        let Ok(text) = fs::read_to_string(Path::new(ROOT).join(&path)) else { continue };
        for rule in RULES.iter().filter(|rule| (rule.covers)(&path)) {
            let lines = (rule.broken)(&text).into_iter();
            offences
                .extend(lines.map(|line| format!("{path}:{line}: {}\n    because {}", rule.name, rule.why)));
        }
    }
    assert!(offences.is_empty(), "{} offences\n{}", offences.len(), offences.join("\n"));
}

#[test]
fn every_rule_finds_what_is_planted_and_nothing_else() {
    let breaks =
        |rule: &Rule, (path, text): (&str, &str)| (rule.covers)(path) && !(rule.broken)(text).is_empty();
    for rule in RULES {
        assert!(breaks(rule, rule.planted), "{}: the planted text is not found", rule.name);
        assert!(!breaks(rule, rule.fine), "{}: a fine text is found", rule.name);
    }
}

#[test]
fn no_room_of_the_idc_agent_imports_what_imports_it() {
    let root = "bridge-idc/src/";
    let paths = files().into_iter().filter(|path| path.starts_with(root) && is_rust(path));
    let rooms = imports(paths.map(|path| (path[root.len()..].to_owned(), read(&path))));
    assert!(rooms.len() > 10 && rooms["orders"].contains("database"), "the imports are not read: {rooms:?}");
    assert_eq!(in_a_circle(rooms), BTreeMap::new(), "a circle is two rooms in one");
    let planted =
        [("orders/mod.rs", "use crate::payments::store;"), ("payments/mod.rs", "use crate::orders::store;")];
    let planted = imports(planted.map(|(path, text)| (path.to_owned(), text.to_owned())).into_iter());
    assert_eq!(in_a_circle(planted).len(), 2);
    let fine = [
        ("orders/mod.rs", "use crate::payments::store;"),
        ("payments.rs", "#[cfg(test)]\nuse crate::orders;"),
    ];
    let fine = imports(fine.map(|(path, text)| (path.to_owned(), text.to_owned())).into_iter());
    assert_eq!(in_a_circle(fine).len(), 0);
}

#[test]
fn every_place_that_the_pages_name_is_there() {
    for page in ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/decisions.md"] {
        let gone: Vec<_> =
            places(&read(page)).into_iter().filter(|place| !Path::new(ROOT).join(place).exists()).collect();
        assert!(gone.is_empty(), "{page} names what is not there: {gone:?}");
    }
    assert!(places(&read("docs/architecture.md")).len() > 40, "the map is not read");
    let planted = "`tests/no.rs` `a thing`\n## The code\n```\ncerts/   x\n  no/  x\n```\n";
    assert_eq!(places(planted), ["tests/no.rs", "certs/", "certs/no/"]);
}

#[test]
fn the_readme_is_read_in_five_minutes() {
    let words = read("README.md").split_whitespace().count();
    assert!(words <= 900, "README.md has {words} words; a page of docs/ has room for more");
}

#[test]
fn no_banned_crate_is_locked_and_every_ban_has_a_reason() {
    let locked = locked();
    let mut found = Vec::new();
    for (name, below, reason) in bans() {
        assert!(!reason.is_empty(), "{name} is banned without a reason");
        let versions = locked.get(&name).into_iter().flatten();
        found.extend(
            versions
                .filter(|version| below.as_ref().is_none_or(|below| *version < below))
                .map(|_| name.clone()),
        );
    }
    // Some crates' features name it, but no build enables them. `cargo verify` checks that.
    assert_eq!(found, ["ring"]);
}

#[test]
fn every_crate_comes_from_crates_io_or_from_here() {
    for package in packages() {
        let source = package.get("source").and_then(toml::Value::as_str);
        let known =
            source.is_none_or(|source| source == "registry+https://github.com/rust-lang/crates.io-index");
        assert!(known, "{package}");
        let ours = package["name"].as_str().is_some_and(|name| name.starts_with("bridge-"));
        assert_eq!(source.is_none(), ours, "{package}");
    }
}

#[test]
fn every_command_of_the_project_is_a_program_of_it() {
    let config: toml::Table = read(".cargo/config.toml").parse().expect("TOML");
    for (name, alias) in config["alias"].as_table().expect("a table") {
        let words: Vec<_> = alias.as_str().expect("a text").split(' ').collect();
        let program =
            words.iter().skip_while(|word| **word != "--bin").nth(1).expect("the alias runs a program");
        assert_eq!(program, name, "an alias is named as its program");
        assert!(
            Path::new(ROOT).join(format!("tests/src/bin/{program}.rs")).exists(),
            "{program} is not there"
        );
    }
    let ci = Path::new(ROOT).join(".ci/run");
    assert_eq!(
        fs::metadata(ci).expect(".ci/run exists").permissions().mode() & 0o111,
        0o111,
        ".ci/run is executable"
    );
}

#[test]
fn every_dependency_is_used() {
    let files = files();
    for manifest in files.iter().filter(|path| path.ends_with("/Cargo.toml")) {
        let folder = manifest.trim_end_matches("Cargo.toml");
        let parts = ["src/", "tests/"].map(|part| format!("{folder}{part}"));
        let sources = files.iter().filter(|path| within(path, &parts.each_ref().map(String::as_str)));
        let sources: String = sources.map(|path| read(path)).collect();
        for library in libraries(manifest) {
            let used = sources.lines().any(|line| names(line, &library));
            assert!(used, "{manifest}: nothing uses {library}");
        }
    }
}

/// Returns the libraries that a package's code may name, from its manifest. The result is empty for
/// `shared/features`, whose dependencies serve only their features.
fn libraries(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = read(manifest).parse().expect("TOML");
    if manifest["package"]["name"].as_str() == Some("bridge-features") {
        return Vec::new();
    }
    let kinds =
        ["dependencies", "dev-dependencies"].map(|kind| manifest.get(kind).and_then(toml::Value::as_table));
    let crates =
        kinds.into_iter().flatten().flat_map(toml::Table::keys).filter(|name| *name != "bridge-features");
    // One crate's library has another name than the crate.
    crates.map(|name| name.replace("rustls-webpki", "webpki").replace('-', "_")).collect()
}

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

fn within(path: &str, folders: &[&str]) -> bool {
    folders.iter().any(|folder| path.starts_with(folder))
}

/// Returns the imports between the rooms of a crate, which are the folders and files at its root.
/// Tests may import any room, so they are left out.
fn imports(files: impl Iterator<Item = (String, String)>) -> BTreeMap<String, BTreeSet<String>> {
    let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in files.filter(|(path, _)| !path.ends_with("tests.rs")) {
        let room = path.split(['/', '.']).next().unwrap_or_default().to_owned();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code = code.lines().map(|line| line.split("//").next().unwrap_or_default());
        let named = code.flat_map(|line| line.split("crate::").skip(1)).map(|behind| {
            behind.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned()
        });
        let named: BTreeSet<String> = named.filter(|named| *named != room).collect();
        rooms.entry(room).or_default().extend(named);
    }
    rooms
}

/// Returns the rooms that are in a circle of imports or that import such a room.
fn in_a_circle(mut rooms: BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    loop {
        let before = rooms.len();
        let left: BTreeSet<String> = rooms.keys().cloned().collect();
        rooms.retain(|_, named| !named.is_disjoint(&left));
        if rooms.len() == before {
            return rooms;
        }
    }
}

fn lines(text: &str, mut breaks: impl FnMut(&str) -> bool) -> Vec<usize> {
    text.lines().zip(1..).filter(|(line, _)| breaks(line)).map(|(_, number)| number).collect()
}

/// Returns the matching lines as [`lines`] does, but ignores comments and string contents.
fn code_lines(text: &str, breaks: impl Fn(&str) -> bool) -> Vec<usize> {
    lines(text, |line| breaks(&code_of(line)))
}

/// Returns a line without its comment and without the contents of strings.
fn code_of(line: &str) -> String {
    let unquoted = line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    unquoted.split("//").next().unwrap_or_default().to_owned()
}

/// Returns true if `word` is in the line as a whole word.
fn names(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(part_of_word) && !line[at + word.len()..].starts_with(part_of_word)
    })
}

/// Returns true if the line has a path that begins with `folder`. A path that only passes through
/// it does not count.
fn absolute(line: &str, folder: &str) -> bool {
    line.match_indices(folder)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || ".-_}*".contains(c)))
}

/// Returns the lines of tests whose names have fewer than three words.
fn unspoken_tests(text: &str) -> Vec<usize> {
    let mut is_test = false;
    lines(text, |line| {
        let line = line.trim_start();
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let Some((_, name)) = line.split_once("fn ").filter(|_| is_test && !line.starts_with("//")) else {
            return false;
        };
        is_test = false;
        name.split('(').next().unwrap_or_default().split('_').count() < 3
    })
}

/// Returns the paths that a page names: those in backticks, and the folders of its code map.
/// Another test checks its links.
fn places(page: &str) -> Vec<String> {
    let quoted = page.split('`').skip(1).step_by(2).filter(|quoted| {
        within(quoted, &["bridge-cloud/", "bridge-idc/", "shared/", "certs/", "tests/", "docs/", "deploy/"])
            && !quoted.contains(char::is_whitespace)
    });
    let mut places: Vec<String> = quoted.map(str::to_owned).collect();
    let map =
        page.split("\n## The code\n").nth(1).and_then(|rest| rest.split("```\n").nth(1)).unwrap_or_default();
    let mut parent = "";
    for line in map.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if !line.starts_with(' ') {
            parent = first;
            places.push(first.to_owned());
        } else if first.ends_with('/') {
            let source = if parent.starts_with("shared/") { "src/" } else { "" };
            places.push(format!("{parent}{source}{first}"));
        }
    }
    places
}

/// Returns the path of every file of the checkout, without build output and Git's own folder.
fn files() -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from(ROOT)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            if path.is_dir() {
                folders.extend((name != "target" && name != ".git").then_some(path));
            } else {
                files.push(
                    path.strip_prefix(ROOT)
                        .expect("the path is below the root")
                        .to_string_lossy()
                        .into_owned(),
                );
            }
        }
    }
    files.retain(|path| path != "tests/tests/house/tidy/mod.rs");
    assert!(files.len() > 50, "only {} files are read", files.len());
    files.sort();
    files
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn packages() -> Vec<toml::Value> {
    let lock: toml::Table = read("Cargo.lock").parse().expect("TOML");
    lock["package"].as_array().expect("packages").clone()
}

/// Returns every locked version by the crate's name.
fn locked() -> BTreeMap<String, Vec<Vec<u64>>> {
    let mut locked = BTreeMap::<_, Vec<_>>::new();
    for package in packages() {
        let text = |key: &str| package[key].as_str().expect("a text").to_owned();
        locked.entry(text("name")).or_default().push(version(&text("version")));
    }
    locked
}

/// Returns the bans of deny.toml: name, first version that is not banned if there is one, and
/// reason.
fn bans() -> Vec<(String, Option<Vec<u64>>, String)> {
    let deny: toml::Table = read("deny.toml").parse().expect("TOML");
    let ban = |ban: &toml::Value| {
        let text = |key: &str| ban.get(key).and_then(toml::Value::as_str).unwrap_or_default();
        let (name, below) = match text("crate").split_once(":<") {
            Some((name, below)) => (name, Some(version(below))),
            None => (text("crate"), None),
        };
        (name.to_owned(), below, text("reason").to_owned())
    };
    deny["bans"]["deny"].as_array().expect("bans").iter().map(ban).collect()
}

/// Returns major, minor and patch, the only parts that a ban compares.
fn version(text: &str) -> Vec<u64> {
    let numbers = text.split(['+', '-']).next().unwrap_or_default().split('.');
    numbers.map(|number| number.parse().expect("a number")).collect()
}
