use super::*;

fn name(text: &str) -> NamespacedName {
    let (namespace, name) = text.split_once('/').unwrap();
    NamespacedName::new(namespace, name)
}

fn bearer(account: &str, pod: Option<&str>, node: Option<&str>) -> Bearer {
    Bearer {
        account: name(account),
        pod: pod.map(Into::into),
        pod_uid: pod.map(|name| format!("uid of {name}").into()),
        node: node.map(Into::into),
    }
}

fn pod(text: &str) -> Recipient {
    Recipient::Pod(name(text))
}

fn node(name: &str) -> Recipient {
    Recipient::Node(name.into())
}

/// Whom a token proves its bearer to be, where `sidewall/node` is the nodes' service account.
fn proves(bearer: &Bearer, claimed: &Recipient) -> Result<Recipient, &'static str> {
    let node_account = name("sidewall/node");
    proved(bearer, claimed, Some(&node_account)).map_err(|refusal| refusal.reason())
}

#[test]
fn a_token_stands_for_its_pod_whatever_is_claimed() {
    let web = bearer("shop/web", Some("web-1"), Some("one"));
    for claimed in ["shop/web-1", "shop/web-2", "bank/web-1"] {
        assert_eq!(proves(&web, &pod(claimed)), Ok(pod("shop/web-1")));
    }
    let unbound = bearer("shop/web", None, Some("one"));
    assert_eq!(proves(&unbound, &pod("shop/web-1")), Err("token-unbound"));
}

#[test]
fn only_the_nodes_account_stands_for_a_node_and_only_for_its_own() {
    let agent = bearer("sidewall/node", Some("node-x"), Some("one"));
    assert_eq!(proves(&agent, &node("two")), Ok(node("one")));
    let own = pod("sidewall/node-x");
    assert_eq!(proves(&agent, &own), Ok(own.clone()));
    let old = bearer("sidewall/node", Some("node-x"), None);
    assert_eq!(proves(&old, &node("one")), Err("token-unbound"));
    for account in ["shop/node", "sidewall/web"] {
        let other = bearer(account, Some("web-1"), Some("one"));
        assert_eq!(proves(&other, &node("one")), Err("not-a-node"));
    }
    let nobody = proved(&agent, &node("one"), None).unwrap_err();
    assert_eq!(nobody.reason(), "not-a-node");
}

#[test]
fn streams_end_with_their_tokens_but_not_all_at_once() {
    let now = SystemTime::UNIX_EPOCH;
    let end = |lives: u64, first: u8| {
        let mut digest = [0; 32];
        digest[0] = first;
        let token = Token {
            secret: "",
            digest,
            expires: now + Duration::from_secs(lives),
        };
        let end = stream_end(&token, now).duration_since(now);
        end.unwrap().as_secs()
    };
    assert_eq!(end(3600, 0), 3600);
    assert_eq!(end(3600, 128), 3570);
    assert_eq!(end(3600, 255), 3540);
    // A short life is not made much shorter.
    assert_eq!(end(10, 255), 9);
}
