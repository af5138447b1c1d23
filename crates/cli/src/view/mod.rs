//! How responses are shown.

mod line;
mod prometheus;
mod returns;
mod runs;
mod table;
mod tables;
mod yaml;

use std::{
    io::{self, IsTerminal},
    ops::Range,
};

use clap::ValueEnum;
use kakehi_client::{Response, Status};
use tokio::time::Instant;

use self::returns::{Returns, Shown};
#[cfg(feature = "top")]
pub(crate) use self::tables::Users;
pub(crate) use self::{
    line::Line,
    table::{Style, table},
    yaml::yaml,
};
use super::{
    args::Options,
    escape::escape,
    exit,
    failure::Failure,
    output::{Output, To, steps},
    reply::{Answer, End},
};

/// The largest response that is shown as a table, in bytes. Its rows take many times its size.
const LARGEST_TABLE: usize = 1024 * 1024;
/// The largest response that is converted to YAML, in bytes. Its values take 80 times its size.
const LARGEST_YAML: usize = 256 * 1024;

/// The form of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    /// A table with more columns, which are not shortened.
    Wide,
    /// The content of the final response, and that of progress which is a part of the result.
    Json,
    Yaml,
    /// One name or id on each line.
    Name,
}

/// The kind of request, which decides how its responses are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Each progress response is a result.
    Demo,
    /// A job: its output is the result.
    Run,
    /// A run that goes on without this program.
    Attach,
    /// The output of a run; `true`: with times.
    Logs(bool),
    /// A detached run: its id is the result.
    Detached,
    /// A check of a run: it ends as the run would if that is refused.
    DryRun,
    /// Records of runs.
    Runs,
    /// The ends of runs.
    Wait,
    List,
    Status,
    /// The status, for Prometheus.
    Metrics,
    /// The message of the final response is the result.
    Message,
    /// The same, or the running requests that are then cancelled one by one.
    CancelAll,
    /// The end of the server is the result.
    Stop,
    /// Any request to any server.
    Raw {
        /// It has the field `command`.
        has_command: bool,
    },
}

impl Form {
    /// Checks that the result has this format.
    ///
    /// # Errors
    /// The result is the output of a job, which has no format.
    pub(crate) fn accept(self, format: Format) -> Result<(), Failure> {
        let is_output = matches!(self, Self::Demo | Self::Run | Self::Attach | Self::Logs(_));
        if format == Format::Table || !is_output {
            return Ok(());
        }
        let why = "the command prints the output of a job unchanged";
        let remedy = "leave -o out; for each line as JSON, pass --json";
        Err(Failure::usage("-o does not apply to this command", why, remedy))
    }

    /// The remedy for a failure without a known reason; empty if the message says all.
    fn hint(self) -> &'static str {
        match self {
            Self::Run | Self::Detached => "see the jobs that you may run: `kakehi list`",
            Self::Attach | Self::Logs(_) | Self::Runs | Self::Wait => "see the runs: `kakehi runs`",
            Self::Message | Self::CancelAll | Self::Stop => {
                "see the running requests: `kakehi status`"
            }
            _ => "",
        }
    }

    /// A better remedy, for a request that the person wrote.
    fn advise(self, failure: Failure) -> Failure {
        let remedy = match (failure.word, self) {
            ("unsupported" | "malformed", Self::Raw { has_command: false }) => {
                "put the command under \"command\": {\"command\":{\"NAME\":{...}}}"
            }
            ("no_such_run", Self::Message | Self::CancelAll | Self::Raw { .. }) => {
                "see the running requests: `kakehi status`"
            }
            ("malformed", Self::Raw { .. }) => {
                "see the arguments of the command: `kakehi describe COMMAND`"
            }
            _ => return failure,
        };
        Failure { remedy: remedy.to_owned(), ..failure }
    }
}

