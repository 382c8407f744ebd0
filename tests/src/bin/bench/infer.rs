//! How fast models answer and images are prepared, beside other runtimes on the same graphs, and what memory allows.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use e2e::place;
use serde_json::Value;

use crate::{
    Options,
    command::last_line,
    document,
    figures::{float, mebibytes, median},
    infer_images, machine, table,
};

/// A program that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runner {
    Preread,
    /// The same graphs in a plain loop in Python.
    OnnxRuntime,
    /// onnxruntime-genai on the same decoder, fed with as many tokens.
    GenAi,
    /// The same shapes in PyTorch, in this type.
    Transformers(&'static str),
}

impl Runner {
    fn name(self) -> String {
        match self {
            Self::Preread => "preread".to_owned(),
            Self::OnnxRuntime => "onnxruntime, Python".to_owned(),
            Self::GenAi => "onnxruntime-genai".to_owned(),
            Self::Transformers(dtype) => format!("Transformers, {dtype}"),
        }
    }
}

/// PyTorch's types; the faster one on this machine counts.
const TYPES: [Runner; 2] = [Runner::Transformers("bfloat16"), Runner::Transformers("float32")];

/// A model and the types its weights are measured in. Both are random: `tests/peers/infer_models.py` writes them.
struct Model {
    name: &'static str,
    /// What `infer_models.py` and the exporters call it.
    folder: &'static str,
    family: &'static str,
    precisions: &'static [&'static str],
    genai: bool,
    new_tokens: usize,
}

const MODELS: [Model; 2] = [
    Model {
        name: "SmolVLM-256M",
        folder: "smolvlm",
        family: "idefics3",
        precisions: &["fp32", "q8"],
        genai: false,
        new_tokens: 64,
    },
    Model {
        name: "Qwen2-VL-2B",
        folder: "qwen_vl",
        family: "qwen2_5_vl",
        precisions: &["q4"],
        genai: true,
        new_tokens: 32,
    },
];

/// How many times as many tokens a second as each of the others.
const WANTED_OF_SAME_GRAPHS: f64 = 1.0;
const WANTED_OF_TRANSFORMERS: f64 = 1.5;
/// Most of the time, in percent, that is not ONNX Runtime's.
const MOST_OUTSIDE: f64 = 5.0;

/// What one answer took, by the names of `infer.py` and of the example `inference`.
type Figures = BTreeMap<String, f64>;

/// Measures, prints, and writes the table if asked to.
///
/// # Errors
/// When something cannot be measured, or a figure misses what it is held to.
pub(crate) fn run(options: &Options) -> Result<()> {
    let begin = Instant::now();
    let threads = std::thread::available_parallelism()?.get();
    let folder = tempfile::tempdir_in(place::root().join("target"))?;
    let mut report = preface(options, folder.path(), threads)?;
    let mut missed = Vec::new();
    report += &infer_images::chapter(options.rounds, &mut missed)?;
    let bandwidth: f64 = last_line(inference()?.args(["bandwidth", &threads.to_string()]))?.parse()?;
    let _ = writeln!(report, "## Answers\n\nMemory read by {threads} threads: {} GB/s.\n", table::number(bandwidth));
    for model in &MODELS {
        let made = folder.path().join(model.folder);
        eprintln!("{}: making it", model.name);
        last_line(python()?.arg(script("infer_models.py")).arg(model.folder).arg(&made))?;
        let image = made.join("image.png");
        let mut type_of_torch = None;
        for precision in model.precisions {
            let measured = measure(model, &made, precision, &image, options.rounds, threads, &mut type_of_torch)?;
            let weights: BTreeMap<String, f64> =
                serde_json::from_str(&fs::read_to_string(made.join("decoder_bytes.json"))?)?;
            let weights = weights.get(*precision).copied().context("no bytes of weights")?;
            report += &tables(model, precision, &measured, bandwidth * 1e9 / weights, &mut missed);
        }
        fs::remove_dir_all(&made)?;
    }
    let _ = writeln!(report, "## Missed\n");
    for line in &missed {
        let _ = writeln!(report, "- {line}");
    }
    if missed.is_empty() {
        report += "Nothing.\n";
    }
    println!("{report}\n{:.0} s; load average at the end {}", begin.elapsed().as_secs_f64(), machine::load_average()?);
    if options.write {
        document::write(&report)?;
    }
    ensure!(missed.is_empty(), "{} figures miss what they are held to", missed.len());
    Ok(())
}

