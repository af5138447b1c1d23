//! Completions: the offered words, and real shells in a terminal.

use std::{
    env, fs,
    io::Write,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use kakehi_tests::programs::{binary, has_tool, wait_for};
use serde_json::{Value, json};

use crate::{
    support::{Fake, Jobs, client, said},
    terminal::Screen,
};

/// The words that are offered after `words`, in the form of `shell`.
fn offered_in(shell: &str, socket: &Path, words: &[&str]) -> String {
    let mut program = client(&["kakehi"]);
    program.args(words).env("KAKEHI_COMPLETE", shell).env("KAKEHI_SOCKET", socket);
    let said = said(program);
    assert_eq!((said.code, &*said.stderr), (0, ""), "{words:?}");
    said.stdout
}

fn offered(socket: &Path, words: &[&str]) -> Vec<String> {
    offered_in("bash", socket, words).lines().map(str::to_owned).collect()
}

const JOBS: &str = r#"
[job.archive]
about = "archive: one folder"
run = ["true"]
args = [{ name = "folder", choices = ["photos", "papers"] }, { name = "mode", choices = ["full"] }]
[job.arrange]
run = ["true"]
"#;

#[test]
fn the_servers_words_are_offered_where_they_belong() {
    let jobs = Jobs::with(JOBS);
    let socket = jobs.server.socket();
    let run = jobs.said(&["run", "--detach", "silent"]).stdout.trim().to_owned();
    let ended = jobs.said(&["run", "--detach", "both"]).stdout.trim().to_owned();
    jobs.said(&["wait", &ended]);
    for (words, expected) in [
        (&["sta"][..], vec!["status"]),
        (&["status", "--dead"], vec!["--deadline"]),
        (&["completions", "z"], vec!["zsh"]),
        (&["run", "ar"], vec!["archive", "arrange"]),
        (&["run", "--detach", "--timeout", "5s", "arc"], vec!["archive"]),
        (&["run", "archive", "p"], vec!["photos", "papers"]),
        (&["run", "archive", "photos", ""], vec!["full"]),
        (&["run", "archive", "--", "ph"], vec!["photos"]),
        (&["cancel", "--job", "arr"], vec!["arrange"]),
        (&["cancel", ""], vec![&*run]),
        (&["attach", ""], vec![&*ended, &*run]),
        (&["wait", &ended, &run], vec![&*run]),
        (&["logs", "-f", &ended], vec![&*ended]),
        (&["rerun", ""], vec![&*ended, &*run]),
        (&["describe", "coun"], vec!["countdown"]),
        (&["call", "coun"], vec!["countdown"]),
        (&["--quiet", "call", "--json", "coun"], vec!["countdown"]),
        (&["call", "countdown", "--int"], vec!["--interval-ms"]),
        (&["call", "run", "--job", "arc"], vec!["archive"]),
        (&["call", "run", "--job=arc"], vec!["--job=archive"]),
        (&["call", "run", "--dry-run", "--det"], vec!["--detach"]),
        (&["call", "run", "--dry-run=f"], vec!["--dry-run=false"]),
        (&["call", "run", "--js"], vec![]),
        // No hidden command, no file name where none belongs, no lone hyphen.
        (&["dial"], vec![]),
        (&["de"], vec!["describe"]),
        (&["send", "-"], vec![]),
        (&["run", "archive", "photos", "full", "/et"], vec![]),
    ] {
        let offers = offered(&socket, words);
        let offers: Vec<_> = match words {
            ["send", "-"] => {
                offers.into_iter().filter(|word| word == "-" || word == "--").collect()
            }
            _ => offers,
        };
        assert_eq!(offers, expected, "{words:?}");
    }
}

#[test]
fn running_requests_of_any_server_are_offered() {
    let fake = crate::top::serving(|command| match command.as_str() {
        Some("kakehi.running") => json!({ "status": "OK", "message": "", "content": {
            "running": [{ "run": "7-1", "id": "x", "command": "walk", "age_ms": 1 }],
        } }),
        _ => json!({ "status": "ERROR", "message": "no", "refused": "unsupported" }),
    });
    for command in ["cancel", "attach"] {
        assert_eq!(offered(&fake.socket(), &[command, ""]), ["7-1"], "{command}");
    }
}

#[test]
fn the_socket_is_that_of_the_command_line_with_its_quotes_and_variables() {
    let jobs = Jobs::with(JOBS);
    let (socket, nothing) = (jobs.server.socket(), Path::new("/nonexistent"));
    let socket = socket.to_str().unwrap();
    let equals = format!("--socket={socket}");
    let quoted = format!("'{socket}'");
    for words in [
        &["--socket", socket, "run", "arc"][..],
        &["run", "--socket", &quoted, "arc"],
        &["run", &equals, "arc"],
        &["--socket", "$HERE", "run", "arc"],
        &["--socket", "\"${HERE}\"", "run", "arc"],
    ] {
        let mut program = client(&["kakehi"]);
        program.args(words).env("KAKEHI_COMPLETE", "bash").env("HERE", socket);
        assert_eq!(said(program).stdout, "archive\n", "{words:?}");
    }
    assert!(offered(nothing, &["run", "arc"]).is_empty());
    // Another machine would be asked by ssh, which may ask for a password.
    let elsewhere = ["--host", "ssh://example.invalid", "run", "arc"];
    assert!(offered(Path::new(socket), &elsewhere).is_empty());
    // A server that another user runs is not asked.
    assert!(offered(Path::new(socket), &["--server-uid", "54321", "run", "arc"]).is_empty());
    // A socket is offered as one, and other files are not.
    let folder = jobs.server.folder().to_str().unwrap();
    let named = format!("{folder}/");
    assert_eq!(offered(nothing, &["--socket", &named]), [socket]);
}

/// A description with harmful texts everywhere.
fn hostile() -> Value {
    let bad = [
        "$(touch pwned)",
        "`touch pwned`",
        "a;touch pwned",
        "a b",
        "a\nb",
        "a\rb",
        "\u{1b}]0;x\u{7}",
        "'",
        "\"",
        "\\",
        "*",
        "~root",
        "--yes",
        "-",
        "",
        "a\u{202e}b",
        "a|b",
        "<a",
        "!!",
        "#a",
        "{a,b}",
        "a\u{0}b",
    ];
    let about = "help\u{1b}[31m $(touch pwned) `x` %F{red}\nsecond";
    let command = |name: &str| {
        json!({ "name": name, "text": about, "arguments": {
        "type": "object",
        "properties": bad.iter().map(|bad| ((*bad).to_owned(), json!({ "type": "string" })))
            .chain([("mode".to_owned(), json!({ "enum": bad.iter().chain(&["fast"]).collect::<Vec<_>>() }))])
            .collect::<serde_json::Map<_, _>>(),
    } })
    };
    let commands: Vec<_> = bad.iter().chain(&["good"]).map(|name| command(name)).collect();
    let job = |name: &&str| json!({ "job": name, "run": name, "about": about, "command": about });
    let jobs: Vec<_> = bad.iter().chain(&["good"]).map(job).collect();
    json!({ "describe": { "name": "x", "version": "", "commands": commands }, "list": jobs,
        "status": { "running": jobs }, "runs": jobs })
}

fn answering(answers: Value) -> Fake {
    Fake::start(move |stream, request| {
        let command = request["command"].to_string();
        let answer =
            ["describe", "list", "status", "runs"].into_iter().find(|name| command.contains(name));
        let content = &answers[answer.unwrap()];
        let answer = json!({ "id": request["id"], "version": 0, "status": "OK", "message": "", "content": content });
        let _ = stream.get_mut().write_all(format!("{answer}\0").as_bytes());
    })
}

#[test]
fn nothing_that_a_shell_could_run_is_offered() {
    let fake = answering(hostile());
    let socket = fake.socket();
    for words in [
        &["run", ""][..],
        &["cancel", ""],
        &["attach", ""],
        &["cancel", "--job", ""],
        &["describe", ""],
        &["call", ""],
    ] {
        assert_eq!(offered(&socket, words), ["good"], "{words:?}");
    }
    assert_eq!(offered(&socket, &["call", "good", "--mode", "f"]), ["fast"]);
    assert_eq!(offered(&socket, &["call", "good", ""]), ["--mode", "--help"]);
    for shell in ["zsh", "fish"] {
        let offers = offered_in(shell, &socket, &["run", ""]);
        let separator = if shell == "zsh" { ":" } else { "\t" };
        let slash = if shell == "zsh" { "\\\\" } else { "\\" };
        assert_eq!(
            offers,
            format!("good{separator}help{slash}x1b[31m $(touch pwned) `x` %F{{red}}\n")
        );
    }
}

#[test]
fn a_server_that_hangs_costs_a_tenth_of_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let start = |name: &str| {
        let path = folder.path().join(name);
        (UnixListener::bind(&path).unwrap(), path)
    };
    // It accepts no connection, so its backlog fills.
    let (full, full_path) = start("full");
    let filled = fill(&full);
    let (silent, silent_path) = start("silent");
    let keep = thread::spawn(move || silent.incoming().flatten().take(2).collect::<Vec<_>>());
    // It sends a byte now and then, and never an answer.
    let trickling = Fake::start(|stream, _| {
        while stream.get_mut().write_all(b"{").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let flooding =
        Fake::start(|stream, _| while stream.get_mut().write_all(&vec![b'['; 65536]).is_ok() {});
    for path in [&full_path, &silent_path, &trickling.socket(), &flooding.socket()] {
        assert!(binary("kakehi").exists(), "it is built before the clock runs");
        let start = Instant::now();
        assert!(offered(path, &["run", "a"]).is_empty());
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{}: {:?}",
            path.display(),
            start.elapsed()
        );
    }
    drop((keep, filled, full));
}

/// Shrinks the backlog to nothing and fills it.
fn fill(listener: &UnixListener) -> UnixStream {
    rustix::net::listen(listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    // One connection fits into a backlog of zero.
    UnixStream::connect(address.as_pathname().unwrap()).unwrap()
}

/// A shell in a terminal, with the completions loaded.
struct Shell {
    screen: Screen,
    home: tempfile::TempDir,
}

impl Shell {
    fn start(name: &str, socket: &Path) -> Option<Self> {
        if !has_tool(name) {
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        let programs = binary("kakehi").parent().unwrap().to_str().unwrap().to_owned();
        let path = format!("{programs}:{}", env::var("PATH").unwrap());
        let variables = [
            ("KAKEHI_SOCKET", socket.to_str().unwrap()),
            ("HOME", home.path().to_str().unwrap()),
            ("PATH", &path),
        ];
        let (program, load) = match name {
            "bash" => ("bash --norc --noprofile", "source <(kakehi completions bash)"),
            "zsh" => {
                ("zsh -f", "autoload -U compinit; compinit -D -u; source <(kakehi completions zsh)")
            }
            _ => (
                r#"fish --no-config --init-command 'function fish_prompt; echo "> "; end'"#,
                "kakehi completions fish | source",
            ),
        };
        let screen = Screen::start_in(program, &variables)?;
        screen.enter(&format!("{load}; clear; echo re''ady"));
        screen.wait_for(&["ready", ">"]);
        Some(Self { screen, home })
    }

    /// Types `line` and the tab key, and checks what the line has become. The mark behind it shows
    /// that it is no suggestion.
    fn completes(&self, line: &str, expected: &str) {
        self.screen.type_in(line);
        self.screen.press("Tab");
        self.screen.type_in("@@");
        self.screen.wait_for(&[&format!("> {expected}@@")]);
        self.screen.press("C-u");
        self.screen.enter("clear");
    }
}

/// A command, a flag, a value, a job and a running id, in a real terminal.
fn completes_in(name: &str) {
    let jobs = Jobs::with(JOBS);
    let Some(shell) = Shell::start(name, &jobs.server.socket()) else { return };
    let run = jobs.said(&["run", "--detach", "silent"]).stdout.trim().to_owned();
    assert!(wait_for(|| jobs.running().first().map(|_| ())).is_some());
    shell.completes("kakehi stat", "kakehi status ");
    shell.completes("kakehi call coun", "kakehi call countdown ");
    shell.completes("kakehi call countdown --int", "kakehi call countdown --interval-ms ");
    shell.completes("kakehi call run --job arc", "kakehi call run --job archive ");
    shell.completes("kakehi call run --job=arc", "kakehi call run --job=archive ");
    shell.completes("kakehi --timeout=5s run arc", "kakehi --timeout=5s run archive ");
    shell.completes(
        "kakehi --socket \"$KAKEHI_SOCKET\" run arr",
        "kakehi --socket \"$KAKEHI_SOCKET\" run arrange ",
    );
    shell.completes("kakehi run archive pho", "kakehi run archive photos ");
    shell.completes("kakehi cancel ", &format!("kakehi cancel {run} "));
    shell.completes("kakehi attach ", &format!("kakehi attach {run} "));
}

#[test]
fn bash_completes_a_command_a_flag_a_job_and_a_running_id() {
    completes_in("bash");
}

#[test]
fn zsh_completes_a_command_a_flag_a_job_and_a_running_id() {
    completes_in("zsh");
}

#[test]
fn fish_completes_a_command_a_flag_a_job_and_a_running_id() {
    completes_in("fish");
}

#[test]
fn no_shell_runs_what_a_server_says() {
    let fake = answering(hostile());
    for name in ["bash", "zsh", "fish"] {
        let Some(shell) = Shell::start(name, &fake.socket()) else { continue };
        shell.completes("kakehi run go", "kakehi run good ");
        shell.completes("kakehi call go", "kakehi call good ");
        shell.completes("kakehi call good --mode f", "kakehi call good --mode fast ");
        shell.completes("kakehi call good --mode=", "kakehi call good --mode=fast ");
        let pwned = fs::read_dir(shell.home.path()).unwrap();
        assert!(pwned.flatten().all(|file| file.file_name() != "pwned"), "{name}");
    }
}

#[test]
fn an_installed_script_of_zsh_completes_from_the_first_tab_on() {
    if !has_tool("zsh") {
        return;
    }
    let jobs = Jobs::with(JOBS);
    let Some(shell) = Shell::start("zsh", &jobs.server.socket()) else { return };
    let folder = shell.home.path();
    let script = client(&["completions", "zsh"]).stderr(Stdio::null()).output().unwrap().stdout;
    fs::write(folder.join("_kakehi"), script).unwrap();
    let folder = folder.to_str().unwrap();
    shell.screen.enter("exec env PS1='> ' zsh -f");
    shell.screen.enter(&format!(
        "fpath=({folder} $fpath); autoload -U compinit; compinit -D -u; clear; echo a''gain"
    ));
    shell.screen.wait_for(&["again", ">"]);
    shell.completes("kakehi run arc", "kakehi run archive ");
}
