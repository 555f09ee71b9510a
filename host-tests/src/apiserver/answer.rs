//! Answers: objects, and refusals as an API server words them.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::resource::Resource;

/// Why a request is refused; becomes a `Status` object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) code: StatusCode,
    /// In one word, which clients look at.
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) retry_after: Option<u32>,
    /// What is wrong with which field; `kubectl` shows nothing else of an invalid object.
    details: Value,
}

/// What a request comes to.
pub(super) type Answer<T> = Result<T, Refusal>;

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

    pub(super) fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} not found", resource.qualified());
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub(super) fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub(super) fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", resource.qualified());
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message)
    }

    pub(super) fn conflict(resource: &Resource, name: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: the object has been modified; please apply your changes to the latest version and try again",
            resource.qualified()
        );
        Self::new(StatusCode::CONFLICT, "Conflict", message)
    }

    /// The patch is meant for an object that had this name before.
    pub(super) fn other_uid(resource: &Resource, name: &str, given: &Value, uid: &Value) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: Precondition failed: UID in precondition: {given}, UID in object meta: {uid}",
            resource.qualified()
        );
        Self::new(StatusCode::CONFLICT, "Conflict", message)
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(super) fn forbidden(resource: &str) -> Self {
        let message = format!(
            "{resource} is forbidden: User \"anybody\" cannot list resource \"{resource}\" at the cluster scope"
        );
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    pub(super) fn unsupported_media(kind: &str) -> Self {
        let message = format!(
            "bodies of type {kind:?} are not served here; send JSON, as `kubectl apply` does"
        );
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            message,
        )
    }

    pub(super) fn not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// `what` is wrong, each as `field: reason`.
    pub(super) fn invalid(kind: &str, name: &str, what: &[String]) -> Self {
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
    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// A revision that has not been yet: the client knows more than this server.
    pub(super) fn too_large(given: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {given}, current: {current}");
        Self {
            retry_after: Some(1),
            ..Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
        }
    }

    /// The server fails, for a test wants it to.
    pub(super) fn failing(code: StatusCode, retry_after: Option<u32>) -> Self {
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
    pub(super) fn status(&self) -> Value {
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
