//! One Envoy process: threads with their VMs, plugins and connections.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use wasmtime::InstancePre;

use super::data::{Connection, Data, Fault, Stream, StreamState};
use super::error::{LoadError, Stage};
use super::module::linked;
use super::vm::Vm;
use super::world::{Callback, Log, Spent, World};

/// The first word of the filter's decision records.
const RECORD: &str = "sidewall-decision ";

/// A plugin of the module, as a chain or an ECDS resource configures it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// Its name: a plugin of the same name replaces this one.
    pub name: String,
    /// Its configuration, unwrapped.
    pub configuration: Vec<u8>,
}

impl Plugin {
    /// The carrier, with a snapshot.
    pub fn carrier(snapshot: impl Into<Vec<u8>>) -> Self {
        Self {
            name: "sidewall-carrier".to_owned(),
            configuration: snapshot.into(),
        }
    }

    /// The gate.
    pub fn gate() -> Self {
        Self {
            name: "sidewall-gate".to_owned(),
            configuration: b"gate".to_vec(),
        }
    }
}

/// A connection of a [`Process`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(usize);

/// Where a connection's stream lives; `None` if no VM could be built for it.
type Place = Option<(usize, usize, u32)>;

/// An Envoy with a number of workers, each with a VM of its own beside the main thread's.
pub struct Process {
    module: InstancePre<Data>,
    world: Rc<RefCell<World>>,
    /// The VMs of each thread, thread 0 being the main one. All but the last are dead.
    threads: Vec<Vec<Vm>>,
    plugins: BTreeMap<String, Plugin>,
    streams: Vec<Place>,
}

impl Process {
    /// A process without plugins.
    ///
    /// # Errors
    /// The filter is not built, or is no module.
    pub fn new(workers: usize) -> Result<Self, LoadError> {
        Ok(Self {
            module: linked()?,
            world: Rc::default(),
            threads: (0..=workers).map(|_| Vec::new()).collect(),
            plugins: BTreeMap::new(),
            streams: Vec::new(),
        })
    }

    /// Loads a plugin or a new configuration of one, in Envoy's order: canary, main thread,
    /// workers. After a refusal by the canary everything is as it was.
    ///
    /// # Errors
    /// Says which VM refused or died.
    pub fn load(&mut self, plugin: Plugin) -> Result<(), LoadError> {
        let mut canary = Vm::boot(&self.module, &self.world, "canary")?;
        start(&mut canary, &plugin, Stage::Canary)?;
        let mut result = Ok(());
        for thread in 0..self.threads.len() {
            let started = self
                .living(thread)
                .and_then(|vm| start(vm, &plugin, Stage::Thread(thread)));
            result = result.and(started);
        }
        self.plugins.insert(plugin.name.clone(), plugin);
        result
    }

    /// A connection on a worker, counted from 0, in a chain with the gate.
    ///
    /// A VM that died is built anew first, with the gate's configuration only, as
    /// `failure_policy: FAIL_RELOAD` does.
    pub fn connect(&mut self, worker: usize, connection: Connection) -> StreamId {
        let place = self.open(worker + 1, connection);
        self.streams.push(place);
        StreamId(self.streams.len() - 1)
    }

    fn open(&mut self, thread: usize, connection: Connection) -> Place {
        let gate = self.plugins.get(&Plugin::gate().name)?.clone();
        let vm = self.living(thread).ok()?;
        let root = match vm.root_of(&gate) {
            Some(root) => root,
            None => {
                start(vm, &gate, Stage::Thread(thread)).ok()?;
                vm.root_of(&gate)?
            }
        };
        // A trap leaves the stream behind, failed.
        let (context, _) = vm.connect(root, connection);
        Some((thread, self.threads[thread].len() - 1, context))
    }

    /// Sends data both ways through a connection; whether all of it passed.
    pub fn exchange(&mut self, stream: StreamId) -> bool {
        self.with_vm(stream, |vm, context| {
            vm.exchange(context, 5).unwrap_or(false)
        })
        .unwrap_or(false)
    }

    /// One end closes a connection. Nothing happens if it is closed.
    pub fn finish(&mut self, stream: StreamId) {
        // A trap in here shows in the state of the VM's other streams.
        self.with_vm(stream, |vm, context| vm.finish(context).ok());
    }

