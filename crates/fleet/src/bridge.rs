//! A node for a daemon that listens on a Unix socket and knows nothing of the fleet.

use std::borrow::Cow;

use kakehi_channel::{Refusal, Request, Response, Status};
use kakehi_client::{Client, Error, Outcome};
use kakehi_server::{Answer, Context, Failure, Handler};
use serde_json::Value;

use crate::{FleetError, Node};

impl Node {
    /// Forwards each request to the socket of `client`, and its responses back, until the shutdown.
    /// For the daemon, the caller is the user of this process: it does not see who asked.
    ///
    /// ```no_run
    /// use kakehi_client::{Client, ClientSettings};
    /// use kakehi_fleet::Node;
    ///
    /// # async fn run() -> Result<(), kakehi_fleet::FleetError> {
    /// let settings = ClientSettings { pool_size: 64, ..ClientSettings::default() };
    /// let client = Client::new("/run/app/app.sock", settings);
    /// Node::connect("nats://127.0.0.1:4222", "web-1").bridge(client).await
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`serve`](Self::serve). It is not an error if the daemon does not run: requests are
    /// refused.
    ///
    /// # Cancel safety
    /// As [`serve`](Self::serve).
    pub async fn bridge(self, client: Client) -> Result<(), FleetError> {
        self.serve(Bridge(client)).await
    }
}

struct Bridge(Client);

impl Handler<Value> for Bridge {
    type Answer = Answer<Value>;
    type Error = Failure<Value>;

    async fn handle(
        &self,
        request: Request<Value>,
        context: Context,
    ) -> Result<Answer<Value>, Failure<Value>> {
        // The node sends keep-alives itself; a deadline is the daemon's business, too.
        let forwarded = self.0.request(request.command.unwrap_or_default());
        let forwarded = forwarded.id(request.id).trace(context.trace().cloned());
        let forwarded = forwarded.timeout(None).deadline(context.remaining());
        let mut responses = forwarded.send().await.map_err(failure)?;
        while let Some(response) = responses.next().await {
            let Response { status, message, content, refused, .. } = response.map_err(failure)?;
            match (status, content) {
                (Status::Processing, None) => context.progress(message).await?,
                (Status::Processing, Some(value)) => {
                    context.progress_with(message, &value).await?;
                }
                (Status::Ok, value) => return Ok(Answer { message, content: value }),
                (Status::Error, value) => {
                    return Err(Failure { message, content: value, refused });
                }
            }
        }
        Err("the daemon did not answer".into())
    }

    fn describe(&self, request: &Request<Value>) -> Cow<'static, str> {
        match &request.command {
            // Arguments may be secret.
            Some(Value::Object(command)) => command.keys().next().cloned().unwrap_or_default(),
            Some(Value::String(command)) => command.clone(),
            _ => String::new(),
        }
        .into()
    }

    /// The daemon describes itself.
    async fn reserved(
        &self,
        request: Request<Value>,
        context: Context,
    ) -> Result<Option<Answer<Value>>, Failure<Value>> {
        self.handle(request, context).await.map(Some)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` passes the error by value")]
fn failure(error: Error) -> Failure<Value> {
    let message = error.to_string();
    let refused = (error.outcome() == Outcome::NotSent).then_some(Refusal::Other);
    match error.response().cloned() {
        Some(Response { message, content, refused, .. }) => Failure { message, content, refused },
        None => Failure { message, content: None, refused },
    }
}
