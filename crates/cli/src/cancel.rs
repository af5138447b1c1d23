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
    let mut cancelled = BTreeMap::new();
    if let Err(failure) = cancel(first, options, &mut cancelled).await {
        return view.output.end(&failure);
    }
    let plural = if cancelled.len() == 1 { "" } else { "s" };
    let message = format!("cancelled {} request{plural}", cancelled.len());
    let cancelled: Vec<_> = cancelled.into_values().collect();
    let code = match Answer::ok(&message, &json!({ "cancelled": cancelled })) {
        Some(answer) => view.conclude(answer),
        None => exit::OK,
    };
    match view.output.flush().await {
        Ok(()) => code,
        Err(_) => exit::OUTPUT,
    }
}

async fn cancel(
    first: &Answer,
    options: &Options,
    cancelled: &mut BTreeMap<String, Value>,
) -> Result<(), Failure> {
    let mut list = List::of(first);
    for _ in 0..MOST_LISTS {
        let before = cancelled.len();
        for Listed { run } in list.running {
            let question = Question::command(&json!({ "kakehi.cancel": { "id": run } }));
            match answer(question, options).await {
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
        list = List::of(&answer(Question::command(&"kakehi.running".into()), options).await?);
    }
    Ok(())
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
