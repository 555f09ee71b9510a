//! The host functions of proxy-wasm 0.2.1.
//!
//! Those that the filter uses behave as Envoy's. The others of the ABI exist, since the SDK imports
//! them, but trap when they are called: a filter that starts to use one must find it here first.

use wasmtime::{Caller, Engine, Error, Linker, Result};

use super::data::{Data, StreamState};
use super::memory::Guest;
use super::world::{Level, Log, Metric, MetricKind, Shared};

const OK: i32 = 0;
pub(super) const NOT_FOUND: i32 = 1;
const BAD_ARGUMENT: i32 = 2;
const CAS_MISMATCH: i32 = 8;

const PLUGIN_CONFIGURATION: i32 = 7;
const DOWNSTREAM: i32 = 2;

/// Host functions that the filter never calls, with the number of their 32-bit parameters.
const UNUSED: [(&str, usize); 24] = [
    ("proxy_add_header_map_value", 5),
    ("proxy_call_foreign_function", 6),
    ("proxy_continue_stream", 1),
    ("proxy_dequeue_shared_queue", 3),
    ("proxy_done", 0),
    ("proxy_enqueue_shared_queue", 3),
    ("proxy_get_header_map_pairs", 3),
    ("proxy_get_header_map_value", 5),
    ("proxy_get_log_level", 1),
    ("proxy_get_metric", 2),
    ("proxy_get_status", 3),
    ("proxy_grpc_call", 12),
    ("proxy_grpc_cancel", 1),
    ("proxy_grpc_close", 1),
    ("proxy_grpc_send", 4),
    ("proxy_grpc_stream", 9),
    ("proxy_http_call", 10),
    ("proxy_register_shared_queue", 3),
    ("proxy_remove_header_map_value", 3),
    ("proxy_replace_header_map_value", 5),
    ("proxy_resolve_shared_queue", 5),
    ("proxy_send_local_response", 8),
    ("proxy_set_buffer_bytes", 5),
    ("proxy_set_header_map_pairs", 3),
];

type Host<'a> = Caller<'a, Data>;

/// Every import, ready to be linked.
pub(super) fn linker(engine: &Engine) -> Result<Linker<Data>> {
    let mut linker = Linker::new(engine);
    linker.func_wrap("env", "proxy_log", log)?;
    linker.func_wrap("env", "proxy_get_current_time_nanoseconds", current_time)?;
    linker.func_wrap("env", "proxy_get_buffer_bytes", buffer_bytes)?;
    linker.func_wrap("env", "proxy_get_property", property)?;
    linker.func_wrap("env", "proxy_set_property", set_property)?;
    linker.func_wrap("env", "proxy_get_shared_data", shared_data)?;
    linker.func_wrap("env", "proxy_set_shared_data", set_shared_data)?;
    linker.func_wrap("env", "proxy_close_stream", close_stream)?;
    linker.func_wrap("env", "proxy_set_effective_context", effective_context)?;
    linker.func_wrap("env", "proxy_define_metric", define_metric)?;
    linker.func_wrap("env", "proxy_increment_metric", increment_metric)?;
    linker.func_wrap("env", "proxy_record_metric", record_metric)?;
    linker.func_wrap(
        "env",
        "proxy_set_tick_period_milliseconds",
        |_: Host<'_>, _: i32| -> Result<i32> { Err(unused("proxy_set_tick_period_milliseconds")) },
    )?;
    for (name, parameters) in UNUSED {
        let signature = wasmtime::FuncType::new(
            engine,
            vec![wasmtime::ValType::I32; parameters],
            [wasmtime::ValType::I32],
        );
        linker.func_new("env", name, signature, move |_, _, _| Err(unused(name)))?;
    }
    Ok(linker)
}

fn unused(name: &str) -> Error {
    Error::msg(format!(
        "this host has no {name}, for the filter never needed it"
    ))
}

