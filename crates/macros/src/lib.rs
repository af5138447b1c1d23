//! `#[derive(Command)]` for `kakehi`, which re-exports it.

mod attributes;
mod expand;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `Command` for a struct or an enum: the arguments of one command.
///
/// The doc comment becomes the command's description. A struct without fields and braces is a
/// command without arguments.
///
/// # Attributes
/// All are optional, inside of `#[command(..)]`, or of `#[kakehi(..)]` on a type that also derives
/// clap's `Args`, which reads `#[command(..)]` too:
///
/// | attribute | meaning | default |
/// |---|---|---|
/// | `name = "reload"` | the name on the wire: 1 to 64 of `a-z`, `0-9`, `_`, `-` and `.` | the type's name in `snake_case` |
/// | `progress = Step` | the content of a progress response | `()` |
/// | `reply = Report` | the content of OK | `()` |
/// | `fault = Fault` | the content of ERROR | `()` |
/// | `read_only` | the command changes nothing | it may change something |
/// | `crate = path` | the path of `kakehi_command` | `::kakehi::command` |
///
/// ```
/// use kakehi_macros::Command;
/// use serde::{Deserialize, Serialize};
/// # mod kakehi { pub use kakehi_command as command; }
///
/// #[derive(Serialize, Deserialize)]
/// struct Step {
///     done: u32,
///     total: u32,
/// }
///
/// /// Loads every key under a prefix into memory.
/// #[derive(Serialize, Deserialize, Command)]
/// #[command(progress = Step, reply = u32, crate = kakehi_command)]
/// struct Warm {
///     prefix: String,
/// }
///
/// assert_eq!(<Warm as kakehi_command::Command>::NAME, "warm");
/// ```
#[proc_macro_derive(Command, attributes(command, kakehi))]
pub fn derive_command(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::command(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
