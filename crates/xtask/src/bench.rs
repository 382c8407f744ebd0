//! `cargo xtask bench`: figures, each with what it is compared to.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
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
    /// How fast models answer and images are prepared, beside ONNX Runtime in Python, onnxruntime-genai and Transformers
    Infer {
        /// How often each figure is taken; its median counts
        #[arg(long)]
        rounds: Option<usize>,
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
    /// Everything between a model's text and checked documents, beside a bare run of dciodvfy
    Report {
        /// How often; the median counts
        #[arg(long, default_value_t = 50)]
        rounds: usize,
        /// The image that is reported on; a sample of the demonstration model's if none is named
        #[arg(long)]
        image: Option<std::path::PathBuf>,
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
    if let Bench::Report { rounds, image, write } = what {
        return report(*rounds, image.as_deref(), *write);
    }
    setup::build()?;
    let mut bench = Command::new(root().join("target/debug/bench"));
    let name = match what {
        // Has a program of its own, above.
        Bench::Report { .. } => "report",
        Bench::FirstLight => "first-light",
        Bench::Checks { write } => {
            bench.arg("checks").args(write.then_some("--write"));
            "checks"
        }
        Bench::Infer { rounds, write } => {
            setup::bench_runtimes()?;
            step::run("build", &mut step::cargo(&["build", "--package", "infer", "--example", "inference"]))?;
            bench.arg("infer");
            if let Some(rounds) = rounds {
                bench.args(["--rounds", &rounds.to_string()]);
            }
            if *write {
                bench.arg("--write");
            }
            "infer"
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

/// Runs the example of `report` that makes every document, and keeps its table in docs/BENCHMARKS.md.
fn report(rounds: usize, image: Option<&Path>, write: bool) -> Result<()> {
    let sample = root().join("models/phantom-cxr/samples/02-nodule-small.dcm");
    let image = image.unwrap_or(&sample);
    let mut example = step::cargo(&["run", "--quiet", "--package", "report", "--example", "documents", "--"]);
    example.arg(image).args(["--rounds", &rounds.max(2).to_string()]);
    let table = step::output(&mut example)?;
    print!("{table}");
    if write {
        let place = root().join("docs/BENCHMARKS.md");
        let text = fs::read_to_string(&place).with_context(|| format!("cannot read {}", place.display()))?;
        let (before, old) = text.split_once(HEADING).unwrap_or((&text, ""));
        let (before, after) = (before.trim_end(), old.find("\n# ").map_or("", |at| &old[at..]));
        let date = step::output(Command::new("date").arg("+%Y-%m-%d"))?;
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or("unknown");
        let written = format!(
            "{before}\n\n{HEADING}\n\nMade by `cargo xtask bench report --write` on {}; load average at the end: {load}.\n\n\
             From a model's text and a plain picture to checked files: text report, measurement report, study-level results, PDF\n\
             with a figure, key objects, presentation state and heat map, all validated; no file is read or written. Beside it\n\
             the time that one run of `dciodvfy` takes for the text report alone, in the same minute on the same machine.\n\n{}",
            date.trim(),
            table.trim_end(),
        );
        fs::write(&place, format!("{written}\n{after}"))
            .with_context(|| format!("cannot write {}", place.display()))?;
    }
    Ok(())
}

/// The chapter of the documents.
const HEADING: &str = "# Benchmarks: reports";
