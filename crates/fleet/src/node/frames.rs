//! The frames of the socket's wire: JSON objects, each ended by NUL.

use bytes::{Bytes, BytesMut};
use kakehi_channel::{Refusal, Response, Status};
use memchr::{memchr, memrchr};
use serde::Deserialize;

/// The size that a message of several frames does not exceed.
pub(crate) const BATCH: usize = 128 * 1024;

/// Takes whole frames for one message: as many as fit into [`BATCH`] and into `most` bytes, at least
/// one if one is whole.
pub(crate) fn take_batch(buffer: &mut BytesMut, most: usize) -> Option<Bytes> {
    let head = buffer.get(..BATCH.min(most).min(buffer.len())).unwrap_or_default();
    let end = memrchr(0, head).or_else(|| memchr(0, buffer))?;
    Some(buffer.split_to(end + 1).freeze())
}

/// The last of the frames, without its NUL.
pub(crate) fn last(frames: &[u8]) -> &[u8] {
    let frames = frames.strip_suffix(b"\0").unwrap_or(frames);
    let start = memrchr(0, frames).map_or(0, |nul| nul + 1);
    frames.get(start..).unwrap_or_default()
}

/// Tells final responses from progress.
#[derive(Debug)]
pub(crate) struct Finality {
    progress: Vec<u8>,
}

impl Finality {
    /// For the responses to the request `id`.
    pub(crate) fn of(id: &str) -> Self {
        // How the server writes it; what is written otherwise is decoded.
        let mut progress =
            serde_json::to_vec(&Response::<()>::processing(id, "")).unwrap_or_default();
        let end = memchr::memmem::find(&progress, b"\"PROCESSING\"").unwrap_or(0);
        progress.truncate(end + b"\"PROCESSING\"".len());
        Self { progress }
    }

    pub(crate) fn is_final(&self, frame: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Head {
            status: Status,
        }
        if frame.starts_with(&self.progress) {
            return false;
        }
        serde_json::from_slice::<Head>(frame).is_ok_and(|head| head.status.is_final())
    }
}

/// The frame of a refusal.
pub(crate) fn refusal(id: &str, why: Refusal, message: &str) -> Bytes {
    frame(&Response::<()>::refused(id, why, message))
}

/// A message as a frame.
pub(crate) fn frame<T: serde::Serialize>(message: &T) -> Bytes {
    let mut bytes = serde_json::to_vec(message).unwrap_or_default();
    bytes.push(0);
    bytes.into()
}

/// A refusal at the door of the server does not know the id.
pub(crate) fn with_id(frames: Bytes, id: &str) -> Bytes {
    const EMPTY: &[u8] = br#"{"id":"","#;
    if !frames.starts_with(EMPTY) || id.is_empty() {
        return frames;
    }
    let Ok(mut response) = serde_json::from_slice::<Response>(last(&frames)) else { return frames };
    id.clone_into(&mut response.id);
    frame(&response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_whole_frames_only() {
        let mut buffer = BytesMut::from(&b"{1}\0{2}\0{3"[..]);
        assert_eq!(take_batch(&mut buffer, BATCH).unwrap(), &b"{1}\0{2}\0"[..]);
        assert_eq!(take_batch(&mut buffer, BATCH), None);
        buffer.extend_from_slice(b"}\0");
        assert_eq!(take_batch(&mut buffer, BATCH).unwrap(), &b"{3}\0"[..]);
        assert_eq!(take_batch(&mut buffer, BATCH), None);
    }

    #[test]
    fn a_batch_is_bounded_unless_one_frame_is_larger() {
        let large = vec![b'x'; 2 * BATCH];
        let mut buffer = BytesMut::from(&b"a\0"[..]);
        buffer.extend_from_slice(&large);
        buffer.extend_from_slice(b"\0b\0");
        assert_eq!(take_batch(&mut buffer, BATCH).unwrap(), &b"a\0"[..]);
        assert_eq!(take_batch(&mut buffer, BATCH).unwrap().len(), large.len() + 1);
        assert_eq!(take_batch(&mut buffer, BATCH).unwrap(), &b"b\0"[..]);
    }

    #[test]
    fn a_batch_fits_into_a_small_message_of_the_broker() {
        let mut buffer = BytesMut::from(&b"{1}\0{2}\0{3}\0"[..]);
        assert_eq!(take_batch(&mut buffer, 9).unwrap(), &b"{1}\0{2}\0"[..]);
        assert_eq!(take_batch(&mut buffer, 9).unwrap(), &b"{3}\0"[..]);
    }

    #[test]
    fn final_responses_are_told_from_progress() {
        let finality = Finality::of("a\"b");
        let is_final = |frame: &Bytes| finality.is_final(last(frame));
        assert!(!is_final(&frame(&Response::<()>::processing("a\"b", "\"status\":\"OK\""))));
        assert!(is_final(&frame(&Response::<()>::ok("a\"b", "\"PROCESSING\""))));
        assert!(is_final(&refusal("", Refusal::Busy, "no")));
        assert!(!is_final(&Bytes::from_static(b"{\"status\" : \"PROCESSING\"}\0")));
        assert!(!is_final(&Bytes::from_static(b"garbage\0")));
    }

    #[test]
    fn a_refusal_at_the_door_gets_the_id() {
        let told = with_id(refusal("", Refusal::Busy, "full"), "ID-1");
        assert_eq!(told, refusal("ID-1", Refusal::Busy, "full"));
        let other = frame(&Response::<()>::ok("ID-2", ""));
        assert_eq!(with_id(other.clone(), "ID-1"), other);
    }
}
