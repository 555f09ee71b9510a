//! An EnvoyFilter, typed, and its patches applied.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::Sample;

/// Why an EnvoyFilter cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is none, or has something that this does not know.
    #[error("not an EnvoyFilter that can be applied: {0}")]
    Unknown(#[from] serde_saphyr::Error),
    /// Operations that Istio does not offer for what they apply to, or that are not known here.
    #[error("patch {index}: {operation:?} for {apply_to:?} is not known")]
    Operation {
        /// Which patch, from 0.
        index: usize,
        /// What it applies to.
        apply_to: ApplyTo,
        /// What it does.
        operation: Operation,
    },
    /// A part of the sample or of a patch has another shape than Envoy's.
    #[error("{0} is missing or has another type than Envoy gives it")]
    Shape(&'static str),
}

/// The manifest.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EnvoyFilter {
    /// `networking.istio.io/v1alpha3`.
    pub api_version: String,
    /// `EnvoyFilter`.
    pub kind: String,
    /// Name and namespace.
    pub metadata: Metadata,
    spec: Spec,
}

/// Name and namespace.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// The name.
    pub name: String,
    /// The namespace; Istio's root namespace counts for all.
    pub namespace: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Spec {
    workload_selector: WorkloadSelector,
    priority: i32,
    config_patches: Vec<Patch>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkloadSelector {
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Patch {
    apply_to: ApplyTo,
    #[serde(default)]
    r#match: Match,
    patch: Change,
}

/// What a patch applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ApplyTo {
    /// A whole cluster.
    Cluster,
    /// A whole listener.
    Listener,
    /// A network filter in a chain.
    NetworkFilter,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Match {
    context: Context,
}

/// Which of a proxy's listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Context {
    /// All of them.
    #[default]
    Any,
    /// What comes into a pod.
    SidecarInbound,
    /// What leaves a pod.
    SidecarOutbound,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    operation: Operation,
    value: Value,
}

/// What a patch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Operation {
    /// One more.
    Add,
    /// In front of all others.
    InsertFirst,
}

impl EnvoyFilter {
    /// Reads a manifest.
    ///
    /// # Errors
    ///
    /// When it is not one, or has a field or an operation that is not known here.
    pub fn read(yaml: &str) -> Result<Self, Error> {
        let filter: Self = serde_saphyr::from_str(yaml)?;
        for (index, patch) in filter.spec.config_patches.iter().enumerate() {
            let (apply_to, operation) = (patch.apply_to, patch.patch.operation);
            match (apply_to, operation) {
                (ApplyTo::Cluster | ApplyTo::Listener, Operation::Add)
                | (ApplyTo::NetworkFilter, Operation::InsertFirst) => {}
                _ => {
                    return Err(Error::Operation {
                        index,
                        apply_to,
                        operation,
                    });
                }
            }
        }
        Ok(filter)
    }

    /// The labels of the pods that it is for.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.spec.workload_selector.labels
    }

    /// When it is applied: those with higher numbers are applied later.
    #[must_use]
    pub fn priority(&self) -> i32 {
        self.spec.priority
    }

    /// Applies every patch, as Istio does: filters are put into the listeners that were generated, and
    /// listeners are added after that.
    ///
    /// # Errors
    ///
    /// When the sample is not shaped like Envoy's configuration.
    pub fn apply(&self, mut sample: Sample) -> Result<Sample, Error> {
        let directions = [
            (Context::SidecarInbound, &mut sample.inbound),
            (Context::SidecarOutbound, &mut sample.outbound),
        ];
        for (context, listeners) in directions {
            for patch in self.patches(ApplyTo::NetworkFilter) {
                if patch.r#match.concerns(context) {
                    for listener in listeners.iter_mut() {
                        insert_first(listener, &patch.patch.value)?;
                    }
                }
            }
            let added = |apply_to| {
                let patches = self.patches(apply_to);
                patches.filter(move |patch| patch.r#match.adds_to(context))
            };
            listeners.extend(added(ApplyTo::Listener).map(|patch| patch.patch.value.clone()));
            let clusters = added(ApplyTo::Cluster).map(|patch| patch.patch.value.clone());
            sample.clusters.extend(clusters);
        }
        Ok(sample)
    }

    fn patches(&self, apply_to: ApplyTo) -> impl Iterator<Item = &Patch> {
        let patches = self.spec.config_patches.iter();
        patches.filter(move |patch| patch.apply_to == apply_to)
    }
}

