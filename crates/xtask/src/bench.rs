//! `cargo xtask bench`: figures, each with what it is compared to.

use anyhow::Result;
use clap::Subcommand;

use crate::{root, setup, step};

/// What can be measured.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// From the last image's arrival to the report's, against the time the model alone takes; memory at rest
    FirstLight,
}

/// Sets up, builds, and hands over to the `bench` program of the end-to-end package.
///
/// # Errors
/// When a step fails, or a figure misses what it is held to.
pub(crate) fn run(what: &Bench) -> Result<()> {
    setup::build()?;
    step::run("build", &mut step::cargo(&["build", "--workspace", "--bins"]))?;
    let name = match what {
        Bench::FirstLight => "first-light",
    };
    step::run(&format!("bench {name}"), std::process::Command::new(root().join("target/debug/bench")).arg(name))
}
