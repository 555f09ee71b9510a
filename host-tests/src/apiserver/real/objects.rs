//! What users, kubelets and controllers do to objects.

use axum::body::to_bytes;
use axum::http::{Method, Request, StatusCode, header};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::super::place::{Place, root};
use super::super::resource::{RESOURCES, Resource};
use super::Real;

/// More than any answer has, in bytes.
const MAX_ANSWER: usize = 256 << 20;

impl Real {
    /// Creates or replaces an object together with its status.
    pub(in crate::apiserver) fn put(&self, object: &Value) -> Result<(), String> {
        let place = Place::of(object)?;
        match self.get(&place.path())? {
            (StatusCode::NOT_FOUND, _) => self.create(&place, object)?,
            (StatusCode::OK, current) => self.replace(&place, &current, object)?,
            other => return Err(refusal(other)),
        }
        if place.resource.has_status && !object["status"].is_null() {
            self.put_status(object)?;
        }
        Ok(())
    }

    /// Writes the status of an object that is there.
    pub(in crate::apiserver) fn put_status(&self, object: &Value) -> Result<(), String> {
        let path = Place::of(object)?.path();
        let mut current = self.found(&path)?;
        current["status"] = object["status"].clone();
        self.done(Method::PUT, &format!("{path}/status"), &current)
    }

    /// Removes an object at once, and with a namespace all that is in it, for no controller does.
    pub(in crate::apiserver) fn remove(&self, object: &Value) -> Result<(), String> {
        let place = Place::of(object)?;
        if place.resource == Resource::namespaces() {
            for resource in RESOURCES.iter().filter(|it| it.namespaced) {
                let inside = Place {
                    resource,
                    namespace: place.name.clone(),
                    name: String::new(),
                };
                self.done(Method::DELETE, &inside.collection(), &at_once())?;
            }
        }
        self.done(Method::DELETE, &place.path(), &at_once())?;
        if place.resource == Resource::namespaces() {
            let mut namespace = self.found(&place.path())?;
            namespace["spec"]["finalizers"] = json!([]);
            self.done(
                Method::PUT,
                &format!("{}/finalize", place.path()),
                &namespace,
            )?;
        }
        Ok(())
    }

    /// Every object of the kinds that are of interest.
    pub(in crate::apiserver) fn objects(&self) -> Result<Vec<Value>, String> {
        let mut objects = Vec::new();
        for resource in &RESOURCES {
            let mut list = self.found(&format!("{}/{}", root(resource), resource.plural))?;
            let items = list["items"].as_array_mut().map(std::mem::take);
            for mut object in items.unwrap_or_default() {
                // Items of lists do not say what they are.
                object["apiVersion"] = json!(resource.api_version());
                object["kind"] = json!(resource.kind);
                objects.push(object);
            }
        }
        Ok(objects)
    }

    /// The uid of an account, which is made if it is not there.
    pub(in crate::apiserver) fn account(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<String, String> {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "namespace": namespace, "name": name },
        });
        let place = Place::of(&account)?;
        if self.get(&place.path())?.0 == StatusCode::NOT_FOUND {
            self.create(&place, &account)?;
        }
        let account = self.found(&place.path())?;
        let uid = account["metadata"]["uid"].as_str().ok_or("no uid")?;
        Ok(uid.to_owned())
    }

    pub(super) fn get(&self, path: &str) -> Result<(StatusCode, Value), String> {
        self.ask(&self.client, Method::GET, path, &Value::Null)
    }

    pub(super) fn found(&self, path: &str) -> Result<Value, String> {
        match self.get(path)? {
            (StatusCode::OK, found) => Ok(found),
            other => Err(refusal(other)),
        }
    }

    /// Whatever an answer says, and its status.
    pub(super) fn ask(
        &self,
        client: &Client,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<(StatusCode, Value), String> {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .map_err(|error| error.to_string())?;
        self.runtime.block_on(async {
            let answer = client.send(request).await.map_err(|error| chain(&error))?;
            let status = answer.status();
            let body = to_bytes(axum::body::Body::new(answer.into_body()), MAX_ANSWER);
            let body = body.await.map_err(|error| chain(&error))?;
            let said = serde_json::from_slice(&body);
            let text = || Value::from(String::from_utf8_lossy(&body).into_owned());
            Ok((status, said.unwrap_or_else(|_| text())))
        })
    }

    fn create(&self, place: &Place, object: &Value) -> Result<(), String> {
        self.done(Method::POST, &place.collection(), object)
    }

    /// As an update, or if it cannot be that (a pod on another node), as another object of the name.
    fn replace(&self, place: &Place, current: &Value, object: &Value) -> Result<(), String> {
        let mut new = object.clone();
        new["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"].clone();
        match self.ask(&self.client, Method::PUT, &place.path(), &new)? {
            (status, _) if status.is_success() => Ok(()),
            (StatusCode::UNPROCESSABLE_ENTITY, _) => {
                self.done(Method::DELETE, &place.path(), &at_once())?;
                self.create(place, object)
            }
            other => Err(refusal(other)),
        }
    }

    fn done(&self, method: Method, path: &str, body: &Value) -> Result<(), String> {
        match self.ask(&self.client, method, path, body)? {
            (status, _) if status.is_success() => Ok(()),
            other => Err(refusal(other)),
        }
    }
}

fn at_once() -> Value {
    json!({ "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0 })
}

pub(super) fn refusal((status, said): (StatusCode, Value)) -> String {
    let message = said["message"].as_str().map(str::to_owned);
    format!("{status}: {}", message.unwrap_or_else(|| said.to_string()))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