impl Match {
    fn concerns(&self, context: Context) -> bool {
        self.context == Context::Any || self.context == context
    }

    /// Without a context, a listener or cluster is added once: to those of the outbound side.
    fn adds_to(&self, context: Context) -> bool {
        match self.context {
            Context::Any => context == Context::SidecarOutbound,
            asked => asked == context,
        }
    }
}

/// Puts a filter in front of every chain of a listener, the default chain included. Chains without filters
/// are left alone, for they mean nothing.
fn insert_first(listener: &mut Value, filter: &Value) -> Result<(), Error> {
    let listener = listener.as_object_mut().ok_or(Error::Shape("a listener"))?;
    let mut chains: Vec<&mut Value> = Vec::new();
    for (field, value) in listener.iter_mut() {
        match field.as_str() {
            "filter_chains" => {
                let all = value.as_array_mut().ok_or(Error::Shape("filter_chains"))?;
                chains.extend(all);
            }
            "default_filter_chain" => chains.push(value),
            _ => {}
        }
    }
    for chain in chains {
        if let Some(filters) = chain.get_mut("filters") {
            let filters = filters.as_array_mut().ok_or(Error::Shape("filters"))?;
            filters.insert(0, filter.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(patches: &str) -> Result<EnvoyFilter, Error> {
        EnvoyFilter::read(&format!(
            "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: x, namespace: istio-system}}\n\
             spec: {{workloadSelector: {{labels: {{a: b}}}}, priority: 1, configPatches: [{patches}]}}"
        ))
    }

    fn sample() -> Sample {
        let listener = |name: &str| {
            json!({
                "name": name,
                "filter_chains": [{"filters": [{"name": "old"}]}, {"name": "empty"}],
                "default_filter_chain": {"filters": [{"name": "old"}]},
            })
        };
        Sample {
            bootstrap: json!({}),
            clusters: Vec::new(),
            inbound: vec![listener("in")],
            outbound: vec![listener("out")],
        }
    }

    #[test]
    fn filters_go_first_into_every_chain_of_their_side() {
        let filter = read(
            "{applyTo: NETWORK_FILTER, match: {context: SIDECAR_INBOUND}, patch: {operation: INSERT_FIRST, value: {name: new}}}",
        );
        let patched = filter.unwrap().apply(sample()).unwrap();
        let both = json!([{"name": "new"}, {"name": "old"}]);
        assert_eq!(patched.inbound[0]["filter_chains"][0]["filters"], both);
        assert_eq!(
            patched.inbound[0]["filter_chains"][1],
            json!({"name": "empty"})
        );
        assert_eq!(patched.inbound[0]["default_filter_chain"]["filters"], both);
        assert_eq!(patched.outbound, sample().outbound);
    }

    #[test]
    fn an_added_listener_is_not_patched_by_the_same_filter() {
        let filter = read(
            "{applyTo: LISTENER, patch: {operation: ADD, value: {name: new, filter_chains: [{filters: [{name: own}]}]}}}, \
             {applyTo: NETWORK_FILTER, patch: {operation: INSERT_FIRST, value: {name: gate}}}",
        );
        let patched = filter.unwrap().apply(sample()).unwrap();
        assert_eq!(patched.inbound.len(), 1);
        assert_eq!(patched.outbound.len(), 2);
        let added = &patched.outbound[1]["filter_chains"][0]["filters"];
        assert_eq!(*added, json!([{"name": "own"}]));
        let gated = &patched.outbound[0]["filter_chains"][0]["filters"][0];
        assert_eq!(*gated, json!({"name": "gate"}));
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        for patches in [
            "{applyTo: HTTP_FILTER, patch: {operation: ADD, value: {}}}",
            "{applyTo: NETWORK_FILTER, patch: {operation: REPLACE, value: {}}}",
            "{applyTo: CLUSTER, patch: {operation: INSERT_FIRST, value: {}}}",
            "{applyTo: LISTENER, match: {listener: {name: virtualInbound}}, patch: {operation: ADD, value: {}}}",
            "{applyTo: LISTENER, match: {context: GATEWAY}, patch: {operation: ADD, value: {}}}",
            "{applyTo: LISTENER, patch: {operation: ADD, value: {}, filterClass: AUTHN}}",
        ] {
            assert!(read(patches).is_err(), "{patches}");
        }
    }
}
