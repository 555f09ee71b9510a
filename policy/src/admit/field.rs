//! Field paths such as `spec.ingress[0].from[1]`, spelled out only when a violation needs one.

use std::fmt;

/// A field and the way to it. Lives on the stack: a policy without flaws allocates no path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// A path of one field.
    pub(super) const fn root(field: &'a str) -> Self {
        Self {
            parent: None,
            step: Step::Field(field),
        }
    }

    /// A field of this object: `.name`.
    pub(super) const fn field(&'a self, name: &'a str) -> Self {
        self.child(Step::Field(name))
    }

    /// An item of this list: `[3]`.
    pub(super) const fn index(&'a self, index: usize) -> Self {
        self.child(Step::Index(index))
    }

    /// An entry of this map: `[key]`.
    pub(super) const fn key(&'a self, key: &'a str) -> Self {
        self.child(Step::Key(key))
    }

    const fn child(&'a self, step: Step<'a>) -> Self {
        Self {
            parent: Some(self),
            step,
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}")?;
        }
        match self.step {
            Step::Field(name) if self.parent.is_none() => f.write_str(name),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}
