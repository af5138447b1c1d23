//! The description of a job that a server sends: for `run JOB --help` and `describe JOB`.

use std::{env, ffi::OsString, time::Duration};

use clap::Parser;
use serde::Deserialize;
use serde_json::json;

use super::{
    args::{Arguments, Command, Options},
    context,
    escape::{escape, escape_json},
    failure::Failure,
    question::Question,
    reach::Server,
    remote::Remote,
    reply::Answer,
    text,
    view::{Format, yaml},
};

/// How long the server may take to describe a job for a help text.
const PATIENCE: Duration = Duration::from_secs(2);

/// The description of a job, in the answer to `describe`.
#[derive(Deserialize)]
struct Job {
    #[serde(rename = "job")]
    name: String,
    #[serde(default)]
    about: String,
    #[serde(default)]
    arguments: Vec<Argument>,
    timeout_ms: Option<u64>,
    at_once: Option<u64>,
    #[serde(default)]
    stdin: bool,
    #[serde(default)]
    confirm: bool,
}

#[derive(Deserialize)]
struct Argument {
    name: Option<String>,
    pattern: String,
    #[serde(default)]
    choices: Vec<String>,
    #[serde(default)]
    required: bool,
    default: Option<String>,
    #[serde(default)]
    secret: bool,
}

/// The description of the job in this process's arguments, which ask for help. `None`: they name no
/// job, or the server does not describe it.
pub(crate) fn for_help() -> Option<String> {
    let (mut options, job) = job()?;
    context::apply(&mut options).ok()?;
    options.timeout = Some(options.timeout.map_or(PATIENCE, |timeout| timeout.min(PATIENCE)));
    let runtime = super::runtime().ok()?;
    let asking = async { tokio::time::timeout(PATIENCE, ask(&job, &options)).await };
    let asked = runtime.block_on(asking);
    text(&asked.ok()?.ok()?)
}

/// The options and the job of `run JOB --help`.
fn job() -> Option<(Options, String)> {
    let is_help = |argument: &OsString| argument == "--help" || argument == "-h";
    let given = env::args_os().filter(|argument| !is_help(argument));
    let Arguments { options, command } = Arguments::try_parse_from(given).ok()?;
    match command {
        Command::Run { job, .. } if options.many_hosts().is_none() => Some((options, job)),
        _ => None,
    }
}

/// Asks the server to describe a job.
pub(crate) async fn ask(job: &str, options: &Options) -> Result<Answer, Failure> {
    let question = Question::command(&json!({ "describe": { "job": job } })).traced();
    match options.single_host() {
        Some(host) => Remote::new(host, options).answer(question).await,
        None => Server::find(options)?.answer(question).await,
    }
}

/// The output of `kakehi describe JOB`.
///
/// # Errors
/// The answer describes no job.
pub(crate) fn show(answer: &Answer, job: &str, format: Format) -> Result<String, Failure> {
    let content = answer.content().unwrap_or_default();
    let shown = match format {
        Format::Name => Some(format!("{}\n", escape(job))),
        Format::Json => Some(format!("{}\n", escape_json(content))),
        Format::Yaml => serde_json::from_str(content).ok().map(|content| yaml(&content)),
        Format::Table | Format::Wide => text(answer),
    };
    shown.ok_or_else(|| {
        let why = "its answer has another form than expected";
        let remedy = "use a `kakehi` of the server's version";
        Failure::usage("the server does not describe the job", why, remedy)
    })
}

/// The description as text; `None`: the answer describes no job.
pub(crate) fn text(answer: &Answer) -> Option<String> {
    let Job { name, about, arguments, timeout_ms, at_once, stdin, confirm } =
        serde_json::from_str(answer.content()?).ok()?;
    let head = if about.is_empty() { name } else { format!("{name}: {about}") };
    let mut lines = vec![escape(&head).into_owned()];
    if !arguments.is_empty() {
        lines.extend([String::new(), "Arguments of the job:".to_owned()]);
        let names: Vec<_> = (1..).zip(&arguments).map(|(at, arg)| arg.shown(at)).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
        lines.extend(names.iter().zip(&arguments).map(|(name, argument)| {
            escape(&format!("  {name:<width$}  {}", argument.rules())).into_owned()
        }));
    }
    let timeout = timeout_ms.map(|ms| text::duration(Duration::from_millis(ms)));
    let facts = [
        timeout.map(|timeout| format!("Its timeout is {timeout}.")),
        at_once.filter(|count| *count > 1).map(|count| format!("{count} runs may go on at once.")),
        stdin.then(|| "It takes a standard input: --stdin.".to_owned()),
        confirm.then(|| "It must be confirmed: --yes.".to_owned()),
    ];
    let facts: Vec<_> = facts.into_iter().flatten().collect();
    if !facts.is_empty() {
        lines.extend([String::new(), facts.join(" ")]);
    }
    Some(lines.join("\n") + "\n")
}

impl Argument {
    /// `<name>` if it is required, else `[name]`.
    fn shown(&self, number: usize) -> String {
        let name = self.name.clone().unwrap_or_else(|| number.to_string());
        if self.required { format!("<{name}>") } else { format!("[{name}]") }
    }

    fn rules(&self) -> String {
        let value = if self.choices.is_empty() {
            format!("matches `{}`", self.pattern)
        } else {
            format!("one of {}", self.choices.join(", "))
        };
        let default = self.default.as_ref().map(|default| format!("default: {default}"));
        let secret = self.secret.then(|| "secret".to_owned());
        let rules: Vec<_> = std::iter::once(value).chain(default).chain(secret).collect();
        rules.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_described_with_what_its_arguments_must_be() {
        let content = json!({
            "job": "backup", "about": "archive a folder\u{9b}", "timeout_ms": 90_000, "at_once": 2,
            "stdin": true, "confirm": true, "arguments": [
                { "name": "folder", "pattern": "a|b", "choices": ["a", "b"], "required": true },
                { "pattern": "[0-9]", "required": false, "default": "3", "secret": true },
            ],
        });
        let expected = "\
backup: archive a folder\\u{9b}

Arguments of the job:
  <folder>  one of a, b
  [2]       matches `[0-9]`; default: 3; secret

Its timeout is 1 m 30 s. 2 runs may go on at once. It takes a standard input: --stdin. It must be \
confirmed: --yes.
";
        assert_eq!(text(&Answer::ok("", &content).unwrap()).unwrap(), expected);
        assert_eq!(text(&Answer::ok("", &json!([])).unwrap()), None);
    }
}
