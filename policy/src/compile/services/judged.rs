//! What a finished table makes of services.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{ServiceTable, ServiceVerdict};
use crate::compile::table::{NO_CLASS, Table};

/// The verdicts of a table on the services that whoever is judged by it has to know, by their
/// places in the [`ServiceTable`], ascending.
///
/// The others are denied by their addresses as well: no backend is allowed, no range lies over
/// the address, and no node hands a port to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JudgedServices(Vec<(usize, ServiceVerdict)>);

impl JudgedServices {
    /// The places of the services.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        self.0.iter().map(|(place, _)| *place)
    }

    /// The verdict on a service, if it has to be known.
    pub fn get(&self, place: usize) -> Option<ServiceVerdict> {
        let found = self.0.binary_search_by_key(&place, |(place, _)| *place);
        let (_, verdict) = self.0.get(found.ok()?)?;
        Some(*verdict)
    }
}

impl ServiceTable {
    /// Judges by a table those services that it makes a difference for. Of an address, all ports
    /// are judged or none: whoever knows a cluster IP takes every port that is not known there for
    /// one that no service has.
    pub(in crate::compile) fn judge(&self, table: &Table) -> JudgedServices {
        let mut is_candidate = vec![false; self.entries.len()];
        let mut add = |place: usize| {
            if let Some(is_candidate) = is_candidate.get_mut(place) {
                *is_candidate = true;
            }
        };
        self.lookup.with_node_port().for_each(&mut add);
        for range in table.ranges_with_ports() {
            self.lookup.at_any(range.clone()).for_each(&mut add);
            self.lookup.behind_any(range).for_each(&mut add);
        }
        for ip in table.hosts.addresses() {
            self.lookup.behind(ip).for_each(&mut add);
        }
        let candidates = is_candidate.iter().enumerate();
        let candidates = candidates.filter(|(_, is_candidate)| **is_candidate);
        self.judge_among(candidates.map(|(place, _)| place), table)
    }

    /// Judges anew the services at these places, which share no address with other services, and
    /// returns whether the table says something else of them now. It must know the others already.
    pub(in crate::compile) fn judge_again(&self, places: &[usize], table: &mut Table) -> bool {
        let mut touched: BTreeSet<usize> = places.iter().copied().collect();
        self.add_ports_of_same_addresses(&mut touched);
        let JudgedServices(fresh) = self.judge_among(touched.iter().copied(), table);
        let JudgedServices(known) = &mut table.services;
        let is_touched = |(place, _): &&(usize, ServiceVerdict)| touched.contains(place);
        if known.iter().filter(is_touched).eq(&fresh) {
            return false;
        }
        known.retain(|(place, _)| !touched.contains(place));
        known.extend(fresh);
        known.sort_unstable_by_key(|(place, _)| *place);
        true
    }

    fn judge_among(&self, places: impl Iterator<Item = usize>, table: &Table) -> JudgedServices {
        let matters = |place: &usize| self.makes_a_difference(*place, table);
        let mut places: BTreeSet<usize> = places.filter(matters).collect();
        self.add_ports_of_same_addresses(&mut places);
        let judged = |place| Some((place, self.verdict(place, table)?));
        JudgedServices(places.into_iter().filter_map(judged).collect())
    }

    /// What a table says of the backends of one service.
    pub fn verdict(&self, place: usize, table: &Table) -> Option<ServiceVerdict> {
        let entry = self.entries.get(place)?;
        let mut verdict = ServiceVerdict::default();
        for (ip, port) in &entry.backends {
            match table.allowing_rule(*ip, entry.protocol.number(), *port) {
                Some(rule) => {
                    verdict.allowed = verdict.allowed.saturating_add(1);
                    verdict.rule.get_or_insert(rule);
                }
                None => verdict.denied = verdict.denied.saturating_add(1),
            }
        }
        Some(verdict)
    }

    /// Adds every service that shares an address with one of these.
    pub fn add_ports_of_same_addresses(&self, places: &mut BTreeSet<usize>) {
        let mut to_follow: Vec<usize> = places.iter().copied().collect();
        while let Some(place) = to_follow.pop() {
            let addresses = self.entries.get(place).into_iter();
            let addresses = addresses.flat_map(|entry| entry.addresses.iter().copied());
            for other in addresses.flat_map(|ip| self.lookup.at(ip)) {
                if places.insert(other) {
                    to_follow.push(other);
                }
            }
        }
    }

    /// The services with a backend at this address.
    pub fn behind(&self, ip: IpAddr) -> impl Iterator<Item = usize> {
        self.lookup.behind(ip)
    }

    /// The services that are reached at this address.
    pub fn at(&self, ip: IpAddr) -> impl Iterator<Item = usize> {
        self.lookup.at(ip)
    }

    /// Whether a service may be allowed, or lies where a look-up by address would say so.
    fn makes_a_difference(&self, place: usize, table: &Table) -> bool {
        self.entries.get(place).is_some_and(|entry| {
            let is_covered = |ip: &IpAddr| table.range_class(*ip) != NO_CLASS;
            let protocol = entry.protocol.number();
            let is_allowed = |(ip, port): &(IpAddr, u16)| {
                let rule = table.allowing_rule(*ip, protocol, *port);
                rule.is_some()
            };
            entry.node_port.is_some()
                || entry.addresses.iter().any(is_covered)
                || entry.backends.iter().any(is_allowed)
        })
    }
}
