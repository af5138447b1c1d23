//! `top`, and the live lines of other commands, in terminals of two sizes.

use std::{
    io::{BufRead, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use kakehi_tests::programs::{Server, wait_for};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    support::{Fake, Jobs, client_of, said},
    terminal::Screen,
};

const WIDE: (u16, u16) = (80, 24);
const SMALL: (u16, u16) = (40, 10);

const MORE: &str = r#"
[job.steps]
run = ["sh", "-c", "for i in 1 2 3; do echo step $i of 4; done; exec sleep 100"]
progress = 'step (\d+) of (\d+)'
[job.quick]
run = ["sleep", "0.2"]
"#;

/// A server with runs: `steps`, and two of `silent`, of which one waits.
fn busy() -> (Jobs, [String; 3]) {
    let jobs = Jobs::with(MORE);
    let detach = |job| {
        let said = jobs.said(&["run", "--detach", job]);
        assert_eq!(said.code, 0, "{said:?}");
        said.stdout.trim_end().to_owned()
    };
    let runs = ["steps", "silent", "silent"].map(detach);
    (jobs, runs)
}

/// Starts `top` on an empty screen. `before` and `after` surround the command.
fn start(jobs: &Jobs, size: (u16, u16)) -> Option<Screen> {
    let socket = jobs.server.socket();
    let screen = Screen::sized(size, "sh", &[("S", socket.to_str().unwrap())])?;
    // The modes of the terminal are compared too.
    screen.enter("clear; A=$(stty -g); $CLIENT --socket $S top; echo ended $?; [ $A = $(stty -g) ] && echo same");
    Some(screen)
}

/// Waits until `top` has ended, and checks that the rest of the screen is empty.
fn assert_nothing_left(screen: &Screen, code: i32) {
    let expected = format!("ended {code}\nsame\n>");
    let shown = screen.wait_until(|shown| shown.ends_with(&expected));
    assert_eq!(shown, expected);
}

#[test]
fn it_shows_runs_at_both_sizes_and_after_a_resize() {
    let (jobs, [steps, silent, waiting]) = busy();
    let Some(screen) = start(&jobs, WIDE) else { return };
    let wide = |screen: &Screen| {
        let shown =
            screen.wait_for(&["kakehid 0.1.0  up ", "2 running  1 queued", "RUN     USER", &steps]);
        screen.wait_for(&["requests/s", "answer", &steps, &silent, &waiting, "q quit"]);
        for word in ["[#####  ]  75%", "queued #1", "step 3 of 4"] {
            assert!(shown.contains(word), "{word}: {shown}");
        }
        assert_eq!(shown.lines().count(), 24, "{shown}");
    };
    wide(&screen);
    screen.resize(SMALL.0, SMALL.1);
    let shown = screen.wait_for(&["kakehid 0.1.0", "RUN     AGE", &steps, "step 3 of 4", "q quit"]);
    assert!(shown.lines().count() == 10 && shown.contains(" 75%"), "{shown}");
    screen.resize(WIDE.0, WIDE.1);
    wide(&screen);
    screen.press("q");
    assert_nothing_left(&screen, 0);
    let screen = start(&jobs, SMALL).unwrap();
    screen.wait_for(&["2 running  1 queued", "RUN     AGE", &steps, &silent, &waiting, "q quit"]);
    screen.press("q");
    assert_nothing_left(&screen, 0);
}

#[test]
fn the_time_left_comes_from_earlier_runs() {
    let jobs = Jobs::with("[job.twice]\nrun = ['sh', '-c', 'sleep $0']\nargs = ['[0-9]+']\n");
    assert_eq!(jobs.said(&["run", "twice", "2"]).code, 0);
    assert_eq!(jobs.said(&["run", "--detach", "twice", "100"]).code, 0);
    let Some(screen) = start(&jobs, WIDE) else { return };
    screen.wait_until(|shown| shown.contains(" ~1 s") || shown.contains(" ~0 s"));
    // The run takes longer than the earlier one.
    screen.wait_for(&[" +1 s"]);
}

#[test]
fn nothing_is_left_after_any_way_to_end() {
    let (jobs, [steps, ..]) = busy();
    for size in [WIDE, SMALL] {
        for (key, code) in [("q", 0), ("Escape", 0), ("C-c", 130)] {
            let Some(screen) = start(&jobs, size) else { return };
            screen.wait_for(&[&steps, "q quit"]);
            screen.press(key);
            assert_nothing_left(&screen, code);
        }
        for signal in [Signal::TERM, Signal::HUP] {
            let screen = start(&jobs, size).unwrap();
            screen.wait_for(&[&steps, "q quit"]);
            kill_process(screen.process("top"), signal).unwrap();
            assert_nothing_left(&screen, 143);
        }
    }
}

#[test]
fn the_shell_has_its_terminal_while_it_is_stopped() {
    let (jobs, [steps, ..]) = busy();
    let socket = jobs.server.socket();
    let Some(screen) = Screen::sized(WIDE, "sh", &[("S", socket.to_str().unwrap())]) else {
        return;
    };
    screen.enter("set -m; clear; A=$(stty -g); $CLIENT --socket $S top");
    for stop_by_key in [true, false] {
        screen.wait_for(&[&steps, "q quit"]);
        if stop_by_key {
            screen.press("C-z");
        } else {
            kill_process(screen.process("top"), Signal::TSTP).unwrap();
        }
        screen.wait_until(|shown| shown.contains("Stopped") && shown.ends_with('>'));
        let shown = screen.shown();
        assert!(!shown.contains(&steps) && !shown.contains("q quit"), "{shown}");
        screen.enter("clear; [ $A = $(stty -g) ] && echo same");
        screen.wait_for(&["same", ">"]);
        screen.enter("clear; fg");
    }
    screen.wait_for(&[&steps, "q quit"]);
    screen.press("q");
    let shown = screen.wait_until(|shown| shown.ends_with("\n>"));
    assert!(!shown.contains(&steps) && shown.lines().count() == 2, "{shown}");
}

#[test]
fn a_panic_restores_the_terminal_and_is_shown() {
    let folder = kakehi_tests::programs::binary("panics");
    let program = folder.to_str().unwrap();
    let Some(screen) = Screen::sized(WIDE, "sh", &[("PANICS", program)]) else { return };
    screen.enter("clear; A=$(stty -g); $PANICS; echo ended $?; [ $A = $(stty -g) ] && echo same");
    let shown = screen.wait_for(&["panicked at", "the screen is in use", "ended 101", "same"]);
    assert_eq!(screen.tmux(&["display-message", "-p", "#{alternate_on}"]).trim(), "0", "{shown}");
    assert_eq!(screen.tmux(&["display-message", "-p", "#{cursor_flag}"]).trim(), "1", "{shown}");
}

#[test]
fn a_run_is_attached_to_and_cancelled() {
    let (jobs, [steps, silent, _]) = busy();
    let Some(screen) = start(&jobs, WIDE) else { return };
    screen.wait_for(&[&steps, "q quit"]);
    screen.press("Enter");
    screen.wait_for(&["step 1 of 4", "3/4"]);
    let shown = screen.shown();
    assert!(!shown.contains("q quit"), "{shown}");
    // Ctrl-Z must not stop the attached client: the shell cannot continue it without `top`.
    screen.press("C-z");
    screen.press("C-\\");
    screen.wait_for(&[&steps, "q quit"]);
    screen.press("Down");
    screen.press("c");
    screen.wait_for(&[&format!("Cancel {silent} (run silent)? [y/N]")]);
    screen.press("n");
    screen.wait_for(&["q quit"]);
    screen.press("c");
    screen.wait_for(&["[y/N]"]);
    screen.press("y");
    screen.wait_until(|shown| shown.contains("2 running  0 queued"));
    let running = jobs.running();
    assert!(running.iter().all(|run| run["run"] != *silent), "{running:?}");
    // The end of the run is shown until a key is pressed.
    screen.press("Home");
    screen.press("a");
    screen.wait_for(&["step 1 of 4"]);
    assert_eq!(jobs.said(&["cancel", &steps]).code, 0);
    screen.wait_for(&["failed: ", "press a key to return to top"]);
    screen.press("x");
    screen.wait_until(|shown| shown.contains("1 running  0 queued") && shown.contains("q quit"));
    screen.press("q");
    assert_nothing_left(&screen, 0);
}

#[test]
fn rows_are_filtered_sorted_and_explained() {
    let (jobs, [steps, silent, _]) = busy();
    let Some(screen) = start(&jobs, WIDE) else { return };
    screen.wait_for(&[&steps, &silent, "sort: arrival"]);
    screen.press("s");
    screen.wait_for(&["sort: user"]);
    screen.press("r");
    screen.wait_for(&[&silent, &steps, "sort: user reversed"]);
    screen.enter("/steps");
    screen.wait_until(|shown| shown.contains(&steps) && !shown.contains(&silent));
    screen.press("Escape");
    screen.wait_for(&[&silent, &steps]);
    screen.press("?");
    screen.wait_for(&["Ctrl-Z", "quit"]);
    screen.press("x");
    screen.wait_until(|shown| !shown.contains("Ctrl-Z"));
    screen.press("C-c");
    assert_nothing_left(&screen, 130);
}

#[test]
fn it_connects_again_to_a_server_that_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("link");
    let first = Server::start(&[]);
    std::os::unix::fs::symlink(first.socket(), &socket).unwrap();
    let Some(screen) = Screen::sized(WIDE, "sh", &[("S", socket.to_str().unwrap())]) else {
        return;
    };
    screen.enter("clear; A=$(stty -g); $CLIENT --socket $S top -n 200ms; echo ended $?; [ $A = $(stty -g) ] && echo same");
    screen.wait_for(&["kakehid 0.1.0  up ", "nothing runs"]);
    drop(first);
    screen.wait_for(&["reconnecting for "]);
    let second = Server::start(&[]);
    std::fs::remove_file(&socket).unwrap();
    std::os::unix::fs::symlink(second.socket(), &socket).unwrap();
    screen.wait_for(&["kakehid 0.1.0  up ", "nothing runs"]);
    drop(second);
    screen.wait_for(&["reconnecting for "]);
    screen.press("q");
    assert_nothing_left(&screen, 0);
}