/// Notes a host call, or traps if that is the fault to inject.
fn note(host: &mut Host<'_>, name: &'static str) -> Result<()> {
    let data = host.data_mut();
    data.calls.push(name);
    if data.trap_on == Some(name) {
        data.trap_on = None;
        return Err(Error::msg(format!("injected fault in {name}")));
    }
    Ok(())
}

fn log(mut host: Host<'_>, level: i32, text: i32, length: i32) -> Result<i32> {
    note(&mut host, "proxy_log")?;
    let message = Guest::of(&mut host)?.text(text, length)?;
    let Some(level) = Level::from_abi(level) else {
        return Ok(BAD_ARGUMENT);
    };
    let vm = host.data().label.clone();
    let line = Log { vm, level, message };
    host.data().world.borrow_mut().logs.push(line);
    Ok(OK)
}

fn current_time(mut host: Host<'_>, place: i32) -> Result<i32> {
    note(&mut host, "proxy_get_current_time_nanoseconds")?;
    let now = host.data().world.borrow().now_nanoseconds;
    Guest::of(&mut host)?.write(place, &now.to_le_bytes())?;
    Ok(OK)
}

fn buffer_bytes(
    mut host: Host<'_>,
    buffer: i32,
    start: i32,
    length: i32,
    place: i32,
    size: i32,
) -> Result<i32> {
    note(&mut host, "proxy_get_buffer_bytes")?;
    if buffer != PLUGIN_CONFIGURATION {
        return Err(Error::msg(format!("this host has no buffer {buffer}")));
    }
    let Some(bytes) = host.data().configuration.clone() else {
        return Ok(NOT_FOUND);
    };
    let start = start.cast_unsigned() as usize;
    let Some(rest) = bytes.get(start..) else {
        return Ok(BAD_ARGUMENT);
    };
    let wanted = rest.len().min(length.cast_unsigned() as usize);
    Guest::of(&mut host)?.give(&rest[..wanted], place, size)?;
    Ok(OK)
}

fn property(mut host: Host<'_>, path: i32, length: i32, place: i32, size: i32) -> Result<i32> {
    note(&mut host, "proxy_get_property")?;
    let path = dotted(&Guest::of(&mut host)?.text(path, length)?);
    let data = host.data();
    let Some(stream) = data.streams.get(&data.current) else {
        return Ok(NOT_FOUND);
    };
    match stream.connection.read(&path).map(<[u8]>::to_vec) {
        Ok(value) => {
            Guest::of(&mut host)?.give(&value, place, size)?;
            Ok(OK)
        }
        Err(status) => Ok(status),
    }
}

fn set_property(
    mut host: Host<'_>,
    path: i32,
    path_length: i32,
    value: i32,
    value_length: i32,
) -> Result<i32> {
    note(&mut host, "proxy_set_property")?;
    let guest = Guest::of(&mut host)?;
    let path = dotted(&guest.text(path, path_length)?);
    let value = guest.text(value, value_length)?;
    let current = host.data().current;
    let Some(stream) = host.data_mut().streams.get_mut(&current) else {
        return Ok(NOT_FOUND);
    };
    stream.filter_state.insert(path, value);
    Ok(OK)
}

/// Paths arrive with zero bytes between their parts.
fn dotted(path: &str) -> String {
    path.replace('\0', ".")
}

fn shared_data(
    mut host: Host<'_>,
    key: i32,
    key_length: i32,
    place: i32,
    size: i32,
    cas: i32,
) -> Result<i32> {
    note(&mut host, "proxy_get_shared_data")?;
    let key = Guest::of(&mut host)?.bytes(key, key_length)?;
    let found = host.data().world.borrow().shared.get(&key).cloned();
    let Some(shared) = found else {
        return Ok(NOT_FOUND);
    };
    let mut guest = Guest::of(&mut host)?;
    guest.give(&shared.value, place, size)?;
    guest.write(cas, &shared.cas.to_le_bytes())?;
    Ok(OK)
}

