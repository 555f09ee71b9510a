//! More than one distributor, behind a relay that stands for their Service.

use std::net::{Ipv6Addr, SocketAddr};
use std::process::ExitStatus;

use super::daemon::Daemon;
use super::distributor::{Place, XDS_PORT};
use super::{Error, Lab};
use crate::net::Netns;
use crate::relay::Relay;

/// A distributor besides the lab's own. Dropping it kills it.
#[derive(Debug)]
pub struct Replica {
    daemon: Daemon,
    place: Place,
}

impl Replica {
    /// Where a relay reaches it, on the control host.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.place.address()
    }

    /// Waits until it serves snapshots.
    ///
    /// # Errors
    ///
    /// When it ends or is not ready in time, with the end of its log.
    pub fn wait_ready(&mut self) -> Result<(), Error> {
        self.daemon.wait_ready()
    }

    /// GET on its admin port.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn get(&self, path: &str) -> Result<String, Error> {
        self.daemon.get(path)
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    ///
    /// When it does not end in time.
    pub fn stop(self) -> Result<ExitStatus, Error> {
        self.daemon.stop()
    }
}

impl Lab {
    /// What clients reach instead of the distributor. The lab's own is in rotation from the start.
    ///
    /// # Errors
    ///
    /// When the lab was started without.
    pub fn relay(&self) -> Result<&Relay, Error> {
        self.relay.as_ref().ok_or(Error::NoRelay)
    }

    /// Starts one more distributor, from number 1 on, or number 0 while the lab's own does not run. It is
    /// not waited for, and not in rotation.
    ///
    /// # Errors
    ///
    /// When there is no relay, or it cannot be started.
    pub fn replica(&self, number: u16) -> Result<Replica, Error> {
        self.relay()?;
        let place = Place::replica(number);
        let daemon = self.serve(place)?;
        Ok(Replica { daemon, place })
    }
}

/// A relay where clients look for the distributor, with the lab's own in rotation.
pub(super) fn relay(control: &Netns) -> Result<Relay, Error> {
    let everywhere = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), XDS_PORT);
    let servers = vec![Place::replica(0).address()];
    Ok(Relay::start(everywhere, control, servers)?)
}
