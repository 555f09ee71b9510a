//! One VM: an instance of the module with its contexts, and the callbacks in Envoy's order.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use wasmtime::{Instance, InstancePre, Store, WasmParams, WasmResults};

use super::data::{Connection, Data, Fault, Root, Stream, StreamState, limits};
use super::error::{LoadError, Trap};
use super::process::Plugin;
use super::world::{Callback, World};

/// `Action::Continue`.
const CONTINUE: i32 = 0;
/// `PeerType::Local` and `PeerType::Remote`.
const LOCAL: i32 = 1;
const REMOTE: i32 = 2;

pub(super) struct Vm {
    store: Store<Data>,
    instance: Instance,
    next_context: u32,
    /// Fuel for the next callback, when it is a fault to inject.
    fuel: Option<u64>,
    is_dead: bool,
}

impl Vm {
    /// Instantiates the module and runs its start function.
    pub(super) fn boot(
        module: &InstancePre<Data>,
        world: &Rc<RefCell<World>>,
        label: &str,
    ) -> Result<Self, LoadError> {
        let failed = |error: wasmtime::Error| LoadError::Instantiate(format!("{error:#}"));
        let data = Data::new(Rc::clone(world), label.to_owned());
        let mut store = Store::new(module.module().engine(), data);
        store.limiter(|data| &mut data.limits);
        store.set_fuel(u64::MAX).map_err(failed)?;
        let instance = module.instantiate(&mut store).map_err(failed)?;
        let mut vm = Self {
            store,
            instance,
            next_context: 1,
            fuel: None,
            is_dead: false,
        };
        let abi = vm
            .instance
            .get_func(&mut vm.store, "proxy_abi_version_0_2_1");
        if abi.is_none() {
            return Err(LoadError::Instantiate("it is not of ABI 0.2.1".to_owned()));
        }
        vm.call::<_, ()>("_initialize", 0, ())
            .map_err(|trap| LoadError::Instantiate(trap.to_string()))?;
        Ok(vm)
    }

    pub(super) fn is_dead(&self) -> bool {
        self.is_dead
    }

    pub(super) fn inject(&mut self, fault: Fault) {
        match fault {
            Fault::TrapOn(name) => self.store.data_mut().trap_on = Some(name),
            Fault::Fuel(instructions) => self.fuel = Some(instructions),
            Fault::NoMemory => {
                let memory = self.instance.get_memory(&mut self.store, "memory");
                let bytes = memory.map_or(0, |memory| memory.data_size(&self.store));
                self.store.data_mut().limits = limits(Some(bytes));
            }
        }
    }

    /// Gives a plugin a root context and configures it; `false` when the module refuses. The same
    /// configuration again reuses its root, as Envoy does.
    pub(super) fn start(&mut self, plugin: &Plugin) -> Result<bool, Trap> {
        let root = match self.root_of(plugin) {
            Some(root) => root,
            None => self.create_root(plugin)?,
        };
        let vm_start = self.call("proxy_on_vm_start", root, (root.cast_signed(), 0_i32))?;
        let configured = vm_start != Some(0) && {
            let length = i32::try_from(plugin.configuration.len()).unwrap_or(i32::MAX);
            self.store.data_mut().configuration = Some(plugin.configuration.clone());
            let answer = self.call("proxy_on_configure", root, (root.cast_signed(), length));
            self.store.data_mut().configuration = None;
            answer? != Some(0)
        };
        if configured {
            self.retire_others(plugin, root)?;
        }
        Ok(configured)
    }

    /// The root that serves exactly this plugin configuration.
    pub(super) fn root_of(&self, plugin: &Plugin) -> Option<u32> {
        let serves = |root: &Root| {
            !root.retired
                && root.plugin == plugin.name
                && root.configuration == plugin.configuration
        };
        let mut roots = self.store.data().roots.iter();
        roots.find(|(_, root)| serves(root)).map(|(id, _)| *id)
    }

    fn create_root(&mut self, plugin: &Plugin) -> Result<u32, Trap> {
        let id = self.new_context();
        let root = Root {
            plugin: plugin.name.clone(),
            configuration: plugin.configuration.clone(),
            retired: false,
        };
        self.store.data_mut().roots.insert(id, root);
        self.call::<_, ()>("proxy_on_context_create", id, (id.cast_signed(), 0_i32))?;
        Ok(id)
    }

    fn retire_others(&mut self, plugin: &Plugin, current: u32) -> Result<(), Trap> {
        for (id, root) in &mut self.store.data_mut().roots {
            root.retired |= *id != current && root.plugin == plugin.name;
        }
        self.delete_idle_roots()
    }

    fn delete_idle_roots(&mut self) -> Result<(), Trap> {
        let data = self.store.data();
        let in_use = |id| {
            let mut streams = data.streams.values();
            streams
                .any(|s| s.root == id && matches!(s.state, StreamState::Open | StreamState::Stuck))
        };
        let idle = |(id, root): (&u32, &Root)| (root.retired && !in_use(*id)).then_some(*id);
        let idle: Vec<u32> = data.roots.iter().filter_map(idle).collect();
        for id in idle {
            self.call::<_, i32>("proxy_on_done", id, id.cast_signed())?;
            self.call::<_, ()>("proxy_on_delete", id, id.cast_signed())?;
            self.store.data_mut().roots.remove(&id);
        }
        Ok(())
    }

