//! What a folder says, read when asked.

use std::fs;
use std::os::unix::fs::symlink;

use super::{pod, policy, words, write};
use crate::cluster::event::{Event, Kind, Object};
use crate::cluster::manifests::folder::Folder;
use crate::cluster::manifests::read;

/// A folder that has been read once.
fn synced(files: &[(&str, &str)]) -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        write(dir.path(), name, text);
    }
    let mut folder = Folder::new(dir.path());
    folder.refresh();
    (dir, folder)
}

#[test]
fn the_first_reading_is_everything_and_synced() {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), "a.yaml", &pod("a", "web"));
    write(dir.path(), "b", &policy("p"));
    write(
        dir.path(),
        "c.JSON",
        "{\"apiVersion\": \"v1\", \"kind\": \"Node\", \"metadata\": {\"name\": \"n\"}}",
    );
    fs::create_dir(dir.path().join("more")).expect("a folder");
    write(&dir.path().join("more"), "d.yml", &pod("d", "web"));
    write(dir.path(), ".hidden.yaml", &pod("hidden", "web"));
    write(dir.path(), "notes.txt", &pod("txt", "web"));
    write(dir.path(), "e.yaml~", &pod("backup", "web"));
    let said = words(&read(dir.path()));
    let mut expected = vec![
        "apply Node n".to_owned(),
        "apply Pod default/a".to_owned(),
        "apply Pod default/d".to_owned(),
        "apply NetworkPolicy default/p".to_owned(),
    ];
    expected.extend(Kind::ALL.map(|kind| format!("synced {kind}")));
    assert_eq!(said, expected);
}

#[test]
fn the_namespaces_of_every_cluster_are_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let batch = read(dir.path());
    let labelled = batch.iter().any(|event| {
        matches!(event, Event::Apply(Object::Namespace(ns)) if ns.name.as_ref() == "kube-system"
            && ns.labels.get("kubernetes.io/metadata.name") == Some("kube-system"))
    });
    assert!(labelled, "{batch:?}");
}

#[test]
fn only_differences_are_told() {
    let (dir, mut folder) = synced(&[("a.yaml", &(pod("a", "web") + &pod("b", "web")))]);
    assert_eq!(words(&folder.refresh()), [""; 0]);
    write(
        dir.path(),
        "a.yaml",
        &(pod("b", "web") + "# comment\n" + &pod("a", "db")),
    );
    assert_eq!(words(&folder.refresh()), ["apply Pod default/a"]);
    write(dir.path(), "b.yaml", &pod("b", "web"));
    write(dir.path(), "a.yaml", &pod("a", "db"));
    assert_eq!(words(&folder.refresh()), [""; 0], "b has only moved");
    fs::remove_file(dir.path().join("a.yaml")).expect("delete");
    assert_eq!(words(&folder.refresh()), ["delete Pod default/a"]);
}

#[test]
fn a_mounted_config_map_is_switched_as_a_whole() {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path();
    let version = |name: &str, files: &[(&str, String)]| {
        fs::create_dir(root.join(name)).expect("a version");
        for (file, text) in files {
            write(&root.join(name), file, text);
        }
    };
    version("..1", &[("a.yaml", pod("a", "web")), ("p", policy("p"))]);
    symlink("..1", root.join("..data")).expect("link");
    symlink("..data/a.yaml", root.join("a.yaml")).expect("link");
    symlink("..data/p", root.join("p")).expect("link");
    let mut folder = Folder::new(root);
    let first = words(&folder.refresh());
    assert_eq!(
        first[..2],
        ["apply Pod default/a", "apply NetworkPolicy default/p"]
    );

    version("..2", &[("a.yaml", pod("a", "db")), ("p", policy("q"))]);
    symlink("..2", root.join("..data_tmp")).expect("link");
    fs::rename(root.join("..data_tmp"), root.join("..data")).expect("switch");
    fs::remove_dir_all(root.join("..1")).expect("delete");
    assert_eq!(
        words(&folder.refresh()),
        [
            "delete NetworkPolicy default/p",
            "apply Pod default/a",
            "apply NetworkPolicy default/q"
        ],
    );
}

