//! Bootstrap templates: YAML with placeholders such as `${SIDEWALL_HOST}`.
//!
//! Filling in is strict, unlike a shell's: a placeholder without a value, a value without a
//! placeholder, or a value that would need quoting is an error, never a guess.

use std::collections::BTreeSet;

/// The sidecar's bootstrap, as it is deployed.
pub const SIDECAR: &str = include_str!("../../../envoy/sidecar.yaml");

/// The node Envoy's bootstrap, as it is deployed.
pub const NODE: &str = include_str!("../../../envoy/node.yaml");

/// Where Envoy finds its token, as it is deployed.
pub const TOKEN_SECRET: &str = include_str!("../../../envoy/sds/token.yaml");

/// Where Envoy finds the distributor's CA, as it is deployed.
pub const CA_SECRET: &str = include_str!("../../../envoy/sds/ca.yaml");

/// The lines around what a bootstrap has for TLS and the token.
const IDENTITY: [&str; 2] = ["# { identity", "# } identity"];

/// Why a template could not be filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The template asks for something that was not given.
    #[error("the template's ${{{0}}} has no value")]
    Missing(String),
    /// Something was given that the template does not ask for.
    #[error("the template has no ${{{0}}}")]
    Unknown(String),
    /// `${` without an end, or with something else than A-Z, 0-9 and `_` in between.
    #[error("the template has a malformed placeholder at {0:?}; write ${{NAME}}")]
    Malformed(String),
    /// A value that would change the meaning of the YAML around it.
    #[error(
        "the value of ${{{name}}}, {value:?}, would need quoting; use letters, digits and -_./:~"
    )]
    Unsafe {
        /// The placeholder.
        name: String,
        /// The value.
        value: String,
    },
}

/// A bootstrap for a distributor that serves plain text: without what stands between the marks.
#[must_use]
pub fn plaintext(template: &str) -> String {
    let [opening, closing] = IDENTITY;
    let mut kept = String::with_capacity(template.len());
    let mut inside = false;
    for line in template.lines() {
        inside |= line.trim_start().starts_with(opening);
        if !inside {
            kept.push_str(line);
            kept.push('\n');
        }
        inside &= !line.trim_start().starts_with(closing);
    }
    kept
}

/// Fills in every placeholder.
///
/// # Errors
///
/// See [`Error`].
pub fn render(template: &str, values: &[(&str, &str)]) -> Result<String, Error> {
    let mut rendered = String::with_capacity(template.len());
    let mut used = BTreeSet::new();
    let mut rest = template;
    while let Some(start) = rest.find("${") {
        rendered.push_str(&rest[..start]);
        let opened = &rest[start..];
        let end = opened.find('}').ok_or_else(|| malformed(opened))?;
        let name = &opened[2..end];
        if name.is_empty() || !name.bytes().all(is_name_byte) {
            return Err(malformed(opened));
        }
        let (_, value) = values
            .iter()
            .find(|(given, _)| *given == name)
            .ok_or_else(|| Error::Missing(name.to_owned()))?;
        if !value.chars().all(is_plain) {
            return Err(Error::Unsafe {
                name: name.to_owned(),
                value: (*value).to_owned(),
            });
        }
        rendered.push_str(value);
        used.insert(name);
        rest = &opened[end + 1..];
    }
    rendered.push_str(rest);
    match values.iter().find(|(name, _)| !used.contains(name)) {
        Some((name, _)) => Err(Error::Unknown((*name).to_owned())),
        None => Ok(rendered),
    }
}

fn malformed(at: &str) -> Error {
    Error::Malformed(at.lines().next().unwrap_or_default().to_owned())
}

fn is_name_byte(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_')
}

/// Safe inside YAML's double quotes and, where the template has none, as a plain scalar.
fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-_./:~".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_occurrence_is_filled_in() {
        assert_eq!(
            render(
                "a: ${A} # ${A}\nb: \"${B_2}\"",
                &[("A", "x"), ("B_2", "/y")]
            ),
            Ok("a: x # x\nb: \"/y\"".to_owned())
        );
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let cases = [
            ("${A}", Error::Missing("A".to_owned())),
            ("b", Error::Unknown("B".to_owned())),
            ("${B} ${a}", Error::Malformed("${a}".to_owned())),
            ("${B} ${}", Error::Malformed("${}".to_owned())),
            ("${B\nc", Error::Malformed("${B".to_owned())),
        ];
        for (template, error) in cases {
            assert_eq!(render(template, &[("B", "b")]), Err(error), "{template}");
        }
    }

    #[test]
    fn a_value_cannot_add_yaml() {
        for value in ["a\"b", "a\nb", "a: b", "a#b", "{}"] {
            let refused = render("${A}", &[("A", value)]);
            assert!(
                matches!(refused, Err(Error::Unsafe { .. })),
                "{value:?}: {refused:?}"
            );
        }
    }

    #[test]
    fn the_bootstraps_ask_for_what_their_readme_says() {
        let values = [
            ("SIDEWALL_HOST", "192.0.2.1"),
            ("SIDEWALL_NAME", "sidewall.example"),
            ("SIDEWALL_PORT", "18000"),
            ("SIDEWALL_WASM", "/f.wasm"),
            ("SIDEWALL_SDS", "/sds"),
        ];
        for template in [SIDECAR, NODE] {
            let rendered = render(template, &values).expect("these are all");
            assert!(rendered.contains(r#"address: "192.0.2.1", port_value: 18000"#));
            assert!(rendered.contains(r#"{path: "/sds/token.yaml"}"#));
        }
    }

    #[test]
    fn in_plain_text_there_is_neither_tls_nor_a_token() {
        for template in [SIDECAR, NODE] {
            let plain = plaintext(template);
            for gone in [
                "identity",
                "transport_socket:",
                "http_filters",
                "SIDEWALL_SDS}/",
            ] {
                assert!(!plain.contains(gone), "{gone}");
            }
            assert_eq!(template.matches("load_assignment:").count(), 1);
            assert!(plain.contains("    load_assignment:\n"));
            assert!(plain.contains("connection_keepalive: {interval: 15s, timeout: 5s}\n    load"));
        }
    }
}
