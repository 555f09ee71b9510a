//! From a response to the snapshot in it: what [`resource`](crate::xds::resource) wraps, unwrapped.
//!
//! Nothing in a response is believed: each layer is checked for what it says it is, and the bytes
//! inside by `Snapshot::check`.

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::filters::network::wasm::v3::Wasm;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use envoy_types::pb::google::protobuf::{Any, BytesValue};
use prost::{DecodeError, Message, Name};
use sidewall_policy::snapshot::{Snapshot, SnapshotError};
use tokio::task::JoinError;
use tracing::warn;

use crate::xds::session::RESOURCE_NAME;

/// A snapshot that may be put into force.
#[derive(Debug)]
pub(super) struct Carried {
    /// The resource's version, in the server's words.
    pub(super) version: String,
    pub(super) snapshot: Snapshot,
}

/// Why a response carries nothing of use. Sent to the server as the reason of the NACK.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    /// More than was asked for.
    #[error("it has {0} resources; only {RESOURCE_NAME:?} was asked for")]
    Several(usize),
    /// Something that was not asked for.
    #[error("resource {0:?} was not asked for, only {RESOURCE_NAME:?}")]
    Stranger(String),
    /// The wrapping ends before the snapshot.
    #[error("its {0} is missing")]
    Missing(&'static str),
    /// A layer is not what it should be.
    #[error("its {field} is a {found:?}, not a {expected}")]
    Type {
        /// Which layer.
        field: &'static str,
        /// The type URL it has.
        found: String,
        /// The type URL it should have.
        expected: String,
    },
    /// A layer cannot be read.
    #[error("its {field} cannot be decoded: {source}")]
    Decode {
        /// Which layer.
        field: &'static str,
        /// Where it stops being protobuf.
        source: DecodeError,
    },
    /// The bytes are no snapshot.
    #[error("its snapshot does not pass the check: {0}")]
    Check(#[from] SnapshotError),
    /// The check itself failed.
    #[error("its snapshot could not be checked: {0}")]
    Died(JoinError),
}

/// The snapshot that a response carries; `None` if it only takes something back, which is not
/// followed: without a snapshot nobody could be let through.
///
/// # Errors
/// Says which part is not as it should be.
pub(super) fn unpack(response: DeltaDiscoveryResponse) -> Result<Option<Carried>, Unusable> {
    for name in &response.removed_resources {
        warn!(
            "the distributor has no resource {name:?} any more; the last snapshot stays in force"
        );
    }
    let count = response.resources.len();
    let Ok([resource]) = <[_; 1]>::try_from(response.resources) else {
        return if count == 0 {
            Ok(None)
        } else {
            Err(Unusable::Several(count))
        };
    };
    if resource.name != RESOURCE_NAME {
        return Err(Unusable::Stranger(resource.name));
    }
    let extension: TypedExtensionConfig = open(resource.resource, "resource")?;
    let filter: Wasm = open(extension.typed_config, "typed_config")?;
    let plugin = filter.config.ok_or(Unusable::Missing("config"))?;
    let bytes: BytesValue = open(plugin.configuration, "config.configuration")?;
    Ok(Some(Carried {
        version: resource.version,
        snapshot: Snapshot::check(bytes.value)?,
    }))
}

fn open<M: Message + Name + Default>(any: Option<Any>, field: &'static str) -> Result<M, Unusable> {
    let any = any.ok_or(Unusable::Missing(field))?;
    if any.type_url != M::type_url() {
        return Err(Unusable::Type {
            field,
            found: any.type_url,
            expected: M::type_url(),
        });
    }
    M::decode(any.value.as_slice()).map_err(|source| Unusable::Decode { field, source })
}
