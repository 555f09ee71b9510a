//! What is told of policies, and what is not told twice.

use serde_json::{Value, json};

use super::*;
use crate::cluster::event::Kind;
use crate::cluster::kube::mirror::Mirror;

/// A watch of policies, with what it tells.
struct Site {
    mirror: Mirror,
    watch: EventWatch,
    queue: mpsc::Receiver<Told>,
}

impl Site {
    fn new(room: usize) -> Self {
        let (sender, queue) = mpsc::channel(room);
        Self {
            mirror: Mirror::new(Kind::NetworkPolicy),
            watch: EventWatch::new(sender, KubeMetrics::default()),
            queue,
        }
    }

    /// What is told after this event.
    fn after(&mut self, event: Event<DynamicObject>) -> Vec<Told> {
        self.watch.see(&event);
        let batch = self.mirror.take(event);
        self.watch.tell(&batch);
        std::iter::from_fn(|| self.queue.try_recv().ok()).collect()
    }

    fn list(&mut self, objects: &[Value]) -> Vec<Told> {
        self.after(Event::Init);
        for value in objects {
            self.after(Event::InitApply(object(value)));
        }
        self.after(Event::InitDone)
    }
}

fn object(value: &Value) -> DynamicObject {
    serde_json::from_value(value.clone()).unwrap()
}

/// A policy with a port that is none, unless it is good.
fn policy(uid: &str, generation: i64, port: i64) -> Value {
    json!({
        "metadata": { "namespace": "shop", "name": "db", "uid": uid, "generation": generation },
        "spec": { "podSelector": {}, "ingress": [{ "ports": [{ "port": port }] }] },
    })
}

fn apply(value: &Value) -> Event<DynamicObject> {
    Event::Apply(object(value))
}

#[test]
fn a_problem_is_told_with_field_reason_and_remedy() {
    let mut site = Site::new(8);
    let told = site.list(&[policy("u1", 1, 0)]);
    let [told] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(told.policy, NamespacedName::new("shop", "db"));
    assert_eq!(told.uid, "u1");
    assert_eq!(told.reason, "PolicyPartlyUnderstood");
    assert!(
        told.note.starts_with("spec.ingress[0].ports[0].port: "),
        "{}",
        told.note
    );
    assert!(
        told.note.contains("this port matches nothing"),
        "{}",
        told.note
    );
    assert!(told.note.ends_with(REMEDY), "{}", told.note);
    let name = told.name.strip_prefix("db.").unwrap();
    assert!(name.len() == 16 && name.bytes().all(|it| it.is_ascii_hexdigit()));

    let closed =
        json!({ "metadata": { "namespace": "shop", "name": "x" }, "spec": { "podSelector": 1 } });
    let told = site.after(apply(&closed));
    assert_eq!(told[0].reason, "PolicyNotUnderstood");
}

#[test]
fn nothing_is_told_twice_of_one_generation() {
    let mut site = Site::new(8);
    let first = site.list(&[policy("u1", 1, 0)]);
    assert_eq!(first.len(), 1);
    assert_eq!(site.after(apply(&policy("u1", 1, 0))), [], "relabelled");
    assert_eq!(site.list(&[policy("u1", 1, 0)]), [], "listed anew");
    assert_eq!(site.list(&[]), [], "gone");

    // Another one of the same name, another generation, and another replica.
    let recreated = site.list(&[policy("u2", 1, 0)]);
    let edited = site.after(apply(&policy("u2", 2, 0)));
    assert_eq!((recreated.len(), edited.len()), (1, 1));
    assert_ne!(recreated[0].name, first[0].name);
    assert_ne!(edited[0].name, recreated[0].name);
    assert_eq!(
        Site::new(8).list(&[policy("u1", 1, 0)]),
        first,
        "the same event"
    );
    assert_eq!(site.after(apply(&policy("u2", 3, 80))), [], "mended");
}

#[test]
fn what_finds_no_room_is_told_the_next_time() {
    let mut site = Site::new(1);
    let two = json!({
        "metadata": { "namespace": "shop", "name": "db", "uid": "u1", "generation": 1 },
        "spec": { "podSelector": {}, "ingress": [{ "ports": [{ "port": 0 }, { "port": 70_000 }] }] },
    });
    let first = site.after(apply(&two));
    let second = site.after(apply(&two));
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_ne!(first, second);
    assert_eq!(site.after(apply(&two)), []);
}

#[test]
fn names_and_notes_are_cut_to_what_a_server_takes() {
    let long = "x.".repeat(126);
    let reference = NamespacedName::new("shop", long);
    let problem = Problem {
        object: String::new(),
        field: "é".repeat(2000),
        reason: "r".to_owned(),
        consequence: "c".to_owned(),
    };
    let told = Policy::default().event(&reference, &problem);
    assert!(told.note.len() <= LONGEST_NOTE && told.note.ends_with(REMEDY));
    assert!(told.name.len() <= 253, "{}", told.name);
    assert!(
        told.name.split('.').all(|part| !part.is_empty()),
        "{}",
        told.name
    );
}
