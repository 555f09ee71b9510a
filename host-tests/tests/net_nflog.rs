//! Records of what the kernel drops, from the kernel's own packet log.

#[path = "net_support/kernel.rs"]
mod kernel;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kernel::{A, B, C, NODE, at, chain, fields, nft, ping, pod_cidrs, scene, send_udp, topology};
use kernel::{sctp, udp, within};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use sidewall_distributor::node::nflog::{Listener, Metrics, Prefix};
use sidewall_distributor::node::resets::Resets;
use sidewall_host_tests::harness;
use sidewall_host_tests::net::{Netns, Topology};
use sidewall_host_tests::wasm_host::scene::{pods, tcp};
use sidewall_policy::snapshot::Snapshot;
use tokio::sync::watch;

const GROUP: u16 = 4747;
const PATIENCE: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    harness::main(&[
        ("a_drop_is_recorded_with_its_policies", with_policies),
        ("every_protocol_is_told_apart", protocols),
        ("the_snapshot_in_force_words_the_record", in_force),
        ("a_group_has_one_reader_and_is_free_after_it", one_reader),
        ("what_is_lost_is_counted", lost),
    ])
}

/// The lab with a node that drops all of its pods' traffic and logs it.
fn lab() -> Result<Topology> {
    let lab = topology()?;
    let [egress, ingress, unknown] = [Prefix::Egress, Prefix::Ingress, Prefix::Unknown]
        .map(|prefix| format!("log prefix \"{}\" group {GROUP}", prefix.as_str()));
    nft(
        lab.node(NODE)?,
        &format!(
            "table inet judged {{
               chain pre {{
                 type filter hook prerouting priority dstnat + 5; policy accept;
                 icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
                 udp dport 666 {unknown} drop
                 ip saddr {} {egress} drop
                 ip6 saddr {} {egress} drop
                 ip daddr {} {ingress} drop
                 ip6 daddr {} {ingress} drop
               }}
             }}",
            A[0], A[1], B[0], B[1],
        ),
    )?;
    Ok(lab)
}

/// A listener that runs in a node's namespace as long as the program.
struct Log {
    records: Receiver<Value>,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    registry: Registry,
}

impl Log {
    fn start(node: &Netns, snapshot: Option<Vec<u8>>) -> Result<Self> {
        let (records, receiver) = mpsc::channel();
        let (bound, is_bound) = mpsc::channel();
        let (snapshots, subscription) = watch::channel(checked(snapshot)?);
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let here = node.clone();
        std::thread::spawn(move || {
            within(&here, async {
                let listener = match Listener::bind(GROUP).await {
                    Ok(listener) => listener,
                    Err(error) => return bound.send(Err(chain(error))),
                };
                bound.send(Ok(()))?;
                let report = |record: &_| {
                    let _ = records.send(fields(record).expect("a record"));
                };
                let error = listener
                    .run(
                        &pod_cidrs(),
                        &subscription,
                        &Resets::open(),
                        &metrics,
                        report,
                    )
                    .await;
                panic!("{}", chain(error));
            })
        });
        is_bound.recv()?.map_err(anyhow::Error::msg)?;
        Ok(Self {
            records: receiver,
            snapshots,
            registry,
        })
    }

    fn next(&self) -> Result<Value> {
        self.records
            .recv_timeout(PATIENCE)
            .context("no record came")
    }

    fn put(&self, snapshot: Option<Vec<u8>>) -> Result<()> {
        self.snapshots.send_replace(checked(snapshot)?);
        Ok(())
    }

    /// The value of a metric by its name and labels.
    fn count(&self, name: &str) -> Result<u64> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        Ok(value
            .with_context(|| format!("no {name} in {text}"))?
            .trim()
            .parse()?)
    }
}

fn checked(snapshot: Option<Vec<u8>>) -> Result<Option<Arc<Snapshot>>> {
    Ok(snapshot.map(Snapshot::check).transpose()?.map(Arc::new))
}

/// a may send nothing but UDP 53, b may be entered on TCP 8080 by a.
fn policies() -> Vec<u8> {
    scene()
        .policy("default/a-out", "a", None, Some(vec![pods("b", udp(53))]))
        .policy(
            "default/b-in",
            "b",
            Some(vec![pods("a", tcp(8080, 8080))]),
            None,
        )
        .snapshot(&["default/a", "default/b"])
}

fn with_policies() -> Result<()> {
    let lab = lab()?;
    let log = Log::start(lab.node(NODE)?, Some(policies()))?;
    for family in [0, 1] {
        send_udp(lab.pod("default/a")?, 5000, at(C[family], 53))?;
        let mut record = log.next()?;
        let revision = record
            .as_object_mut()
            .and_then(|fields| fields.remove("revision"));
        ensure!(revision.is_some(), "{record}");
        assert_eq!(
            record,
            json!({
                "verdict": "deny", "direction": "egress", "pod": "default/a",
                "source": at(A[family], 5000).to_string(),
                "destination": at(C[family], 53).to_string(),
                "protocol": "UDP", "reason": "no-rule", "policies": ["default/a-out"],
                "nearest": {"rule": "default/a-out egress[0]", "missed": "to"},
            })
        );
        send_udp(lab.pod("default/c")?, 5000, at(B[family], 53))?;
        let record = log.next()?;
        assert_eq!(record["direction"], "ingress");
        assert_eq!(record["policies"], json!(["default/b-in"]));
    }
    assert_eq!(log.count("drop_records_total{direction=\"egress\"}")?, 2);
    assert_eq!(log.count("drop_records_total{direction=\"ingress\"}")?, 2);
    assert_eq!(log.count("drop_records_total{direction=\"unknown\"}")?, 0);
    assert_eq!(log.count("drop_records_unreadable_total")?, 0);
    assert_eq!(log.count("drop_records_lost_total")?, 0);
    Ok(())
}

