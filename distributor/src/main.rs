//! The `sidewall` command. All of it is in the library; this only starts it.

use clap::Parser as _;

fn main() -> anyhow::Result<()> {
    sidewall_distributor::cli::Cli::parse().run()
}