/// A server that answers each request of a connection by a function.
pub(crate) fn serving(answer: impl Fn(&Value) -> Value + Send + Sync + Clone + 'static) -> Fake {
    Fake::start(move |stream, first| {
        let mut next = Some(first);
        while let Some(request) = next {
            let mut response = answer(&request["command"]);
            response["id"] = request["id"].clone();
            response["version"] = json!(0);
            let _ = stream.get_mut().write_all(format!("{response}\0").as_bytes());
            let mut frame = vec![];
            let read = stream.read_until(0, &mut frame).unwrap_or(0);
            frame.pop();
            next = (read > 0).then(|| serde_json::from_slice(&frame).ok()).flatten();
        }
    })
}

#[test]
fn other_servers_are_shown_as_far_as_they_tell() {
    let unsupported = json!({ "status": "ERROR", "message": "no", "refused": "unsupported" });
    let silent = serving(move |command| match command.as_str() {
        Some("kakehi.describe") => json!({
            "status": "OK", "message": "", "content": { "name": "cached", "version": "2.0", "commands": [1, 2] },
        }),
        _ => unsupported.clone(),
    });
    let counting = serving(
        |_| json!({ "status": "OK", "message": "well", "content": { "hits": 7, "queue": { "length": 3 } } }),
    );
    let listing = serving(|_| {
        let running =
            json!([{ "id": "x1", "command": "warm", "age_ms": 61_000, "done": 1, "total": 2 }]);
        json!({ "status": "OK", "message": "", "content": { "running": running } })
    });
    for (fake, words) in [
        (&silent, &["cached 2.0", "2 commands and does not answer `status`"][..]),
        (&counting, &["well", "hits", "7", "queue.length  3"][..3]),
        (&listing, &["1 running  0 queued", "x1", "q quit"]),
    ] {
        let socket = fake.socket();
        let Some(screen) = Screen::sized(WIDE, "sh", &[("S", socket.to_str().unwrap())]) else {
            return;
        };
        screen.enter("clear; $CLIENT --socket $S top; echo ended $?");
        screen.wait_until(|shown| words.iter().all(|word| shown.contains(word)));
        screen.press("q");
        screen.wait_for(&["ended 0"]);
    }
}

