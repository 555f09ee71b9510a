//! Who: pod selectors, namespace selectors, address blocks.

use crate::table::Row;

/// `podSelector`, of the policy and of its peers.
pub const POD_SELECTORS: &[Row] = &[
    Row {
        what: "matchLabels, in the policy's own namespace only (B1, A16)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {role: client}}}]}]",
        )],
        allow: &["x/b -> x/a:80 x/a:81"],
        deny: &["x/c y/a y/b z/a node:node-2 172.17.0.5 -> x/a:80"],
    },
    Row {
        what: "all of matchLabels must match (B1)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {app: c, role: client}}}]}]",
        )],
        allow: &[],
        deny: &["x/b x/c -> x/a:80"],
    },
    Row {
        what: "matchLabels and matchExpressions must both match (B1)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {pair: 'yes'}, matchExpressions: [{key: role, operator: NotIn, values: [client]}]}}]}]",
        )],
        allow: &["x/c -> x/a:80"],
        deny: &["x/b -> x/a:80"],
    },
    Row {
        what: "In: one of the values (B2)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: In, values: [b, d]}]}}]}]",
        )],
        allow: &["x/b -> x/a:80"],
        deny: &["x/c y/b -> x/a:80"],
    },
    Row {
        what: "NotIn: also without the label (B3)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchExpressions: [{key: role, operator: NotIn, values: [client, other]}]}}]}]",
        )],
        allow: &["x/c -> x/a:80"],
        deny: &["x/b y/b z/a -> x/a:80"],
    },
    Row {
        what: "Exists, with any value, an empty one too (B4)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchExpressions: [{key: empty, operator: Exists}]}}]}]",
        )],
        allow: &["x/b -> x/a:80"],
        deny: &["x/c -> x/a:80"],
    },
    Row {
        what: "DoesNotExist (B4)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchExpressions: [{key: role, operator: DoesNotExist}]}}]}]",
        )],
        allow: &["x/c -> x/a:80"],
        deny: &["x/b z/a -> x/a:80"],
    },
    Row {
        what: "an empty value is not an absent label (B5)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {empty: ''}}}]}]",
        )],
        allow: &["x/b -> x/a:80"],
        deny: &["x/c -> x/a:80"],
    },
    Row {
        what: "values are case-sensitive (B6)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {role: Client}}}]}]",
        )],
        allow: &[],
        deny: &["x/b -> x/a:80"],
    },
    Row {
        what: "an empty peer selector: the pods of the policy's namespace (A16)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {}}]}]",
        )],
        allow: &["x/b x/c -> x/a:80"],
        deny: &["y/a y/b z/a node:node-2 172.17.0.5 -> x/a:80"],
    },
    Row {
        what: "egress to a podSelector, again in the own namespace only",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: b}}}]}]",
        )],
        allow: &["x/a -> x/b:80 x/b:81", "x/c y/b -> x/a:80"],
        deny: &["x/a -> x/c:8080 y/b:80 z/a:8081 192.168.50.2:7000 10.0.0.9:5978"],
    },
    Row {
        what: "a policy selects by expressions, too: those without a role",
        policies: &[(
            "x/p",
            "podSelector: {matchExpressions: [{key: role, operator: DoesNotExist}]}, policyTypes: [Ingress]",
        )],
        allow: &["x/c y/a -> x/a:80 x/b:80"],
        deny: &["x/a x/b y/a -> x/c:8080"],
    },
    Row {
        what: "a policy that selects everything, in its namespace (A2, F8)",
        policies: &[("x/p", "podSelector: {}, policyTypes: [Ingress]")],
        allow: &["x/a y/a -> y/b:80 z/a:8081"],
        deny: &["x/b y/a -> x/a:80", "x/a y/a -> x/b:80 x/c:8080"],
    },
    Row {
        what: "an empty spec is the default deny for ingress (A1)",
        policies: &[("x/p", "")],
        allow: &["x/a -> y/a:80 10.0.0.9:5978"],
        deny: &["x/b y/a -> x/a:80", "x/a -> x/c:8080"],
    },
    Row {
        what: "a policy that selects nobody isolates nobody",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: nobody}}, policyTypes: [Ingress, Egress]",
        )],
        allow: &["x/b y/a -> x/a:80", "x/a -> y/a:80"],
        deny: &[],
    },
];

