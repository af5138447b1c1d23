//! Words that the server knows: its commands, jobs and runs.

use std::sync::Arc;

use clap::builder::StyledStr;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use kakehi_command::Description;
use serde_json::{Value, json};

use super::ask::Asker;
use crate::commands;

/// The longest list that a shell shows.
const MOST: usize = 1000;

/// The server's description of its commands.
pub(super) fn description(asker: &Asker) -> Option<Description> {
    let content = asker.ask(&commands::DESCRIBE.into())?;
    serde_json::from_value(content).ok()
}

/// The names of the server's commands.
pub(super) fn commands(asker: &Arc<Asker>) -> ArgValueCandidates {
    let asker = Arc::clone(asker);
    ArgValueCandidates::new(move || {
        let commands = description(&asker).unwrap_or_default().commands;
        offers(commands.iter().map(|command| (command.name.as_str(), command.text.clone())))
    })
}

/// The names of the user's contexts.
pub(super) fn contexts() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let names = crate::context::names();
        names.iter().map(CompletionCandidate::new).collect()
    })
}

/// The names of the jobs that the caller may run.
pub(super) fn jobs(asker: &Arc<Asker>) -> ArgValueCandidates {
    let asker = Arc::clone(asker);
    ArgValueCandidates::new(move || {
        let list = asker.ask(&json!("list")).unwrap_or_default();
        let jobs = items(&list).map(|job| (text(job, "job"), text(job, "about").to_owned()));
        offers(jobs)
    })
}

/// The choices for an argument of a job.
pub(super) fn choices(asker: &Arc<Asker>, job: String, index: usize) -> ArgValueCandidates {
    let asker = Arc::clone(asker);
    ArgValueCandidates::new(move || {
        let list = asker.ask(&json!("list")).unwrap_or_default();
        let found = items(&list).find(|listed| text(listed, "job") == job);
        let argument = found.and_then(|job| job.get("arguments")?.get(index));
        let choices = argument.and_then(|argument| argument.get("choices"));
        let choices = choices.map(items).into_iter().flatten().filter_map(Value::as_str);
        offers(choices.map(|choice| (choice, String::new())))
    })
}

/// The run ids of the running requests.
pub(super) fn running(asker: &Arc<Asker>) -> ArgValueCandidates {
    let asker = Arc::clone(asker);
    ArgValueCandidates::new(move || {
        let status = asker.ask(&json!("status")).filter(|status| status.get("running").is_some());
        offers_running(&status.or_else(|| asker.ask(&json!("kakehi.running"))).unwrap_or_default())
    })
}

fn offers_running(status: &Value) -> Vec<CompletionCandidate> {
    let running = status.get("running").map(items).into_iter().flatten();
    offers(running.map(|request| (text(request, "run"), about(request, "command"))))
}

/// The ids of all runs, the newest first. A server without them has running requests.
pub(super) fn runs(asker: &Arc<Asker>) -> ArgValueCandidates {
    let asker = Arc::clone(asker);
    ArgValueCandidates::new(move || {
        let Some(records) = asker.ask(&json!({ "runs": {} })) else {
            return offers_running(&asker.ask(&json!("kakehi.running")).unwrap_or_default());
        };
        let runs = items(&records).map(|run| (text(run, "run"), about(run, "outcome")));
        let mut runs: Vec<_> = runs.collect();
        runs.sort_by(|a, b| b.0.cmp(a.0));
        offers(runs.into_iter())
    })
}

/// The job of a run, its arguments, and another field.
fn about(run: &Value, field: &str) -> String {
    let args = run.get("args").map(items).into_iter().flatten().filter_map(Value::as_str);
    let words = [text(run, "job")].into_iter().chain(args).chain([text(run, field)]);
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn offers<'v>(words: impl Iterator<Item = (&'v str, String)>) -> Vec<CompletionCandidate> {
    let words = words.filter(|(word, _)| is_name(word)).take(MOST);
    words
        .map(|(word, help)| CompletionCandidate::new(word).help(Some(StyledStr::from(help))))
        .collect()
}

/// Whether a word of the server is offered: an option of its choice would change the command line.
pub(super) fn is_name(word: &str) -> bool {
    super::words::is_literal(word) && !word.starts_with('-')
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text<'v>(object: &'v Value, field: &str) -> &'v str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}
