//! How connections come in, and who is refused at the door.

#[cfg(test)]
mod tests;

use std::{convert::Infallible, io, marker::PhantomData, sync::Arc, time::Duration};

use kakehi_channel::{Buffer, Refusal, Response, Status, VERSION, encode_frame};
use tokio::time::timeout;
use tracing::{debug, info_span, warn};

use super::Server;
use crate::{
    Access, Handler, Listener, Peer, Wire, connection::Connection, hub::Seat, outbox::Outbox,
};

/// Lets in who may come.
pub(super) struct Acceptor<C, H, L, F> {
    pub(super) listener: L,
    pub(super) access: Access,
    pub(super) server: Arc<Server<C, H>>,
    pub(super) wire: PhantomData<fn() -> F>,
}

impl<C, H, L, F> Acceptor<C, H, L, F>
where
    C: Send + 'static,
    H: Handler<C, F>,
    F: Wire<C>,
    L: Listener,
{
    /// Accepts for ever: no error of one client, nor a lack of descriptors, ends a server.
    pub(super) async fn accept_all(&self) -> Infallible {
        const FIRST_PAUSE: Duration = Duration::from_millis(20);
        const LONGEST_PAUSE: Duration = Duration::from_secs(1);
        let mut pause = FIRST_PAUSE;
        loop {
            match self.listener.accept().await {
                Ok(stream) => {
                    pause = FIRST_PAUSE;
                    self.admit(stream);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // EMFILE, ENFILE, ENOMEM: an end of one of our connections may help.
                    warn!(%error, ?pause, "cannot accept");
                    let _ = timeout(pause, self.server.hub().freed.notified()).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn admit(&self, mut stream: L::Stream) {
        let peer = match L::peer(&stream) {
            Ok(peer) if self.access.allows(&peer) => peer,
            Ok(peer) => {
                let message = format!("uid {} may not use this server", peer.uid);
                return self.refuse(&mut stream, Refusal::Denied, &message);
            }
            Err(error) => {
                let message = format!("cannot tell who is asking: {error}");
                return self.refuse(&mut stream, Refusal::Denied, &message);
            }
        };
        let outbox = Arc::new(self.server.outbox(peer));
        match self.server.hub().connect(&outbox, &self.server.limits) {
            Err(message) => self.refuse(&mut stream, Refusal::Busy, &message),
            Ok(seat) => {
                let server = Arc::clone(&self.server);
                tokio::spawn(serve_one::<C, H, F, L>(stream, outbox, seat, server));
            }
        }
    }

    /// Tells a client why, if the socket takes it at once, and closes.
    fn refuse(&self, stream: &mut L::Stream, why: Refusal, message: &str) {
        debug!(?why, message, "refused a connection");
        self.server.hub().count_refused_connection();
        let response = Response::<&(), &str> {
            id: "",
            version: VERSION,
            status: Status::Error,
            message,
            content: None,
            refused: Some(why),
        };
        let mut frame = Buffer::fixed(4096);
        if let Err(error) = encode_frame(&mut F::default(), &response, &mut frame, 4096)
            .map_err(io::Error::other)
            .and_then(|()| L::try_write(stream, frame.data()))
        {
            debug!(%error, "cannot say so");
        }
    }
}

/// Not an `async fn`: that would keep room for what it was given beside the connection made of it.
fn serve_one<C, H, F, L>(
    stream: L::Stream,
    outbox: Arc<Outbox>,
    seat: Seat,
    server: Arc<Server<C, H>>,
) -> impl Future<Output = ()>
where
    C: Send + 'static,
    H: Handler<C, F>,
    F: Wire<C>,
    L: Listener,
{
    let kernel = (L::has_left as _, L::TRY_READ);
    let mut connection = Connection::<C, H, F, _>::new(stream, kernel, outbox, server);
    async move {
        let Peer { uid, pid, .. } = connection.outbox.peer;
        let span = || info_span!("connection", number = seat.number, uid, pid);
        connection.run(span).await;
        drop(connection);
        drop(seat);
    }
}
