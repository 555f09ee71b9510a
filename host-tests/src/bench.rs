//! Measuring on a noisy machine: alternating runs, medians and ratios.

pub mod bootstrap;
pub mod fleet;
pub mod load;
pub mod rounds;
pub mod site;
pub mod usage;
pub mod world;

use std::hint::black_box;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::sandbox::{self, Place};

/// The `main` of a bench that needs the sandbox: without one it says why and fails.
#[must_use]
pub fn main(run: fn() -> anyhow::Result<()>) -> ExitCode {
    let done = match sandbox::enter() {
        Ok(Place::Left(code)) => return code,
        Ok(Place::Inside) => run(),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not `print`: the figures are on standard output.
            let _ = writeln!(io::stderr(), "bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The middle of a set of measurements.
pub fn median(mut values: Vec<f64>) -> f64 {
    percentile(&mut values, 0.5)
}

/// The value below which a share (0 to 1) of the measurements lies.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    let at = (share * last as f64).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}

/// The time of one call in nanoseconds, as the median over batches. The two are measured in turn,
/// so that a machine that slows down slows both.
pub fn in_turn<A, B>(mut a: impl FnMut() -> A, mut b: impl FnMut() -> B) -> (f64, f64) {
    const ROUNDS: usize = 31;
    let (calls_a, calls_b) = (calls_per_batch(&mut a), calls_per_batch(&mut b));
    let mut of_a = Vec::with_capacity(ROUNDS);
    let mut of_b = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        of_a.push(nanoseconds(&mut a, calls_a));
        of_b.push(nanoseconds(&mut b, calls_b));
    }
    (median(of_a), median(of_b))
}

/// Enough calls to fill some milliseconds.
fn calls_per_batch<T>(call: &mut impl FnMut() -> T) -> u32 {
    const BATCH: Duration = Duration::from_millis(4);
    let mut calls = 1;
    while calls < 1 << 24 {
        let started = Instant::now();
        (0..calls).for_each(|_| {
            black_box(call());
        });
        if started.elapsed() >= BATCH {
            break;
        }
        calls *= 2;
    }
    calls
}

fn nanoseconds<T>(call: &mut impl FnMut() -> T, calls: u32) -> f64 {
    let started = Instant::now();
    (0..calls).for_each(|_| {
        black_box(call());
    });
    started.elapsed().as_nanos() as f64 / f64::from(calls)
}
