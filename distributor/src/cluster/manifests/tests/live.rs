//! A folder that is watched.

use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{pod, policy, words, write};
use crate::cluster::event::Batch;
use crate::cluster::manifests::start;

/// Far below the periodic reading, so that what arrives in time was noticed.
const SOON: Duration = Duration::from_secs(2);

async fn next(events: &mut mpsc::Receiver<Batch>) -> Vec<String> {
    let batch = timeout(SOON, events.recv()).await.expect("a batch in time");
    words(&batch.expect("the source goes on"))
}

/// Nothing arrives for longer than settling takes.
async fn silence(events: &mut mpsc::Receiver<Batch>) {
    let batch = timeout(Duration::from_millis(400), events.recv()).await;
    assert!(
        batch.is_err(),
        "unexpected: {:?}",
        batch.map(|batch| batch.map(|it| words(&it)))
    );
}

#[tokio::test]
async fn changes_are_noticed_and_reading_is_none() {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), "a.yaml", &pod("a", "web"));
    let token = CancellationToken::new();
    let mut events = start(dir.path(), token.clone());
    assert_eq!(next(&mut events).await[0], "apply Pod default/a");

    let began = Instant::now();
    write(dir.path(), "p.yaml", &policy("p"));
    assert_eq!(next(&mut events).await, ["apply NetworkPolicy default/p"]);
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );

    fs::rename(dir.path().join("p.yaml"), dir.path().join("p.off")).expect("rename");
    assert_eq!(next(&mut events).await, ["delete NetworkPolicy default/p"]);
    fs::read(dir.path().join("a.yaml")).expect("read");
    silence(&mut events).await;

    token.cancel();
    let end = timeout(SOON, events.recv()).await.expect("an end in time");
    assert!(end.is_none());
}

#[tokio::test]
async fn a_file_is_read_when_its_writer_has_closed_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.yaml");
    write(dir.path(), "a.yaml", &(policy("p") + &policy("q")));
    let mut events = start(dir.path(), CancellationToken::new());
    assert_eq!(
        next(&mut events).await[..2],
        [
            "apply NetworkPolicy default/p",
            "apply NetworkPolicy default/q"
        ]
    );

    // The first half is valid YAML in which `q` is missing.
    let mut file = fs::File::create(&path).expect("truncate");
    file.write_all(policy("p").as_bytes()).expect("write");
    tokio::time::sleep(Duration::from_millis(60)).await;
    file.write_all((policy("q") + &policy("r")).as_bytes())
        .expect("write");
    drop(file);
    assert_eq!(next(&mut events).await, ["apply NetworkPolicy default/r"]);
}

#[tokio::test]
async fn a_switched_config_map_is_noticed() {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path();
    for (version, text) in [("..1", pod("a", "web")), ("..2", pod("b", "web"))] {
        fs::create_dir(root.join(version)).expect("a version");
        write(&root.join(version), "a.yaml", &text);
    }
    std::os::unix::fs::symlink("..1", root.join("..data")).expect("link");
    std::os::unix::fs::symlink("..data/a.yaml", root.join("a.yaml")).expect("link");
    let mut events = start(root, CancellationToken::new());
    assert_eq!(next(&mut events).await[0], "apply Pod default/a");

    std::os::unix::fs::symlink("..2", root.join("..data_tmp")).expect("link");
    fs::rename(root.join("..data_tmp"), root.join("..data")).expect("switch");
    assert_eq!(
        next(&mut events).await,
        ["delete Pod default/a", "apply Pod default/b"]
    );
}

#[tokio::test]
async fn a_folder_that_comes_back_is_watched_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path().join("manifests");
    let next_root = dir.path().join("next");
    fs::create_dir(&root).expect("a folder");
    write(&root, "a.yaml", &pod("a", "web"));
    let mut events = start(&root, CancellationToken::new());
    assert_eq!(next(&mut events).await[0], "apply Pod default/a");

    fs::rename(&root, dir.path().join("away")).expect("move");
    let said = next(&mut events).await;
    assert!(
        said.len() == 1 && said[0].contains("cannot be read"),
        "{said:?}"
    );

    fs::create_dir(&next_root).expect("a folder");
    write(&next_root, "a.yaml", &pod("a", "db"));
    fs::rename(&next_root, &root).expect("move");
    assert_eq!(next(&mut events).await, ["apply Pod default/a", "mended"]);
    write(&root, "b.yaml", &pod("b", "web"));
    assert_eq!(next(&mut events).await, ["apply Pod default/b"]);
}

#[tokio::test]
async fn a_new_folder_within_is_watched_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut events = start(dir.path(), CancellationToken::new());
    assert!(next(&mut events).await[0].starts_with("synced"));
    let within = dir.path().join("team");
    fs::create_dir(&within).expect("a folder");
    write(&within, "a.yaml", &pod("a", "web"));
    assert_eq!(next(&mut events).await, ["apply Pod default/a"]);
    write(&within, "b.yaml", &pod("b", "web"));
    assert_eq!(next(&mut events).await, ["apply Pod default/b"]);
}
