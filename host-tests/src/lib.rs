//! The lab of Sidewall: what its tests, its demo and its benches run on.
//!
//! ```text
//!  sandbox ── a private world that ends with the program
//!     └─ net ── nodes, pods and external hosts as network namespaces
//! ```

pub mod harness;
pub mod net;
pub mod sandbox;
