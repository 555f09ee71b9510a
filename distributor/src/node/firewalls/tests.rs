use super::*;

/// What the agent finds in a listing of these items of `nft -j`.
fn found(items: &[&str]) -> Vec<String> {
    let text = format!(
        r#"{{"nftables":[{{"metainfo":{{}}}},{}]}}"#,
        items.join(",")
    );
    let listing = Listing::parse(&text).unwrap();
    let findings: BTreeSet<Finding> = fate::findings(&listing).collect();
    let word = |finding: &Finding| match finding {
        Finding::Bypassed(chain) => format!("bypassed {chain}"),
        Finding::Blocks(chain) => format!("blocks {chain}"),
        Finding::Unknown(reason) => format!("unknown {reason}"),
    };
    findings.iter().map(word).collect()
}

fn base(table: &str, name: &str, hook: &str, policy: &str) -> String {
    let (family, table) = table.split_once(' ').unwrap();
    format!(
        r#"{{"chain":{{"family":"{family}","table":"{table}","name":"{name}","handle":1,"type":"filter","hook":"{hook}","prio":0,"policy":"{policy}"}}}}"#
    )
}

fn rule(table: &str, chain: &str, statements: &str) -> String {
    let (family, table) = table.split_once(' ').unwrap();
    format!(
        r#"{{"rule":{{"family":"{family}","table":"{table}","chain":"{chain}","handle":2,"expr":[{statements}]}}}}"#
    )
}

/// The policy of a base chain, rules by chain, and what the agent finds.
type Case = (
    &'static str,
    Vec<(&'static str, String)>,
    &'static [&'static str],
);

/// One base chain in the table `inet fw` with these rules, some of them in other chains.
fn of_rules(hook: &str, policy: &str, rules: &[(&str, &str)]) -> Vec<String> {
    let mut items = vec![base("inet fw", "base", hook, policy)];
    items.extend(
        rules
            .iter()
            .map(|(chain, statements)| rule("inet fw", chain, statements)),
    );
    found(&items.iter().map(String::as_str).collect::<Vec<_>>())
}

const MARKED: &str =
    r#"{"match":{"op":"==","left":{"&":[{"meta":{"key":"mark"}},65536]},"right":65536}}"#;
const TO_METADATA: &str = r#"{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"daddr"}},"right":"169.254.169.254"}}"#;
const INVALID: &str = r#"{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":"invalid"}}"#;
const KNOWN: &str =
    r#"{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":["established","related"]}}"#;
const UDP: &str =
    r#"{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":53}}"#;
const COUNTER: &str = r#"{"counter":{"packets":0,"bytes":0}}"#;
const ACCEPT: &str = r#"{"accept":null}"#;
const DROP: &str = r#"{"drop":null}"#;
const REJECT: &str = r#"{"reject":{"type":"icmpx","expr":"admin-prohibited"}}"#;
const XT_REJECT: &str = r#"{"xt":{"type":"target","name":"REJECT"}}"#;
const XT_MATCH: &str = r#"{"xt":{"type":"match","name":"conntrack"}}"#;
const XT_COMMENT: &str = r#"{"xt":{"type":"match","name":"comment"}}"#;
const JUMP: &str = r#"{"jump":{"target":"x"}}"#;
const GOTO: &str = r#"{"goto":{"target":"x"}}"#;

fn all(statements: &[&str]) -> String {
    statements.join(",")
}

fn assert_found(hook: &str, cases: &[Case]) {
    for (policy, rules, expected) in cases {
        let rules: Vec<(&str, &str)> = rules
            .iter()
            .map(|(chain, it)| (*chain, it.as_str()))
            .collect();
        assert_eq!(
            of_rules(hook, policy, &rules),
            *expected,
            "{policy} {rules:?}"
        );
    }
}

