//! Istio's part of `envoy/istio`: what its control plane makes of an EnvoyFilter.
//!
//! Istio generates listeners and clusters for each sidecar and applies the patches of EnvoyFilters to
//! them. [`Sample`] is a sidecar's configuration in the shape that Istio gives it, and [`EnvoyFilter::apply`]
//! follows Istio's rules for the operations that Sidewall uses. Any other operation, match or field
//! is an error: a patch that would be understood by halves here says nothing about Istio.

mod filter;
mod sample;

pub use filter::{Context, EnvoyFilter, Error};
pub use sample::Sample;
