//! The manual page, and the help.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use kakehi_tests::programs::has_tool;
use tempfile::TempDir;

use crate::support::{client, said};

fn page(arguments: &[&str]) -> (TempDir, PathBuf) {
    let said = said(client(arguments));
    assert_eq!((said.code, &*said.stderr), (0, ""));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page");
    fs::write(&path, said.stdout).unwrap();
    (folder, path)
}

fn clean(output: Output) -> String {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success() && stderr.is_empty(), "{stdout}{stderr}");
    stdout
}

#[test]
fn the_manual_page_renders_without_warnings() {
    let (_folder, page) = page(&["man"]);
    let renderers = [
        ("man", &["--warnings=w", "-l", "-Tutf8"][..]),
        ("groff", &["-ww", "-Tutf8", "-man"]),
        ("mandoc", &["-T", "lint", "-W", "warning"]),
    ];
    for (name, arguments) in renderers {
        if has_tool(name) {
            let mut renderer = Command::new(name);
            renderer.args(arguments).arg(&page).env("LC_ALL", "C.UTF-8").env("MANPAGER", "cat");
            clean(renderer.output().unwrap());
        }
    }
}

#[test]
fn the_help_and_the_manual_tell_each_exit_status_and_each_command() {
    let help = said(client(&["--help"])).stdout;
    let short = said(client(&["-h"])).stdout;
    let manual = said(client(&["man"])).stdout;
    for code in [
        "0", "1", "2", "69", "71", "74", "75", "76", "77", "124", "125", "126", "127", "130",
        "141", "143",
    ] {
        for help in [&help, &short] {
            let (_, table) = help.split_once("Exit status").unwrap();
            let entry = format!(" {code} ");
            assert!(table.lines().any(|line| line.contains(&entry)), "{code}: {help}");
        }
        assert!(manual.contains(&format!(".TP\n\\fB{code}\\fR\n")), "{code}: {manual}");
    }
    for command in ["run", "list", "status", "cancel", "stop", "send", "doctor", "completions"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        assert!(manual.lines().any(|line| line.starts_with(".SS ") && line.contains(command)));
        assert!(said(client(&[command, "--help"])).stdout.contains("Usage: kakehi"));
    }
    assert!(!help.contains("dial-stdio"), "it is for the client on another machine");
    let widest = help.lines().map(str::len).max().unwrap();
    assert!(help.lines().count() <= 40 && widest <= 80, "{widest} columns: {help}");
}
