//! `semantics 1B` and the selector rows of `1K`.

use super::*;
use crate::admit::selector;
use crate::model::{Labels, Selector};

fn read(raw: &LabelSelector) -> Selector {
    selector(raw, "spec.selector").expect("a legal selector")
}

fn refused(raw: &LabelSelector) -> Vec<String> {
    let violations = selector(raw, "spec.selector").expect_err("an illegal selector");
    violations.into_iter().map(|v| v.field).collect()
}

#[test]
fn b1_to_b6_what_selectors_match() {
    let absent = Labels::default();
    let empty = Labels::from_iter([("app", "")]);
    let web = Labels::from_iter([("app", "web"), ("tier", "front")]);
    let upper = Labels::from_iter([("app", "WEB")]);
    let both = LabelSelector {
        match_labels: vec![("app".to_owned(), "web".to_owned())],
        ..expression("tier", "In", &["back", "front"])
    };
    let contradiction = LabelSelector {
        match_labels: vec![("app".to_owned(), "web".to_owned())],
        ..expression("app", "DoesNotExist", &[])
    };
    // (row, selector, matches [absent, empty, web, upper])
    let cases = [
        (
            "A20 empty selects all",
            labels(&[]),
            [true, true, true, true],
        ),
        ("B1 AND", both, [false, false, true, false]),
        (
            "B1 contradiction",
            contradiction,
            [false, false, false, false],
        ),
        (
            "B2 In",
            expression("app", "In", &["web", "db"]),
            [false, false, true, false],
        ),
        (
            "B3 NotIn",
            expression("app", "NotIn", &["web"]),
            [true, true, false, true],
        ),
        (
            "B3 NotIn empty value",
            expression("app", "NotIn", &[""]),
            [true, false, true, true],
        ),
        (
            "B4 Exists",
            expression("app", "Exists", &[]),
            [false, true, true, true],
        ),
        (
            "B4 DoesNotExist",
            expression("app", "DoesNotExist", &[]),
            [true, false, false, false],
        ),
        (
            "B5 empty value",
            labels(&[("app", "")]),
            [false, true, false, false],
        ),
        (
            "B6 no globbing",
            expression("app", "In", &["WEB"]),
            [false, false, false, true],
        ),
    ];
    for (row, raw, expected) in cases {
        let selector = read(&raw);
        let found = [&absent, &empty, &web, &upper].map(|labels| selector.matches(labels));
        assert_eq!(found, expected, "{row}");
    }
}

#[test]
fn equal_selectors_are_equal_however_they_are_written() {
    let one = expression("app", "In", &["web", "db", "web"]);
    let two = expression("app", "In", &["db", "web"]);
    assert_eq!(read(&one), read(&two));
    assert_eq!(
        read(&labels(&[("a", "1"), ("b", "2")])),
        read(&labels(&[("b", "2"), ("a", "1")]))
    );
    assert_eq!(
        read(&labels(&[("a", "1")])),
        read(&expression("a", "In", &["1"]))
    );
}

#[test]
fn k_operators_and_their_values() {
    for (raw, field) in [
        (expression("a", "Gt", &["1"]), "operator"),
        (expression("a", "", &[]), "operator"),
        (expression("a", "in", &["x"]), "operator"),
        (expression("a", "In", &[]), "values"),
        (expression("a", "NotIn", &[]), "values"),
        (expression("a", "Exists", &["x"]), "values"),
        (expression("a", "DoesNotExist", &["x"]), "values"),
    ] {
        let expected = format!("spec.selector.matchExpressions[0].{field}");
        assert_eq!(refused(&raw), [expected], "{raw:?}");
    }
}

/// `NotIn` with a value that no label can have would match every pod.
#[test]
fn k_an_impossible_value_closes_every_operator() {
    for operator in ["In", "NotIn"] {
        let raw = expression("a", operator, &["ok", "not ok"]);
        assert_eq!(
            refused(&raw),
            ["spec.selector.matchExpressions[0].values[1]"]
        );
        let admitted = admit(&from(vec![pods(raw)]));
        assert_eq!(
            ingress_rule(&admitted.policy).peers,
            model::Peers::Of(vec![])
        );
    }
}

#[test]
fn k_keys_are_qualified_names() {
    let long_name = "k".repeat(64);
    let long_prefix = format!("{}/k", "p".repeat(254));
    for (key, legal) in [
        ("k", true),
        ("K_1.x-y", true),
        ("kubernetes.io/metadata.name", true),
        (&long_name[..63], true),
        (long_name.as_str(), false),
        (long_prefix.as_str(), false),
        ("", false),
        ("-k", false),
        ("k-", false),
        ("k k", false),
        ("/k", false),
        ("Prefix/k", false),
        ("a/b/c", false),
        ("a/", false),
        ("schlüssel", false),
    ] {
        assert_eq!(
            selector(&labels(&[(key, "v")]), "s").is_ok(),
            legal,
            "{key:?}"
        );
        let raw = expression(key, "Exists", &[]);
        assert_eq!(selector(&raw, "s").is_ok(), legal, "{key:?}");
    }
}

#[test]
fn k_values_are_label_values() {
    let long = "v".repeat(64);
    for (value, legal) in [
        ("", true),
        ("V_1.x-y", true),
        (&long[..63], true),
        (long.as_str(), false),
        ("v/w", false),
        (".v", false),
        ("v ", false),
        ("*", false),
    ] {
        let raw = labels(&[("k", value)]);
        assert_eq!(selector(&raw, "s").is_ok(), legal, "{value:?}");
    }
}

#[test]
fn a_key_given_twice_is_not_guessed_at() {
    let raw = labels(&[("app", "web"), ("app", "db")]);
    assert_eq!(refused(&raw), ["spec.selector.matchLabels[app]"]);
}

#[test]
fn every_flaw_is_reported() {
    let mut raw = expression("a", "In", &[]);
    raw.match_labels = vec![("b b".to_owned(), "c c".to_owned())];
    assert_eq!(
        refused(&raw),
        [
            "spec.selector.matchLabels",
            "spec.selector.matchLabels[b b]",
            "spec.selector.matchExpressions[0].values",
        ]
    );
}
