//! Kakehi with a custom protocol: protobuf messages in the framing of Sōzu.
//!
//! The server's side is an ordinary handler. [`Encode`] writes the protobuf response directly from
//! the server's values, without a message in between.

use std::path::Path;

use anyhow::{Result, ensure};
use futures::StreamExt;
use kakehi_channel::{
    BUSY_POLL, Channel, ChannelError, Decode, Encode, Format, Request, Response, ResponseMessage,
    Status,
    low_level::{Buffer, Frame},
};
use kakehi_client::{Connection, RequestMessage};
use kakehi_server::{AnyContent, Context, Protocol, Socket, serve};
use kakehi_sozu_format::Sozu;
use prost::Message;
use tokio::net::UnixStream;

use super::kakehi::{LARGE, server_limits};
use crate::{
    contender::{About, Client, Consumer, Contender, Load, Rt},
    model::{self, Plan},
};

/// The request, as in `proto/peer.proto`.
#[derive(Clone, PartialEq, Message)]
pub struct Ask {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(uint32, tag = "2")]
    version: u32,
    #[prost(uint32, tag = "3")]
    worker_id: u32,
    #[prost(string, tag = "4")]
    payload: String,
}

/// A response.
#[derive(Clone, PartialEq, Message)]
pub struct Told {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(uint32, tag = "2")]
    version: u32,
    #[prost(int32, tag = "3")]
    status: i32,
    #[prost(string, tag = "4")]
    message: String,
}

impl RequestMessage for Ask {
    fn id(&self) -> Option<&str> {
        Some(&self.id)
    }

    fn into_id(self) -> Option<String> {
        Some(self.id)
    }
}

impl ResponseMessage for Told {
    type Event = Self;
    type Reply = Self;

    fn status(&self) -> Option<Status> {
        [Status::Ok, Status::Processing, Status::Error].get(self.status as usize).copied()
    }

    fn id(&self) -> Option<&str> {
        Some(&self.id)
    }

    fn into_event(self) -> Result<Self, Self> {
        Ok(self)
    }

    fn into_reply(self) -> Result<Self, Self> {
        Ok(self)
    }
}

#[derive(Default)]
pub struct Protobuf(Sozu);

impl Format for Protobuf {
    fn find(&mut self, data: &[u8], max: usize) -> Result<Option<Frame>, ChannelError> {
        self.0.find(data, max)
    }
}

impl Encode<Ask> for Protobuf {
    fn encode(&mut self, message: &Ask, out: &mut Buffer) -> Result<(), ChannelError> {
        self.0.encode(message, out)
    }
}

impl Decode<Told> for Protobuf {
    fn decode(&mut self, payload: &[u8]) -> Result<Told, ChannelError> {
        self.0.decode(payload)
    }
}

impl Decode<Request<String>> for Protobuf {
    fn decode(&mut self, payload: &[u8]) -> Result<Request<String>, ChannelError> {
        let Ask { id, worker_id, payload, .. } = self.0.decode(payload)?;
        Ok(Request { worker_id: Some(worker_id), ..Request::with_command(id, payload) })
    }
}

impl<'a> Encode<Response<&'a (), &'a str>> for Protobuf {
    fn encode(
        &mut self,
        response: &Response<&'a (), &'a str>,
        out: &mut Buffer,
    ) -> Result<(), ChannelError> {
        let status = match response.status {
            Status::Ok => 0,
            Status::Processing => 1,
            Status::Error => 2,
        };
        // Each text follows at most 10 bytes of length and other fields.
        let mut heads = [0; 32];
        let mut rest = &mut heads[8..];
        let mut head = |fields: &[u8], text: &str| -> usize {
            use prost::bytes::BufMut;
            let before = rest.remaining_mut();
            rest.put_slice(fields);
            prost::encoding::encode_varint(text.len() as u64, &mut rest);
            before - rest.remaining_mut()
        };
        let first = head(&[0x0a], response.id);
        let second = head(&[0x10, 1, 0x18, status, 0x22], response.message);
        let len = 8 + first + response.id.len() + second + response.message.len();
        heads[..8].copy_from_slice(&(len as u64).to_le_bytes());
        out.put(&heads[..8 + first])?;
        out.put(response.id.as_bytes())?;
        out.put(&heads[8 + first..8 + first + second])?;
        out.put(response.message.as_bytes())?;
        Ok(())
    }
}

impl Protocol<String> for Protobuf {}

async fn answer(
    request: Request<String>,
    context: Context<AnyContent, Protobuf>,
) -> Result<String, ChannelError> {
    let payload = request.command.unwrap_or_default();
    match model::plan(&payload) {
        Plan::Echo => Ok(payload),
        Plan::Progress(n) => {
            for step in 0..n {
                context.progress(model::step(step)).await?;
            }
            Ok("done".into())
        }
    }
}

fn ask(request: model::Request) -> Ask {
    Ask {
        id: request.id,
        version: request.version.into(),
        worker_id: request.worker_id.unwrap_or_default(),
        payload: request.payload,
    }
}

fn status(told: &Told) -> model::Status {
    match told.status {
        0 => model::Status::Ok,
        1 => model::Status::Processing,
        _ => model::Status::Error,
    }
}

pub struct KakehiSozu;

impl Contender for KakehiSozu {
    const ABOUT: About = About {
        name: "kakehi-sozu",
        wire: "protobuf, 8 B length",
        io: "tokio",
        one_conn: "in order",
        streams: true,
        only: None,
    };
    type Client = ProtobufClient;

    fn serve(sock: &Path, rt: Rt) -> Result<()> {
        let sock = sock.to_owned();
        rt.run(async move {
            let socket = Socket::bind(sock).listen()?;
            serve(socket, answer).limits(server_limits()).await;
            Ok(())
        })
    }

    async fn connect(sock: &Path) -> Result<ProtobufClient> {
        let stream = UnixStream::connect(sock).await?;
        let channel = Channel::with_limits(stream, LARGE, LARGE);
        Ok(ProtobufClient(Connection::busy_poll(channel, BUSY_POLL)))
    }
}

pub struct ProtobufClient(Connection<Ask, Told, Protobuf>);

impl Client for ProtobufClient {
    async fn unary(&mut self, req: model::Request) -> Result<model::Response> {
        let told = self.0.message(ask(req)).await?;
        Ok(model::Response {
            status: status(&told),
            id: told.id,
            version: told.version as u8,
            message: told.message,
        })
    }

    async fn stream(&mut self, req: model::Request, consumer: &mut Consumer) -> Result<()> {
        let mut responses = self.0.message(ask(req)).send().await?;
        while let Some(told) = responses.next().await.transpose()? {
            if consumer.take(status(&told), told.message.len()).await? {
                break;
            }
        }
        Ok(())
    }

    async fn pipelined(&mut self, load: Load) -> Result<u64> {
        let requests = load.requests(ask);
        let mut answers = self.0.pipeline_messages(requests).window(load.in_flight);
        let mut n = 0;
        while let Some(told) = answers.next().await.transpose()? {
            ensure!(told.status == 0, "not OK");
            n += 1;
        }
        Ok(n)
    }
}
