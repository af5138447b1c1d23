// A server for the examples, on a temporary path: each request gets one PROCESSING, then OK with
// its command as the content; the command "fail" gets ERROR.
#[allow(dead_code)]
fn server() -> (tempfile::TempDir, std::path::PathBuf) {
    use kakehi_channel::{Channel, Request, Response};

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut channel = Channel::<Response, Request>::new(stream);
            tokio::spawn(async move {
                while let Some(Ok(Request { id, command, .. })) = channel.next().await {
                    let last = match command {
                        Some(command) if command == "fail" => Response::error(&id, "no such job"),
                        command => Response { content: command, ..Response::ok(&id, "done") },
                    };
                    channel.feed(Response::processing(&id, "half done")).await.unwrap();
                    channel.send(last).await.unwrap();
                }
            });
        }
    });
    (dir, path)
}
