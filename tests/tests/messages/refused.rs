//! Malformed messages and their errors.

use kakehi_channel::{Request, Response};

use crate::{is_no, is_no_message, read};

#[test]
fn only_an_object_is_a_message() {
    for text in [r#"["a",0]"#, r#"["a",0,"OK","m"]"#, "[]", "\"a\"", "0", "null", "true"] {
        is_no::<Request>(text, &["expected a request, which is a JSON object"]);
        is_no::<Response>(text, &["expected a response, which is a JSON object"]);
    }
    for text in ["", " ", "{", "}", "{}x", "a", "{id:\"a\",version:0}", "\u{feff}{}", "\0"] {
        is_no::<Request>(text, &[]);
        is_no::<Response>(text, &[]);
    }
    is_no::<Request>(r#"{"id":"a","version":0} {}"#, &["trailing"]);
    is_no::<Request>(r#"{"id":"a","version":0,}"#, &["trailing comma"]);
}

#[test]
fn what_is_missing_is_named() {
    is_no_message(r#""version":0"#, &["missing field `id`"]);
    is_no_message(r#""id":"a""#, &["missing field `version`"]);
    is_no::<Response>(r#"{"id":"a","version":0,"message":""}"#, &["missing field `status`"]);
    is_no::<Response>(r#"{"id":"a","version":0,"status":"OK"}"#, &["missing field `message`"]);
}

#[test]
fn another_version_is_refused_and_both_are_named() {
    for version in ["7", "1", "256", "18446744073709551615"] {
        let words = format!("the message is of version {version}, this side speaks version 0");
        is_no_message(&format!(r#""id":"a","version":{version}"#), &[&words]);
    }
    for version in ["-1", "0.0", "0.5", "1e3", "\"0\"", "null", "[0]", "18446744073709551616"] {
        is_no_message(&format!(r#""id":"a","version":{version}"#), &["expected version 0"]);
    }
}

#[test]
fn a_key_that_comes_twice_is_refused() {
    let id = r#""id":"a","version":0"#;
    is_no_message(r#""id":"a","id":"a","version":0"#, &["duplicate field `id`"]);
    is_no_message(r#""id":"a","version":0,"version":0"#, &["duplicate field `version`"]);
    for key in ["worker_id", "timeout_ms", "deadline_ms", "command"] {
        let text = format!(r#"{{{id},"{key}":null,"{key}":1}}"#);
        is_no::<Request>(text, &[&format!("duplicate field `{key}`")]);
    }
    let response = format!(r#"{id},"status":"OK","message":"","content":1,"refused":"busy""#);
    for (key, value) in
        [("status", "\"OK\""), ("message", "\"\""), ("content", "1"), ("refused", "null")]
    {
        let text = format!(r#"{{{response},"{key}":{value}}}"#);
        is_no::<Response>(text, &[&format!("duplicate field `{key}`")]);
    }
}

#[test]
fn null_is_absent_where_something_may_be_absent_and_refused_elsewhere() {
    let text = r#"{"id":"a","version":0,"worker_id":null,"timeout_ms":null,"deadline_ms":null,"command":null}"#;
    assert_eq!(read::<Request>(text).unwrap(), Request::new("a"));
    let text =
        r#"{"id":"a","version":0,"status":"OK","message":"m","content":null,"refused":null}"#;
    assert_eq!(read::<Response>(text).unwrap(), Response::ok("a", "m"));
    is_no_message(r#""id":null,"version":0"#, &["null", "string"]);
    is_no::<Response>(r#"{"id":"a","version":0,"status":null,"message":"m"}"#, &[]);
    is_no::<Response>(r#"{"id":"a","version":0,"status":"OK","message":null}"#, &["null"]);
}

#[test]
fn fields_of_another_type_are_refused() {
    for field in [
        r#""worker_id":-1"#,
        r#""worker_id":4294967296"#,
        r#""timeout_ms":1.5"#,
        r#""timeout_ms":"1""#,
        r#""deadline_ms":-1"#,
        r#""deadline_ms":18446744073709551616"#,
    ] {
        is_no::<Request>(format!(r#"{{"id":"a","version":0,{field}}}"#), &[]);
    }
    is_no_message(r#""id":1,"version":0"#, &["integer `1`", "string"]);
    for status in
        ["{\"OK\":null}", "\"ok\"", "\"Ok\"", "\"DONE\"", "\"\"", "\"OK \"", "0", "[\"OK\"]"]
    {
        let text = format!(r#"{{"id":"a","version":0,"status":{status},"message":""}}"#);
        is_no::<Response>(text, &[]);
    }
    for refused in ["{\"busy\":null}", "[\"busy\"]", "1"] {
        let text =
            format!(r#"{{"id":"a","version":0,"status":"OK","message":"","refused":{refused}}}"#);
        is_no::<Response>(text, &["a string"]);
    }
    let text = r#"{"id":"a","version":0,"status":"DONE","message":""}"#;
    is_no::<Response>(text, &["unknown variant `DONE`", "`OK`, `PROCESSING`, `ERROR`"]);
}

#[test]
fn bytes_that_are_not_utf_8_are_refused_wherever_they_are() {
    let whole = [&br#"{"id":""#[..], br#"","version":0,"unknown":""#, br#""}"#, b""];
    assert!(read::<Request>(whole.concat()).is_ok());
    for bad in [&b"\xff"[..], b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"] {
        for at in 1..whole.len() {
            let bytes = [&whole[..at].concat(), bad, &whole[at..].concat()].concat();
            is_no::<Request>(bytes, &["utf-8"]);
        }
    }
    is_no_message(r#""id":"\ud800","version":0"#, &["hex escape"]);
}

#[test]
fn deep_nesting_is_refused_or_ignored_and_crashes_nothing() {
    let request = |key: &str, depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"id":"a","version":0,"{key}":{open}{close}}}"#)
    };
    assert!(read::<Request>(request("command", 100)).is_ok());
    for depth in [200, 100_000] {
        is_no::<Request>(request("command", depth), &["recursion limit"]);
        let objects = format!(r#"{{"id":{}"#, r#"{"id":"#.repeat(depth));
        is_no::<Request>(&objects, &[]);
        is_no::<Response>(&objects, &[]);
        assert_eq!(read::<Request>(request("unknown", depth)).unwrap(), Request::new("a"));
    }
}
