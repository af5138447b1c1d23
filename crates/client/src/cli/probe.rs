//! What a terminal would be given, without one: the door for those who fuzz what is shown. It is of
//! no API.

use std::fmt::Write as _;

use clap::Parser;
use kakehi_channel::Decode;
use kakehi_client::doctor;

use super::{
    Output, View,
    args::{Arguments, Options},
    failure::Failure,
    output::Paint,
    plan::plan,
    reply::{Answer, Verbatim},
    ssh,
    view::Form,
};
use crate::{Error, Outcome};

/// A command line whose answers are to be shown.
#[derive(Debug)]
pub struct Probe {
    options: Options,
    form: Form,
}

impl Probe {
    /// `None`: it is none, or asks nothing of a server.
    #[must_use]
    pub fn new<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let arguments = arguments.into_iter().map(ToOwned::to_owned);
        let Arguments { options, command } = Arguments::try_parse_from(arguments).ok()?;
        let (form, _) = plan(command).ok()?;
        Some(Self { options, form })
    }

    /// Whether it asks for colours.
    #[must_use]
    pub fn is_painted(&self) -> bool {
        Paint::new(self.options.color, false) != Paint::NONE
    }

    /// All that standard output and standard error get, up to the final answer or the first
    /// payload that is none. With `columns`, there is a live line of that width too, in all its
    /// states.
    pub fn show<'p>(
        &self,
        payloads: impl IntoIterator<Item = &'p [u8]>,
        columns: Option<usize>,
    ) -> Vec<u8> {
        let output = Output::captured(&self.options, columns.is_some());
        let mut view = View::new(self.form, output, &self.options);
        for payload in payloads {
            match Verbatim::default().decode(payload) {
                Ok(answer) if is_final(&answer) => {
                    view.conclude(&answer);
                    break;
                }
                Ok(answer) => view.progress(&answer),
                Err(error) => {
                    let error = Error::new(Outcome::Unknown, error);
                    view.output.failure(&Failure::from(error));
                    break;
                }
            }
            view.output.capture_live(columns.unwrap_or_default());
        }
        view.output.into_bytes()
    }
}

fn is_final(answer: &Answer) -> bool {
    answer.response.status.is_final()
}

/// What is said of a connection through ssh that has ended with this code and these last words.
#[must_use]
pub fn ssh_failure(code: u8, said: &[u8]) -> String {
    let error = ssh::probe(code, said);
    error.map(|error| Failure::from(error).text("error:")).unwrap_or_default()
}

/// What `doctor` says of a server whose first response has this payload.
#[must_use]
pub fn doctor_report(payload: &[u8]) -> String {
    let report = doctor::probe(payload);
    let mut text = format!("{report}\n");
    // Writing into a string cannot fail.
    let _ = writeln!(text, "{}", serde_json::to_string(&report).unwrap_or_default());
    text + &super::doctor::list(&report, Paint::NONE)
}
