//! A connection that has ended must be forgotten by the filter, however it ended: else the list of
//! live ones grows for ever, and a later snapshot cuts what is long gone. Which callbacks Envoy
//! makes at an end differs from end to end, and the built filter exports but two of them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sidewall_host_tests::bench::bootstrap::{Front, Places};
use sidewall_host_tests::bench::load::{self, MESSAGE};
use sidewall_host_tests::bench::site::{Site, staged};
use sidewall_host_tests::bench::world::World;
use sidewall_host_tests::envoy::Artifact;
use sidewall_host_tests::harness;

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The client closes after a conversation.
    Client,
    /// The client closes without reading what came: it resets the connection.
    Reset,
    /// The proxy closes.
    Proxy,
    /// The client closes before anything was said.
    Silent,
}

fn main() -> ExitCode {
    harness::main(&[("connections_that_ended_are_forgotten", forgotten)])
}

fn forgotten() -> Result<()> {
    let world = World::one_rule(10);
    let module = staged(&Artifact::Filter.find()?)?;
    let snapshot = world.snapshot.bytes().to_vec();
    let site = Site::start("forgotten", Front::Sidewall { module, snapshot }, 1, 0)?;
    load::serve(&site)?;

    let held = site
        .netns()
        .run(|| load::from(world.peers[0], Places::default().echoing.0))??;
    let mut snapshots = (11..).map(|pods| World::one_rule(pods).snapshot);
    let mut kept = || -> Result<u64> {
        let snapshot = snapshots.next().context("there are numbers enough")?;
        Ok(site.push(&snapshot)?.kept)
    };
    for end in [End::Client, End::Reset, End::Proxy, End::Silent] {
        for peer in &world.peers {
            let connection = || converse(load::from(*peer, place(end))?, end);
            site.netns()
                .run(connection)?
                .with_context(|| format!("{end:?}"))?;
        }
        let ended = Instant::now();
        while kept()? > 1 {
            ensure!(
                ended.elapsed() < Duration::from_secs(10),
                "{end:?}: still remembered"
            );
            thread::sleep(Duration::from_millis(50));
        }
    }
    ensure!(
        kept()? == 1,
        "the connection that is still held was forgotten"
    );
    drop(held);
    Ok(())
}

fn place(end: End) -> std::net::SocketAddr {
    match end {
        End::Proxy => Places::default().answering,
        End::Client | End::Reset | End::Silent => Places::default().echoing.0,
    }
}

fn converse(mut connection: TcpStream, end: End) -> Result<()> {
    let mut answer = [0; MESSAGE.len()];
    match end {
        End::Proxy => connection.read_exact(&mut answer[..2])?,
        End::Silent => {}
        End::Client => {
            connection.write_all(&MESSAGE)?;
            connection.read_exact(&mut answer)?;
        }
        End::Reset => {
            connection.write_all(&MESSAGE)?;
            connection.peek(&mut answer)?;
        }
    }
    Ok(())
}
