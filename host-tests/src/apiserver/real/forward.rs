//! From the front to the API server, and back as it comes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt as _, stream};
use kube::Client;
use tokio::time::timeout;

use super::super::faults::Faults;
use super::super::standin::request::Request;

/// Of one connection, or of whom it leads to.
const NOT_PASSED_ON: [HeaderName; 4] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
];

/// After such a pause a watch has said what there is to say.
const PAUSE: Duration = Duration::from_millis(50);

/// Who is spoken for.
pub(in crate::apiserver) struct Callers {
    /// An administrator: whoever does not say who he is.
    pub(super) anybody: Client,
    /// Whoever says so.
    pub(super) bearer: Client,
}

/// Passes a request on.
pub(in crate::apiserver) async fn forward(
    callers: &Callers,
    request: Request,
    faults: &Arc<Faults>,
) -> Response {
    let is_watch = is_watch(&request.uri);
    let mut onward = axum::http::Request::new(kube::client::Body::from(request.body.to_vec()));
    *onward.method_mut() = request.method;
    let path = request.uri.path_and_query().map_or("/", |it| it.as_str());
    *onward.uri_mut() = match path.parse() {
        Ok(uri) => uri,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}")).into_response(),
    };
    let client = if request.headers.contains_key(header::AUTHORIZATION) {
        &callers.bearer
    } else {
        &callers.anybody
    };
    *onward.headers_mut() = passed_on(request.headers);
    match client.send(onward).await {
        Ok(answer) => {
            let (mut parts, body) = answer.into_parts();
            parts.headers = passed_on(parts.headers);
            let body = Body::new(body);
            let body = if is_watch {
                watched(body, faults)
            } else {
                body
            };
            Response::from_parts(parts, body)
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

fn passed_on(mut headers: HeaderMap) -> HeaderMap {
    for name in NOT_PASSED_ON {
        headers.remove(name);
    }
    headers
}

fn is_watch(uri: &Uri) -> bool {
    let query = uri.query().unwrap_or_default();
    query
        .split('&')
        .any(|it| matches!(it, "watch=true" | "watch=1"))
}

/// A watch that ends or breaks off when the faults say so.
struct Watched {
    events: BodyDataStream,
    faults: Arc<Faults>,
    hasty: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Cut,
    Ended,
}

fn watched(body: Body, faults: &Arc<Faults>) -> Body {
    let watch = Watched {
        events: body.into_data_stream(),
        faults: Arc::clone(faults),
        hasty: faults.is_hasty(),
        state: State::Open,
    };
    Body::from_stream(stream::unfold(watch, |mut watch| async move {
        let piece = watch.next().await?;
        Some((piece, watch))
    }))
}

impl Watched {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        match self.state {
            State::Open => {}
            State::Cut => {
                self.state = State::Ended;
                return Some(Err(io::ErrorKind::ConnectionReset.into()));
            }
            State::Ended => return None,
        }
        // Each is sent in a piece of its own.
        let event = if self.hasty {
            timeout(PAUSE, self.events.next()).await.ok()??
        } else {
            self.events.next().await?
        };
        Some(match event {
            Ok(event) if self.faults.take_cut() => {
                self.state = State::Cut;
                Ok(event.slice(..event.len() / 2))
            }
            Ok(event) => Ok(event),
            Err(error) => Err(io::Error::other(error)),
        })
    }
}
