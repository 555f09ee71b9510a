//! Envoy's counters and gauges.

use std::collections::BTreeMap;

/// Counters and gauges by their full names, such as `listener.admin.downstream_cx_total`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats(BTreeMap<String, u64>);

impl Stats {
    /// Reads the text of `/stats`. Histograms and text readouts are left out.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let pair = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(text.lines().filter_map(pair).collect())
    }

    /// The value of that name; `None` when nothing has ever touched it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// The sum of all that begin with `prefix`: a counter over all its labels.
    #[must_use]
    pub fn sum(&self, prefix: &str) -> u64 {
        self.iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(_, value)| value)
            .sum()
    }

    /// All of them, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_gauges_are_numbers_and_the_rest_is_left_out() {
        let stats =
            Stats::parse("a.x.v.allow: 2\na.x.v.deny: 3\nb: 1\nc: \"text\"\nd: No recorded values");
        assert_eq!(stats.get("b"), Some(1));
        assert_eq!(stats.sum("a.x"), 5);
        assert_eq!(stats.iter().count(), 3);
        assert_eq!(stats.get("c"), None);
    }
}
