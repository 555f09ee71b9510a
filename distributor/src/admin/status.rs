//! `/status`: what every pod should run, and what it runs. Its field names are a promise.

use std::collections::BTreeMap;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use sidewall_policy::model::NamespacedName;
use sidewall_policy::snapshot::Revision;

use crate::problem::Problem;
use crate::snapshots::{Published, Recipient, SnapshotSource};
use crate::xds::{Client, Clients, Refused, Refuser, Stamped, Stream};

/// The whole answer. Times are RFC 3339 in UTC, revisions 16 hexadecimal digits; what is not known is `null`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// The version of this distributor.
    pub version: &'static str,
    /// Whether every source has been read completely. Nothing is published before.
    pub synced: bool,
    /// Every pod that has a snapshot, or is or was connected; sorted by name.
    pub pods: Vec<PodStatus>,
    /// The same for nodes; empty without the node plane.
    pub nodes: Vec<NodeStatus>,
    /// What is wrong with the objects.
    pub problems: Vec<Problem>,
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PodStatus {
    /// `namespace/name`.
    #[serde(serialize_with = "display")]
    pub pod: NamespacedName,
    /// What it should run, and what it runs.
    #[serde(flatten)]
    pub delivery: Delivery,
}

/// One node, its agent and its Envoy together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub node: String,
    /// What both should run; and what the one that connected last runs.
    #[serde(flatten)]
    pub delivery: Delivery,
}

/// What somebody should run, and what they run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Delivery {
    /// All of the below in one word.
    pub state: DeliveryState,
    /// The snapshot that it should run.
    pub wanted: Option<Wanted>,
    /// The last snapshot sent on its latest stream.
    pub sent: Option<Timed>,
    /// The last snapshot it acknowledged, or had in force when it reconnected.
    pub applied: Option<Timed>,
    /// The last snapshot refused, if none has been acknowledged since.
    pub refused: Option<Refusal>,
    /// Since when it is connected without the snapshot that it should run, or a later one: what is wanted
    /// may change again while it waits.
    #[serde(serialize_with = "optional_time")]
    pub behind_since: Option<SystemTime>,
    /// How many streams it has open: a pod one, and for a moment two while an Envoy restarts hot;
    /// a node two.
    pub streams: usize,
    /// Since when it is connected; or, without a stream, since when it is not.
    #[serde(serialize_with = "optional_time")]
    pub since: Option<SystemTime>,
    /// The other end of its latest stream.
    pub peer: Option<String>,
}

/// Whether somebody enforces what they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// Connected, and the wanted snapshot is acknowledged; on a node, by all that are connected.
    Applied,
    /// Connected, and the wanted snapshot is on its way.
    Pending,
    /// Connected, and the wanted snapshot was refused: it runs an older one, or none and is closed.
    Refused,
    /// Connected, but no such pod is known: it keeps what it has, or is closed.
    Unknown,
    /// Was connected, and keeps what it applied last.
    Disconnected,
    /// Has a snapshot and has never connected to this replica: perhaps it has no sidecar.
    Absent,
}

impl DeliveryState {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 6] = [
        Self::Applied,
        Self::Pending,
        Self::Refused,
        Self::Unknown,
        Self::Disconnected,
        Self::Absent,
    ];

    /// As in JSON and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Pending => "pending",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Disconnected => "disconnected",
            Self::Absent => "absent",
        }
    }
}

/// The snapshot that a pod should run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Wanted {
    /// Which one.
    #[serde(serialize_with = "display")]
    pub revision: Revision,
    /// Since when.
    #[serde(serialize_with = "time")]
    pub since: SystemTime,
    /// Its size in bytes.
    pub bytes: usize,
}

/// A snapshot and the time at which something happened to it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timed {
    /// Which one.
    #[serde(serialize_with = "display")]
    pub revision: Revision,
    /// When.
    #[serde(serialize_with = "time")]
    pub at: SystemTime,
}

/// A snapshot that did not come into force.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Refusal {
    /// Which one.
    #[serde(serialize_with = "display")]
    pub revision: Revision,
    /// When.
    #[serde(serialize_with = "time")]
    pub at: SystemTime,
    /// `client` (a NACK) or `distributor` (not sent).
    pub by: Refuser,
    /// In the words of who refused it.
    pub reason: String,
}

