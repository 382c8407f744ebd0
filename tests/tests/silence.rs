//! Nothing leaves: no socket but to configured peers, no name is looked up, no file is written that was not named; not by us and
//! not by ONNX Runtime, whose builds report to their maker unless the environment says no before the library is loaded.

use std::{process::Command, time::Duration};

use anyhow::{Result, ensure};
use e2e::{
    place,
    silence::{self, Allowed},
};

/// A command from its start to its end.
fn check(arguments: &[&str], named: &[&std::path::Path]) -> Result<()> {
    let (home, traces) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let trace = traces.path().join("strace");
    let mut command = silence::traced(&trace, home.path(), &place::preread()?);
    let output = command.args(arguments).current_dir(place::root()).output()?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let folders = named.iter().map(|path| path.to_path_buf()).collect();
    silence::check(&trace, home.path(), &place::root(), &Allowed { peers: Vec::new(), folders })
}

#[test]
fn commands_that_run_a_model_are_silent() -> Result<()> {
    if !silence::can_trace() {
        return Ok(());
    }
    let out = tempfile::tempdir()?;
    let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let (model, sample) = (path(&place::model()), path(&place::model().join("samples/02-nodule-small.dcm")));
    let written = out.path().join("out");
    check(&["read", &sample, "--model", &model, "--out", &path(&written)], &[&written, out.path()])?;
    check(&["model", "run", &model, "--image", &sample], &[])?;
    check(&["model", "check", &model], &[])
}

/// Two minutes: what a library does by the minute shows. `cargo xtask soak silence` waits an hour.
#[test]
fn a_daemon_is_silent_with_studies_and_without() -> Result<()> {
    if !silence::can_trace() {
        return Ok(());
    }
    silence::of_a_daemon(Duration::from_secs(120))
}

#[test]
fn the_program_starts_itself_again_as_it_was_started() -> Result<()> {
    // Its name, its arguments and its standard input stay; only the variable is new.
    let script = r#"exec -a somebody "$0" model run "$1" --image "$2""#;
    let image = place::model().join("samples/02-nodule-small.dcm");
    let mut shell = Command::new("bash");
    shell.args(["-c", script]).arg(place::preread()?).arg(place::model()).arg(&image);
    let output = shell.current_dir(place::root()).env_remove("ORT_DISABLE_TELEMETRY").output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(!output.stdout.is_empty(), "no text");
    // Where it was started again and the variable is gone, it says so and goes no further.
    let script = r#"PREREAD_STARTED_AGAIN=$$ exec "$0" model run "$1" --image "$2""#;
    let mut shell = Command::new("bash");
    shell.args(["-c", script]).arg(place::preread()?).arg(place::model()).arg(&image);
    let refused = shell.current_dir(place::root()).env_remove("ORT_DISABLE_TELEMETRY").output()?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(refused.status.code() == Some(1) && said.contains("ORT_DISABLE_TELEMETRY=1"), "{said}");
    Ok(())
}