/// Shows the responses to one request.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a property of its own")]
pub(crate) struct View {
    pub(crate) output: Output,
    form: Form,
    is_json: bool,
    /// Whether a job's bytes are unchanged even on a terminal.
    is_raw: bool,
    /// Of standard output and standard error.
    returns: [Returns; 2],
    format: Format,
    style: Style,
    /// Whether the request can be replaced by one that other servers know.
    pub(crate) has_other: bool,
    /// The process of a server that is about to end.
    stopping: Option<u32>,
    /// The running requests, which are to be cancelled.
    running: Option<Answer>,
    /// Whether progress was shown as a part of the result.
    has_items: bool,
}

impl View {
    pub(crate) fn new(form: Form, output: Output, options: &Options) -> Self {
        let style = Style::of(&output, options);
        Self {
            output,
            form,
            is_json: options.json,
            is_raw: options.raw,
            returns: Default::default(),
            format: options.output,
            style,
            has_other: false,
            stopping: None,
            running: None,
            has_items: false,
        }
    }

    /// Whether the request can be left without an effect on its run.
    pub(crate) fn can_leave(&self) -> bool {
        matches!(self.form, Form::Attach | Form::Logs(_) | Form::Wait)
    }

    /// The form of the final response. That of a request on a server without runs is like any other.
    fn final_form(&self) -> Form {
        match self.form {
            Form::Attach if !self.has_other => Form::Raw { has_command: true },
            form => form,
        }
    }

    /// Whether the user can be asked to confirm a run.
    pub(crate) fn can_confirm(&self) -> bool {
        let is_run = matches!(self.form, Form::Run | Form::Detached);
        is_run && !self.is_json && self.output.is_terminal(To::Stderr) && io::stdin().is_terminal()
    }

    /// Reports that the run goes on. Returns the exit status: a `wait` that was left has not seen
    /// the end.
    pub(crate) fn leave(&mut self) -> u8 {
        self.output.finish();
        self.output.note("note:", "left; the run goes on".to_owned());
        if self.form == Form::Wait { exit::INTERRUPTED } else { exit::OK }
    }

    /// Shows a progress response.
    pub(crate) fn progress(&mut self, answer: Answer) {
        if self.is_json {
            return self.json(answer);
        }
        if self.form == Form::Demo {
            let steps = answer.content().and_then(steps);
            let message = answer.response.message;
            self.output.live_progress(&message, steps);
            return self.output.result_line("processing:", message);
        }
        if self.form == Form::Wait {
            if !self.is_content() {
                self.output.result_line("", answer.response.message);
            }
            return;
        }
        let time = if self.form == Form::Logs(true) { time(&answer) } else { None };
        match Line::of(answer) {
            Ok(line) => self.lines(line, time),
            Err(answer) => self.other_progress(*answer),
        }
    }

    /// Shows progress that is not output of a job. A command of any server may stream its result in
    /// its progress: content without steps is a result, and a message stays on the screen.
    fn other_progress(&mut self, answer: Answer) {
        let steps = answer.content().and_then(steps);
        let is_any = matches!(self.final_form(), Form::Raw { .. });
        match answer.content_range() {
            Some(content) if is_any && steps.is_none() => self.item(answer, content),
            None if is_any => self.output.remark(answer.response.message),
            _ => self.output.progress(answer.response.message, steps),
        }
    }

    /// Shows a part of a result.
    fn item(&mut self, answer: Answer, content: Range<usize>) {
        self.has_items = true;
        if self.is_content() {
            self.show_content(answer);
        } else {
            self.output.result_item(answer.response.message, answer.json, content);
        }
    }

