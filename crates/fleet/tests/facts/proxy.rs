//! A network between a client and its broker that can be cut: bytes then go nowhere, and no
//! connection ends.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

pub(crate) struct Proxy {
    port: u16,
    is_cut: watch::Sender<bool>,
}

impl Proxy {
    /// To the broker on this port.
    pub(crate) async fn start(broker: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_cut, cut) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(other) = TcpStream::connect(("127.0.0.1", broker)).await else { continue };
                let ((a, b), (c, d)) = (stream.into_split(), other.into_split());
                tokio::spawn(forward(a, d, cut.clone()));
                tokio::spawn(forward(c, b, cut.clone()));
            }
        });
        Self { port, is_cut }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn cut(&self) {
        self.is_cut.send(true).unwrap();
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut cut: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = tokio::select! {
            () = is_cut(&mut cut) => std::future::pending().await,
            count = from.read(&mut buffer) => count.unwrap_or(0),
        };
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn is_cut(cut: &mut watch::Receiver<bool>) {
    let _ = cut.wait_for(|is_cut| *is_cut).await;
}
