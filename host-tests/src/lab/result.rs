//! What came of a probe.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::spec::{Expect, Family, Probe};
use crate::probe::{Protocol, Report};

/// The result of one probe over one family. Its JSON field names are a promise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProbeResult {
    /// Who tried, as in [`Probe::from`].
    pub from: String,
    /// To reach whom, as in [`Probe::to`].
    pub to: String,
    /// By which protocol.
    pub protocol: Protocol,
    /// At which port.
    pub port: u16,
    /// Over which family.
    pub family: Family,
    /// TCP: the handshake was completed, perhaps by a proxy only. UDP: the same as `answered`.
    pub connected: bool,
    /// A payload was exchanged, and the right server replied.
    pub answered: bool,
    /// What was expected.
    pub expected: Option<Expect>,
    /// Whether it is as expected; `null` when nothing was.
    pub ok: Option<bool>,
    /// What happened instead of an answer by the right server.
    pub error: Option<String>,
    /// Milliseconds until the answer or the error.
    pub took_ms: f64,
}

impl ProbeResult {
    /// Judges a report: `right` are the servers that may answer.
    pub(super) fn new(
        probe: &Probe,
        port: u16,
        family: Family,
        right: &BTreeSet<String>,
        report: Report,
    ) -> Self {
        let Report {
            connected,
            answered_by,
            mut error,
            took,
            ..
        } = report;
        let stranger = answered_by
            .as_ref()
            .is_some_and(|server| !right.contains(server));
        if let (true, Some(server)) = (stranger, &answered_by) {
            let right: Vec<_> = right.iter().map(String::as_str).collect();
            error = Some(format!(
                "answered by {server} instead of {}",
                right.join(" or ")
            ));
        }
        let answered = answered_by.is_some() && !stranger;
        // An answer of anybody is not a denial.
        let ok = probe.expect.map(|expect| match expect {
            Expect::Allow => answered,
            Expect::Deny => answered_by.is_none(),
        });
        Self {
            from: probe.from.to_string(),
            to: probe.to.to_string(),
            protocol: probe.protocol,
            port,
            family,
            connected,
            answered,
            expected: probe.expect,
            ok,
            error,
            took_ms: (took.as_secs_f64() * 1e5).round() / 1e2,
        }
    }
}

impl fmt::Display for ProbeResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.ok {
            Some(true) => "ok  ",
            Some(false) => "FAIL",
            None => "    ",
        };
        let Self {
            from,
            to,
            protocol,
            port,
            family,
            ..
        } = self;
        write!(f, "{mark} {from} -> {to} {protocol} {port} {family}: ")?;
        match (&self.error, self.answered) {
            (None, true) => write!(f, "answered in {} ms", self.took_ms)?,
            (error, _) => {
                let handshake = if self.connected {
                    "connected, then "
                } else {
                    ""
                };
                write!(
                    f,
                    "not answered: {handshake}{}",
                    error.as_deref().unwrap_or("nothing")
                )?;
            }
        }
        match self.expected {
            Some(expected) => write!(f, " (expected {expected})"),
            None => Ok(()),
        }
    }
}

/// Those that are not as expected.
pub fn failures(results: &[ProbeResult]) -> impl Iterator<Item = &ProbeResult> {
    results.iter().filter(|result| result.ok == Some(false))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn result(expect: Expect, connected: bool, answered_by: Option<&str>) -> ProbeResult {
        let probe = Probe::new("default/a", "default/b", 80)
            .unwrap()
            .expect(expect);
        let report = Report {
            connected,
            answered_by: answered_by.map(str::to_owned),
            error: answered_by
                .is_none()
                .then(|| "closed before the server spoke".to_owned()),
            took: Duration::from_micros(1234),
            nonce: "nonce-1".to_owned(),
        };
        ProbeResult::new(
            &probe,
            80,
            Family::IPv4,
            &BTreeSet::from(["default/b:80".to_owned()]),
            report,
        )
    }

    #[test]
    fn a_handshake_alone_is_a_denial() {
        let denied = result(Expect::Deny, true, None);
        assert_eq!(
            (denied.connected, denied.answered, denied.ok),
            (true, false, Some(true))
        );
        assert_eq!(
            denied.to_string(),
            "ok   default/a -> default/b TCP 80 IPv4: not answered: connected, then closed before the server spoke (expected deny)"
        );
        assert_eq!(result(Expect::Allow, true, None).ok, Some(false));
    }

    #[test]
    fn an_answer_is_an_answer_of_the_right_server() {
        let allowed = result(Expect::Allow, true, Some("default/b:80"));
        assert_eq!((allowed.answered, allowed.ok), (true, Some(true)));
        assert_eq!(
            allowed.to_string(),
            "ok   default/a -> default/b TCP 80 IPv4: answered in 1.23 ms (expected allow)"
        );
    }

    #[test]
    fn a_stranger_is_neither_an_answer_nor_a_denial() {
        for expect in [Expect::Allow, Expect::Deny] {
            let stranger = result(expect, true, Some("default/c:80"));
            assert_eq!(
                (stranger.answered, stranger.ok),
                (false, Some(false)),
                "{expect}"
            );
            assert_eq!(
                stranger.error.as_deref(),
                Some("answered by default/c:80 instead of default/b:80")
            );
        }
    }
}
