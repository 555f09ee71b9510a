//! A file as documents, and documents as a file.

use serde_saphyr::options::Options;
use serde_saphyr::{UserMessageFormatter, budget};

use super::Error;
use super::tree::Tree;
use crate::cluster::yaml;

/// One document.
#[derive(Debug)]
pub(super) struct Document<'a> {
    /// As it was written, with the marker before it.
    pub(super) text: &'a str,
    /// What it says.
    pub(super) content: Result<Content, Error>,
}

/// What a document says.
#[derive(Debug)]
pub(super) enum Content {
    /// Something, and how it was written.
    Object(Tree, Form),
    /// Nothing but comments.
    Nothing,
}

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Yaml,
    /// For machines.
    Json,
}

/// Reads every document of a file.
pub(super) fn read(text: &str) -> Vec<Document<'_>> {
    let documents = yaml::split(text).into_iter().enumerate();
    documents
        .map(|(index, (line, text))| Document {
            text,
            content: content(text, line, index + 1),
        })
        .collect()
}

fn content(text: &str, lines_before: usize, document: usize) -> Result<Content, Error> {
    if let Ok(tree) = serde_json::from_str(text) {
        return Ok(Content::Object(tree, Form::Json));
    }
    match serde_saphyr::from_str_with_options(text, options()) {
        Ok(Tree::Scalar(serde_json::Value::Null)) => Ok(Content::Nothing),
        Ok(tree) => Ok(Content::Object(tree, Form::Yaml)),
        Err(error) => Err(Error::Document {
            document,
            reason: describe(&error, lines_before),
        }),
    }
}

/// As kubectl reads numbers: `defaultMode: 0644` is 420. It is written as 420.
fn options() -> Options {
    serde_saphyr::options! {
        legacy_octal_numbers: true,
        with_snippet: false,
        // A List of every workload of a large cluster is one document.
        budget: budget! {
            max_events: 50_000_000,
            max_nodes: 50_000_000,
            max_total_scalar_bytes: 1 << 30,
        },
    }
}

fn describe(error: &serde_saphyr::Error, lines_before: usize) -> String {
    let message = error.without_snippet();
    let message = message.render_with_formatter(&UserMessageFormatter);
    let message = message.lines().next().unwrap_or_default().to_owned();
    match error.location() {
        Some(at) => format!("line {}: {message}", at.line() + lines_before as u64),
        None => message,
    }
}

/// Writes a changed document in its own form, behind a marker if it stood behind one.
pub(super) fn write(tree: &Tree, form: Form, before: &str) -> Result<String, Error> {
    let text = match form {
        Form::Json => serde_json::to_string_pretty(tree).map_err(|error| error.to_string()),
        Form::Yaml => serde_saphyr::to_string(tree).map_err(|error| error.to_string()),
    };
    let mut text = text.map_err(Error::Serialize)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let has_marker = before.lines().any(|line| {
        let rest = line.strip_prefix("---");
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
    });
    Ok(if has_marker {
        format!("---\n{text}")
    } else {
        text
    })
}

/// Appends a file to others, with a marker between them.
pub(super) fn append(all: &mut String, file: &str) {
    if !all.is_empty() {
        if !all.ends_with('\n') {
            all.push('\n');
        }
        if !file.starts_with("---") {
            all.push_str("---\n");
        }
    }
    all.push_str(file);
}
