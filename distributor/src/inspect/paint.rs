//! Colours of the text answers. Whether they are shown is decided where the text is written.

use std::fmt::{self, Display};

use anstyle::{AnsiColor, Style};

/// A word in a style.
struct Painted<T>(T, Style);

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(word, style) = self;
        // Padding is for the word: the style has no width.
        write!(f, "{style}")?;
        word.fmt(f)?;
        write!(f, "{style:#}")
    }
}

/// What passes.
pub(crate) fn good<T: Display>(word: T) -> impl Display {
    Painted(word, AnsiColor::Green.on_default())
}

/// What does not.
pub(crate) fn bad<T: Display>(word: T) -> impl Display {
    Painted(word, AnsiColor::Red.on_default())
}

/// What deserves a second look.
pub(crate) fn warning<T: Display>(word: T) -> impl Display {
    Painted(word, AnsiColor::Yellow.on_default())
}

/// What is read first.
pub(crate) fn strong<T: Display>(word: T) -> impl Display {
    Painted(word, Style::new().bold())
}

/// What is read last.
pub(crate) fn faint<T: Display>(word: T) -> impl Display {
    Painted(word, Style::new().dimmed())
}
