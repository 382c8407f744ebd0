//! `cargo xtask bench`: figures, each with what it is compared to.

use std::process::Command;

use anyhow::Result;
use clap::Subcommand;

use crate::{root, setup, step};

/// What can be measured.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// From the last image's arrival to the report's, against the time the model alone takes; memory at rest
    FirstLight,
    /// How many planted faults the checks of drafts find, and how often they object to right reports
    Checks {
        /// Write its chapter of docs/BENCHMARKS.md
        #[arg(long)]
        write: bool,
    },
    /// How fast pixels are decoded, beside pydicom's decoders, GDCM and DCMTK
    Pixels {
        /// How often each figure is taken; its median counts
        #[arg(long)]
        rounds: Option<usize>,
        /// Write its chapter of docs/BENCHMARKS.md
        #[arg(long)]
        write: bool,
    },
    /// How fast instances are taken, beside other receivers and what the disk allows
    Receive {
        /// A minute instead of an hour: CT images, 1 and 4 senders, preread, DCMTK and the floor
        #[arg(long)]
        quick: bool,
        /// How often each figure is taken; its median counts
        #[arg(long)]
        rounds: Option<usize>,
        /// Write its chapter of docs/BENCHMARKS.md
        #[arg(long)]
        write: bool,
    },
}

/// Sets up, builds, and hands over to the `bench` program of the end-to-end package.
///
/// # Errors
/// When a step fails, or a figure misses what it is held to.
pub(crate) fn run(what: &Bench) -> Result<()> {
    setup::build()?;
    let mut bench = Command::new(root().join("target/debug/bench"));
    let name = match what {
        Bench::FirstLight => "first-light",
        Bench::Checks { write } => {
            bench.arg("checks").args(write.then_some("--write"));
            "checks"
        }
        Bench::Pixels { rounds, write } => {
            setup::peers()?;
            setup::bench_decoders()?;
            step::run("build", &mut step::cargo(&["build", "--package", "pixel", "--example", "decoding"]))?;
            bench.arg("pixels");
            if let Some(rounds) = rounds {
                bench.args(["--rounds", &rounds.to_string()]);
            }
            if *write {
                bench.arg("--write");
            }
            "pixels"
        }
        Bench::Receive { quick, rounds, write } => {
            if !quick {
                setup::peers()?;
                setup::bench_peers()?;
            }
            let options = [(*quick, "--quick".to_owned()), (*write, "--write".to_owned())];
            bench.arg("receive").args(options.into_iter().filter_map(|(given, option)| given.then_some(option)));
            if let Some(rounds) = rounds {
                bench.args(["--rounds", &rounds.to_string()]);
            }
            "receive"
        }
    };
    if let Bench::FirstLight = what {
        bench.arg(name);
    }
    step::run("build", &mut step::cargo(&["build", "--workspace", "--bins"]))?;
    step::run(&format!("bench {name}"), &mut bench)
}
