//! Runs the steps of a change in the kernel and reads its rules.
//!
//! `nft` runs scripts. Changes of elements alone, which are most of them, go to the kernel by netlink: no process
//! is started and no text parsed.

mod elements;
mod read;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;

use super::program::{self, ProgramError};
use super::ruleset::{Existing, Step, TABLE, UnreadableListing};

/// Why the kernel's rules could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// `nft` failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// `nft` printed something strange.
    #[error(transparent)]
    Listing(#[from] UnreadableListing),
    /// The kernel did not tell.
    #[error(
        "cannot ask the kernel for {what} of its rules: {source}; this needs CAP_NET_ADMIN in the node's \
         network namespace"
    )]
    Netlink {
        /// What it was asked for.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// The kernel's rules, or something that plays them.
pub(super) trait Kernel: Clone + Send + Sync + 'static {
    /// Runs one transaction: all of it comes into force, or nothing.
    fn run(&self, step: &Step) -> impl Future<Output = Result<(), KernelError>> + Send;

    /// What is there of our table. Takes long if that is large.
    fn list(&self) -> impl Future<Output = Result<Existing, KernelError>> + Send;

    /// A number that goes up by one with every transaction, whoever made it and in whichever table.
    fn generation(&self) -> impl Future<Output = Result<u32, KernelError>> + Send;
}

/// This machine, by way of `nft`, in the network namespace of the process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nft;

impl Kernel for Nft {
    async fn run(&self, step: &Step) -> Result<(), KernelError> {
        if let Some(edits) = step
            .edits
            .as_deref()
            .filter(|edits| elements::are_few(edits))
        {
            return elements::change(edits).await.map_err(failed("a change"));
        }
        program::must("nft", "-f -", &step.script).await?;
        Ok(())
    }

    async fn list(&self) -> Result<Existing, KernelError> {
        let line = format!("-j list table inet {TABLE}");
        let outcome = program::run("nft", &line, "").await?;
        if outcome.status.success() {
            return Ok(Existing::parse(&outcome.stdout)?);
        }
        if outcome.stderr.contains("No such file or directory") {
            return Ok(Existing::absent());
        }
        Err(program::refused("nft", &line, outcome).into())
    }

    async fn generation(&self) -> Result<u32, KernelError> {
        read::generation().await.map_err(failed("the generation"))
    }
}

/// The named counters of the table, in packets; none without a table.
pub(super) async fn counters() -> Result<BTreeMap<String, u64>, KernelError> {
    read::counters().await.map_err(failed("the counters"))
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> KernelError {
    move |source| KernelError::Netlink { what, source }
}
