//! What is asked of an API server for one kind, and what it grants.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::Uri;
use tokio::sync::Notify;

/// The requests for one kind, seen on their way, one after the other.
#[derive(Default)]
pub(super) struct Exchange {
    granted: Notify,
    /// Of the last request; 0 when it was for a list.
    since: AtomicU64,
}

impl Exchange {
    /// Notes a request.
    pub(super) fn asks(&self, uri: &Uri) {
        self.since.store(resumed_from(uri).unwrap_or(0), Relaxed);
    }

    /// Notes that the server granted the last one.
    pub(super) fn grants(&self) {
        self.granted.notify_one();
    }

    /// Waits until a request has been granted since the last time.
    pub(super) async fn granted(&self) {
        self.granted.notified().await;
    }

    /// The resource version from which the last request goes on, if it was for a watch.
    pub(super) fn since(&self) -> Option<u64> {
        match self.since.load(Relaxed) {
            0 => None,
            since => Some(since),
        }
    }
}

/// The resource version from which a watch is to go on. It is a number that grows: Kubernetes promises that
/// since 1.35, and has kept to it before.
fn resumed_from(uri: &Uri) -> Option<u64> {
    let parameter = |name: &str| {
        let parameters = uri.query()?.split('&').filter_map(|it| it.split_once('='));
        let mut values = parameters.filter(|(found, _)| *found == name);
        values.next().map(|(_, value)| value)
    };
    parameter("watch").filter(|it| matches!(*it, "true" | "1"))?;
    parameter("resourceVersion")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_goes_on_from_its_version_and_a_list_from_nowhere() {
        for (query, since) in [
            (
                "watch=true&timeoutSeconds=25&resourceVersion=12&allowWatchBookmarks=true",
                Some(12),
            ),
            ("&resourceVersion=12&watch=1", Some(12)),
            ("watch=true&resourceVersion=0", None),
            ("watch=true", None),
            ("limit=500&resourceVersion=12", None),
            ("watch=true&resourceVersion=opaque", None),
        ] {
            let exchange = Exchange::default();
            exchange.asks(&Uri::from_static(
                "/api/v1/pods?resourceVersion=7&watch=true",
            ));
            exchange.asks(&format!("/api/v1/pods?{query}").parse().unwrap());
            assert_eq!(exchange.since(), since, "{query}");
        }
    }
}
