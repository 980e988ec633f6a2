//! Tests the features of builds. All development builds use one set of features, and released
//! programs contain no test code.

use std::collections::BTreeSet;
use std::process::Command;

use super::{ROOT, packages};

#[test]
fn a_package_built_alone_finds_every_dependency_already_compiled() {
    // Cargo compiles a crate again for another set of features, which takes minutes. The package
    // `shared/features` unites the features.
    let all = crates(&["--workspace", "--edges", "normal,build,dev"]);
    assert!(all.len() > 100, "only {} crates are compared", all.len());
    for package in members() {
        let is_built = !is_tested_rather_than_built(&package);
        let edges = is_built.then_some("normal,build").into_iter().chain(["normal,build,dev"]);
        for edges in edges {
            let alone = crates(&["--package", &package, "--edges", edges]);
            let others: Vec<_> = alone.difference(&all).collect();
            assert!(others.is_empty(), "{package} alone ({edges}) is built with other features: {others:?}");
        }
    }
}

#[test]
fn code_for_tests_is_in_no_program_that_is_shipped() {
    let with_testing = |chosen: &[&str]| {
        let ours = built(chosen).into_iter().filter(|line| line.starts_with("bridge-"));
        let (with, without): (Vec<_>, Vec<_>) = ours.partition(|line| line.ends_with(" testing"));
        (
            with,
            without.iter().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect::<Vec<_>>(),
        )
    };
    // Without a package name, Cargo builds the workspace's default members, as in the operator's
    // document.
    let (with, without) = with_testing(&["--edges", "normal,build"]);
    assert_eq!(with, [""; 0]);
    for program in ["bridge-certs", "bridge-cloud", "bridge-idc"] {
        assert!(without.iter().any(|name| name == program), "{program} is not built: {without:?}");
    }
    assert!(!without.iter().any(|name| name == "bridge-tests"), "the tests are built with it");
    let (with, _) = with_testing(&["--package", "bridge-tests", "--edges", "normal,build"]);
    assert_eq!(with.len(), 2, "the tests have it of certs and the IDC agent: {with:?}");
}

/// Returns true for a library that is never built alone. The features that the programs share must
/// not add to its dependencies.
fn is_tested_rather_than_built(package: &str) -> bool {
    ["bridge-protocol", "bridge-console", "bridge-contract", "bridge-skips"].contains(&package)
}

/// Returns the names of the workspace's packages.
fn members() -> Vec<String> {
    let ours = packages().into_iter().filter(|package| package.get("source").is_none());
    ours.map(|package| package["name"].as_str().expect("a text").to_owned()).collect()
}

/// Returns the other crates that Cargo would build, with versions and features.
fn crates(chosen: &[&str]) -> BTreeSet<String> {
    built(chosen).into_iter().filter(|line| !line.starts_with("bridge-")).collect()
}

/// Returns all crates that Cargo would build, with versions and features, including the workspace's
/// own.
fn built(chosen: &[&str]) -> BTreeSet<String> {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--prefix", "none", "--no-dedupe", "--format", "{p} {f}"])
        .args(chosen)
        .current_dir(ROOT);
    let output = tree.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}