    /// A connection's state and what the filter attached to it.
    pub fn stream(&self, stream: StreamId) -> Stream {
        self.streams[stream.0]
            .and_then(|(thread, vm, context)| self.threads[thread][vm].stream(context).cloned())
            .unwrap_or_else(|| Stream {
                state: StreamState::Failed,
                filter_state: BTreeMap::new(),
                connection: Connection::default(),
                root: 0,
            })
    }

    /// Whether a connection carries traffic.
    pub fn is_open(&self, stream: StreamId) -> bool {
        self.stream(stream).state == StreamState::Open
    }

    /// Makes something go wrong in the living VM of a worker, counted from 0.
    pub fn inject(&mut self, worker: usize, fault: Fault) {
        if let Some(vm) = self.threads[worker + 1].last_mut() {
            vm.inject(fault);
        }
    }

    /// Sets the clock, since the epoch.
    pub fn set_clock(&mut self, now: Duration) {
        self.world.borrow_mut().now_nanoseconds = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    }

    /// The value of a metric by its name; `None` if it was never defined.
    pub fn metric(&self, name: &str) -> Option<u64> {
        self.world.borrow().metrics.get(name).map(|m| m.value)
    }

    /// The metrics that are not zero.
    pub fn metrics(&self) -> BTreeMap<String, u64> {
        let world = self.world.borrow();
        let set = world.metrics.iter().filter(|(_, metric)| metric.value > 0);
        set.map(|(name, m)| (name.clone(), m.value)).collect()
    }

    /// Shared data by its key.
    pub fn shared(&self, key: &str) -> Option<Vec<u8>> {
        let world = self.world.borrow();
        world.shared.get(key.as_bytes()).map(|s| s.value.clone())
    }

    /// Puts bytes into shared data, as another VM of the process could.
    pub fn set_shared(&mut self, key: &str, value: Vec<u8>) {
        let shared = super::world::Shared { value, cas: 1 };
        self.world
            .borrow_mut()
            .shared
            .insert(key.as_bytes().to_vec(), shared);
    }

    /// Everything that was logged since the last [`Process::forget`].
    pub fn logs(&self) -> Vec<Log> {
        self.world.borrow().logs.clone()
    }

    /// The decision records among the logs.
    ///
    /// # Errors
    /// A record that is not JSON.
    pub fn records(&self) -> Result<Vec<serde_json::Value>, serde_json::Error> {
        let world = self.world.borrow();
        let records = world
            .logs
            .iter()
            .filter_map(|l| l.message.strip_prefix(RECORD));
        records.map(serde_json::from_str).collect()
    }

    /// Every callback since the last [`Process::forget`], in order.
    pub fn journal(&self) -> Vec<Callback> {
        self.world.borrow().journal.clone()
    }

    /// What the runs of a callback took since the last [`Process::forget`], over all VMs.
    pub fn spent(&self, callback: &str) -> Spent {
        self.world
            .borrow()
            .spent
            .get(callback)
            .copied()
            .unwrap_or_default()
    }

    /// Forgets logs, journal and what was spent.
    pub fn forget(&mut self) {
        let mut world = self.world.borrow_mut();
        world.logs.clear();
        world.journal.clear();
        world.spent.clear();
    }

    /// The living VM of a thread, built if there is none.
    fn living(&mut self, thread: usize) -> Result<&mut Vm, LoadError> {
        let vms = &mut self.threads[thread];
        if vms.last().is_none_or(Vm::is_dead) {
            let label = match thread {
                0 => "main".to_owned(),
                worker => format!("worker {}", worker - 1),
            };
            vms.push(Vm::boot(&self.module, &self.world, &label)?);
        }
        let last = vms.len() - 1;
        Ok(&mut vms[last])
    }

    fn with_vm<T>(&mut self, stream: StreamId, work: impl FnOnce(&mut Vm, u32) -> T) -> Option<T> {
        let (thread, vm, context) = self.streams[stream.0]?;
        let vm = &mut self.threads[thread][vm];
        (!vm.is_dead()).then(|| work(vm, context))
    }
}

fn start(vm: &mut Vm, plugin: &Plugin, stage: Stage) -> Result<(), LoadError> {
    match vm.start(plugin) {
        Ok(true) => Ok(()),
        Ok(false) => Err(LoadError::Refused {
            stage,
            plugin: plugin.name.clone(),
        }),
        Err(trap) => Err(LoadError::Trapped {
            stage,
            plugin: plugin.name.clone(),
            trap,
        }),
    }
}
