//! The trace context of a request.

use kakehi_channel::{Request, TraceContext};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn fields_that_are_no_trace_context_are_ignored() {
    let long = format!("\"{}\"", "0".repeat(100_000));
    for parent in ["null", "true", "7", "-7", "1.5", "[[1],{}]", "{\"a\":[]}", "\"\"", &long] {
        for state in ["null", "7", "[]", "\"a=1\"", &long] {
            let fields = format!(r#""tracestate":{state},"traceparent":{parent}"#);
            let text = format!(r#"{{"id":"a",{fields},"version":0,"command":1}}"#);
            let request: Request<u8> = serde_json::from_str(&text).expect(&text);
            assert_eq!(request, Request::with_command("a", 1), "{text}");
        }
    }
    let text = format!(r#"{{"id":"a","version":0,"traceparent":"{PARENT}","tracestate":[7]}}"#);
    let request: Request = serde_json::from_str(&text).expect(&text);
    assert_eq!(request.trace, TraceContext::new(PARENT, None));
}

#[test]
fn a_trace_context_comes_back_as_it_was() {
    for state in [None, Some("a=1,b=2")] {
        let mut request = Request::with_command("a", 1);
        request.trace = TraceContext::new(PARENT, state);
        let text = serde_json::to_string(&request).expect("JSON");
        assert_eq!(serde_json::from_str::<Request<u8>>(&text).expect(&text), request);
    }
}
