//! The bytes that a terminal would get. Public for fuzzing only; not covered by semver.

use std::fmt::Write as _;

use clap::Parser;
use kakehi_channel::Decode;

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
use kakehi_client::Error;

/// A command line, whose responses are shown.
#[derive(Debug)]
pub struct Probe {
    options: Options,
    form: Form,
}

impl Probe {
    /// `None` if the arguments are wrong or send no request.
    #[must_use]
    pub fn new<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let arguments = arguments.into_iter().map(ToOwned::to_owned);
        let Arguments { options, command } = Arguments::try_parse_from(arguments).ok()?;
        let (form, _) = plan(command, false).ok()?;
        Some(Self { options, form })
    }

    /// Whether colours are on.
    #[must_use]
    pub fn is_painted(&self) -> bool {
        Paint::new(self.options.color, false) != Paint::NONE
    }

    /// The bytes for standard output and standard error, up to the final response or the first
    /// payload that is not a response. With `columns`, also each state of a live line of that width.
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
                    view.conclude(answer);
                    break;
                }
                Ok(answer) => view.progress(answer),
                Err(error) => {
                    view.output.failure(&Failure::from(Error::from(error)));
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

/// The error for an ssh that ended with this code and these last words.
#[must_use]
pub fn ssh_failure(code: u8, said: &[u8]) -> String {
    let error = ssh::probe(code, said);
    error.map(|error| Failure::from(error).text("error:")).unwrap_or_default()
}

/// The report of `doctor` on a server whose first response has this payload.
#[must_use]
pub fn doctor_report(payload: &[u8]) -> String {
    let report = kakehi_doctor::probe(payload);
    let mut text = format!("{report}\n");
    // Writing into a string cannot fail.
    let _ = writeln!(text, "{}", serde_json::to_string(&report).unwrap_or_default());
    text + &super::doctor::list(&report, Paint::NONE)
}

/// Panics while the terminal shows a screen, as `top` does.
///
/// # Panics
/// Always.
#[cfg(feature = "top")]
pub fn panic_on_a_screen() {
    let screen = super::top::screen::Screen::enter();
    assert!(screen.is_err(), "the screen is in use");
    panic!("there is no screen: {:?}", screen.err());
}
