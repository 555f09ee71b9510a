//! What the API server says of clients: TokenReview for tokens, the Pod for certificates.
//!
//! It never decides what somebody may have, and never logs a token.

use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{
    TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo,
};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::{Client, Config};
use sidewall_policy::model::NamespacedName;
use tokio::time::timeout;

use crate::authority::{Authority, Bearer, Review, Unavailable};

/// How long an answer may take. Clients wait for it, and come back if it does not arrive.
const PATIENCE: Duration = Duration::from_secs(5);

/// How the API server names service accounts among users.
const ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// Which pod a token is bound to.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
/// Which of all pods of that name.
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
/// Which node this pod runs on (Kubernetes 1.30).
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// There is no API server to ask.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither a kubeconfig nor a pod's surroundings say where it is.
    #[error(
        "no API server can be asked about tokens: {0}; run in a pod with a service account, or set KUBECONFIG"
    )]
    Config(#[source] kube::config::InferConfigError),
    /// What they say cannot be used.
    #[error("the API server's client cannot be made: {0}")]
    Client(#[source] kube::Error),
}

/// The API server, asked through kube-rs.
#[derive(Clone)]
pub struct ApiServer {
    client: Client,
    audience: String,
}

impl ApiServer {
    /// The API server that the kubeconfig or the pod's own service account names, for tokens with
    /// this audience. Does not connect yet.
    ///
    /// # Errors
    /// When none is named, or its description cannot be used.
    pub async fn infer(audience: String) -> Result<Self, ConnectError> {
        let mut config = Config::infer().await.map_err(ConnectError::Config)?;
        // Who is waiting comes back by itself, and sooner.
        config.default_retry = false;
        let client = Client::try_from(config).map_err(ConnectError::Client)?;
        Ok(Self { client, audience })
    }

    async fn ask(&self, token: &str) -> Result<Review, Unavailable> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![self.audience.clone()]),
                token: token.to_owned(),
            },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let parameters = PostParams::default();
        let answer = patient(reviews.create(&parameters, &review)).await?;
        let status = answer.status.unwrap_or_default();
        Ok(read(status, &self.audience))
    }

    async fn look_up(&self, pod: &NamespacedName) -> Result<Option<NamespacedName>, Unavailable> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        let found = patient(pods.get_opt(&pod.name)).await?;
        Ok(found.map(|found| {
            let account = found.spec.and_then(|spec| spec.service_account_name);
            // As the API server's admission fills it in.
            let account = account.filter(|name| !name.is_empty());
            NamespacedName::new(
                pod.namespace.clone(),
                account.unwrap_or_else(|| "default".to_owned()),
            )
        }))
    }
}

impl Authority for ApiServer {
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Review, Unavailable>> {
        Box::pin(self.ask(token))
    }

    fn account_of<'a>(
        &'a self,
        pod: &'a NamespacedName,
    ) -> BoxFuture<'a, Result<Option<NamespacedName>, Unavailable>> {
        Box::pin(self.look_up(pod))
    }
}

async fn patient<T>(
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Unavailable> {
    match timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(Unavailable(status.message)),
        Ok(Err(error)) => Err(Unavailable(error.to_string())),
        Err(_) => Err(Unavailable(format!("no answer within {PATIENCE:?}"))),
    }
}

/// Reads a verdict. What is not said clearly is a refusal.
fn read(status: TokenReviewStatus, audience: &str) -> Review {
    let reject = |reason: String| Review::Rejected(reason);
    if status.authenticated != Some(true) {
        let reason = status.error.filter(|error| !error.is_empty());
        return reject(reason.unwrap_or_else(|| "it does not know the token".to_owned()));
    }
    // One that knows nothing of audiences would have taken a token for anybody.
    let audiences = status.audiences.unwrap_or_default();
    if !audiences.iter().any(|found| found == audience) {
        return reject(format!(
            "the token is for the audiences {audiences:?}, not for {audience:?}"
        ));
    }
    let user = status.user.unwrap_or_default();
    let Some(account) = account(&user) else {
        let name = user.username.unwrap_or_default();
        return reject(format!("user {name:?} is no service account"));
    };
    Review::Authenticated(Bearer {
        account,
        pod: extra(&user, POD_NAME),
        pod_uid: extra(&user, POD_UID),
        node: extra(&user, NODE_NAME),
    })
}

