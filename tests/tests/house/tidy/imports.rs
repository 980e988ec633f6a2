//! Checks imports. No parts of a folder import each other in a circle, and for three crates a table
//! says what each part may import.
//!
//! A folder's first file (`mod.rs` or `lib.rs`) belongs to the folder. Imports between that file
//! and the folder's parts are not checked.

use std::collections::{BTreeMap, BTreeSet};

use super::{code_of, files, read};

/// Crates in which no folder has parts that import each other.
const WITHOUT_CIRCLES: [&str; 6] = [
    "bridge-cloud/src",
    "bridge-idc/src",
    "certs/src",
    "shared/console/src",
    "shared/protocol/src",
    "shared/runtime/src",
];

/// The parts of a crate from the lowest floor to the highest, each with the lower parts that it
/// imports.
type Floors = &'static [(&'static str, &'static [&'static str])];

const CLOUD: Floors = &[
    ("admission", &[]),
    ("body_mark", &[]),
    ("config", &[]),
    ("metrics", &[]),
    ("data_centre", &["metrics"]),
    ("replica", &["metrics"]),
    ("currencies", &["replica"]),
    ("order_link", &["admission", "data_centre", "metrics"]),
    ("seal", &["admission", "body_mark", "metrics", "order_link"]),
    ("storefront/audit", &[]),
    ("storefront/paths", &[]),
    ("storefront/problem", &["admission"]),
    ("storefront/state", &["body_mark", "config", "metrics", "order_link", "seal"]),
    ("storefront/connection", &["config", "metrics"]),
    ("storefront/reads", &["metrics", "replica", "storefront/problem"]),
    ("storefront/request", &["storefront/connection", "storefront/problem", "storefront/state"]),
    (
        "storefront/write",
        &[
            "admission",
            "order_link",
            "seal",
            "storefront/audit",
            "storefront/problem",
            "storefront/request",
            "storefront/state",
        ],
    ),
    (
        "storefront/orders",
        &["storefront/problem", "storefront/request", "storefront/state", "storefront/write"],
    ),
    (
        "storefront/payments",
        &["admission", "storefront/problem", "storefront/request", "storefront/state", "storefront/write"],
    ),
    (
        "storefront/refunds",
        &[
            "storefront/payments",
            "storefront/problem",
            "storefront/request",
            "storefront/state",
            "storefront/write",
        ],
    ),
    ("storefront/openapi", &["storefront/paths", "storefront/problem", "storefront/reads"]),
    (
        "storefront/router",
        &[
            "metrics",
            "storefront/openapi",
            "storefront/orders",
            "storefront/paths",
            "storefront/payments",
            "storefront/problem",
            "storefront/refunds",
            "storefront/request",
            "storefront/state",
        ],
    ),
    (
        "storefront/front",
        &[
            "metrics",
            "storefront/connection",
            "storefront/problem",
            "storefront/reads",
            "storefront/request",
            "storefront/state",
        ],
    ),
    (
        "storefront/listener",
        &[
            "body_mark",
            "config",
            "replica",
            "seal",
            "storefront/connection",
            "storefront/front",
            "storefront/reads",
            "storefront/router",
            "storefront/state",
        ],
    ),
    ("storefront", &["storefront/listener", "storefront/state"]),
    ("serve", &["config", "currencies", "data_centre", "metrics", "order_link", "replica", "storefront"]),
    ("cli", &["config", "currencies", "serve"]),
    ("main", &[]),
];

