//! How a server describes itself.

use serde::{Deserialize, Serialize};

use crate::{Command, Schemas};

/// Asks a server for its [`Description`]. Every server answers it, and no other command can have
/// its name, `kakehi.describe`.
///
/// ```
/// use kakehi_command::{Command, Describe, Invocation};
///
/// assert_eq!(Describe::NAME, "kakehi.describe");
/// assert_eq!(serde_json::to_string(&Invocation(Describe)).unwrap(), "\"kakehi.describe\"");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Describe;

impl Command for Describe {
    const NAME: &'static str = "kakehi.describe";
    const UNIT: bool = true;
    const TEXT: &'static str = "Describes the server and its commands.";
    const READ_ONLY: bool = true;
    type Progress = ();
    type Reply = Description;
    type Fault = ();
}

/// A server's description of itself.
///
/// ```
/// use kakehi_command::Description;
///
/// let text = r#"{"name":"cachectld","version":"1.0","commands":[{"name":"stats"}],"of_later":1}"#;
/// let description: Description = serde_json::from_str(text).unwrap();
/// assert_eq!(description.commands[0].name, "stats");
/// assert!(description.commands[0].allowed);
/// ```
///
/// The empty description is that of a server that does not list its commands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Option<Content>")]
pub struct Description {
    /// The server's name; empty if it has none.
    pub name: String,
    /// The server's version; empty if it has none.
    pub version: String,
    /// Its commands, sorted by name.
    pub commands: Vec<CommandDescription>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Content {
    name: String,
    version: String,
    commands: Vec<CommandDescription>,
}

/// `null` is the content of an answer without content.
impl From<Option<Content>> for Description {
    fn from(content: Option<Content>) -> Self {
        let Content { name, version, commands } = content.unwrap_or_default();
        Self { name, version, commands }
    }
}

/// One command of a [`Description`].
///
/// ```
/// let command = kakehi_command::CommandDescription::of::<kakehi_command::Describe>();
/// assert_eq!(command.name, "kakehi.describe");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandDescription {
    /// Its name on the wire.
    pub name: String,
    /// Its description, for a person; empty if it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Whether it changes nothing.
    #[serde(default)]
    pub read_only: bool,
    /// Whether the caller may run it.
    #[serde(default = "yes")]
    pub allowed: bool,
    /// The JSON Schemas of its types, where the server knows them.
    #[serde(flatten)]
    pub schemas: Schemas,
}

impl CommandDescription {
    /// The description of the type `C`. It is allowed.
    #[must_use]
    pub fn of<C: Command>() -> Self {
        Self {
            name: C::NAME.to_owned(),
            text: C::TEXT.to_owned(),
            read_only: C::READ_ONLY,
            allowed: true,
            schemas: C::schemas(),
        }
    }
}

fn yes() -> bool {
    true
}
