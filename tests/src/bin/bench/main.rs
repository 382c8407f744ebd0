//! Figures, each with what it is compared to. Started by `cargo xtask bench`.

mod checks;
mod command;
mod document;
mod figures;
mod first_light;
mod floor;
mod infer;
mod infer_images;
mod light;
mod load;
mod machine;
mod pixels;
mod process;
mod receive;
mod servers;
mod storescu;
mod summary;
mod table;

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use e2e::recorder;

const USAGE: &str = "usage: bench first-light | bench checks [--write] | bench infer [--rounds N] [--write] | bench pixels [--rounds N] [--write] | bench receive [--quick] [--rounds N] [--write]";

/// What the command line asks of a bench that takes each figure in rounds.
struct Options {
    /// How often each figure is taken; its median counts.
    rounds: usize,
    /// Write its chapter of `docs/BENCHMARKS.md`.
    write: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["first-light"] => first_light::run(),
        ["checks"] => checks::run(false),
        ["checks", "--write"] => checks::run(true),
        ["infer", options @ ..] => rounds_options(options, 3).and_then(|options| infer::run(&options)),
        ["pixels", options @ ..] => rounds_options(options, 5).and_then(|options| pixels::run(&options)),
        ["receive", options @ ..] => receive_options(options).and_then(|options| receive::run(&options)),
        // The other half of the floor: started by `receive`, so that its cost is a process's of its own.
        ["floor", port, dir] => port.parse().context(USAGE).and_then(|port| floor::serve(port, Path::new(dir))),
        ["discard", port] => port.parse().context(USAGE).and_then(recorder::discard),
        _ => Err(anyhow::anyhow!(USAGE)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn rounds_options(words: &[&str], rounds: usize) -> Result<Options> {
    let mut options = Options { rounds, write: false };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--write" => options.write = true,
            "--rounds" => {
                let given: usize = words.next().and_then(|rounds| rounds.parse().ok()).context(USAGE)?;
                options.rounds = given.max(1);
            }
            _ => bail!(USAGE),
        }
    }
    Ok(options)
}

fn receive_options(words: &[&str]) -> Result<receive::Options> {
    let mut options = receive::Options { quick: false, rounds: None, write: false };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--quick" => options.quick = true,
            "--write" => options.write = true,
            "--rounds" => {
                let rounds: usize = words.next().and_then(|rounds| rounds.parse().ok()).context(USAGE)?;
                options.rounds = Some(rounds.max(1));
            }
            _ => bail!(USAGE),
        }
    }
    Ok(options)
}
