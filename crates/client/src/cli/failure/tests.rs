//! Each error that the library can have, by its own cause.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use kakehi_channel::{Channel, Limits};
use kakehi_client::{Client, ClientBuilder, Connection, Error};
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
};

use super::*;
use crate::cli::{question::Question, reply::Verbatim};

type Asked = Result<Answer, Error<Answer>>;

/// What is said of an error, but for the words.
fn facts(asked: Asked) -> (u8, &'static str, Outcome) {
    let failure = Failure::from(asked.unwrap_err());
    for part in [&failure.what, &failure.why, &failure.remedy] {
        assert!(!part.is_empty(), "{failure:?}");
    }
    (failure.code, failure.word, failure.outcome)
}

/// Asks a server that writes `text` and then leaves, unless it is to stay.
async fn answered(text: &str, stays: bool) -> Asked {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let incoming = Limits { initial: 16, max: 200 };
    let channel: Channel<_, _, Verbatim> = Channel::with_limits(ours, incoming, Limits::DEFAULT);
    let patience = if text.is_empty() && stays { 50 } else { 20_000 };
    let mut connection = Connection::new(channel).timeout(Duration::from_millis(patience));
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
        asked = connection.call(question) => asked,
        never = serving => never,
    }
}

fn client(path: &Path) -> ClientBuilder<Question, Answer, Verbatim> {
    ClientBuilder::new(path).timeout(Duration::from_secs(20))
}

async fn ask(client: Client<Question, Answer, Verbatim>) -> Asked {
    client.call(Question::empty()).await
}

#[tokio::test]
async fn what_goes_wrong_after_sending_is_of_unknown_outcome() {
    use Outcome::Unknown;
    let other = r#"{"id":"b","version":0,"status":"OK","message":""}"#;
    let version = r#"{"id":"a","version":1,"status":"OK","message":""}"#;
    let long = format!(r#"{{"id":"a","version":0,"status":"OK","message":"{}"}}"#, "x".repeat(200));
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
async fn the_deadline_is_told_from_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    let asked = ask(client(&path).deadline(Duration::from_millis(30)).build()).await;
    assert_eq!(facts(asked), (exit::TIMEOUT, "deadline", Outcome::Unknown));
}

#[tokio::test]
async fn where_no_connection_can_be_made_nothing_was_sent() {
    use Outcome::NotSent;
    let folder = tempfile::tempdir().unwrap();
    let path = |name| folder.path().join(name);
    fs::write(path("file"), "").unwrap();
    drop(UnixListener::bind(path("stale")).unwrap());
    let _listener = UnixListener::bind(path("socket")).unwrap();
    for name in ["none", "none/none", "file", "file/none", "stale"] {
        let asked = ask(client(&path(name)).build()).await;
        assert_eq!(facts(asked), (exit::NOT_RUNNING, "not_running", NotSent), "{name}");
    }
    let other = rustix::process::geteuid().as_raw() + 1;
    let asked = ask(client(&path("socket")).expect_server_uid(other).build()).await;
    assert_eq!(facts(asked), (exit::PERMISSION, "permission", NotSent));

    fs::set_permissions(path("socket"), PermissionsExt::from_mode(0o000)).unwrap();
    if !rustix::process::geteuid().is_root() {
        let asked = ask(client(&path("socket")).build()).await;
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
    let asked = ask(client(&path).build()).await;
    assert_eq!(facts(asked), (exit::BUSY, "busy", Outcome::NotSent));
}

#[tokio::test]
async fn a_request_over_the_limit_is_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    let tight = Limits { initial: 10, max: 10 };
    let asked = ask(client(&path).limits(Limits::CLIENT, tight).build()).await;
    assert_eq!(facts(asked), (exit::PROTOCOL, "too_large", Outcome::NotSent));
}

#[test]
fn a_final_error_is_told_in_the_same_three_parts() {
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
        assert_eq!(failure.why, "the server does not say");
        assert!(!failure.what.is_empty() && !failure.remedy.is_empty());
    }
}

#[test]
fn however_hostile_its_parts_are_a_failure_is_three_lines_or_one_of_json() {
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
fn what_is_not_of_the_library_has_its_word_and_its_outcome_too() {
    use Outcome::{NotSent, Unknown};
    let error = || io::Error::other("no more threads");
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
