//! Tests the documents against the code. Every metric is in the tables, dashboard and alerts use
//! only metrics that exist, and no link is broken.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bridge_cloud::metrics::Metrics as CloudMetrics;
use bridge_cloud::storefront::problem::Kind;
use bridge_idc::metrics::Metrics as IdcMetrics;
use bridge_protocol::domain::Brand;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> String {
    let read = fs::read_to_string(root().join(path));
    assert!(read.is_ok(), "{path} cannot be read");
    read.unwrap_or_default()
}

/// A metric family in a scrape.
#[derive(Default)]
struct Family {
    kind: String,
    help: String,
    /// Each label with its values, in the order of the scrape.
    labels: Vec<(String, Vec<String>)>,
    agents: Vec<&'static str>,
}

/// Returns the metrics pages of both agents, cloud first. The brand of the sample configuration has
/// a limit.
fn scrapes() -> [String; 2] {
    let cloud = CloudMetrics::default();
    Brand::new("my-brand").into_iter().for_each(|brand| cloud.credits.set(&brand, Some(1)));
    [cloud.runtime.encode(), IdcMetrics::default().runtime.encode()]
}

impl Family {
    fn note(&mut self, label: &str, value: &str) {
        if !self.labels.iter().any(|(known, _)| known == label) {
            self.labels.push((label.to_owned(), Vec::new()));
        }
        for (known, values) in &mut self.labels {
            if known == label && !values.iter().any(|known| known == value) {
                values.push(value.to_owned());
            }
        }
    }

    /// Returns the suffix that a scrape adds to the family's name.
    fn suffix(&self) -> &'static str {
        if self.kind == "counter" { "_total" } else { "" }
    }
}

/// Returns every family of both agents by its name.
fn families() -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for (agent, scrape) in ["cloud", "IDC"].into_iter().zip(scrapes()) {
        for line in scrape.lines() {
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("#"), Some("HELP"), Some(name), Some(help)) => {
                    let family = families.entry(name.to_owned()).or_default();
                    family.help = help.trim_end_matches('.').to_owned();
                    family.agents.push(agent);
                }
                (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                    families.entry(name.to_owned()).or_default().kind = kind.to_owned();
                }
                _ => {}
            }
            if let Some((sample, labels)) = line.split_once('{') {
                let labels = labels.split('}').next().unwrap_or_default();
                let labels = labels.split(',').filter_map(|label| label.split_once('='));
                let family = families.iter_mut().rev().find(|(name, _)| sample.starts_with(name.as_str()));
                if let Some((_, family)) = family {
                    for (label, value) in labels.filter(|(label, _)| *label != "le") {
                        family.note(label, value.trim_matches('"'));
                    }
                }
            }
        }
    }
    families
}

/// Returns the expected table of metrics in `docs/metrics.md`.
fn table() -> String {
    let row = |(name, family): (&String, &Family)| {
        let Family { kind, help, labels, agents } = family;
        let suffix = family.suffix();
        let labels: Vec<String> = labels.iter().map(|(label, _)| format!("`{label}`")).collect();
        format!("| `{name}{suffix}` | {kind} | {} | {} | {help} |\n", labels.join(", "), agents.join(", "))
    };
    let head = "| metric | type | labels | agent | what |\n|---|---|---|---|---|\n";
    format!("{head}{}", families().iter().map(row).collect::<String>())
}

/// Returns the expected table of labels in `docs/metrics.md`.
fn table_of_labels() -> String {
    let mut table = String::from("| metric | label | values |\n|---|---|---|\n");
    for (name, family) in families() {
        let suffix = family.suffix();
        for (label, values) in &family.labels {
            let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
            table += &format!("| `{name}{suffix}` | `{label}` | {} |\n", values.join(", "));
        }
    }
    table
}

#[test]
fn every_metric_and_every_label_is_in_the_tables_of_the_documents() {
    let document = text("docs/metrics.md");
    for table in [table(), table_of_labels()] {
        assert!(document.contains(&table), "docs/metrics.md should have this table:\n{table}");
    }
}

#[test]
fn each_agent_shows_only_what_it_has() {
    let [cloud, idc] = scrapes();
    assert!(cloud.contains("bridge_storefront_responses") && !idc.contains("bridge_storefront_responses"));
    assert!(idc.contains("bridge_commit_seconds") && !cloud.contains("bridge_commit_seconds"));
}

/// Returns the names of metrics in a text.
fn named(text: &str) -> Vec<&str> {
    let is_part =
        |character: char| character.is_ascii_lowercase() || character == '_' || character.is_ascii_digit();
    let words = text.split(|character| !is_part(character));
    words.filter(|word| word.starts_with("bridge_") && word.len() > "bridge_".len()).collect()
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_metrics_that_there_are() {
    let families = families();
    let exists = |name: &str| {
        let stems = ["", "_total", "_bucket", "_count", "_sum"].map(|suffix| name.strip_suffix(suffix));
        stems.into_iter().flatten().any(|stem| families.contains_key(stem))
    };
    for path in ["deploy/grafana.json", "deploy/alerts.yml"] {
        let text = text(path);
        let names = named(&text);
        assert!(names.len() > 5, "{path} names no metrics");
        for name in names {
            assert!(exists(name), "{path} uses {name}, which no agent has");
        }
    }
    let dashboard: serde_json::Value = serde_json::from_str(&text("deploy/grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.iter().all(|panel| panel["title"].is_string() && panel["targets"][0]["expr"].is_string()));
}

#[test]
fn every_problem_is_in_the_storefront_s_table_with_its_status() {
    let page = text("docs/storefront.md");
    let (_, table) = page.split_once("## Every problem").expect("the table");
    let mut told: Vec<_> = table.lines().skip(4).filter(|line| line.starts_with("| ")).collect();
    let row = |kind: &Kind| {
        format!("| {} | `{}` |", kind.status().as_u16(), kind.uri().trim_start_matches("/problems/"))
    };
    for row in Kind::ALL.iter().map(row) {
        let at = told.iter().position(|line| line.starts_with(&row));
        assert!(at.is_some(), "docs/storefront.md has no row {row}");
        told.remove(at.unwrap());
    }
    assert!(told.is_empty(), "docs/storefront.md has rows for problems that do not exist: {told:?}");
}

#[test]
fn no_link_of_the_documents_leads_nowhere() {
    let mut pages: Vec<_> =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"].map(|page| root().join(page)).into();
    pages.extend(fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', '#']).next().unwrap();
            if target.is_empty() || target.starts_with("http") {
                continue;
            }
            let file = page.parent().unwrap().join(target);
            assert!(file.exists(), "{} has a broken link to {target}", page.display());
        }
    }
}
