//! The `client` binary: asks a server over its Unix socket.

use std::process::ExitCode;

fn main() -> ExitCode {
    kakehi_client::cli::run()
}
