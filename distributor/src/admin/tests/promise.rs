//! `/status` as the release that is out writes it: a neighbour's `sidewall status`, and whoever else reads
//! it, finds every field where it was. Fields may be added.

use super::*;
use crate::snapshots::Recipient;

const GOLDEN: &str = include_str!("status.json");

/// Holds what is written to every field of the golden file: it is there and of the same kind.
fn keeps(path: &str, golden: &Value, written: &Value) {
    match (golden, written) {
        (Value::Object(golden), Value::Object(written)) => {
            for (name, value) in golden {
                let found = written.get(name);
                let found = found.unwrap_or_else(|| panic!("{path}.{name} is gone"));
                keeps(&format!("{path}.{name}"), value, found);
            }
        }
        (Value::Array(golden), Value::Array(written)) => {
            assert_eq!(golden.len(), written.len(), "{path}");
            for (golden, written) in golden.iter().zip(written) {
                keeps(&format!("{path}[]"), golden, written);
            }
        }
        (golden, written) => assert_eq!(
            std::mem::discriminant(golden),
            std::mem::discriminant(written),
            "{path}: {golden} has become {written}"
        ),
    }
}

#[tokio::test]
async fn status_has_every_field_that_it_had() {
    let running = Running::start().await;
    let node = Recipient::Node("worker-1".into());
    let peer = |port| Some(SocketAddr::from(([127, 0, 0, 1], port)));
    let before = running.shelf.put(&pod("db"), "10.0.0.1");
    let wanted = running.shelf.put(&pod("db"), "10.0.0.2");
    running.shelf.put_raw(&node, before.clone());
    running.shelf.set_synced();
    running
        .problems
        .send_replace(Arc::new(vec![problem("NetworkPolicy default/db")]));

    let sidecar = running
        .clients
        .connect(&recipient("db"), None, peer(4000), at(1));
    sidecar.acked(before.revision, at(2));
    sidecar.sent(wanted.revision, at(3));
    sidecar.refused(Refused {
        revision: wanted.revision,
        at: at(4),
        by: Refuser::Client,
        reason: "no room".to_owned(),
    });
    let agent = running.clients.connect(&node, None, peer(4001), at(1));
    agent.sent(before.revision, at(2));
    agent.acked(before.revision, at(3));

    let written = running.status().await;
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    keeps("", &golden, &written);
    for (of, name) in [("pods", "state"), ("nodes", "state")] {
        assert_eq!(written[of][0][name], golden[of][0][name], "{of}");
    }
}
