//! A connection to the runtime: messages in and out over its Unix socket.

use std::io;
use std::path::Path;

use prost::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::frame::{
    Assembler, Frame, FrameError, Kind, PLUGIN_CONNECTION, RUNTIME_CONNECTION, TRUNK_HEADER,
    encode, trunk_header,
};
use super::message::{Request, Response, Status};

/// Why the connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("the runtime's socket failed: {0}")]
    Socket(#[from] io::Error),
    #[error("the runtime broke the protocol: {0}")]
    Frame(#[from] FrameError),
    #[error("the runtime sent a message that cannot be read: {0}")]
    Message(#[from] prost::DecodeError),
    #[error("the runtime refused the plugin: {0}")]
    Refused(String),
}

/// What the runtime sends.
#[derive(Debug)]
pub(super) enum Incoming {
    /// It calls the plugin, and waits for an answer on this stream.
    Call { stream: u32, request: Request },
    /// It has answered the plugin's call.
    Answer(Response),
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    socket: UnixStream,
    calls: Assembler,
    answers: Assembler,
}

impl Connection {
    /// Connects to the runtime's socket.
    pub async fn open(path: &Path) -> Result<Self, ConnectionError> {
        Ok(Self::over(UnixStream::connect(path).await?))
    }

    /// Speaks over this socket.
    pub fn over(socket: UnixStream) -> Self {
        Self {
            socket,
            calls: Assembler::default(),
            answers: Assembler::default(),
        }
    }

    /// Calls a method of the runtime. It is the only call that is open, so its stream is the first one.
    pub async fn call(&mut self, request: &Request) -> Result<(), ConnectionError> {
        let frame = Frame {
            stream: 1,
            kind: Kind::Request,
            data: request.encode_to_vec(),
        };
        self.send(RUNTIME_CONNECTION, &frame).await
    }

    /// Answers a call.
    pub async fn answer(
        &mut self,
        stream: u32,
        answer: Result<Vec<u8>, Status>,
    ) -> Result<(), ConnectionError> {
        let response = match answer {
            Ok(payload) => Response {
                status: None,
                payload,
            },
            Err(status) => Response {
                status: Some(status),
                payload: Vec::new(),
            },
        };
        let frame = Frame {
            stream,
            kind: Kind::Response,
            data: response.encode_to_vec(),
        };
        self.send(PLUGIN_CONNECTION, &frame).await
    }

    /// The next message.
    pub async fn next(&mut self) -> Result<Incoming, ConnectionError> {
        loop {
            if let Some(frame) = self.calls.next()? {
                if frame.kind == Kind::Request {
                    let request = Request::decode(&*frame.data)?;
                    let stream = frame.stream;
                    return Ok(Incoming::Call { stream, request });
                }
                continue;
            }
            if let Some(frame) = self.answers.next()? {
                if frame.kind == Kind::Response {
                    return Ok(Incoming::Answer(Response::decode(&*frame.data)?));
                }
                continue;
            }
            let mut header = [0; TRUNK_HEADER];
            self.socket.read_exact(&mut header).await?;
            let (connection, length) = trunk_header(header)?;
            let mut piece = vec![0; length];
            self.socket.read_exact(&mut piece).await?;
            match connection {
                PLUGIN_CONNECTION => self.calls.push(&piece),
                RUNTIME_CONNECTION => self.answers.push(&piece),
                // As the runtime's multiplexer does with a connection that is not open.
                _ => {}
            }
        }
    }

    async fn send(&mut self, connection: u32, frame: &Frame) -> Result<(), ConnectionError> {
        self.socket.write_all(&encode(connection, frame)?).await?;
        Ok(())
    }
}
