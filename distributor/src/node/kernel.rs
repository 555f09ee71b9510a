//! The seam to the kernel's rules: what runs a script and tells what is there.

use std::collections::BTreeMap;
use std::future::Future;

use serde::Deserialize;

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
}

/// The kernel's rules, or something that plays them.
pub(super) trait Kernel: Clone + Send + Sync + 'static {
    /// Runs one transaction: all of it comes into force, or nothing.
    fn run(&self, step: &Step) -> impl Future<Output = Result<(), KernelError>> + Send;

    /// What is there of our table.
    fn list(&self) -> impl Future<Output = Result<Existing, KernelError>> + Send;
}

/// This machine, by way of `nft`, in the network namespace of the process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nft;

impl Kernel for Nft {
    async fn run(&self, step: &Step) -> Result<(), KernelError> {
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
}

/// The named counters of the table, in packets; none without a table.
pub(super) async fn counters() -> Result<BTreeMap<String, u64>, KernelError> {
    #[derive(Deserialize)]
    struct Listing {
        nftables: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        counter: Option<Counter>,
    }
    #[derive(Deserialize)]
    struct Counter {
        name: String,
        packets: u64,
    }
    let line = format!("-j list counters table inet {TABLE}");
    let outcome = program::run("nft", &line, "").await?;
    if !outcome.status.success() {
        return Ok(BTreeMap::new());
    }
    let listing: Listing =
        serde_json::from_str(&outcome.stdout).map_err(UnreadableListing::from)?;
    let counters = listing.nftables.into_iter().filter_map(|item| item.counter);
    Ok(counters
        .map(|counter| (counter.name, counter.packets))
        .collect())
}
