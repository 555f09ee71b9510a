//! YAML files as documents of JSON values, each read by itself.
//!
//! Scalars are read as YAML 1.2 reads them, so that a namespace may be called `n`: `yes`, `no`,
//! `on`, `off`, `y` and `n` are strings, and refused where a boolean is due. Readers disagree about
//! numbers as well: `080` and `010` are 80 and 10 to some, 80 and 8 to others. Those with leading
//! zeros or underscores stay strings, and are refused where a number is due.

use serde_json::Value;
use serde_saphyr::options::{DuplicateKeyPolicy, Options};
use serde_saphyr::{UserMessageFormatter, budget};

/// One document of a file.
#[derive(Debug)]
pub(super) struct Document<'a> {
    /// Its place in the file, from 1.
    pub(super) number: usize,
    /// Its text.
    pub(super) text: &'a str,
    /// What it says.
    pub(super) content: Content,
}

/// What became of a document.
#[derive(Debug)]
pub(super) enum Content {
    /// A value; null for a document that holds nothing but comments.
    Value(Value),
    /// A value of which some mapping has one key twice: which of the two was meant is anybody's
    /// guess. Says which key; the later one is kept.
    Ambiguous(Value, String),
    /// Not YAML. Says where and why.
    Broken(String),
}

/// Reads every document of a file.
pub(super) fn documents(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    for (index, (line, text)) in split(text).into_iter().enumerate() {
        documents.push(Document {
            number: index + 1,
            text,
            content: read(text, line),
        });
    }
    documents
}

/// Cuts at document markers. A marker at the start of a line cannot be anything else in YAML: even
/// a block scalar ends there. Returns each document with the number of lines before it.
pub(crate) fn split(text: &str) -> Vec<(usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parts = Vec::new();
    let mut start = (0, 0);
    let mut offset = 0;
    let mut directives_only = true;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        // What comes before the first marker may be directives, which belong to what follows it.
        if marker && !directives_only {
            parts.push((start.1, &text[start.0..offset]));
            start = (offset, number);
        }
        if marker || !(line.trim().is_empty() || line.starts_with(['%', '#'])) {
            directives_only = false;
        }
        offset += line.len();
    }
    parts.push((start.1, &text[start.0..]));
    parts
}

fn read(text: &str, lines_before: usize) -> Content {
    let place = |error: &serde_saphyr::Error| describe(error, lines_before);
    match parse(text, DuplicateKeyPolicy::Error) {
        Ok(value) => Content::Value(value),
        Err(error) => match parse(text, DuplicateKeyPolicy::LastWins) {
            Ok(value) => Content::Ambiguous(value, place(&error)),
            Err(_) => Content::Broken(place(&error)),
        },
    }
}

fn parse(text: &str, duplicate_keys: DuplicateKeyPolicy) -> Result<Value, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options(text, options(duplicate_keys))
}

fn options(duplicate_keys: DuplicateKeyPolicy) -> Options {
    serde_saphyr::options! {
        duplicate_keys: duplicate_keys,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        strict_booleans: true,
        with_snippet: false,
        // A List of every pod of a large cluster is one document.
        budget: budget! {
            max_events: 50_000_000,
            max_nodes: 50_000_000,
            max_total_scalar_bytes: 1 << 30,
        },
    }
}

/// `line 3 column 7: reason`, counted from the start of the file.
fn describe(error: &serde_saphyr::Error, lines_before: usize) -> String {
    let message = error
        .without_snippet()
        .render_with_formatter(&UserMessageFormatter);
    let message = message.lines().next().unwrap_or_default();
    match error.location() {
        None => message.to_owned(),
        Some(at) => {
            let line = at.line() + lines_before as u64;
            let column = at.column();
            let message = without_place(message);
            format!("line {line} column {column}: {message}")
        }
    }
}

/// Cuts the place off a message: it counts from the start of its document.
fn without_place(message: &str) -> &str {
    let is_place = |rest: &str| rest.starts_with("line ");
    match message.rsplit_once(" at ") {
        Some((reason, rest)) if is_place(rest) => reason,
        _ => message,
    }
}
