//! The screen, as people see it.

use std::{
    fs,
    io::{BufRead, Write},
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use kakehi_tests::programs::{binary, has_tool, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::{Fake, Jobs};

/// A terminal with a shell in it.
pub(crate) struct Screen {
    folder: TempDir,
}

impl Screen {
    /// `None` where there is no tmux.
    pub(crate) fn start(variables: &[(&str, &str)]) -> Option<Self> {
        Self::start_in("sh", variables)
    }

    /// The same with another shell.
    pub(crate) fn start_in(program: &str, variables: &[(&str, &str)]) -> Option<Self> {
        Self::sized((90, 15), program, variables)
    }

    /// The same with this many columns and lines.
    pub(crate) fn sized(
        (columns, lines): (u16, u16),
        program: &str,
        variables: &[(&str, &str)],
    ) -> Option<Self> {
        if !has_tool("tmux") {
            return None;
        }
        let screen = Self { folder: tempfile::tempdir().unwrap() };
        let mut shell = String::from("exec env -u NO_COLOR -u KAKEHI_SOCKET PS1='> ' ENV= ");
        for (name, value) in variables {
            shell.extend([name, "='", value, "' "]);
        }
        shell.extend(["CLIENT='", binary("kakehi").to_str().unwrap(), "' ", program]);
        let [columns, lines] = [columns, lines].map(|size| size.to_string());
        let start = ["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &lines, &shell];
        screen.tmux(&start);
        screen.wait_for(&[">"]);
        Some(screen)
    }

    pub(crate) fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-u", "-S"])
            .arg(self.folder.path().join("tmux"))
            .args(arguments)
            .stdin(Stdio::null())
            .env_remove("TMUX")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Types a text.
    pub(crate) fn type_in(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Types a command.
    pub(crate) fn enter(&self, line: &str) {
        self.type_in(line);
        self.tmux(&["send-keys", "Enter"]);
    }

    pub(crate) fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    pub(crate) fn shown(&self) -> String {
        self.tmux(&["capture-pane", "-p"]).trim_end().to_owned()
    }

    /// Changes the size.
    pub(crate) fn resize(&self, columns: u16, lines: u16) {
        let [columns, lines] = [columns, lines].map(|size| size.to_string());
        self.tmux(&["resize-window", "-x", &columns, "-y", &lines]);
    }

    /// The process below the shell that has `word` on its command line.
    pub(crate) fn process(&self, word: &str) -> Pid {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let shell: u32 = shell.trim().parse().unwrap();
        let found = wait_for(|| {
            let mut waiting = vec![shell];
            while let Some(pid) = waiting.pop() {
                let path = format!("/proc/{pid}/task/{pid}/children");
                let children = fs::read_to_string(path).unwrap_or_default();
                waiting.extend(children.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
                let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                if pid != shell && line.split('\0').any(|part| part == word) {
                    return Pid::from_raw(pid.try_into().unwrap());
                }
            }
            None
        });
        found.unwrap_or_else(|| panic!("no {word} runs:\n{}", self.shown()))
    }

    /// Waits until the screen is as `expected` says.
    pub(crate) fn wait_until(&self, expected: impl Fn(&str) -> bool) -> String {
        let seen = wait_for(|| Some(self.shown()).filter(|shown| expected(shown)));
        seen.unwrap_or_else(|| panic!("the screen is not as expected:\n{}", self.shown()))
    }

    /// With its colours.
    fn painted(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// Waits until all of `words` are on the screen, in the order of lines.
    pub(crate) fn wait_for(&self, words: &[&str]) -> String {
        let seen = wait_for(|| {
            let shown = self.shown();
            let mut lines = shown.lines();
            let all = words.iter().all(|word| lines.any(|line| line.contains(word)));
            all.then_some(shown)
        });
        seen.unwrap_or_else(|| panic!("{words:?} are not all on the screen:\n{}", self.shown()))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = Command::new("tmux")
            .arg("-S")
            .arg(self.folder.path().join("tmux"))
            .arg("kill-server")
            .output();
    }
}

/// The lines behind the one that was typed, up to the next prompt.
fn result(shown: &str) -> Vec<&str> {
    shown.lines().skip_while(|line| !line.starts_with("> ")).skip(1).collect()
}

#[test]
fn a_bar_shows_how_far_it_is_and_nothing_of_it_is_left() {
    let server = kakehi_tests::programs::Server::start(&[]);
    let socket = server.socket();
    let Some(screen) = Screen::start(&[("S", socket.to_str().unwrap())]) else { return };
    let request = r#"{"command":{"countdown":{"steps":3,"interval_ms":700}}}"#;
    screen.enter(&format!("$CLIENT --socket $S send '{request}'; echo ended $?"));
    screen.wait_for(&["0 s [>", "0/3 Not done yet"][..1]);
    let shown = screen.wait_for(&["[================>       ] 2/3 Not done yet"]);
    assert!(shown.lines().last().unwrap().contains("1 s ["), "with the time so far: {shown}");
    let shown = screen.wait_for(&["ended 0"]);
    let all = shown.replace('\n', "");
    assert!(all.ends_with("Doneended 0>"), "nothing else is left: {shown}");
    assert!(!all.contains("2/3"), "{shown}");
}

#[test]
fn nothing_is_left_of_a_live_line_in_a_terminal_that_became_narrower() {
    let server = kakehi_tests::programs::Server::start(&[]);
    let socket = server.socket();
    let variables = [("S", socket.to_str().unwrap())];
    // The line is in the middle of the screen, or at its bottom. From the top, tmux moves the first
    // row of a wrapped line into its history.
    for fill in ["clear; seq 1 9", "clear; seq 1 40"] {
        let Some(screen) = Screen::sized((80, 15), "sh", &variables) else { return };
        let request = r#"{"command":{"countdown":{"steps":999,"interval_ms":300}}}"#;
        screen.enter(&format!("{fill}; $CLIENT --socket $S send '{request}'; echo ended $?"));
        screen.wait_for(&["/999 Not done yet"]);
        for columns in [40, 30, 50, 35] {
            screen.resize(columns, 15);
            let step = screen.wait_until(|shown| shown.contains("/999 "));
            let step = step.split("/999 ").next().unwrap().rsplit(' ').next().unwrap().to_owned();
            // The next step is drawn after the terminal was resized.
            screen.wait_until(|shown| !shown.contains(&format!(" {step}/999 ")));
            let all = screen.tmux(&["capture-pane", "-p", "-S", "-"]);
            assert_eq!(all.matches(" s [").count(), 1, "{columns}: {all}");
            assert!(all.trim_end().lines().last().unwrap().contains(" s ["), "{columns}: {all}");
        }
        screen.press("C-c");
        screen.wait_for(&["ended 130"]);
        let all = screen.tmux(&["capture-pane", "-p", "-S", "-"]);
        assert!(!all.contains(" s ["), "{all}");
    }
}

#[test]
fn streamed_results_stay_on_the_screen_and_steps_are_a_bar() {
    let progress = |message: &str, content: &str| {
        format!(
            r#"{{"id":"ID","version":0,"status":"PROCESSING","message":"{message}","content":{content}}}"#
        )
    };
    let watch = [
        progress("", r#"{"key":"a"}"#),
        progress("second", r#"{"key":"b"}"#),
        progress("only a message", "null"),
        progress("half", r#"{"done":1,"total":2}"#),
    ];
    let mut watch = watch.join("\0") + "\0";
    watch.retain(|character| character != '\n');
    let fake = Fake::start(move |stream, request| {
        let id = request["id"].as_str().unwrap();
        let described = r#"{"name":"x","version":"","commands":[{"name":"watch","arguments":{"type":"null"}}]}"#;
        let text = match request["command"].as_str() {
            Some("watch") => watch.clone(),
            _ => {
                format!(
                    r#"{{"id":"ID","version":0,"status":"OK","message":"","content":{described}}}"#
                ) + "\0"
            }
        };
        let _ = stream.get_mut().write_all(text.replace("\"ID\"", &format!("\"{id}\"")).as_bytes());
        let _ = stream.read_until(0, &mut vec![]);
    });
    let socket = fake.socket();
    let Some(screen) = Screen::start(&[("S", socket.to_str().unwrap())]) else { return };
    screen.enter("$CLIENT --socket $S call watch; echo ended $?");
    screen.wait_for(&["only a message", "[============>           ] 1/2 half"]);
    screen.press("C-c");
    let shown = screen.wait_for(&["ended 130"]);
    let lines = result(&shown);
    let items = ["{\"key\":\"a\"}", "second {\"key\":\"b\"}", "processing: only a message"];
    assert_eq!(lines[..3], items, "{shown}");
    assert!(!shown.contains("1/2"), "nothing of the bar is left: {shown}");
    screen.enter("clear; $CLIENT --socket $S --json --timeout 1s call watch; echo ended $?");
    let shown = screen.wait_for(&["ended 124"]).replace('\n', "");
    assert!(shown.contains(r#""content":{"key":"b"}}"#), "{shown}");
}

#[test]
fn the_doctor_ticks_off_what_is_well_and_says_what_to_do() {
    let server = kakehi_tests::programs::Server::start(&[]);
    let socket = server.socket();
    let Some(screen) = Screen::start(&[("S", socket.to_str().unwrap())]) else { return };
    screen.enter("$CLIENT --socket $S doctor; echo ended $?");
    let shown = screen.wait_for(&["✓ the server answered", "ended 0"]);
    assert!(!shown.contains('✗'), "{shown}");
    screen.enter("clear; $CLIENT --socket $S.none doctor; echo ended $?");
    screen.wait_for(&["✓ ", "✗ there is no socket at ", "  why: ", "  try: start the", "ended 69"]);
}

#[test]
fn the_spinner_stands_below_what_a_job_writes() {
    let jobs = Jobs::start();
    let socket = jobs.server.socket();
    let Some(screen) = Screen::start(&[("S", socket.to_str().unwrap())]) else { return };
    screen.enter("$CLIENT --socket $S run silent; echo ended $?");
    let shown = screen.wait_for(&["begun", " 1 s"]);
    let lines = result(&shown);
    assert_eq!(lines[0], "begun");
    assert!(["| 1 s", "/ 1 s", "- 1 s", "\\ 1 s"].contains(&lines[1]), "{shown}");
    screen.press("C-c");
    let shown = screen.wait_for(&["ended 130"]);
    let lines = result(&shown);
    assert!(lines[1].starts_with("interrupted: "), "the line has made room: {shown}");
    assert!(!shown.contains("^C") && !shown.contains(" 1 s"), "{shown}");
    let failed = lines.iter().find(|line| line.starts_with("failed: "));
    let uid = rustix::process::geteuid().as_raw();
    let expected = format!("failed: `silent` was ended: cancelled by uid {uid}");
    assert_eq!(failed, Some(&&*expected), "{shown}");
    jobs.wait_until_idle();
}

#[test]
fn the_live_line_makes_room_for_each_line() {
    let jobs = Jobs::start();
    let socket = jobs.server.socket();
    let Some(screen) = Screen::start(&[("S", socket.to_str().unwrap())]) else { return };
    screen.enter("$CLIENT --socket $S run slow; echo ended $?");
    let shown = screen.wait_for(&["ended 0"]);
    let lines = result(&shown);
    assert_eq!(lines[..3], ["1", "2", "3"], "{shown}");
    assert!(lines[3].starts_with("success: `slow` ended in"), "{shown}");
}

#[test]
fn carriage_returns_of_a_job_show_in_the_live_line() {
    let jobs = Jobs::start();
    let socket = jobs.server.socket();
    let Some(screen) = Screen::start(&[("S", socket.to_str().unwrap())]) else { return };
    screen.enter("$CLIENT --socket $S run returns; echo ended $?");
    screen.wait_for(&[" 1 s 40%"]);
    let shown = screen.wait_for(&["ended 0"]);
    assert_eq!(result(&shown)[0], " 70% done", "{shown}");
    assert!(!shown.contains("40%"), "{shown}");
}

#[test]
fn a_line_of_a_job_that_has_no_end_is_not_written_over() {
    let jobs = Jobs::start();
    let socket = jobs.server.socket();
    let Some(screen) = Screen::start(&[("S", socket.to_str().unwrap())]) else { return };
    screen.enter("$CLIENT --socket $S run bytes; echo ended $?");
    let shown = screen.wait_for(&["ended 0"]);
    let lines = result(&shown);
    assert_eq!(lines[..3], ["tab     here", "\\x1b[31m\\xff", "no end"], "{shown}");
    assert!(lines[3].starts_with("success: `bytes` ended in"), "{shown}");
}

#[test]
fn a_piece_of_a_line_is_not_written_over_while_the_rest_is_awaited() {
    let piece = r#"{"id":"ID","version":0,"status":"PROCESSING","message":"a piece","content":{"stream":"stdout","cut":true}}"#;
    let fake = Fake::answers(&[piece]);
    let socket = fake.socket();
    let Some(screen) = Screen::start(&[("S", socket.to_str().unwrap())]) else { return };
    screen.enter("$CLIENT --socket $S run job --timeout 700ms; echo ended $?");
    let shown = screen.wait_for(&["ended 124"]);
    let lines = result(&shown);
    assert_eq!(lines[0], "a piece", "{shown}");
    assert!(lines[1].starts_with("error: "), "on a line of its own: {shown}");
}

#[test]
fn ctrl_c_leaves_nothing_of_a_live_line_that_fills_the_terminal() {
    let long = "so far ".repeat(30);
    let progress = format!(
        r#"{{"id":"ID","version":0,"status":"PROCESSING","message":"{long}","content":{{"done":1,"total":2}}}}"#
    );
    let fake = Fake::answers(&[&progress]);
    let socket = fake.socket();
    let Some(screen) = Screen::start(&[("S", socket.to_str().unwrap())]) else { return };
    screen.enter("$CLIENT --socket $S run job; echo ended $?");
    screen.wait_for(&["1/2 so far so far"]);
    screen.press("C-c");
    let shown = screen.wait_for(&["ended 130"]);
    assert!(result(&shown)[0].starts_with("interrupted: "), "{shown}");
    assert!(!shown.contains("1/2") && !shown.contains("^C"), "{shown}");
}

#[test]
fn a_terminal_that_is_stopped_does_not_stop_signals() {
    let jobs = Jobs::start();
    let socket = jobs.server.socket();
    let Some(screen) = Screen::start(&[("S", socket.to_str().unwrap())]) else { return };
    screen.enter("$CLIENT --socket $S run silent; echo ended $?");
    screen.wait_for(&["begun", " 1 s"]);
    screen.press("C-s");
    // The live line would turn some times.
    sleep(Duration::from_millis(500));
    let mark = format!("--socket\0{}\0", socket.display());
    kill_process(process_with(&mark).unwrap(), Signal::TERM).unwrap();
    let gone = wait_for(|| process_with(&mark).is_none().then_some(()));
    screen.press("C-q");
    assert!(gone.is_some(), "it goes on");
    screen.wait_for(&["ended 143"]);
    jobs.wait_until_idle();
}

/// The client that has `mark` on its command line.
fn process_with(mark: &str) -> Option<Pid> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let pid = pids.find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(mark)
            && line.windows(4).any(|part| part == b"run\0")
    });
    pid.and_then(Pid::from_raw)
}

#[test]
fn quiet_and_a_dumb_terminal_have_no_live_line() {
    let server = kakehi_tests::programs::Server::start(&[]);
    let socket = server.socket();
    let Some(screen) = Screen::start(&[("S", socket.to_str().unwrap())]) else { return };
    let request = r#"{"command":{"countdown":{"steps":2,"interval_ms":300}}}"#;
    screen.enter(&format!("R='{request}'"));
    for (number, before, after, expected) in [
        (101, "", "-q", &["Done", "ended 101", ">"][..]),
        (
            102,
            "TERM=dumb",
            "",
            &["processing: Not done yet", "processing: Not done yet", "Done", "ended 102", ">"],
        ),
    ] {
        let client = format!("{before} $CLIENT --socket $S send \"$R\" {after}");
        screen.enter(&format!("clear; {client}; echo ended $(({number} + $?))"));
        let seen = wait_for(|| {
            let shown = screen.shown();
            assert!(!shown.contains("0 s"), "{shown}");
            shown.ends_with(&format!("ended {number}\n>")).then_some(shown)
        });
        assert_eq!(seen.unwrap().lines().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    let fake = Fake::answers(&[r#"{"id":"ID","version":0,"status":"OK","message":"Done"}"#]);
    let socket = fake.socket();
    let Some(screen) = Screen::start(&[("S", socket.to_str().unwrap())]) else { return };
    for (number, (line, is_coloured)) in (0..).zip([
        ("$CLIENT demo --socket $S", true),
        ("NO_COLOR=1 $CLIENT demo --socket $S", false),
        ("NO_COLOR= $CLIENT demo --socket $S", true),
        ("NO_COLOR=1 $CLIENT demo --socket $S --color always", true),
        ("$CLIENT demo --socket $S --color never", false),
        ("$CLIENT demo --socket $S | cat", false),
        ("$CLIENT demo --socket $S --color always | cat", true),
    ]) {
        // The screen is cleared, so that earlier output does not count.
        screen.enter(&format!("clear; {line}; echo ended $((100 + {number}))"));
        screen.wait_for(&["success: Done", &format!("ended {}", 100 + number)]);
        let painted = screen.painted();
        assert_eq!(painted.contains("\x1b[32msuccess:"), is_coloured, "{line}: {painted:?}");
    }
}

#[test]
fn a_hostile_server_cannot_touch_the_screen() {
    let attack = r"\u001b]0;owned\u0007\u001b[2J\u001b[H\rowned\u009b2J\u202e";
    let progress = format!(
        r#"{{"id":"ID","version":0,"status":"PROCESSING","message":"{attack}","content":{{"done":1,"total":2}}}}"#
    );
    let progress = format!("{progress}\0");
    let fake = Fake::writes(progress.as_bytes(), crate::support::Then::Stays);
    let socket = fake.socket();
    let Some(screen) = Screen::start(&[("S", socket.to_str().unwrap())]) else { return };
    screen.enter("echo before; $CLIENT --socket $S run job --timeout 1s; echo ended $?");
    let shown = screen.wait_for(&["before", "1/2 \\x1b]0;"]);
    assert!(result(&shown)[1].starts_with(['|', '/', '-', '\\']), "one line: {shown}");
    let shown = screen.wait_for(&["before", "error: ", "ended 124"]);
    assert!(!shown.contains("1/2"), "{shown}");
    assert_ne!(screen.tmux(&["display-message", "-p", "#{pane_title}"]).trim(), "owned");
}

#[test]
fn a_job_that_must_be_confirmed_is_run_after_a_yes_only() {
    let jobs = Jobs::with(
        "[job.careful]\nabout = 'wipes\\na disk'\nrun = ['echo', 'ran']\nconfirm = true\n",
    );
    let socket = jobs.server.socket();
    let Some(screen) = Screen::start(&[("S", socket.to_str().unwrap())]) else { return };
    let ask = |number: usize| {
        // Words of the last time would be taken for those of this one.
        screen.enter(&format!(
            "clear; echo {number}; $CLIENT --socket $S run careful; echo ended $?"
        ));
        let shown = screen.wait_for(&[&number.to_string(), "wipes\\na disk", "Run it? [y/N]"]);
        assert!(!shown.contains("ended"), "{shown}");
    };
    for (number, (answer, code, said)) in
        [("", 125, "not confirmed"), ("n", 125, "not confirmed"), ("y", 0, "ran")]
            .into_iter()
            .enumerate()
    {
        ask(number);
        screen.enter(answer);
        let shown = screen.wait_for(&["Run it? [y/N]", &format!("ended {code}")]);
        assert!(shown.contains(said), "{shown}");
    }
    ask(3);
    screen.press("C-c");
    screen.wait_for(&["Run it? [y/N]", "error: interrupted", "ended 130"]);
    jobs.said(&["run", "careful"]).assert_failed(125, &["must be confirmed", "--yes"]);
    assert_eq!(jobs.said(&["run", "careful", "--yes"]).stdout, "ran\n");
}

#[test]
fn nothing_is_written_beside_a_pager() {
    let jobs = Jobs::start();
    let socket = jobs.server.socket();
    let Some(screen) = Screen::start(&[("S", socket.to_str().unwrap())]) else { return };
    // The reader shows everything at the end, so that only the client could write before.
    screen.enter("clear; $CLIENT --socket $S run slow | { sleep 2; cat; }; echo ended");
    let shown = screen.wait_for(&["1", "2", "3", "ended"]);
    assert_eq!(shown, "1\n2\n3\nended\n>");
}

#[test]
fn tables_are_shortened_to_a_narrow_screen_and_do_not_wrap() {
    let about = "a text that is much wider than the screen, which has 40 columns only";
    let jobs = Jobs::with(&format!(
        "[job.narrow]\nabout = '{about}'\nrun = ['sh', '-c', 'sleep 100']\n\
         args = ['[a-z]{{1,64}}', '[a-z]{{1,64}}']\n"
    ));
    let socket = jobs.server.socket();
    let variables = [("KAKEHI_SOCKET", socket.to_str().unwrap())];
    let Some(screen) = Screen::sized((40, 30), "sh", &variables) else { return };
    let long = "x".repeat(60);
    assert_eq!(jobs.said(&["run", "--detach", "narrow", &long, &long]).code, 0);
    for (command, rows) in [("list", 16), ("status", 8), ("runs", 2)] {
        screen.enter(&format!("clear; $CLIENT {command}; echo \"{command} ended $?\""));
        let end = format!("{command} ended 0");
        let shown = screen.wait_until(|shown| shown.lines().any(|line| line == end));
        let lines: Vec<_> = shown.lines().take_while(|line| *line != end).collect();
        assert_eq!(lines.len(), rows, "{command}:\n{shown}");
        let is_cut = lines.iter().any(|line| line.ends_with("..."));
        assert!(is_cut && lines.iter().all(|line| line.chars().count() <= 40), "{shown}");
    }
    screen.enter("clear; $CLIENT list --no-trunc; echo \"whole $?\"");
    let whole = screen.wait_for(&["whole 0"]).replace('\n', "");
    assert!(whole.contains("40 columns only"), "{whole}");
}
