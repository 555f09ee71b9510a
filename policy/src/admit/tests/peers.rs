//! `semantics 1C`, `1D` and the peer rows of `1A` and `1K`.

use ipnet::IpNet;

use super::*;
use crate::model::{NamespaceScope, Peer as Model, Peers, PodPeer, Selector};

fn net(text: &str) -> IpNet {
    text.parse().expect("a CIDR")
}

/// The peers of a policy with these, which must be flawless.
fn peers(raw: Vec<Peer>) -> Vec<Model> {
    match &ingress_rule(&flawless(&from(raw))).peers {
        Peers::Of(list) => list.clone(),
        Peers::Any => panic!("a list of peers became everyone"),
    }
}

/// The block that is left of one, `None` when it matches nothing, and whether it was refused.
fn read_block(cidr: &str, except: &[&str]) -> (Option<(IpNet, Vec<IpNet>)>, Vec<Severity>) {
    let admitted = admit(&from(vec![block(cidr, except)]));
    let severities = admitted.violations.iter().map(|v| v.severity).collect();
    let kept = match &ingress_rule(&admitted.policy).peers {
        Peers::Of(list) => match list.as_slice() {
            [] => None,
            [Model::Block(block)] => Some((block.cidr, block.except.clone())),
            other => panic!("{other:?}"),
        },
        Peers::Any => panic!("a list of peers became everyone"),
    };
    (kept, severities)
}

#[test]
fn a11_an_empty_peer_matches_nothing() {
    let admitted = admit(&from(vec![Peer::default()]));
    assert_eq!(
        fields(&admitted, Severity::Refused),
        ["spec.ingress[0].from[0]"]
    );
    assert!(
        admitted.violations[0]
            .reason
            .contains("must specify a peer")
    );
    assert_eq!(ingress_rule(&admitted.policy).peers, Peers::Of(vec![]));
}

#[test]
fn a16_to_a20_c1_where_selectors_look() {
    let all = || labels(&[]);
    let app = || labels(&[("app", "web")]);
    let peer = |pod, namespace| Peer {
        pod_selector: pod,
        namespace_selector: namespace,
        ip_block: None,
    };
    let matching =
        |raw: &LabelSelector| crate::admit::selector(raw, "s").expect("a legal selector");
    let everywhere = || NamespaceScope::Matching(Selector::everything());
    for (row, raw, namespaces, pods) in [
        (
            "A16",
            peer(Some(all()), None),
            NamespaceScope::Own,
            Selector::everything(),
        ),
        (
            "A17",
            peer(None, Some(all())),
            everywhere(),
            Selector::everything(),
        ),
        (
            "A18",
            peer(Some(all()), Some(all())),
            everywhere(),
            Selector::everything(),
        ),
        (
            "A19",
            peer(Some(app()), Some(all())),
            everywhere(),
            matching(&app()),
        ),
        (
            "C1",
            peer(Some(app()), Some(app())),
            NamespaceScope::Matching(matching(&app())),
            matching(&app()),
        ),
    ] {
        assert_eq!(
            peers(vec![raw]),
            [Model::Pods(PodPeer { namespaces, pods })],
            "{row}"
        );
    }
}

#[test]
fn c2_every_item_is_kept_apart() {
    let list = peers(vec![
        pods(labels(&[("a", "1")])),
        namespaces(labels(&[("b", "2")])),
    ]);
    assert_eq!(list.len(), 2);
}

#[test]
fn c3_a_block_excludes_selectors() {
    for other in [pods(labels(&[])), namespaces(labels(&[]))] {
        let both = Peer {
            ip_block: block("10.0.0.0/8", &[]).ip_block,
            ..other
        };
        let admitted = admit(&from(vec![both, block("192.0.2.0/24", &[])]));
        assert_eq!(
            fields(&admitted, Severity::Refused),
            ["spec.ingress[0].from[0]"]
        );
        // Its neighbour keeps working.
        let Peers::Of(list) = &ingress_rule(&admitted.policy).peers else {
            panic!("a list of peers became everyone");
        };
        assert_eq!(list.len(), 1);
    }
}

#[test]
fn d1_d2_excepts_stay_with_their_item() {
    let list = peers(vec![
        block("10.0.0.0/8", &["10.1.0.0/16", "10.1.2.0/24"]),
        block("10.1.2.0/24", &[]),
    ]);
    let [Model::Block(first), Model::Block(second)] = list.as_slice() else {
        panic!("{list:?}");
    };
    assert_eq!(first.except, [net("10.1.0.0/16"), net("10.1.2.0/24")]);
    assert_eq!(second.except, []);
}

#[test]
fn d3_d4_d9_the_widest_ranges() {
    for cidr in [
        "0.0.0.0/0",
        "::/0",
        "16.0.0.0/4",
        "2001:db8::/32",
        "192.0.2.7/32",
    ] {
        assert_eq!(read_block(cidr, &[]), (Some((net(cidr), vec![])), vec![]));
    }
}

