//! A client's connection, in plain text or TLS, and what is known of its other end.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tonic::transport::server::Connected;

use super::certificate::{ClientCertificate, Unreadable};
use super::tls::Tls;

/// A client that has not finished its handshake by then is not coming.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// What it showed, if it was asked and did.
    pub(super) certificate: Option<Arc<ClientCertificate>>,
}

/// An accepted connection. It ends with the certificate that it was opened with, for a certificate
/// is shown once a connection: the client connects again, with its new one.
pub(super) struct Connection {
    stream: Either<TcpStream, Box<TlsStream<TcpStream>>>,
    peer: Peer,
    end: Option<Pin<Box<Sleep>>>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// The client does not finish.
    #[error("no handshake within {HANDSHAKE:?}")]
    Slow,
    /// The client hung up, or speaks something else.
    #[error("{0}")]
    Handshake(io::Error),
    /// The client showed a certificate that is not good.
    #[error("the client's certificate is refused: {0}")]
    Certificate(rustls::Error),
    /// The chain is good, what is in it is not.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl HandshakeError {
    /// The label under which it is counted.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Slow | Self::Handshake(_) => "handshake",
            Self::Certificate(_) | Self::Unreadable(_) => "certificate",
        }
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(bad @ rustls::Error::InvalidCertificate(_)) => Self::Certificate(bad.clone()),
            _ => Self::Handshake(error),
        }
    }
}

impl Connection {
    /// A connection as it is.
    pub(super) fn plain(stream: TcpStream, address: SocketAddr) -> Self {
        let certificate = None;
        Self {
            stream: Either::Left(stream),
            peer: Peer {
                address,
                certificate,
            },
            end: None,
        }
    }

    /// A connection after its handshake.
    ///
    /// # Errors
    /// When the client does not agree in time, or shows a certificate that cannot be believed.
    pub(super) async fn tls(
        stream: TcpStream,
        address: SocketAddr,
        tls: &Tls,
    ) -> Result<Self, HandshakeError> {
        let acceptor = TlsAcceptor::from(tls.current());
        let stream = timeout(HANDSHAKE, acceptor.accept(stream))
            .await
            .map_err(|_| HandshakeError::Slow)??;
        let chain = stream.get_ref().1.peer_certificates();
        let certificate = chain
            .and_then(<[_]>::first)
            .map(ClientCertificate::read)
            .transpose()?;
        let end = certificate.as_ref().map(|certificate| {
            let rest = certificate.not_after.duration_since(SystemTime::now());
            Box::pin(sleep(rest.unwrap_or_default()))
        });
        Ok(Self {
            stream: Either::Right(Box::new(stream)),
            peer: Peer {
                address,
                certificate: certificate.map(Arc::new),
            },
            end,
        })
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    /// At the end of the certificate's life there is nothing more to read.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(end) = &mut self.end
            && end.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
