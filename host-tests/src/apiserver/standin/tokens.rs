//! Tokens of service accounts, and what a TokenReview says of them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::apiserver::answer::{Answer, Refusal};
use crate::apiserver::tokens::{ISSUER, Token};

/// The tokens that are known.
#[derive(Debug, Default)]
pub(super) struct Tokens(BTreeMap<String, Token>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Review {
    #[serde(rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(rename = "kind")]
    _kind: Option<String>,
    #[serde(default)]
    metadata: Value,
    spec: Spec,
    #[serde(default, rename = "status")]
    _status: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    #[serde(default)]
    token: String,
    #[serde(default)]
    audiences: Vec<String>,
}

impl Tokens {
    pub(super) fn insert(&mut self, token: String, meaning: Token) {
        self.0.insert(token, meaning);
    }

    /// Answers a TokenReview. `exists` knows of a pod by namespace, name and uid.
    pub(super) fn review(
        &self,
        body: &[u8],
        now: SystemTime,
        exists: impl Fn(&str, &str, &str) -> bool,
    ) -> Answer<Value> {
        let review: Review = serde_json::from_slice(body)
            .map_err(|error| Refusal::bad_request(format!("TokenReview: {error}")))?;
        let Spec { token, audiences } = review.spec;
        if token.is_empty() {
            let what = ["spec.token: Required value".to_owned()];
            return Err(Refusal::invalid("TokenReview", "", &what));
        }
        let status = match self.authenticate(&token, &audiences, now, exists) {
            Ok((meaning, matching)) => json!({
                "authenticated": true,
                "user": user(meaning),
                "audiences": matching,
            }),
            // An API server leaves `authenticated` out when it is false.
            Err(why) => json!({ "user": {}, "error": format!("[invalid bearer token, {why}]") }),
        };
        Ok(json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "metadata": review.metadata,
            "spec": { "token": token, "audiences": audiences },
            "status": status,
        }))
    }

    fn authenticate(
        &self,
        token: &str,
        asked: &[String],
        now: SystemTime,
        exists: impl Fn(&str, &str, &str) -> bool,
    ) -> Result<(&Token, Vec<String>), String> {
        let meaning = self.0.get(token).ok_or("unknown token")?;
        if meaning.expires.is_some_and(|expires| expires <= now) {
            return Err("service account token has expired".to_owned());
        }
        if let Some((pod, uid)) = &meaning.pod
            && !exists(&meaning.namespace, pod, uid)
        {
            return Err("service account token has been invalidated".to_owned());
        }
        let default = [ISSUER.to_owned()];
        let or_default = |given: &[String]| {
            if given.is_empty() {
                default.to_vec()
            } else {
                given.to_vec()
            }
        };
        let (held, asked) = (or_default(&meaning.audiences), or_default(asked));
        let matching: Vec<String> = held
            .iter()
            .filter(|it| asked.contains(it))
            .cloned()
            .collect();
        if matching.is_empty() {
            return Err(format!(
                "token audiences {held:?} is invalid for the target audiences {asked:?}"
            ));
        }
        Ok((meaning, matching))
    }
}

/// Who a token says that its bearer is.
fn user(token: &Token) -> Value {
    let Token {
        namespace,
        service_account,
        pod,
        node,
        ..
    } = token;
    let mut extra = json!({});
    for (what, bound) in [("pod", pod), ("node", node)] {
        if let Some((name, uid)) = bound {
            extra[format!("authentication.kubernetes.io/{what}-name")] = json!([name]);
            extra[format!("authentication.kubernetes.io/{what}-uid")] = json!([uid]);
        }
    }
    json!({
        "username": format!("system:serviceaccount:{namespace}:{service_account}"),
        "uid": format!("uid-of-{namespace}-{service_account}"),
        "groups": [
            "system:serviceaccounts",
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated",
        ],
        "extra": extra,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn review(audiences: &[&str], spec: &Value) -> Value {
        let mut tokens = Tokens::default();
        let token = Token {
            audiences: audiences.iter().map(|&it| it.to_owned()).collect(),
            namespace: "shop".to_owned(),
            service_account: "web".to_owned(),
            pod: Some(("web-1".to_owned(), "u1".to_owned())),
            node: Some(("one".to_owned(), "u2".to_owned())),
            expires: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(100)),
        };
        tokens.insert("secret".to_owned(), token);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(spec["now"].as_u64().unwrap_or(0));
        let body = json!({ "spec": { "token": spec["token"], "audiences": spec["audiences"] } });
        let exists = |_: &str, pod: &str, _: &str| Some(pod) != spec["gone"].as_str();
        let review = tokens.review(body.to_string().as_bytes(), now, exists);
        review.unwrap()["status"].clone()
    }

    #[test]
    fn a_good_token_names_account_pod_and_node() {
        let status = review(
            &["sidewall"],
            &json!({ "token": "secret", "audiences": ["sidewall"] }),
        );
        assert_eq!(status["authenticated"], true);
        assert_eq!(status["audiences"], json!(["sidewall"]));
        assert_eq!(status["user"]["username"], "system:serviceaccount:shop:web");
        let extra = &status["user"]["extra"];
        assert_eq!(
            extra["authentication.kubernetes.io/pod-name"],
            json!(["web-1"])
        );
        assert_eq!(extra["authentication.kubernetes.io/pod-uid"], json!(["u1"]));
        assert_eq!(
            extra["authentication.kubernetes.io/node-name"],
            json!(["one"])
        );
    }

    #[test]
    fn others_are_refused_with_a_reason() {
        for (audiences, spec, why) in [
            (
                &["sidewall"][..],
                json!({ "token": "x", "audiences": ["sidewall"] }),
                "unknown token",
            ),
            (
                &["other"],
                json!({ "token": "secret", "audiences": ["sidewall"] }),
                "audiences",
            ),
            (
                &[],
                json!({ "token": "secret", "audiences": ["sidewall"] }),
                "audiences",
            ),
            (
                &["sidewall"],
                json!({ "token": "secret", "audiences": ["sidewall"], "now": 100 }),
                "expired",
            ),
            (
                &["sidewall"],
                json!({ "token": "secret", "audiences": ["sidewall"], "gone": "web-1" }),
                "invalidated",
            ),
        ] {
            let status = review(audiences, &spec);
            assert_eq!(status["authenticated"], Value::Null);
            assert!(status["error"].as_str().unwrap().contains(why), "{status}");
        }
    }
}
