//! How it stands between a client and its server: plain data for whoever shows it.

use std::fmt;
use std::time::SystemTime;

/// The state of the connection. Without one the last snapshot stays in force, and gets old.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// The first attempt has not ended yet.
    Connecting,
    /// The server took the call: what it has to say arrives.
    Up {
        /// When it did.
        since: SystemTime,
    },
    /// There is no stream; it is tried again all the time.
    Down {
        /// When the stream was lost, or the first attempt failed.
        since: SystemTime,
        /// Why the last attempt failed.
        error: String,
    },
}

impl Link {
    /// Notes that there is no stream, and says whether that is news: another failed attempt for the
    /// same reason is none.
    pub(super) fn lose(&mut self, at: SystemTime, error: String) -> bool {
        let since = match self {
            Self::Down { error: known, .. } if *known == error => return false,
            Self::Down { since, .. } => *since,
            Self::Connecting | Self::Up { .. } => at,
        };
        *self = Self::Down { since, error };
        true
    }
}

/// Without the times, which everybody shows in a way of their own.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting => f.write_str("connecting"),
            Self::Up { .. } => f.write_str("connected"),
            Self::Down { error, .. } => write!(f, "not connected: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_loss_dates_from_the_first_failure_and_tells_the_last_reason() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut link = Link::Up { since: at(1) };
        assert!(link.lose(at(2), "reset".to_owned()));
        assert!(link.lose(at(3), "refused".to_owned()));
        assert!(!link.lose(at(4), "refused".to_owned()));
        let down = Link::Down {
            since: at(2),
            error: "refused".to_owned(),
        };
        assert_eq!(link, down);
        assert_eq!(link.to_string(), "not connected: refused");
    }
}
