//! The `server` binary: named jobs for local users.

use std::process::ExitCode;

fn main() -> ExitCode {
    kakehi_server::binary::run()
}