#[test]
fn d5_legacy_cidrs_keep_their_meaning() {
    for (written, read) in [
        ("10.0.0.1/24", "10.0.0.0/24"),
        ("010.0.0.0/8", "10.0.0.0/8"),
        ("10.000.0.08/29", "10.0.0.8/29"),
        ("10.0.0.0/08", "10.0.0.0/8"),
        ("0177.0.0.1/8", "177.0.0.0/8"),
        ("2001:db8::1/64", "2001:db8::/64"),
        ("2001:00db8::/32", "2001:db8::/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.0.0.9/128", "10.0.0.9/32"),
        ("::ffff:a00:0/104", "10.0.0.0/8"),
        ("::ffff:010.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
    ] {
        let expected = (Some((net(read), vec![])), vec![Severity::Legacy]);
        assert_eq!(read_block(written, &[]), expected, "{written}");
    }
    // Below /96 there is no IPv4 range to mean; the base has bits set beyond the prefix.
    assert_eq!(
        read_block("::ffff:0:0/90", &[]),
        (Some((net("::ffc0:0:0/90"), vec![])), vec![Severity::Legacy])
    );
}

#[test]
fn d5_excepts_may_be_legacy_too() {
    assert_eq!(
        read_block("010.0.0.0/8", &["10.1.0.5/16"]),
        (
            Some((net("10.0.0.0/8"), vec![net("10.1.0.0/16")])),
            vec![Severity::Legacy, Severity::Legacy]
        )
    );
}

#[test]
fn d5_garbage_matches_nothing() {
    for cidr in [
        "",
        " ",
        "192.168.5.6",
        "192.168.5.6/",
        "/8",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/+8",
        "10.0.0.0/8/8",
        "10.0.0/8",
        "10.0.0.0.0/8",
        "10.0.0.256/8",
        "10.0.0.0x1/8",
        "10.0.0.0 /8",
        " 10.0.0.0/8",
        "10..0.0/8",
        "1.2.3.4.5/8",
        "fd00:192:168::",
        "fd00::/129",
        "fd00::1::2/64",
        "fd00:12345::/32",
        "fe80::1%eth0/64",
        "::ffff:300.0.0.0/104",
        "::1.2.3/96",
        "any",
    ] {
        let (kept, severities) = read_block(cidr, &[]);
        assert_eq!(
            (kept, severities),
            (None, vec![Severity::Refused]),
            "{cidr:?}"
        );
    }
}

/// Without the exception the peer would allow more than its author meant.
#[test]
fn k_one_bad_except_spoils_the_whole_peer() {
    for (cidr, except) in [
        ("10.0.0.0/8", "11.0.0.0/16"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/8", "0.0.0.0/0"),
        ("10.0.0.0/8", "fd00::/16"),
        ("10.0.0.0/8", ""),
        ("10.0.0.0/8", " "),
        ("10.0.0.0/8", "10.0.0.1"),
        ("::/0", "10.0.0.0/8"),
        ("fd00::/16", "fd00::/16"),
    ] {
        let (kept, severities) = read_block(cidr, &[except]);
        assert_eq!(
            (kept, severities),
            (None, vec![Severity::Refused]),
            "{cidr} {except:?}"
        );
    }
    // A good one beside a bad one does not help.
    let admitted = admit(&from(vec![block(
        "10.0.0.0/8",
        &["10.1.0.0/16", "11.0.0.0/16"],
    )]));
    assert_eq!(
        fields(&admitted, Severity::Refused),
        ["spec.ingress[0].from[0].ipBlock.except[1]"]
    );
    assert_eq!(ingress_rule(&admitted.policy).peers, Peers::Of(vec![]));
}

#[test]
fn k_an_except_of_a_mapped_range_is_of_its_family() {
    assert_eq!(
        read_block("10.0.0.0/8", &["::ffff:10.1.0.0/112"]),
        (
            Some((net("10.0.0.0/8"), vec![net("10.1.0.0/16")])),
            vec![Severity::Legacy]
        )
    );
}

#[test]
fn k_lists_have_no_limit() {
    let except: Vec<String> = (0..5_000u32)
        .map(|i| format!("10.{}.{}.0/24", i / 250, i % 250))
        .collect();
    let except: Vec<&str> = except.iter().map(String::as_str).collect();
    let (kept, severities) = read_block("10.0.0.0/8", &except);
    assert_eq!(severities, []);
    assert_eq!(kept.map(|(_, except)| except.len()), Some(5_000));
}

#[test]
fn a_peer_with_a_flawed_selector_matches_nothing() {
    let bad = || labels(&[("app", "?")]);
    for (peer, field) in [
        (pods(bad()), "podSelector"),
        (namespaces(bad()), "namespaceSelector"),
        (
            Peer {
                namespace_selector: Some(labels(&[])),
                ..pods(bad())
            },
            "podSelector",
        ),
    ] {
        let admitted = admit(&from(vec![peer.clone()]));
        let expected = format!("spec.ingress[0].from[0].{field}.matchLabels[app]");
        assert_eq!(fields(&admitted, Severity::Refused), [expected]);
        assert_eq!(ingress_rule(&admitted.policy).peers, Peers::Of(vec![]));
    }
}
