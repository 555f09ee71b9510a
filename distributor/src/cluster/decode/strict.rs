//! Typed decoding that notices every field it does not know.

use serde::de::DeserializeOwned;
use serde_ignored::Path;
use serde_json::Value;

/// Why an unknown field is reported.
pub(super) const UNKNOWN: &str = "unknown field";

/// Why a value could not be decoded.
#[derive(Debug)]
pub(super) struct Flaw {
    /// Where.
    pub(super) field: String,
    /// What is wrong with it.
    pub(super) reason: String,
}

/// Decodes a value that stands in the field `base` of its object. Returns the fields that its type
/// does not have, too.
///
/// # Errors
/// The first field whose value has the wrong type.
pub(super) fn decode<T: DeserializeOwned>(
    value: &Value,
    base: &str,
) -> Result<(T, Vec<String>), Flaw> {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let mut note = |path: Path<'_>| unknown.push(join(base, &render(&path)));
    let decoded = T::deserialize(serde_ignored::Deserializer::new(tracked, &mut note));
    match decoded {
        Ok(value) => Ok((value, unknown)),
        Err(error) => Err(Flaw {
            field: join(base, track.path().to_string().trim_start_matches('.')),
            reason: error.to_string(),
        }),
    }
}

/// Spells a path as the API server does: `spec.containers[0].prots`.
fn render(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", render(parent)),
        Path::Map { parent, key } => join(&render(parent), key),
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => render(parent),
    }
}

/// Joins two paths.
pub(super) fn join(base: &str, rest: &str) -> String {
    match (base.is_empty(), rest.is_empty()) {
        (true, _) => rest.to_owned(),
        (_, true) => base.to_owned(),
        _ if rest.starts_with('[') => format!("{base}{rest}"),
        _ => format!("{base}.{rest}"),
    }
}
