//! SPIFFE ids as Istio mints them: `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`.

use sidewall_policy::model::NamespacedName;

/// Reads the service account from an id of this trust domain.
///
/// # Errors
/// Says what the id is instead.
pub(super) fn account(id: &str, trust_domain: &str) -> Result<NamespacedName, String> {
    let not = |what: &str| Err(format!("{id:?} {what}"));
    let Some(rest) = id.strip_prefix("spiffe://") else {
        return not("is no SPIFFE id");
    };
    let parts: Vec<&str> = rest.split('/').collect();
    let [domain, "ns", namespace, "sa", account] = parts[..] else {
        return not("names no service account");
    };
    if domain != trust_domain {
        return not("is of another trust domain");
    }
    if namespace.is_empty() || account.is_empty() {
        return not("names no service account");
    }
    Ok(NamespacedName::new(namespace, account))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn istios_ids_name_a_service_account() {
        let account = account("spiffe://cluster.local/ns/shop/sa/db", "cluster.local");
        assert_eq!(account, Ok(NamespacedName::new("shop", "db")));
    }

    #[test]
    fn anything_else_names_nobody() {
        for (id, reason) in [
            ("https://cluster.local/ns/shop/sa/db", "is no SPIFFE id"),
            ("spiffe://cluster.local/shop/db", "names no service account"),
            (
                "spiffe://cluster.local/ns/shop/sa/db/x",
                "names no service account",
            ),
            (
                "spiffe://cluster.local/ns//sa/db",
                "names no service account",
            ),
            (
                "spiffe://cluster.local/ns/shop/sa/",
                "names no service account",
            ),
            (
                "spiffe://other.example/ns/shop/sa/db",
                "is of another trust domain",
            ),
        ] {
            let found = account(id, "cluster.local");
            assert_eq!(found, Err(format!("{id:?} {reason}")));
        }
    }
}
