//! One named network namespace.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::Error;
use crate::sandbox::NETNS_DIR;

/// Settings of every namespace, written before it has an interface but `lo`, because new
/// interfaces copy `default`.
const SYSCTLS: [(&str, &str); 11] = [
    // An address must be usable at once.
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/all/accept_dad", "0"),
    // Hundreds of refusals in a second are more than a kernel answers by default.
    ("net/ipv4/icmp_ratelimit", "0"),
    ("net/ipv6/icmp/ratelimit", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/default/disable_ipv6", "0"),
    ("net/ipv6/conf/all/disable_ipv6", "0"),
    // As nodes are set up: a source that would not be answered this way is dropped.
    ("net/ipv4/conf/default/rp_filter", "1"),
    ("net/ipv4/conf/all/rp_filter", "1"),
    // With 1 and strict rp_filter, marked packets of a transparent proxy vanish.
    ("net/ipv4/conf/default/src_valid_mark", "0"),
    ("net/ipv4/conf/all/src_valid_mark", "0"),
];

/// Settings of a namespace that passes packets on.
const FORWARDING: [(&str, &str); 2] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
];

/// Settings of one whose bridges show their frames to the rules, too. They are not there without the kernel's
/// br_netfilter.
const BRIDGING: [(&str, &str); 4] = [
    FORWARDING[0],
    FORWARDING[1],
    ("net/bridge/bridge-nf-call-iptables", "1"),
    ("net/bridge/bridge-nf-call-ip6tables", "1"),
];

/// A named network namespace. Clones share it; it goes away with the last one.
#[derive(Clone, Debug)]
pub struct Netns(Arc<Mounted>);

#[derive(Debug)]
struct Mounted {
    name: String,
    path: PathBuf,
    file: File,
}

impl Netns {
    /// Makes a namespace with its loopback interface still down. `name` is a file name.
    ///
    /// # Errors
    ///
    /// Fails without root, outside the sandbox, or when the name is taken.
    pub fn create(name: &str) -> Result<Self, Error> {
        Self::create_with(name, &[])
    }

    /// Makes a namespace that forwards packets.
    pub(super) fn create_forwarding(name: &str) -> Result<Self, Error> {
        Self::create_with(name, &FORWARDING)
    }

    /// Makes one that has bridges besides.
    pub(super) fn create_bridging(name: &str) -> Result<Self, Error> {
        Self::create_with(name, &BRIDGING)
    }

    /// Makes a namespace with settings of its own, as paths below `/proc/sys`.
    pub(super) fn create_with(name: &str, settings: &[(&str, &str)]) -> Result<Self, Error> {
        let path = Path::new(NETNS_DIR).join(name);
        // A namespace is born around a thread; the mount keeps it when the thread is gone.
        let made = thread::scope(|scope| scope.spawn(|| make(&path, settings)).join());
        let file = made.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let file = file.map_err(|(step, source)| Error::Netns {
            name: name.to_owned(),
            step,
            source,
        })?;
        Ok(Self(Arc::new(Mounted {
            name: name.to_owned(),
            path,
            file,
        })))
    }

    /// Its name, as `ip -n` takes it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The file it is mounted on.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Does some work in the namespace, on a thread of its own, and waits for it. Sockets made
    /// there belong to the namespace and may be taken out.
    ///
    /// # Errors
    ///
    /// Fails when the namespace cannot be entered. A panic of the work goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let entered = thread::scope(|scope| {
            let worker = scope.spawn(|| {
                self.enter()?;
                Ok(work())
            });
            worker.join()
        });
        entered.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Starts work in the namespace on a thread of its own.
    ///
    /// # Errors
    ///
    /// Fails when the namespace cannot be entered or the thread cannot be made.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, Error> {
        // A thread is born in the namespace of the one that makes it.
        let thread = thread::Builder::new().name(self.name().to_owned());
        self.run(|| thread.spawn(work))?
            .map_err(|source| self.error("starting a thread", source))
    }

    /// A program to be run in the namespace, as root.
    ///
    /// No death signal is set on it: the kernel would send it when the *thread* that started the
    /// program ends, and the sandbox ends everything anyhow.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.0.path.display()))
            .arg("--")
            .arg(program);
        command
    }

    /// A program to be run in the namespace as another user, with no groups and these capabilities
    /// alone, such as `net_admin`.
    #[must_use]
    pub fn command_as(
        &self,
        uid: u32,
        gid: u32,
        capabilities: &[&str],
        program: impl AsRef<std::ffi::OsStr>,
    ) -> Command {
        let mut command = self.command("setpriv");
        command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
        command.arg("--clear-groups");
        for capability in capabilities {
            command.arg(format!("--inh-caps=+{capability}"));
            command.arg(format!("--ambient-caps=+{capability}"));
        }
        command.arg("--").arg(program);
        command
    }

    fn enter(&self) -> Result<(), Error> {
        setns(&self.0.file, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| self.error("entering it", errno.into()))
    }

    fn error(&self, step: &'static str, source: io::Error) -> Error {
        Error::Netns {
            name: self.name().to_owned(),
            step,
            source,
        }
    }
}

fn make(path: &Path, settings: &[(&str, &str)]) -> Result<File, (&'static str, io::Error)> {
    let at = |step| move |source| (step, source);
    let file = File::create_new(path).map_err(at("creating its file in /run/netns"))?;
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(io::Error::from)
        .map_err(at("making it"))?;
    mount(
        Some("/proc/thread-self/ns/net"),
        path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(io::Error::from)
    .map_err(at("mounting it"))?;
    drop(file);
    for (key, value) in SYSCTLS.iter().chain(settings) {
        fs::write(Path::new("/proc/sys").join(key), value).map_err(at("writing its sysctls"))?;
    }
    File::open(path).map_err(at("opening it"))
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Nothing is lost when these fail: the sandbox takes its mounts along when it ends.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.path);
    }
}
