//! The messages of Kakehi's protocol, byte for byte, and malformed messages.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod accepted;
mod refused;
mod trace;

use std::fmt::Debug;

use kakehi_channel::{
    ChannelError, Decode, Encode, ErrorKind, Json, Request, Response, low_level::Buffer,
};
use serde::{Serialize, de::DeserializeOwned};

/// The message whose payload is `bytes`.
fn read<M: DeserializeOwned>(bytes: impl AsRef<[u8]>) -> Result<M, ChannelError> {
    Json::default().decode(bytes.as_ref())
}

/// The frame of `message`, without its NUL.
fn written<M: ?Sized>(message: &M) -> String
where
    Json: Encode<M>,
{
    let mut out = Buffer::new(64, 1 << 20);
    Json::default().encode_frame(message, &mut out, 1 << 20).unwrap();
    let (payload, delimiter) = out.data().split_at(out.len() - 1);
    assert_eq!(delimiter, [0]);
    String::from_utf8(payload.into()).unwrap()
}

/// `text` stands for `message`, in both directions.
fn is<M: DeserializeOwned + Serialize + PartialEq + Debug>(text: &str, message: &M) {
    assert_eq!(&read::<M>(text).unwrap(), message);
    assert_eq!(written(message), text);
}

/// Checks that `bytes` is not a message of type `M`, and that the error has all of `words`.
fn is_no<M: DeserializeOwned + Debug>(bytes: impl AsRef<[u8]>, words: &[&str]) {
    let shown = String::from_utf8_lossy(bytes.as_ref()).into_owned();
    let Err(error) = read::<M>(bytes) else { panic!("{shown} was read") };
    assert_eq!(error.kind(), ErrorKind::Malformed, "{shown}: {error}");
    for word in words {
        assert!(error.to_string().contains(word), "{shown}: {error}, without {word}");
    }
}

/// `fields` make no request, and with a status and a message make no response either.
fn is_no_message(fields: &str, words: &[&str]) {
    is_no::<Request>(format!("{{{fields}}}"), words);
    is_no::<Response>(format!(r#"{{{fields},"status":"OK","message":""}}"#), words);
}