const RUNTIME: Floors = &[
    ("accept", &[]),
    ("address", &[]),
    ("beside", &[]),
    ("clock", &[]),
    ("fields", &[]),
    ("folder", &[]),
    ("hardening", &[]),
    ("open_files", &[]),
    ("owner", &[]),
    ("private", &[]),
    ("status_page", &[]),
    ("whole_file", &["folder"]),
    ("config", &["beside", "private"]),
    ("telemetry", &["config"]),
    ("expiry", &["clock", "telemetry"]),
    ("reloaded_files", &["telemetry"]),
    ("shutdown", &["telemetry"]),
    ("admin", &["clock", "expiry", "fields", "shutdown", "telemetry"]),
    ("cli", &["admin", "status_page"]),
    (
        "audit_log",
        &[
            "accept",
            "beside",
            "cli",
            "clock",
            "config",
            "folder",
            "owner",
            "private",
            "telemetry",
            "whole_file",
        ],
    ),
    ("transport", &["accept", "address", "clock", "config", "telemetry", "whole_file"]),
    ("identity", &["clock", "config", "expiry", "private", "reloaded_files", "telemetry", "transport"]),
    ("tunnel", &["audit_log", "clock", "config", "expiry", "identity", "shutdown", "telemetry", "transport"]),
    ("check", &["audit_log", "config", "folder", "tunnel"]),
];

/// The parts of bridge-idc. A folder's own name stands for what its `mod.rs` declares, such as the
/// types of payments.
const IDC: Floors = &[
    ("database", &[]),
    ("decimal", &[]),
    ("metrics", &[]),
    ("import_file", &["database"]),
    ("vault", &["database"]),
    ("payments/model", &[]),
    ("payments", &["payments/model"]),
    ("payments/end", &["payments"]),
    ("payments/gateway", &["decimal", "payments"]),
    ("payments/policy", &["payments/gateway"]),
    ("payments/store", &["database", "payments", "payments/policy"]),
    ("payments/audit", &["database", "payments", "payments/end", "payments/store"]),
    ("payments/operator", &["database", "payments/audit", "payments/store"]),
    ("payments/core", &["payments", "payments/end", "vault"]),
    (
        "payments/service",
        &[
            "database",
            "metrics",
            "payments",
            "payments/audit",
            "payments/core",
            "payments/end",
            "payments/gateway",
            "payments/policy",
            "payments/store",
        ],
    ),
    (
        "payments/reconcile",
        &[
            "metrics",
            "payments",
            "payments/audit",
            "payments/gateway",
            "payments/policy",
            "payments/service",
            "payments/store",
        ],
    ),
    ("payments/webhook", &["metrics", "payments/gateway", "payments/service"]),
    ("payments/config", &["payments/gateway", "payments/service"]),
    (
        "payments/driver",
        &["metrics", "payments/core", "payments/end", "payments/gateway", "payments/service", "vault"],
    ),
    ("orders", &[]),
    ("orders/audit_gate", &[]),
    ("orders/outage", &[]),
    ("orders/unopened", &[]),
    ("orders/planner", &["vault"]),
    ("orders/open", &["orders/planner", "vault"]),
    ("orders/store", &["database", "orders/planner", "payments", "payments/store", "vault"]),
    ("launches", &["database", "orders/store"]),
    ("orders/log_entry", &["orders/planner", "orders/store"]),
    ("orders/receipt", &["orders/store"]),
    ("orders/traces", &["orders/store"]),
    (
        "orders/core",
        &[
            "orders/audit_gate",
            "orders/log_entry",
            "orders/open",
            "orders/planner",
            "orders/receipt",
            "orders/store",
            "orders/unopened",
            "vault",
        ],
    ),
    ("orders/denied", &["orders/core", "orders/store"]),
    (
        "orders/driver",
        &[
            "metrics",
            "orders/audit_gate",
            "orders/core",
            "orders/denied",
            "orders/open",
            "orders/outage",
            "orders/planner",
            "orders/store",
            "orders/traces",
            "payments/driver",
            "vault",
        ],
    ),
    ("catalogue/columns", &[]),
    ("catalogue/round", &[]),
    ("catalogue/rows", &["database"]),
    ("catalogue", &["catalogue/columns", "catalogue/rows", "database", "orders/store"]),
    ("catalogue/numbers", &["catalogue/round", "database"]),
    ("catalogue/source", &["catalogue", "catalogue/columns", "catalogue/rows", "database"]),
    (
        "catalogue/postgres",
        &["catalogue/columns", "catalogue/numbers", "catalogue/round", "catalogue/source", "database"],
    ),
    (
        "catalogue/sqlite",
        &["catalogue/columns", "catalogue/numbers", "catalogue/round", "catalogue/source", "database"],
    ),
    ("catalogue/sequencer", &["catalogue", "catalogue/numbers", "catalogue/round", "database"]),
    ("catalogue/publish", &["catalogue", "catalogue/sequencer", "metrics"]),
    ("catalogue/import", &["catalogue", "database", "decimal", "import_file", "orders/store"]),
    ("catalogue/export", &["catalogue", "database"]),
    ("config", &["database", "payments/config"]),
    ("compare", &["orders/store", "payments"]),
    ("served_before", &["config", "orders/store"]),
    (
        "readiness",
        &["catalogue/sequencer", "orders/core", "orders/denied", "orders/driver", "orders/store", "vault"],
    ),
    (
        "serve",
        &[
            "catalogue",
            "catalogue/publish",
            "catalogue/sequencer",
            "config",
            "metrics",
            "orders/core",
            "orders/denied",
            "orders/driver",
            "orders/store",
            "payments/config",
            "payments/driver",
            "payments/service",
            "payments/webhook",
            "readiness",
            "served_before",
            "vault",
        ],
    ),
    (
        "cli",
        &[
            "catalogue",
            "catalogue/import",
            "compare",
            "config",
            "import_file",
            "launches",
            "orders/store",
            "payments",
            "payments/audit",
            "payments/operator",
            "payments/store",
            "serve",
            "vault",
        ],
    ),
    ("main", &[]),
];

