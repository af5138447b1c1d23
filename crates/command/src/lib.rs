//! Commands as types. A client sends a command, and a handler of the server takes it. Each command
//! has its own types for progress, reply and fault.

pub mod control;
mod describe;
mod invocation;
mod response;
mod schema;

use serde::{Serialize, de::DeserializeOwned};

pub use self::{
    describe::{CommandDescription, Describe, Description},
    invocation::Invocation,
    response::{CommandContent, CommandResponse, Event},
    schema::Schemas,
};
#[doc(hidden)]
pub use self::{
    invocation::{Called, Variant},
    schema::__private,
};

/// One command of a control socket. The type itself holds the arguments.
///
/// `#[derive(Command)]` of `kakehi` implements it: the doc comment becomes the description.
///
/// On the wire, a command is an object with its name as the only key, `{"warm":{"prefix":"x"}}`.
/// A command without arguments is its bare name, `"reload"`.
///
/// ```
/// use kakehi_command::{Command, Invocation};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Warm {
///     prefix: String,
/// }
///
/// impl Command for Warm {
///     const NAME: &'static str = "warm";
///     type Progress = ();
///     type Reply = u32;
///     type Fault = ();
/// }
///
/// let command = Invocation(Warm { prefix: "x".to_owned() });
/// assert_eq!(serde_json::to_string(&command).unwrap(), r#"{"warm":{"prefix":"x"}}"#);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a command",
    label = "not a command",
    note = "a command is a type with `#[derive(Serialize, Deserialize, Command)]`"
)]
pub trait Command: Serialize + DeserializeOwned + Send + 'static {
    /// Its name on the wire: 1 to 64 of `a-z`, `0-9`, `_`, `-` and `.`. Names that start with
    /// `kakehi.` are reserved.
    const NAME: &'static str;
    /// Whether it has no arguments.
    const UNIT: bool = false;
    /// Its description, for a person.
    const TEXT: &'static str = "";
    /// Whether it changes nothing.
    const READ_ONLY: bool = false;

    /// The content of a progress response.
    type Progress: Serialize + DeserializeOwned + Send + 'static;
    /// The content of OK.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
    /// The content of ERROR.
    type Fault: Serialize + DeserializeOwned + Send + 'static;

    /// The JSON Schemas of its types. Default: none.
    #[must_use]
    fn schemas() -> Schemas {
        Schemas::default()
    }
}
