//! `cargo xtask soak`: tests that take too long for every day.

use std::process::Command;

use anyhow::Result;
use clap::Subcommand;

use crate::{root, setup, step};

/// What can be tested for long.
#[derive(Subcommand)]
pub(crate) enum Soak {
    /// A daemon reads three studies and waits, under strace: no packet, no name look-up, no file that was not named
    Silence {
        /// How long it waits
        #[arg(long, default_value_t = 60)]
        minutes: u64,
    },
}

/// Sets up, builds, and hands over to the `soak` program of the end-to-end package.
///
/// # Errors
/// When a step fails, or what is tested does.
pub(crate) fn run(what: &Soak) -> Result<()> {
    setup::build()?;
    setup::peers()?;
    step::run("build", &mut step::cargo(&["build", "--workspace", "--bins"]))?;
    let mut soak = Command::new(root().join("target/debug/soak"));
    match what {
        Soak::Silence { minutes } => step::run("soak silence", soak.args(["silence", &minutes.to_string()])),
    }
}
