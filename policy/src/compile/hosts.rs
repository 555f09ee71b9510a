//! The single addresses of a table, laid out as snapshots hold them.
//!
//! A snapshot is written for every pod of a group, a table is compiled once for all of them: so the
//! keys are sorted here, and writing them is copying.

use std::net::IpAddr;

use zerocopy::byteorder::little_endian::{U32, U128};

use crate::eval::{host_key_v4, host_key_v6, host_of_key_v4, host_of_key_v6};

/// Classes of single addresses by scrambled key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// Keys of the IPv4 addresses, ascending.
    pub(crate) keys_v4: Vec<U32>,
    /// Keys of the IPv6 addresses, ascending.
    pub(crate) keys_v6: Vec<U128>,
    /// Classes: of the IPv4 addresses in the order of their keys, then of the IPv6 ones.
    pub(crate) classes: Vec<u32>,
}

impl Hosts {
    /// Sorts addresses, each given once, and their classes by key.
    pub(super) fn new(hosts: impl IntoIterator<Item = (IpAddr, u32)>) -> Self {
        let mut v4: Vec<(u32, u32)> = Vec::new();
        let mut v6: Vec<(u128, u32)> = Vec::new();
        for (ip, class) in hosts {
            match ip {
                IpAddr::V4(ip) => v4.push((host_key_v4(ip), class)),
                IpAddr::V6(ip) => v6.push((host_key_v6(ip), class)),
            }
        }
        v4.sort_unstable();
        v6.sort_unstable();
        let classes_v4 = v4.iter().map(|(_, class)| *class);
        let classes_v6 = v6.iter().map(|(_, class)| *class);
        Self {
            keys_v4: v4.iter().map(|(key, _)| U32::new(*key)).collect(),
            keys_v6: v6.iter().map(|(key, _)| U128::new(*key)).collect(),
            classes: classes_v4.chain(classes_v6).collect(),
        }
    }

    /// All addresses.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self
            .keys_v4
            .iter()
            .map(|key| host_of_key_v4(key.get()).into());
        v4.chain(
            self.keys_v6
                .iter()
                .map(|key| host_of_key_v6(key.get()).into()),
        )
    }

    /// The class of an address; `None` when only ranges can cover it.
    pub(super) fn class_of(&self, ip: IpAddr) -> Option<u32> {
        let place = match ip {
            IpAddr::V4(ip) => {
                let key = host_key_v4(ip);
                self.keys_v4.binary_search_by_key(&key, |k| k.get()).ok()?
            }
            IpAddr::V6(ip) => {
                let key = host_key_v6(ip);
                let place = self.keys_v6.binary_search_by_key(&key, |k| k.get()).ok()?;
                self.keys_v4.len() + place
            }
        };
        self.classes.get(place).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_found_and_no_other() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let given = [
            ("10.0.0.1", 3),
            ("10.0.0.2", 1),
            ("10.0.1.1", 2),
            ("fd00::1", 4),
            ("fd00::2", 1),
            ("fd00:0:0:1::1", 5),
        ];
        let hosts = Hosts::new(given.map(|(address, class)| (ip(address), class)));
        for (address, class) in given {
            assert_eq!(hosts.class_of(ip(address)), Some(class), "{address}");
        }
        for stranger in ["10.0.0.3", "0.0.0.0", "fd00::3", "::", "::ffff:10.0.0.1"] {
            assert_eq!(hosts.class_of(ip(stranger)), None, "{stranger}");
        }
        assert!(hosts.keys_v4.is_sorted_by_key(|key| key.get()));
        assert!(hosts.keys_v6.is_sorted_by_key(|key| key.get()));
    }
}
