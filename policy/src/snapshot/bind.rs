//! Pods that have no address yet, and addresses that somebody learns before the compiler does.
//!
//! A node's bundle holds the pods that are bound to the node and have no address so far, so that their tables are
//! there before they start. Such a pod has one *pending address*, which carries its UID and which no packet has. The
//! agent of the node learns the real address from the container runtime and puts it in its place.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use xxhash_rust::xxh3::xxh3_64;
use zerocopy::IntoBytes;

use super::layout::{Header, Section, SubjectV4, SubjectV6};
use super::view::{BODY, hash};
use super::{Snapshot, SnapshotError, SubjectName};

/// The discard-only prefix of RFC 6666: no packet that is forwarded has an address of it.
const PENDING: [u8; 8] = [0x01, 0, 0, 0, 0, 0, 0, 0];

/// The address that stands for a pod of this UID until its real one is known.
pub fn pending_address(uid: &str) -> Ipv6Addr {
    let prefix = u128::from(u64::from_be_bytes(PENDING)) << 64;
    Ipv6Addr::from(prefix | u128::from(xxh3_64(uid.as_bytes())))
}

fn is_pending(address: &[u8; 16]) -> bool {
    address.starts_with(&PENDING)
}

/// The addresses that a container runtime has given a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The namespace of the pod.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: an earlier pod of the same name had other policies.
    pub uid: String,
    /// The addresses, v4-mapped ones normalised.
    pub addresses: Vec<IpAddr>,
}

impl Snapshot {
    /// The same snapshot in which each claim of a pending pod is in force, and no pending address is left.
    ///
    /// The claim of a pod that the snapshot does not know as pending changes nothing. An address that the snapshot
    /// gives to another pod goes to the pod that claims it: the runtime knows who has it now. Addresses of nodes stay
    /// with their nodes. Once the compiler knows the addresses itself, its bytes differ from these in what peers say
    /// alone.
    ///
    /// # Errors
    /// When the result would be longer than a snapshot may be.
    pub fn bind<'a>(
        &self,
        claims: impl IntoIterator<Item = &'a Claim>,
    ) -> Result<Self, SnapshotError> {
        let view = self.view();
        let mut v4: BTreeMap<[u8; 4], u32> = view
            .subjects_v4
            .iter()
            .map(|each| (each.address, each.subject.get()))
            .collect();
        let (pending, named): (Vec<&SubjectV6>, Vec<&SubjectV6>) = view
            .subjects_v6
            .iter()
            .partition(|each| is_pending(&each.address));
        let mut v6: BTreeMap<[u8; 16], u32> = named
            .iter()
            .map(|each| (each.address, each.subject.get()))
            .collect();
        let pending: BTreeMap<[u8; 16], u32> = pending
            .iter()
            .map(|each| (each.address, each.subject.get()))
            .collect();
        for claim in claims {
            let Some(index) = pending.get(&pending_address(&claim.uid).octets()) else {
                continue;
            };
            let is_same = view.subjects.get(*index as usize).is_some_and(|subject| {
                view.text(subject.namespace) == claim.namespace
                    && view.text(subject.name) == claim.name
            });
            for address in claim.addresses.iter().filter(|_| is_same) {
                let mapped = crate::eval::mapped(*address).to_be_bytes();
                if view.node_addresses.contains(&mapped) {
                    continue;
                }
                match address {
                    IpAddr::V4(address) => v4.insert(address.octets(), *index),
                    IpAddr::V6(address) => v6.insert(address.octets(), *index),
                };
            }
        }
        Self::check(self.with_subjects(v4, v6))
    }

    /// The pod that an address stands for.
    pub fn owner(&self, address: IpAddr) -> Option<SubjectName<'_>> {
        let view = self.view();
        let index = match address {
            IpAddr::V4(address) => {
                let key = address.octets();
                let found = view.subjects_v4.binary_search_by_key(&key, |s| s.address);
                view.subjects_v4.get(found.ok()?)?.subject
            }
            IpAddr::V6(address) => {
                let key = address.octets();
                let found = view.subjects_v6.binary_search_by_key(&key, |s| s.address);
                view.subjects_v6.get(found.ok()?)?.subject
            }
        };
        let subject = view.subjects.get(index.get() as usize)?;
        Some(SubjectName {
            namespace: view.text(subject.namespace),
            name: view.text(subject.name),
        })
    }

    /// Whether a pod of this snapshot has no address yet.
    pub fn has_pending(&self) -> bool {
        let mut addresses = self.view().subjects_v6.iter();
        addresses.any(|each| is_pending(&each.address))
    }

    /// The bytes with other addresses of subjects, which are the first two sections.
    fn with_subjects(&self, v4: BTreeMap<[u8; 4], u32>, v6: BTreeMap<[u8; 16], u32>) -> Vec<u8> {
        let view = self.view();
        let v4: Vec<SubjectV4> = v4
            .into_iter()
            .map(|(address, subject)| SubjectV4 {
                address,
                subject: subject.into(),
            })
            .collect();
        let v6: Vec<SubjectV6> = v6
            .into_iter()
            .map(|(address, subject)| SubjectV6 {
                address,
                subject: subject.into(),
            })
            .collect();
        let before = size_of_val(view.subjects_v4) + size_of_val(view.subjects_v6);
        let after = v4.as_bytes().len() + v6.as_bytes().len();
        let moved = |offset: usize| (offset + after).saturating_sub(before);

        let mut bytes = self.bytes().get(..BODY).unwrap_or_default().to_vec();
        bytes.extend_from_slice(v4.as_bytes());
        bytes.extend_from_slice(v6.as_bytes());
        bytes.extend_from_slice(self.bytes().get(BODY + before..).unwrap_or_default());
        let length = bytes.len();
        let table = bytes.get_mut(size_of::<Header>()..BODY);
        for (index, section) in table
            .into_iter()
            .flat_map(|table| table.chunks_exact_mut(size_of::<Section>()))
            .enumerate()
        {
            use zerocopy::FromBytes as _;
            let Ok(section) = Section::mut_from_bytes(section) else {
                continue;
            };
            let (offset, length) = match index {
                0 => (BODY, v4.as_bytes().len()),
                1 => (BODY + v4.as_bytes().len(), v6.as_bytes().len()),
                _ => (
                    moved(section.offset.get() as usize),
                    section.length.get() as usize,
                ),
            };
            section.offset = (offset as u32).into();
            section.length = (length as u32).into();
        }
        if let Some(length_field) = bytes.get_mut(12..16) {
            length_field.copy_from_slice(&(length as u32).to_le_bytes());
        }
        let sum = hash(&bytes).to_le_bytes();
        if let Some(field) = bytes.get_mut(16..24) {
            field.copy_from_slice(&sum);
        }
        bytes
    }
}

#[cfg(test)]
mod tests;