/// `namespaceSelector`, alone and with `podSelector`.
pub const NAMESPACE_SELECTORS: &[Row] = &[
    Row {
        what: "matchLabels of the namespace, not of the pod (B7)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}}]}]",
        )],
        allow: &["y/a y/b -> x/a:80"],
        deny: &["x/b x/c z/a node:node-2 172.17.0.5 -> x/a:80"],
    },
    Row {
        what: "the empty one: every pod, and nobody else (A17, C5)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{namespaceSelector: {}}]}]",
        )],
        allow: &["x/b x/c y/a y/b z/a -> x/a:80"],
        deny: &["node:node-2 172.17.0.5 2001:db8:17::5 -> x/a:80"],
    },
    Row {
        what: "In, and the own namespace is like any other (B2, B9)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: In, values: [red, blue]}]}}]}]",
        )],
        allow: &["x/b y/a y/b -> x/a:80"],
        deny: &["z/a -> x/a:80"],
    },
    Row {
        what: "NotIn, also without the label (B3)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [red]}]}}]}]",
        )],
        allow: &["y/a y/b z/a -> x/a:80"],
        deny: &["x/b x/c node:node-2 -> x/a:80"],
    },
    Row {
        what: "Exists (B4)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: Exists}]}}]}]",
        )],
        allow: &["x/b y/a -> x/a:80"],
        deny: &["z/a -> x/a:80"],
    },
    Row {
        what: "DoesNotExist (B4)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: DoesNotExist}]}}]}]",
        )],
        allow: &["z/a -> x/a:80"],
        deny: &["x/b y/a -> x/a:80"],
    },
    Row {
        what: "the label that every namespace has (B8)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: z}}}]}]",
        )],
        allow: &["z/a -> x/a:80"],
        deny: &["x/b y/a -> x/a:80"],
    },
    Row {
        what: "both selectors in one item: and (C1)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {role: client}}}]}]",
        )],
        allow: &["y/a -> x/a:80"],
        deny: &["y/b x/b x/c z/a -> x/a:80"],
    },
    Row {
        what: "the same selectors in two items: or (C1)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}}, {podSelector: {matchLabels: {role: client}}}]}]",
        )],
        allow: &["y/a y/b x/b -> x/a:80"],
        deny: &["x/c z/a -> x/a:80"],
    },
    Row {
        what: "a podSelector in every namespace (A19)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {role: client}}}]}]",
        )],
        allow: &["x/b y/a -> x/a:80"],
        deny: &["x/c y/b z/a node:node-2 -> x/a:80"],
    },
    Row {
        what: "both empty: every pod (A18)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{namespaceSelector: {}, podSelector: {}}]}]",
        )],
        allow: &["x/b x/c y/a y/b z/a -> x/a:80"],
        deny: &["node:node-2 172.17.0.5 -> x/a:80"],
    },
    Row {
        what: "egress: and",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: a}}}]}]",
        )],
        allow: &["x/a -> y/a:80", "x/c -> y/b:80"],
        deny: &["x/a -> y/b:80 z/a:8081 x/b:80"],
    },
    Row {
        what: "egress: or",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {team: blue}}}, {podSelector: {matchLabels: {app: b}}}]}]",
        )],
        allow: &["x/a -> y/a:80 y/b:80 x/b:80"],
        deny: &["x/a -> z/a:8081 x/c:8080 10.0.0.9:5978"],
    },
];

