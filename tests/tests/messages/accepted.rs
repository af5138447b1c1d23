//! Valid messages, and how they are encoded.

use std::time::Duration;

use kakehi_channel::{Refusal, Request, Response, ResponseMessage, Status};
use kakehi_tests::wire::for_all;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{is, is_no, is_no_message, read, written};

#[test]
fn the_literals_of_the_experiment_are_read_and_written_byte_for_byte() {
    is::<Request>(r#"{"id":"My-urgent-request","version":0}"#, &Request::new("My-urgent-request"));
    let text = r#"{"id":"x","version":0,"status":"PROCESSING","message":"Not done yet"}"#;
    is::<Response>(text, &Response::processing("x", "Not done yet"));
}

#[test]
fn all_fields_are_read_and_written_in_their_order() {
    let request: Request = Request {
        worker_id: Some(u32::MAX),
        timeout_ms: Some(u64::MAX),
        deadline_ms: Some(0),
        ..Request::with_command("", json!({"do": ["it", 1, null]}))
    };
    is(
        r#"{"id":"","version":0,"worker_id":4294967295,"timeout_ms":18446744073709551615,"deadline_ms":0,"command":{"do":["it",1,null]}}"#,
        &request,
    );
    for (response, status) in [
        (Response::ok("a", "m"), "OK"),
        (Response::error("a", "m"), "ERROR"),
        (Response::processing("a", "m"), "PROCESSING"),
    ] {
        let text =
            format!(r#"{{"id":"a","version":0,"status":"{status}","message":"m","content":7}}"#);
        is::<Response>(&text, &response.with_content(json!(7)));
    }
}

#[test]
fn a_refusal_says_why_and_one_of_a_later_version_is_read_too() {
    for (why, name) in [
        (Refusal::Denied, "denied"),
        (Refusal::Busy, "busy"),
        (Refusal::ShuttingDown, "shutting_down"),
        (Refusal::Malformed, "malformed"),
        (Refusal::TooLarge, "too_large"),
        (Refusal::TooSlow, "too_slow"),
        (Refusal::Unsupported, "unsupported"),
        (Refusal::Other, "other"),
    ] {
        let text = format!(
            r#"{{"id":"a","version":0,"status":"ERROR","message":"m","content":7,"refused":"{name}"}}"#
        );
        is::<Response>(&text, &Response::refused("a", why, "m").with_content(json!(7)));
    }
    let text = r#"{"id":"","version":0,"status":"ERROR","message":"","refused":"full moon"}"#;
    assert_eq!(read::<Response>(text).unwrap(), Response::refused("", Refusal::Other, ""));
}

#[test]
fn a_response_of_borrowed_strings_is_written_as_one_of_owned_ones() {
    let Response { id, version, status, message, content, refused } = Response::ok("a", "done");
    let owned: Response<u8> = Response { id, version, status, message, content, refused };
    let (id, message) = (owned.id.as_str(), owned.message.as_str());
    let borrowed: Response<u8, &str> = Response { id, version, status, message, content, refused };
    assert_eq!(written(&borrowed), written(&owned));
}

#[test]
fn any_request_and_any_response_come_back_as_they_were() {
    let text = || proptest::collection::vec(any::<char>(), 0..12).prop_map(String::from_iter);
    let numbers = (any::<Option<u32>>(), any::<Option<u64>>(), any::<Option<u64>>());
    let status = proptest::sample::select(vec![Status::Ok, Status::Processing, Status::Error]);
    let content = proptest::option::of(text());
    for_all(
        &(text(), text(), numbers, status, content),
        |(id, message, numbers, status, content)| {
            let (worker_id, timeout_ms, deadline_ms) = numbers;
            let options = Request { worker_id, timeout_ms, deadline_ms, ..Request::new(&*id) };
            let request: Request<String> = Request { command: content.clone(), ..options };
            assert_eq!(read::<Request<String>>(written(&request)).unwrap(), request);
            let response: Response<String> =
                Response { status, content, ..Response::ok(id, message) };
            assert_eq!(read::<Response<String>>(written(&response)).unwrap(), response);
        },
    );
}

#[test]
fn unknown_fields_and_white_space_are_ignored() {
    let request =
        read::<Request>(" { \"new\" : [{}] ,\n\t\"id\":\"a\", \"version\":0, \"id2\":\"b\" }\r\n");
    assert_eq!(request.unwrap(), Request::new("a"));
    let response =
        read::<Response>(r#"{"x":{"id":1},"message":"m","status":"OK","version":0,"id":"a"}"#);
    assert_eq!(response.unwrap(), Response::ok("a", "m"));
}

#[test]
fn control_characters_and_nul_go_through_strings_and_never_stand_in_a_frame() {
    let id: String = ('\0'..='\u{ff}').chain(['\u{2028}', '\u{fffd}', '\u{10ffff}']).collect();
    let request: Request = Request::new(&*id);
    let text = written(&request);
    assert!(!text.contains('\0') && text.contains(r"\u0000"));
    assert_eq!(read::<Request>(text).unwrap().id, id);
    is_no_message("\"id\":\"\0\",\"version\":0", &["control character"]);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Job {
    Reload,
    Count { upto: u64 },
    Many(Vec<Job>),
}

#[test]
fn commands_and_contents_are_of_any_type() {
    let job = Job::Many(vec![Job::Reload, Job::Count { upto: u64::MAX }]);
    is(
        r#"{"id":"a","version":0,"command":{"many":["reload",{"count":{"upto":18446744073709551615}}]}}"#,
        &Request::with_command("a", job),
    );
    is(
        r#"{"id":"a","version":0,"status":"OK","message":"","content":"reload"}"#,
        &Response::ok("a", "").with_content(Job::Reload),
    );
    is(
        r#"{"id":"a","version":0,"command":[1,"two"]}"#,
        &Request::with_command("a", (1_u8, "two".to_owned())),
    );
    is_no::<Request<Job>>(
        r#"{"id":"a","version":0,"command":"stop"}"#,
        &["unknown variant `stop`"],
    );
    is_no::<Response<u8>>(
        r#"{"id":"a","version":0,"status":"OK","message":"","content":256}"#,
        &["256"],
    );

    let text = r#"{"id":"a","version":0,"command":"borrowed"}"#;
    let borrowed: Request<&str> = serde_json::from_str(text).unwrap();
    assert_eq!(borrowed, Request::with_command("a", "borrowed"));
}

#[test]
fn a_clock_of_zero_is_none() {
    for (ms, clock) in [(None, None), (Some(0), None), (Some(1), Some(Duration::from_millis(1)))] {
        let one: Request = Request { timeout_ms: ms, ..Request::new("a") };
        assert_eq!((one.timeout(), one.deadline()), (clock, None));
        let other: Request = Request { deadline_ms: ms, ..Request::new("a") };
        assert_eq!((other.timeout(), other.deadline()), (None, clock));
    }
}

#[test]
fn a_response_tells_a_client_all_that_it_needs() {
    let keep_alive = Response::<u8>::processing("a", "");
    assert!(keep_alive.is_keep_alive());
    for (response, status) in [
        (Response::processing("a", "half done"), Status::Processing),
        (keep_alive.with_content(1), Status::Processing),
        (Response::ok("a", ""), Status::Ok),
        (Response::error("a", ""), Status::Error),
        (Response::refused("a", Refusal::Busy, "later"), Status::Error),
    ] {
        assert!(!response.is_keep_alive(), "{response:?}");
        assert_eq!((response.status(), response.id()), (Some(status), Some("a")));
        assert_eq!(response.message(), Some(response.message.as_str()));
        assert_eq!(response.refusal(), response.refused);
        assert_eq!(status.is_final(), status != Status::Processing);
        assert_eq!(format!("\"{status}\""), written(&status));
    }
    assert_eq!(format!("{:>6}|{:<6}|", Status::Ok, Status::Error), "    OK|ERROR |");
}

/// A response with the required methods only.
struct Bare;

impl ResponseMessage for Bare {
    type Event = Self;
    type Reply = Self;

    fn status(&self) -> Option<Status> {
        Some(Status::Processing)
    }

    fn id(&self) -> Option<&str> {
        None
    }

    fn into_event(self) -> Result<Self, Self> {
        Ok(self)
    }

    fn into_reply(self) -> Result<Self, Self> {
        Ok(self)
    }
}

#[test]
fn a_reply_says_no_more_by_itself_than_its_status() {
    assert!(!Bare.is_keep_alive());
    assert_eq!((Bare.message(), Bare.refusal()), (None, None));
}
