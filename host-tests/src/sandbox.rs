//! A private world for everything a lab does: own network, mounts and processes.
//!
//! [`enter`] re-executes the running program under `unshare`, as the first process of new network,
//! mount and process-id namespaces. Nothing in there can touch the host's network, and all of it
//! ends with the process that was started from the shell, however that process ends:
//!
//! ```text
//!  shell ─▶ program (outside, waits) ─▶ unshare ─▶ program (inside, process 1) ─▶ Envoys, probes …
//!                └── KILL on death ───────┘└── KILL on death ──┘└── the kernel ends all ──┘
//! ```
//!
//! It never needs a cleanup step, never writes outside `/run/netns` and `/run/sidewall` (both
//! covered by a tmpfs that only the sandbox sees) and never falls back to the host's network.

mod prerequisites;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use nix::mount::{MsFlags, mount};

pub use prerequisites::{Unmet, check_prerequisites};

/// Names the network namespace the sandbox was entered from.
const MARKER: &str = "SIDEWALL_SANDBOX";

/// Where named network namespaces are mounted; `ip -n NAME` looks here.
pub(crate) const NETNS_DIR: &str = "/run/netns";

/// Scratch space of the sandbox, also its `TMPDIR`.
const SCRATCH_DIR: &str = "/run/sidewall";

/// Where the caller of [`enter`] finds itself.
#[derive(Debug)]
pub enum Place {
    /// In the sandbox: go on.
    Inside,
    /// Back outside: the program has run in the sandbox and ended with this code; return it.
    Left(ExitCode),
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine or the user lacks something.
    #[error(transparent)]
    Unmet(#[from] Unmet),
    /// The program could not be started again inside.
    #[error("cannot start this program again in a sandbox: {step}")]
    Start {
        /// What was attempted.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The sandbox was entered, but could not be furnished.
    #[error(
        "cannot prepare the sandbox: {step}; a container needs the right to mount \
         (CAP_SYS_ADMIN, no seccomp or AppArmor profile against it) to run the lab"
    )]
    Prepare {
        /// What was attempted.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Enters the sandbox. To be called first in `main`, before any thread exists.
///
/// Outside, it runs the whole program again inside, waits and returns [`Place::Left`]. A signal
/// that ends the waiting process, `KILL` included, ends everything inside.
///
/// # Errors
///
/// [`Error::Unmet`] says what to install or how to run; nothing has been started then.
pub fn enter() -> Result<Place, Error> {
    if is_inside() {
        furnish()?;
        return Ok(Place::Inside);
    }
    check_prerequisites()?;
    let program = std::env::current_exe().map_err(|source| Error::Start {
        step: "finding the program's own path",
        source,
    })?;
    let outside = own_netns().map_err(|source| Error::Start {
        step: "reading /proc/self/ns/net",
        source,
    })?;
    let status = reexecution(program, std::env::args_os().skip(1), &outside)
        .status()
        .map_err(|source| Error::Start {
            step: "running setpriv and unshare",
            source,
        })?;
    Ok(Place::Left(exit_code(status)))
}

/// Whether this process is the first one of a sandbox.
///
/// The marker alone is not trusted: a child inherits it, and a user may have exported it.
#[must_use]
pub fn is_inside() -> bool {
    let elsewhere = |outside| own_netns().is_ok_and(|inside| inside != outside);
    std::process::id() == 1 && std::env::var(MARKER).is_ok_and(elsewhere)
}

/// A directory that vanishes with the sandbox, readable by every user in it.
#[must_use]
pub fn scratch() -> &'static Path {
    Path::new(SCRATCH_DIR)
}

/// The identity of the network namespace of this process, such as `net:[4026531840]`.
fn own_netns() -> io::Result<String> {
    fs::read_link("/proc/self/ns/net").map(|link| link.to_string_lossy().into_owned())
}

/// `setpriv` ties `unshare` to this process, `--kill-child` ties the inside to `unshare`, and the
/// end of process 1 ends every process of its namespace.
fn reexecution(
    program: PathBuf,
    arguments: impl Iterator<Item = OsString>,
    outside: &str,
) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", "unshare"])
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
        ])
        .arg(program)
        .args(arguments)
        .env(MARKER, outside)
        // Temporary files of a killed lab vanish with the tmpfs.
        .env("TMPDIR", SCRATCH_DIR);
    command
}

/// Covers the two directories that the lab writes to and raises the loopback interface.
fn furnish() -> Result<(), Error> {
    let prepare = |step| move |source| Error::Prepare { step, source };
    for (directory, mode) in [(NETNS_DIR, "mode=755"), (SCRATCH_DIR, "mode=1777")] {
        fs::create_dir_all(directory).map_err(prepare("creating /run/netns and /run/sidewall"))?;
        mount(
            Some("tmpfs"),
            directory,
            Some("tmpfs"),
            MsFlags::MS_NOSUID,
            Some(mode),
        )
        .map_err(io::Error::from)
        .map_err(prepare(
            "mounting a tmpfs over /run/netns and /run/sidewall",
        ))?;
    }
    let step = "raising the loopback interface (ip link set lo up)";
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .map_err(prepare(step))?;
    if status.success() {
        Ok(())
    } else {
        Err(prepare(step)(io::Error::other(status.to_string())))
    }
}

/// The code a shell would show: that of the program, or 128 and the signal that ended it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}
