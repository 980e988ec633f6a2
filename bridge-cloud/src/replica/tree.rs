//! A brand's categories as one answer: a tree that is made again when one of them changes.

use std::collections::BTreeMap;

use bridge_protocol::domain::catalogue::Code;
use bridge_protocol::wire::catalogue::CategoryRow;
use serde::Serialize;

use super::answer::{CachedAnswer, Texts, json};

/// Most levels that are shown: more than any shop's tree has.
const DEPTH_MAX: usize = 32;

#[derive(Serialize)]
struct Tree<'a> {
    categories: Vec<Node<'a>>,
}

#[derive(Serialize)]
struct Node<'a> {
    category: &'a str,
    parent: Option<&'a str>,
    names: Texts<'a>,
    children: Vec<Node<'a>>,
}

/// Returns the tree of these categories. A category with a missing parent is at the root, and so is
/// one category of each cycle.
pub(super) fn answer(categories: &BTreeMap<Code, CategoryRow>) -> CachedAnswer {
    let mut children: BTreeMap<Option<&str>, Vec<(i32, &Code)>> = BTreeMap::new();
    for (code, row) in categories {
        let parent = row.parent.as_deref().filter(|parent| categories.contains_key(*parent));
        children.entry(parent).or_default().push((row.position, code));
    }
    children.values_mut().for_each(|siblings| siblings.sort());
    let mut left: BTreeMap<&Code, &CategoryRow> = categories.iter().collect();
    let mut roots = Vec::new();
    for (_, code) in children.get(&None).into_iter().flatten() {
        roots.extend(node(code, &children, &mut left, 0));
    }
    // The remaining categories are in cycles.
    while let Some(code) = left.keys().next().copied() {
        roots.extend(node(code, &children, &mut left, 0));
    }
    CachedAnswer::new(json(&Tree { categories: roots }).unwrap_or_default())
}

fn node<'a>(
    code: &'a Code,
    children: &BTreeMap<Option<&'a str>, Vec<(i32, &'a Code)>>,
    left: &mut BTreeMap<&'a Code, &'a CategoryRow>,
    depth: usize,
) -> Option<Node<'a>> {
    let row = left.remove(code)?;
    let below = children.get(&Some(code.as_str())).filter(|_| depth < DEPTH_MAX);
    let below: Vec<&'a Code> = below.into_iter().flatten().map(|(_, code)| *code).collect();
    let children = below.into_iter().filter_map(|code| node(code, children, left, depth + 1)).collect();
    Some(Node { category: code.as_str(), parent: row.parent.as_deref(), names: Texts(&row.names), children })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn tree(rows: &[(&str, Option<&str>, i32)]) -> Value {
        let row = |parent: &Option<&str>, position: i32| CategoryRow {
            parent: parent.map(str::to_owned),
            names: Vec::new(),
            position,
        };
        let categories =
            rows.iter().map(|(code, parent, position)| (Code::new(code).unwrap(), row(parent, *position)));
        let body: Value = serde_json::from_slice(answer(&categories.collect()).body()).unwrap();
        body["categories"].clone()
    }

    fn shape(nodes: &Value) -> Value {
        nodes
            .as_array()
            .unwrap()
            .iter()
            .map(|node| json!({node["category"].as_str().unwrap(): shape(&node["children"])}))
            .collect()
    }

    #[test]
    fn siblings_stand_by_position_and_then_by_code() {
        let found = tree(&[("a", Some("z"), 2), ("b", Some("z"), 1), ("c", Some("z"), 1), ("z", None, 0)]);
        assert_eq!(shape(&found), json!([{"z": [{"b": []}, {"c": []}, {"a": []}]}]));
    }

    #[test]
    fn an_orphan_stands_at_the_root_and_a_circle_is_cut_once() {
        let found = tree(&[("lost", Some("gone"), 0), ("x", Some("y"), 0), ("y", Some("x"), 0)]);
        assert_eq!(shape(&found), json!([{"lost": []}, {"x": [{"y": []}]}]));
    }
}
