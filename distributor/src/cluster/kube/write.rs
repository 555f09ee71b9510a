//! What is written to the API server: conditions of pods, and events. Nothing waits for it but the tasks that
//! write.

use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::core::Status;
use serde_json::json;
use sidewall_policy::model::NamespacedName;
use tokio::time::timeout;

use crate::readiness::{CONDITION, Marker, NotMarked};

/// Who owns what is written, in `managedFields`.
const MANAGER: &str = "sidewall";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sets the conditions of pods.
pub(super) struct PodConditions {
    client: Client,
}

impl PodConditions {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    async fn set(&self, pod: &NamespacedName, uid: &str) -> Result<(), NotMarked> {
        // Conditions are merged by their type, so those of others stay. The uid is a precondition: the API
        // server refuses the patch if another pod has this name by now.
        let patch = json!({
            "metadata": { "uid": uid },
            "status": { "conditions": [{
                "type": CONDITION,
                "status": "True",
                "reason": "SnapshotAcknowledged",
                "message": "its Envoy has acknowledged the first snapshot of its policies",
                "lastTransitionTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            }] },
        });
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Strategic(patch);
        let patched = pods.patch_status(&pod.name, &parameters, &patch);
        match timeout(PATIENCE, patched).await {
            Ok(Ok(_pod)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) => Err(match status.code {
                404 | 409 => NotMarked::Gone(status.message),
                // Of all that is patched, another uid is the only thing that can be invalid like this.
                422 if is_of_another(&status) => NotMarked::Gone(status.message),
                403 => NotMarked::Failed(format!(
                    "{}; its ClusterRole must allow to patch pods/status",
                    status.message
                )),
                code => NotMarked::Failed(format!("{} ({code})", status.message)),
            }),
            Ok(Err(error)) => Err(NotMarked::Failed(error.to_string())),
            Err(_) => Err(NotMarked::Failed(format!("no answer within {PATIENCE:?}"))),
        }
    }
}

/// Whether the pod has another uid than the patch: the server takes that for an attempt to change it.
fn is_of_another(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|it| &it.causes);
    causes
        .into_iter()
        .any(|cause| cause.field == "metadata.uid")
}

impl Marker for PodConditions {
    fn mark<'a>(
        &'a self,
        pod: &'a NamespacedName,
        uid: &'a str,
    ) -> BoxFuture<'a, Result<(), NotMarked>> {
        Box::pin(self.set(pod, uid))
    }
}
