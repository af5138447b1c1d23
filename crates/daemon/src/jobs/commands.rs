//! The daemon's description of its own commands.

use kakehi_command::{CommandDescription, Description, Schemas};
use kakehi_server::Answer;
use serde_json::{Value, json};

use super::{caller::Caller, content::Content, file::Jobs};

/// Describes the commands, and says which of them the caller may run.
pub(super) fn description(caller: &Caller, jobs: &Jobs, has_demo: bool) -> Answer<Content> {
    let runnable: Vec<&str> =
        jobs.values().filter(|job| caller.may_run(job)).map(|job| job.name.as_str()).collect();
    let mut commands = shown();
    commands.extend(changing(&runnable));
    if has_demo {
        commands.extend(demo());
    }
    for command in &mut commands {
        command.allowed = match command.name.as_str() {
            "run" | "rerun" => !runnable.is_empty(),
            "stop" | "reload" => caller.owns_server(),
            _ => true,
        };
    }
    commands.sort_by(|a, b| a.name.cmp(&b.name));
    let message = format!("{} commands", commands.len());
    let (name, version) = ("kakehid".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    let description = Box::new(Description { name, version, commands });
    Answer::new(message).with_content(Content::Commands(description))
}

/// The commands that change nothing.
fn shown() -> Vec<CommandDescription> {
    let shown = [
        ("list", "Lists the jobs that you may run.", nothing()),
        ("status", "Shows the server's state and the running requests.", nothing()),
        ("describe", "Describes a job.", fields(&["job"], &json!({ "job": text("Its name.") }))),
        (
            "runs",
            "Lists runs, also those that have ended.",
            fields(
                &[],
                &json!({
                    "job": text("Only runs of this job."),
                    "uid": { "type": "integer", "minimum": 0, "maximum": u32::MAX,
                        "description": "Only runs of this user." },
                    "failed": switch("Only runs that failed or are unknown."),
                }),
            ),
        ),
        ("attach", "Follows the output of a run from its start.", of_a_run(&json!({}))),
        (
            "logs",
            "Shows the output of a run.",
            of_a_run(&json!({
                "follow": switch("Also send new output, until the run ends."),
                "tail": { "type": "integer", "minimum": 0, "description": "Only this number of last lines." },
                "timestamps": switch("Add the time of the output."),
            })),
        ),
        (
            "wait",
            "Waits until runs have ended.",
            fields(&["runs"], &json!({ "runs": texts("The ids of the runs.") })),
        ),
    ];
    shown.map(|(name, text, arguments)| described(name, text, true, arguments)).into()
}

fn changing(runnable: &[&str]) -> Vec<CommandDescription> {
    let mut job = text("The job's name.");
    if let (Some(job), false) = (job.as_object_mut(), runnable.is_empty()) {
        job.insert("enum".to_owned(), json!(runnable));
    }
    let run = fields(
        &["job"],
        &json!({
            "job": job,
            "args": texts("The job's arguments, in their order."),
            "detach": switch("Answer with the run's id at once."),
            "no_wait": switch("Refuse the run if it has to wait for a slot."),
            "dry_run": switch("Only check the request."),
            "confirmed": switch("Confirm a job that asks for it."),
            "stdin": text("The job's standard input."),
        }),
    );
    let changing = [
        ("run", "Runs a job and sends its output.", run),
        (
            "rerun",
            "Runs a job again with the arguments of a run.",
            of_a_run(&json!({ "detach": switch("Answer with the new run's id at once.") })),
        ),
        (
            "cancel",
            "Cancels running requests.",
            fields(
                &[],
                &json!({
                    "id": text("A run id, a unique prefix of one, or a request's id."),
                    "job": text("All runs of this job."),
                    "all": switch("All requests."),
                }),
            ),
        ),
        ("reload", "Reads the files of the jobs again.", nothing()),
        ("stop", "Stops the server after a drain.", nothing()),
    ];
    changing.map(|(name, text, arguments)| described(name, text, false, arguments)).into()
}

fn demo() -> Vec<CommandDescription> {
    let number = |about: &str| json!({ "type": "integer", "minimum": 0, "description": about });
    let demo = [
        (
            "countdown",
            "Counts down.",
            fields(
                &[],
                &json!({
                    "steps": number("How many steps; 10 by default."),
                    "interval_ms": number("Milliseconds between two steps; 1000 by default."),
                }),
            ),
        ),
        ("fail", "Fails.", nothing()),
        ("echo", "Sends a text back.", fields(&["text"], &json!({ "text": text("The text.") }))),
    ];
    demo.map(|(name, text, arguments)| described(name, text, true, arguments)).into()
}

fn described(name: &str, text: &str, read_only: bool, arguments: Value) -> CommandDescription {
    CommandDescription {
        name: name.to_owned(),
        text: text.to_owned(),
        read_only,
        allowed: true,
        schemas: Schemas { arguments: Some(arguments), ..Schemas::default() },
    }
}

fn nothing() -> Value {
    json!({ "type": "null" })
}

fn fields(required: &[&str], properties: &Value) -> Value {
    json!({ "type": "object", "properties": properties, "required": required,
        "additionalProperties": false })
}

fn of_a_run(more: &Value) -> Value {
    let mut properties = json!({ "run": text("The run's id, or a unique prefix of it.") });
    if let (Some(all), Some(more)) = (properties.as_object_mut(), more.as_object()) {
        all.extend(more.clone());
    }
    fields(&["run"], &properties)
}

fn text(about: &str) -> Value {
    json!({ "type": "string", "description": about })
}

fn texts(about: &str) -> Value {
    json!({ "type": "array", "items": { "type": "string" }, "description": about })
}

fn switch(about: &str) -> Value {
    json!({ "type": "boolean", "description": about })
}