    /// Shows the lines of a response. A terminal gets each line escaped.
    fn lines(&mut self, Line { to, mut bytes, end }: Line, time: Option<String>) {
        if let Some(time) = time {
            bytes.splice(0..0, time.into_bytes());
        }
        if self.is_raw || !self.output.is_terminal(to) {
            return self.output.job(to, bytes, true, end);
        }
        let mut lines = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            let end = if lines.peek().is_some() { b"\n" } else { end };
            self.line(Line { to, bytes: line.to_vec(), end });
        }
    }

    /// Shows one line on a terminal.
    fn line(&mut self, line: Line) {
        let to = line.to;
        let [stdout, stderr] = &mut self.returns;
        let returns = if to == To::Stdout { stdout } else { stderr };
        match returns.add(line) {
            Shown::Line(Line { bytes, end, .. }) => self.output.job(to, bytes, false, end),
            Shown::Live(text) => self.output.live_progress(&text, None),
        }
    }

    /// Shows the final response. Returns the exit status.
    pub(crate) fn conclude(&mut self, answer: Answer) -> u8 {
        let form = self.final_form();
        let is_run = matches!(form, Form::Run | Form::Attach | Form::Detached | Form::DryRun);
        let is_late = self.is_late(&answer);
        let code = match form {
            _ if is_late => exit::TIMEOUT,
            Form::Wait => exit::of_wait(&answer),
            _ => exit::of_answer(&answer, is_run),
        };
        for (to, returns) in [To::Stdout, To::Stderr].into_iter().zip(&mut self.returns) {
            let rest = returns.finish();
            let end: &[u8] = if rest.is_empty() { b"" } else { b"\n" };
            self.output.job(to, rest, false, end);
        }
        self.output.finish();
        if self.form == Form::CancelAll && answer.lists_running() {
            self.running = Some(answer);
        } else if is_late {
            self.output.failure(&Failure::late(&answer.response.message));
        } else if self.is_json {
            self.json(answer);
        } else if answer.response.status == Status::Ok {
            self.succeed(answer);
        } else {
            self.fail(answer, code);
        }
        code
    }

    /// Whether the server cancelled the request at its deadline, without details in the response.
    fn is_late(&self, answer: &Answer) -> bool {
        let has_passed = self.output.deadline().is_some_and(|deadline| deadline <= Instant::now());
        let is_error = answer.response.status == Status::Error && answer.response.refused.is_none();
        has_passed && is_error && answer.end() == End::default()
    }

    fn succeed(&mut self, answer: Answer) {
        if self.is_content() {
            if self.form == Form::Stop {
                self.stopping = self.process(&answer);
            }
            return self.show_content(answer);
        }
        let paint = self.output.paint;
        match self.final_form() {
            Form::Demo => self.output.result_line(&paint.good("success:"), answer.response.message),
            Form::Run | Form::Attach if self.output.tells_success() => {
                self.output.note("success:", answer.response.message);
            }
            Form::Run | Form::Attach | Form::Logs(_) | Form::Wait => {}
            Form::Detached => {
                let run = answer.content().and_then(runs::id);
                self.output.result_line("", run.unwrap_or(answer.response.message));
            }
            Form::Runs => self.table(runs::table_of, answer),
            Form::Message | Form::CancelAll | Form::DryRun => {
                self.output.result_line("", answer.response.message);
            }
            Form::Stop => {
                self.stopping = self.process(&answer);
                if self.stopping.is_none() {
                    self.output.result_line("", answer.response.message);
                }
            }
            Form::List => self.table(tables::list, answer),
            Form::Status => self.table(tables::status, answer),
            Form::Metrics => self.table(|content, _| prometheus::metrics(content), answer),
            Form::Raw { .. } => self.anything(answer),
        }
    }

    fn fail(&mut self, answer: Answer, code: u8) {
        match self.final_form() {
            Form::Demo if answer.response.refused.is_none() => {
                let label = self.output.paint.bad("failed:");
                self.output.result_line(&label, answer.response.message);
            }
            // The job ran, and its own output says more.
            Form::Run | Form::Attach if answer.end().code.is_some() => {
                self.output.job_failed(answer.response.message);
            }
            // The runs have ended, and a line of each says more.
            Form::Wait if !answer.ends().is_empty() => {
                let message = answer.response.message.clone();
                if self.is_content() {
                    self.show_content(answer);
                }
                self.output.job_failed(message);
            }
            form => {
                let mut failure = Failure::of_answer(&answer, code, form.hint());
                for problem in answer.problems() {
                    self.output.aside(format!("{}\n", escape(&problem)).as_bytes());
                }
                let is_any = matches!(form, Form::Raw { .. }) && !failure.details.is_empty();
                if self.is_content() && is_any {
                    failure.details.clear();
                    self.show_content(answer);
                }
                self.failure(form.advise(failure));
            }
        }
    }

    /// Reports a failure.
    pub(crate) fn failure(&mut self, failure: Failure) {
        let failure = match self.form {
            Form::Raw { .. } => failure.without_commands_of_kakehid(),
            _ => failure,
        };
        self.output.failure(&failure);
    }

    /// The running requests, if they are to be cancelled.
    pub(crate) fn running(&mut self) -> Option<Answer> {
        self.running.take()
    }

    /// The process of the server, if its end is still to be waited for.
    pub(crate) fn stopping(&mut self) -> Option<u32> {
        self.stopping.take()
    }

    /// Shows that the server has ended.
    pub(crate) fn stopped(&mut self) {
        if !self.is_content() {
            self.output.result_line("", "stopped".to_owned());
        }
    }

    /// The process of a server on this machine that is about to end.
    fn process(&self, answer: &Answer) -> Option<u32> {
        answer.pid().filter(|_| self.style.is_local)
    }

    /// Whether the result is the content of the final response.
    fn is_content(&self) -> bool {
        matches!(self.format, Format::Json | Format::Yaml) && self.form.accept(self.format).is_ok()
    }

    fn show_content(&mut self, answer: Answer) {
        match self.format {
            Format::Yaml => self.yaml(answer),
            _ => self.content(answer),
        }
    }

    fn table(&mut self, show: fn(&str, Style) -> Option<String>, answer: Answer) {
        let is_small = answer.json.len() <= LARGEST_TABLE;
        let content = answer.content().filter(|_| is_small);
        match content.and_then(|content| show(content, self.style)) {
            Some(table) if table.is_empty() => self.output.note("note:", answer.response.message),
            Some(table) => self.output.result(table.as_bytes()),
            None => self.anything(answer),
        }
    }

    fn content(&mut self, answer: Answer) {
        if let Some(content) = answer.content_range() {
            self.output.result_json(answer.json, content);
        }
    }

    fn yaml(&mut self, answer: Answer) {
        let is_small = answer.json.len() <= LARGEST_YAML;
        let content = answer.content().filter(|_| is_small);
        // Several results are documents of their own.
        if self.has_items && content.is_some() {
            self.output.result(b"---\n");
        }
        match content.and_then(|content| serde_json::from_str(content).ok()) {
            Some(content) => self.output.result(yaml(&content).as_bytes()),
            // JSON is YAML too.
            None => self.content(answer),
        }
    }

    fn anything(&mut self, answer: Answer) {
        let content = answer.content_range();
        let Answer { json, response: Response { message, .. } } = answer;
        if !message.is_empty() {
            self.output.result_line("", message);
        }
        if let Some(content) = content {
            self.output.result_json(json, content);
        }
    }

    fn json(&mut self, Answer { json, .. }: Answer) {
        let whole = 0..json.len();
        self.output.result_json(json, whole);
    }
}

/// The time of a line, if the response starts one.
fn time(answer: &Answer) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Times {
        at_ms: u64,
        #[serde(default)]
        part: u32,
    }
    let Times { at_ms, part } = serde_json::from_str(answer.content()?).ok()?;
    let at = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_millis(at_ms))?;
    // The calendar of the formatter ends in the year 9999.
    let is_shown = part < 2 && at_ms < 253_402_300_800_000;
    is_shown.then(|| format!("{} ", humantime::format_rfc3339_millis(at)))
}
