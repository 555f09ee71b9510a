//! Which addresses the runtime has given to pods that run. Pure.
//!
//! It holds what the runtime says now. Without a connection nothing is known: a claim that is no longer true must not
//! give an address to the policies of a pod that is gone.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sidewall_policy::snapshot::Claim;

use super::message::PodSandbox;

/// The claims of a node by the IDs of their sandboxes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    by_sandbox: BTreeMap<String, Claim>,
}

/// The claim of a sandbox; `None` for one without an address of its own, and for a static pod.
pub(super) fn claim(pod: &PodSandbox) -> Option<Claim> {
    let address = |text: &String| {
        text.parse()
            .ok()
            .map(|address: IpAddr| address.to_canonical())
    };
    let addresses: Vec<IpAddr> = pod.ips.iter().filter_map(address).collect();
    // The UID of a static pod is not that of its object in the API.
    let source = pod.annotations.get("kubernetes.io/config.source");
    if source.is_some_and(|source| source != "api") {
        return None;
    }
    let is_named = !(pod.id.is_empty() || pod.uid.is_empty() || addresses.is_empty());
    is_named.then(|| Claim {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        addresses,
    })
}

impl Claims {
    /// Adds the claim of a sandbox that starts. It ends earlier ones of the same addresses and of the same pod.
    pub fn add(&mut self, sandbox: String, claim: Claim) {
        self.by_sandbox.retain(|_, earlier| {
            let is_shared = |address: &IpAddr| claim.addresses.contains(address);
            earlier.uid != claim.uid && !earlier.addresses.iter().any(is_shared)
        });
        self.by_sandbox.insert(sandbox, claim);
    }

    /// Ends the claim of a sandbox that stops. Returns whether there was one.
    pub fn end(&mut self, sandbox: &str) -> bool {
        self.by_sandbox.remove(sandbox).is_some()
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Claim> {
        self.by_sandbox.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(id: &str, uid: &str, ips: &[&str]) -> PodSandbox {
        PodSandbox {
            id: id.to_owned(),
            name: "web".to_owned(),
            uid: uid.to_owned(),
            namespace: "shop".to_owned(),
            ips: ips.iter().map(|&ip| ip.to_owned()).collect(),
            ..PodSandbox::default()
        }
    }

    fn add(claims: &mut Claims, id: &str, uid: &str, ips: &[&str]) {
        claims.add(id.to_owned(), claim(&sandbox(id, uid, ips)).unwrap());
    }

    fn uids(claims: &Claims) -> Vec<&str> {
        claims.all().map(|claim| claim.uid.as_str()).collect()
    }

    #[test]
    fn a_claim_ends_with_its_sandbox() {
        let mut claims = Claims::default();
        add(&mut claims, "s1", "u1", &["10.0.0.1", "fd00::1"]);
        assert_eq!(uids(&claims), ["u1"]);
        assert!(!claims.end("s2"));
        assert!(claims.end("s1"));
        assert_eq!(claims, Claims::default());
    }

    #[test]
    fn the_newest_claim_of_an_address_and_of_a_pod_counts() {
        let mut claims = Claims::default();
        add(&mut claims, "s1", "u1", &["10.0.0.1"]);
        add(&mut claims, "s2", "u2", &["10.0.0.1"]);
        assert_eq!(uids(&claims), ["u2"]);
        add(&mut claims, "s3", "u2", &["10.0.0.3"]);
        assert_eq!(claims.all().count(), 1);
        assert!(!claims.end("s2"));
    }

    #[test]
    fn a_sandbox_without_an_address_or_a_uid_claims_nothing() {
        assert_eq!(claim(&sandbox("s", "u", &[])), None);
        assert_eq!(claim(&sandbox("s", "", &["10.0.0.1"])), None);
        assert_eq!(claim(&sandbox("s", "u", &["nonsense"])), None);
        let mapped = claim(&sandbox("s", "u", &["::ffff:10.0.0.1"])).unwrap();
        assert_eq!(mapped.addresses, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    }
}
