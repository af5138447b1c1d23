//! Servers of another kind at the socket.

use std::{
    io::{Read, Write},
    os::unix::net::UnixListener,
    path::Path,
};

use super::*;

#[test]
fn another_protocol_is_recognized() {
    for (bytes, check, what, because) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], Check::Answer, "does not use Kakehi's", "frame"),
        (b"\x1b[2J\0", Check::Answer, "does not use Kakehi's", "malformed message"),
        (b"{}\0", Check::Answer, "does not use Kakehi's", "no version"),
        (b"[0]\0", Check::Answer, "does not use Kakehi's", "no version"),
        (
            b"{\"version\":0,\"status\":\"\\u001b[2J\"}\0",
            Check::Answer,
            "Kakehi's",
            "no known status",
        ),
        (b"{\"version\":7,\"status\":\"OK\"}\0", Check::Version, "protocol version 7", "outdated"),
        (b"", Check::Answer, "closed the connection without an answer", "another protocol"),
    ] {
        let report = examine(said_by_another(bytes));
        let finding = problem(&report, check, Problem::Protocol, what);
        assert!(why(finding).contains(because), "{finding}");
    }
    for refused in ["malformed", "unsupported"] {
        let said = format!(
            "{{\"version\":0,\"status\":\"ERROR\",\"message\":\"no\",\"refused\":\"{refused}\"}}\0"
        );
        let report = examine(said_by_another(said.as_bytes()));
        assert!(report.is_healthy(), "a server with other commands is healthy: {report}");
    }
    let said = br#"{"version":0,"status":"ERROR","message":"\u001b[2J\u202e","refused":"denied"}"#;
    let report = examine(said_by_another(&[said, &b"\0"[..]].concat()));
    let finding = problem(&report, Check::Admission, Problem::Permission, "does not serve");
    assert_eq!(why(finding), r"\u{1b}[2J\u{202e}");
}

/// A server that sends `bytes` to the first client and closes. It ends with that.
fn said_by_another(bytes: &[u8]) -> Said {
    let home = Home::new();
    let path = home.path("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let bytes = bytes.to_owned();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.write_all(&bytes).unwrap();
        // Unread bytes would cause a reset, which loses the written bytes.
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = client.read_to_end(&mut vec![]);
    });
    Said { path, _home: home }
}

struct Said {
    path: PathBuf,
    _home: Home,
}

impl AsRef<Path> for Said {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}