fn protocols() -> Result<()> {
    let lab = lab()?;
    let log = Log::start(lab.node(NODE)?, Some(policies()))?;
    let a = lab.pod("default/a")?;
    for family in [0, 1] {
        ping(a, B[family])?;
        let record = log.next()?;
        assert_eq!(record["protocol"], ["ICMP", "ICMPv6"][family]);
        assert_eq!(record["source"], A[family]);
        assert_eq!(record["destination"], B[family]);

        sctp(a, B[family], 5000, 9999)?;
        let record = log.next()?;
        assert_eq!(record["protocol"], "SCTP");
        assert_eq!(record["source"], at(A[family], 5000).to_string());
        assert_eq!(record["destination"], at(B[family], 9999).to_string());

        let destination = at(B[family], 8080);
        let connected = a.run(|| {
            std::net::TcpStream::connect_timeout(&destination, Duration::from_millis(100))
        })?;
        ensure!(connected.is_err(), "a dropped SYN was answered");
        let record = log.next()?;
        assert_eq!(record["protocol"], "TCP");
        assert_eq!(record["destination"], destination.to_string());
        // Ingress would allow it; egress is what decided.
        assert_eq!(record["direction"], "egress");
    }
    Ok(())
}

fn in_force() -> Result<()> {
    let lab = lab()?;
    let a = lab.pod("default/a")?;
    let log = Log::start(lab.node(NODE)?, None)?;
    let drop = |port| {
        send_udp(a, 5000, at(B[0], port))?;
        log.next()
    };
    let record = drop(666)?;
    assert_eq!(record["reason"], "no-snapshot");
    assert_eq!(record.get("revision"), None);
    assert_eq!(log.count("drop_records_total{direction=\"unknown\"}")?, 1);

    log.put(Some(scene().snapshot(&["default/a"])))?;
    assert_eq!(drop(666)?["reason"], "unknown-address");

    log.put(Some(policies()))?;
    let record = drop(80)?;
    assert_eq!(record["reason"], "no-rule");
    assert_eq!(record["nearest"]["missed"], "ports");

    // The kernel was faster than the change that allows it.
    let open = scene()
        .policy("default/a-out", "a", None, Some(vec![pods("b", udp(80))]))
        .snapshot(&["default/a", "default/b"]);
    log.put(Some(open))?;
    let record = drop(80)?;
    assert_eq!(record["verdict"], "deny");
    assert_eq!(record["direction"], "egress");
    assert_eq!(record["reason"], "allowed-by-now");
    assert_eq!(record["rule"], "default/a-out egress[0]");
    Ok(())
}

fn one_reader() -> Result<()> {
    let lab = lab()?;
    let node = lab.node(NODE)?;
    within(node, async {
        let first = Listener::bind(GROUP).await?;
        let error = Listener::bind(GROUP)
            .await
            .err()
            .context("the group is taken")?;
        assert!(chain(error).contains("--nflog-group"));
        Listener::bind(GROUP + 1).await?;
        drop(first);
        Listener::bind(GROUP).await?;
        Ok(())
    })?
}

fn lost() -> Result<()> {
    const SENT: u64 = 60_000;
    let lab = lab()?;
    let a = lab.pod("default/a")?;
    let (records, snapshots) = (AtomicU64::new(0), watch::channel(None).1);
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    within(lab.node(NODE)?, async {
        let listener = Listener::bind(GROUP).await?;
        let resets = Resets::open();
        // Nobody reads meanwhile.
        a.run(|| -> Result<()> {
            let socket = std::net::UdpSocket::bind(at("0.0.0.0", 5000))?;
            for _ in 0..SENT {
                socket.send_to(&[0; 1000], at(B[0], 80))?;
            }
            Ok(())
        })??;
        let report = |_: &_| {
            records.fetch_add(1, Ordering::Relaxed);
        };
        let cidrs = pod_cidrs();
        let running = listener.run(&cidrs, &snapshots, &resets, &metrics, report);
        let late = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            // The number of a packet that does arrive tells how many did not.
            send_udp(a, 5000, at(B[0], 80))?;
            tokio::time::sleep(Duration::from_millis(500)).await;
            anyhow::Ok(())
        };
        tokio::select! {
            error = running => Err(error.into()),
            done = late => done,
        }
    })??;
    let mut text = String::new();
    encode(&mut text, &registry)?;
    let lost = text
        .lines()
        .find_map(|line| line.strip_prefix("drop_records_lost_total "));
    let lost: u64 = lost.context("the metric")?.parse()?;
    ensure!(lost > 0, "nothing was lost of {SENT} packets: {text}");
    assert_eq!(records.into_inner() + lost, SENT + 1);
    Ok(())
}
