//! The plugin: registers, takes the runtime's calls, and lets a pod go on once the table knows it.

use std::time::Duration;

use prost::Message;
use sidewall_policy::snapshot::Claim;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use super::claims::{Claims, claim};
use super::connection::{Connection, ConnectionError, Incoming};
use super::message::{
    ConfigureRequest, ConfigureResponse, EVENTS, PLUGIN, PodSandbox, REMOVE_POD_SANDBOX,
    RUN_POD_SANDBOX, RUNTIME, RegisterPluginRequest, Request, STOP_POD_SANDBOX, SandboxRequest,
    StateChangeEvent, Status, SynchronizeRequest, SynchronizeResponse,
};
use super::metrics::Metrics;
use super::view::View;
use super::{Link, NAME};
use crate::node::agent::Condition;

/// For how long the start of a pod waits for the table. The runtime closes plugins that take longer than 2 s, and it
/// starts one pod at a time meanwhile.
const PATIENCE: Duration = Duration::from_millis(500);

/// The same after a pod has waited in vain: the distributor may be away, and the node has many pods.
const SHORT_PATIENCE: Duration = Duration::from_millis(20);

/// After all plugins that change a pod, for this one changes none.
const INDEX: &str = "90";

/// `UNIMPLEMENTED` of google.rpc.Code.
const UNIMPLEMENTED: i32 = 12;

/// The plugin on one connection.
#[derive(Debug)]
pub(super) struct Plugin<'a> {
    pub view: &'a View,
    pub condition: watch::Receiver<Condition>,
    pub link: &'a watch::Sender<Link>,
    pub metrics: &'a Metrics,
    /// What the runtime allows, at most [`PATIENCE`].
    pub longest: Duration,
    pub patience: Duration,
    /// The claims of the pods that run, while the runtime is still telling them.
    pub synchronized: Claims,
}

impl<'a> Plugin<'a> {
    pub fn new(
        view: &'a View,
        condition: watch::Receiver<Condition>,
        link: &'a watch::Sender<Link>,
        metrics: &'a Metrics,
    ) -> Self {
        Self {
            view,
            condition,
            link,
            metrics,
            longest: PATIENCE,
            patience: PATIENCE,
            synchronized: Claims::default(),
        }
    }

    /// Serves until the connection ends.
    pub async fn serve(mut self, mut connection: Connection) -> ConnectionError {
        let register = RegisterPluginRequest {
            plugin_name: NAME.to_owned(),
            plugin_idx: INDEX.to_owned(),
        };
        let request = Request {
            service: RUNTIME.to_owned(),
            method: "RegisterPlugin".to_owned(),
            payload: register.encode_to_vec(),
        };
        if let Err(error) = connection.call(&request).await {
            return error;
        }
        loop {
            if let Err(error) = self.step(&mut connection).await {
                return error;
            }
        }
    }

    async fn step(&mut self, connection: &mut Connection) -> Result<(), ConnectionError> {
        match connection.next().await? {
            Incoming::Answer(response) => match response.status {
                Some(status) if status.code != 0 => Err(ConnectionError::Refused(status.message)),
                _ => Ok(()),
            },
            Incoming::Call { stream, request } => {
                let answer = self.call(&request).await?;
                connection.answer(stream, answer).await
            }
        }
    }

    async fn call(
        &mut self,
        request: &Request,
    ) -> Result<Result<Vec<u8>, Status>, ConnectionError> {
        let unknown = || Status {
            code: UNIMPLEMENTED,
            message: format!("{}/{} is not served", request.service, request.method),
        };
        if request.service != PLUGIN {
            return Ok(Err(unknown()));
        }
        let payload = request.payload.as_slice();
        let sandbox = || SandboxRequest::decode(payload);
        let answer = match request.method.as_str() {
            "Configure" => self.configure(&ConfigureRequest::decode(payload)?),
            "Synchronize" => self.synchronize(&SynchronizeRequest::decode(payload)?),
            "RunPodSandbox" => self.start(sandbox()?.pod).await,
            "StopPodSandbox" | "RemovePodSandbox" => self.stop(sandbox()?.pod),
            "StateChange" => {
                let StateChangeEvent { event, pod } = StateChangeEvent::decode(payload)?;
                match event {
                    RUN_POD_SANDBOX => self.start(pod).await,
                    STOP_POD_SANDBOX | REMOVE_POD_SANDBOX => self.stop(pod),
                    _ => Vec::new(),
                }
            }
            "Shutdown" => Vec::new(),
            _ => return Ok(Err(unknown())),
        };
        Ok(Ok(answer))
    }

    fn configure(&mut self, request: &ConfigureRequest) -> Vec<u8> {
        let allowed = u64::try_from(request.request_timeout).unwrap_or_default();
        if allowed > 0 {
            self.longest = PATIENCE.min(Duration::from_millis(allowed) / 2);
            self.patience = self.longest;
        }
        info!(
            runtime = request.runtime_name,
            version = request.runtime_version,
            longest_wait = ?self.longest,
            "the container runtime tells of new pods"
        );
        ConfigureResponse { events: EVENTS }.encode_to_vec()
    }

    /// The pods that run already.
    fn synchronize(&mut self, request: &SynchronizeRequest) -> Vec<u8> {
        for pod in &request.pods {
            if let Some(claim) = claim(pod) {
                self.synchronized.add(pod.id.clone(), claim);
            }
        }
        let more = request.more;
        if !more {
            let all = std::mem::take(&mut self.synchronized);
            self.change(|claims| *claims = all);
            self.link.send_replace(Link::Connected);
        }
        SynchronizeResponse { more }.encode_to_vec()
    }

    /// Answers once the table knows the pod, or when its time is up.
    async fn start(&mut self, pod: Option<PodSandbox>) -> Vec<u8> {
        let Some((pod, claim)) = pod.and_then(|pod| claim(&pod).map(|claim| (pod, claim))) else {
            return Vec::new();
        };
        let started = Instant::now();
        self.change(|claims| claims.add(pod.id, claim.clone()));
        let view = self.view;
        let is_in_force = |condition: &Condition| {
            view.holding(&claim).is_some_and(|view| {
                matches!(condition, Condition::Enforcing { revision, .. } if *revision == view.revision())
            })
        };
        let wait = self.condition.wait_for(is_in_force);
        let outcome = timeout(self.patience, wait)
            .await
            .map(|found| found.is_ok());
        let took = started.elapsed();
        self.metrics.wait_seconds.observe(took.as_secs_f64());
        if matches!(outcome, Ok(true)) {
            self.patience = self.longest;
            debug!(pod = %name(&claim), ?took, "the table knew the pod before it started");
        } else {
            self.patience = SHORT_PATIENCE;
            self.metrics.timeouts.inc();
            warn!(
                pod = %name(&claim),
                addresses = ?claim.addresses,
                ?took,
                "the pod starts closed: the distributor has not told its policies yet, or the table is not up to \
                 date; it opens as soon as that is so"
            );
        }
        Vec::new()
    }

    fn stop(&self, pod: Option<PodSandbox>) -> Vec<u8> {
        if let Some(pod) = pod {
            self.change(|claims| claims.end(&pod.id));
        }
        Vec::new()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Claims) -> T) -> T {
        let (changed, count) = self.view.change(|claims| {
            let changed = change(claims);
            (changed, claims.all().count())
        });
        self.metrics
            .pods
            .set(i64::try_from(count).unwrap_or(i64::MAX));
        changed
    }
}

fn name(claim: &Claim) -> String {
    format!("{}/{}", claim.namespace, claim.name)
}
