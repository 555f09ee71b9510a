//! How a callback or a configuration can fail.

use std::fmt;

use thiserror::Error;

use super::ModuleError;

/// A VM that died in a callback.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{callback} trapped: {reason}")]
pub struct Trap {
    /// The export that was running.
    pub callback: &'static str,
    /// What wasmtime says about it.
    pub reason: String,
}

/// Where a configuration failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// In the canary: Envoy then refuses the configuration as a whole and keeps the one it had.
    Canary,
    /// On a thread, 0 being the main one: that thread stays without the plugin.
    Thread(usize),
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Canary => f.write_str("the canary"),
            Self::Thread(0) => f.write_str("the main thread"),
            Self::Thread(worker) => write!(f, "worker {worker}"),
        }
    }
}

/// A plugin that could not be loaded.
#[derive(Clone, Debug, Error)]
pub enum LoadError {
    /// There is no module to load.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The module cannot be instantiated, or lacks an export that it must have.
    #[error("the module cannot be instantiated: {0}")]
    Instantiate(String),
    /// `proxy_on_vm_start` or `proxy_on_configure` answered false.
    #[error("{stage} refused the configuration of plugin {plugin}")]
    Refused {
        /// Where.
        stage: Stage,
        /// The plugin's name.
        plugin: String,
    },
    /// A callback trapped.
    #[error("{stage}, plugin {plugin}: {trap}")]
    Trapped {
        /// Where.
        stage: Stage,
        /// The plugin's name.
        plugin: String,
        /// How.
        trap: Trap,
    },
}
