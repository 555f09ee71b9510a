//! Notices when somebody changes the kernel's rules, by `nft monitor`.
//!
//! Our own changes are noticed, too: what it gives is a doubt, not a fact. The monitor itself may miss
//! changes of sets and maps of a table that was deleted and came back, so there is a doubt now and then
//! in any case.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::ruleset::TABLE;

/// How long changes are collected before they become a doubt.
const SETTLE: Duration = Duration::from_millis(500);

/// How often there is a doubt without a reason.
const REGULARLY: Duration = Duration::from_secs(10);

/// The pause before a monitor that ended is started again.
const PAUSE: Duration = Duration::from_secs(1);

/// Raises `doubts` after each change of our table, until `shutdown` is cancelled.
pub(super) async fn run(doubts: watch::Sender<u64>, shutdown: CancellationToken) {
    let follow = async {
        loop {
            if let Err(error) = monitor(&doubts).await {
                warn!(
                    "cannot run `nft monitor`, changes of the node's table by others go unnoticed for a while: {error}"
                );
            }
            // Whatever happened meanwhile has not been heard.
            doubts.send_modify(|doubts| *doubts += 1);
            sleep(PAUSE).await;
        }
    };
    let regularly = async {
        loop {
            sleep(REGULARLY).await;
            doubts.send_modify(|doubts| *doubts += 1);
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = follow => {}
        () = regularly => {}
    }
}

/// Follows one `nft monitor` to its end.
async fn monitor(doubts: &watch::Sender<u64>) -> std::io::Result<()> {
    let mut child = Command::new("nft")
        .arg("monitor")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let Some(stdout) = child.stdout.take() else {
        return Ok(());
    };
    let mut lines = BufReader::new(stdout).lines();
    let ours = format!("inet {TABLE}");
    while let Some(line) = lines.next_line().await? {
        if !line.contains(&ours) {
            continue;
        }
        let quiet = sleep(SETTLE);
        tokio::pin!(quiet);
        loop {
            tokio::select! {
                () = &mut quiet => break,
                line = lines.next_line() => if line?.is_none() { break },
            }
        }
        doubts.send_modify(|doubts| *doubts += 1);
    }
    Ok(())
}