/// `ipBlock`, of hosts outside and of pods.
pub const IP_BLOCKS: &[Row] = &[
    Row {
        what: "cidr without its except (D1)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{ipBlock: {cidr: 172.17.0.0/16, except: [172.17.1.0/24]}}]}]",
        )],
        allow: &["172.17.0.5 172.17.2.5 -> x/a:80"],
        deny: &["172.17.1.5 172.18.0.5 x/b node:node-2 2001:db8:17::5 -> x/a:80"],
    },
    Row {
        what: "IPv6: cidr without its except",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{ipBlock: {cidr: '2001:db8::/32', except: ['2001:db8:18::/48']}}]}]",
        )],
        allow: &["2001:db8:17::5 -> x/a:80"],
        deny: &["2001:db8:18::5 172.17.0.5 x/b -> x/a:80"],
    },
    Row {
        what: "an except denies nothing that another item allows (D2)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{ipBlock: {cidr: 172.17.0.0/16, except: [172.17.1.0/24]}}, {ipBlock: {cidr: 172.17.1.5/32}}]}]",
        )],
        allow: &["172.17.0.5 172.17.1.5 -> x/a:80"],
        deny: &["172.17.1.6 -> x/a:80"],
    },
    Row {
        what: "pods have addresses, too, and families do not cross (C4, D3)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{ipBlock: {cidr: 10.244.2.0/24, except: [10.244.2.21/32]}}]}]",
        )],
        allow: &["x/b z/a -> x/a:80 over IPv4"],
        deny: &["y/a x/c -> x/a:80", "x/b z/a -> x/a:80 over IPv6"],
    },
    Row {
        what: "IPv6 addresses of pods",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{ipBlock: {cidr: 'fd00:244:2::/64', except: ['fd00:244:2::21/128']}}]}]",
        )],
        allow: &["x/b z/a -> x/a:80 over IPv6"],
        deny: &["y/a x/c -> x/a:80", "x/b z/a -> x/a:80 over IPv4"],
    },
    Row {
        what: "0.0.0.0/0 is everybody, over IPv4 (D3, D4)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]",
        )],
        allow: &["x/b y/a node:node-2 172.17.0.5 -> x/a:80 over IPv4"],
        deny: &["x/b y/a node:node-2 2001:db8:17::5 -> x/a:80 over IPv6"],
    },
    Row {
        what: "everybody needs two (D3)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: '::/0'}}]}]",
        )],
        allow: &["x/b y/a node:node-2 172.17.0.5 2001:db8:17::5 -> x/a:80"],
        deny: &[],
    },
    Row {
        what: "a very wide block with one pod excepted (D9)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/4, except: [10.244.2.12/32]}}]}]",
        )],
        allow: &["y/a x/c -> x/a:80 over IPv4"],
        deny: &["x/b 172.17.0.5 -> x/a:80"],
    },
    Row {
        what: "another node is let in by its address (G8, G13)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{ipBlock: {cidr: 192.168.50.2/32}}]}]",
        )],
        allow: &["node:node-2 -> x/a:80 over IPv4", "node:node-1 -> x/a:80"],
        deny: &["node:node-2 -> x/a:80 over IPv6", "x/b -> x/a:80"],
    },
    Row {
        what: "egress, with except, both families (D1)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/24, except: [10.0.0.128/25]}}, {ipBlock: {cidr: '2001:db8::/32', except: ['2001:db8:18::/48']}}], ports: [{port: 5978}]}]",
        )],
        allow: &["x/a -> 10.0.0.9:5978 2001:db8:17::9:5978"],
        deny: &[
            "x/a -> 10.0.0.200:5978 2001:db8:18::9:5978 10.0.1.9:5978",
            "x/a -> 10.0.0.9:5979 2001:db8:17::9:5979 x/b:80 192.168.50.2:7000",
        ],
    },
    Row {
        what: "egress to pods by address (C4)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.244.2.12/32}}]}]",
        )],
        allow: &["x/a -> x/b:80 over IPv4"],
        deny: &["x/a -> x/b:80 over IPv6", "x/a -> y/a:80 x/c:8080"],
    },
];
