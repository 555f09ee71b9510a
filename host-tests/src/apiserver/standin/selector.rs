//! Label and field selectors of lists and watches.

use serde_json::Value;

use crate::apiserver::answer::{Answer, Refusal};

/// Which objects a list or a watch is about.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

/// One condition; all must hold.
#[derive(Clone, Debug)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
}

/// Fields that can be selected by, as pointers into the object. An API server has such a list for each
/// kind; here a field that an object does not have is empty.
const FIELDS: [(&str, &str); 12] = [
    ("metadata.name", "/metadata/name"),
    ("metadata.namespace", "/metadata/namespace"),
    ("spec.nodeName", "/spec/nodeName"),
    ("status.phase", "/status/phase"),
    ("involvedObject.kind", "/involvedObject/kind"),
    ("involvedObject.namespace", "/involvedObject/namespace"),
    ("involvedObject.name", "/involvedObject/name"),
    ("involvedObject.uid", "/involvedObject/uid"),
    ("involvedObject.apiVersion", "/involvedObject/apiVersion"),
    ("involvedObject.fieldPath", "/involvedObject/fieldPath"),
    ("reason", "/reason"),
    ("type", "/type"),
];

impl Selector {
    /// Reads the two parameters of a request.
    pub(super) fn read(labels: Option<&str>, fields: Option<&str>) -> Answer<Self> {
        let labels = terms(labels.unwrap_or_default()).map(|term| label(&term));
        let fields = terms(fields.unwrap_or_default()).map(|term| field(&term));
        Ok(Self {
            labels: labels.collect::<Answer<_>>()?,
            fields: fields.collect::<Answer<_>>()?,
        })
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let of_field = |key: &str| {
            let (_, pointer) = FIELDS.iter().find(|(name, _)| *name == key)?;
            Some(
                object
                    .pointer(pointer)
                    .and_then(Value::as_str)
                    .unwrap_or(""),
            )
        };
        self.labels
            .iter()
            .all(|it| it.test.holds(labels[&it.key].as_str()))
            && self
                .fields
                .iter()
                .all(|it| it.test.holds(of_field(&it.key)))
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        let among =
            |values: &[String]| value.is_some_and(|it| values.iter().any(|each| each == it));
        match self {
            Self::In(values) => among(values),
            Self::NotIn(values) => !among(values),
            Self::Exists => value.is_some(),
            Self::Missing => value.is_none(),
        }
    }
}

/// Cuts at commas outside of brackets.
fn terms(text: &str) -> impl Iterator<Item = String> {
    let mut terms = vec![String::new()];
    let mut depth = 0_u32;
    for character in text.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                terms.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = terms.last_mut() {
            last.push(character);
        }
    }
    terms
        .into_iter()
        .map(|term| term.trim().to_owned())
        .filter(|term| !term.is_empty())
}

fn label(term: &str) -> Answer<Requirement> {
    let requirement = |key: &str, test| Requirement {
        key: key.trim().to_owned(),
        test,
    };
    let set = |values: &str| {
        let inside = values.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(inside.split(',').map(|it| it.trim().to_owned()).collect())
    };
    let refused = || Refusal::bad_request(format!("unable to parse requirement: {term:?}"));
    if let Some((key, values)) = term.split_once(" notin ") {
        return Ok(requirement(
            key,
            Test::NotIn(set(values).ok_or_else(refused)?),
        ));
    }
    if let Some((key, values)) = term.split_once(" in ") {
        return Ok(requirement(key, Test::In(set(values).ok_or_else(refused)?)));
    }
    if let Some(equality) = equality(term) {
        return Ok(equality);
    }
    Ok(match term.strip_prefix('!') {
        Some(key) => requirement(key, Test::Missing),
        None => requirement(term, Test::Exists),
    })
}

fn field(term: &str) -> Answer<Requirement> {
    let requirement = equality(term)
        .ok_or_else(|| Refusal::bad_request(format!("invalid field selector {term:?}")))?;
    if FIELDS.iter().all(|(name, _)| *name != requirement.key) {
        let message = format!("field label not supported: {}", requirement.key);
        return Err(Refusal::bad_request(message));
    }
    Ok(requirement)
}

fn equality(term: &str) -> Option<Requirement> {
    let (key, value, equal) = if let Some((key, value)) = term.split_once("!=") {
        (key, value, false)
    } else if let Some((key, value)) = term.split_once("==") {
        (key, value, true)
    } else {
        let (key, value) = term.split_once('=')?;
        (key, value, true)
    };
    let values = vec![value.trim().to_owned()];
    Some(Requirement {
        key: key.trim().to_owned(),
        test: if equal {
            Test::In(values)
        } else {
            Test::NotIn(values)
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_and_fields() {
        let object = json!({
            "metadata": { "name": "a", "labels": { "app": "web", "tier": "front" } },
            "spec": { "nodeName": "one" },
        });
        for (labels, fields, expected) in [
            ("", "", true),
            ("app=web", "", true),
            ("app==web,tier!=back", "", true),
            ("app in (db, web),tier notin (back)", "", true),
            ("app,!missing", "", true),
            ("app=db", "", false),
            ("missing", "", false),
            ("!app", "", false),
            ("app notin (web)", "", false),
            ("", "metadata.name=a,spec.nodeName=one", true),
            ("", "metadata.name!=a", false),
        ] {
            let selector = Selector::read(Some(labels), Some(fields)).unwrap();
            assert_eq!(selector.matches(&object), expected, "{labels} {fields}");
        }
        assert!(Selector::read(None, Some("spec.unknown=x")).is_err());
        assert!(Selector::read(Some("app in web"), None).is_err());
    }
}
