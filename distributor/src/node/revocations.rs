//! When connections are judged again after a change.

use std::cmp::Reverse;
use std::time::Duration;

use tokio::time::Instant;

use super::conntrack::Scope;

/// How long after a change. At once; and again, for a connection whose answers were on their way can
/// come back reversed, its answerer taken for the one who opened it. Those that a proxy carries come
/// last: it should have closed them itself by then.
const AFTER: [(Duration, Scope); 3] = [
    (Duration::ZERO, Scope::Kernel),
    (Duration::from_millis(50), Scope::Kernel),
    (Duration::from_millis(300), Scope::Everything),
];

/// What is to come, the soonest last.
#[derive(Debug, Default)]
pub(super) struct Revocations(Vec<(Instant, Scope)>);

impl Revocations {
    /// Plans them after a change. The next one for everything stays planned, or changes in quick
    /// succession would put it off for ever.
    pub(super) fn plan(&mut self, now: Instant) {
        let next_of_all = self
            .0
            .iter()
            .rfind(|(_, scope)| *scope == Scope::Everything);
        let kept = next_of_all.copied();
        self.0.clear();
        self.0.extend(kept);
        self.0
            .extend(AFTER.map(|(after, scope)| (now + after, scope)));
        self.0.sort_by_key(|(at, _)| Reverse(*at));
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.last().map(|(at, _)| *at)
    }

    /// Takes the next one out.
    pub(super) fn take(&mut self) -> Option<Scope> {
        self.0.pop().map(|(_, scope)| scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(mut revocations: Revocations, since: Instant) -> Vec<(u128, Scope)> {
        std::iter::from_fn(|| {
            let at = revocations.next()?;
            Some(((at - since).as_millis(), revocations.take()?))
        })
        .collect()
    }

    #[test]
    fn a_change_is_followed_by_three() {
        let now = Instant::now();
        let mut revocations = Revocations::default();
        assert_eq!(revocations.next(), None);
        revocations.plan(now);
        let expected = [
            (0, Scope::Kernel),
            (50, Scope::Kernel),
            (300, Scope::Everything),
        ];
        assert_eq!(drain(revocations, now), expected);
    }

    #[test]
    fn changes_in_quick_succession_do_not_put_it_off_or_pile_up() {
        let now = Instant::now();
        let mut revocations = Revocations::default();
        for change in 0..10 {
            revocations.plan(now + change * Duration::from_millis(20));
        }
        let expected = [
            (180, Scope::Kernel),
            (230, Scope::Kernel),
            (300, Scope::Everything),
            (480, Scope::Everything),
        ];
        assert_eq!(drain(revocations, now), expected);
    }
}
