//! ONNX Runtime reports to its maker unless a variable of the environment says no before its library is loaded. A process
//! cannot set a variable of its own without `unsafe`, so the program starts itself once more with it.

use std::{env, ffi::OsString, io, os::unix::process::CommandExt, path::PathBuf, process};

use anyhow::{Result, bail};
use infer::TELEMETRY_OFF;

use crate::cli::{Command, ConfigCommand, Model};

/// The process that started itself again, by its id: whoever finds its own here was started again already.
const STARTED_AGAIN: &str = "PREREAD_STARTED_AGAIN";

/// Whether a command may load ONNX Runtime. One that is not named here is taken to.
fn loads_the_runtime(command: &Command) -> bool {
    !matches!(
        command,
        Command::Pixels(_)
            | Command::Queue(_)
            | Command::Report(_)
            | Command::Send(_)
            | Command::Echo(_)
            | Command::Model(Model::Calibrate(_))
            | Command::Config(ConfigCommand::Example)
    )
}

/// Returns in a process in which ONNX Runtime keeps silent, or for a command that does not load it. In any other the program
/// takes its own place, with the same arguments, descriptors and process id. To be called before there is a second thread.
///
/// # Errors
/// When the program cannot start itself again; nothing was loaded then.
pub(crate) fn see_to(command: &Command) -> Result<()> {
    let (name, value) = TELEMETRY_OFF;
    if !loads_the_runtime(command) || infer::telemetry_is_off() {
        return Ok(());
    }
    let advice = format!("set {name}={value} in the environment of preread (the unit: Environment={name}={value})");
    let id = process::id().to_string();
    if env::var_os(STARTED_AGAIN).is_some_and(|started| started == id.as_str()) {
        bail!("ONNX Runtime would report to its maker: {name} was set and is gone again; {advice}");
    }
    let failed = start_again(&id);
    bail!(
        "ONNX Runtime would report to its maker, and preread cannot start itself again without that: {failed}; {advice}"
    );
}

/// Replaces the process by the same program with the variable set; what it returns is why that did not happen.
fn start_again(id: &str) -> io::Error {
    let mut arguments = env::args_os();
    let called = arguments.next().unwrap_or_else(|| OsString::from("preread"));
    let arguments: Vec<OsString> = arguments.collect();
    let mut why = io::Error::from(io::ErrorKind::NotFound);
    for program in programs() {
        let mut again = process::Command::new(program);
        again.arg0(&called).args(&arguments).env(TELEMETRY_OFF.0, TELEMETRY_OFF.1).env(STARTED_AGAIN, id);
        why = again.exec();
    }
    why
}

/// Where this program is: its file, which keeps its name in `ps`; and the kernel's own link to it, which is right also when
/// an upgrade has put another file in its place.
fn programs() -> Vec<PathBuf> {
    let link = PathBuf::from("/proc/self/exe");
    // The kernel says so of a file that was removed or replaced.
    let there = |file: &PathBuf| !file.as_os_str().as_encoded_bytes().ends_with(b" (deleted)");
    env::current_exe().ok().filter(there).into_iter().chain([link]).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_command_that_may_load_the_runtime_is_started_again() {
        let check = |words: &str, expected: bool| {
            let arguments = Cli::parse_from(["preread"].into_iter().chain(words.split_whitespace()));
            assert_eq!(loads_the_runtime(&arguments.command), expected, "{words}");
        };
        check("serve", true);
        check("read a.dcm", true);
        check("model run m --image a.png", true);
        check("model check m", true);
        check("doctor", true);
        check("config check", true);
        check("route explain a.dcm", true);
        check("model calibrate a.jsonl --out b.json", false);
        check("queue ls", false);
        check("report schema", false);
        check("echo A@b:104", false);
        check("config example", false);
    }
}
