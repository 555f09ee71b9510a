//! The socket: asynchronous, to the kernel only.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, connect, recv,
    send, setsockopt, socket,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// As much as the kernel puts into one datagram, with room to spare.
const BUFFER: usize = 64 * 1024;

/// A netlink socket to netfilter in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    fd: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket. `queue` is how many bytes the kernel may keep for it, beyond what
    /// unprivileged processes are allowed.
    ///
    /// # Errors
    /// Without `CAP_NET_ADMIN`, or in a kernel without netlink for netfilter.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(queue: usize) -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        setsockopt(&fd, RcvBufForce, &queue)?;
        let kernel = NetlinkAddr::new(0, 0);
        bind(fd.as_raw_fd(), &kernel)?;
        // A connected socket takes nothing from other processes.
        connect(fd.as_raw_fd(), &kernel)?;
        #[expect(
            deprecated,
            reason = "unsound only for types whose descriptor may change, which an OwnedFd's does \
                      not; its successor is unsafe"
        )]
        let fd = AsyncFd::new(fd)?;
        Ok(Self {
            fd,
            buffer: vec![0; BUFFER],
        })
    }

    /// Sends requests, one behind the other.
    ///
    /// # Errors
    /// What the system says. What the kernel thinks of the requests comes as messages.
    pub async fn send(&self, requests: &[u8]) -> io::Result<()> {
        let send = |fd: &OwnedFd| Ok(send(fd.as_raw_fd(), requests, MsgFlags::empty())?);
        self.fd.async_io(Interest::WRITABLE, send).await.map(|_| ())
    }

    /// The next datagram, for [`super::messages`].
    ///
    /// # Errors
    /// `ENOBUFS` when the queue was full and messages were lost; the socket goes on to work.
    pub async fn receive(&mut self) -> io::Result<&[u8]> {
        let Self { fd, buffer } = self;
        // MSG_TRUNC: the datagram's length, though the buffer may be shorter.
        let receive = |fd: &OwnedFd| Ok(recv(fd.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC)?);
        let length = fd.async_io(Interest::READABLE, receive).await?;
        self.buffer.get(..length).ok_or_else(|| {
            io::Error::other(format!(
                "a datagram of {length} bytes does not fit {BUFFER}"
            ))
        })
    }
}
