//! Bridges whose frames this node's rules do not see.
//!
//! Frames between two pods on one bridge are switched, not routed. The rules see them only where the kernel is
//! told to show them: by its module br_netfilter and `net.bridge.bridge-nf-call-iptables`, or by the bridge's own
//! setting of that name. kube-proxy asks for the same. Without it pods of one node would reach each other
//! whatever the policies say.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::program::{self, ProgramError};
use super::seen::within;

/// Settings of the network namespace that this runs in. The folder is not there without br_netfilter.
const SETTINGS: &str = "/proc/sys/net/bridge";

/// How often is looked.
const INTERVAL: Duration = Duration::from_secs(10);

/// What nobody judges, or may not judge; printed as what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unseen {
    /// A bridge of pods does not show its frames.
    Hidden {
        bridge: String,
        setting: &'static str,
    },
    /// Whether there is one cannot be told.
    Unknown(String),
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hidden { bridge, setting } => write!(
                f,
                "what pods on the bridge {bridge} send to each other goes past this node's rules; load the kernel \
                 module br_netfilter and set net.bridge.{setting}=1"
            ),
            Self::Unknown(reason) => write!(
                f,
                "cannot tell whether pods are on a bridge that goes past this node's rules: {reason}"
            ),
        }
    }
}

/// A bridge as `ip -json -details addr` shows it.
#[derive(Deserialize)]
struct Link {
    /// Missing, like everything else, of links that some releases of `ip` were asked to leave out.
    #[serde(default)]
    ifname: String,
    #[serde(default)]
    linkinfo: Info,
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Default, Deserialize)]
struct Info {
    #[serde(default)]
    info_data: Own,
}

/// A bridge's own settings.
#[derive(Default, Deserialize)]
struct Own {
    #[serde(default)]
    nf_call_iptables: u8,
    #[serde(default)]
    nf_call_ip6tables: u8,
}

#[derive(Deserialize)]
struct Address {
    local: Option<IpAddr>,
}

impl Unseen {
    /// Before the first look.
    pub(super) fn not_yet() -> Self {
        Self::Unknown("that is being looked for".to_owned())
    }
}

/// Looks for them as long as the agent runs.
pub(super) struct Bridges {
    pub(super) pod_cidrs: Vec<IpNet>,
    pub(super) unseen: watch::Sender<Option<Unseen>>,
}

impl Bridges {
    pub(super) async fn run(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.watch()).await;
    }

    async fn watch(self) {
        loop {
            let found = match list().await {
                Ok(listing) => find(&listing, &self.pod_cidrs, Path::new(SETTINGS)),
                Err(error) => Some(Unseen::Unknown(error.to_string())),
            };
            self.tell(found);
            sleep(INTERVAL).await;
        }
    }

    fn tell(&self, found: Option<Unseen>) {
        self.unseen.send_if_modified(|last| {
            let differs = *last != found;
            match &found {
                Some(unseen) if differs => error!("{unseen}"),
                None if differs => info!("this node's rules see what pods on bridges send"),
                _ => {}
            }
            *last = found;
            differs
        });
    }
}

async fn list() -> Result<String, ProgramError> {
    program::must("ip", "-json -details addr show type bridge", "").await
}

