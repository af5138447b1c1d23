//! What one step found, for a person and for a program.

use std::fmt;

use serde::{Serialize, Serializer};

/// What one step found.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use kakehi_client::doctor::{Check, PATIENCE, examine};
///
/// let report = examine("", PATIENCE).await;
/// let finding = report.first_problem().expect("a path is needed");
/// assert_eq!(finding.check, Check::Path);
/// assert_eq!(
///     finding.to_string(),
///     "the path is empty: no socket has an empty path; \
///      give the path of the server's socket, like /run/NAME/NAME.sock",
/// );
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// What kind of problem it is; `None`: it is well.
    pub problem: Option<Problem>,
    /// What is so.
    pub what: String,
    /// Of a problem: why it is so, or why it matters.
    pub why: Option<String>,
    /// Of a problem: what to do, as a command where one does it.
    pub remedy: Option<String>,
}

impl Finding {
    pub(super) fn well(check: Check, what: impl Into<String>) -> Self {
        Self { check, problem: None, what: what.into(), why: None, remedy: None }
    }

    pub(super) fn problem(
        check: Check,
        problem: Problem,
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (why, remedy) = (Some(why.into()), Some(remedy.into()));
        Self { check, problem: Some(problem), what: what.into(), why, remedy }
    }

    /// Whether it is well.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use kakehi_client::doctor::{PATIENCE, examine};
    ///
    /// let report = examine("/nowhere/app.sock", PATIENCE).await;
    /// assert!(report.findings[0].is_ok(), "the path itself can be one");
    /// # }
    /// ```
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problem.is_none()
    }
}

/// A step of the examination; in JSON, in snake case.
///
/// ```
/// assert_eq!(serde_json::to_string(&kakehi_client::doctor::Check::Socket).unwrap(), "\"socket\"");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Check {
    /// The path can be a socket's.
    Path,
    /// A directory on the way is there and lets this process through.
    Directory,
    /// A symbolic link on the way leads somewhere.
    Link,
    /// There is a socket.
    Socket,
    /// This process may connect to it.
    Permission,
    /// Somebody listens on it.
    Listener,
    /// The server answers.
    Answer,
    /// The server takes requests from here.
    Admission,
    /// The versions fit.
    Version,
}

/// What kind of problem it is; in JSON, in snake case.
///
/// ```
/// use kakehi_client::doctor::Problem;
///
/// assert_eq!(serde_json::to_string(&Problem::NotRunning).unwrap(), "\"not_running\"");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Problem {
    /// No socket can have this path.
    InvalidPath,
    /// There is no socket, or nobody listens on it.
    NotRunning,
    /// Something else is where the socket should be, or a directory on the way to it.
    NotASocket,
    /// This process may not pass a directory, write to the socket, or use the server.
    Permission,
    /// The server takes nothing now: it is at its limit, or ending.
    Busy,
    /// What listens there speaks another wire, or another version of it.
    Protocol,
    /// Nothing came in time.
    NoAnswer,
    /// The system failed in another way.
    System,
}

/// In one line: what is so; of a problem also why, and what to do.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(why) = &self.why {
            write!(f, ": {why}")?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

/// With `ok` in front; what a finding that is well does not have is left out.
impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a> {
            check: Check,
            ok: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            problem: Option<Problem>,
            what: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            why: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            remedy: Option<&'a str>,
        }
        let Self { check, problem, what, why, remedy } = self;
        Fields {
            check: *check,
            ok: self.is_ok(),
            problem: *problem,
            what,
            why: why.as_deref(),
            remedy: remedy.as_deref(),
        }
        .serialize(serializer)
    }
}
