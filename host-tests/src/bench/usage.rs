//! What a process has used, by its process id.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// The processor time of all its threads, in user and in kernel mode, to the nanosecond.
///
/// # Errors
///
/// When there is no such process.
pub fn cpu(pid: u32) -> Result<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))
        .with_context(|| format!("the CPU clock of process {pid}"))?;
    Ok(clock.now()?.into())
}

/// Its resident memory in MiB.
///
/// # Errors
///
/// When there is no such process.
pub fn resident(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|value| value.trim().strip_suffix(" kB"))
        .with_context(|| format!("{path} has no VmRSS"))?;
    Ok(kibibytes.parse::<f64>()? / 1024.0)
}
