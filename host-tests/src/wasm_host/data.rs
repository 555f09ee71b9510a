//! The host's side of one VM.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use wasmtime::{StoreLimits, StoreLimitsBuilder};

use super::world::World;

/// What the filter can ask about a connection.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    properties: BTreeMap<String, Result<Vec<u8>, i32>>,
}

impl Connection {
    /// A TCP connection between two `ip:port`.
    pub fn new(source: &str, destination: &str) -> Self {
        Self::default()
            .property("source.address", source)
            .property("destination.address", destination)
    }

    /// Sets a property by its dotted path.
    #[must_use]
    pub fn property(mut self, path: &str, value: impl AsRef<[u8]>) -> Self {
        self.properties
            .insert(path.to_owned(), Ok(value.as_ref().to_vec()));
        self
    }

    /// Makes reading a property fail with a proxy-wasm status.
    #[must_use]
    pub fn failing(mut self, path: &str, status: i32) -> Self {
        self.properties.insert(path.to_owned(), Err(status));
        self
    }

    pub(super) fn read(&self, path: &str) -> Result<&[u8], i32> {
        match self.properties.get(path) {
            Some(Ok(value)) => Ok(value),
            Some(Err(status)) => Err(*status),
            None => Err(super::imports::NOT_FOUND),
        }
    }
}

/// How a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamState {
    /// It carries traffic.
    Open,
    /// The filter paused it and did not close it: nothing flows, nothing ends.
    Stuck,
    /// The filter closed it.
    ClosedByFilter,
    /// One of its ends closed it.
    ClosedByPeer,
    /// Its VM died or could not be built.
    Failed,
}

/// A connection as the host sees it.
#[derive(Clone, Debug)]
pub struct Stream {
    /// How it stands.
    pub state: StreamState,
    /// Filter state that the filter set, by name without the prefix `wasm.`.
    pub filter_state: BTreeMap<String, String>,
    pub(super) connection: Connection,
    pub(super) root: u32,
}

/// What goes wrong inside a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next host call of this name traps.
    TrapOn(&'static str),
    /// The next callback may execute this many instructions.
    Fuel(u64),
    /// Memory cannot grow any more, so that the allocator fails.
    NoMemory,
}

/// The state behind the imports.
pub(super) struct Data {
    pub(super) world: Rc<RefCell<World>>,
    pub(super) label: String,
    /// The context that host calls act on.
    pub(super) current: u32,
    pub(super) roots: BTreeMap<u32, Root>,
    pub(super) streams: BTreeMap<u32, Stream>,
    /// Streams to close once the running callback has returned.
    pub(super) closing: Vec<u32>,
    /// The plugin configuration, while `proxy_on_configure` runs.
    pub(super) configuration: Option<Vec<u8>>,
    /// Names of metrics; an id is an index plus one.
    pub(super) metrics: Vec<String>,
    /// Host calls of the running callback.
    pub(super) calls: Vec<&'static str>,
    pub(super) trap_on: Option<&'static str>,
    pub(super) limits: StoreLimits,
}

/// A root context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) plugin: String,
    pub(super) configuration: Vec<u8>,
    /// Replaced by a newer root; it goes when its last stream does.
    pub(super) retired: bool,
}

impl Data {
    pub(super) fn new(world: Rc<RefCell<World>>, label: String) -> Self {
        Self {
            world,
            label,
            current: 0,
            roots: BTreeMap::new(),
            streams: BTreeMap::new(),
            closing: Vec::new(),
            configuration: None,
            metrics: Vec::new(),
            calls: Vec::new(),
            trap_on: None,
            limits: limits(None),
        }
    }
}

pub(super) fn limits(memory: Option<usize>) -> StoreLimits {
    let limits = StoreLimitsBuilder::new();
    match memory {
        Some(bytes) => limits.memory_size(bytes).build(),
        None => limits.build(),
    }
}
