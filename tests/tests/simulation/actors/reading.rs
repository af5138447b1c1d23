//! Checks of the responses that a client reads.

use std::time::Duration;

use kakehi_channel::{Response, ResponseMessage};
use tokio::{io::AsyncReadExt, time::timeout};

use crate::{
    referee::{content_is_of, number_of},
    stream::Stream,
    world::World,
};

/// How long a server may take to close an answered connection: it checks twice a second.
const TO_CLOSE: Duration = Duration::from_secs(2);

/// The responses to one request, as the caller receives them.
pub(crate) struct Seen {
    token: u64,
    said: u64,
    said_by_other: u64,
    pub(crate) is_over: bool,
}

impl Seen {
    pub(crate) fn new(token: u64) -> Self {
        Self { token, said: 0, said_by_other: 0, is_over: false }
    }

    pub(crate) fn progress(&mut self, response: &Response) -> Result<(), String> {
        self.open()?;
        if response.is_keep_alive() {
            return Err("a keep-alive reached the caller".into());
        }
        let token = self.token;
        let own = number_of(&response.message, &token.to_string());
        let by_other = number_of(&response.message, &format!("{token} other"));
        let next = if own.is_some() { &mut self.said } else { &mut self.said_by_other };
        let number = own.or(by_other);
        if number != Some(*next) || !content_is_of(response, token) {
            return Err(format!("a client received instead of {next} of {token}: {response:?}"));
        }
        *next += 1;
        Ok(())
    }

    pub(crate) fn last(&mut self, response: &Response) -> Result<(), String> {
        self.open()?;
        self.is_over = true;
        if content_is_of(response, self.token) {
            return Ok(());
        }
        Err(format!("a client received for {}: {response:?}", self.token))
    }

    fn open(&self) -> Result<(), String> {
        if self.is_over { Err("a response after the final one".into()) } else { Ok(()) }
    }
}

/// Reads to the end of the stream. The server must close it soon after all requests are answered.
pub(crate) async fn to_the_end(world: &World, link: usize, mut stream: Stream) {
    let mut sink = [0; 512];
    loop {
        match timeout(TO_CLOSE, stream.read(&mut sink)).await {
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(_)) => {}
            Err(_) => {
                let is_answered = {
                    let link = &world.lock().links[link];
                    link.is_read_to_its_end() && link.referee.asked.is_empty() && link.is_served
                };
                if is_answered {
                    world.judge(Err(format!("link {link} is fully answered and stays open")));
                }
                return;
            }
        }
    }
}
