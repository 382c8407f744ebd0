//! Running other programs: each is announced, and what it took is said when it ends.

use std::{
    io::{IsTerminal, Write},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};

/// `cargo` as this program was started by, in the root of the checkout.
///
/// `cargo run` gives its child the variables that describe the xtask package; a `cargo` started from here must not take
/// them for a reason to build something anew.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(crate::root());
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs `command` with its output where ours goes and says how long it took.
///
/// # Errors
/// When it cannot be started or ends with another status than 0.
pub(crate) fn run(title: &str, command: &mut Command) -> Result<()> {
    announce(title);
    let start = Instant::now();
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("{title}: cannot be started"))?;
    if !status.success() {
        bail!("{title}: failed ({status}): {}", show(command));
    }
    done(title, start);
    Ok(())
}

/// Runs `command` and returns its standard output; what it says on standard error is shown only when it fails.
///
/// # Errors
/// When it cannot be started or ends with another status than 0.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", show(command)))?;
    if !out.status.success() {
        bail!("{} failed ({}): {}", show(command), out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

pub(crate) fn announce(title: &str) {
    let (bold, plain) = if std::io::stderr().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    eprintln!("{bold}==> {title}{plain}");
    let _ = std::io::stderr().flush();
}

pub(crate) fn done(title: &str, start: Instant) {
    eprintln!("    {title}: {:.1} s", start.elapsed().as_secs_f64());
}

/// The command as a person would type it.
fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