#[test]
fn forward_chains_that_drop_new_tcp_are_bypassed() {
    const FOUND: &[&str] = &["bypassed inet fw base"];
    let vmap = |data: &str| {
        format!(
            r#"{{"vmap":{{"key":{{"payload":{{"protocol":"ip","field":"daddr"}}}},"data":{data}}}}}"#
        )
    };
    let cases: [Case; 13] = [
        ("accept", vec![], &[]),
        ("drop", vec![], FOUND),
        ("drop", vec![("base", all(&[MARKED, ACCEPT]))], FOUND),
        ("accept", vec![("base", all(&[TO_METADATA, ACCEPT]))], &[]),
        (
            "accept",
            vec![("base", all(&[TO_METADATA, COUNTER, DROP]))],
            FOUND,
        ),
        ("accept", vec![("base", all(&[TO_METADATA, REJECT]))], FOUND),
        ("accept", vec![("base", all(&[XT_MATCH, XT_REJECT]))], FOUND),
        (
            "accept",
            vec![("base", all(&[INVALID, DROP])), ("base", all(&[UDP, DROP]))],
            &[],
        ),
        (
            "accept",
            vec![("base", all(&[XT_COMMENT, JUMP])), ("x", DROP.to_owned())],
            FOUND,
        ),
        // A chain that nothing jumps to.
        ("accept", vec![("x", DROP.to_owned())], &[]),
        (
            "accept",
            vec![
                (
                    "base",
                    vmap(&format!(
                        r#"{{"set":[["1.1.1.1",{ACCEPT}],["2.2.2.2",{GOTO}]]}}"#
                    )),
                ),
                ("x", DROP.to_owned()),
            ],
            FOUND,
        ),
        (
            "accept",
            vec![(
                "base",
                vmap(&format!(r#"{{"set":[["1.1.1.1",{ACCEPT}]]}}"#)),
            )],
            &[],
        ),
        // The elements are not listed.
        ("accept", vec![("base", vmap(r#""@verdicts""#))], FOUND),
    ];
    assert_found("forward", &cases);
}

#[test]
fn input_chains_that_drop_marked_packets_stop_redirection() {
    const FOUND: &[&str] = &["blocks inet fw base"];
    let plain = |right: &str| {
        format!(r#"{{"match":{{"op":"==","left":{{"meta":{{"key":"mark"}}}},"right":{right}}}}}"#)
    };
    let cases: [Case; 14] = [
        ("accept", vec![], &[]),
        ("drop", vec![], FOUND),
        (
            "drop",
            vec![
                ("base", all(&[KNOWN, ACCEPT])),
                ("base", all(&[TO_METADATA, ACCEPT])),
            ],
            FOUND,
        ),
        ("drop", vec![("base", all(&[MARKED, COUNTER, ACCEPT]))], &[]),
        ("drop", vec![("base", all(&[&plain("65536"), ACCEPT]))], &[]),
        (
            "drop",
            vec![("base", all(&[&plain(r#"{"set":[1,65536]}"#), ACCEPT]))],
            &[],
        ),
        (
            "drop",
            vec![("base", all(&[&plain("131072"), ACCEPT]))],
            FOUND,
        ),
        // After all is dropped.
        (
            "accept",
            vec![
                ("base", REJECT.to_owned()),
                ("base", all(&[MARKED, ACCEPT])),
            ],
            FOUND,
        ),
        (
            "accept",
            vec![
                ("base", all(&[INVALID, DROP])),
                ("base", JUMP.to_owned()),
                ("base", REJECT.to_owned()),
                ("x", all(&[MARKED, ACCEPT])),
            ],
            &[],
        ),
        (
            "accept",
            vec![
                ("base", all(&[JUMP])),
                ("base", XT_REJECT.to_owned()),
                ("x", r#"{"return":null}"#.to_owned()),
            ],
            FOUND,
        ),
        // What follows a goto is not met.
        (
            "drop",
            vec![("base", GOTO.to_owned()), ("base", all(&[MARKED, ACCEPT]))],
            FOUND,
        ),
        ("accept", vec![("base", all(&[TO_METADATA, DROP]))], &[]),
        ("accept", vec![("base", all(&[XT_MATCH, DROP]))], &[]),
        ("accept", vec![("base", all(&[XT_COMMENT, DROP]))], FOUND),
    ];
    assert_found("input", &cases);
}

#[test]
fn kube_proxy_and_sidewall_are_no_others() {
    let kubernetes = [
        base("ip kube-proxy", "filter-forward", "forward", "drop"),
        base("ip6 kube-proxy", "filter-forward", "forward", "drop"),
        base("inet sidewall", "pods", "forward", "drop"),
        base("bridge fw", "forward", "forward", "drop"),
        base("ip fw", "out", "output", "drop"),
        base("ip filter", "FORWARD", "forward", "accept"),
        rule(
            "ip filter",
            "FORWARD",
            r#"{"jump":{"target":"KUBE-FORWARD"}}"#,
        ),
        rule("ip filter", "KUBE-FORWARD", DROP),
        base("ip filter", "INPUT", "input", "accept"),
        rule(
            "ip filter",
            "INPUT",
            &all(&[XT_MATCH, r#"{"jump":{"target":"KUBE-EXTERNAL-SERVICES"}}"#]),
        ),
        rule("ip filter", "KUBE-EXTERNAL-SERVICES", XT_REJECT),
    ];
    let kubernetes: Vec<&str> = kubernetes.iter().map(String::as_str).collect();
    assert_eq!(found(&kubernetes), Vec::<String>::new());

    let others = [
        rule(
            "ip filter",
            "FORWARD",
            r#"{"jump":{"target":"KUBE-ROUTER-FORWARD"}}"#,
        ),
        rule("ip filter", "KUBE-ROUTER-FORWARD", XT_REJECT),
        base("ip6 filter", "FORWARD", "forward", "drop"),
    ];
    let all: Vec<&str> = kubernetes
        .into_iter()
        .chain(others.iter().map(String::as_str))
        .collect();
    assert_eq!(
        found(&all),
        ["bypassed ip filter FORWARD", "bypassed ip6 filter FORWARD"]
    );
}

#[test]
fn a_listing_that_cannot_be_read_is_no_listing_without_rules() {
    for text in ["", "[]", "{}", r#"{"nftables":[{"chain":{"family":1}}]}"#] {
        assert!(Listing::parse(text).is_err(), "{text}");
    }
}
