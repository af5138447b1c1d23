//! Cancels all requests of a server that cancels one at a time.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    args::Options, exit, failure::Failure, question::Question, reach::Server, remote::Remote,
    reply::Answer, view::View,
};

/// How often the server is asked for more requests. Each list has 256 of them.
const MOST_LISTS: usize = 64;

/// The answer to `kakehi.running`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct List {
    running: Vec<Listed>,
    more: u64,
}

#[derive(Debug, Deserialize)]
struct Listed {
    run: String,
}

/// Cancels the requests of `first`, an answer to `kakehi.running`, and those of the lists after it.
/// Returns the exit status.
pub(crate) async fn all(first: &Answer, options: &Options, view: &mut View) -> u8 {
    let code = match each(first, async |question| answer(question, options).await).await {
        Ok(answer) => view.conclude(answer),
        Err(failure) => return view.output.end(&failure),
    };
    match view.output.flush().await {
        Ok(()) => code,
        Err(_) => exit::OUTPUT,
    }
}

/// The same for the server that `ask` sends requests to. Returns a final response that names the
/// cancelled requests.
pub(crate) async fn each(
    first: &Answer,
    ask: impl AsyncFn(Question) -> Result<Answer, Failure>,
) -> Result<Answer, Failure> {
    let cancelled = cancel(first, ask).await?;
    let plural = if cancelled.len() == 1 { "" } else { "s" };
    let message = format!("cancelled {} request{plural}", cancelled.len());
    let cancelled: Vec<_> = cancelled.into_values().collect();
    Answer::ok(&message, &json!({ "cancelled": cancelled })).ok_or_else(Failure::unanswered)
}

async fn cancel(
    first: &Answer,
    ask: impl AsyncFn(Question) -> Result<Answer, Failure>,
) -> Result<BTreeMap<String, Value>, Failure> {
    let mut cancelled = BTreeMap::new();
    let mut list = List::of(first);
    for _ in 0..MOST_LISTS {
        let before = cancelled.len();
        for Listed { run } in list.running {
            match ask(Question::command(&json!({ "kakehi.cancel": { "id": run } }))).await {
                Ok(answer) => {
                    cancelled.insert(run, content(&answer));
                }
                // It has ended by itself.
                Err(failure) if failure.word == "no_such_run" => {}
                Err(failure) => return Err(failure),
            }
        }
        if list.more == 0 || cancelled.len() == before {
            break;
        }
        list = List::of(&ask(Question::command(&"kakehi.running".into())).await?);
    }
    Ok(cancelled)
}

impl List {
    fn of(answer: &Answer) -> Self {
        let content = answer.content().and_then(|content| serde_json::from_str(content).ok());
        content.unwrap_or_default()
    }
}

/// The request that was cancelled, as the server describes it.
fn content(answer: &Answer) -> Value {
    let content: Option<Value> = answer.content().and_then(|text| serde_json::from_str(text).ok());
    content.and_then(|content| content.get("cancelled")?.get(0).cloned()).unwrap_or_default()
}

async fn answer(question: Question, options: &Options) -> Result<Answer, Failure> {
    let question = question.traced();
    match options.single_host() {
        Some(host) => Remote::new(host, options).answer(question).await,
        None => Server::find(options)?.answer(question).await,
    }
}
