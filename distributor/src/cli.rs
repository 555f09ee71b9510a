//! The command line: which subcommands there are, and how they log.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use tokio::runtime::Runtime;
use tracing::info;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::{cluster, inject, inspect, node, redirect, serve, shutdown, status, xds};

/// What is logged unless RUST_LOG says otherwise. An API server's failures are reported as problems, once;
/// its client would log each attempt.
const QUIET: &str = "info,kube_client=off,kube_runtime=off";

/// Kubernetes NetworkPolicy, enforced where the traffic is.
#[derive(Debug, Parser)]
#[command(name = "sidewall", version)]
pub struct Cli {
    /// How to log to standard error; what to log is RUST_LOG's to say (default: info)
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: LogFormat,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compile policies and serve each Envoy its pod's snapshot
    Serve(serve::Args),

    /// Show who decides by what they should, and what is wrong; asks a running distributor
    Status(status::Args),

    /// Enforce on a node what no sidecar sees; to be run on every node, in its network namespace
    Node(node::Args),

    /// Send a pod's TCP through the Envoy beside it; to be run in the pod's network namespace
    Redirect(redirect::Args),

    /// Add a sidecar to the pods of workload manifests; works on files
    Inject(inject::Args),

    /// Tell whether one connection is allowed, and by which policy and rule; works on manifests
    Explain(inspect::ExplainArgs),

    /// Show who reaches whom; works on manifests
    Matrix(inspect::MatrixArgs),

    /// Show which connections a change of the manifests opens and closes
    Diff(inspect::DiffArgs),

    /// What is wrong with policies, and what may not be what was meant
    Lint(inspect::LintArgs),
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

impl Cli {
    /// Runs the subcommand to its end.
    ///
    /// # Errors
    /// Whatever the subcommand could not do, in one line that says what to change.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let Self {
            log_format,
            command,
        } = self;
        log_format.start()?;
        match command {
            Command::Serve(args) => runtime()?.block_on(args.run())?,
            Command::Status(args) => return Ok(runtime()?.block_on(args.run())?),
            Command::Node(args) => runtime()?.block_on(run_node(args))?,
            Command::Redirect(args) => args.run()?,
            Command::Inject(args) => args.run()?,
            Command::Explain(args) => return Ok(args.run()?),
            Command::Matrix(args) => return Ok(args.run()?),
            Command::Diff(args) => return Ok(args.run()?),
            Command::Lint(args) => return Ok(args.run()?),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")
}

/// Joins the agent, which knows nothing of xDS and of API servers, with the client that brings its snapshots
/// and with its node's ranges.
async fn run_node(args: node::Args) -> anyhow::Result<()> {
    let node::Args { cleanup, mut node } = args;
    if cleanup {
        return Ok(node::clean_up(node.boot_table.as_deref()).await?);
    }
    if node.pod_cidrs.is_empty() {
        node.pod_cidrs = cluster::pod_ranges(&node.node_name).await?;
        info!(ranges = ?node.pod_cidrs, "the Node object says where pods get their addresses from");
    }
    let shutdown = shutdown::on_signal().context("cannot listen for SIGTERM and SIGINT")?;
    let id = format!("node~{}", node.node_name);
    let credentials = node.xds_ca.clone().zip(node.xds_token.clone());
    let credentials = credentials.map(|(ca, token)| xds::Credentials {
        ca,
        token,
        server_name: node.xds_server_name.clone(),
    });
    let distributor = xds::Distributor::new(node.distributor.clone(), credentials)?;
    let follower = xds::follow(distributor, id, shutdown.clone());
    Ok(node.run(follower.snapshots, shutdown).await?)
}

impl LogFormat {
    fn start(self) -> anyhow::Result<()> {
        let asked = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
        let filter = EnvFilter::builder()
            .with_default_directive(LevelFilter::INFO.into())
            .parse(if asked.is_empty() { QUIET } else { &asked })
            .context("RUST_LOG is not a list of filters such as info,sidewall_distributor=debug")?;
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(io::stderr().is_terminal())
            .with_writer(io::stderr);
        match self {
            Self::Text => lines.init(),
            Self::Json => lines.json().init(),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
