//! Conversations that went wrong once, kept as scripts beside the checkout: each ends with 0 when it goes right, 1 when the
//! fault is there again, and something else when it could not be tried.

use std::{fs, path::PathBuf, process::Command, sync::Mutex};

use anyhow::{Context, Result};
use e2e::{peers, place};

/// At a time: they wait for quiet periods more than they work.
const SIDE_BY_SIDE: usize = 3;

/// What still shows its fault, or asks for what another promise forbids, and why. One that goes right has to leave the list.
const NOT_YET: &[(&str, &str)] = &[
    // Its two images are of two patients, so that both at once are held (promise 11). `identity` has the same of one patient.
    ("late-image-report-stays-complete", "two patients"),
];

#[test]
fn conversations_that_went_wrong_go_right() -> Result<()> {
    let Some(shared) = place::shared() else { return Ok(()) };
    let mut cases: Vec<PathBuf> = fs::read_dir(shared.join("cases/net"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    cases.retain(|folder| folder.join("run.sh").is_file());
    cases.sort();
    assert!(!cases.is_empty(), "there are no cases");
    let (python, program) = (peers::python_program()?, place::preread()?);
    let (waiting, failures) = (Mutex::new(cases), Mutex::new(Vec::new()));
    let work = || -> Result<()> {
        loop {
            let Some(case) = waiting.lock().ok().and_then(|mut waiting| waiting.pop()) else { return Ok(()) };
            let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let dir = tempfile::Builder::new().prefix("preread-e2e-case-").tempdir()?;
            let mut script = place::as_installed(Command::new("bash"))?;
            script.arg(case.join("run.sh")).env("PROJECT", place::root()).env("PREREAD", &program);
            script.env("PYTHON", &python).env("CASE_RUN", dir.path());
            let output = script.output().with_context(|| name.clone())?;
            let known = NOT_YET.iter().any(|(case, _)| *case == name);
            if output.status.success() == known {
                let said = [output.stdout, output.stderr].concat();
                let failure = format!("{name}: {}: {}", output.status, String::from_utf8_lossy(&said));
                failures.lock().map(|mut failures| failures.push(failure)).unwrap_or_default();
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..SIDE_BY_SIDE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked")))
    })?;
    let failures = failures.into_inner().unwrap_or_default();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}
