//! The pipeline that a run reads with, and what it amounts to.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use dataset::{Limits, Uid};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::folder::Run;
use crate::{
    cli::Read,
    commands::{load_config, model::labels},
    config::{ModelSection, Runtime as RuntimeSection, Study as StudySection},
    models::Models,
    pipeline::{Asked, DeviceIdentity, Pipeline, Wanted, hex},
    route::Rule,
    trust::Trusts,
};

/// The pipeline of a configuration, of a model folder, or of the demonstration model.
pub(super) fn pipeline(arguments: &Read) -> Result<Pipeline> {
    let asked = Asked {
        prompt: arguments.prompt.clone(),
        labels: labels(&arguments.labels),
        generation: arguments.generation.clone().unwrap_or_default(),
    };
    let command_line = || Uid::derive(&[b"preread device", b"command line"]);
    if let Some(path) = &arguments.config {
        let config = load_config(path)?;
        let models = Models::open(&config.models, &config.runtime)?;
        return Ok(Pipeline {
            trusts: Trusts::of(&config.rules, &models)?,
            models,
            rules: config.rules,
            limits: Limits::default(),
            deadline: config.study.deadline,
            device: DeviceIdentity {
                uid: config.device.uid.unwrap_or_else(command_line),
                serial_number: config.device.serial_number,
                udi: config.device.udi,
            },
            wanted: Wanted::Everything,
            asked,
        });
    }
    let folder = match &arguments.model {
        Some(folder) => folder.clone(),
        None => demonstration_model()?,
    };
    const NAME: &str = "command line";
    let model = ModelSection { name: NAME.to_owned(), path: folder, preload: false, provider: None };
    let models = Models::open(&[model], &RuntimeSection::default())?;
    let rules = vec![Rule::everything(NAME.to_owned())?];
    Ok(Pipeline {
        trusts: Trusts::of(&rules, &models)?,
        models,
        rules,
        limits: Limits::default(),
        deadline: StudySection::default().deadline,
        device: DeviceIdentity { uid: command_line(), serial_number: "1".to_owned(), udi: None },
        wanted: Wanted::Everything,
        asked,
    })
}

/// The model that comes with preread: of the package, or of the checkout that the binary was built in.
pub(crate) fn demonstration_model() -> Result<PathBuf> {
    const MODEL: &str = "models/phantom-cxr";
    let binary = env::current_exe().ok();
    let checkout = binary.as_deref().and_then(|binary| binary.ancestors().nth(3)).map(|root| root.join(MODEL));
    let places = [Some(PathBuf::from(MODEL)), checkout, Some(Path::new("/usr/share/preread").join(MODEL))];
    let found = places.into_iter().flatten().find(|place| place.is_dir());
    found.context("the demonstration model is not here; name a model folder with --model")
}

/// What makes the results of this run what they are.
pub(super) fn run(pipeline: &Pipeline) -> Run {
    let mut models = BTreeMap::new();
    let mut rules = Vec::new();
    for rule in &pipeline.rules {
        let digest = pipeline.models.bundle(&rule.model).map(|bundle| bundle.digest.clone()).unwrap_or_default();
        models.insert(rule.model.clone(), digest);
        let settings = pipeline.asked.settings_digest(pipeline.trusts.get(rule).settings_digest);
        rules.push(json!([rule.name, rule.written, rule.model, settings]));
    }
    Run {
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
        models,
        settings_digest: hex(Sha256::digest(json!(rules).to_string())),
    }
}

/// The seed that a model draws with, where it draws: as it was asked for, else as its manifest says, else 0.
pub(super) fn seed(pipeline: &Pipeline, model: Option<&str>) -> u64 {
    let stated = model.and_then(|name| pipeline.models.bundle(name)).map(|bundle| &bundle.manifest.generation);
    let stated = stated.and_then(|generation| generation.get("seed"));
    pipeline.asked.generation.get("seed").or(stated).and_then(serde_json::Value::as_u64).unwrap_or(0)
}
