//! How answers are shown.

mod line;
mod table;
mod tables;

use kakehi_client::Status;
use serde_json::Value;

use self::line::Line;
use super::{
    args::Options,
    escape::{escape, escape_json},
    exit,
    failure::Failure,
    output::{Output, Paint},
    reply::Answer,
};

/// What was asked, as far as it matters for showing the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Nothing in particular: each step is a result.
    Demo,
    /// A job: what it writes is the result.
    Run,
    List,
    Status,
    /// Done or not, and why.
    Message,
    /// Anything.
    Raw,
}

impl Form {
    /// What to do if the server says no.
    fn hint(self) -> &'static str {
        match self {
            Self::Run => "see what you may run by `client list`",
            Self::Message => "see what runs by `client status`",
            _ => "see the server's log for more",
        }
    }
}

/// Shows the answers to one request.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) output: Output,
    form: Form,
    is_json: bool,
    /// A job's bytes are shown as they are.
    is_raw: bool,
}

impl View {
    pub(crate) fn new(form: Form, output: Output, options: &Options) -> Self {
        Self { output, form, is_json: options.json, is_raw: options.raw }
    }

    /// More will follow.
    pub(crate) fn progress(&mut self, answer: &Answer) {
        let message = &answer.response.message;
        if self.is_json {
            return self.json(answer);
        }
        if self.form == Form::Demo {
            self.result("processing:", message);
            return self.output.live_progress(message, answer.content().as_ref());
        }
        match Line::of(answer) {
            Some(line) if line.is_stdout => self.output.result(&line.show(self.is_raw)),
            Some(line) => self.output.aside(&line.show(self.is_raw)),
            None => self.output.progress(message, answer.content().as_ref()),
        }
    }

    /// This is the end. Gives the exit status.
    pub(crate) fn conclude(&mut self, answer: &Answer) -> u8 {
        let code = exit::of_answer(answer, self.form == Form::Run);
        self.output.finish();
        if self.is_json {
            self.json(answer);
        } else if answer.response.status == Status::Ok {
            self.succeed(answer);
        } else {
            self.fail(answer, code);
        }
        code
    }

    fn succeed(&mut self, answer: &Answer) {
        let (message, content) = (&answer.response.message, answer.content());
        let (content, paint) = (content.as_ref(), self.output.paint);
        match self.form {
            Form::Demo => self.result(&paint.good("success:"), message),
            Form::Run if self.output.is_terminal() => self.output.note("success:", message),
            Form::Run => {}
            Form::Message => self.result("", message),
            Form::List => self.table(tables::list, message, content),
            Form::Status => self.table(tables::status, message, content),
            Form::Raw => self.anything(message, content),
        }
    }

    fn fail(&mut self, answer: &Answer, code: u8) {
        let message = &answer.response.message;
        match self.form {
            Form::Demo if answer.response.refused.is_none() => {
                let label = self.output.paint.bad("failed:");
                self.result(&label, message);
            }
            // The job says itself why it failed.
            Form::Run if answer.job_code().is_some() => self.output.job_failed(message),
            form => self.output.failure(&Failure::of_answer(answer, code, form.hint())),
        }
    }

    fn table(
        &mut self,
        show: fn(&Value, Paint) -> Option<String>,
        message: &str,
        content: Option<&Value>,
    ) {
        match content.and_then(|content| show(content, self.output.paint)) {
            Some(table) if table.is_empty() => self.output.note("note:", message),
            Some(table) => self.output.result(table.as_bytes()),
            None => self.anything(message, content),
        }
    }

    fn anything(&mut self, message: &str, content: Option<&Value>) {
        if !message.is_empty() {
            self.result("", message);
        }
        if let Some(content) = content {
            let text = content.to_string();
            self.output.result(format!("{}\n", escape_json(&text)).as_bytes());
        }
    }

    fn result(&mut self, label: &str, message: &str) {
        let gap = if label.is_empty() { "" } else { " " };
        let line = format!("{label}{gap}{}\n", escape(message));
        self.output.result(line.as_bytes());
    }

    fn json(&mut self, answer: &Answer) {
        let line = format!("{}\n", escape_json(&answer.json()));
        self.output.result(line.as_bytes());
    }
}