impl Status {
    /// Puts together what is wanted and what is known of the clients.
    pub fn collect(source: &dyn SnapshotSource, clients: &Clients, problems: &[Problem]) -> Self {
        let mut all: BTreeMap<Recipient, (Option<Published>, Client)> = BTreeMap::new();
        for (recipient, published) in source.published() {
            all.entry(recipient).or_default().0 = Some(published);
        }
        for (recipient, client) in clients.all() {
            all.entry(recipient).or_default().1 = client;
        }
        let (mut pods, mut nodes) = (Vec::new(), Vec::new());
        for (recipient, (published, client)) in all {
            let delivery = Delivery::new(&recipient, published.as_ref(), &client);
            match recipient {
                Recipient::Pod(pod) => pods.push(PodStatus { pod, delivery }),
                Recipient::Node(node) => nodes.push(NodeStatus {
                    node: node.to_string(),
                    delivery,
                }),
            }
        }
        Self {
            version: env!("CARGO_PKG_VERSION"),
            synced: source.is_synced(),
            pods,
            nodes,
            problems: problems.to_vec(),
        }
    }
}

impl Delivery {
    fn new(recipient: &Recipient, published: Option<&Published>, client: &Client) -> Self {
        let latest = client.latest();
        let deciding = deciding(recipient, client);
        Self {
            state: state(deciding, published, client),
            behind_since: published.and_then(|wanted| behind_since(deciding, wanted)),
            wanted: published.map(|published| Wanted {
                revision: published.revision,
                since: published.published_at,
                bytes: published.bytes.len(),
            }),
            sent: latest.and_then(|stream| stream.sent).map(Timed::from),
            applied: latest.and_then(|stream| stream.acked).map(Timed::from),
            refused: refusal(recipient, client).map(Refusal::from),
            streams: client.open.len(),
            since: latest.map(|stream| stream.disconnected_at.unwrap_or(stream.connected_at)),
            peer: latest
                .and_then(|stream| stream.peer)
                .map(|peer| peer.to_string()),
        }
    }
}

/// Of a node's two streams only the agent's says why.
fn refusal(recipient: &Recipient, client: &Client) -> Option<Refused> {
    let of_node = match recipient {
        Recipient::Pod(_) => None,
        Recipient::Node(_) => client.open.iter().find_map(|stream| stream.refused.clone()),
    };
    of_node.or_else(|| client.latest()?.refused.clone())
}

/// The streams that count: the newest one of a pod tells what it runs; a node runs what all of its say.
fn deciding<'a>(recipient: &Recipient, client: &'a Client) -> &'a [Stream] {
    match recipient {
        Recipient::Pod(_) => client.open.last().map_or(&[], std::slice::from_ref),
        Recipient::Node(_) => &client.open,
    }
}

fn state(streams: &[Stream], published: Option<&Published>, client: &Client) -> DeliveryState {
    if streams.is_empty() {
        return if client.closed.is_some() {
            DeliveryState::Disconnected
        } else {
            DeliveryState::Absent
        };
    }
    let Some(wanted) = published else {
        return DeliveryState::Unknown;
    };
    let refused = |stream: &Stream| {
        let refused = stream.refused.as_ref();
        refused.is_some_and(|refused| refused.revision == wanted.revision)
    };
    if streams.iter().all(|stream| has_applied(stream, wanted)) {
        DeliveryState::Applied
    } else if streams.iter().any(refused) {
        DeliveryState::Refused
    } else {
        DeliveryState::Pending
    }
}

fn has_applied(stream: &Stream, wanted: &Published) -> bool {
    let acked = stream.acked.as_ref();
    acked.is_some_and(|acked| acked.revision == wanted.revision)
}

/// Since when the first of these streams waits that does.
fn behind_since(streams: &[Stream], wanted: &Published) -> Option<SystemTime> {
    let behind = streams.iter().filter(|stream| !has_applied(stream, wanted));
    let since = behind.map(|stream| {
        let possible = wanted.published_at.max(stream.connected_at);
        stream
            .waiting_since
            .map_or(possible, |outstanding| outstanding.min(possible))
    });
    since.min()
}

impl From<Stamped> for Timed {
    fn from(Stamped { revision, at }: Stamped) -> Self {
        Self { revision, at }
    }
}

impl From<Refused> for Refusal {
    fn from(
        Refused {
            revision,
            at,
            by,
            reason,
        }: Refused,
    ) -> Self {
        Self {
            revision,
            at,
            by,
            reason,
        }
    }
}

fn display<T: std::fmt::Display, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn time<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let time = Timestamp::try_from(*time).map_err(serde::ser::Error::custom)?;
    serializer.collect_str(&format_args!("{time:.3}"))
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn optional_time<S: Serializer>(
    optional: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match optional {
        Some(value) => time(value, serializer),
        None => serializer.serialize_none(),
    }
}
