//! The result of one step, as text and as JSON.

use std::fmt;

use serde::{Serialize, Serializer};

/// The result of one step of the examination.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use kakehi_doctor::{Check, PATIENCE, examine};
///
/// let report = examine("", PATIENCE).await;
/// let finding = report.first_problem().expect("a path is needed");
/// assert_eq!(finding.check, Check::Path);
/// assert_eq!(
///     finding.to_string(),
///     "the path is empty: a socket needs a path; \
///      give the path of the server's socket, like /run/NAME/NAME.sock",
/// );
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The step.
    pub check: Check,
    /// The kind of the problem; `None` if there is none.
    pub problem: Option<Problem>,
    /// The state that was found.
    pub what: String,
    /// The cause of a problem, or why it matters.
    pub why: Option<String>,
    /// The remedy for a problem, as a command where possible.
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

    /// Returns whether the step found no problem.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use kakehi_doctor::{PATIENCE, examine};
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

/// A step of the examination. In JSON: snake case.
///
/// ```
/// assert_eq!(serde_json::to_string(&kakehi_doctor::Check::Socket).unwrap(), "\"socket\"");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Check {
    /// The path is valid for a socket.
    Path,
    /// A directory on the path exists, and this process may search it.
    Directory,
    /// A symbolic link on the path can be followed.
    Link,
    /// The socket exists.
    Socket,
    /// This process may write to the socket.
    Permission,
    /// A server listens on the socket.
    Listener,
    /// The server answers.
    Answer,
    /// The server accepts requests from this user.
    Admission,
    /// The protocol versions match.
    Version,
}

/// The kind of a problem. In JSON: snake case.
///
/// ```
/// use kakehi_doctor::Problem;
///
/// assert_eq!(serde_json::to_string(&Problem::NotRunning).unwrap(), "\"not_running\"");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Problem {
    /// No socket can have this path.
    InvalidPath,
    /// There is no socket, or no server listens on it.
    NotRunning,
    /// A file of another kind is in the place of the socket or of a directory on the path.
    NotASocket,
    /// This process may not search a directory, write to the socket, or use the server.
    Permission,
    /// The server is at its limit or shutting down.
    Busy,
    /// The program that listens uses another protocol, or another version of it.
    Protocol,
    /// The server did not answer in time.
    NoAnswer,
    /// A system call failed for another reason.
    System,
}

/// One line: the state; for a problem also the cause and the remedy.
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

/// An object with `check`, `ok` and `what`; for a problem also `problem`, `why` and `remedy`.
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
