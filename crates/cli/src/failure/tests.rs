//! Each error of the library, provoked by its cause.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use kakehi_channel::{BufferLimits, Channel};
use kakehi_client::{Client, ClientSettings, Connection, Error, Timeouts};
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
};

use super::*;
use crate::{question::Question, reply::Verbatim};

type Asked = Result<Answer, Error<Answer>>;

/// The exit status, the word and the outcome of an error.
fn facts(asked: Asked) -> (u8, &'static str, Outcome) {
    let failure = Failure::from(asked.unwrap_err());
    // The message of an ERROR is all that is known of it.
    let is_told = failure.word == "failed" || !failure.remedy.is_empty();
    assert!(is_told && !failure.what.is_empty() && !failure.why.is_empty(), "{failure:?}");
    (failure.code, failure.word, failure.outcome)
}

/// Sends a request to a server that writes `text`, and then disconnects unless it `stays`.
async fn answered(text: &str, stays: bool) -> Asked {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let incoming = BufferLimits { initial: 16, max: 400 };
    let channel: Channel<_, _, Verbatim> =
        Channel::with_limits(ours, incoming, BufferLimits::default());
    let patience = if text.is_empty() && stays { 50 } else { 20_000 };
    let mut connection = Connection::new(channel)
        .with_timeouts(Timeouts { timeout: Some(Duration::from_millis(patience)), deadline: None });
    let question = Question::parse(r#"{"id":"a"}"#).unwrap();
    let serving = async {
        theirs.readable().await.unwrap();
        theirs.try_read(&mut [0; 1000]).unwrap();
        theirs.write_all(text.as_bytes()).await.unwrap();
        let kept = stays.then_some(theirs);
        let never = std::future::pending::<Asked>().await;
        drop(kept);
        never
    };
    tokio::select! {
        asked = connection.message(question) => asked,
        never = serving => never,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "callers write the settings in place")]
fn client(path: &Path, settings: ClientSettings) -> Client<Question, Answer, Verbatim> {
    Client::typed(path, ClientSettings { timeout: Some(Duration::from_secs(20)), ..settings })
}

async fn ask(client: Client<Question, Answer, Verbatim>) -> Asked {
    client.message(Question::empty()).await
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_says_that_the_request_was_done() {
    let nested = format!("{}{}", "[".repeat(130), "]".repeat(130));
    let response = |status: &str| {
        let head = r#"{"id":"a","version":0,"message":"x","status":"#;
        format!("{head}\"{status}\",\"content\":{nested}}}\0")
    };
    let asked = answered(&response("OK"), true).await;
    assert_eq!(facts(asked), (exit::PROTOCOL, "unreadable", Outcome::Done));
    let asked = answered(&response("ERROR"), true).await;
    assert_eq!(facts(asked), (exit::ERROR, "failed", Outcome::Failed));
}

#[tokio::test]
async fn a_failure_after_sending_has_an_unknown_outcome() {
    use Outcome::Unknown;
    let other = r#"{"id":"b","version":0,"status":"OK","message":""}"#;
    let version = r#"{"id":"a","version":1,"status":"OK","message":""}"#;
    let long = format!(r#"{{"id":"a","version":0,"status":"OK","message":"{}"}}"#, "x".repeat(400));
    for (text, stays, expected) in [
        ("", true, (exit::TIMEOUT, "timeout", Unknown)),
        ("", false, (exit::PROTOCOL, "disconnected", Unknown)),
        ("{\"id\":\"a\",", false, (exit::PROTOCOL, "disconnected", Unknown)),
        ("nonsense\0", true, (exit::PROTOCOL, "protocol", Unknown)),
        (&format!("{other}\0"), true, (exit::PROTOCOL, "protocol", Unknown)),
        (&format!("{version}\0"), true, (exit::PROTOCOL, "protocol", Unknown)),
        (&format!("{long}\0"), true, (exit::PROTOCOL, "too_large", Unknown)),
    ] {
        assert_eq!(facts(answered(text, stays).await), expected, "{text}");
    }
    let why = Failure::from(answered(&format!("{version}\0"), true).await.unwrap_err()).why;
    assert!(why.contains("version 1") && why.contains("version 0"), "{why}");
}

#[tokio::test]
async fn the_deadline_and_the_timeout_have_different_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    let asked = ask(client(
        &path,
        ClientSettings { deadline: Some(Duration::from_millis(30)), ..ClientSettings::default() },
    ))
    .await;
    assert_eq!(facts(asked), (exit::TIMEOUT, "deadline", Outcome::Unknown));
}

#[tokio::test]
async fn without_a_connection_the_request_is_not_sent() {
    use Outcome::NotSent;
    let folder = tempfile::tempdir().unwrap();
    let path = |name| folder.path().join(name);
    fs::write(path("file"), "").unwrap();
    drop(UnixListener::bind(path("stale")).unwrap());
    let _listener = UnixListener::bind(path("socket")).unwrap();
    for name in ["none", "none/none", "file", "file/none", "stale"] {
        let asked = ask(client(&path(name), ClientSettings::default())).await;
        assert_eq!(facts(asked), (exit::NOT_RUNNING, "not_running", NotSent), "{name}");
    }
    let other = rustix::process::geteuid().as_raw() + 1;
    let asked = ask(client(
        &path("socket"),
        ClientSettings { server_uid: Some(other), ..ClientSettings::default() },
    ))
    .await;
    assert_eq!(facts(asked), (exit::PERMISSION, "permission", NotSent));

    fs::set_permissions(path("socket"), PermissionsExt::from_mode(0o000)).unwrap();
    if !rustix::process::geteuid().is_root() {
        let asked = ask(client(&path("socket"), ClientSettings::default())).await;
        assert_eq!(facts(asked), (exit::PERMISSION, "permission", NotSent));
    }
}

#[tokio::test]
async fn a_server_whose_queue_is_full_is_busy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let socket = tokio::net::UnixSocket::new_stream().unwrap();
    socket.bind(&path).unwrap();
    let _listener = socket.listen(0).unwrap();
    let mut connected = vec![];
    loop {
        match UnixStream::connect(&path).await {
            Ok(stream) => connected.push(stream),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                break;
            }
        }
    }
    let asked = ask(client(&path, ClientSettings::default())).await;
    assert_eq!(facts(asked), (exit::BUSY, "busy", Outcome::NotSent));
}

