//! Reading and writing the module's memory.

use wasmtime::{AsContext, AsContextMut, Caller, Error, Extern, Memory, Result};

use super::data::Data;

/// The memory and the allocator of the module that is calling.
pub(super) struct Guest<'a, 'b> {
    caller: &'a mut Caller<'b, Data>,
    memory: Memory,
}

impl<'a, 'b> Guest<'a, 'b> {
    pub(super) fn of(caller: &'a mut Caller<'b, Data>) -> Result<Self> {
        match caller.get_export("memory") {
            Some(Extern::Memory(memory)) => Ok(Self { caller, memory }),
            _ => Err(Error::msg("the module exports no memory")),
        }
    }

    /// Copies bytes out; traps beyond the end of memory, where Envoy answers a status that no SDK
    /// survives.
    pub(super) fn bytes(&self, pointer: i32, length: i32) -> Result<Vec<u8>> {
        let mut bytes = vec![0; index(length)];
        self.memory
            .read(self.caller.as_context(), index(pointer), &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn text(&self, pointer: i32, length: i32) -> Result<String> {
        String::from_utf8(self.bytes(pointer, length)?).map_err(Error::from)
    }

    pub(super) fn write(&mut self, pointer: i32, bytes: &[u8]) -> Result<()> {
        self.memory
            .write(self.caller.as_context_mut(), index(pointer), bytes)?;
        Ok(())
    }

    /// Hands bytes over: allocated by the module, their place and length written where it asked.
    /// Empty bytes have no place, as in Envoy.
    pub(super) fn give(&mut self, bytes: &[u8], place: i32, length: i32) -> Result<()> {
        let pointer = if bytes.is_empty() {
            0
        } else {
            let pointer = self.allocate(bytes.len())?;
            self.write(pointer, bytes)?;
            pointer
        };
        self.write(place, &pointer.to_le_bytes())?;
        self.write(length, &u32::try_from(bytes.len())?.to_le_bytes())
    }

    fn allocate(&mut self, length: usize) -> Result<i32> {
        let allocate = ["malloc", "proxy_on_memory_allocate"]
            .into_iter()
            .find_map(|name| self.caller.get_export(name).and_then(Extern::into_func))
            .ok_or_else(|| Error::msg("the module exports no allocator"))?;
        allocate
            .typed::<i32, i32>(self.caller.as_context())?
            .call(self.caller.as_context_mut(), i32::try_from(length)?)
    }
}

/// Addresses and lengths are unsigned; the ABI's integers are not.
fn index(value: i32) -> usize {
    value.cast_unsigned() as usize
}