fn set_shared_data(
    mut host: Host<'_>,
    key: i32,
    key_length: i32,
    value: i32,
    value_length: i32,
    cas: i32,
) -> Result<i32> {
    note(&mut host, "proxy_set_shared_data")?;
    let guest = Guest::of(&mut host)?;
    let key = guest.bytes(key, key_length)?;
    let value = guest.bytes(value, value_length)?;
    let mut world = host.data().world.borrow_mut();
    let last = world.shared.get(&key).map_or(0, |shared| shared.cas);
    if cas != 0 && cas.cast_unsigned() != last {
        return Ok(CAS_MISMATCH);
    }
    let cas = last + 1;
    world.shared.insert(key, Shared { value, cas });
    Ok(OK)
}

fn close_stream(mut host: Host<'_>, kind: i32) -> Result<i32> {
    note(&mut host, "proxy_close_stream")?;
    let data = host.data_mut();
    let current = data.current;
    let Some(stream) = data.streams.get(&current).filter(|_| kind == DOWNSTREAM) else {
        return Err(Error::msg(format!(
            "close of stream type {kind} in context {current}, which is no open connection"
        )));
    };
    let closes = matches!(stream.state, StreamState::Open | StreamState::Stuck);
    if closes && !data.closing.contains(&current) {
        data.closing.push(current);
    }
    Ok(OK)
}

fn effective_context(mut host: Host<'_>, context: i32) -> Result<i32> {
    note(&mut host, "proxy_set_effective_context")?;
    let context = context.cast_unsigned();
    let data = host.data_mut();
    if !data.roots.contains_key(&context) && !data.streams.contains_key(&context) {
        return Ok(BAD_ARGUMENT);
    }
    data.current = context;
    Ok(OK)
}

fn define_metric(
    mut host: Host<'_>,
    kind: i32,
    name: i32,
    name_length: i32,
    place: i32,
) -> Result<i32> {
    note(&mut host, "proxy_define_metric")?;
    let kind = match kind {
        0 => MetricKind::Counter,
        1 => MetricKind::Gauge,
        _ => return Ok(BAD_ARGUMENT),
    };
    let name = Guest::of(&mut host)?.text(name, name_length)?;
    let data = host.data_mut();
    let known = data
        .world
        .borrow_mut()
        .metrics
        .entry(name.clone())
        .or_insert(Metric { kind, value: 0 })
        .kind;
    if known != kind {
        return Ok(BAD_ARGUMENT);
    }
    data.metrics.push(name);
    let id = u32::try_from(data.metrics.len())?;
    Guest::of(&mut host)?.write(place, &id.to_le_bytes())?;
    Ok(OK)
}

fn increment_metric(mut host: Host<'_>, id: i32, offset: i64) -> Result<i32> {
    note(&mut host, "proxy_increment_metric")?;
    Ok(with_metric(&host, id, |metric| {
        let counts_up = offset >= 0 || metric.kind == MetricKind::Gauge;
        match metric.value.checked_add_signed(offset) {
            Some(value) if counts_up => {
                metric.value = value;
                OK
            }
            _ => BAD_ARGUMENT,
        }
    }))
}

fn record_metric(mut host: Host<'_>, id: i32, value: i64) -> Result<i32> {
    note(&mut host, "proxy_record_metric")?;
    Ok(with_metric(&host, id, |metric| match metric.kind {
        MetricKind::Gauge => {
            metric.value = value.cast_unsigned();
            OK
        }
        MetricKind::Counter => BAD_ARGUMENT,
    }))
}

fn with_metric(host: &Host<'_>, id: i32, change: impl FnOnce(&mut Metric) -> i32) -> i32 {
    let data = host.data();
    let name = usize::try_from(id)
        .ok()
        .and_then(|id| data.metrics.get(id.checked_sub(1)?));
    let mut world = data.world.borrow_mut();
    match name.and_then(|name| world.metrics.get_mut(name)) {
        Some(metric) => change(metric),
        None => NOT_FOUND,
    }
}
