use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use dataset::{Instance, Limits};
use infer::{Bundle, Cancel, EvidenceOptions, Image, Model, Request, Runtime, SessionOptions};
use serde_json::json;

use crate::{cli::ModelRun, models, pipeline::image_policy};

/// Runs a model on images, without anything of DICOM but the pixels.
pub(crate) fn run(arguments: &ModelRun) -> Result<ExitCode> {
    let images = arguments.images.iter().map(|path| image(path)).collect::<Result<_>>()?;
    let messages = arguments.messages.as_deref().map(messages).transpose()?.unwrap_or_default();
    let mut model = load(&Bundle::open_precision(&arguments.dir, arguments.dtype.as_deref())?)?;
    let request = Request {
        images,
        prompt: arguments.prompt.clone(),
        messages,
        labels: arguments.labels.clone(),
        generation: arguments.generation.clone().unwrap_or_default(),
        processor: arguments.processor.clone().unwrap_or_default(),
        template: arguments.template.clone().unwrap_or_default(),
        evidence: EvidenceOptions {
            samples: arguments.samples,
            image_dependence: arguments.image_dependence,
            occlusion: arguments.occlusion,
            ..EvidenceOptions::default()
        },
    };
    let answer = model.run(&request, &Cancel::new())?;
    if arguments.json {
        super::print_json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    match &answer.zero_shot {
        Some(scores) => {
            for (image, probabilities) in arguments.images.iter().zip(&scores.probs) {
                for (label, probability) in scores.labels.iter().zip(probabilities) {
                    println!("{probability:.4}  {label}  ({})", image.display());
                }
            }
        }
        None => println!("{}", answer.text),
    }
    let time = answer.timings_ms;
    eprintln!(
        "load {:.0} ms, preprocess {:.0} ms, vision {:.0} ms, prefill {:.0} ms, decode {:.0} ms, {:.1} tokens/s",
        time.load, time.preprocess, time.vision, time.prefill, time.decode, answer.tokens_per_second
    );
    Ok(ExitCode::SUCCESS)
}

/// The messages of a file.
fn messages(path: &Path) -> Result<serde_json::Value> {
    let context = || path.display().to_string();
    let messages: serde_json::Value =
        serde_json::from_slice(&fs::read(path).with_context(context)?).with_context(context)?;
    if messages.is_array() {
        return Ok(messages);
    }
    bail!("{}: a JSON list of objects with `role` and `content` is wanted", path.display());
}

/// Says what a folder holds and what it lacks, and warms the model up.
pub(crate) fn check(dir: &Path, dtype: Option<&str>, json: bool) -> Result<ExitCode> {
    let bundle = Bundle::open_precision(dir, dtype)?;
    image_policy(&bundle.manifest.images).with_context(|| dir.join("model.toml").display().to_string())?;
    let broken = bundle.check();
    let warmed = if broken.is_ok() { Some(warm(&bundle)?) } else { None };
    if json {
        super::print_json(
            &json!({ "model": bundle, "graphs": warmed.as_ref().map(|it| &it.0), "warm_up_ms": warmed.as_ref().map(|it| it.1) }),
        )?;
    } else {
        println!("{}: {} ({:?})", bundle.name(), bundle.family, bundle.layout);
        println!("digest {}", bundle.digest);
        for file in &bundle.files {
            println!("  {:<32} {:>12} bytes  sha256 {}", file.name, file.bytes, file.sha256);
        }
        if let Some((graphs, timings)) = &warmed {
            println!("{}", serde_json::to_string_pretty(graphs)?);
            println!("warm-up: {}", serde_json::to_string(timings)?);
        }
    }
    broken?;
    Ok(ExitCode::SUCCESS)
}

fn warm(bundle: &Bundle) -> Result<(serde_json::Value, infer::Timings)> {
    let mut model = load(bundle)?;
    let graphs = serde_json::to_value(model.graphs())?;
    Ok((graphs, model.warm_up()?))
}

fn load(bundle: &Bundle) -> Result<Model> {
    let runtime = Runtime::load(&models::find_library(None)?)?;
    Ok(Model::load(bundle, &runtime, &SessionOptions::default())?)
}

/// A PNG, a JPEG, or the first frame of a DICOM file as it is displayed.
fn image(path: &Path) -> Result<Image> {
    let context = || path.display().to_string();
    let bytes = fs::read(path).with_context(context)?;
    if bytes.starts_with(b"\x89PNG") || bytes.starts_with(b"\xff\xd8") {
        return Image::decode(&bytes).with_context(context);
    }
    let instance = Instance::from_bytes(&bytes, &Limits::default())
        .map_err(|error| anyhow::anyhow!("neither PNG nor JPEG, and {error}"))
        .with_context(context)?;
    let picture = pixel::render(&instance, 0, &pixel::RenderOptions::default(), &pixel::Limits::default());
    let picture = picture.with_context(context)?;
    Image::new(picture.width, picture.height, picture.rgb).with_context(context)
}
