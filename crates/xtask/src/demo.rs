//! `cargo xtask demo`: from a checkout to a report on the screen.

use anyhow::Result;

use crate::{root, setup, step};

/// Sets up, builds, and hands over to the `demo` program of the end-to-end package.
///
/// # Errors
/// When a step fails.
pub(crate) fn run(orthanc: bool) -> Result<()> {
    setup::build()?;
    if orthanc {
        setup::peers()?;
    }
    step::run("build", &mut step::cargo(&["build", "--workspace", "--bins"]))?;
    let mut demo = std::process::Command::new(root().join("target/debug/demo"));
    if orthanc {
        demo.arg("--orthanc");
    }
    step::run("demo", &mut demo)
}
