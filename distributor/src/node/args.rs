//! The arguments of `sidewall node`.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;

use axum::http::Uri;
use clap::builder::ArgPredicate;
use ipnet::IpNet;

use super::ruleset::{DeniedTcp, Settings};

/// The arguments of `sidewall node`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Remove the node's rules, routes and boot table instead, whatever the other options say; fine to run when
    /// there are none
    #[arg(long)]
    pub cleanup: bool,

    /// What there is to enforce
    #[command(flatten)]
    pub node: Node,
}

/// Which node this is and where it gets its snapshots.
#[derive(Clone, Debug, clap::Args)]
pub struct Node {
    /// The name of this node's Node object
    #[arg(
        long,
        value_name = "NAME",
        required = false,
        required_unless_present = "cleanup",
        default_value_if("cleanup", ArgPredicate::IsPresent, "")
    )]
    pub node_name: String,

    /// The distributor's xDS address, such as `https://10.96.0.50:18000`; `http://` where it serves plain text
    #[arg(
        long,
        value_name = "URL",
        required = false,
        required_unless_present = "cleanup",
        default_value_if("cleanup", ArgPredicate::IsPresent, "/")
    )]
    pub distributor: Uri,

    /// Who signs the distributor's certificate (PEM); read again at each connection
    #[arg(long, value_name = "FILE", requires = "xds_token")]
    pub xds_ca: Option<PathBuf>,

    /// The projected service-account token that proves which node this is; read again at each
    /// connection
    #[arg(long, value_name = "FILE", requires = "xds_ca")]
    pub xds_token: Option<PathBuf>,

    /// The name that the distributor's certificate is for, where `--distributor` is an address: an agent that
    /// needs the cluster's DNS waits for a pod that may wait for the agent
    #[arg(long, value_name = "NAME", requires = "xds_ca")]
    pub xds_server_name: Option<String>,

    /// A range that pods of this node get their addresses from; may be repeated, for both families.
    /// Without it the API server of the cluster that this runs in is asked for those of the Node object
    #[arg(long = "pod-cidr", value_name = "CIDR")]
    pub pod_cidrs: Vec<IpNet>,

    /// A range that pods and nodes of the whole cluster get their addresses from; may be repeated. The node of the
    /// destination redirects what goes there
    #[arg(long = "cluster-cidr", value_name = "CIDR")]
    pub cluster_cidrs: Vec<IpNet>,

    /// Where sidecars find the distributor, as they dial it; may be repeated. Pods with a sidecar reach
    /// it over TCP whatever their egress policies say
    #[arg(long = "control-plane", value_name = "ADDR:PORT")]
    pub control_planes: Vec<SocketAddr>,

    /// Where the node's Envoy takes the connections of pods that asked for redirection. Without it the kernel
    /// decides alone, for every pod
    #[arg(long, value_name = "PORT", requires = "cluster_cidrs")]
    pub proxy_port: Option<NonZeroU16>,

    /// The packet log group that drops are told to
    #[arg(long, value_name = "GROUP", default_value = "4747")]
    pub nflog_group: u16,

    /// What becomes of new TCP connections that a policy denies
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    pub denied_tcp: DeniedTcp,

    /// Write the table of a node without snapshots to this file: loaded at boot, it closes the node's pods until the
    /// agent runs
    #[arg(long, value_name = "FILE")]
    pub boot_table: Option<PathBuf>,

    /// The NRI socket of the container runtime, `/var/run/nri/nri.sock` as a rule: a pod's containers start once the
    /// table knows the pod's addresses, so that its first connection is not lost. Without it a pod is closed until
    /// its status has arrived
    #[arg(long, value_name = "PATH")]
    pub nri_socket: Option<PathBuf>,

    /// Where /healthz, /readyz and /metrics are; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:18081")]
    pub admin_listen: SocketAddr,
}

impl Node {
    /// What the ruleset depends on.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            pod_cidrs: self.pod_cidrs.clone(),
            cluster_cidrs: self.cluster_cidrs.clone(),
            control_planes: self.control_planes.clone(),
            proxy_port: self.proxy_port.map(NonZeroU16::get),
            nflog_group: self.nflog_group,
            denied_tcp: self.denied_tcp,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, String> {
        let parsed = Line::try_parse_from(line.split_whitespace());
        parsed
            .map(|line| line.args)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn cleaning_up_needs_no_other_option_and_takes_every_one() {
        assert!(parse("node --cleanup").unwrap().cleanup);
        let enforcing = "node --node-name=n1 --distributor=http://127.0.0.1:1 --pod-cidr=10.244.1.0/24 \
                         --cluster-cidr=10.244.0.0/16 --proxy-port=15100 --denied-tcp=reset --boot-table=/x";
        assert!(!parse(enforcing).unwrap().cleanup);
        assert!(parse(&format!("{enforcing} --cleanup")).unwrap().cleanup);
        assert!(
            parse("node --cleanup --admin-listen=127.0.0.1:1")
                .unwrap()
                .cleanup
        );
    }

    #[test]
    fn an_agent_needs_its_node_and_its_distributor() {
        for (line, missing) in [
            ("node", "--node-name"),
            ("node --node-name=n1", "--distributor"),
            ("node --distributor=http://127.0.0.1:1", "--node-name"),
            (
                "node --node-name=n1 --distributor=http://127.0.0.1:1 --proxy-port=1",
                "--cluster-cidr",
            ),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(missing), "{line}: {error}");
        }
    }
}
