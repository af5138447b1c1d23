use kakehi_channel::{Json, Request};
use tokio::net::UnixStream;

use super::*;
use crate::{Context, Socket};

#[tokio::test]
async fn a_connection_that_waits_has_no_room_for_a_request_or_for_its_parts() {
    let handler = async |_: Request<String>, _: Context| Ok::<_, String>(String::new());
    let server = Arc::new(Server::new(handler));
    let outbox = Arc::new(server.outbox(Peer::own()));
    let seat = server.hub().connect(&outbox, &server.limits).unwrap();
    let (stream, _theirs) = UnixStream::pair().unwrap();
    let task = serve_one::<String, _, Json, Socket>(stream, outbox, seat, server);
    // Beside itself, it has room for a seat, a span, and what is awaited.
    let itself = size_of::<Connection<String, (), Json, UnixStream>>();
    let beside = size_of_val(&task) - itself;
    assert!(beside <= 256, "{beside} bytes beside {itself}");
}