#[test]
fn a_half_written_file_keeps_what_it_said() {
    let whole = policy("p") + &pod("a", "web") + &policy("q");
    let (dir, mut folder) = synced(&[("a.yaml", &whole)]);
    let half = policy("p").replace("{name: p}", "{name: p, labels: {x");
    write(dir.path(), "a.yaml", &half);
    let said = words(&folder.refresh());
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("NetworkPolicy default/p: a.yaml document 1 is not valid YAML: line"),
        "{said:?}"
    );

    write(dir.path(), "a.yaml", "");
    let said = words(&folder.refresh());
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].ends_with("file a.yaml: has become empty; delete it if it is meant to"),
        "{said:?}"
    );

    write(dir.path(), "a.yaml", &whole);
    assert_eq!(words(&folder.refresh()), ["mended"]);
}

#[test]
fn documents_around_a_broken_one_are_in_force() {
    let (dir, mut folder) = synced(&[("a.yaml", &(policy("p") + &pod("a", "web")))]);
    write(
        dir.path(),
        "a.yaml",
        &(pod("a", "db") + "---\n{broken\n" + &pod("new", "web")),
    );
    let said = words(&folder.refresh());
    assert_eq!(said[..2], ["apply Pod default/a", "apply Pod default/new"]);
    assert!(said[2].starts_with("a.yaml document 2: "), "{said:?}");
    assert_eq!(
        said.len(),
        3,
        "the policy, which may be the broken one, stays: {said:?}"
    );
}

#[test]
fn a_service_that_cannot_be_read_any_more_stays_as_it_was() {
    let service = |ports: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: s}}, spec: {{clusterIP: 10.96.0.1, ports: {ports}}}}}\n"
        )
    };
    let slice = |addresses: &str| {
        format!(
            "---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: s, labels: {{kubernetes.io/service-name: s}}}}, \
             addressType: IPv4, endpoints: [{{addresses: {addresses}}}]}}\n"
        )
    };
    let good = service("[{port: 80}]") + &slice("[10.0.0.1]") + &pod("a", "web");
    let (dir, mut folder) = synced(&[("a.yaml", &good)]);
    let broken = [
        service("eighty") + &slice("10.0.0.1"),
        good.replace(
            "apiVersion: v1, kind: Service",
            "apiVersion: v2, kind: Service",
        )
        .replace("discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"),
        good.replace("kind: Service,", "kind: Service, kind: Service,")
            .replace("addressType: IPv4", "addressType: IPv4, addressType: IPv4"),
    ];
    for text in broken {
        write(dir.path(), "a.yaml", &text);
        let said = words(&folder.refresh());
        let changed: Vec<_> = said
            .iter()
            .filter(|word| ["apply ", "delete "].iter().any(|it| word.starts_with(it)))
            .filter(|word| word.ends_with("default/s"))
            .collect();
        assert_eq!(changed, [""; 0], "{text}");
        for reported in ["Service default/s: ", "EndpointSlice default/s: "] {
            assert!(said.iter().any(|word| word.contains(reported)), "{said:?}");
        }
        write(dir.path(), "a.yaml", &good);
        folder.refresh();
    }

    // What is not named any more is gone.
    write(dir.path(), "a.yaml", &pod("a", "web"));
    let said = words(&folder.refresh());
    for gone in ["delete Service default/s", "delete EndpointSlice default/s"] {
        assert!(said.iter().any(|word| word == gone), "{said:?}");
    }
}

#[test]
fn a_policy_that_was_never_readable_seals_its_namespace_until_it_is() {
    let broken = policy("p").replace("metadata: {name: p}", "metadata:\n  name: p\nspec: [");
    let (dir, mut folder) = synced(&[("a.yaml", &broken)]);
    let said = words(&read(dir.path()));
    assert_eq!(said[0], "apply NetworkPolicy default/p");
    write(dir.path(), "a.yaml", &policy("p"));
    assert_eq!(
        words(&folder.refresh()),
        ["apply NetworkPolicy default/p", "mended"]
    );
    write(dir.path(), "a.yaml", &broken);
    let said = words(&folder.refresh());
    assert_eq!(said.len(), 1, "what it said stays, no stand-in: {said:?}");
}

