//! Answers: objects, and refusals as an API server words them.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::resource::Resource;

/// Why a request is refused; becomes a `Status` object.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::apiserver) struct Refusal {
    pub(in crate::apiserver) code: StatusCode,
    /// In one word, which clients look at.
    pub(in crate::apiserver) reason: &'static str,
    pub(in crate::apiserver) message: String,
    pub(in crate::apiserver) retry_after: Option<u32>,
    /// What is wrong with which field; `kubectl` shows nothing else of an invalid object.
    details: Value,
}

/// What a request comes to.
pub(in crate::apiserver) type Answer<T> = Result<T, Refusal>;

impl Refusal {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            retry_after: None,
            details: Value::Null,
        }
    }

    pub(in crate::apiserver) fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} not found", resource.qualified());
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub(in crate::apiserver) fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub(in crate::apiserver) fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", resource.qualified());
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message)
    }

    pub(in crate::apiserver) fn conflict(resource: &Resource, name: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: the object has been modified; please apply your changes to the latest version and try again",
            resource.qualified()
        );
        Self::new(StatusCode::CONFLICT, "Conflict", message)
    }

    /// The patch is meant for an object that had this name before. The real one does not tell it apart from
    /// an attempt to change what an object is.
    pub(in crate::apiserver) fn other_uid(resource: &Resource, name: &str, given: &Value) -> Self {
        let what = format!("metadata.uid: Invalid value: {given}: field is immutable");
        Self::invalid(resource.kind, name, &[what])
    }

    pub(in crate::apiserver) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(in crate::apiserver) fn forbidden(resource: &str) -> Self {
        let message = format!(
            "{resource} is forbidden: User \"anybody\" cannot list resource \"{resource}\" at the cluster scope"
        );
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    pub(in crate::apiserver) fn unsupported_media(kind: &str) -> Self {
        let message = format!(
            "bodies of type {kind:?} are not served here; send JSON, as `kubectl apply` does"
        );
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            message,
        )
    }

    pub(in crate::apiserver) fn not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// `what` is wrong, each as `field: reason`.
    pub(in crate::apiserver) fn invalid(kind: &str, name: &str, what: &[String]) -> Self {
        let cause = |what: &String| {
            let (field, message) = what.split_once(": ").unwrap_or_default();
            json!({ "reason": "FieldValueInvalid", "field": field, "message": message })
        };
        let causes: Vec<Value> = what.iter().map(cause).collect();
        let what = match what {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{kind} {name:?} is invalid: {what}");
        Self {
            details: json!({ "name": name, "kind": kind, "causes": causes }),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
        }
    }

    /// The history that was asked for has been compacted.
    pub(in crate::apiserver) fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// The server fails, for a test wants it to.
    pub(in crate::apiserver) fn failing(code: StatusCode, retry_after: Option<u32>) -> Self {
        let reason = match code {
            StatusCode::FORBIDDEN => "Forbidden",
            StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
            StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
            _ => "InternalError",
        };
        Self {
            retry_after,
            ..Self::new(code, reason, "the server is told to fail")
        }
    }

    /// The `Status` object.
    pub(in crate::apiserver) fn status(&self) -> Value {
        let mut status = json!({
            "apiVersion": "v1",
            "kind": "Status",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        });
        status["details"] = self.details.clone();
        if let Some(seconds) = self.retry_after {
            status["details"]["retryAfterSeconds"] = json!(seconds);
        }
        status
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.code, Json(self.status())).into_response();
        if let Some(seconds) = self.retry_after {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
