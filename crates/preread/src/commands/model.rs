use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use dataset::{Instance, Limits};
use infer::{Bundle, Cancel, EvidenceOptions, Grammar, Image, Model, Output, Request, Runtime, SessionOptions};
use report::Calibration;
use serde_json::{Value, json};

use crate::{cli::ModelRun, models, output::shown, pipeline::image_policy};

/// Runs a model on images, without anything of DICOM but the pixels.
pub(crate) fn run(arguments: &ModelRun) -> Result<ExitCode> {
    let images = arguments.images.iter().map(|path| image(path)).collect::<Result<_>>()?;
    let messages = arguments.messages.as_deref().map(messages).transpose()?.unwrap_or_default();
    let mut model = load(&Bundle::open_precision(&arguments.dir, arguments.dtype.as_deref())?)?;
    let request = Request {
        images,
        prompt: arguments.prompt.clone(),
        prompt_name: arguments.prompt_name.clone(),
        messages,
        labels: labels(&arguments.labels),
        output: output(arguments)?,
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
                    println!("{probability:.4}  {label}  ({})", shown(image));
                }
            }
        }
        None => println!("{}", answer.text),
    }
    if answer.complete == Some(false) {
        eprintln!("warning: the text was cut before it was what its grammar asks for; raise max_new_tokens (--gen)");
    }
    let time = answer.timings_ms;
    eprintln!(
        "load {:.0} ms, preprocess {:.0} ms, vision {:.0} ms, prefill {:.0} ms, decode {:.0} ms, {:.1} tokens/s",
        time.load, time.preprocess, time.vision, time.prefill, time.decode, answer.tokens_per_second
    );
    Ok(ExitCode::SUCCESS)
}

/// The labels of one flag, with commas between them; or of several flags, as they are.
pub(super) fn labels(given: &[String]) -> Vec<String> {
    match given {
        [together] => together.split(',').map(str::to_owned).collect(),
        each => each.to_vec(),
    }
}

/// What the text has to be.
fn output(arguments: &ModelRun) -> Result<Output> {
    Ok(match (&arguments.json_schema, &arguments.regex) {
        (Some(path), _) => Output::Bound(Grammar::JsonSchema(json_file(path)?)),
        (None, Some(expression)) => Output::Bound(Grammar::Regex(expression.clone())),
        (None, None) if arguments.free_text => Output::Free,
        (None, None) => Output::Manifest,
    })
}

fn json_file(path: &Path) -> Result<Value> {
    let context = || shown(path);
    serde_json::from_slice(&fs::read(path).with_context(context)?).with_context(context)
}

/// The messages of a file.
fn messages(path: &Path) -> Result<Value> {
    let messages = json_file(path)?;
    if messages.is_array() {
        return Ok(messages);
    }
    bail!("{}: a JSON list of objects with `role` and `content` is wanted", shown(path));
}

/// A model that was loaded and has answered once.
struct Warmed {
    graphs: Value,
    timings: infer::Timings,
    most_images: Option<usize>,
}

/// Says what a folder holds and what it lacks, and warms the model up.
pub(crate) fn check(dir: &Path, dtype: Option<&str>, json: bool) -> Result<ExitCode> {
    let bundle = Bundle::open_precision(dir, dtype)?;
    image_policy(&bundle.manifest.images).with_context(|| dir.join("model.toml").display().to_string())?;
    if let Some(name) = bundle.calibration.as_ref().filter(|name| dir.join(name).is_file()) {
        let _: Calibration = serde_json::from_value(json_file(&dir.join(name))?)
            .with_context(|| format!("{}: `preread model calibrate` writes one", dir.join(name).display()))?;
    }
    let broken = bundle.check();
    let warmed = if broken.is_ok() { Some(warm(&bundle)?) } else { None };
    let unstated = bundle.manifest.unstated();
    let warnings: Vec<String> = warmed.iter().filter_map(|warmed| too_many_images(&bundle, warmed)).collect();
    if json {
        super::print_json(&json!({
            "model": bundle,
            "unstated": unstated,
            "warnings": warnings,
            "graphs": warmed.as_ref().map(|warmed| &warmed.graphs),
            "warm_up_ms": warmed.as_ref().map(|warmed| warmed.timings),
        }))?;
    } else {
        println!("{}: {} ({:?})", bundle.name(), bundle.family, bundle.layout);
        println!("digest {}", bundle.digest);
        for file in &bundle.files {
            println!("  {:<32} {:>12} bytes  sha256 {}", file.name, file.bytes, file.sha256);
        }
        for missing in &bundle.missing {
            println!("missing: {missing}");
        }
        for problem in &bundle.problems {
            println!("problem: {problem}");
        }
        if !unstated.is_empty() {
            println!("model.toml does not say: {}", unstated.join(", "));
        }
        for warning in &warnings {
            println!("warning: {warning}");
        }
        if let Some(warmed) = &warmed {
            println!("{}", serde_json::to_string_pretty(&warmed.graphs)?);
            println!("warm-up: {}", serde_json::to_string(&warmed.timings)?);
        }
    }
    broken?;
    Ok(ExitCode::SUCCESS)
}

/// A manifest that asks for more images than a request to the model may have.
fn too_many_images(bundle: &Bundle, warmed: &Warmed) -> Option<String> {
    let limit = bundle.manifest.images.limit.filter(|limit| *limit > 1)?;
    let most = warmed.most_images.filter(|most| usize::try_from(limit).is_ok_and(|limit| limit > *most))?;
    Some(format!(
        "[images] of model.toml has limit = {limit}, and this model reads {most} at most; set limit = {most}, or put several \
         slices into one image (montage)"
    ))
}

fn warm(bundle: &Bundle) -> Result<Warmed> {
    let mut model = load(bundle)?;
    let graphs = serde_json::to_value(model.graphs())?;
    Ok(Warmed { graphs, timings: model.warm_up()?, most_images: model.most_images() })
}

fn load(bundle: &Bundle) -> Result<Model> {
    let runtime = Runtime::load(&models::find_library(None)?)?;
    Ok(Model::load(bundle, &runtime, &SessionOptions::default())?)
}

/// A PNG, a JPEG, or the first frame of a DICOM file as it is displayed.
fn image(path: &Path) -> Result<Image> {
    let context = || shown(path);
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

#[cfg(test)]
mod tests {
    use super::labels;

    #[test]
    fn labels_are_split_at_commas_or_given_one_by_one() {
        let check = |given: &[&str], expected: &[&str]| {
            let given: Vec<String> = given.iter().map(|label| (*label).to_owned()).collect();
            assert_eq!(labels(&given), expected);
        };
        check(&[], &[]);
        check(&["normal,effusion"], &["normal", "effusion"]);
        check(&["effusion, left", "normal"], &["effusion, left", "normal"]);
    }
}
