//! What was ended does not come back to life.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sidewall_distributor::node::ruleset::{self, Plan};
use sidewall_host_tests::net::Netns;
use sidewall_host_tests::wasm_host::scene::{pods, tcp};
use sidewall_policy::model::TcpPath;
use sidewall_policy::snapshot::Snapshot;

use super::agent::Agent;
use super::kernel::{B, NODE, at, checked, nft, revoke, scene, settings, topology};
use super::{OPEN, PATIENCE, SILENCE};

/// With the table that every node has. A server that keeps sending would have the kernel take up the
/// connection again, the other way round.
pub fn never() -> Result<()> {
    let lab = topology()?;
    let node = lab.node(NODE)?;
    let b = lab.pod("default/b")?;
    stream_from(b, OPEN)?;
    let settings = settings();
    let kernel_only = || {
        ["default/a", "default/b"]
            .into_iter()
            .fold(scene(), |scene, pod| scene.tcp_path(pod, TcpPath::Kernel))
    };
    let subjects = ["default/a", "default/b"];
    let only_c = Some(vec![pods("c", tcp(OPEN, OPEN))]);
    let open = kernel_only().snapshot(&subjects);
    let closed = kernel_only()
        .policy("default/b", "b", only_c, None)
        .snapshot(&subjects);
    let plan = |bytes: &[u8]| -> Result<Plan> {
        let snapshot = Snapshot::check(bytes.to_vec())?;
        Ok(Plan::new(&settings, Some(&snapshot)))
    };
    let run = |steps: Vec<ruleset::Step>| steps.iter().try_for_each(|step| nft(node, &step.script));
    run(ruleset::install(&plan(&open)?))?;
    for family in [0, 1] {
        let watch = |pod: &str| {
            lab.pod(pod)?
                .run(|| TcpStream::connect(at(B[family], OPEN)))?
                .map_err(anyhow::Error::from)
        };
        let (mut from_a, mut from_c) = (watch("default/a")?, watch("default/c")?);
        ensure!(
            hears(&mut from_a)? && hears(&mut from_c)?,
            "both hear the server at first"
        );

        run(ruleset::transition(&plan(&open)?, &plan(&closed)?))?;
        ensure!(hears(&mut from_a)?, "rules alone end nothing");
        let records = revoke(node, &closed)?;
        assert_eq!(records.len(), 1, "{records:?}");
        thread::sleep(SILENCE);
        while drain(&mut from_a)? > 0 {}
        for _ in 0..3 {
            from_a.write_all(b"still there?")?;
            ensure!(!hears(&mut from_a)?, "a cut connection came back");
        }
        ensure!(hears(&mut from_c)?, "the allowed one goes on");
        run(ruleset::transition(&plan(&closed)?, &plan(&open)?))?;
    }
    Ok(())
}

/// A change denies a flow that an earlier one allowed, shortly after one that would have denied it.
/// Answers are long on their way: were the flow forgotten at once, one of them would open it again the
/// other way round.
pub fn not_by_answers_on_their_way() -> Result<()> {
    const SUBJECTS: [&str; 2] = ["default/a", "default/b"];
    const ATTEMPTS: u16 = 3;
    /// When the flow is denied, after the change before.
    const SOON: Duration = Duration::from_millis(230);
    let lab = topology()?;
    let agent = Agent::start(lab.node(NODE)?)?;
    let closed = |port| {
        let rules = Some(vec![pods("c", tcp(port, port))]);
        let scene = scene().policy("default/b", "b", rules, None);
        checked(&scene.snapshot(&SUBJECTS))
    };
    let open = checked(&scene().snapshot(&SUBJECTS))?;
    answer_late(lab.pod("default/b")?, OPEN)?;
    for attempt in 0..ATTEMPTS {
        for family in [0, 1] {
            agent.enforce(&closed(1)?)?;
            let earlier = Instant::now();
            agent.enforce(&open)?;
            let client = lab.pod("default/a")?.run(|| -> io::Result<_> {
                let client = UdpSocket::bind(at("::", 5000 + attempt))?;
                client.connect(at(B[family], OPEN))?;
                Ok(client)
            })??;
            let answers = asks(&client, SOON.saturating_sub(earlier.elapsed()))?;
            // On a busy machine the first answer takes longer.
            ensure!(answers > 0 || asks(&client, PATIENCE)? > 0, "it is allowed");
            agent.enforce(&closed(2)?)?;
            asks(&client, SILENCE)?;
            // It is deleted meanwhile.
            let answers = asks(&client, PATIENCE)?;
            ensure!(answers == 0, "{answers} answers on a denied flow");
        }
    }
    agent.stop()
}

/// Sends something every few milliseconds for a while, and counts the answers.
fn asks(client: &UdpSocket, period: Duration) -> Result<usize> {
    client.set_read_timeout(Some(Duration::from_millis(5)))?;
    let until = Instant::now() + period;
    let mut answers = 0;
    while Instant::now() < until {
        client.send(b"?")?;
        answers += usize::from(client.recv(&mut [0; 8]).is_ok());
    }
    Ok(answers)
}

/// A server whose answers are long on their way.
fn answer_late(pod: &Netns, port: u16) -> Result<()> {
    const LATE: Duration = Duration::from_millis(100);
    let socket = pod.run(|| UdpSocket::bind(at("::", port)))??;
    let (sender, answers) = mpsc::channel();
    let answering = socket.try_clone()?;
    thread::spawn(move || {
        for (at, to) in answers {
            thread::sleep(Instant::saturating_duration_since(&at, Instant::now()));
            let _ = answering.send_to(b"!", to);
        }
    });
    thread::spawn(move || {
        while let Ok((_, from)) = socket.recv_from(&mut [0; 8]) {
            if sender.send((Instant::now() + LATE, from)).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// A server that sends something every few milliseconds, without being asked.
fn stream_from(pod: &Netns, port: u16) -> Result<()> {
    let listener = pod.run(|| TcpListener::bind(at("::", port)))??;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                while stream.write_all(b".").is_ok() {
                    thread::sleep(Duration::from_millis(10));
                }
            });
        }
    });
    Ok(())
}

/// Whether something new arrives within a while.
fn hears(stream: &mut TcpStream) -> Result<bool> {
    drain(stream)?;
    stream.set_read_timeout(Some(SILENCE))?;
    match stream.read(&mut [0; 64]) {
        Ok(read) => Ok(read > 0),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Reads what is there already.
fn drain(stream: &mut TcpStream) -> Result<usize> {
    stream.set_nonblocking(true)?;
    let mut total = 0;
    let outcome = loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => break Ok(total),
            Ok(read) => total += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(total),
            Err(error) => break Err(error.into()),
        }
    };
    stream.set_nonblocking(false)?;
    outcome
}
