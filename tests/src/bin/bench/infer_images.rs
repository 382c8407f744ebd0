//! How fast images are prepared, beside the Pillow form of Transformers' image processors.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    command::last_line,
    figures::median,
    infer::{inference, python, script},
    table,
};

/// How many times as fast as the other.
const WANTED: f64 = 3.0;

/// Images of a turn; its median is its figure.
const REPEATS: &str = "9";

/// Usual images: a radiograph, a CT image and a colour photograph. Width, height and colour.
const IMAGES: [(&str, &str, &str); 3] = [("2048", "2500", "grey"), ("512", "512", "grey"), ("1920", "1080", "colour")];

/// Image processors at the sizes of published models.
fn processors() -> [(&'static str, Value); 6] {
    let square = |side: u32| json!({"height": side, "width": side});
    [
        ("ViT 224", json!({"image_processor_type": "ViTImageProcessor", "size": square(224)})),
        (
            "CLIP 336",
            json!({"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 336},
            "crop_size": square(336)}),
        ),
        ("SigLIP 448", json!({"image_processor_type": "SiglipImageProcessor", "size": square(448)})),
        ("Gemma 3", json!({"image_processor_type": "Gemma3ImageProcessor", "size": square(896)})),
        (
            "SmolVLM",
            json!({"image_processor_type": "Idefics3ImageProcessor", "size": {"longest_edge": 2048},
            "max_image_size": {"longest_edge": 512}}),
        ),
        (
            "Qwen2-VL",
            json!({"image_processor_type": "Qwen2VLImageProcessor",
            "size": {"shortest_edge": 3136, "longest_edge": 1_003_520}}),
        ),
    ]
}

/// The table of all processors and images.
///
/// # Errors
/// When something cannot be measured.
pub(crate) fn chapter(rounds: usize, missed: &mut Vec<String>) -> Result<String> {
    let mut rows = Vec::new();
    for (name, keys) in processors() {
        for (width, height, colour) in IMAGES {
            let words = [&keys.to_string(), width, height, colour, REPEATS].map(str::to_owned);
            let once = |command: &mut Command, kind: &str| -> Result<f64> {
                let said = last_line(command.arg(kind).args(&words))?;
                said.parse().with_context(|| format!("not a number: {said}"))
            };
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                ours.push(once(&mut inference()?, "preprocess")?);
                theirs.push(once(python()?.arg(script("infer.py")), "pillow")?);
            }
            let [ours, theirs] = [ours, theirs].map(|times| median(times.into_iter()));
            let times = theirs / ours;
            let what = format!("{name}, {width} x {height} {colour}");
            eprintln!("{what}: {times:.1}");
            if times.is_nan() || times < WANTED {
                missed.push(format!("{what}: {times:.2} times as fast as Pillow, wanted {WANTED}"));
            }
            rows.push(vec![what, table::number(ours), table::number(theirs), table::number(times)]);
        }
    }
    let head = ["processor and image", "preread ms", "Transformers with Pillow ms", "times as fast"];
    Ok(format!(
        "## Preparing images\n\nFrom 8-bit RGB to `pixel_values`; the result is the same. Pillow and NumPy run on one thread, preread \
         too, but for the resizing of a large image in colour, which takes one for each of its three colours.\n\n{}\n",
        table::render(&head, &rows)
    ))
}