/// Every runner with the medians of its figures, ours first. In each round all have their turn.
fn measure(
    model: &Model,
    folder: &Path,
    precision: &str,
    image: &Path,
    rounds: usize,
    threads: usize,
    type_of_torch: &mut Option<Runner>,
) -> Result<Vec<(Runner, Figures)>> {
    let once = |runner: Runner, tokens: f64| -> Result<Figures> {
        let figures = answer(model, runner, folder, precision, image, tokens, threads);
        let figures = figures.with_context(|| format!("{} on {} {precision}", runner.name(), model.name))?;
        eprintln!("{} {precision}, {}: {} tokens/s", model.name, runner.name(), table::number(rate(&figures)));
        Ok(figures)
    };
    let torch = match *type_of_torch {
        Some(torch) => torch,
        None => {
            let rates = TYPES.map(|runner| once(runner, 0.0).map(|figures| rate(&figures)));
            let [first, second] = rates;
            if first? >= second? { TYPES[0] } else { TYPES[1] }
        }
    };
    *type_of_torch = Some(torch);
    let mut runners = vec![Runner::Preread, Runner::OnnxRuntime];
    runners.extend(model.genai.then_some(Runner::GenAi));
    runners.push(torch);
    let mut taken: Vec<Vec<Figures>> = vec![Vec::new(); runners.len()];
    // As many as the prompt has here; known after the first turn, which is never genai's.
    let mut tokens = 0.0;
    for round in 0..rounds {
        for place in 0..runners.len() {
            // Nobody is always the first, or always after the same one.
            let place = if tokens == 0.0 { place } else { (place + round) % runners.len() };
            let figures = once(runners[place], tokens)?;
            tokens = figures.get("tokens").copied().unwrap_or(tokens);
            taken[place].push(figures);
        }
    }
    Ok(runners.into_iter().zip(taken.iter().map(|taken| medians(taken))).collect())
}

fn medians(taken: &[Figures]) -> Figures {
    let mut medians = Figures::new();
    for name in taken.first().into_iter().flat_map(|figures| figures.keys()) {
        medians.insert(name.clone(), median(taken.iter().filter_map(|figures| figures.get(name).copied())));
    }
    // Of the rounds' own rates and shares, not of the medians of what they are made of.
    medians.insert("rate".to_owned(), median(taken.iter().map(rate)));
    medians.insert("outside".to_owned(), median(taken.iter().map(outside)));
    medians
}

fn get(figures: &Figures, name: &str) -> f64 {
    figures.get(name).copied().unwrap_or(f64::NAN)
}

/// Tokens a second after the first one.
fn rate(figures: &Figures) -> f64 {
    (get(figures, "new_tokens") - 1.0) / get(figures, "decode") * 1000.0
}

/// Percent of the time between images and answer that ONNX Runtime does not run.
fn outside(figures: &Figures) -> f64 {
    (1.0 - get(figures, "graphs") / get(figures, "whole")) * 100.0
}

fn answer(
    model: &Model,
    runner: Runner,
    folder: &Path,
    precision: &str,
    image: &Path,
    tokens: f64,
    threads: usize,
) -> Result<Figures> {
    let [new_tokens, threads] = [model.new_tokens, threads].map(|number| number.to_string());
    let mut command = match runner {
        Runner::Preread => inference()?,
        _ => {
            let mut python = python()?;
            python.arg(script("infer.py"));
            python
        }
    };
    match runner {
        Runner::Preread => command.arg("answer").arg(folder).arg(precision).arg(image),
        Runner::OnnxRuntime => command.args(["onnxruntime", model.family]).arg(folder).arg(precision).arg(image),
        Runner::Transformers(dtype) => command.args(["transformers", model.family]).arg(folder).arg(dtype).arg(image),
        Runner::GenAi => command.arg("genai").arg(folder.join("genai")).arg(tokens.to_string()),
    };
    let figures: Value = serde_json::from_str(&last_line(command.args([new_tokens, threads]))?)?;
    let figures = figures.as_object().context("not an object")?;
    Ok(figures.iter().filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect())
}

