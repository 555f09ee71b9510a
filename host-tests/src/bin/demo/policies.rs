//! The policies that are shown, and what they must do, written down without the engine's help.

use sidewall_host_tests::probe::Protocol;

/// The pods that the documentation's example isolates. The second one is there in act two only.
const DATABASES: [&str; 2] = ["default/db", "default/replica"];

/// The documentation's example, with its peers.
pub const TEST_NETWORK_POLICY: &str =
    include_str!("../../../examples/test-network-policy/policy.yaml");

/// The same without the frontend among its peers.
pub fn without_frontend() -> String {
    let frontend = "    - podSelector:\n        matchLabels: {role: frontend}\n";
    let changed = TEST_NETWORK_POLICY.replace(frontend, "");
    assert_ne!(
        changed, TEST_NETWORK_POLICY,
        "the example has lost its frontend"
    );
    changed
}

/// One of the documentation's defaults for a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceDefault {
    DenyIngress,
    AllowIngress,
    DenyEgress,
    AllowEgress,
    DenyAll,
}

impl NamespaceDefault {
    pub const ALL: [Self; 5] = [
        Self::DenyIngress,
        Self::AllowIngress,
        Self::DenyEgress,
        Self::AllowEgress,
        Self::DenyAll,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::DenyIngress => "default-deny-ingress",
            Self::AllowIngress => "allow-all-ingress",
            Self::DenyEgress => "default-deny-egress",
            Self::AllowEgress => "allow-all-egress",
            Self::DenyAll => "default-deny-all",
        }
    }

    pub fn meaning(self) -> &'static str {
        match self {
            Self::DenyIngress => {
                "nobody may connect to the pods of `default`, but for what other policies allow"
            }
            Self::AllowIngress => {
                "everybody may connect to the pods of `default`, whatever other policies say"
            }
            Self::DenyEgress => {
                "the pods of `default` may connect to nobody, but for what other policies allow"
            }
            Self::AllowEgress => {
                "the pods of `default` may connect to everybody, whatever other policies say"
            }
            Self::DenyAll => "both: nobody in, nobody out",
        }
    }

    pub fn yaml(self) -> String {
        let rest = match self {
            Self::DenyIngress => "policyTypes: [Ingress]",
            Self::AllowIngress => "ingress: [{}], policyTypes: [Ingress]",
            Self::DenyEgress => "policyTypes: [Egress]",
            Self::AllowEgress => "egress: [{}], policyTypes: [Egress]",
            Self::DenyAll => "policyTypes: [Ingress, Egress]",
        };
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {}}}\nspec: {{podSelector: {{}}, {rest}}}\n",
            self.name()
        )
    }
}

/// The policies in force.
#[derive(Clone, Copy, Debug, Default)]
pub struct InForce {
    pub test_network_policy: bool,
    pub default: Option<NamespaceDefault>,
}

impl InForce {
    /// Whether the documentation says that `from` reaches `to`, at the port that is probed.
    pub fn allows(self, protocol: Protocol, from: &str, to: &str) -> bool {
        from == to || (self.lets_out(protocol, from, to) && self.lets_in(protocol, from, to))
    }

    fn lets_in(self, protocol: Protocol, from: &str, to: &str) -> bool {
        let in_default = to.starts_with("default/");
        let isolating = matches!(
            self.default,
            Some(
                NamespaceDefault::DenyIngress
                    | NamespaceDefault::AllowIngress
                    | NamespaceDefault::DenyAll
            )
        );
        let by_example = self.test_network_policy && DATABASES.contains(&to);
        let isolated = (in_default && isolating) || by_example;
        let from_own_node =
            from == "node:node-1" && matches!(to, "default/db" | "default/frontend");
        let peers = [
            "default/frontend",
            "myproject/worker",
            "myproject/bare",
            "external:172.17.0.5",
        ];
        !isolated
            || from_own_node
            || self.default == Some(NamespaceDefault::AllowIngress)
            || (by_example && protocol == Protocol::Tcp && peers.contains(&from))
    }

    fn lets_out(self, protocol: Protocol, from: &str, to: &str) -> bool {
        let in_default = from.starts_with("default/");
        let isolating = matches!(
            self.default,
            Some(
                NamespaceDefault::DenyEgress
                    | NamespaceDefault::AllowEgress
                    | NamespaceDefault::DenyAll
            )
        );
        let by_example = self.test_network_policy && DATABASES.contains(&from);
        let isolated = (in_default && isolating) || by_example;
        !isolated
            || self.default == Some(NamespaceDefault::AllowEgress)
            || (by_example && protocol == Protocol::Tcp && to == "address:10.0.0.9")
    }
}
