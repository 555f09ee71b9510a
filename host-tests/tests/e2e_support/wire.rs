//! What is on the wire: connections that are begun towards a port, counted by the kernel.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use sidewall_host_tests::lab::Lab;

/// Counts the handshakes that are begun in a pod, by whichever program, towards a port. An
/// application's own connections leave redirected to its sidecar and do not count; those of the
/// sidecar do, to the server in its pod as well as to others.
#[derive(Debug)]
pub struct Watch<'a> {
    lab: &'a Lab,
    pod: &'static str,
    port: u16,
}

impl<'a> Watch<'a> {
    /// Starts to count.
    ///
    /// # Errors
    ///
    /// When the pod does not exist or its kernel tables cannot be changed.
    pub fn new(lab: &'a Lab, pod: &'static str, port: u16) -> Result<Self> {
        let watch = Self { lab, pod, port };
        let name = watch.name();
        // After redirection, which changes the port of what applications send.
        watch.nft(&format!(
            "table inet {name} {{ chain out {{ type filter hook output priority 10; \
             tcp dport {port} tcp flags & (syn | ack) == syn counter; }}; }}\n"
        ))?;
        Ok(watch)
    }

    /// How many since it was made.
    ///
    /// # Errors
    ///
    /// When the kernel's answer cannot be read.
    pub fn count(&self) -> Result<u64> {
        let answer = self.nft(&format!("list table inet {}", self.name()))?;
        let (_, packets) = answer
            .split_once("counter packets ")
            .with_context(|| format!("no counter in {answer}"))?;
        let number = packets.split_whitespace().next().unwrap_or_default();
        number
            .parse()
            .with_context(|| format!("no number in {answer}"))
    }

    fn name(&self) -> String {
        format!("watch_{}", self.port)
    }

    fn nft(&self, input: &str) -> Result<String> {
        let mut child = self
            .lab
            .netns(self.pod)?
            .command("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        stdin.write_all(input.as_bytes())?;
        drop(stdin);
        let output = child.wait_with_output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "nft in {}: {errors}", self.pod);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        // Fails only when the pod is gone, and the table with it.
        let _ = self.nft(&format!("delete table inet {}", self.name()));
    }
}
