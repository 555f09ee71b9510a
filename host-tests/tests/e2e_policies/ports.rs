//! At which ports: numbers, ranges, names.

use crate::table::Row;

/// Numbers, ranges and protocols.
pub const NUMBERS: &[Row] = &[
    Row {
        what: "one port, TCP unless said otherwise (A15)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: 80}]}]",
        )],
        allow: &["x/b y/a node:node-2 172.17.0.5 -> x/a:80"],
        deny: &["x/b 172.17.0.5 -> x/a:81"],
    },
    Row {
        what: "a port that no container declares (E16)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{protocol: TCP, port: 9000}]}]",
        )],
        allow: &["x/b -> x/a:9000"],
        deny: &["x/b -> x/a:9001 x/a:80"],
    },
    Row {
        what: "several ports: or (C2)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: 80}, {port: 82}]}]",
        )],
        allow: &["x/b -> x/a:80 x/a:82"],
        deny: &["x/b -> x/a:81"],
    },
    Row {
        what: "no ports: all (A12)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}], ports: []}]",
        )],
        allow: &["x/b -> x/a:80 x/a:9000"],
        deny: &["x/c -> x/a:80"],
    },
    Row {
        what: "an empty port: all of TCP (A13)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{}]}]",
        )],
        allow: &["x/b -> x/a:80 x/a:9000"],
        deny: &[],
    },
    Row {
        what: "only UDP: isolated for TCP all the same (A14)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{protocol: UDP}]}]",
        )],
        allow: &[],
        deny: &["x/b -> x/a:80 x/a:53"],
    },
    Row {
        what: "only SCTP: the same number is not opened for TCP (E17, E18)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{protocol: SCTP, port: 80}]}]",
        )],
        allow: &[],
        deny: &["x/b -> x/a:80"],
    },
    Row {
        what: "endPort: both ends belong to the range (E5)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: 80, endPort: 8080}]}]",
        )],
        allow: &["x/b -> x/a:80 x/a:81 x/a:8080"],
        deny: &["x/b -> x/a:79 x/a:8081"],
    },
    Row {
        what: "endPort may be the port itself (E5)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: 81, endPort: 81}]}]",
        )],
        allow: &["x/b -> x/a:81"],
        deny: &["x/b -> x/a:80 x/a:82"],
    },
    Row {
        what: "ranges may overlap (E5)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: 80, endPort: 82}, {port: 81, endPort: 90}, {port: 85}]}]",
        )],
        allow: &["x/b -> x/a:80 x/a:82 x/a:85 x/a:90"],
        deny: &["x/b -> x/a:79 x/a:91"],
    },
    Row {
        what: "a rule needs a peer and a port (C2)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}], ports: [{port: 81}]}]",
        )],
        allow: &["x/b -> x/a:81"],
        deny: &["x/b -> x/a:80", "x/c -> x/a:81"],
    },
    Row {
        what: "the peer of one rule does not get the port of another (C2)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}], ports: [{port: 80}]}, {from: [{podSelector: {matchLabels: {app: c}}}], ports: [{port: 81}]}]",
        )],
        allow: &["x/b -> x/a:80", "x/c -> x/a:81"],
        deny: &["x/b -> x/a:81", "x/c -> x/a:80"],
    },
    Row {
        what: "egress: number and range",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{ports: [{port: 80, endPort: 81}, {port: 5978}]}]",
        )],
        allow: &["x/a -> x/b:80 x/b:81 y/a:80 10.0.0.9:5978"],
        deny: &["x/a -> x/b:82 x/c:8080 10.0.0.9:5979"],
    },
];

/// Names of container ports.
pub const NAMES: &[Row] = &[
    Row {
        what: "ingress: each selected pod has its own number (E7, E13)",
        policies: &[("x/p", "podSelector: {}, ingress: [{ports: [{port: web}]}]")],
        allow: &["x/b y/a 172.17.0.5 -> x/a:80 x/c:8080"],
        deny: &["x/b y/a -> x/a:8080 x/c:80 x/a:81"],
    },
    Row {
        what: "the port is of the protocol that the rule says (E9)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: lookup}]}]",
        )],
        allow: &[],
        deny: &["x/b -> x/a:53 x/a:80"],
    },
    Row {
        what: "an unknown name opens nothing, and isolates (E10)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: no-such-port}]}]",
        )],
        allow: &["x/b -> x/c:8080"],
        deny: &["x/b -> x/a:80 x/a:81"],
    },
    Row {
        what: "egress by name, to nobody in particular: every pod of the cluster (E8, E11)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{ports: [{port: web}]}]",
        )],
        allow: &["x/a -> x/b:80 x/c:8080 y/a:80 z/a:8081"],
        deny: &["x/a -> x/b:8080 x/c:80 z/a:80 x/b:81 10.0.0.9:80"],
    },
    Row {
        what: "egress by name, to pods with different numbers (E8)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}], ports: [{port: web}]}]",
        )],
        allow: &["x/a -> x/b:80 x/c:8080"],
        deny: &["x/a -> x/b:8080 x/c:80 y/a:80 z/a:8081"],
    },
    Row {
        what: "hosts outside have no port names (E12)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/24}}], ports: [{port: web}]}]",
        )],
        allow: &[],
        deny: &["x/a -> 10.0.0.9:80 x/b:80"],
    },
    Row {
        what: "a name beside a number",
        policies: &[(
            "x/p",
            "podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{port: web}, {port: 81}]}]",
        )],
        allow: &["y/a -> x/a:80 x/a:81 x/c:8080 x/c:81"],
        deny: &["y/a -> x/a:8080 x/c:80"],
    },
];
