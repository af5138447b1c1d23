//! Contexts: named servers.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use kakehi_tests::programs::Server;
use tempfile::TempDir;

use crate::support::{Said, client, said};

/// A temporary home with a folder of configuration.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("kakehi/config.toml")
    }

    fn client(&self, arguments: &[&str]) -> Command {
        let mut client = client(arguments);
        client.env("XDG_CONFIG_HOME", self.0.path()).env_remove("KAKEHI_CONTEXT");
        client.env("XDG_RUNTIME_DIR", self.0.path());
        client
    }

    fn said(&self, arguments: &[&str]) -> Said {
        said(self.client(arguments))
    }

    fn add(&self, name: &str, place: &str) {
        let added = self.said(&["context", "add", name, place]);
        assert_eq!((added.code, &*added.stdout, &*added.stderr), (0, "", ""));
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_context_is_added_chosen_listed_and_removed() {
    let home = Home::new();
    let none = home.said(&["context", "list"]);
    assert_eq!((none.code, &*none.stdout), (0, ""));
    assert!(none.stderr.starts_with("note: no contexts; add one: "), "{none:?}");
    home.add("prod", "ssh://deploy@host:2222");
    home.add("here", "/run/app.sock");
    let mode = fs::metadata(home.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(home.said(&["context", "use", "prod"]).code, 0);
    let table = home.said(&["context", "list"]).stdout;
    let lines: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1], ["prod", "ssh://deploy@host:2222", "chosen"], "{table}");
    assert_eq!(lines[2], ["here", "/run/app.sock"], "{table}");
    assert_eq!(home.said(&["context", "list", "-o", "name"]).stdout, "prod\nhere\n");
    let listed = home.said(&["context", "list", "-o", "json"]).lines().remove(0);
    assert_eq!(listed[0]["chosen"], true);
    assert_eq!(home.said(&["context", "remove", "prod", "here"]).code, 0);
    assert_eq!(fs::read_to_string(home.file()).unwrap(), "");
    home.said(&["context", "use", "prod"])
        .assert_failed(2, &["no context prod", "context add prod"]);
    home.said(&["context", "add", "default", "/a"]).assert_failed(2, &["default"]);
    assert_eq!(home.said(&["context", "add", "-", "/a"]).code, 2);
    assert_eq!(home.said(&["context", "add", "a", "host"]).code, 2);
    let socket = ["context", "add", "a", "/a", "--remote-socket", "/b"];
    home.said(&socket).assert_failed(2, &["another machine"]);
}

#[test]
fn a_context_is_replaced_by_force_only() {
    let home = Home::new();
    home.add("prod", "ssh://deploy@host");
    home.add("prod", "ssh://deploy@host");
    let other = ["context", "add", "prod", "/run/app.sock"];
    home.said(&other).assert_failed(2, &["context prod already", "ssh://deploy@host", "--force"]);
    let shown = || home.said(&["context", "show", "prod", "-o", "json"]).lines().remove(0);
    assert_eq!(shown()["server"], "ssh://deploy@host");
    assert_eq!(home.said(&[&other[..], &["--force"]].concat()).code, 0);
    assert_eq!(shown()["server"], "/run/app.sock");
}

#[test]
fn the_names_of_contexts_are_completed() {
    let home = Home::new();
    home.add("prod", "/run/a.sock");
    home.add("preview", "/run/b.sock");
    for words in [
        &["--context", "pr"][..],
        &["context", "use", "pr"],
        &["context", "show", "pr"],
        &["context", "remove", "pr"],
        &["context", "remove", "prod", "pr"],
    ] {
        let mut client = home.client(&[&["kakehi"], words].concat());
        let said = said({
            client.env("KAKEHI_COMPLETE", "bash");
            client
        });
        assert!(said.stdout.contains("preview\n"), "{words:?}: {said:?}");
    }
}