/// A model in one type of weights. `floor`: tokens a second if only its weights were read, as fast as memory allows.
fn tables(
    model: &Model,
    precision: &str,
    measured: &[(Runner, Figures)],
    floor: f64,
    missed: &mut Vec<String>,
) -> String {
    let Some(((_, ours), others)) = measured.split_first() else { return String::new() };
    let what = format!("{}, {precision}", model.name);
    let number = |value: f64| table::number(value);
    let rows: Vec<Vec<String>> = measured
        .iter()
        .map(|(runner, figures)| {
            let stage = |name: &str| number(get(figures, name));
            let times = get(ours, "rate") / get(figures, "rate");
            vec![
                runner.name(),
                stage("load"),
                stage("preprocess"),
                stage("vision"),
                stage("prefill"),
                stage("rate"),
                number(get(figures, "rate") / floor * 100.0),
                if *runner == Runner::Preread { String::new() } else { number(times) },
                number(get(figures, "peak") / mebibytes_of_one()),
            ]
        })
        .collect();
    for (runner, figures) in others {
        let wanted = match runner {
            // Which may read half the bytes a weight: shown, not held to.
            Runner::Transformers(_) if precision == "fp32" => continue,
            Runner::Transformers(_) => WANTED_OF_TRANSFORMERS,
            _ => WANTED_OF_SAME_GRAPHS,
        };
        let times = get(ours, "rate") / get(figures, "rate");
        if times.is_nan() || times < wanted {
            missed.push(format!("{what}: {times:.2} times the tokens of {}, wanted {wanted}", runner.name()));
        }
    }
    let outside = get(ours, "outside");
    if outside.is_nan() || outside > MOST_OUTSIDE {
        missed
            .push(format!("{what}: {outside:.1} % of the time outside ONNX Runtime, wanted {MOST_OUTSIDE} % at most"));
    }
    let head = [
        "by",
        "load ms",
        "preprocess ms",
        "vision ms",
        "prefill ms",
        "tokens/s",
        "% of the floor",
        "preread is × as fast",
        "peak MiB",
    ];
    format!(
        "### {what}\n\n{} tokens in the prompt, {} written. The floor is {} tokens/s. Of preread's time {} % are outside \
         ONNX Runtime; reading the files for their digests, before loading, takes {} ms.\n\n{}\n",
        get(ours, "tokens"),
        model.new_tokens,
        number(floor),
        number(outside),
        number(get(ours, "digest")),
        table::render(&head, &rows)
    )
}

fn mebibytes_of_one() -> f64 {
    1.0 / mebibytes(1)
}

/// The example of `infer`, in the environment that the daemon has.
///
/// # Errors
/// When the unit that says which cannot be read.
pub(crate) fn inference() -> Result<Command> {
    place::as_installed(Command::new(place::root().join("target/debug/examples/inference")))
}

/// A file beside the other peers.
pub(crate) fn script(name: &str) -> PathBuf {
    place::root().join("tests/peers").join(name)
}

/// The Python that has the other runtimes.
pub(crate) fn python() -> Result<Command> {
    let program = place::root().join("target/peers/infer/bin/python");
    ensure!(program.is_file(), "the other runtimes are not installed: start this by `cargo xtask bench infer`");
    let mut python = Command::new(program);
    python.env("PYTHONDONTWRITEBYTECODE", "1").env("HF_HUB_OFFLINE", "1").env("ORT_DISABLE_TELEMETRY", "1");
    Ok(python)
}

/// What is measured, how, and on what.
fn preface(options: &Options, folder: &Path, threads: usize) -> Result<String> {
    let mut text = String::from("# Benchmarks: inference\n\n");
    let _ = writeln!(
        text,
        "Made by `cargo xtask bench infer --rounds {} --write` on {}, {}. Load average at the start: {}. {} threads for \
         each.\n",
        options.rounds,
        machine::date()?,
        machine::words(folder)?,
        machine::load_average()?,
        float(threads as u64)
    );
    let _ = writeln!(text, "The others: {}.\n", last_line(python()?.arg(script("infer.py")).arg("versions"))?);
    text += METHOD;
    Ok(text)
}

const METHOD: &str = "\
The weights are random and the shapes real: SmolVLM-256M whole, for an image that becomes 5 tiles; Qwen2-VL-2B with the text
model whole and 8 of the 32 layers of its vision (its language model as onnxruntime-genai's builder makes it, with 4-bit
weights, its vision in float32). The models are written by `tests/peers/infer_models.py` and removed at the end. Every figure
is the median of the rounds, and in each round every runtime has its turn, in a process of its own that answers twice; the
second answer counts. preread has the environment that its systemd unit gives it, in which malloc asks for large pages;
the others are as they come. onnxruntime is the same graphs in a loop in Python that moves the cache without a copy; its options are
the defaults but for the threads and the memory pattern, so its threads also spin between runs, which preread's do not.
onnxruntime-genai runs the same decoder over the same weights, with as many tokens in the prompt but no image. Transformers runs the same
shapes in PyTorch, in the faster of bfloat16 and float32 on this machine; float32 weights are not held to it, which have
twice the bytes of bfloat16. The peak is the process's, Python and the libraries
that prepare images in it; preread reads all files for the model's digest, and writes log-probabilities, which the others do
not. The floor is the bytes of the decoder's weights through what memory gives; where it is passed, a part of the weights
stayed in the cache.

";