const TABLES: [(&str, Floors); 3] =
    [("bridge-cloud/src", CLOUD), ("bridge-idc/src", IDC), ("shared/runtime/src", RUNTIME)];

/// The modules of a crate by path (`a/b`; the root is empty), each with the modules of the same
/// crate that it imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn neighbours_in_a_folder_do_not_import_in_a_circle() {
    for source in WITHOUT_CIRCLES {
        let imports = imports(&modules(source));
        assert!(imports.len() > 1, "{source} is not read");
        let circles = circles(&imports);
        assert!(circles.is_empty(), "in {source} these import each other: {circles:#?}");
    }
}

#[test]
fn each_part_imports_what_its_table_says_and_only_lower_floors() {
    for (source, floors) in TABLES {
        let offences = offences(&imports(&modules(source)), floors);
        assert!(offences.is_empty(), "{source}: {offences:#?}");
    }
}

#[test]
fn a_circle_is_found_where_it_is_planted_and_nowhere_else() {
    let planted = [
        ("router", "use super::orders::{self, submit};"),
        ("orders", "fn place() {\n    crate::openapi::write();\n}"),
        ("openapi", "use super::problem::Kind;"),
        ("openapi/paths", "use crate::router::PLACE;"),
        ("problem", ""),
    ];
    let all = ["openapi", "orders", "router"].map(str::to_owned);
    assert_eq!(circles(&imports(&planted.map(module).into())), [BTreeSet::from(all)]);
    let fine = [
        ("router", "use super::{\n    orders::{submit as place, Cancel},\n    problem,\n};"),
        ("orders", "// crate::router\nconst S: &str = \"crate::router\";\npub(in crate::router) fn a() {}"),
        ("problem", "#[cfg(test)]\nmod tests {\n    use crate::router;\n}"),
        ("reads", "mod view;\nuse view::View;"),
        ("reads/view", "use super::Reads;"),
    ];
    assert_eq!(circles(&imports(&fine.map(module).into())), Vec::<BTreeSet<String>>::new());
}

