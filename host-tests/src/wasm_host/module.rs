//! Finding and compiling the built filter.

use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;

use thiserror::Error;
use wasmtime::{Config, Engine, InstancePre, Module};

use super::data::Data;
use super::imports;

/// Where cargo leaves the module, under its target directory.
const BUILT: &str = "wasm32-unknown-unknown/wasm/sidewall_filter.wasm";

/// The module cannot be had. Its debug form is its message, for tests unwrap it.
#[derive(Clone, Error)]
pub enum ModuleError {
    /// It was not built.
    #[error("the filter is not built: {path}: {reason}; run `make filter` first")]
    Missing {
        /// Where it was expected.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// wasmtime does not accept it, or it imports what no host has.
    #[error("{path} is no module for this host: {reason}; run `make filter` again")]
    Invalid {
        /// The file.
        path: String,
        /// What wasmtime said.
        reason: String,
    },
}

impl fmt::Debug for ModuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The path of the built filter: `SIDEWALL_WASM` if it is set, else in cargo's target directory.
pub fn module_path() -> PathBuf {
    if let Some(path) = std::env::var_os("SIDEWALL_WASM") {
        return path.into();
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    // A relative CARGO_TARGET_DIR is relative to where cargo was called: the root, by convention.
    root.join(target).join(BUILT)
}

/// The filter, compiled and linked once for each process of the system.
pub(super) fn linked() -> Result<InstancePre<Data>, ModuleError> {
    static LINKED: OnceLock<Result<InstancePre<Data>, ModuleError>> = OnceLock::new();
    LINKED.get_or_init(link).clone()
}

fn link() -> Result<InstancePre<Data>, ModuleError> {
    let path = module_path();
    let bytes = std::fs::read(&path).map_err(|error| ModuleError::Missing {
        path: path.display().to_string(),
        reason: error.to_string(),
    })?;
    let mut config = Config::new();
    config.consume_fuel(true);
    let link = || {
        let engine = Engine::new(&config)?;
        let module = Module::new(&engine, bytes)?;
        imports::linker(&engine)?.instantiate_pre(&module)
    };
    link().map_err(|error: wasmtime::Error| ModuleError::Invalid {
        path: path.display().to_string(),
        reason: format!("{error:#}"),
    })
}
