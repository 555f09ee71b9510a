//! When to stop: SIGTERM, as Kubernetes sends it, or SIGINT, as a terminal does.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Starts to listen for both signals; the first to arrive cancels the token.
///
/// # Errors
/// When the process may not install handlers.
pub fn on_signal() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        info!("{name} received, shutting down");
        cancel.cancel();
    });
    Ok(token)
}
