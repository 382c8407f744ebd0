//! Runs what the daemon would run: library, provider and model, on one image, in a process of its own, because a library that
//! was cut short ends the process that loads it.

use std::{
    env,
    io::Read,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, ExitCode, ExitStatus, Stdio},
    slice, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use infer::{Bundle, Model, Runtime, SessionOptions};
use serde::{Deserialize, Serialize};

use super::{Finding, ok, problem, warning};
use crate::{
    config::{Config, ModelSection},
    models::{Models, find_library},
};

/// Versions of ONNX Runtime that were watched while they ran.
const TRIED: &[&str] = &infer::WATCHED_VERSIONS;

/// What a trial prints when it goes well.
#[derive(Serialize, Deserialize)]
struct Trial {
    runtime: String,
    telemetry_off: bool,
    said: String,
}

/// Each configured model, tried.
pub(super) fn models(config: &Config, path: &Path, running: Option<bool>) -> Vec<Finding> {
    if config.models.is_empty() {
        return vec![warning("models", "none is configured, so that no study is read; add a [[model]] and a [[rule]]")];
    }
    config.models.iter().map(|section| model(config, path, section, running)).collect()
}

fn model(config: &Config, path: &Path, section: &ModelSection, running: Option<bool>) -> Finding {
    let what = format!("model {}", section.name);
    if let Err(error) = Models::open(slice::from_ref(section), &config.runtime) {
        return problem(what, crate::told::told(&error));
    }
    let patience = config.study.deadline.max(Duration::from_secs(60));
    match tried(path, &section.name, patience) {
        Ok((status, said, _)) if status.success() => went_well(what, section, &said),
        // Beside a daemon that has it loaded there need not be room for a second one.
        Ok((_, _, error)) if running == Some(true) && error.contains("takes about") => {
            warning(what, format!("not tried, because preread serve has the memory: {}", error.trim()))
        }
        Ok((status, _, error)) => problem(what, failed(status, error.trim())),
        Err(error) => problem(what, crate::told::told(&error)),
    }
}

fn went_well(what: String, section: &ModelSection, said: &str) -> Finding {
    let Ok(Trial { runtime, telemetry_off, said }) = serde_json::from_str(said) else {
        return problem(what, "the process that tried it printed something else than what was due");
    };
    let text = format!("{}: {said}", section.path.display());
    if !telemetry_off {
        return warning(what, format!("{text}, and reports to its maker: set ORT_DISABLE_TELEMETRY=1 for the service"));
    }
    if TRIED.contains(&runtime.as_str()) {
        return ok(what, format!("{text}, telemetry off"));
    }
    let tried = TRIED.join(", ");
    warning(
        what,
        format!("{text}; this version of ONNX Runtime was not tried by us ({tried} was): watch what it sends"),
    )
}

fn failed(status: ExitStatus, error: &str) -> String {
    let said = error.strip_prefix("preread: ").unwrap_or(error);
    match status.signal() {
        Some(9) if said.is_empty() => {
            "it was killed while it was tried: it took too long, or the memory was used up".to_owned()
        }
        Some(signal) => format!(
            "signal {signal} ended the process that tried it: ONNX Runtime's library or a graph is damaged; copy them again, and \
             see `preread model check`. {said}"
        ),
        None => said.to_owned(),
    }
}

/// Runs `preread doctor --try-model`, and returns how it ended and what it printed.
fn tried(path: &Path, name: &str, patience: Duration) -> Result<(ExitStatus, String, String)> {
    let program = env::current_exe().context("our own program cannot be found")?;
    let mut child = Command::new(program)
        .args(["doctor", "--try-model", name, "--config"])
        .arg(path)
        .env("ORT_DISABLE_TELEMETRY", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("our own program cannot be started")?;
    let read = |stream: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut text = Vec::new();
            // What is not readable is no answer.
            let _ = stream.map(|stream| stream.take(1 << 16).read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let out = read(child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>));
    let error = read(child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>));
    let until = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > until {
            child.kill()?;
        }
        thread::sleep(Duration::from_millis(20));
    };
    Ok((status, out.join().unwrap_or_default(), error.join().unwrap_or_default()))
}

/// Loads a model as the daemon would, has it read one image, and prints what ran it.
pub(super) fn try_model(config: &Config, name: &str) -> Result<ExitCode> {
    let section = config.models.iter().find(|section| section.name == name);
    let section = section.with_context(|| format!("there is no [[model]] named \"{name}\""))?;
    let library = find_library(config.runtime.library.as_deref())?;
    let runtime = Runtime::load(&library)?;
    let bundle = Bundle::open(&section.path)?;
    let mut options = SessionOptions {
        provider: section.provider.unwrap_or(config.runtime.provider),
        reuse_prompts: config.runtime.reuse_prompts,
        ..SessionOptions::default()
    };
    if config.runtime.threads > 0 {
        options.threads = config.runtime.threads;
    }
    let begun = Instant::now();
    let mut model = Model::load(&bundle, &runtime, &options)?;
    let loaded = begun.elapsed();
    model.warm_up()?;
    let provider = model.graphs().first().map(|graph| graph.provider).unwrap_or_default();
    let said = format!(
        "ONNX Runtime {} ({}) on {provider} loads it in {:.1} s and reads an image in {:.1} s",
        runtime.version(),
        library.display(),
        loaded.as_secs_f64(),
        (begun.elapsed() - loaded).as_secs_f64()
    );
    let telemetry_off = env::var("ORT_DISABLE_TELEMETRY").is_ok_and(|value| value == "1");
    crate::commands::print_json(&Trial { runtime: runtime.version().to_string(), telemetry_off, said })?;
    Ok(ExitCode::SUCCESS)
}
