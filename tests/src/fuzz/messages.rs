//! Fuzzes the decoders of requests and responses against docs/protocol.md.

use std::fmt::Debug;

use kakehi_channel::{Decode, Encode, ErrorKind, Json, low_level::Buffer};
use serde::{Serialize, de::DeserializeOwned};

use super::plain::Fields;

/// Checks that a payload decodes as a request or response exactly if docs/protocol.md says so, to
/// the same fields, and that encoding it again keeps them.
///
/// # Panics
/// If the property does not hold.
pub fn messages(data: &[u8]) {
    let fields = Fields::of(data);
    agree(data, fields.as_ref().and_then(Fields::request));
    agree(data, fields.as_ref().and_then(Fields::response));
}

fn agree<M: DeserializeOwned + Serialize + PartialEq + Debug>(payload: &[u8], plain: Option<M>) {
    let mut json = Json::default();
    let message = match (json.decode(payload), plain) {
        (Ok(message), Some(plain)) => {
            assert_eq!(message, plain);
            message
        }
        (Err(error), None) => {
            return assert!(error.kind() == ErrorKind::Malformed && !error.is_fatal(), "{error}");
        }
        (read, plain) => panic!("{read:?}, and by the page {plain:?}"),
    };
    let mut frame = Buffer::new(64, 1 << 20);
    json.encode_frame(&message, &mut frame, 1 << 20).expect("it was read");
    let (payload, delimiter) = frame.data().split_at(frame.len() - 1);
    assert_eq!(delimiter, [0]);
    assert!(!payload.contains(&0), "JSON has no NUL byte");
    let again: M = json.decode(payload).expect("it was written");
    assert_eq!(again, message);
}
