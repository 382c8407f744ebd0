//! Tests that take too long for every day. Started by `cargo xtask soak NAME`, which sees to everything it needs.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use e2e::silence;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["silence"] => silent(60),
        ["silence", minutes] => minutes.parse().map_err(Into::into).and_then(silent),
        _ => Err(anyhow::anyhow!("usage: soak silence [MINUTES]")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A daemon that has read three studies and waits, under strace.
fn silent(minutes: u64) -> Result<()> {
    anyhow::ensure!(silence::can_trace(), "strace is needed");
    eprintln!("a daemon under strace, {minutes} minutes without work");
    silence::of_a_daemon(Duration::from_secs(minutes * 60))
}
