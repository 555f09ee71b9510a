//! Labels and label selectors (`semantics 1B`).

use std::collections::BTreeMap;
use std::sync::Arc;

/// The labels of a Pod or a Namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(BTreeMap<Arc<str>, Arc<str>>);

impl Labels {
    /// The value of a label; `Some("")` is a label with an empty value, `None` is no label.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(AsRef::as_ref)
    }

    /// Sets one label, replacing an earlier value.
    pub fn insert(&mut self, key: impl Into<Arc<str>>, value: impl Into<Arc<str>>) {
        self.0.insert(key.into(), value.into());
    }

    /// All labels, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_ref(), v.as_ref()))
    }
}

impl<K: Into<Arc<str>>, V: Into<Arc<str>>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Self {
        Self(
            labels
                .into_iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
        )
    }
}

/// A label selector: every requirement must hold (`semantics B1`). No requirement selects everything.
///
/// Requirements are kept sorted, so that two selectors that read the same are equal and share one
/// entry in a selector cache. `matchLabels` becomes [`Test::In`] with one value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector(Vec<Requirement>);

/// One requirement of a selector.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Requirement {
    /// The label key that is looked at.
    pub key: Arc<str>,
    /// What must hold for it.
    pub test: Test,
}

/// What a requirement asks of a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Test {
    /// The key is present and its value is one of these (`semantics B2`, `B5`).
    In(Vec<Arc<str>>),
    /// The key is absent, or its value is none of these (`semantics B3`).
    NotIn(Vec<Arc<str>>),
    /// The key is present, whatever its value (`semantics B4`).
    Exists,
    /// The key is absent (`semantics B4`).
    DoesNotExist,
}

impl Selector {
    /// A selector of these requirements, in canonical order.
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        for requirement in &mut requirements {
            if let Test::In(values) | Test::NotIn(values) = &mut requirement.test {
                values.sort();
                values.dedup();
            }
        }
        requirements.sort();
        requirements.dedup();
        Self(requirements)
    }

    /// The selector that matches every set of labels.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Its requirements, sorted; none for [`Selector::everything`].
    pub fn requirements(&self) -> &[Requirement] {
        &self.0
    }

    /// Whether these labels satisfy every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|r| r.test.holds(labels.get(&r.key)))
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        let listed = |values: &[Arc<str>], v: &str| values.iter().any(|each| each.as_ref() == v);
        match self {
            Self::In(values) => value.is_some_and(|v| listed(values, v)),
            Self::NotIn(values) => value.is_none_or(|v| !listed(values, v)),
            Self::Exists => value.is_some(),
            Self::DoesNotExist => value.is_none(),
        }
    }
}