#[test]
fn an_unlisted_import_is_found_and_so_is_an_unneeded_one() {
    let floors: Floors = &[("low", &[]), ("high", &["low"])];
    let of = |low: &'static str, high: &'static str| {
        offences(&imports(&[("low", low), ("high/part", high)].map(module).into()), floors)
    };
    assert_eq!(of("", "use crate::low::Low;"), [""; 0]);
    assert_eq!(of("use crate::high::part::Part;", "use crate::low;"), ["low imports high"]);
    assert_eq!(of("", ""), ["high does not import low any more"]);
    let upside_down: Floors = &[("high", &["low"]), ("low", &[])];
    let imports = imports(&[("low", ""), ("high", "use crate::low;"), ("new", "")].map(module).into());
    assert_eq!(offences(&imports, upside_down), ["high stands below low", "new is in no part"]);
}

fn module((path, text): (&str, &str)) -> (String, String) {
    (path.to_owned(), text.to_owned())
}

/// Returns the modules of a crate with their texts, without those that are only for tests.
fn modules(source: &str) -> BTreeMap<String, String> {
    let of_tests = |path: &str| path.split('/').any(|part| part == "tests" || part == "tests.rs");
    let module = |path: String| {
        let inner = path.strip_prefix(source)?.strip_prefix('/')?.strip_suffix(".rs")?;
        let name = if inner == "lib" { "" } else { inner.strip_suffix("/mod").unwrap_or(inner) };
        (!of_tests(&path[source.len()..])).then(|| (name.to_owned(), read(&path)))
    };
    files().into_iter().filter_map(module).collect()
}

fn imports(modules: &BTreeMap<String, String>) -> Imports {
    let known: BTreeSet<&str> = modules.keys().map(String::as_str).collect();
    let of = |(module, text): (&String, &String)| {
        let text = code(text);
        let named = named(&text, module, &known);
        let met = named.iter().map(|path| met(path, &known)).filter(|met| met != module && !met.is_empty());
        (module.clone(), met.map(str::to_owned).collect())
    };
    modules.iter().map(of).collect()
}

/// Returns a module's code without comments, string contents, visibility, and the unit tests at its
/// end.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    let text = if text.starts_with("#[cfg(test)]\nmod ") { "" } else { text };
    text.lines().map(|line| code_of(line).replace("(in crate::", "(in ") + "\n").collect()
}

/// Returns the paths from the crate's root that a module names.
fn named(text: &str, module: &str, known: &BTreeSet<&str>) -> Vec<Vec<String>> {
    let here: Vec<&str> = module.split('/').filter(|part| !part.is_empty()).collect();
    let is_part = |module: &str, part: &str| known.contains(join(module, part).as_str());
    let mut paths = Vec::new();
    for (at, _) in text.match_indices("::") {
        let before = &text[..at];
        let start = before.rfind(|c: char| !(c.is_alphanumeric() || c == '_')).map_or(0, |end| end + 1);
        let first = &before[start..];
        if before[..start].ends_with("::") || before[..start].ends_with('.') {
            continue;
        }
        if !["crate", "self", "super"].contains(&first) && !is_part(module, first) {
            continue;
        }
        let mut found = Vec::new();
        follow(&mut &text[start..], &mut Vec::new(), &mut found);
        paths.extend(found.into_iter().map(|path| from_root(&here, &path)));
    }
    paths
}

/// Reads one path, or a tree of paths as in `use`.
fn follow<'a>(text: &mut &'a str, path: &mut Vec<&'a str>, found: &mut Vec<Vec<&'a str>>) {
    loop {
        *text = text.trim_start();
        if let Some(members) = text.strip_prefix('{') {
            *text = members;
            let length = path.len();
            while !text.trim_start().starts_with('}') && !text.is_empty() {
                follow(text, path, found);
                path.truncate(length);
                *text = &text[text.find([',', '}']).unwrap_or(text.len())..];
                *text = text.strip_prefix(',').unwrap_or(text);
            }
            *text = text.trim_start().strip_prefix('}').unwrap_or_default();
            return;
        }
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        path.push(name);
        *text = rest;
        match rest.strip_prefix("::").filter(|rest| !rest.starts_with('<')) {
            Some(rest) => *text = rest,
            None => return found.push(path.clone()),
        }
    }
}

