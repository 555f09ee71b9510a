//! From paths and parameters to what is to be done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::admission::Unknown;
use super::selector::Selector;
use super::store::{Key, Page, Scope};
use super::watch::{self, Wish};
use super::write::{change, create, delete};
use super::{StandIn, discovery, events, patch};
use crate::apiserver::answer::{Answer, Refusal};
use crate::apiserver::resource::Resource;

/// The schemas of all kinds, as `kubectl` asks for them when it cannot do without.
const OPENAPI_V2: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// A request, taken apart.
pub(in crate::apiserver) struct Request {
    pub(in crate::apiserver) method: Method,
    pub(in crate::apiserver) uri: Uri,
    pub(in crate::apiserver) headers: HeaderMap,
    pub(in crate::apiserver) body: Bytes,
}

impl Request {
    pub(super) fn content_type(&self) -> &str {
        let given = self.headers.get(header::CONTENT_TYPE);
        let given = given
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        given.split(';').next().unwrap_or_default()
    }
}

/// What a path names.
pub(super) struct Target {
    pub(super) resource: &'static Resource,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) status: bool,
}

/// The parameters of a request.
struct Parameters(BTreeMap<String, String>);

impl Parameters {
    fn read(uri: &Uri) -> Answer<Self> {
        let query: axum::extract::Query<BTreeMap<String, String>> =
            axum::extract::Query::try_from_uri(uri)
                .map_err(|error| Refusal::bad_request(error.to_string()))?;
        Ok(Self(query.0))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn is_set(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1"))
    }

    fn unknown_fields(&self) -> Unknown {
        match self.get("fieldValidation") {
            Some("Strict") => Unknown::Refused,
            _ => Unknown::Dropped,
        }
    }
}

/// Answers a request.
pub(in crate::apiserver) fn answer(shared: &Arc<StandIn>, request: &Request) -> Answer<Response> {
    let path: Vec<&str> = request
        .uri
        .path()
        .split('/')
        .filter(|it| !it.is_empty())
        .collect();
    if request.method == Method::GET
        && let Some(found) = discovery::answer(&path)
    {
        return Ok(Json(found).into_response());
    }
    if path == ["openapi", "v2"] {
        // A document without schemas, in the encoding that `kubectl` asks for: it validates nothing then.
        let headers = [(header::CONTENT_TYPE, OPENAPI_V2)];
        return Ok((headers, Bytes::new()).into_response());
    }
    if path == ["apis", "authentication.k8s.io", "v1", "tokenreviews"] {
        if request.method != Method::POST {
            return Err(Refusal::not_allowed());
        }
        let exists = |namespace: &str, name: &str, uid: &str| {
            let pod = Key {
                resource: Resource::pods(),
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            };
            let store = shared.store();
            store
                .get(&pod)
                .is_ok_and(|pod| pod["metadata"]["uid"] == uid)
        };
        let now = SystemTime::now();
        let reviewed = shared.tokens().review(&request.body, now, exists)?;
        return Ok((StatusCode::CREATED, Json(reviewed)).into_response());
    }
    if let [
        "apis",
        "events.k8s.io",
        "v1",
        "namespaces",
        namespace,
        "events",
    ] = path.as_slice()
    {
        if request.method != Method::POST {
            return Err(Refusal::not_allowed());
        }
        let unknown = Parameters::read(&request.uri)?.unknown_fields();
        let event = read(&request.body)?;
        let in_core = ["api", "v1", "namespaces", *namespace, "events"];
        let target = target(&in_core).ok_or_else(Refusal::no_such_path)?;
        let created = create(shared, &target, &events::to_core(&event, unknown)?, unknown)?;
        let mut answer = event;
        answer["metadata"] = created["metadata"].clone();
        return Ok((StatusCode::CREATED, Json(answer)).into_response());
    }
    let target = target(&path).ok_or_else(Refusal::no_such_path)?;
    if request.content_type() == "application/vnd.kubernetes.protobuf" {
        return Err(Refusal::unsupported_media(request.content_type()));
    }
    let parameters = Parameters::read(&request.uri)?;
    if parameters.get("dryRun").is_some() {
        return Err(Refusal::bad_request("dryRun is not served here"));
    }
    match (&request.method, &target.name) {
        (&Method::GET, None) => list_or_watch(shared, &target, &parameters),
        (&Method::GET, Some(name)) => {
            let key = target.key(name)?;
            Ok(Json(&**shared.store().get(&key)?).into_response())
        }
        (&Method::POST, None) => {
            let body = read(&request.body)?;
            let created = create(shared, &target, &body, parameters.unknown_fields())?;
            Ok((StatusCode::CREATED, Json(&*created)).into_response())
        }
        (&Method::PUT, Some(name)) => {
            let body = read(&request.body)?;
            let key = target.key(name)?;
            let unknown = parameters.unknown_fields();
            let write = |object: &mut Value| {
                *object = body;
                Ok(())
            };
            let changed = change(shared, &target, key, unknown, write)?;
            Ok(Json(&*changed).into_response())
        }
        (&Method::PATCH, Some(name)) => {
            let key = target.key(name)?;
            let unknown = parameters.unknown_fields();
            let write = |object: &mut Value| {
                let uid = object["metadata"]["uid"].clone();
                patch::apply(
                    target.resource,
                    request.content_type(),
                    &request.body,
                    object,
                )?;
                let given = &object["metadata"]["uid"];
                if *given != uid {
                    let refusal = Refusal::other_uid(target.resource, name, given);
                    return Err(refusal);
                }
                Ok(())
            };
            let changed = change(shared, &target, key, unknown, write)?;
            Ok(Json(&*changed).into_response())
        }
        (&Method::DELETE, Some(name)) if !target.status => {
            let key = target.key(name)?;
            let deleted = delete(shared, key, grace(&parameters, &request.body)?)?;
            Ok(Json(&*deleted).into_response())
        }
        (&Method::DELETE, None) => {
            let scope = scope(&target, &parameters)?;
            let grace = grace(&parameters, &request.body)?;
            let keys: Vec<Key> = shared
                .store()
                .all(&scope)
                .map(|(key, _)| key.clone())
                .collect();
            for key in keys {
                delete(shared, key, grace)?;
            }
            Ok(
                Json(json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" }))
                    .into_response(),
            )
        }
        _ => Err(Refusal::not_allowed()),
    }
}

fn target(path: &[&str]) -> Option<Target> {
    let (group, version, rest) = match path {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", _, "status"] => (None, rest),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => {
            (Some((*namespace).to_owned()), rest)
        }
        _ => (None, rest),
    };
    let (plural, name, status) = match rest {
        [plural] => (plural, None, false),
        [plural, name] => (plural, Some((*name).to_owned()), false),
        [plural, name, "status"] => (plural, Some((*name).to_owned()), true),
        _ => return None,
    };
    let resource = Resource::find(group, version, plural)?;
    let fits = resource.namespaced || namespace.is_none();
    (fits && (resource.has_status || !status)).then_some(Target {
        resource,
        namespace,
        name,
        status,
    })
}

impl Target {
    pub(super) fn key(&self, name: &str) -> Answer<Key> {
        if self.resource.namespaced && self.namespace.is_none() {
            return Err(Refusal::no_such_path());
        }
        Ok(Key {
            resource: self.resource,
            namespace: self.namespace.clone().unwrap_or_default(),
            name: name.to_owned(),
        })
    }
}

fn scope(target: &Target, parameters: &Parameters) -> Answer<Scope> {
    let (labels, fields) = (
        parameters.get("labelSelector"),
        parameters.get("fieldSelector"),
    );
    Ok(Scope {
        resource: target.resource,
        namespace: target.namespace.clone(),
        selector: Selector::read(labels, fields)?,
    })
}

fn list_or_watch(
    shared: &Arc<StandIn>,
    target: &Target,
    parameters: &Parameters,
) -> Answer<Response> {
    let scope = scope(target, parameters)?;
    if parameters.is_set("watch") {
        let seconds = parameters
            .get("timeoutSeconds")
            .and_then(|it| it.parse().ok());
        let wish = Wish {
            since: parameters
                .get("resourceVersion")
                .unwrap_or_default()
                .to_owned(),
            bookmarks: parameters.is_set("allowWatchBookmarks"),
            initial_events: parameters.is_set("sendInitialEvents"),
            timeout: seconds.map(Duration::from_secs),
        };
        return watch::answer(shared, scope, &wish);
    }
    let limit = parameters.get("limit").map_or(Ok(0), str::parse);
    let limit = limit.map_err(|_| Refusal::bad_request("limit: must be a number"))?;
    let mut store = shared.store();
    let Page {
        revision,
        items,
        rest,
    } = match parameters.get("continue").filter(|it| !it.is_empty()) {
        Some(token) => store.list_on(token, limit)?,
        None => store.list(&scope, limit),
    };
    let mut metadata = json!({ "resourceVersion": revision.to_string() });
    if let Some((token, remaining)) = rest {
        metadata["continue"] = json!(token);
        metadata["remainingItemCount"] = json!(remaining);
    }
    let kind = format!("{}List", target.resource.kind);
    let version = target.resource.api_version();
    // The items are shared with the store, and there may be very many of them.
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    let list = format!(
        r#"{{"kind":"{kind}","apiVersion":"{version}","metadata":{metadata},"items":[{}]}}"#,
        items.join(",")
    );
    let headers = [(header::CONTENT_TYPE, "application/json")];
    Ok((headers, list).into_response())
}

fn read(body: &[u8]) -> Answer<Value> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad_request(error.to_string()))
}

/// How long a pod may take to end, if the request says so.
fn grace(parameters: &Parameters, body: &[u8]) -> Answer<Option<u64>> {
    let in_body = if body.is_empty() {
        None
    } else {
        read(body)?["gracePeriodSeconds"].as_u64()
    };
    let in_query = parameters
        .get("gracePeriodSeconds")
        .and_then(|it| it.parse().ok());
    Ok(in_body.or(in_query))
}
