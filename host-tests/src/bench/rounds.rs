//! The same load on several Envoys in turn, so that a machine that slows down slows all of them.

use std::time::Duration;

use anyhow::Result;

use super::median;
use super::site::Site;
use super::world::World;

/// What one unit of a load took in one round, in microseconds.
#[derive(Clone, Copy, Debug)]
struct Sample {
    elapsed: f64,
    cpu: f64,
}

/// The samples of every round, by arm.
#[derive(Debug)]
pub struct Rounds(Vec<Vec<Sample>>);

impl Rounds {
    /// Puts the load on every arm in turn, so many times. An arm is an Envoy and
    /// who may connect to it. A load is of `units` connections,
    /// messages or bytes, and says how long it took.
    ///
    /// # Errors
    ///
    /// The load's.
    pub fn run(
        arms: &[(&Site, &World)],
        rounds: usize,
        units: usize,
        load: impl Fn(&Site, &World) -> Result<Duration>,
    ) -> Result<Self> {
        let mut samples = vec![Vec::with_capacity(rounds); arms.len()];
        // The first round is for caches, and is not kept.
        for round in 0..=rounds {
            for place in 0..arms.len() {
                // Another one begins each round: whoever comes after a greedy one is not always the same.
                let arm = (place + round) % arms.len();
                let (site, world) = arms[arm];
                let before = site.cpu()?;
                let elapsed = load(site, world)?;
                let cpu = site.cpu()?.saturating_sub(before);
                if round > 0 {
                    let per_unit = |time: Duration| time.as_secs_f64() * 1e6 / units as f64;
                    samples[arm].push(Sample {
                        elapsed: per_unit(elapsed),
                        cpu: per_unit(cpu),
                    });
                }
            }
        }
        Ok(Self(samples))
    }

    /// Envoy's processor time for a unit, in microseconds.
    #[must_use]
    pub fn cpu(&self, arm: usize) -> f64 {
        median(self.0[arm].iter().map(|sample| sample.cpu).collect())
    }

    /// Units a second.
    #[must_use]
    pub fn rate(&self, arm: usize) -> f64 {
        1e6 / median(self.0[arm].iter().map(|sample| sample.elapsed).collect())
    }

    /// How much more processor time one arm needs than another, as the median over the rounds.
    #[must_use]
    pub fn cpu_ratio(&self, arm: usize, to: usize) -> f64 {
        self.ratio(arm, to, |arm, to| arm.cpu / to.cpu)
    }

    /// How many times the units of another arm an arm gets through, as the median over the rounds.
    #[must_use]
    pub fn rate_ratio(&self, arm: usize, to: usize) -> f64 {
        self.ratio(arm, to, |arm, to| to.elapsed / arm.elapsed)
    }

    fn ratio(&self, arm: usize, to: usize, of: impl Fn(&Sample, &Sample) -> f64) -> f64 {
        let pairs = self.0[arm].iter().zip(&self.0[to]);
        median(pairs.map(|(arm, to)| of(arm, to)).collect())
    }
}
