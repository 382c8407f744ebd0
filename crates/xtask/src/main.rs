//! `cargo xtask`: what a person or CI does with this repository, one command each.
//!
//! It depends on little, so that it compiles on a bare machine within seconds, before the machine has what the rest of
//! the workspace needs.

mod bench;
mod demo;
mod setup;
mod soak;
mod step;
mod test;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set up, demonstrate, test and measure preread")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Get ONNX Runtime and what the build needs
    Setup {
        /// Also install the DICOM programs that the tests talk to
        #[arg(long)]
        peers: bool,
    },
    /// Send sample studies to a running daemon and show the reports that come back
    Demo {
        /// Let an Orthanc be the PACS: it routes the studies and keeps the reports
        #[arg(long)]
        orthanc: bool,
    },
    /// Everything CI checks: formatting, lints, unit tests, end-to-end tests against real peers
    Test {
        /// Passed on to `cargo nextest run`: a part of a test's name, or its options
        #[arg(last = true)]
        filters: Vec<String>,
    },
    /// Measure, and print the figures with what they are compared to
    Bench {
        #[command(subcommand)]
        what: bench::Bench,
    },
    /// Tests that take too long for every day
    Soak {
        #[command(subcommand)]
        what: soak::Soak,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Setup { peers } => {
            setup::build()?;
            if peers {
                setup::peers()?;
                setup::viewer();
            }
            Ok(())
        }
        Command::Demo { orthanc } => demo::run(orthanc),
        Command::Test { filters } => test::run(&filters),
        Command::Bench { what } => bench::run(&what),
        Command::Soak { what } => soak::run(&what),
    }
}

/// The checkout this program was built from.
fn root() -> PathBuf {
    let crate_dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    crate_dir.ancestors().nth(2).map_or_else(|| PathBuf::from("."), PathBuf::from)
}
