//! Checks each read and each write of the server on one link.

use std::{collections::VecDeque, time::Duration};

use kakehi_channel::{Request, Response};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::{finals, plan::Command, progress, run::Run, world::Court};

/// The conversation on one link, reconstructed from its bytes.
pub(crate) struct Referee {
    /// The bytes read after the last complete frame, and the time of the first of them.
    pub(crate) unfinished: Vec<u8>,
    pub(crate) unfinished_since: Instant,
    /// Since when this link exceeds the limit on unfinished requests, and whether that is certain.
    pub(crate) over_since: Option<(Instant, bool)>,
    /// The requests without a final response, in order, with their sizes.
    pub(crate) asked: VecDeque<(Asked, usize)>,
    /// The bytes written after the last complete frame.
    half_said: Vec<u8>,
    /// The server has written a refusal after which it neither reads nor writes.
    pub(crate) is_over: bool,
    /// A write of the server is blocked.
    pub(crate) is_held_up: bool,
    pub(crate) last_write: Instant,
    pub(crate) heard: Heard,
    /// Bytes written since the last final response.
    written: usize,
}

/// The progress written for the running request.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) said: u64,
    pub(crate) said_by_other: u64,
    pub(crate) keep_alives: u32,
}

pub(crate) enum Asked {
    Request { id: String, token: Option<u64> },
    Malformed { id: String },
    TooLarge,
}

/// How long a server may take for its last responses.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The longest delay of a stream that could move bytes.
pub(crate) const LAG: Duration = Duration::from_millis(10);

impl Referee {
    pub(crate) fn new() -> Self {
        Self {
            unfinished: vec![],
            unfinished_since: Instant::now(),
            over_since: None,
            asked: VecDeque::new(),
            half_said: vec![],
            is_over: false,
            is_held_up: false,
            last_write: Instant::now(),
            heard: Heard::default(),
            written: 0,
        }
    }

    pub(crate) fn server_has_read(
        &mut self,
        link: usize,
        bytes: &[u8],
        court: &mut Court,
    ) -> Result<(), String> {
        if self.is_over {
            return Err(format!("link {link}: the server reads after its closing refusal"));
        }
        if self.unfinished.is_empty() {
            self.unfinished_since = Instant::now();
        }
        for byte in bytes {
            self.unfinished.push(*byte);
            if *byte == 0 {
                let frame = std::mem::take(&mut self.unfinished);
                let asked = asked(&frame, court.limits.request_bytes);
                if let Asked::Request { token: Some(token), .. } = asked
                    && let Some(run) = court.run(token)
                {
                    let request = serde_json::from_slice(&frame[..frame.len() - 1]);
                    run.read(link, &request.map_err(|error| error.to_string())?)?;
                }
                self.asked.push_back((asked, frame.len()));
                self.unfinished_since = Instant::now();
            }
        }
        Ok(())
    }

    pub(crate) fn server_has_written(
        &mut self,
        bytes: &[u8],
        court: &mut Court,
    ) -> Result<(), String> {
        if self.is_over {
            return Err("the server writes after its closing refusal".into());
        }
        progress::on_time(self, court)?;
        self.last_write = Instant::now();
        self.is_held_up = false;
        for byte in bytes {
            self.written += 1;
            if *byte != 0 {
                self.half_said.push(*byte);
                continue;
            }
            let frame = std::mem::take(&mut self.half_said);
            if frame.len() + 1 > court.limits.response_bytes {
                return Err(format!("a response of {} bytes", frame.len() + 1));
            }
            let response: Response = serde_json::from_slice(&frame)
                .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&frame)))?;
            if response.status.is_final() {
                self.written = 0;
                finals::judge(self, &response, court)
            } else {
                progress::judge(self, &response, court)
            }
            .map_err(|why| format!("{why}: {response:?}"))?;
        }
        Ok(())
    }

    /// Checks that the server has answered each request it has read before it closed the link.
    pub(crate) fn server_left(
        &mut self,
        client_left: bool,
        court: &mut Court,
    ) -> Result<(), String> {
        if client_left || self.is_over {
            return Ok(());
        }
        if self.is_held_up && self.last_write.elapsed() >= court.limits.write_time {
            court.journal.reach("the server left a client that does not read");
            return Ok(());
        }
        // A client that reads slowly can miss the last responses.
        let is_slow = self.is_held_up || self.last_write.elapsed() <= LAG;
        if is_slow && court.stopping.is_some_and(|since| since.elapsed() >= LAST_WORDS) {
            court.journal.reach("the server had no time for its last responses");
            return Ok(());
        }
        if !self.half_said.is_empty() {
            return Err("the server closed the link in the middle of a response".into());
        }
        match self.asked.front() {
            None => Ok(()),
            Some(_) => Err(format!("the server left {} requests unanswered", self.asked.len())),
        }
    }

    /// The token of the request that is being answered.
    pub(crate) fn current(&self) -> Option<u64> {
        match self.asked.front() {
            Some((Asked::Request { token, .. }, _)) => *token,
            _ => None,
        }
    }

    /// The bytes of the requests whose handlers have not ended.
    pub(crate) fn held(&self, runs: &[Run]) -> usize {
        let waits = |asked: &Asked| match asked {
            Asked::Request { token: Some(token), .. } => usize::try_from(*token)
                .ok()
                .and_then(|token| runs.get(token))
                .is_some_and(|run| run.waits() && !run.plan.is_denied),
            _ => false,
        };
        let whole = self.asked.iter().filter(|(asked, _)| waits(asked)).map(|(_, size)| size);
        self.unfinished.len() + whole.sum::<usize>()
    }

    /// The bytes that handlers have sent and the server has not written.
    pub(crate) fn outgoing(&self, runs: &[Run]) -> usize {
        let sent = self.asked.iter().filter_map(|(asked, _)| match asked {
            Asked::Request { token: Some(token), .. } => runs.get(usize::try_from(*token).ok()?),
            _ => None,
        });
        sent.map(|run| run.sent).sum::<usize>().saturating_sub(self.written)
    }
}

/// Decodes a frame as the server must decode it.
fn asked(frame: &[u8], max: usize) -> Asked {
    #[derive(Deserialize)]
    struct Id {
        id: String,
    }
    if frame.len() > max {
        return Asked::TooLarge;
    }
    let payload = &frame[..frame.len() - 1];
    if let Ok(request) = serde_json::from_slice::<Request<Command>>(payload) {
        let token = request.command.map(|command| command.token);
        return Asked::Request { id: request.id, token };
    }
    // serde would also read the id from the first element of an array.
    let is_object = payload.trim_ascii_start().starts_with(b"{");
    let id = serde_json::from_slice(payload).ok().filter(|_| is_object).map(|Id { id }| id);
    Asked::Malformed { id: id.unwrap_or_default() }
}

/// The number at the end of `prefix N`.
pub(crate) fn number_of(message: &str, prefix: &str) -> Option<u64> {
    message.strip_prefix(prefix)?.strip_prefix(' ')?.parse().ok()
}

pub(crate) fn content_is_of(response: &Response, token: u64) -> bool {
    response.content.as_ref().is_none_or(|content: &Value| content["token"] == token)
}