fn account(user: &UserInfo) -> Option<NamespacedName> {
    let name = user.username.as_deref()?.strip_prefix(ACCOUNT_PREFIX)?;
    let (namespace, name) = name.split_once(':')?;
    Some(NamespacedName::new(namespace, name))
}

/// The one value of an extra; two would name nobody.
fn extra(user: &UserInfo, key: &str) -> Option<std::sync::Arc<str>> {
    match user.extra.as_ref()?.get(key)?.as_slice() {
        [value] if !value.is_empty() => Some(value.as_str().into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn status(username: &str, audiences: &[&str], extra: &[(&str, &[&str])]) -> TokenReviewStatus {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let extra: BTreeMap<String, Vec<String>> = extra
            .iter()
            .map(|(key, values)| ((*key).to_owned(), texts(values)))
            .collect();
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(texts(audiences)),
            error: None,
            user: Some(UserInfo {
                username: Some(username.to_owned()),
                extra: Some(extra),
                ..UserInfo::default()
            }),
        }
    }

    fn rejection(status: TokenReviewStatus) -> String {
        match read(status, "sidewall") {
            Review::Rejected(reason) => reason,
            Review::Authenticated(bearer) => panic!("{bearer:?}"),
        }
    }

    #[test]
    fn a_bound_token_names_its_account_pod_and_node() {
        let extra: &[(&str, &[&str])] = &[
            (POD_NAME, &["db-0"]),
            (POD_UID, &["u1"]),
            (NODE_NAME, &["one"]),
        ];
        let status = status("system:serviceaccount:shop:db", &["sidewall", "x"], extra);
        let bearer = Bearer {
            account: NamespacedName::new("shop", "db"),
            pod: Some("db-0".into()),
            pod_uid: Some("u1".into()),
            node: Some("one".into()),
        };
        assert_eq!(read(status, "sidewall"), Review::Authenticated(bearer));
    }

    #[test]
    fn what_is_not_said_once_is_not_known() {
        let extra: &[(&str, &[&str])] = &[(POD_NAME, &["db-0", "db-1"]), (NODE_NAME, &[""])];
        let status = status("system:serviceaccount:shop:db", &["sidewall"], extra);
        let bearer = Bearer {
            account: NamespacedName::new("shop", "db"),
            pod: None,
            pod_uid: None,
            node: None,
        };
        assert_eq!(read(status, "sidewall"), Review::Authenticated(bearer));
    }

    #[test]
    fn a_refusal_is_given_in_the_api_servers_words() {
        let refused = TokenReviewStatus {
            error: Some("token has expired".to_owned()),
            ..TokenReviewStatus::default()
        };
        assert_eq!(rejection(refused), "token has expired");
        assert_eq!(
            rejection(TokenReviewStatus::default()),
            "it does not know the token"
        );
    }

    #[test]
    fn without_our_audience_a_token_is_for_somebody_else() {
        for audiences in [&["https://kubernetes.default.svc"][..], &[]] {
            let reason = rejection(status("system:serviceaccount:shop:db", audiences, &[]));
            assert!(reason.contains("not for \"sidewall\""), "{reason}");
        }
    }

    #[test]
    fn people_have_no_snapshot() {
        for name in [
            "kubernetes-admin",
            "system:node:one",
            "system:serviceaccount:shop",
        ] {
            let reason = rejection(status(name, &["sidewall"], &[]));
            assert_eq!(reason, format!("user {name:?} is no service account"));
        }
    }
}