#[test]
fn a_question_that_the_server_does_not_know_is_asked_once() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let fake = serving(move |command| {
        if command == "kakehi.running" {
            let running = json!([{ "run": "7-1", "id": "x", "command": "walk", "age_ms": 61_000 }]);
            return json!({ "status": "OK", "message": "", "content": { "running": running } });
        }
        counted.fetch_add(1, Ordering::SeqCst);
        json!({ "status": "ERROR", "message": "no", "refused": "unsupported" })
    });
    let socket = fake.socket();
    let Some(screen) = Screen::sized(WIDE, "sh", &[("S", socket.to_str().unwrap())]) else {
        return;
    };
    screen.enter("clear; $CLIENT --socket $S top; echo ended $?");
    screen.wait_for(&["1 running", "7-1", "walk"]);
    sleep(Duration::from_secs(3));
    screen.press("q");
    screen.wait_for(&["ended 0"]);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn a_hostile_server_cannot_touch_the_terminal() {
    const ATTACK: &str = "\x1b]0;owned\x07\x1b[2J\x1b[H\r\nowned\u{9b}2J\u{202e}";
    let fake = serving(|_| {
        let running = json!([{
            "run": ATTACK, "id": ATTACK, "command": ATTACK, "job": ATTACK, "args": [ATTACK], "uid": 0,
            "age_ms": u64::MAX, "line": ATTACK.repeat(1000), "done": 1e300, "total": 1e-300,
        }]);
        let content = json!({
            "version": ATTACK, "pid": 1, "uptime_ms": u64::MAX, "running": running, ATTACK: 1e308,
            "counters": { ATTACK: -1e308, "ok": 1e308 },
        });
        json!({ "status": "OK", "message": ATTACK, "content": content })
    });
    let socket = fake.socket();
    let Some(screen) = Screen::sized(WIDE, "sh", &[("S", socket.to_str().unwrap())]) else {
        return;
    };
    screen.enter("clear; echo before; $CLIENT --socket $S top -n 100ms; echo ended $?");
    screen.wait_for(&["kakehid \\x1b]0;owned", "RUN     USER", "\\x1b", "q quit"]);
    for key in ["c", "n", "/", "x", "Escape", "?", "x", "Down"] {
        screen.press(key);
        sleep(Duration::from_millis(120));
        let shown = screen.shown();
        assert!(shown.lines().all(|line| !line.starts_with("owned")), "{shown}");
    }
    assert_ne!(screen.tmux(&["display-message", "-p", "#{pane_title}"]).trim(), "owned");
    screen.press("q");
    screen.wait_until(|shown| shown == "before\nended 0\n>");
}

