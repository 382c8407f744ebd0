//! `cargo xtask test`: what CI runs. One failing step ends it.

use anyhow::Result;

use crate::{setup, step};

/// Runs every check. `filters` go to `cargo nextest run`.
///
/// # Errors
/// At the first step that fails.
pub(crate) fn run(filters: &[String]) -> Result<()> {
    setup::build()?;
    setup::peers()?;
    setup::viewer();
    // A lock file that does not match is an error where nobody looks, and an update where somebody edits.
    let locked: &[&str] = if std::env::var_os("CI").is_some() { &["--locked"] } else { &[] };
    let cargo = |arguments: &[&str]| {
        let mut command = step::cargo(arguments);
        command.args(locked);
        command
    };
    step::run("formatting", &mut step::cargo(&["fmt", "--all", "--check"]))?;
    // Programs and tests in one build: a build of the program alone may choose other features and compile twice.
    step::run("build", &mut cargo(&["build", "--workspace", "--all-targets"]))?;
    let mut clippy = cargo(&["clippy", "--workspace", "--all-targets"]);
    step::run("lints", clippy.args(["--", "-D", "warnings"]))?;
    // They are no part of the workspace, because they are run with a compiler of their own.
    for fuzzed in ["dataset", "dimse", "pixel"] {
        let manifest = format!("crates/{fuzzed}/fuzz/Cargo.toml");
        let mut check = cargo(&["check", "--manifest-path", &manifest, "--target-dir", "target/fuzz"]);
        step::run(&format!("fuzz targets of {fuzzed}"), &mut check)?;
    }
    if step::output(&mut step::cargo(&["deny", "--version"])).is_ok() {
        step::run("licences and advisories", &mut step::cargo(&["deny", "check", "licenses", "bans", "sources"]))?;
    }
    if filters.is_empty() {
        step::run("documentation examples", &mut cargo(&["test", "--workspace", "--doc"]))?;
    }
    step::run("tests", cargo(&["nextest", "run", "--workspace"]).args(filters))?;
    Ok(())
}
