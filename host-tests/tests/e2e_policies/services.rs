//! Services: what counts is the pod behind it and that pod's port.
//!
//! `x/solo` is one pod, `x/a`; `x/pair` is `x/b` and `x/c`, whose `web` ports have different numbers.
//! Both listen on 8000, which no pod does.

use crate::table::Row;

/// The Services.
pub const SERVICES: &str = "\
{apiVersion: v1, kind: Service, metadata: {name: solo, namespace: x}, spec: {selector: {role: server}, clusterIPs: [10.96.0.1, 'fd00:96::1'], ports: [{port: 8000, targetPort: web}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: pair, namespace: x}, spec: {selector: {pair: 'yes'}, clusterIPs: [10.96.0.2, 'fd00:96::2'], ports: [{port: 8000, targetPort: web}]}}
";

/// Policies on either side of a Service.
pub const ROWS: &[Row] = &[
    Row {
        what: "the server's policy names the target port (E1, I3)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: 80}]}]",
        )],
        allow: &["x/b y/a -> service:x/solo:8000"],
        deny: &["x/b -> x/a:8000"],
    },
    Row {
        what: "the Service's port opens nothing at the server (E19, I3)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: 8000}]}]",
        )],
        allow: &["x/b -> x/a:8000"],
        deny: &["x/b y/a -> service:x/solo:8000"],
    },
    Row {
        what: "the server sees who comes, through a Service as well (I1)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}}]}]",
        )],
        allow: &["y/a y/b -> service:x/solo:8000"],
        deny: &["x/b x/c z/a -> service:x/solo:8000"],
    },
    Row {
        what: "the client's policy names the target port (I1, I3)",
        policies: &[(
            "y/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}, podSelector: {matchLabels: {app: a}}}], ports: [{port: 80}]}]",
        )],
        allow: &[
            "y/a -> service:x/solo:8000 x/a:80",
            "y/b -> service:x/pair:8000",
        ],
        deny: &["y/a -> x/a:8000 service:x/pair:8000"],
    },
    Row {
        what: "the Service's port opens nothing at the client (E19, I3)",
        policies: &[(
            "y/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{ports: [{port: 8000}]}]",
        )],
        allow: &["y/a -> x/a:8000"],
        deny: &["y/a -> service:x/solo:8000 service:x/pair:8000"],
    },
    Row {
        what: "the client's policy names the port by name (E7, I4)",
        policies: &[(
            "y/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {team: red}}}], ports: [{port: web}]}]",
        )],
        allow: &["y/a -> service:x/solo:8000 service:x/pair:8000"],
        deny: &["y/a -> z/a:8081"],
    },
    Row {
        what: "an address block of the Service's address is none of its pods (I5)",
        policies: &[(
            "y/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.96.0.0/16}}, {ipBlock: {cidr: 'fd00:96::/32'}}]}]",
        )],
        allow: &["y/b -> service:x/solo:8000"],
        deny: &["y/a -> service:x/solo:8000 service:x/pair:8000 x/a:80"],
    },
    Row {
        what: "an address block of the pod behind it is (I2)",
        policies: &[(
            "y/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.244.1.11/32}}]}]",
        )],
        allow: &["y/a -> service:x/solo:8000 x/a:80 over IPv4"],
        deny: &[
            "y/a -> service:x/solo:8000 over IPv6",
            "y/a -> service:x/pair:8000",
        ],
    },
    Row {
        what: "an except of the pod behind it, too (I2)",
        policies: &[(
            "y/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/4, except: [10.244.1.11/32]}}]}]",
        )],
        allow: &["y/a -> service:x/pair:8000 over IPv4"],
        deny: &["y/a -> service:x/solo:8000"],
    },
    Row {
        what: "a Service of which one pod is allowed is denied (I4)",
        policies: &[(
            "y/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}, podSelector: {matchLabels: {app: b}}}]}]",
        )],
        allow: &["y/a -> x/b:80", "y/b -> service:x/pair:8000"],
        deny: &["y/a -> service:x/pair:8000 x/c:8080"],
    },
    Row {
        what: "a Service whose pods are allowed at one of their numbers is denied (I4)",
        policies: &[(
            "y/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {team: red}}}], ports: [{port: 80}]}]",
        )],
        allow: &["y/a -> x/b:80 service:x/solo:8000"],
        deny: &["y/a -> service:x/pair:8000"],
    },
    Row {
        what: "a Service whose pods are all allowed is allowed (I4)",
        policies: &[(
            "y/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}, podSelector: {matchLabels: {app: b}}}], ports: [{port: 80}]}, {to: [{namespaceSelector: {}, podSelector: {matchLabels: {app: c}}}], ports: [{port: 8080}]}]",
        )],
        allow: &["y/a -> service:x/pair:8000"],
        deny: &["y/a -> service:x/solo:8000 x/b:8080"],
    },
    Row {
        what: "a pod reaches itself through its Service (G3)",
        policies: &[("x/p", "podSelector: {}, policyTypes: [Ingress, Egress]")],
        allow: &["x/a -> service:x/solo:8000 x/a:80 127.0.0.1:80 address:::1:80"],
        deny: &["x/b -> service:x/solo:8000", "x/a -> service:x/pair:8000"],
    },
];