/// The commands that draw a live line, each with a text that is on the screen while it runs.
const LIVE: [(&str, &str); 3] = [("run steps", "3/4"), ("attach $R", "3/4"), ("logs -f $R", " s ")];

#[test]
fn a_live_line_fits_and_leaves_nothing_after_any_way_to_end() {
    let jobs = Jobs::with(&MORE.replace("[job.quick]", "at_once = 9\n[job.quick]"));
    let run = said(client_of(&jobs.server.socket(), &["run", "--detach", "steps"])).stdout;
    let socket = jobs.server.socket();
    let variables = [("S", socket.to_str().unwrap()), ("R", run.trim_end())];
    for size in [WIDE, SMALL] {
        let Some(screen) = Screen::sized(size, "sh", &variables) else { return };
        for (command, live) in LIVE {
            for end in ["C-c", "TERM", "HUP"] {
                screen.enter(&format!("clear; $CLIENT --socket $S {command}; echo ended"));
                let shown = screen.wait_for(&["step 1 of 4", "step 3 of 4", live]);
                let lines: Vec<_> = shown.lines().collect();
                assert_eq!(lines.len(), 4, "the live line is one line: {shown}");
                let name = command.split(' ').next().unwrap();
                match end {
                    "TERM" => kill_process(screen.process(name), Signal::TERM).unwrap(),
                    "HUP" => kill_process(screen.process(name), Signal::HUP).unwrap(),
                    key => screen.press(key),
                }
                let shown = screen.wait_until(|shown| shown.ends_with("ended\n>"));
                assert!(!shown.contains(live) && !shown.contains("^C"), "{end}: {shown}");
                let mut lines = shown.lines().skip_while(|line| *line != "step 3 of 4").skip(1);
                let next = lines.next().unwrap();
                let starts = ["failed:", "error:", "interrupted", "ended"];
                assert!(starts.iter().any(|start| next.starts_with(start)), "{shown}");
            }
        }
    }
}

#[test]
fn a_live_line_makes_room_for_the_shell_while_it_is_stopped() {
    let jobs = Jobs::with(MORE);
    let socket = jobs.server.socket();
    let Some(screen) = Screen::sized(WIDE, "sh", &[("S", socket.to_str().unwrap())]) else {
        return;
    };
    screen.enter("set -m; clear; $CLIENT --socket $S run steps");
    screen.wait_for(&["step 3 of 4", "3/4"]);
    screen.press("C-z");
    let shown = screen.wait_until(|shown| shown.contains("Stopped") && shown.ends_with('>'));
    assert!(!shown.contains("3/4"), "{shown}");
    screen.enter("clear; fg");
    screen.wait_for(&["3/4"]);
    screen.press("C-c");
    let shown = screen.wait_until(|shown| shown.ends_with("\n>"));
    assert!(!shown.contains("3/4"), "{shown}");
    assert!(wait_for(|| jobs.running().is_empty().then_some(())).is_some());
}
