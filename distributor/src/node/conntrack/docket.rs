//! Denied connections that the kernel still knows, and for how long.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// How long connections are denied before they are deleted.
#[derive(Clone, Copy, Debug)]
pub struct Graces {
    /// What a proxy carries too: it should have closed its own by then.
    pub proxied: Duration,
    /// What nothing passes on any more: no answer is on its way by then that could open it again, the
    /// other way round.
    pub silenced: Duration,
}

/// Denied connections, each since when. One that is deleted, allowed again or gone is forgotten.
#[derive(Debug)]
pub struct Docket {
    graces: Graces,
    cases: HashMap<Box<[u8]>, Case>,
    /// Counts readings of the connection table.
    reading: u64,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    since: Instant,
    grace: Duration,
    /// When it was seen last.
    reading: u64,
}

impl Docket {
    /// Of no connection yet.
    #[must_use]
    pub fn new(graces: Graces) -> Self {
        Self {
            graces,
            cases: HashMap::new(),
            reading: 0,
        }
    }

    /// When the next one is to be deleted, if any is waiting for that.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.cases
            .values()
            .map(|case| case.since + case.grace)
            .min()
    }

    /// The table is about to be read.
    pub(super) const fn begin(&mut self) {
        self.reading += 1;
    }

    /// The whole table has been read: what was not there is gone.
    pub(super) fn end(&mut self) {
        let reading = self.reading;
        self.cases.retain(|_, case| case.reading == reading);
    }

    /// Tells whether a denied connection is to be deleted now, and forgets it then.
    pub(super) fn is_due(&mut self, identity: Box<[u8]>, is_proxied: bool, now: Instant) -> bool {
        let grace = if is_proxied {
            self.graces.proxied
        } else {
            self.graces.silenced
        };
        let since = self.cases.get(&identity).map_or(now, |case| case.since);
        let is_due = now.saturating_duration_since(since) >= grace;
        if is_due {
            self.cases.remove(&identity);
        } else {
            let reading = self.reading;
            let case = Case {
                since,
                grace,
                reading,
            };
            self.cases.insert(identity, case);
        }
        is_due
    }

    /// Forgets a connection that is allowed.
    pub(super) fn acquit(&mut self, identity: impl FnOnce() -> Box<[u8]>) {
        if !self.cases.is_empty() {
            self.cases.remove(&identity());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACES: Graces = Graces {
        proxied: Duration::from_millis(300),
        silenced: Duration::from_secs(1),
    };

    /// At so many milliseconds: is this connection due?
    fn due(docket: &mut Docket, name: &str, is_proxied: bool, start: Instant, at: u64) -> bool {
        let now = start + Duration::from_millis(at);
        docket.is_due(name.as_bytes().into(), is_proxied, now)
    }

    #[test]
    fn each_has_its_time() {
        let (mut docket, start) = (Docket::new(GRACES), Instant::now());
        assert_eq!(docket.next(), None);
        docket.begin();
        assert!(!due(&mut docket, "silenced", false, start, 0));
        assert!(!due(&mut docket, "proxied", true, start, 100));
        docket.end();
        assert_eq!(docket.next(), Some(start + Duration::from_millis(400)));
        docket.begin();
        assert!(due(&mut docket, "proxied", true, start, 400));
        assert!(!due(&mut docket, "silenced", false, start, 400));
        docket.end();
        assert_eq!(docket.next(), Some(start + GRACES.silenced));
        docket.begin();
        assert!(due(&mut docket, "silenced", false, start, 1000));
        docket.end();
        assert_eq!(docket.next(), None);
    }

    #[test]
    fn allowed_in_between_begins_anew() {
        let (mut docket, start) = (Docket::new(GRACES), Instant::now());
        docket.begin();
        assert!(!due(&mut docket, "flow", false, start, 0));
        docket.acquit(|| b"flow".as_slice().into());
        assert!(!due(&mut docket, "flow", false, start, 900));
        assert!(!due(&mut docket, "flow", false, start, 1800));
        assert!(due(&mut docket, "flow", false, start, 1900));
    }

    #[test]
    fn what_ended_by_itself_is_forgotten() {
        let (mut docket, start) = (Docket::new(GRACES), Instant::now());
        docket.begin();
        assert!(!due(&mut docket, "flow", false, start, 0));
        docket.end();
        docket.begin();
        docket.end();
        assert_eq!(docket.next(), None);
        assert!(!due(&mut docket, "flow", false, start, 2000));
    }
}