#[tokio::test]
async fn a_request_over_the_limit_is_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    let tight = BufferLimits { initial: 10, max: 10 };
    let asked =
        ask(client(&path, ClientSettings { outgoing: tight, ..ClientSettings::default() })).await;
    assert_eq!(facts(asked), (exit::PROTOCOL, "too_large", Outcome::NotSent));
}

#[test]
fn a_final_error_has_three_parts() {
    for (refused, word, outcome) in [
        ("", "failed", Outcome::Failed),
        (r#","refused":"denied""#, "permission", Outcome::Refused),
        (r#","refused":"busy""#, "busy", Outcome::Refused),
        (r#","refused":"shutting_down""#, "shutting_down", Outcome::Refused),
        (r#","refused":"malformed""#, "malformed", Outcome::Refused),
        (r#","refused":"too_large""#, "too_large", Outcome::Refused),
        (r#","refused":"too_slow""#, "too_slow", Outcome::Refused),
        (r#","refused":"else""#, "refused", Outcome::Refused),
    ] {
        let text = format!(r#"{{"id":"","version":0,"status":"ERROR","message":""{refused}}}"#);
        let failure = Failure::of_answer(&Answer::of(&text), 1, "a hint");
        assert_eq!((failure.word, failure.outcome), (word, outcome));
        assert_eq!(failure.why, "the server gave no reason");
        assert!(!failure.what.is_empty() && !failure.remedy.is_empty());
    }
}

#[tokio::test]
async fn a_failure_before_the_command_says_that_it_was_not_sent() {
    let lost = || async { Failure::from(answered("", false).await.unwrap_err()) };
    let before = lost().await.before_command();
    assert_eq!((before.outcome, before.code), (Outcome::NotSent, exit::PROTOCOL));
    assert!(before.why.ends_with("; the command was not sent"), "{before:?}");
    assert!(!before.why.contains("may have done"), "{before:?}");
    let asking = lost().await.of_asking();
    assert_eq!(asking.outcome, Outcome::Unknown);
    assert!(!asking.why.contains("may have done"), "{asking:?}");
    let unsent = Failure::usage("a", "b", "c");
    assert_eq!(unsent.clone().before_command(), unsent);
}

#[test]
fn a_failure_with_hostile_parts_is_three_lines_or_one_line_of_json() {
    let hostile = "a\nerror: b\x1b[2J\u{202e}\"\u{9b}";
    let failure = Failure::unsent(1, "usage", [hostile; 3]);
    let text = failure.text("error:");
    assert_eq!(text.lines().count(), 3);
    assert!(text.starts_with("error: a\\nerror: b\\x1b[2J\\u{202e}\"\\u{9b}\n  why: a"), "{text}");
    let line = failure.json();
    assert!(!line.contains(['\n', '\x1b', '\u{202e}', '\u{9b}']), "{line}");
    let fields: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(fields["message"], format!("{hostile}: {hostile}"));
    assert_eq!(fields["outcome"], "not_sent");
    assert!(
        line.starts_with(r#"{"status":"ERROR","error":"usage","outcome":"not_sent","message":"#)
    );
}

#[test]
fn failures_outside_of_the_library_have_a_word_and_an_outcome() {
    use Outcome::{NotSent, Unknown};
    let error = || io::Error::other("too many threads");
    for (failure, code, word, outcome) in [
        (Failure::system(&error()), exit::SYSTEM, "system", NotSent),
        (Failure::output(&error()), exit::OUTPUT, "output", Unknown),
        (Failure::unanswered(), exit::PROTOCOL, "protocol", Unknown),
        (Failure::usage("a", "b", "c"), exit::USAGE, "usage", NotSent),
        (Failure::interrupted(exit::INTERRUPTED, "b"), exit::INTERRUPTED, "interrupted", Unknown),
        (Failure::interrupted(exit::TERMINATED, "b"), exit::TERMINATED, "terminated", Unknown),
    ] {
        assert_eq!((failure.code, failure.word, failure.outcome), (code, word, outcome));
        assert_eq!(failure.text("error:").lines().count(), 3, "{failure:?}");
    }
}
