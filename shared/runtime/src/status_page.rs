//! An agent's state as a page for the terminal, made from the JSON of `status --json`.
//!
//! It knows no field by name, except for those at its head. So a new field of the state appears on
//! the page at once.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Writes the page: obstacles first, then scalars, then a section for each object and a table for
/// each list.
pub fn page(status: &Value, obstacles: &[String], notes: &[String]) -> String {
    let mut page = String::new();
    match obstacles {
        [] => page.push_str("ready\n"),
        obstacles => {
            page.push_str("NOT READY\n");
            let obstacles = obstacles.iter().map(|obstacle| bridge_console::shown(obstacle));
            obstacles.for_each(|obstacle| line(&mut page, format_args!("  - {obstacle}")));
        }
    }
    notes.iter().for_each(|note| line(&mut page, format_args!("  note: {note}")));
    if let Value::Object(members) = status {
        // They are shown above, one in each line.
        let mut members = members.clone();
        members.retain(|name, _| !["obstacles", "notes"].contains(&name.as_str()));
        page.push('\n');
        section(&mut page, "", &members);
    }
    page
}

/// Writes the scalars of an object, then its inner objects and lists.
fn section(page: &mut String, indent: &str, members: &Map<String, Value>) {
    let is_simple = |value: &Value| !value.is_object() && !is_table(value);
    let simple = || members.iter().filter(|(_, value)| is_simple(value));
    let width = simple().map(|(name, _)| words(name).len()).max().unwrap_or(0);
    for (name, value) in simple() {
        line(page, format_args!("{indent}{:width$}  {}", words(name), shown(name, value)));
    }
    for (name, value) in members.iter().filter(|(_, value)| !is_simple(value)) {
        line(page, format_args!("\n{indent}{}", words(name)));
        let indent = format!("{indent}  ");
        match value {
            Value::Object(members) => section(page, &indent, members),
            Value::Array(rows) => table(page, &indent, rows),
            _ => {}
        }
    }
}

fn is_table(value: &Value) -> bool {
    value.as_array().is_some_and(|rows| !rows.is_empty() && rows.iter().all(Value::is_object))
}

/// Writes rows under their columns. The order of the columns is that of the first row.
fn table(page: &mut String, indent: &str, rows: &[Value]) {
    let mut columns: Vec<&String> = Vec::new();
    for name in rows.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        if !columns.contains(&name) {
            columns.push(name);
        }
    }
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(|name| words(name)).collect()];
    lines
        .extend(rows.iter().map(|row| columns.iter().map(|name| shown(name, &row[name.as_str()])).collect()));
    let width = |at: usize| lines.iter().map(|cells| cells[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    for cells in &lines {
        let cells: String =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
        line(page, format_args!("{indent}{}", cells.trim_end()));
    }
}

/// Writes a value for people: a list of scalars with commas, null as a dash, and a time with its
/// unit.
fn shown(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        // Some texts come from a peer: its name, its build.
        Value::String(text) => bridge_console::shown(text).to_string(),
        Value::Number(number) if name.ends_with("_seconds") => format!("{number} s"),
        Value::Number(number) if name.ends_with("_millis") || name.ends_with("_ms") => format!("{number} ms"),
        Value::Number(number) => number.to_string(),
        Value::Array(values) if values.is_empty() => "none".to_owned(),
        Value::Array(values) => values.iter().map(|value| shown(name, value)).collect::<Vec<_>>().join(", "),
        Value::Object(_) => value.to_string(),
    }
}

fn words(name: &str) -> String {
    name.trim_end_matches("_seconds").trim_end_matches("_millis").trim_end_matches("_ms").replace('_', " ")
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    let _infallible = writeln!(page, "{text}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_page_shows_the_obstacles_and_every_value() {
        let status = json!({
            "agent": "front-1",
            "takes_orders": true,
            "catalogue": {"position": 7, "age_seconds": null},
            "links": [
                {"peer": "spiffe://bridge/idc/a", "up": true, "rtt_ms": 9},
                {"peer": "spiffe://bridge/idc/long", "up": false, "last_refusal": "expired"},
            ],
            "allowed": [],
            "obstacles": ["no link is up"],
            "notes": ["it ends soon"],
        });
        let expected = "\
NOT READY
  - no link is up
  note: it ends soon

agent         front-1
allowed       none
takes orders  yes

catalogue
  age       -
  position  7

links
  peer                      rtt   up   last refusal
  spiffe://bridge/idc/a     9 ms  yes  -
  spiffe://bridge/idc/long  -     no   expired
";
        assert_eq!(page(&status, &["no link is up".to_owned()], &["it ends soon".to_owned()]), expected);
        assert!(page(&status, &[], &[]).starts_with("ready\n\nagent"));
    }
}
