//! Where `sidewall serve` listens, and the rule of where it may serve plain text.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tracing::{info, warn};

/// The addresses to listen on.
#[derive(Clone, Debug, clap::Args)]
pub struct Listen {
    /// Where Envoys fetch their snapshots (delta ECDS over gRPC); port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:18000")]
    pub xds_listen: SocketAddr,

    /// Where /healthz, /readyz, /metrics and /status are; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:18080")]
    pub admin_listen: SocketAddr,

    /// Serve xDS in plain text also on an address that is not loopback: whoever can reach it gets
    /// the snapshot of any pod by naming it
    #[arg(long, conflicts_with = "tls_cert")]
    pub insecure_plaintext: bool,
}

/// Both sockets, bound.
#[derive(Debug)]
pub struct Listeners {
    /// The xDS server's.
    pub xds: TcpListener,
    /// The admin server's.
    pub admin: TcpListener,
}

/// Why a listener could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Plain text beyond this machine, unasked for.
    #[error(
        "--xds-listen {0}: refused, for in plain text everybody who reaches this address could read any pod's policies; \
         give it a certificate with --tls-cert and --tls-key, listen on loopback, or accept it with --insecure-plaintext"
    )]
    Plaintext(SocketAddr),
    /// The system refused the address.
    #[error("{flag} {address}: cannot listen there: {source}")]
    Bind {
        /// The flag that named the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
}

impl Listen {
    /// Binds both addresses and logs what they became. Where clients are `verified` any will do.
    ///
    /// # Errors
    /// When xDS would be served in plain text beyond loopback without leave, or an address cannot be bound.
    pub async fn bind(self, verified: bool) -> Result<Listeners, ListenError> {
        let Self {
            xds_listen,
            admin_listen,
            insecure_plaintext,
        } = self;
        if !verified && !xds_listen.ip().is_loopback() {
            if !insecure_plaintext {
                return Err(ListenError::Plaintext(xds_listen));
            }
            warn!(
                "xds is served in plain text on {xds_listen}: every client is believed to be the pod it names"
            );
        }
        Ok(Listeners {
            xds: bind("--xds-listen", xds_listen).await?,
            admin: bind("--admin-listen", admin_listen).await?,
        })
    }
}

async fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    let refused = |source| ListenError::Bind {
        flag,
        address,
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    // With port 0 this is the only place that tells which one it became.
    let bound = listener.local_addr().map_err(refused)?;
    info!(flag, address = %bound, "listening");
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(xds: &str, insecure_plaintext: bool) -> Listen {
        Listen {
            xds_listen: xds.parse().unwrap(),
            admin_listen: "127.0.0.1:0".parse().unwrap(),
            insecure_plaintext,
        }
    }

    #[tokio::test]
    async fn plain_text_stays_on_loopback_unless_asked_for() {
        for address in ["127.0.0.1:0", "127.8.9.1:0", "[::1]:0"] {
            assert!(
                listen(address, false).bind(false).await.is_ok(),
                "{address}"
            );
        }
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let refusal = listen(address, false).bind(false).await.unwrap_err();
            assert!(
                matches!(refusal, ListenError::Plaintext(_)),
                "{address}: {refusal}"
            );
            assert!(
                refusal.to_string().contains("--insecure-plaintext"),
                "{refusal}"
            );
        }
        assert!(listen("0.0.0.0:0", true).bind(false).await.is_ok());
        assert!(listen("0.0.0.0:0", false).bind(true).await.is_ok());
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_with_its_flag() {
        let held = listen("127.0.0.1:0", false).bind(false).await.unwrap();
        let taken = held.xds.local_addr().unwrap();
        let refusal = listen(&taken.to_string(), false)
            .bind(false)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            refusal.starts_with(&format!("--xds-listen {taken}: cannot listen there: ")),
            "{refusal}"
        );
        let mut both = listen("127.0.0.1:0", false);
        both.admin_listen = taken;
        let refusal = both.bind(false).await.unwrap_err().to_string();
        assert!(
            refusal.starts_with(&format!("--admin-listen {taken}: ")),
            "{refusal}"
        );
    }
}
