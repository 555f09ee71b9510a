//! `FROM … -> TO …`: who tries to reach whom.

use std::str::FromStr;

use serde::Deserialize;

use crate::lab::{Party, Target};

/// `FROM … -> TO …`: each of those to each of these. `*` may stand for a namespace, a pod or both.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pairs {
    from: Vec<From>,
    to: Vec<To>,
}

/// Who tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// All pods of these names.
    Pods(Pattern),
    /// Anybody else.
    Party(Party),
}

/// Who is to be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// All pods of these names.
    Pods(Pattern),
    /// Anything else.
    Target(Target),
}

/// `NAMESPACE/POD`, where `*` stands for any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    namespace: String,
    pod: String,
}

impl Pairs {
    /// Whether it speaks of these pods.
    #[must_use]
    pub fn contain(&self, from: &str, to: &str) -> bool {
        let is_from = |each: &From| matches!(each, From::Pods(pattern) if pattern.is(from));
        let is_to = |each: &To| matches!(each, To::Pods(pattern) if pattern.is(to));
        self.from.iter().any(is_from) && self.to.iter().any(is_to)
    }

    /// Everybody that it speaks of, where these are the pods that exist. A pod that is found by `*` is
    /// not asked to reach itself.
    #[must_use]
    pub fn expand(&self, pods: &[String]) -> Vec<(Party, Target)> {
        let mut ends = Vec::new();
        for from in &self.from {
            let sources = from.expand(pods);
            for to in &self.to {
                for target in to.expand(pods) {
                    for source in &sources {
                        let is_itself = source.to_string() == target.to_string();
                        if !is_itself || !(from.is_vague() || to.is_vague()) {
                            ends.push((source.clone(), target.clone()));
                        }
                    }
                }
            }
        }
        ends
    }

    pub(super) fn is_of_pods(&self) -> bool {
        let from = |from: &From| matches!(from, From::Pods(_));
        let to = |to: &To| matches!(to, To::Pods(_));
        self.from.iter().all(from) && self.to.iter().all(to)
    }
}

impl From {
    fn expand(&self, pods: &[String]) -> Vec<Party> {
        match self {
            Self::Party(party) => vec![party.clone()],
            Self::Pods(pattern) => pattern.expand(pods).map(Party::Pod).collect(),
        }
    }

    fn is_vague(&self) -> bool {
        matches!(self, Self::Pods(pattern) if pattern.is_vague())
    }
}

impl To {
    fn expand(&self, pods: &[String]) -> Vec<Target> {
        match self {
            Self::Target(target) => vec![target.clone()],
            Self::Pods(pattern) => pattern.expand(pods).map(Target::Pod).collect(),
        }
    }

    fn is_vague(&self) -> bool {
        matches!(self, Self::Pods(pattern) if pattern.is_vague())
    }
}

impl Pattern {
    fn is(&self, pod: &str) -> bool {
        let matches = |pattern: &str, text| pattern == "*" || pattern == text;
        pod.split_once('/').is_some_and(|(namespace, name)| {
            matches(&self.namespace, namespace) && matches(&self.pod, name)
        })
    }

    fn is_vague(&self) -> bool {
        self.namespace == "*" || self.pod == "*"
    }

    /// A name in full stands for itself, whether or not there is such a pod: whoever looks it up says so.
    fn expand(&self, pods: &[String]) -> impl Iterator<Item = String> {
        let one = format!("{}/{}", self.namespace, self.pod);
        let found: Vec<String> = if self.is_vague() {
            pods.iter().filter(|pod| self.is(pod)).cloned().collect()
        } else {
            vec![one]
        };
        found.into_iter()
    }
}

impl FromStr for Pattern {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let text = if text == "*" { "*/*" } else { text };
        match text.split_once('/') {
            Some((namespace, pod))
                if !namespace.is_empty() && !pod.is_empty() && !text.contains(':') =>
            {
                Ok(Self {
                    namespace: namespace.to_owned(),
                    pod: pod.to_owned(),
                })
            }
            _ => Err(()),
        }
    }
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(pattern) => Ok(Self::Pods(pattern)),
            Err(()) => text
                .parse()
                .map(Self::Party)
                .map_err(|error: crate::lab::ParseError| error.to_string()),
        }
    }
}

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(pattern) => Ok(Self::Pods(pattern)),
            Err(()) => text
                .parse()
                .map(Self::Target)
                .map_err(|error: crate::lab::ParseError| error.to_string()),
        }
    }
}

impl TryFrom<String> for Pairs {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (from, to) = text
            .split_once(" -> ")
            .ok_or_else(|| format!("{text:?} has no arrow: write FROM -> TO"))?;
        let from: Vec<From> = from
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let to: Vec<To> = to
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        if from.is_empty() || to.is_empty() {
            return Err(format!("{text:?} lacks a side: write FROM -> TO"));
        }
        Ok(Self { from, to })
    }
}
