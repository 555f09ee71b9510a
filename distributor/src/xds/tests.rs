//! The server over real gRPC on loopback.

mod client;
mod identity;
mod kit;
mod pushes;
mod refusals;
mod shutdown;

/// Written out, as a bootstrap has it.
const TYPE_URL: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
