//! The sandbox: what it hides, what it returns, and that nothing outlives it.
//!
//! These cases look from outside, so they run there, and send this very program in.

#![allow(
    clippy::print_stdout,
    reason = "what runs inside reports on its standard output"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sidewall_host_tests::harness;
use sidewall_host_tests::net::Netns;
use sidewall_host_tests::sandbox::{self, Place};

/// Says what to do inside, and is the first argument.
const REPORT: &str = "--inside-report";
const FAIL: &str = "--inside-fail";
const LINGER: &str = "--inside-linger";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some(REPORT) => inside(report),
        Some(FAIL) => inside(|| Ok(ExitCode::from(7))),
        Some(LINGER) => {
            let seconds = arguments.next().unwrap_or_default();
            inside(move || linger(&seconds))
        }
        _ => harness::main_outside(&[
            ("it_is_another_world_inside", another_world),
            ("the_exit_code_comes_back", exit_code),
            ("kill_ends_everything", || ends_everything(Signal::SIGKILL)),
            ("terminate_ends_everything", || {
                ends_everything(Signal::SIGTERM)
            }),
            ("interrupt_ends_everything", || {
                ends_everything(Signal::SIGINT)
            }),
        ]),
    }
}

fn inside(work: impl FnOnce() -> Result<ExitCode>) -> ExitCode {
    match sandbox::enter() {
        Ok(Place::Left(code)) => code,
        Ok(Place::Inside) => work().unwrap_or(ExitCode::FAILURE),
        Err(_) => ExitCode::FAILURE,
    }
}

/// Prints what there is to see inside.
fn report() -> Result<ExitCode> {
    let netns = Netns::create("probe")?;
    println!("process {}", std::process::id());
    println!("network {}", fs::read_link("/proc/self/ns/net")?.display());
    for interface in fs::read_to_string("/proc/net/dev")?.lines().skip(2) {
        println!(
            "interface {}",
            interface.split(':').next().unwrap_or_default().trim()
        );
    }
    println!("named {}", fs::read_dir("/run/netns")?.count());
    println!("scratch {}", std::env::temp_dir() == sandbox::scratch());
    fs::write(sandbox::scratch().join("left-behind"), "x")?;
    std::net::TcpListener::bind("127.0.0.1:1").map(|_| println!("loopback up"))?;
    drop(netns);
    println!("named {}", fs::read_dir("/run/netns")?.count());
    Ok(ExitCode::SUCCESS)
}

/// Has a child and a grandchild in another namespace, and waits for the end.
fn linger(seconds: &str) -> Result<ExitCode> {
    let netns = Netns::create("lingering")?;
    let mut direct = Command::new("sleep").arg(seconds).spawn()?;
    let mut other = netns
        .command_as(1337, 1337, &[], "sleep")
        .arg(seconds)
        .spawn()?;
    println!("ready");
    direct.wait()?;
    other.wait()?;
    Ok(ExitCode::SUCCESS)
}

fn start(arguments: &[&str]) -> Result<Child> {
    Ok(Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()?)
}

fn another_world() -> Result<()> {
    let output = start(&[REPORT])?.wait_with_output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{text}");
    let outside = fs::read_link("/proc/self/ns/net")?.display().to_string();
    let network = text
        .lines()
        .find_map(|line| line.strip_prefix("network "))
        .context("no network line")?;
    ensure!(network != outside, "the network is the host's");
    let others: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with("network "))
        .collect();
    // A kernel may add tunnel devices (sit0, ip6tnl0 ...) to every namespace; none leads anywhere.
    let others: Vec<_> = others
        .into_iter()
        .filter(|line| !line.starts_with("interface ") || line.ends_with(" lo"))
        .collect();
    ensure!(
        others
            == [
                "process 1",
                "interface lo",
                "named 1",
                "scratch true",
                "loopback up",
                "named 0"
            ],
        "{text}"
    );
    ensure!(
        !sandbox::scratch().join("left-behind").exists(),
        "a file of the sandbox is on the host"
    );
    ensure!(
        !std::path::Path::new("/run/netns/probe").exists(),
        "a namespace of the sandbox is on the host"
    );
    Ok(())
}

fn exit_code() -> Result<()> {
    let status = start(&[FAIL])?.wait()?;
    ensure!(status.code() == Some(7), "{status}");
    Ok(())
}

fn ends_everything(signal: Signal) -> Result<()> {
    // A duration nobody else sleeps marks our processes.
    let seconds = format!("{}.{}", 86_400 + signal as i32, std::process::id());
    let mut child = start(&[LINGER, &seconds])?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no standard output")?).read_line(&mut line)?;
    ensure!(line == "ready\n", "{line:?}");
    let processes = sleeping(&seconds)?;
    ensure!(
        processes >= 2,
        "{processes} processes are marked, so their end would prove nothing"
    );

    kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
    child.wait()?;
    let started = Instant::now();
    while sleeping(&seconds)? > 0 {
        ensure!(
            started.elapsed() < Duration::from_secs(5),
            "{} processes outlived {signal}",
            sleeping(&seconds)?
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// How many processes of this machine have that argument.
fn sleeping(seconds: &str) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir("/proc")? {
        // Processes end while we look.
        let arguments = fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        let mut words = arguments.split(|byte| *byte == 0);
        count += usize::from(words.any(|word| word == seconds.as_bytes()));
    }
    Ok(count)
}
