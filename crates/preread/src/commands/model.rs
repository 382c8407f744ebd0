use std::{
    fs::{self, File},
    io::Read,
    path::Path,
    process::ExitCode,
    sync::mpsc::{RecvTimeoutError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use dataset::{Header, Instance, Limits};
use infer::{Bundle, Cancel, EvidenceOptions, Grammar, Image, Layout, Model, Output, Request, Runtime, SessionOptions};
use report::Calibration;
use serde_json::{Value, json};

use super::usage;
use crate::{cli::ModelRun, models, output::shown, pipeline::image_policy};

/// Runs a model on images, without anything of DICOM but the pixels.
pub(crate) fn run(arguments: &ModelRun) -> Result<ExitCode> {
    let images = arguments.images.iter().map(|path| image(path)).collect::<Result<_>>()?;
    let messages = arguments.messages.as_deref().map(messages).transpose()?.unwrap_or_default();
    let bundle = Bundle::open_precision(&arguments.dir, arguments.dtype.as_deref())?;
    if arguments.images.is_empty() && matches!(bundle.layout, Layout::EncoderDecoder | Layout::ZeroShot) {
        return Err(usage("no image: this model reads one; name it with --image FILE (PNG, JPEG or DICOM)"));
    }
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
    let answer = within(arguments.deadline, move |cancel| Ok(load(&bundle)?.run(&request, cancel)?))?;
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
    needs_prompt: bool,
}

/// Says what a folder holds and what it lacks, and warms the model up.
pub(crate) fn check(dir: &Path, dtype: Option<&str>, deadline: Duration, json: bool) -> Result<ExitCode> {
    let bundle = Bundle::open_precision(dir, dtype)?;
    image_policy(&bundle.manifest.images).with_context(|| dir.join("model.toml").display().to_string())?;
    if let Some(name) = bundle.calibration.as_ref().filter(|name| dir.join(name).is_file()) {
        let _: Calibration = serde_json::from_value(json_file(&dir.join(name))?)
            .with_context(|| format!("{}: `preread model calibrate` writes one", dir.join(name).display()))?;
    }
    let broken = bundle.check();
    let warmed = match broken {
        Ok(()) => {
            let bundle = bundle.clone();
            Some(within(deadline, move |cancel| warm(&bundle, cancel))?)
        }
        Err(_) => None,
    };
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
            println!("{}", verdict(&bundle, warmed));
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

fn warm(bundle: &Bundle, cancel: &Cancel) -> Result<Warmed> {
    let mut model = load(bundle)?;
    let graphs = serde_json::to_value(model.graphs())?;
    let request = model.warm_up_request()?;
    let timings = model.run(&request, cancel)?.timings_ms;
    Ok(Warmed { graphs, timings, most_images: model.most_images(), needs_prompt: model.needs_prompt() })
}

/// Whether a model runs, and what reports by it still need, in one line.
fn verdict(bundle: &Bundle, warmed: &Warmed) -> String {
    let (time, manifest) = (&warmed.timings, &bundle.manifest);
    let picture = time.preprocess + time.vision + time.prefill + time.decode;
    let scores = bundle.layout == Layout::ZeroShot;
    let ends = ["max_new_tokens", "max_length"].iter().any(|key| manifest.generation.contains_key(*key));
    let needs = [
        (warmed.needs_prompt && manifest.prompt.is_none(), "a prompt (model.toml)"),
        (scores && manifest.labels.is_empty(), "labels (model.toml)"),
        (!scores && !ends && !states_length(&bundle.folder), "max_new_tokens ([generation] of model.toml)"),
    ];
    let needs: Vec<&str> = needs.into_iter().filter(|(missing, _)| *missing).map(|(_, what)| what).collect();
    let reports = if needs.is_empty() {
        "reports need nothing more".to_owned()
    } else {
        format!("reports need: {}", needs.join(", "))
    };
    format!("runs: {picture:.0} ms a picture with two tokens; {reports}")
}

/// Whether a folder's own files say how long a text may be.
fn states_length(folder: &Path) -> bool {
    ["generation_config.json", "config.json", "genai_config.json"].into_iter().any(|name| {
        let file = json_file(&folder.join(name)).unwrap_or_default();
        let places = [Some(&file), file.get("decoder"), file.get("search")];
        let mut stated =
            places.into_iter().flatten().flat_map(|place| [place.get("max_new_tokens"), place.get("max_length")]);
        stated.any(|length| length.is_some_and(Value::is_u64))
    })
}

/// Does `work` on a thread of its own, for as long as is allowed: neither loading a graph nor running one need have an end.
fn within<T: Send + 'static>(allowed: Duration, work: impl FnOnce(&Cancel) -> Result<T> + Send + 'static) -> Result<T> {
    let cancel = Cancel::at(Instant::now() + allowed);
    let (sender, done) = sync_channel(1);
    let of_work = cancel.clone();
    thread::Builder::new().name("model".to_owned()).spawn(move || {
        // Nobody listens any more when it took too long.
        let _ = sender.try_send(work(&of_work));
    })?;
    match done.recv_timeout(allowed) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Disconnected) => bail!("a defect in preread; the lines above have its place"),
        Err(RecvTimeoutError::Timeout) => {
            // What is interrupted in time ends in order; what is not ends with the process.
            cancel.cancel();
            let _ = done.recv_timeout(Duration::from_secs(2));
            bail!(
                "the model did not come to an end within {} s; it is too slow for this machine, or a graph of it has no end; \
                 allow more time with --deadline",
                allowed.as_secs_f64().round()
            )
        }
    }
}

fn load(bundle: &Bundle) -> Result<Model> {
    let runtime = Runtime::load(&models::find_library(None)?)?;
    Ok(Model::load(bundle, &runtime, &SessionOptions::default())?)
}

/// Most bytes of a PNG or a JPEG; a picture within the limits of pixels has fewer.
const MOST_BYTES: u64 = 1 << 30;

/// A PNG, a JPEG, or the first frame of a DICOM file as it is displayed.
fn image(path: &Path) -> Result<Image> {
    let context = || shown(path);
    let about = fs::metadata(path).with_context(context)?;
    if !about.is_file() {
        return Err(usage(format!("{}: it is no regular file; name a PNG, a JPEG or a DICOM file", shown(path))));
    }
    let mut first = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read(&mut first)).with_context(context)?;
    if first[..read].starts_with(b"\x89PNG") || first[..read].starts_with(b"\xff\xd8") {
        if about.len() > MOST_BYTES {
            bail!("{}: {} bytes are more than a picture has", shown(path), about.len());
        }
        return Image::decode(&fs::read(path).with_context(context)?).with_context(context);
    }
    let (limits, neither) = (pixel::Limits::default(), |error| anyhow::anyhow!("neither PNG nor JPEG, and {error}"));
    let header = Header::open(path, &Limits::default()).map_err(neither).with_context(context)?;
    pixel::check_size(&header, &limits).with_context(context)?;
    let instance = Instance::open(path, &Limits::default()).map_err(neither).with_context(context)?;
    let picture = pixel::render(&instance, 0, &pixel::RenderOptions::default(), &limits).with_context(context)?;
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
