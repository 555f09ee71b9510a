//! What etcd holds, past the API server: its revisions, and objects that the API server would refuse.

use std::fs;

use axum::http::{Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::place::Place;
use super::objects::refusal;
use super::{Real, system};

/// Where the API server keeps everything, and the first key behind it.
const REGISTRY: [&str; 2] = ["/registry/", "/registry0"];

impl Real {
    /// Forgets what was before, and lets the API server forget it too.
    pub(in crate::apiserver) fn compact(&self) -> Result<(), String> {
        let revision = self.revision()?;
        self.history(
            "compaction",
            &json!({ "revision": revision, "physical": true }),
        )?;
        self.restart().map_err(|error| error.to_string())
    }

    /// Puts everything into a new etcd, which begins to count revisions anew.
    pub(in crate::apiserver) fn rewind(&self) -> Result<(), String> {
        let [from, to] = REGISTRY.map(|key| STANDARD.encode(key));
        let all = self.history("range", &json!({ "key": from, "range_end": to }))?;
        let all = all["kvs"].as_array().ok_or("etcd is empty")?;
        let puts = all
            .iter()
            .map(|it| json!({ "requestPut": { "key": it["key"], "value": it["value"] } }));
        let puts: Vec<Value> = puts.collect();
        let data = self.data();
        let emptied = || fs::remove_dir_all(&data).map_err(system(data.display().to_string()));
        let seeded = || self.history("txn", &json!({ "success": puts })).map(drop);
        self.restart_on(emptied, seeded)
            .map_err(|error| error.to_string())
    }

    /// Creates or replaces an object as an older or a newer API server would have kept it.
    pub(in crate::apiserver) fn put_unchecked(&self, object: &Value) -> Result<(), String> {
        let place = Place::of(object)?;
        let key = format!(
            "/registry/{}/{}/{}",
            place.resource.plural, place.namespace, place.name
        );
        let key = STANDARD.encode(key);
        let kept = match self.history("range", &json!({ "key": key }))?["kvs"][0]["value"].as_str()
        {
            Some(kept) => Some(match text(kept) {
                Some(kept) => kept,
                // The API server keeps what it writes in another form, which it alone can read.
                None => self.found(&place.path())?,
            }),
            None => None,
        };
        let mut object = object.clone();
        let metadata = &mut object["metadata"];
        let serial = self.revision()?;
        metadata["uid"] = json!(format!("00000000-0000-4000-8000-{serial:0>12}"));
        metadata["creationTimestamp"] =
            json!(Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        metadata["generation"] = json!(1);
        if let Some(kept) = kept {
            for field in ["uid", "creationTimestamp"] {
                object["metadata"][field] = kept["metadata"][field].clone();
            }
            let generation = kept["metadata"]["generation"].as_i64().unwrap_or(1);
            let changed = i64::from(kept["spec"] != object["spec"]);
            object["metadata"]["generation"] = json!(generation + changed);
        }
        let value = STANDARD.encode(object.to_string());
        self.history("put", &json!({ "key": key, "value": value }))
            .map(drop)
    }

    /// The revision that etcd has come to.
    pub(super) fn revision(&self) -> Result<String, String> {
        let answer = self.history("range", &json!({ "key": STANDARD.encode("/") }))?;
        let revision = answer["header"]["revision"].as_str().ok_or("no revision")?;
        Ok(revision.to_owned())
    }

    /// Asks etcd by its JSON gateway.
    pub(super) fn history(&self, what: &str, body: &Value) -> Result<Value, String> {
        match self.ask(&self.etcd, Method::POST, &format!("/v3/kv/{what}"), body)? {
            (StatusCode::OK, answer) => Ok(answer),
            other => Err(format!("etcd, {what}: {}", refusal(other))),
        }
    }
}

/// What etcd keeps, if it is an object as text.
fn text(value: &str) -> Option<Value> {
    serde_json::from_slice(&STANDARD.decode(value).ok()?).ok()
}
