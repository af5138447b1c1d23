//! The callers of a simulated client. They make requests and report the results.

use std::time::Duration;

use kakehi_channel::{ErrorKind, Request, Response, Status};
use kakehi_client::{Error, Outcome};
use tokio::{
    select,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    court::{Report, Shared},
    plan::{Ask, Command, Plan, To},
};
use crate::{Broker, Fleet, Signer, Target, scripted::Link};

/// The client of `process`: its lanes at once, the requests of a lane one after another.
pub(super) async fn run(
    link: Link,
    court: Shared,
    process: usize,
    lanes: Vec<Vec<Plan>>,
    signer: Option<Signer>,
) {
    let fleet = Fleet::connect(Broker::scripted(link)).await.unwrap();
    let fleet = match signer {
        Some(signer) => fleet.signed_by(signer),
        None => fleet,
    };
    let mut running = JoinSet::new();
    for lane in lanes {
        let (fleet, court) = (fleet.clone(), court.clone());
        running.spawn(async move {
            for plan in lane {
                request(&fleet, &court, process, plan).await;
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

async fn request(fleet: &Fleet, court: &Shared, process: usize, plan: Plan) {
    sleep(plan.ask.pause).await;
    let target = match plan.ask.target {
        To::Node(number) => fleet.node(&format!("n{number}")),
        To::Any => fleet.any("role", "all"),
        To::Absent => fleet.node("absent"),
    }
    .unwrap();
    let retries = plan.ask.retries;
    let mut id = String::new();
    for attempt in 0..=retries {
        let token = court.lock().plan(plan.clone(), process);
        if attempt == 0 {
            id = format!("id-{token}");
        }
        let mut is_complete = true;
        let report = ask(&target, court, token, &id, &plan.ask, &mut is_complete).await;
        let is_ok = report == Report::Ok;
        court.lock().report(token, &report, is_complete);
        if is_ok {
            return;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Makes one request and returns its result. Sets `is_complete` to whether all progress arrived.
async fn ask(
    target: &Target,
    court: &Shared,
    token: usize,
    id: &str,
    ask: &Ask,
    is_complete: &mut bool,
) -> Report {
    let begun = Instant::now();
    let request = Request::with_command("", serde_json::to_value(Command { token }).unwrap());
    let request = target.message(request).id(id).timeout(ask.timeout).deadline(ask.deadline);
    let mut responses = match request.send().await {
        Ok(responses) => responses,
        Err(error) => return failed(&error, begun.elapsed(), ask, (token, *is_complete)),
    };
    let mut heard = 0;
    let give_up = sleep(ask.give_up.unwrap_or(Duration::from_secs(86_400)));
    tokio::pin!(give_up);
    loop {
        let response = select! {
            biased;
            () = &mut give_up => return Report::GivenUp,
            response = responses.next() => response,
        };
        let response = match response {
            Some(Ok(response)) => response,
            Some(Err(error)) => return failed(&error, begun.elapsed(), ask, (token, *is_complete)),
            None => return Report::Wrong("the stream ended without a final response".into()),
        };
        *is_complete = responses.is_complete();
        match response.status {
            Status::Processing => {
                let expected = format!("{token} {heard} ");
                if !response.message.starts_with(&expected) {
                    let message: String = response.message.chars().take(40).collect();
                    return Report::Wrong(format!("{message:?} came instead of {expected:?}"));
                }
                heard += 1;
                court.lock().hear(token);
                if ask.read > Duration::ZERO {
                    sleep(ask.read).await;
                }
            }
            Status::Ok => {
                return match response.message {
                    message if message == format!("{token} ok") => Report::Ok,
                    message if !*is_complete => Report::Earlier(message),
                    message => Report::Wrong(format!("OK with {message:?}")),
                };
            }
            Status::Error => {
                return failed(
                    &Error::answered(response),
                    begun.elapsed(),
                    ask,
                    (token, *is_complete),
                );
            }
        }
    }
}

fn failed(
    error: &Error,
    elapsed: Duration,
    ask: &Ask,
    (token, is_complete): (usize, bool),
) -> Report {
    let text = error.to_string();
    if error.kind() == ErrorKind::Timeout || error.kind() == ErrorKind::Deadline {
        let limit = if error.kind() == ErrorKind::Deadline { ask.deadline } else { ask.timeout };
        if limit.is_none_or(|limit| elapsed < limit) {
            return Report::Wrong(format!("too early, after {elapsed:?}: {text}"));
        }
        let is_sent = error.outcome() == Outcome::Unknown;
        return Report::Late { is_sent, is_deadline: error.kind() == ErrorKind::Deadline };
    }
    match error.outcome() {
        Outcome::NotSent => Report::NotSent(text),
        Outcome::Refused => Report::Refused(text),
        Outcome::Unknown => Report::Unknown(text),
        Outcome::Failed => {
            let message = error.response().map(|Response { message, .. }| message.clone());
            let message = message.unwrap_or_default();
            let is_own = message.starts_with(&format!("{token} "));
            let is_earlier = !is_complete && !is_own && message.ends_with(" err");
            if is_earlier { Report::Earlier(message) } else { Report::Failed(message) }
        }
        Outcome::Done => Report::Wrong(format!("an error with the outcome done: {text}")),
    }
}
