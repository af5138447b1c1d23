//! The arguments of the daemon's commands, as in the protocol.

use serde::Deserialize;

use super::follow::Form;

/// `{"run":{"job":"backup","args":["daily"]}}`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[expect(
    clippy::struct_excessive_bools,
    clippy::struct_field_names,
    reason = "each is a field of the protocol"
)]
pub(crate) struct Run {
    pub(crate) job: String,
    #[serde(default)]
    pub(crate) args: Vec<String>,
    #[serde(default)]
    pub(crate) output: Form,
    /// Answer with the run's id at once.
    #[serde(default)]
    pub(crate) detach: bool,
    /// Refuse the run if it has to wait for a slot.
    #[serde(default)]
    pub(crate) no_wait: bool,
    /// Only check the request.
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// The user has confirmed the run.
    #[serde(default)]
    pub(crate) confirmed: bool,
    #[serde(default)]
    pub(crate) stdin: Option<String>,
    /// The standard input if it is not UTF-8.
    #[serde(default)]
    pub(crate) stdin_base64: Option<String>,
}

/// `{"rerun":{"run":"0vc9qs0"}}`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rerun {
    pub(crate) run: String,
    #[serde(default)]
    pub(crate) output: Form,
    #[serde(default)]
    pub(crate) detach: bool,
    #[serde(default)]
    pub(crate) no_wait: bool,
    #[serde(default)]
    pub(crate) confirmed: bool,
}

/// `{"cancel":{"id":"0vc9qs0"}}`, `{"cancel":{"job":"backup"}}` or `{"cancel":{"all":true}}`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cancel {
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) job: Option<String>,
    #[serde(default)]
    pub(crate) all: bool,
}

/// `{"describe":{"job":"backup"}}`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Describe {
    pub(crate) job: String,
}

/// `{"runs":{"job":"backup","failed":true}}`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Runs {
    #[serde(default)]
    pub(crate) job: Option<String>,
    #[serde(default)]
    pub(crate) uid: Option<u32>,
    /// Only runs that failed or are unknown.
    #[serde(default)]
    pub(crate) failed: bool,
    /// Only runs that were requested at this time or later, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub(crate) since_ms: u64,
}

/// `{"attach":{"run":"0vc9qs0"}}`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attach {
    pub(crate) run: String,
    #[serde(default)]
    pub(crate) output: Form,
}

/// `{"logs":{"run":"0vc9qs0","tail":10}}`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Logs {
    pub(crate) run: String,
    #[serde(default)]
    pub(crate) output: Form,
    /// Also send new output, until the run ends.
    #[serde(default)]
    pub(crate) follow: bool,
    /// Only this number of last lines.
    #[serde(default)]
    pub(crate) tail: Option<u64>,
    /// Only output since this time, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub(crate) since_ms: u64,
    /// Whether each response has the time of the output.
    #[serde(default)]
    pub(crate) timestamps: bool,
}

/// `{"wait":{"runs":["0vc9qs0"]}}`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wait {
    pub(crate) runs: Vec<String>,
}
