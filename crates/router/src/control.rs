//! The commands about running requests.

use kakehi_channel::{Refusal, Response, Status};
use kakehi_command::{
    Command, Invocation,
    control::{
        Attach, Cancel, Cancelled, MOST_LISTED, Missing, NoSuchRun, Running, RunningList,
        RunningRequest as Listed,
    },
};
use kakehi_server::{
    Answer, AnyContent, Context, Failure, FollowError, Followed, Peer, RunningRequest,
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{AnyReply, guard::Permission};

type Answered = Result<Answer<AnyReply>, Failure<AnyReply>>;

/// Answers the command if it is a control command, else returns `None`. `others` checks whether the
/// peer may list, cancel and follow the requests of other users.
pub(super) async fn answer(
    name: &str,
    command: &Value,
    others: &Permission,
    context: Context<AnyContent>,
) -> Option<Answered> {
    let control = Control { others, context };
    Some(match name {
        Running::NAME => control.list().await,
        Cancel::NAME => match arguments::<Cancel>(command) {
            Ok(Cancel { id }) => control.cancel(&id).await,
            Err(failure) => Err(failure),
        },
        Attach::NAME => match arguments::<Attach>(command) {
            Ok(Attach { id }) => control.attach(&id).await,
            Err(failure) => Err(failure),
        },
        _ => return None,
    })
}

fn arguments<C: Command>(command: &Value) -> Result<C, Failure<AnyReply>> {
    let read = Invocation::<C>::deserialize(command).map(|Invocation(command)| command);
    read.map_err(|error| {
        let message = format!("command `{}`: {error}", C::NAME);
        Failure { message, content: None, refused: Some(Refusal::Malformed) }
    })
}

struct Control<'a> {
    others: &'a Permission,
    context: Context<AnyContent>,
}

impl Control<'_> {
    async fn list(&self) -> Answered {
        let all = self.permitted(self.running()).await;
        let message = match all.len() {
            1 => "1 request runs".to_owned(),
            count => format!("{count} requests run"),
        };
        let running: Vec<_> = all.iter().take(MOST_LISTED).map(listed).collect();
        let more = u64::try_from(all.len() - running.len()).unwrap_or(u64::MAX);
        Ok(Answer { message, content: Some(AnyReply::new(RunningList { running, more })) })
    }

    async fn cancel(&self, id: &str) -> Answered {
        let request = self.find(id).await?;
        if !self.context.server().cancel(&request.run, &caller(&self.context.peer())) {
            return Err(no_such_run(id));
        }
        let cancelled = vec![listed(&request)];
        let content = Some(AnyReply::new(Cancelled { cancelled }));
        Ok(Answer { message: format!("cancelled {id:?}"), content })
    }

    async fn attach(&self, id: &str) -> Answered {
        let RunningRequest { run, .. } = self.find(id).await?;
        let mut follower = match self.context.server().follow(&run) {
            Ok(follower) => follower,
            Err(FollowError::NotRunning) => return Err(no_such_run(id)),
            Err(error) => {
                let (message, refused) = (error.to_string(), Some(Refusal::Busy));
                return Err(Failure { message, content: None, refused });
            }
        };
        while let Some(step) = follower.next().await {
            let frame = match step {
                Followed::Response(frame) => frame,
                Followed::Missed(missing_responses) => {
                    let message = format!("{missing_responses} responses are missing");
                    let content = Missing { missing_responses };
                    self.context.progress_with(message, &content).await?;
                    continue;
                }
            };
            if let Some(answer) = self.forward(&frame).await? {
                return Ok(answer);
            }
        }
        Err("the request has ended without a final response".into())
    }

    /// Sends a progress response of another request as progress of this one. Returns a final
    /// response as the answer.
    async fn forward(&self, frame: &[u8]) -> Result<Option<Answer<AnyReply>>, Failure<AnyReply>> {
        let payload = frame.strip_suffix(b"\0").unwrap_or(frame);
        let response: Response<Box<RawValue>> = serde_json::from_slice(payload)?;
        let Response { status, message, content, .. } = response;
        match (status, content) {
            (Status::Processing, Some(content)) => {
                self.context.progress_with(message, &content).await?;
            }
            // The server sends keep-alives of this request by itself.
            (Status::Processing, None) if message.is_empty() => {}
            (Status::Processing, None) => self.context.progress(message).await?,
            (Status::Ok, content) => {
                return Ok(Some(Answer { message, content: content.map(AnyReply::new) }));
            }
            (Status::Error, content) => {
                let content = content.map(AnyReply::new);
                return Err(Failure { message, content, refused: None });
            }
        }
        Ok(None)
    }

    /// The one request with this id that the caller may use.
    async fn find(&self, id: &str) -> Result<RunningRequest, Failure<AnyReply>> {
        let running = self.running();
        let by = |of: fn(&RunningRequest) -> &str| {
            running.iter().filter(|request| of(request) == id).cloned().collect::<Vec<_>>()
        };
        let exact = by(|request| &request.run);
        let found = if exact.is_empty() { by(|request| &request.id) } else { exact };
        if found.is_empty() {
            return Err(no_such_run(id));
        }
        let mut permitted = self.permitted(found).await;
        if permitted.len() > 1 {
            let runs: Vec<_> = permitted.iter().map(|request| request.run.as_str()).collect();
            let message = format!("{id:?} is ambiguous: it stands for {}", runs.join(", "));
            return Err(message.into());
        }
        permitted.pop().ok_or_else(|| {
            let message = format!("{} may not use {id:?}", caller(&self.context.peer()));
            Failure { message, content: None, refused: Some(Refusal::Denied) }
        })
    }

    /// All running requests but this one.
    fn running(&self) -> Vec<RunningRequest> {
        let mut running = self.context.server().running();
        let own = self.context.run_id();
        running.retain(|request| request.run != own);
        running
    }

    async fn permitted(&self, mut requests: Vec<RunningRequest>) -> Vec<RunningRequest> {
        let peer = self.context.peer();
        if (self.others)(peer.clone()).await.is_err() {
            requests.retain(|request| is_same(&request.peer, &peer));
        }
        requests
    }
}

fn is_same(one: &Peer, other: &Peer) -> bool {
    match (&one.identity, &other.identity) {
        (Some(one), Some(other)) => one.name == other.name,
        (None, None) => one.uid == other.uid,
        _ => false,
    }
}

fn caller(peer: &Peer) -> String {
    match &peer.identity {
        Some(identity) => format!("{:?}", identity.name),
        None => format!("uid {}", peer.uid),
    }
}

fn listed(request: &RunningRequest) -> Listed {
    let RunningRequest { run, id, command, peer, age, .. } = request;
    let identity = peer.identity.as_ref().map(|identity| identity.name.clone());
    Listed {
        run: run.clone(),
        id: id.clone(),
        command: command.clone().into_owned(),
        uid: identity.is_none().then_some(peer.uid),
        identity,
        age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
    }
}

fn no_such_run(id: &str) -> Failure<AnyReply> {
    let message = format!("no running request has the id {id:?}");
    Failure::new(message).with_content(AnyReply::new(NoSuchRun::default()))
}