fn from_root(here: &[&str], path: &[&str]) -> Vec<String> {
    let mut base = if path.first() == Some(&"crate") { Vec::new() } else { here.to_vec() };
    for part in path {
        match *part {
            "crate" | "self" | "" => {}
            "super" => drop(base.pop()),
            part => base.push(part),
        }
    }
    base.into_iter().map(str::to_owned).collect()
}

/// Returns the longest known module at the start of a path.
fn met<'a>(path: &[String], known: &BTreeSet<&'a str>) -> &'a str {
    (0..=path.len())
        .rev()
        .find_map(|length| known.get(path[..length].join("/").as_str()))
        .copied()
        .unwrap_or("")
}

/// Returns every group of parts of one folder that import each other.
fn circles(imports: &Imports) -> Vec<BTreeSet<String>> {
    folders(imports).into_iter().filter_map(|folder| circle(&beside(imports, folder))).collect()
}

fn folders(imports: &Imports) -> BTreeSet<&str> {
    let above = imports.keys().flat_map(|module| module.match_indices('/').map(move |(at, _)| &module[..at]));
    above.chain([""]).collect()
}

/// Returns the imports between the parts of a folder.
fn beside(imports: &Imports, folder: &str) -> Imports {
    let part = |module: &str| {
        let inner =
            if folder.is_empty() { Some(module) } else { module.strip_prefix(folder)?.strip_prefix('/') };
        inner?.split('/').next().filter(|part| !part.is_empty()).map(str::to_owned)
    };
    let mut parts = Imports::new();
    for (module, met) in imports {
        let Some(from) = part(module) else { continue };
        let met = met.iter().filter_map(|met| part(met)).filter(|to| *to != from);
        parts.entry(from.clone()).or_default().extend(met);
    }
    parts
}

/// Removes, again and again, each part that imports no remaining part or is imported by none.
/// Returns the remaining parts if there are any.
fn circle(parts: &Imports) -> Option<BTreeSet<String>> {
    let mut left: BTreeSet<String> = parts.keys().cloned().collect();
    loop {
        let imports = |part: &String| parts[part].iter().any(|met| left.contains(met));
        let is_met = |part: &String| left.iter().any(|other| parts[other].contains(part));
        let inner: BTreeSet<String> =
            left.iter().filter(|part| imports(part) && is_met(part)).cloned().collect();
        if inner.len() == left.len() {
            return Some(left).filter(|left| !left.is_empty());
        }
        left = inner;
    }
}

/// Returns the differences between a crate's imports and its table.
fn offences(imports: &Imports, floors: Floors) -> Vec<String> {
    let floor = |part: &str| floors.iter().position(|(name, _)| *name == part);
    let part = |module: &str| {
        let holds = |name: &str| {
            module == name || module.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'))
        };
        floors.iter().map(|(name, _)| *name).filter(|name| holds(name)).max_by_key(|name| name.len())
    };
    let mut offences = Vec::new();
    for (name, below) in floors {
        let higher = below.iter().filter(|lower| floor(lower) >= floor(name));
        offences.extend(higher.map(|lower| format!("{name} stands below {lower}")));
    }
    let mut met: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (module, imported) in imports.iter().filter(|(module, _)| !module.is_empty()) {
        let Some(from) = part(module) else {
            offences.push(format!("{module} is in no part"));
            continue;
        };
        met.extend(imported.iter().filter_map(|to| part(to)).filter(|to| *to != from).map(|to| (from, to)));
    }
    let allowed: BTreeSet<(&str, &str)> =
        floors.iter().flat_map(|(name, below)| below.iter().map(|lower| (*name, *lower))).collect();
    offences.extend(met.difference(&allowed).map(|(from, to)| format!("{from} imports {to}")));
    offences
        .extend(allowed.difference(&met).map(|(from, to)| format!("{from} does not import {to} any more")));
    offences
}

fn join(module: &str, part: &str) -> String {
    if module.is_empty() { part.to_owned() } else { format!("{module}/{part}") }
}
