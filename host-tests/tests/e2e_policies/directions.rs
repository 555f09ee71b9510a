//! Which way: `policyTypes`, several policies, both sides of a connection.

use crate::table::Row;

/// `policyTypes` and rules that are missing or empty.
pub const TYPES: &[Row] = &[
    Row {
        what: "no policyTypes, ingress rules: ingress (A3)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}]}]",
        )],
        allow: &["x/b -> x/a:80", "x/a -> x/c:8080 y/a:80 10.0.0.9:5978"],
        deny: &["x/c -> x/a:80"],
    },
    Row {
        what: "no policyTypes, egress rules: ingress and egress (A3)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, egress: [{to: [{podSelector: {matchLabels: {app: b}}}]}]",
        )],
        allow: &["x/a -> x/b:80"],
        deny: &["x/a -> x/c:8080 10.0.0.9:5978", "x/b x/c y/a -> x/a:80"],
    },
    Row {
        what: "no policyTypes, an empty list of egress rules: ingress only (A4)",
        policies: &[("x/p", "podSelector: {matchLabels: {app: a}}, egress: []")],
        allow: &["x/a -> x/b:80 10.0.0.9:5978"],
        deny: &["x/b -> x/a:80"],
    },
    Row {
        what: "an empty list of policyTypes is like none (A3)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [], egress: [{}]",
        )],
        allow: &["x/a -> x/b:80"],
        deny: &["x/b -> x/a:80"],
    },
    Row {
        what: "Egress: ingress rules mean nothing (A5)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], ingress: [{from: [{podSelector: {matchLabels: {app: b}}}]}]",
        )],
        allow: &["x/b x/c y/a 172.17.0.5 -> x/a:80"],
        deny: &["x/a -> x/b:80 10.0.0.9:5978"],
    },
    Row {
        what: "Ingress: egress rules mean nothing (A6)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Ingress], egress: [{to: [{podSelector: {matchLabels: {app: b}}}]}]",
        )],
        allow: &["x/a -> x/b:80 x/c:8080 10.0.0.9:5978"],
        deny: &["x/b -> x/a:80"],
    },
    Row {
        what: "a type twice is a type once (A7)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Ingress, Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: b}}}]}]",
        )],
        allow: &["x/b -> x/a:80", "x/a -> x/c:8080"],
        deny: &["x/c -> x/a:80"],
    },
    Row {
        what: "no rules, written as an empty list (A8)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Ingress], ingress: []",
        )],
        allow: &["x/a -> x/b:80"],
        deny: &["x/b 172.17.0.5 -> x/a:80"],
    },
    Row {
        what: "no rules, written as null (A8)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: null",
        )],
        allow: &["x/b -> x/a:80"],
        deny: &["x/a -> x/b:80"],
    },
    Row {
        what: "an empty rule: everybody, everywhere (A9)",
        policies: &[("x/p", "podSelector: {matchLabels: {app: a}}, ingress: [{}]")],
        allow: &["x/b y/a node:node-2 172.17.0.5 2001:db8:17::5 -> x/a:80 x/a:9000"],
        deny: &[],
    },
    Row {
        what: "from, empty: everybody (A10)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [], ports: [{port: 80}]}]",
        )],
        allow: &["x/b y/a node:node-2 172.17.0.5 -> x/a:80"],
        deny: &["x/b -> x/a:81"],
    },
    Row {
        what: "to, empty: everybody (A10)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [], ports: [{port: 80}]}]",
        )],
        allow: &["x/a -> x/b:80 y/a:80 10.0.0.9:80 2001:db8:17::9:80"],
        deny: &["x/a -> x/b:81 10.0.0.9:5978"],
    },
];

