//! The tests and faults that docs/reliability.md names exist.

#![allow(clippy::unwrap_used, reason = "this is a test")]

use std::{fs, path::Path, process::Command};

use kakehi_tests::programs::has_tool;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn page() -> String {
    fs::read_to_string(root().join("docs/reliability.md")).unwrap()
}

/// The names of the form `file.rs::name` between backquotes.
fn named(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split('`').skip(1).step_by(2).filter_map(|word| word.split_once(".rs::"))
}

/// Whether `file`, by its path from the root or from the tests, has a test of that name.
fn has_test(file: &str, name: &str) -> bool {
    let file = format!("{file}.rs");
    let paths = [root().join("tests/tests").join(&file), root().join(&file)];
    let Some(text) = paths.iter().find_map(|path| fs::read_to_string(path).ok()) else {
        return false;
    };
    let function = format!("fn {name}(");
    let mut lines = text.lines();
    let mut is_test = false;
    lines.any(|line| {
        let found = is_test && line.contains(&function);
        let line = line.trim_start();
        is_test = line.starts_with("#[test]")
            || line.starts_with("#[tokio::test")
            || is_test && line.starts_with("#[");
        found
    })
}

#[test]
fn each_named_test_exists() {
    let page = page();
    let missing: Vec<_> = named(&page).filter(|(file, name)| !has_test(file, name)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(!has_test("reliability", "page"), "a function is no test");
}

#[test]
fn each_promise_has_a_test() {
    let page = page();
    let mut promises = 0;
    for table in page.split("| promise | held by |").skip(1) {
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        for row in rows {
            assert!(named(row).next().is_some(), "{row}");
            promises += 1;
        }
    }
    assert!(promises > 40, "only {promises} promises were found");
}

#[test]
fn the_listed_faults_are_those_that_are_caused() {
    if !has_tool("python3") {
        return;
    }
    let folder = root().join("tests/faults");
    let output = Command::new(folder.join("run")).arg("--table").output().unwrap();
    let table = String::from_utf8_lossy(&output.stdout);
    let told = fs::read_to_string(folder.join("README.md")).unwrap();
    assert!(table.lines().filter(|line| line.starts_with("| ")).count() > 40, "{output:?}");
    assert!(
        told.ends_with(&*table),
        "tests/faults/README.md is not what tests/faults/run --table says"
    );
}
