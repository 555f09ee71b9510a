//! Who gets what over TLS, with real handshakes: each way to steal a snapshot, tried.

mod attacks;
mod kit;
mod lifetimes;