/// The first bridge with an address among those of pods, as a gateway has it, that does not show its frames
/// of that family.
fn find(listing: &str, pod_cidrs: &[IpNet], settings: &Path) -> Option<Unseen> {
    // Without a bridge `ip` prints an empty list, or nothing.
    let listing = if listing.trim().is_empty() {
        "[]"
    } else {
        listing
    };
    let links: Vec<Link> = match serde_json::from_str(listing) {
        Ok(links) => links,
        Err(error) => return Some(Unseen::Unknown(format!("`ip -json` is not read: {error}"))),
    };
    let is_set = |setting: &str| {
        let value = std::fs::read_to_string(settings.join(setting));
        value.is_ok_and(|value| value.trim() == "1")
    };
    links.into_iter().find_map(|link| {
        let own = &link.linkinfo.info_data;
        let addresses = link.addr_info.iter().filter_map(|it| it.local);
        let setting = addresses
            .filter(|address| within(pod_cidrs, *address))
            .map(|address| match address {
                IpAddr::V4(_) => ("bridge-nf-call-iptables", own.nf_call_iptables),
                IpAddr::V6(_) => ("bridge-nf-call-ip6tables", own.nf_call_ip6tables),
            })
            .find(|(setting, own)| *own != 1 && !is_set(setting));
        let (setting, _) = setting?;
        Some(Unseen::Hidden {
            bridge: link.ifname,
            setting,
        })
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What `ip` prints, as far as it is read, with the bridge's own settings.
    fn listing(own: [u8; 2]) -> String {
        let [v4, v6] = own;
        format!(
            r#"[{{"ifname":"cni0","linkinfo":{{"info_kind":"bridge","info_data":{{"nf_call_iptables":{v4},"nf_call_ip6tables":{v6}}}}},
            "addr_info":[{{"family":"inet","local":"10.244.1.1","prefixlen":24}},{{"family":"inet6","local":"fd00:244:1::1"}},{{"local":"fe80::1"}}]}}]"#
        )
    }

    fn found(own: [u8; 2], set: [Option<&str>; 2], pod_cidrs: &[&str]) -> Option<&'static str> {
        let folder = tempfile::tempdir().unwrap();
        let names = ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"];
        for (name, value) in names.into_iter().zip(set) {
            if let Some(value) = value {
                fs::write(folder.path().join(name), value).unwrap();
            }
        }
        let pod_cidrs: Vec<IpNet> = pod_cidrs.iter().map(|it| it.parse().unwrap()).collect();
        match find(&listing(own), &pod_cidrs, folder.path())? {
            Unseen::Hidden { setting, .. } => Some(setting),
            Unseen::Unknown(reason) => panic!("{reason}"),
        }
    }

    #[test]
    fn a_bridge_of_pods_shows_its_frames_in_both_families() {
        const BOTH: [&str; 2] = ["10.244.1.0/24", "fd00:244:1::/64"];
        let (v4, v6) = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables");
        for (own, set, missing) in [
            ([0, 0], [Some("1\n"), Some("1\n")], None),
            ([1, 1], [None, None], None),
            ([0, 0], [None, None], Some(v4)),
            ([0, 0], [Some("0\n"), Some("1\n")], Some(v4)),
            ([0, 0], [Some("1\n"), Some("0\n")], Some(v6)),
            ([1, 0], [None, None], Some(v6)),
        ] {
            assert_eq!(found(own, set, &BOTH), missing, "{own:?} {set:?}");
        }
        // Of one family, and of others than pods.
        assert_eq!(found([0, 0], [Some("1"), None], &["10.244.1.0/24"]), None);
        assert_eq!(found([0, 0], [None, None], &["10.244.2.0/24"]), None);
        for nothing in ["", "\n", "[]", "[{},{}]", "[{\"ifname\":\"docker0\"}]"] {
            assert_eq!(find(nothing, &[], Path::new("/nowhere")), None);
        }
    }

    #[test]
    fn a_listing_that_cannot_be_read_is_no_listing_without_bridges() {
        for listing in ["x", "{}", "[{\"ifname\":1}]"] {
            let found = find(listing, &[], Path::new("/nowhere"));
            assert!(
                matches!(found, Some(Unseen::Unknown(_))),
                "{listing}: {found:?}"
            );
        }
    }

    #[test]
    fn what_is_wrong_comes_with_what_to_do() {
        let unseen = Unseen::Hidden {
            bridge: "cni0".to_owned(),
            setting: "bridge-nf-call-iptables",
        };
        assert_eq!(
            unseen.to_string(),
            "what pods on the bridge cni0 send to each other goes past this node's rules; load the kernel module \
             br_netfilter and set net.bridge.bridge-nf-call-iptables=1"
        );
    }
}
