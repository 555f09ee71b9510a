//! Sockets that send whole packets, whatever their addresses.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::sockopt::Mark;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, setsockopt,
    socket,
};

use crate::node::ruleset::SILENCED;

/// One for each family.
#[derive(Debug)]
pub(super) struct RawSockets {
    v4: OwnedFd,
    /// `None` in a kernel without IPv6.
    v6: Option<OwnedFd>,
}

impl RawSockets {
    /// Opens them in the network namespace of the calling thread.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`.
    pub(super) fn open() -> io::Result<Self> {
        let v4 = open(AddressFamily::Inet)?;
        let v6 = match open(AddressFamily::Inet6) {
            Ok(socket) => Some(socket),
            Err(nix::Error::EAFNOSUPPORT) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { v4, v6 })
    }

    /// Sends a packet that begins with its IP header.
    ///
    /// # Errors
    /// What the system says, such as that there is no route.
    pub(super) fn send(&self, packet: &[u8], to: SocketAddr) -> io::Result<()> {
        let socket = if to.is_ipv4() {
            &self.v4
        } else {
            let unsupported = || io::Error::from(nix::Error::EAFNOSUPPORT);
            self.v6.as_ref().ok_or_else(unsupported)?
        };
        // raw(7): the header names the port, and IPv6 refuses another one than 0 here.
        let to = SockaddrStorage::from(SocketAddr::new(to.ip(), 0));
        sendto(socket.as_raw_fd(), packet, &to, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }
}

fn open(family: AddressFamily) -> nix::Result<OwnedFd> {
    // IPPROTO_RAW: packets bring their own IP header, in both families.
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Raw, flags, SockProtocol::Raw)?;
    setsockopt(&socket, Mark, &SILENCED)?;
    Ok(socket)
}
