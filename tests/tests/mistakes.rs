//! The compiler's messages about common mistakes name the fix.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper that fails is a test that fails"
)]

use std::{env, fs, io::ErrorKind, path::Path, process::Command, time::SystemTime};

use kakehi_tests::programs::skip;

const BEFORE: &str = "
#![allow(unused)]
use kakehi::server::{Answer, Context, Socket, serve};
use kakehi::Request;
use std::sync::{Arc, atomic::{AtomicU64, Ordering::SeqCst}};
fn main() {}
fn run(socket: Socket) {
";

/// Compiles `code` as the body of a function and returns the compiler's messages. Returns `None` if
/// this user may not run the compiler.
fn compile(code: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mistake.rs");
    fs::write(&file, format!("{BEFORE}{code}\n}}")).unwrap();
    let test = env::current_exe().unwrap();
    let libraries = test.parent().unwrap();
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or("rustc".into()));
    rustc.args(["--edition=2024", "--emit=metadata", "-o"]).arg(folder.path().join("output"));
    rustc.arg("-L").arg(format!("dependency={}", libraries.display()));
    rustc.arg("--extern").arg(format!("kakehi={}", newest(libraries, "libkakehi-")));
    match rustc.arg(&file).output() {
        Ok(output) => Some(String::from_utf8(output.stderr).unwrap()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            skip("this user may not run rustc");
            None
        }
        Err(error) => panic!("cannot run rustc: {error}"),
    }
}

/// Returns the library that was built last, if there are several with different features. It is
/// the only one that a mistake names, so that its dependencies are those that it was built with.
fn newest(folder: &Path, prefix: &str) -> String {
    let files = fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|file| {
        let name = file.file_name().into_string().unwrap();
        name.starts_with(prefix) && file.path().extension().is_some_and(|end| end == "rlib")
    });
    let built =
        |file: &fs::DirEntry| -> SystemTime { file.metadata().unwrap().modified().unwrap() };
    let path = files.max_by_key(built).expect("the library is built").path();
    path.into_os_string().into_string().unwrap()
}

/// Asserts that `code` does not compile, and that the messages contain each of `expected`.
#[track_caller]
fn assert_message(code: &str, expected: &[&str]) {
    let Some(messages) = compile(code) else { return };
    for text in expected {
        assert!(messages.contains(text), "{text:?} is not in:\n{messages}");
    }
}

#[test]
fn a_handler_that_captures_an_arc_compiles() {
    let messages = compile(
        "let count = Arc::new(AtomicU64::new(0));
        let in_block = Arc::clone(&count);
        let _ = serve(socket, move |_: Request<String>, _: Context| async move {
            Ok::<_, String>(in_block.fetch_add(1, SeqCst).to_string())
        });
        let socket: Socket = todo!();
        let _ = serve(socket, async move |_: Request<String>, _: Context| {
            Ok::<_, String>(count.fetch_add(1, SeqCst).to_string())
        });",
    );
    assert_eq!(messages.unwrap_or_default(), "");
}

#[test]
fn a_type_that_is_no_handler_gets_the_shape_of_one() {
    assert_message(
        "struct Daemon; let _ = serve::<String, _, _, kakehi::channel::Json>(socket, Daemon);",
        &[
            "`Daemon` is not a handler of requests with the command `String`",
            "async |request: Request<String>, context: Context|",
            "keep shared state in an `Arc`",
        ],
    );
}

#[test]
fn state_that_is_not_in_an_arc_is_named() {
    assert_message(
        "let count = AtomicU64::new(0);
        let _ = serve(socket, async move |_: Request<String>, _: Context| {
            Ok::<_, String>(count.fetch_add(1, SeqCst).to_string())
        });",
        &["AtomicU64: Clone` is not satisfied"],
    );
}

#[test]
fn a_value_that_is_no_answer_leads_to_with_content() {
    assert_message(
        "let _ = serve(socket, async |_: Request<String>, _: Context| Ok::<_, String>(7));",
        &["cannot return `{integer}` as `Ok`", "`Answer::new(\"done\").with_content(value)`"],
    );
}

#[test]
fn a_path_that_is_not_bound_leads_to_bind() {
    assert_message(
        "let handler = async |_: Request<String>, _: Context| Ok::<_, String>(());
        let _ = serve(\"/run/app.sock\", handler);",
        &["`&str` does not accept connections", "`Socket::bind(path).listen()?`"],
    );
}

#[test]
fn content_that_cannot_be_encoded_leads_to_serialize() {
    assert_message(
        "struct Rows;
        let _ = async |context: Context| context.progress_with(\"\", &Rows).await;",
        &["`Rows` cannot be the content of a response in the format", "serde::Serialize"],
    );
}

#[test]
fn a_command_that_cannot_be_decoded_leads_to_deserialize() {
    assert_message(
        "struct Rows;
        let _ = serve(socket, async |_: Request<Rows>, _: Context| Ok::<_, String>(()));",
        &["Rows: serde::Deserialize", "#[derive(serde::Deserialize)]"],
    );
}
