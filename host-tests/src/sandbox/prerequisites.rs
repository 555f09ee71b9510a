//! What the sandbox needs from the machine, asked before anything is started.

use std::fmt;
use std::path::Path;

use nix::unistd::geteuid;

/// The programs the lab runs.
const TOOLS: [&str; 10] = [
    "ip",
    "nft",
    "iptables",
    "ip6tables",
    "iptables-restore",
    "ip6tables-restore",
    "conntrack",
    "unshare",
    "nsenter",
    "setpriv",
];

/// What is missing, all of it, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// Whether the caller is not root.
    pub needs_root: bool,
    /// Programs that are not on the path.
    pub missing_tools: Vec<&'static str>,
}

impl std::error::Error for Unmet {}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the lab cannot run here: ")?;
        if self.needs_root {
            write!(
                f,
                "it needs root, for network namespaces and for iptables' `-m owner --uid-owner 1337`, which an \
                 unprivileged user namespace refuses; run it again with sudo"
            )?;
        }
        if !self.missing_tools.is_empty() {
            let separator = if self.needs_root { "; " } else { "" };
            write!(
                f,
                "{separator}not found on the PATH: {}; install them with `apt-get install -y nftables iptables \
                 iproute2 conntrack util-linux`",
                self.missing_tools.join(", ")
            )?;
        }
        Ok(())
    }
}

/// Asks for everything the sandbox and the lab need.
///
/// # Errors
///
/// Names all that is missing at once, so that one round of installing is enough.
pub fn check_prerequisites() -> Result<(), Unmet> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<_> = std::env::split_paths(&path).collect();
    judge(geteuid().is_root(), |tool| {
        directories
            .iter()
            .any(|directory| is_program(&directory.join(tool)))
    })
}

fn judge(is_root: bool, has: impl Fn(&str) -> bool) -> Result<(), Unmet> {
    let missing_tools: Vec<_> = TOOLS.into_iter().filter(|tool| !has(tool)).collect();
    if is_root && missing_tools.is_empty() {
        return Ok(());
    }
    Err(Unmet {
        needs_root: !is_root,
        missing_tools,
    })
}

fn is_program(path: &Path) -> bool {
    path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_there_is_fine() {
        assert_eq!(judge(true, |_| true), Ok(()));
    }

    #[test]
    fn all_that_is_missing_is_named_with_the_command_to_install_it() {
        let unmet = judge(true, |tool| !matches!(tool, "nft" | "conntrack"))
            .expect_err("tools are missing");
        assert_eq!(
            unmet.to_string(),
            "the lab cannot run here: not found on the PATH: nft, conntrack; install them with `apt-get install -y \
             nftables iptables iproute2 conntrack util-linux`"
        );
    }

    #[test]
    fn without_root_it_says_why_a_user_namespace_would_not_do() {
        let text = judge(false, |_| true)
            .expect_err("root is missing")
            .to_string();
        assert!(
            text.contains("needs root")
                && text.contains("--uid-owner 1337")
                && text.contains("sudo"),
            "{text}"
        );
    }
}
