//! `kakehi fleet top`, in terminals of two sizes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kakehi_channel::Request;
use kakehi_fleet::{Keys, Node};
use kakehi_server::{Answer, Context, Handler};
use serde_json::{Value, json};
use tokio::{process::Command, task::JoinHandle, time::sleep};

use super::{Broker, Terminal};

const WIDE: (u16, u16) = (80, 24);
const SMALL: (u16, u16) = (40, 10);

/// A server whose `status` has one run, until it is cancelled.
#[derive(Clone, Default)]
struct Busy(Arc<Mutex<bool>>);

impl Handler<Value> for Busy {
    type Answer = Answer<Value>;
    type Error = String;

    async fn handle(&self, request: Request<Value>, _: Context) -> Result<Answer<Value>, String> {
        let command = request.command.unwrap_or_default();
        let mut is_cancelled = self.0.lock().unwrap();
        if command == json!({ "cancel": { "id": "0vc9qs1" } }) {
            *is_cancelled = true;
            return Ok(Answer { message: "run 0vc9qs1 is cancelled".into(), content: None });
        }
        if command != "status" {
            return Err(format!("unexpected: {command}"));
        }
        let run = json!({ "run": "0vc9qs1", "id": "x", "command": "run", "job": "backup",
            "age_ms": 65_000, "done": 5, "total": 10, "line": "copied 5\u{1b}[2J of 10" });
        let running = if *is_cancelled { json!([]) } else { json!([run]) };
        let content = json!({ "running": running, "counters": { "ok": 2 } });
        Ok(Answer { message: String::new(), content: Some(content) })
    }
}

async fn node(broker: &Broker, name: &str, handler: impl Handler<Value>) -> JoinHandle<()> {
    let node = Node::connect(broker.url.as_str(), name)
        .labels("role=web".parse().unwrap())
        .keys(Keys::default().unsigned(true));
    let task = tokio::spawn(async { node.serve(handler).await.unwrap() });
    broker.until_connected(name).await;
    task
}

/// `web-1` with a run, and `web-2`, which does not know `status`.
async fn two() -> Option<(Broker, Vec<JoinHandle<()>>)> {
    let broker = Broker::start().await?;
    let other = async |_: Request<Value>, _: Context| Err::<String, _>("no such command");
    let nodes =
        vec![node(&broker, "web-1", Busy::default()).await, node(&broker, "web-2", other).await];
    Some((broker, nodes))
}

fn start(broker: &Broker, size: (u16, u16), more: &str) -> Option<Terminal> {
    let command = format!(
        "clear; A=$(stty -g); KAKEHI_NATS={} XDG_STATE_HOME={} {} fleet top {more}; \
         echo ended $?; [ $A = $(stty -g) ] && echo same",
        broker.url,
        broker.state.path().display(),
        env!("CARGO_BIN_EXE_kakehi"),
    );
    Terminal::start(size, &command)
}

impl Terminal {
    async fn press(&self, key: &str) {
        let keys = ["-L", &self.0, "send-keys", key];
        assert!(Command::new("tmux").args(keys).status().await.unwrap().success());
    }

    /// Checks that the screen shows only the shell's output, and that the terminal has its modes back.
    async fn has_nothing_left(&self, code: i32) {
        let expected = format!("ended {code}\nsame\nstatus 0");
        let screen = self.shows(&["status 0"]).await;
        assert_eq!(screen.trim_end(), expected);
    }
}

#[tokio::test]
async fn each_node_has_a_row_at_both_sizes_and_a_silent_one_too() {
    let Some((broker, nodes)) = two().await else { return };
    let Some(terminal) = start(&broker, WIDE, "") else { return };
    let shown = terminal.shows(&["2 nodes", "1 running  0 queued  2 ok", "web-2", "q quit"]).await;
    for text in
        ["NODE             AGE", "web-1            1 m 05 s", " 50%", "backup", "copied 5\\x1b"]
    {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    assert!(shown.contains("web-2                      error"), "{shown}");
    nodes[1].abort();
    terminal
        .shows(&["2 nodes  1 no answer", "web-2                      no answer", "last seen"])
        .await;
    terminal.press("q").await;
    terminal.has_nothing_left(0).await;
    let terminal = start(&broker, SMALL, "").unwrap();
    terminal
        .shows(&["NODE       AGE", "web-1      1 m 05 s", "web-2               no answer"])
        .await;
    terminal.press("q").await;
    terminal.has_nothing_left(0).await;
}

#[tokio::test]
async fn rows_are_filtered_and_a_run_is_cancelled() {
    let Some((broker, _nodes)) = two().await else { return };
    let Some(terminal) = start(&broker, WIDE, "--interval 200ms") else { return };
    terminal.shows(&["web-1", "web-2", "q quit"]).await;
    for key in ["/", "b", "a", "c", "k", "Enter"] {
        terminal.press(key).await;
    }
    let shown = terminal.shows(&["filter: back  Esc removes it"]).await;
    assert!(shown.contains("web-1") && !shown.contains("web-2"), "{shown}");
    terminal.press("c").await;
    terminal.shows(&["Cancel web-1/0vc9qs1 (run backup)? [y/N]"]).await;
    terminal.press("y").await;
    terminal.shows(&["web-1: run 0vc9qs1 is cancelled"]).await;
    terminal.press("Escape").await;
    terminal.shows(&["web-1                      idle", "role=web"]).await;
    // A node without requests has nothing to cancel.
    terminal.press("c").await;
    sleep(Duration::from_millis(300)).await;
    assert!(!terminal.shows(&["q quit"]).await.contains("[y/N]"));
    terminal.press("C-c").await;
    terminal.has_nothing_left(130).await;
}

#[tokio::test]
async fn nothing_is_left_after_any_way_to_end() {
    let Some((broker, _nodes)) = two().await else { return };
    for size in [WIDE, SMALL] {
        for (key, code) in [("q", 0), ("Escape", 0), ("C-c", 130)] {
            let Some(terminal) = start(&broker, size, "") else { return };
            terminal.shows(&["web-1", "q quit"]).await;
            terminal.press(key).await;
            terminal.has_nothing_left(code).await;
        }
        for signal in ["-TERM", "-HUP"] {
            let terminal = start(&broker, size, "").unwrap();
            terminal.shows(&["web-1", "q quit"]).await;
            let pid = ["-L", &terminal.0, "display-message", "-p", "#{pane_pid}"];
            let pid = Command::new("tmux").args(pid).output().await.unwrap().stdout;
            let pid = String::from_utf8(pid).unwrap();
            let killed =
                Command::new("pkill").args([signal, "-P", pid.trim(), "kakehi"]).status().await;
            assert!(killed.unwrap().success());
            terminal.has_nothing_left(143).await;
        }
    }
}

#[tokio::test]
async fn a_broker_that_is_lost_is_named() {
    let Some((mut broker, _nodes)) = two().await else { return };
    let Some(terminal) = start(&broker, WIDE, "--interval 200ms") else { return };
    terminal.shows(&["web-1", "q quit"]).await;
    let pid = broker.child.id().unwrap().to_string();
    let signal = async |signal: &str| Command::new("kill").args([signal, &pid]).status().await;
    signal("-KILL").await.unwrap();
    broker.child.wait().await.unwrap();
    terminal.shows(&["reconnecting for", "the broker is not connected", "web-1"]).await;
    terminal.press("q").await;
    terminal.has_nothing_left(0).await;
}
