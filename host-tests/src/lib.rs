//! The lab of Sidewall: what its tests, its demo and its benches run on.
//!
//! ```text
//!  sandbox ── a private world that ends with the program
//!     └─ net ── nodes, pods and external hosts as network namespaces
//!         ├─ envoy ── real Envoys from the bootstraps in envoy/
//!         └─ probe ── servers that say who they are, and clients that check it
//!  cases ── who reaches whom, as data, and what holds every engine to it
//!  relay ── what stands in front of a distributor's replicas
//!  followers ── many xDS clients that take snapshots and say when
//!  apiserver ── an API server for `sidewall serve --kube` and `kubectl`, which fails on demand
//!  wasm_host ── the built filter on wasmtime, with a host that tests can ask and break
//! ```

pub mod apiserver;
pub mod bench;
pub mod cases;
pub mod envoy;
pub mod followers;
pub mod harness;
pub mod http;
pub mod istio;
pub mod lab;
pub mod net;
pub mod probe;
pub mod relay;
pub mod sandbox;
pub mod wasm_host;