    /// A new connection on a chain of `root`'s plugin.
    pub(super) fn connect(&mut self, root: u32, connection: Connection) -> (u32, Result<(), Trap>) {
        let id = self.new_context();
        let stream = Stream {
            state: StreamState::Open,
            filter_state: std::collections::BTreeMap::new(),
            connection,
            root,
        };
        self.store.data_mut().streams.insert(id, stream);
        (id, self.open(id, root))
    }

    fn open(&mut self, id: u32, root: u32) -> Result<(), Trap> {
        let contexts = (id.cast_signed(), root.cast_signed());
        self.call::<_, ()>("proxy_on_context_create", id, contexts)?;
        let action = self.call::<_, i32>("proxy_on_new_connection", id, id.cast_signed())?;
        if action.is_some_and(|action| action != CONTINUE) {
            self.set_state(id, StreamState::Open, StreamState::Stuck);
        }
        Ok(())
    }

    /// Data in both directions; whether all of it passed.
    pub(super) fn exchange(&mut self, id: u32, bytes: i32) -> Result<bool, Trap> {
        for callback in ["proxy_on_downstream_data", "proxy_on_upstream_data"] {
            if self.stream(id).is_none_or(|s| s.state != StreamState::Open) {
                return Ok(false);
            }
            let action = self.call::<_, i32>(callback, id, (id.cast_signed(), bytes, 0_i32))?;
            if action.is_some_and(|action| action != CONTINUE) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One of the ends closes the connection.
    pub(super) fn finish(&mut self, id: u32) -> Result<(), Trap> {
        if self.set_state(id, StreamState::Open, StreamState::ClosedByPeer) {
            self.end(id, REMOTE)?;
        }
        Ok(())
    }

    pub(super) fn stream(&self, id: u32) -> Option<&Stream> {
        self.store.data().streams.get(&id)
    }

    fn set_state(&mut self, id: u32, from: StreamState, to: StreamState) -> bool {
        match self.store.data_mut().streams.get_mut(&id) {
            Some(stream) if stream.state == from => {
                stream.state = to;
                true
            }
            _ => false,
        }
    }

    fn end(&mut self, id: u32, peer: i32) -> Result<(), Trap> {
        let context = id.cast_signed();
        self.call::<_, ()>("proxy_on_downstream_connection_close", id, (context, peer))?;
        self.call::<_, i32>("proxy_on_done", id, context)?;
        self.call::<_, ()>("proxy_on_log", id, context)?;
        self.call::<_, ()>("proxy_on_delete", id, context)?;
        self.delete_idle_roots()
    }

    fn new_context(&mut self) -> u32 {
        let id = self.next_context;
        self.next_context += 1;
        id
    }

    /// Runs an export, then closes what it asked to close. `None` if the module has no such
    /// export: Envoy leaves out callbacks that are missing.
    fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        callback: &'static str,
        context: u32,
        parameters: P,
    ) -> Result<Option<R>, Trap> {
        if self.instance.get_func(&mut self.store, callback).is_none() {
            return Ok(None);
        }
        self.store.data_mut().current = context;
        self.store.data_mut().calls.clear();
        let fuel = self.fuel.take().unwrap_or(u64::MAX);
        let function = self.store.set_fuel(fuel).and_then(|()| {
            self.instance
                .get_typed_func::<P, R>(&mut self.store, callback)
        });
        let started = Instant::now();
        let result = function.and_then(|function| function.call(&mut self.store, parameters));
        self.write_bill(callback, fuel, started.elapsed());
        self.write_journal(callback);
        let answer = result.map_err(|error| {
            self.die();
            let reason = format!("{error:#}");
            Trap { callback, reason }
        })?;
        self.close_asked()?;
        Ok(Some(answer))
    }

    fn write_journal(&mut self, name: &'static str) {
        let data = self.store.data_mut();
        let entry = Callback {
            vm: data.label.clone(),
            name,
            host_calls: std::mem::take(&mut data.calls),
        };
        data.world.borrow_mut().journal.push(entry);
    }

    fn write_bill(&mut self, callback: &'static str, fuel: u64, time: Duration) {
        let left = self.store.get_fuel().unwrap_or_default();
        let mut world = self.store.data().world.borrow_mut();
        let spent = world.spent.entry(callback).or_default();
        spent.runs += 1;
        spent.instructions += fuel.saturating_sub(left);
        spent.time += time;
    }

    fn close_asked(&mut self) -> Result<(), Trap> {
        for id in std::mem::take(&mut self.store.data_mut().closing) {
            if let Some(stream) = self.store.data_mut().streams.get_mut(&id) {
                stream.state = StreamState::ClosedByFilter;
            }
            self.end(id, LOCAL)?;
        }
        Ok(())
    }

    fn die(&mut self) {
        self.is_dead = true;
        for stream in self.store.data_mut().streams.values_mut() {
            if matches!(stream.state, StreamState::Open | StreamState::Stuck) {
                stream.state = StreamState::Failed;
            }
        }
    }
}
