//! The syntax of names, label keys, label values and port names (`semantics 1K`).
//!
//! Each function answers with what is wrong, ready to stand after the offending value.

/// The outcome of a syntax check: the reason when it fails.
pub(super) type Syntax = Result<(), &'static str>;

/// A DNS-1123 label: the name of a namespace.
pub(super) fn dns_label(name: &str) -> Syntax {
    if name.len() > 63 {
        return Err("must be no more than 63 characters");
    }
    if is_dns_part(name) {
        Ok(())
    } else {
        Err(
            "must be a DNS-1123 label: lower-case letters, digits and '-', with a letter or digit \
             at both ends",
        )
    }
}

/// A DNS-1123 subdomain: the name of most objects, the prefix of a label key.
pub(super) fn dns_subdomain(name: &str) -> Syntax {
    if name.len() > 253 {
        return Err("must be no more than 253 characters");
    }
    if name.split('.').all(is_dns_part) {
        Ok(())
    } else {
        Err(
            "must be a DNS-1123 subdomain: lower-case letters, digits, '-' and '.', with a letter \
             or digit at both ends of every part",
        )
    }
}

/// A qualified name, `name` or `prefix/name`: a label key.
pub(super) fn qualified_name(key: &str) -> Syntax {
    let name = match key.split_once('/') {
        None => key,
        Some((prefix, name)) => {
            dns_subdomain(prefix)
                .map_err(|_| "the part before '/' must be a DNS-1123 subdomain")?;
            name
        }
    };
    if name.is_empty() {
        return Err("the name part must not be empty");
    }
    if name.len() > 63 {
        return Err("the name part must be no more than 63 characters");
    }
    if is_label_text(name) {
        Ok(())
    } else {
        Err(
            "the name part must consist of letters, digits, '-', '_' and '.', with a letter or \
             digit at both ends",
        )
    }
}

/// A label value; may be empty.
pub(super) fn label_value(value: &str) -> Syntax {
    if value.len() > 63 {
        return Err("must be no more than 63 characters");
    }
    if value.is_empty() || is_label_text(value) {
        Ok(())
    } else {
        Err(
            "must be empty or consist of letters, digits, '-', '_' and '.', with a letter or \
             digit at both ends",
        )
    }
}

/// An IANA service name: the name of a container port.
pub(super) fn port_name(name: &str) -> Syntax {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if name.len() > 15 {
        Err("must be no more than 15 characters")
    } else if name.is_empty() || !name.bytes().all(legal) {
        Err("must contain only lower-case letters, digits and '-'")
    } else if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        Err("must contain at least one letter")
    } else if name.contains("--") {
        Err("must not contain consecutive hyphens")
    } else if name.starts_with('-') || name.ends_with('-') {
        Err("must not begin or end with a hyphen")
    } else {
        Ok(())
    }
}

/// One part of a DNS name, of any length but 0.
fn is_dns_part(part: &str) -> bool {
    let bytes = part.as_bytes();
    let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && bytes.iter().all(|b| edge(b) || *b == b'-')
}

/// The text of a label key's name or of a label value that is not empty.
fn is_label_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = u8::is_ascii_alphanumeric;
    bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && bytes
            .iter()
            .all(|b| edge(b) || matches!(b, b'-' | b'_' | b'.'))
}
