//! From a compiled snapshot to the resource an Envoy subscribes to.
//!
//! ```text
//!  Resource{name "sidewall", version = revision}
//!   └ TypedExtensionConfig "sidewall"
//!      └ envoy.extensions.filters.network.wasm.v3.Wasm
//!         └ PluginConfig: the carrier; its configuration is BytesValue(snapshot)
//!            └ VmConfig: the same in the gates, so that all of them share one VM
//! ```
//!
//! Nothing leaves here unchecked: an Envoy's refusal says only that the plugin could not be
//! created, so the reason has to be found on this side.
//!
//! No two resources are alike, even with one snapshot: Envoy acknowledges a resource that equals
//! the last one untried, also when it has refused that one (ADR 5). A field without effect on the
//! carrier (see [`longest_backoff`]) differs in each, so that an ACK always means that the filter
//! has taken the snapshot.

use std::time::SystemTime;

use envoy_types::pb::envoy::config::core::v3::async_data_source::Specifier as CodeSpecifier;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier as FileSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    AsyncDataSource, BackoffStrategy, DataSource, Node, TypedExtensionConfig,
};
use envoy_types::pb::envoy::extensions::filters::network::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::wasm::v3::plugin_config::Vm;
use envoy_types::pb::envoy::extensions::wasm::v3::{
    FailurePolicy, PluginConfig, ReloadConfig, VmConfig,
};
use envoy_types::pb::envoy::service::discovery::v3::Resource;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{BytesValue, Duration};
use envoy_types::util::pack_any;
use prost::Name as _;
use sidewall_policy::snapshot::{MAX_LENGTH, Revision, Snapshot, SnapshotError};

use super::session::RESOURCE_NAME;
use crate::snapshots::{Published, Recipient};

/// The longest response: a snapshot and the wrapping around it, that is names, versions, paths.
pub(super) const MAX_RESPONSE_BYTES: usize = MAX_LENGTH + (1 << 20);

/// The node metadata key under which a bootstrap says where its Envoy finds the filter.
const WASM_KEY: &str = "sidewall_wasm";
const WASM_DEFAULT: &str = "/etc/sidewall/sidewall_filter.wasm";

/// The VM's id, and the root id of the plugins in it; envoy/sidecar.yaml has the same.
const VM_ID: &str = "sidewall";
const RUNTIME: &str = "envoy.wasm.runtime.v8";
const CARRIER: &str = "sidewall-carrier";

/// The least time between two rebuilds of a VM that trapped.
const RELOAD_BACKOFF: Duration = Duration {
    seconds: 0,
    nanos: 100_000_000,
};

/// Why a snapshot was not sent.
#[derive(Debug, thiserror::Error)]
pub enum Withheld {
    /// The bytes are no snapshot.
    #[error("its snapshot does not pass its own check: {0}")]
    Check(#[from] SnapshotError),
    /// The publisher named another revision than the bytes have.
    #[error("it was published as revision {published} but its bytes are revision {found}")]
    Revision {
        /// What the publisher said.
        published: Revision,
        /// What the bytes say.
        found: Revision,
    },
    /// The bytes are some other pod's.
    #[error("it does not have the pod among its subjects")]
    Subject,
}

/// Why a node's metadata is not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "node.metadata.{WASM_KEY} must be the absolute path of the filter's .wasm file, as a string"
)]
pub(super) struct BadMetadata;

/// Where this Envoy finds the filter's code: its own file, for it is its own bootstrap that says so.
pub(super) fn wasm_path(node: &Node) -> Result<String, BadMetadata> {
    let Some(value) = node
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.fields.get(WASM_KEY))
    else {
        return Ok(WASM_DEFAULT.to_owned());
    };
    match &value.kind {
        Some(Kind::StringValue(path)) if path.starts_with('/') => Ok(path.clone()),
        _ => Err(BadMetadata),
    }
}

/// Makes the resource that carries `published` to `recipient`; `at` tells it from any other.
///
/// # Errors
/// When the bytes do not pass the check, or are not this revision or not this pod's.
pub(super) fn carry(
    recipient: &Recipient,
    published: &Published,
    wasm_path: &str,
    at: SystemTime,
) -> Result<Resource, Withheld> {
    let snapshot = Snapshot::check(published.bytes.to_vec())?;
    if snapshot.revision() != published.revision {
        return Err(Withheld::Revision {
            published: published.revision,
            found: snapshot.revision(),
        });
    }
    if let Recipient::Pod(pod) = recipient
        && !snapshot
            .subjects()
            .any(|subject| *subject.namespace == *pod.namespace && *subject.name == *pod.name)
    {
        return Err(Withheld::Subject);
    }
    let carrier = PluginConfig {
        name: CARRIER.to_owned(),
        root_id: VM_ID.to_owned(),
        vm: Some(Vm::VmConfig(vm(wasm_path))),
        configuration: Some(pack_any(BytesValue {
            value: snapshot.bytes().to_vec(),
        })),
        failure_policy: FailurePolicy::FailReload.into(),
        reload_config: Some(ReloadConfig {
            backoff: Some(BackoffStrategy {
                base_interval: Some(RELOAD_BACKOFF),
                max_interval: Some(longest_backoff(at)),
            }),
        }),
        ..PluginConfig::default()
    };
    Ok(Resource {
        name: RESOURCE_NAME.to_owned(),
        version: published.revision.to_string(),
        resource: Some(pack_any(TypedExtensionConfig {
            name: RESOURCE_NAME.to_owned(),
            typed_config: Some(pack_any(Wasm {
                config: Some(carrier),
            })),
        })),
        ..Resource::default()
    })
}

/// One hour and the fraction of the current second. Envoy's wasm extension uses the least backoff
/// only, and it is not part of what tells one VM or one plugin from another.
fn longest_backoff(at: SystemTime) -> Duration {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Duration {
        seconds: 3600,
        // Less than a billion.
        nanos: since.subsec_nanos().cast_signed(),
    }
}

fn vm(wasm_path: &str) -> VmConfig {
    VmConfig {
        vm_id: VM_ID.to_owned(),
        runtime: RUNTIME.to_owned(),
        code: Some(AsyncDataSource {
            specifier: Some(CodeSpecifier::Local(DataSource {
                specifier: Some(FileSpecifier::Filename(wasm_path.to_owned())),
                ..DataSource::default()
            })),
        }),
        ..VmConfig::default()
    }
}

/// The type of [`Resource::resource`], by which a client asks for it.
pub(super) fn type_url() -> String {
    TypedExtensionConfig::type_url()
}
