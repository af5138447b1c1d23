//! Completions, the manual page, and the help.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
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

/// What a shell says, which must be well.
fn shell(name: &str, options: &[&str], code: &str) -> String {
    let (_folder, script) = page(&["completions", name]);
    let mut shell = Command::new(name);
    shell.args(options).args(["-c", code]).env("SCRIPT", script).stdin(Stdio::null());
    clean(shell.output().unwrap())
}

fn clean(output: Output) -> String {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success() && stderr.is_empty(), "{stdout}{stderr}");
    stdout
}

#[test]
fn completions_load_in_bash_and_complete() {
    if !has_tool("bash") {
        return;
    }
    let code = r#"
set -eu
source "$SCRIPT"
complete -p client
COMP_WORDS=(client sta) COMP_CWORD=1
_client client sta client
echo "${COMPREPLY[@]}"
COMP_WORDS=(client run --dead) COMP_CWORD=2
_client client --dead run
echo "${COMPREPLY[@]}"
"#;
    let text = shell("bash", &["--norc"], code);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].contains("-F _client") && lines[0].ends_with(" client"), "{text}");
    assert_eq!(lines[1..], ["status", "--deadline"]);
}

#[test]
fn completions_load_in_zsh() {
    if !has_tool("zsh") {
        return;
    }
    let code = r#"
autoload -U compinit && compinit -D -u
source "$SCRIPT"
print ${_comps[client]}
whence -w _client
"#;
    assert_eq!(shell("zsh", &["-f"], code), "_client\n_client: function\n");
}

#[test]
fn completions_load_in_fish_and_complete() {
    if !has_tool("fish") {
        return;
    }
    let code = r#"source "$SCRIPT"; complete -C "client sta"; complete -C "client run --dead""#;
    let text = shell("fish", &["--no-config"], code);
    let words: Vec<_> = text.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(words, ["status", "--deadline"], "{text}");
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
    for code in ["0", "1", "2", "69", "74", "75", "76", "77", "124", "130", "141", "143"] {
        for help in [&help, &short] {
            let (_, table) = help.split_once("Exit status:\n").unwrap();
            let has = |line: &str| line.trim_start().starts_with(&format!("{code}  "));
            assert!(table.lines().any(has), "{code}: {help}");
        }
        assert!(manual.contains(&format!(".TP\n\\fB{code}\\fR\n")), "{code}: {manual}");
    }
    for command in
        ["run", "list", "status", "cancel", "stop", "send", "doctor", "completions", "man"]
    {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        assert!(manual.lines().any(|line| line.starts_with(".SS ") && line.contains(command)));
        assert!(said(client(&[command, "--help"])).stdout.contains("Usage: client"));
    }
    assert!(!help.contains("dial-stdio"), "that is for clients, not for people");
}
