//! All findings, as text and as JSON.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::Finding;

/// The findings of [`examine`](super::examine), in order. The last one is the problem, if there is
/// one.
///
/// `Display` writes one line for each finding. JSON is an object with `healthy`, `path` and
/// `findings`. Text from files and servers is escaped, so that it is safe to print on a terminal.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use kakehi_doctor::{PATIENCE, examine};
///
/// let report = examine("/nowhere/app.sock", PATIENCE).await;
/// assert!(!report.is_healthy());
/// assert!(report.to_string().starts_with("ok    the path has 17 bytes of at most 107\n"));
///
/// let json = serde_json::to_value(&report).unwrap();
/// assert_eq!((&json["healthy"], &json["path"]), (&false.into(), &"/nowhere/app.sock".into()));
/// assert_eq!(json["findings"].as_array().unwrap().len(), report.findings.len());
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The path of the socket.
    pub path: String,
    /// The findings, in the order of the steps.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Returns whether no problem was found.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.first_problem().is_none()
    }

    /// Returns the first problem.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use kakehi_doctor::{PATIENCE, examine};
    ///
    /// let report = examine("/nowhere/app.sock", PATIENCE).await;
    /// assert_eq!(report.first_problem(), report.findings.last());
    /// # }
    /// ```
    #[must_use]
    pub fn first_problem(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| !finding.is_ok())
    }
}

/// One line for each finding, after `ok` or `FAIL`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, finding) in self.findings.iter().enumerate() {
            let verdict = if finding.is_ok() { "ok  " } else { "FAIL" };
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{verdict}  {finding}")?;
        }
        Ok(())
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut report = serializer.serialize_struct("Report", 3)?;
        report.serialize_field("healthy", &self.is_healthy())?;
        report.serialize_field("path", &self.path)?;
        report.serialize_field("findings", &self.findings)?;
        report.end()
    }
}