#[test]
fn the_nearest_source_names_the_server() {
    let servers = [(); 4].map(|()| Server::start(&[]));
    let [flag, variable, context, chosen] = [0, 1, 2, 3].map(|index| servers[index].socket());
    let home = Home::new();
    for (name, socket) in [("flag", &flag), ("context", &context), ("chosen", &chosen)] {
        home.add(name, path(socket));
    }
    let pid_of = |socket: &Path| {
        said(client(&["--socket", path(socket), "-o", "json", "status"])).lines()[0]["pid"].clone()
    };
    let asked = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut client = home.client(&[arguments, &["-o", "json", "status"]].concat());
        client.envs(variables.iter().copied());
        let said = said(client);
        assert_eq!(said.code, 0, "{said:?}");
        said.lines()[0]["pid"].clone()
    };
    let shown = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut client = home.client(&[arguments, &["context", "show"]].concat());
        said({
            client.envs(variables.iter().copied());
            client
        })
        .stdout
    };
    home.said(&["context", "use", "chosen"]);
    let both = [("KAKEHI_SOCKET", path(&variable)), ("KAKEHI_CONTEXT", "context")];
    for (arguments, variables, expected, source) in [
        (&["--context", "flag"][..], &both[..], &flag, "options"),
        (&["--socket", path(&flag)], &both, &flag, "options"),
        (&[], &both, &variable, "KAKEHI_SOCKET"),
        (&[], &both[1..], &context, "KAKEHI_CONTEXT"),
        (&[], &[("KAKEHI_CONTEXT", "")], &chosen, "chosen context"),
        (&[], &[], &chosen, "chosen context"),
    ] {
        assert_eq!(asked(arguments, variables), pid_of(expected), "{source}");
        let text = shown(arguments, variables);
        let used: Vec<_> = text.lines().filter(|line| line.contains("used: ")).collect();
        let [used] = used[..] else { panic!("{text}") };
        assert!(used.starts_with(source) && used.ends_with(path(expected)), "{text}");
    }
    // Without a context, the default place counts.
    for (arguments, variables) in
        [(&["--context", "default"][..], &[][..]), (&[], &[("KAKEHI_CONTEXT", "default")])]
    {
        let mut client = home.client(&[arguments, &["status"]].concat());
        let said = said({
            client.envs(variables.iter().copied());
            client
        });
        assert!(!said.stderr.contains(path(&chosen)), "{said:?}");
    }
    let mut unknown = home.client(&["status"]);
    unknown.env("KAKEHI_CONTEXT", "nothing");
    said(unknown).assert_failed(2, &["no context nothing", "flag, context, chosen"]);
    assert_eq!(home.said(&["--context", "flag", "--socket", "/a", "status"]).code, 2);
}

#[test]
fn a_mistake_in_the_file_is_reported_and_nothing_is_sent() {
    let home = Home::new();
    home.add("prod", "ssh://host");
    for (text, why) in [
        ("[contexts.prod]\nhots = \"ssh://prod\"\n", "unknown key `hots`"),
        ("contxt = \"prod\"\n", "unknown key `contxt`"),
        ("context = \"gone\"\n", "no such context"),
        ("context =", "TOML parse error"),
    ] {
        fs::write(home.file(), text).unwrap();
        home.said(&["status"]).assert_failed(2, &[path(&home.file()), why]);
        if why != "no such context" {
            home.said(&["context", "use", "default"]).assert_failed(2, &[why]);
            assert_eq!(fs::read_to_string(home.file()).unwrap(), text, "it stays");
        }
    }
    assert_eq!(home.said(&["context", "use", "default"]).code, 2, "the file is still wrong");
    // These commands need no server.
    assert_eq!(home.said(&["completions", "bash"]).code, 0);
    assert_eq!(home.said(&["--version"]).code, 0);
}

#[test]
fn changes_at_the_same_time_are_all_kept_and_a_link_stays_one() {
    let home = Home::new();
    let elsewhere = home.0.path().join("elsewhere.toml");
    fs::create_dir(home.0.path().join("kakehi")).unwrap();
    fs::write(&elsewhere, "# mine\n").unwrap();
    std::os::unix::fs::symlink(&elsewhere, home.file()).unwrap();
    thread::scope(|scope| {
        for number in 0..8 {
            let home = &home;
            scope.spawn(move || home.add(&format!("c{number}"), "/a"));
        }
    });
    assert_eq!(home.said(&["context", "list", "-o", "name"]).stdout.lines().count(), 8);
    assert!(fs::symlink_metadata(home.file()).unwrap().is_symlink());
    assert!(fs::read_to_string(&elsewhere).unwrap().contains("# mine"), "the comment stays");
    let names = fs::read_dir(home.0.path()).unwrap().count();
    assert_eq!(names, 2, "no temporary file is left");
}