#[test]
fn a_file_that_is_no_text_keeps_what_it_said() {
    let (dir, mut folder) = synced(&[("a.yaml", &pod("a", "web"))]);
    fs::write(dir.path().join("a.yaml"), [b'a', 0xff]).expect("write");
    assert_eq!(
        words(&folder.refresh()),
        ["file a.yaml: cannot be read: not UTF-8 after byte 1"]
    );
}

#[test]
fn the_first_file_wins() {
    let (dir, mut folder) = synced(&[("b.yaml", &pod("a", "late"))]);
    write(
        dir.path(),
        "a.yaml",
        &(pod("a", "early") + &pod("a", "twice")),
    );
    let batch = folder.refresh();
    assert_eq!(
        words(&batch),
        [
            "apply Pod default/a",
            "Pod default/a: defined twice in a.yaml",
            "Pod default/a: defined in a.yaml and again in b.yaml",
        ],
    );
    assert!(
        matches!(&batch[0], Event::Apply(Object::Pod(pod)) if pod.labels.get("app") == Some("early"))
    );
    fs::remove_file(dir.path().join("a.yaml")).expect("delete");
    assert_eq!(
        words(&folder.refresh()),
        ["apply Pod default/a", "mended", "mended"]
    );
}

#[test]
fn a_folder_that_vanishes_keeps_what_it_said_until_it_is_back() {
    let (dir, mut folder) = synced(&[("a.yaml", &(pod("a", "web") + &policy("p")))]);
    let root = dir.path().to_owned();
    let away = root.with_extension("away");
    fs::rename(&root, &away).expect("move");
    let said = words(&folder.refresh());
    assert_eq!(said.len(), 1);
    assert!(
        said[0].starts_with(&format!("folder {}: cannot be read: ", root.display())),
        "{said:?}"
    );
    assert_eq!(words(&folder.refresh()), [""; 0], "said once");

    fs::create_dir(&root).expect("a new folder");
    write(&root, "a.yaml", &(pod("a", "db") + &policy("p")));
    assert_eq!(words(&folder.refresh()), ["apply Pod default/a", "mended"]);
    fs::remove_dir_all(&away).expect("delete");
}

#[test]
fn a_folder_that_is_not_there_yet_is_not_synced() {
    let dir = tempfile::tempdir().expect("a folder");
    let later = dir.path().join("later");
    let mut folder = Folder::new(&later);
    let said = words(&folder.refresh());
    assert!(
        said.len() == 1 && said[0].contains("cannot be read"),
        "{said:?}"
    );
    fs::create_dir(&later).expect("a folder");
    let said = words(&folder.refresh());
    assert_eq!(said[0], "mended");
    assert_eq!(said.len(), 1 + Kind::ALL.len());
}

#[test]
fn missing_namespaces_and_nodes_are_told_of() {
    let placed =
        "---\napiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: x}\nspec: {nodeName: n}\n";
    let (dir, mut folder) = synced(&[("a.yaml", placed)]);
    let said = words(&read(dir.path()));
    let expected = "Namespace x: pods refer to it, but no manifest defines this Namespace | \
                    Node n: pods refer to it, but no manifest defines this Node";
    assert!(said.iter().any(|word| word == expected), "{said:?}");
    write(
        dir.path(),
        "b.yaml",
        "{apiVersion: v1, kind: Namespace, metadata: {name: x}}\n---\n{apiVersion: v1, kind: Node, metadata: {name: n}}\n",
    );
    assert_eq!(words(&folder.refresh()), ["apply Node n", "mended"]);
}

#[test]
fn a_link_to_the_folder_itself_ends() {
    let (dir, _) = synced(&[("a.yaml", &pod("a", "web"))]);
    symlink(".", dir.path().join("self")).expect("link");
    let said = words(&read(dir.path()));
    assert_eq!(said[0], "apply Pod default/a");
}
