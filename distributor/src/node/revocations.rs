//! When connections are judged again after a change.

use std::cmp::Reverse;
use std::time::Duration;

use tokio::time::Instant;

use super::conntrack::Stage;

/// How long after a change. At once; again, for a packet that was judged before the change may have
/// opened a connection after that; and last, when nothing is on its way any more, all that is denied
/// is deleted, whoever carries it: a proxy should have closed its own by then.
const AFTER: [(Duration, Stage); 3] = [
    (Duration::ZERO, Stage::Silence),
    (Duration::from_millis(50), Stage::Silence),
    (Duration::from_millis(300), Stage::End),
];

/// What is to come, the soonest last.
#[derive(Debug, Default)]
pub(super) struct Revocations(Vec<(Instant, Stage)>);

impl Revocations {
    /// Plans them after a change. The next one for everything stays planned, or changes in quick
    /// succession would put it off for ever.
    pub(super) fn plan(&mut self, now: Instant) {
        let next_of_all = self.0.iter().rfind(|(_, stage)| *stage == Stage::End);
        let kept = next_of_all.copied();
        self.0.clear();
        self.0.extend(kept);
        self.0
            .extend(AFTER.map(|(after, stage)| (now + after, stage)));
        self.0.sort_by_key(|(at, _)| Reverse(*at));
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.last().map(|(at, _)| *at)
    }

    /// Takes the next one out.
    pub(super) fn take(&mut self) -> Option<Stage> {
        self.0.pop().map(|(_, stage)| stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(mut revocations: Revocations, since: Instant) -> Vec<(u128, Stage)> {
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
        let expected = [(0, Stage::Silence), (50, Stage::Silence), (300, Stage::End)];
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
            (180, Stage::Silence),
            (230, Stage::Silence),
            (300, Stage::End),
            (480, Stage::End),
        ];
        assert_eq!(drain(revocations, now), expected);
    }
}
