//! What a proxy carries is left to it first.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sidewall_host_tests::probe::{Held, Protocol, Server};
use sidewall_policy::model::TcpPath;

use super::kernel::{B, C, NODE, at, nft, revoke, scene, send_udp, silence};
use super::{OPEN, PATIENCE, SILENCE, count, field, lab, table};

/// A sidecar's connections, and those that the node's Envoy took over, which are marked.
pub fn come_first() -> Result<()> {
    let lab = lab()?;
    let node = lab.node(NODE)?;
    nft(
        node,
        "table inet marks {
           chain pre {
             type filter hook prerouting priority dstnat + 6; policy accept;
             ip saddr 10.244.1.11 ct mark set 0x10000
             ip6 saddr fd00:244:1::11 ct mark set 0x10000
           }
         }",
    )?;
    let _b = Server::start(lab.pod("default/b")?, "b", Protocol::Tcp, OPEN)?;
    let _c = Server::start(lab.pod("default/c")?, "c", Protocol::Tcp, OPEN)?;
    let shut = scene()
        .tcp_path("default/b", TcpPath::Sidecar)
        .policy("default/a", "a", None, Some(Vec::new()))
        .policy("default/b", "b", Some(Vec::new()), None)
        .snapshot(&["default/a", "default/b"]);
    for family in [0, 1] {
        let hold = |from: &str, to: &str| {
            Held::open(lab.pod(from)?, at(to, OPEN), PATIENCE).map_err(anyhow::Error::from)
        };
        let mut held = [hold("default/c", B[family])?, hold("default/a", C[family])?];
        send_udp(lab.pod("default/c")?, 5000, at(B[family], 53))?;

        let records = silence(node, &shut)?;
        assert_eq!(field(&records, "protocol"), ["UDP"], "{records:?}");
        for held in &mut held {
            held.exchange(PATIENCE).map_err(anyhow::Error::msg)?;
        }
        // A third one that its proxy is closing.
        let closing = lab
            .pod("default/c")?
            .run(|| TcpStream::connect(at(B[family], OPEN)))??;
        closing.shutdown(std::net::Shutdown::Write)?;
        let known = |state| count(node, &["tcp", state]);
        let deadline = Instant::now() + PATIENCE;
        while known("TIME_WAIT")? + known("CLOSE_WAIT")? + known("LAST_ACK")? == 0 {
            ensure!(deadline > Instant::now(), "{:?}", table(node)?);
            std::thread::sleep(Duration::from_millis(10));
        }
        let records = revoke(node, &shut)?;
        assert_eq!(field(&records, "protocol"), ["TCP", "TCP"], "{records:?}");
        for held in &mut held {
            ensure!(
                held.exchange(SILENCE).is_err(),
                "a denied connection answered"
            );
        }
        assert_eq!(known("ESTABLISHED")?, 0);
        ensure!(
            known("TIME_WAIT")? + known("CLOSE_WAIT")? + known("LAST_ACK")? > 0,
            "a closing connection was taken from its proxy: {:?}",
            table(node)?
        );
    }
    Ok(())
}