/// The five defaults of the documentation, in namespace `x`.
pub const DEFAULTS: &[Row] = &[
    Row {
        what: "default-deny-ingress",
        policies: &[("x/p", "podSelector: {}, policyTypes: [Ingress]")],
        allow: &["x/a -> y/a:80 10.0.0.9:5978", "y/a -> z/a:8081"],
        deny: &["x/a y/a 172.17.0.5 -> x/b:80"],
    },
    Row {
        what: "allow-all-ingress",
        policies: &[(
            "x/p",
            "podSelector: {}, ingress: [{}], policyTypes: [Ingress]",
        )],
        allow: &["x/a y/a 172.17.0.5 -> x/b:80", "x/a -> y/a:80"],
        deny: &[],
    },
    Row {
        what: "default-deny-egress",
        policies: &[("x/p", "podSelector: {}, policyTypes: [Egress]")],
        allow: &["y/a 172.17.0.5 -> x/b:80", "y/a -> z/a:8081"],
        deny: &["x/a -> x/b:80 y/a:80 10.0.0.9:5978", "x/b x/c -> x/a:80"],
    },
    Row {
        what: "allow-all-egress",
        policies: &[(
            "x/p",
            "podSelector: {}, egress: [{}], policyTypes: [Egress]",
        )],
        allow: &[
            "y/a 172.17.0.5 -> x/b:80",
            "x/a -> x/b:80 y/a:80 10.0.0.9:5978",
        ],
        deny: &[],
    },
    Row {
        what: "default-deny-all",
        policies: &[("x/p", "podSelector: {}, policyTypes: [Ingress, Egress]")],
        allow: &["y/a -> y/b:80 z/a:8081"],
        deny: &[
            "x/a y/a 172.17.0.5 -> x/b:80",
            "x/a -> y/a:80 10.0.0.9:5978",
        ],
    },
];

/// Several policies, on one side of a connection and on both.
pub const COMBINED: &[Row] = &[
    Row {
        what: "policies add up (F2)",
        policies: &[
            (
                "x/p",
                "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}], ports: [{port: 80}]}]",
            ),
            (
                "x/q",
                "podSelector: {matchLabels: {role: server}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}}], ports: [{port: 81}]}]",
            ),
        ],
        allow: &["x/b -> x/a:80", "y/a -> x/a:81"],
        deny: &["x/b -> x/a:81", "y/a -> x/a:80", "z/a -> x/a:80 x/a:81"],
    },
    Row {
        what: "what one policy allows no other denies (F5)",
        policies: &[
            ("x/deny", "podSelector: {}, policyTypes: [Ingress, Egress]"),
            (
                "x/allow",
                "podSelector: {matchLabels: {app: a}}, ingress: [{}]",
            ),
        ],
        allow: &["y/a 172.17.0.5 -> x/a:80"],
        deny: &["y/a -> x/b:80", "x/a -> y/a:80", "x/b -> x/a:80"],
    },
    Row {
        what: "one policy for each direction (F1)",
        policies: &[
            (
                "x/in",
                "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}]}]",
            ),
            (
                "x/out",
                "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: c}}}]}]",
            ),
        ],
        allow: &["x/b -> x/a:80", "x/a -> x/c:8080"],
        deny: &["x/c -> x/a:80", "x/a -> x/b:80"],
    },
    Row {
        what: "policies select in their own namespace (F8)",
        policies: &[(
            "y/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Ingress]",
        )],
        allow: &["x/b -> x/a:80 z/a:8081 y/b:80"],
        deny: &["x/b y/b -> y/a:80"],
    },
    Row {
        what: "both sides must allow: the source does not (F3)",
        policies: &[
            (
                "x/out",
                "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]",
            ),
            ("y/in", "podSelector: {}, ingress: [{}]"),
        ],
        allow: &["x/b -> y/a:80", "x/a -> x/b:80"],
        deny: &["x/a -> y/a:80"],
    },
    Row {
        what: "both sides must allow: the destination does not (F3)",
        policies: &[
            (
                "x/out",
                "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {team: blue}}}]}]",
            ),
            (
                "y/in",
                "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}, podSelector: {matchLabels: {app: b}}}]}]",
            ),
        ],
        allow: &["x/a -> y/b:80", "x/b -> y/a:80"],
        deny: &["x/a -> y/a:80"],
    },
    Row {
        what: "both sides allow (F3)",
        policies: &[
            (
                "x/out",
                "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: a}}}]}]",
            ),
            (
                "y/in",
                "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}, podSelector: {matchLabels: {app: a}}}]}]",
            ),
        ],
        allow: &["x/a -> y/a:80"],
        deny: &["x/a -> y/b:80", "x/b -> y/a:80"],
    },
    Row {
        what: "answers need no permission (G1)",
        policies: &[
            (
                "x/p",
                "podSelector: {matchLabels: {app: a}}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {matchLabels: {app: b}}}]}]",
            ),
            (
                "x/q",
                "podSelector: {matchLabels: {app: b}}, policyTypes: [Ingress, Egress], egress: [{to: [{podSelector: {matchLabels: {app: a}}}]}]",
            ),
        ],
        allow: &["x/b -> x/a:80"],
        deny: &["x/a -> x/b:80"],
    },
];
