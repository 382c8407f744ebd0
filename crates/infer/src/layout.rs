//! How the graphs of a model lie on disk: which layout a folder has, and which file plays which part.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;

use crate::error::{Error, Result};

/// How the graphs of a model lie on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// `vision_encoder.onnx`, `embed_tokens.onnx` and `decoder_model_merged.onnx`, as onnx-community publishes them; with
    /// `encoder_model.onnx` where the language model has an encoder.
    VisionLanguage,
    /// `encoder_model.onnx` and `decoder_model_merged.onnx`, as optimum exports image-to-text models.
    EncoderDecoder,
    /// `genai_config.json` names the graphs and their inputs, as onnxruntime-genai's builder writes them.
    GenAi,
    /// `model.onnx` with images and texts in, `logits_per_image` out (CLIP, SigLIP).
    ZeroShot,
}

/// The part a graph plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Pixels to features.
    Vision,
    /// Token ids to embeddings, with the images merged in where the graph takes features.
    Embed,
    /// The encoder of a language model that has one, or of pixels in [`Layout::EncoderDecoder`].
    Encoder,
    /// Scores of the next token.
    Decoder,
    /// Images and texts to scores, in one graph.
    Scorer,
}

const LAYOUTS: &str = "vision language (vision_encoder.onnx + embed_tokens.onnx + decoder_model_merged.onnx), encoder \
                       decoder (encoder_model.onnx + decoder_model_merged.onnx), onnxruntime-genai (genai_config.json), \
                       zero-shot (model.onnx); graphs in the folder or under onnx/";

/// Suffixes of reduced precision, the most exact first; what is not listed comes last.
const PRECISIONS: [&str; 11] = ["", "fp16", "quantized", "int8", "uint8", "q8", "bnb4", "q4", "q4f16", "q2", "q2f16"];

/// File name without `onnx/`.
pub(crate) fn base(name: &str) -> &str {
    name.strip_prefix("onnx/").unwrap_or(name)
}

/// The layout of a folder with these files.
///
/// # Errors
/// [`Error::Unsupported`] for a layout that is recognised and not run, [`Error::Bundle`] for a folder without graphs.
pub(crate) fn recognise(dir: &Path, names: &[String]) -> Result<Layout> {
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let graph = |stem: &str| names.iter().any(|name| precision_of(name, stem).is_some());
    if has("genai_config.json") {
        return Ok(Layout::GenAi);
    }
    if graph("language_model") && graph("prepare_inputs_embeds") && !graph("vision_encoder") {
        return Err(Error::unsupported(
            format!("{}: prepare_inputs_embeds and language_model, the graphs of Janus", dir.display()),
            format!("the layouts {LAYOUTS}"),
            "choose another model: this kind keeps its vision encoder inside the embedding graph",
        ));
    }
    if graph("vision_encoder") || graph("embed_tokens") || graph("prepare_inputs_embeds") {
        return Ok(Layout::VisionLanguage);
    }
    if graph("encoder_model") || graph("decoder_model_merged") {
        return Ok(Layout::EncoderDecoder);
    }
    if has("export.json") {
        return Err(Error::unsupported(
            format!("{}: layout `transformers 5 native export` (it has export.json)", dir.display()),
            format!("the layouts {LAYOUTS}"),
            "its graphs fix the batch at 1 and hold the weights twice; convert the model from its PyTorch checkpoint: \
             optimum-cli export onnx for an encoder-decoder, the onnx-community conversion scripts or onnxruntime-genai's \
             builder (python -m onnxruntime_genai.models.builder) for a vision language model",
        ));
    }
    if graph("model") {
        return Ok(Layout::ZeroShot);
    }
    if graph("text_model") || graph("decoder_model") || graph("decoder_with_past_model") {
        let found = names.iter().filter(|name| name.ends_with(".onnx")).map(String::as_str).collect::<Vec<_>>();
        return Err(Error::unsupported(
            format!("{}: separate graphs {}", dir.display(), found.join(", ")),
            format!("the layouts {LAYOUTS}"),
            "copy model.onnx (zero-shot) or decoder_model_merged.onnx from the model's source, or export with optimum, \
             which merges them",
        ));
    }
    not_exported(dir, names)?;
    Err(missing(dir, names, "encoder_model.onnx"))
}

/// Refuses weights that are no ONNX graphs, with what makes graphs of them.
fn not_exported(dir: &Path, names: &[String]) -> Result<()> {
    let of_torch = |name: &&String| {
        let base = base(name);
        base.ends_with(".safetensors") || (base.starts_with("pytorch_model") && base.ends_with(".bin"))
    };
    let of_llama = |name: &&String| name.ends_with(".gguf");
    let (found, advice) = if let Some(name) = names.iter().find(of_torch) {
        let advice = "make graphs of it: in models/ of a checkout `python -m export FAMILY --from FOLDER --out DIR` (see \
                      models/export/README.md), or `optimum-cli export onnx --model FOLDER DIR` for an encoder-decoder, CLIP \
                      or SigLIP; or get a copy that has them, as onnx-community publishes";
        (format!("{name}, weights of PyTorch, and no ONNX graphs"), advice)
    } else if let Some(name) = names.iter().find(of_llama) {
        (
            format!("{name}, a model of llama.cpp, and no ONNX graphs"),
            "get the model as ONNX graphs, or export it to them",
        )
    } else {
        return Ok(());
    };
    Err(Error::unsupported(format!("{}: {found}", dir.display()), format!("the layouts {LAYOUTS}"), advice))
}

/// The files that play the parts of a layout (but for [`Layout::GenAi`], whose configuration names them).
/// `precision` is the suffix wanted (`fp32`, `fp16`, `q4` …); without one the most exact of those that every part has.
///
/// # Errors
/// [`Error::Bundle`] naming the file that is missing.
pub(crate) fn graphs(
    dir: &Path,
    names: &[String],
    layout: Layout,
    precision: Option<&str>,
) -> Result<BTreeMap<Role, String>> {
    let stems: &[(Role, &[&str])] = match layout {
        Layout::VisionLanguage => &[
            (Role::Vision, &["vision_encoder"]),
            (Role::Embed, &["embed_tokens", "prepare_inputs_embeds"]),
            (Role::Encoder, &["encoder_model"]),
            (Role::Decoder, &["decoder_model_merged", "model"]),
        ],
        Layout::EncoderDecoder => &[(Role::Encoder, &["encoder_model"]), (Role::Decoder, &["decoder_model_merged"])],
        Layout::ZeroShot => &[(Role::Scorer, &["model"])],
        Layout::GenAi => &[],
    };
    let mut found: BTreeMap<Role, Vec<(&str, &String)>> = BTreeMap::new();
    for (role, stems) in stems {
        let of_stem = |stem: &&str| -> Vec<(&str, &String)> {
            names.iter().filter_map(|name| Some((precision_of(name, stem)?, name))).collect()
        };
        let candidates = stems.iter().map(of_stem).find(|candidates| !candidates.is_empty());
        match candidates {
            Some(candidates) => drop(found.insert(*role, candidates)),
            // Only language models with an encoder have one.
            None if *role == Role::Encoder && layout == Layout::VisionLanguage => {}
            None => return Err(missing(dir, names, &format!("{}.onnx", stems[0]))),
        }
    }
    let wanted = precision.map(|precision| if precision == "fp32" { "" } else { precision });
    if let Some(wanted) = wanted
        && !found.values().flatten().any(|(precision, _)| *precision == wanted)
    {
        let mut there: Vec<&str> = found
            .values()
            .flatten()
            .map(|(precision, _)| if precision.is_empty() { "fp32" } else { precision })
            .collect();
        there.sort_unstable();
        there.dedup();
        let problem = format!("no graph of precision `{wanted}`; the folder has {}", there.join(", "));
        return Err(Error::bundle(dir, problem));
    }
    let everywhere =
        |precision: &&str| found.values().all(|candidates| candidates.iter().any(|(found, _)| found == precision));
    let common = wanted.or_else(|| PRECISIONS.iter().copied().find(everywhere));
    Ok(found.iter().map(|(role, candidates)| (*role, choose(candidates, common))).collect())
}

/// The candidate of the precision wanted, else the most exact.
fn choose(candidates: &[(&str, &String)], wanted: Option<&str>) -> String {
    let exactness = |precision: &str| {
        let listed = PRECISIONS.iter().position(|listed| *listed == precision).unwrap_or(PRECISIONS.len());
        (Some(precision) != wanted, listed)
    };
    let best = candidates.iter().min_by_key(|(precision, name)| (exactness(precision), name.as_str()));
    best.map(|(_, name)| (*name).clone()).unwrap_or_default()
}

/// The precision suffix of `stem.onnx` or `stem_<precision>.onnx`; none when the file is another's.
fn precision_of<'a>(name: &'a str, stem: &str) -> Option<&'a str> {
    let suffix = base(name).strip_suffix(".onnx")?.strip_prefix(stem)?;
    if suffix.is_empty() {
        return Some(suffix);
    }
    let precision = suffix.strip_prefix('_')?;
    let quantised = precision.strip_prefix('q').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    (PRECISIONS.contains(&precision) || quantised).then_some(precision)
}

fn missing(dir: &Path, names: &[String], file: &str) -> Error {
    let onnx: Vec<&str> = names.iter().map(String::as_str).filter(|name| name.ends_with(".onnx")).collect();
    let have = if onnx.is_empty() { "no .onnx file".to_owned() } else { onnx.join(", ") };
    Error::bundle(
        dir,
        format!(
            "{file} is missing (the folder has {have}); copy it from the model's source. Layouts recognised: {LAYOUTS}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn chosen(files: &[&str], precision: Option<&str>) -> Result<Vec<String>> {
        let (dir, names) = (Path::new("m"), names(files));
        Ok(graphs(dir, &names, recognise(dir, &names)?, precision)?.into_values().collect())
    }

    #[test]
    fn the_most_exact_precision_that_all_parts_share() {
        let check = |files: &[&str], precision, expected: &[&str]| {
            assert_eq!(chosen(files, precision).expect("complete"), expected);
        };
        let sets = |precisions: &[&str]| -> Vec<String> {
            let stems = ["vision_encoder", "embed_tokens", "decoder_model_merged"];
            stems.iter().flat_map(|stem| precisions.iter().map(move |p| format!("onnx/{stem}{p}.onnx"))).collect()
        };
        let files = |files: &[String], precision| {
            chosen(&files.iter().map(String::as_str).collect::<Vec<_>>(), precision).expect("complete")
        };
        assert_eq!(files(&sets(&["_q4", "_fp16", "_quantized"]), None), sets(&["_fp16"]));
        assert_eq!(files(&sets(&["_q4", "_fp16", "_quantized"]), Some("q4")), sets(&["_q4"]));
        assert_eq!(files(&sets(&["", "_q4"]), Some("fp32")), sets(&[""]));
        check(
            &[
                "vision_encoder_fp16.onnx",
                "vision_encoder.onnx",
                "embed_tokens_q4f16.onnx",
                "decoder_model_merged_q4.onnx",
            ],
            None,
            &["vision_encoder.onnx", "embed_tokens_q4f16.onnx", "decoder_model_merged_q4.onnx"],
        );
        check(
            &["onnx/encoder_model_int8.onnx", "onnx/decoder_model_merged_fp16.onnx"],
            None,
            &["onnx/encoder_model_int8.onnx", "onnx/decoder_model_merged_fp16.onnx"],
        );
        check(
            &["vision_encoder.onnx", "prepare_inputs_embeds.onnx", "model.onnx"],
            None,
            &["vision_encoder.onnx", "prepare_inputs_embeds.onnx", "model.onnx"],
        );
        check(&["onnx/model_q4.onnx"], None, &["onnx/model_q4.onnx"]);
    }

    #[test]
    fn says_what_is_missing_or_not_run() {
        let check = |files: &[&str], precision, parts: &[&str]| {
            let error = chosen(files, precision).expect_err("refused").to_string();
            for part in parts {
                assert!(error.contains(part), "{part:?} not in {error:?}");
            }
        };
        check(&[], None, &["encoder_model.onnx is missing", "no .onnx file"]);
        check(&["onnx/vision_encoder_q4.onnx"], None, &["embed_tokens.onnx is missing", "vision_encoder_q4.onnx"]);
        check(&["embed_tokens.onnx"], None, &["vision_encoder.onnx is missing"]);
        check(&["vision_encoder.onnx", "embed_tokens.onnx"], None, &["decoder_model_merged.onnx is missing"]);
        check(&["decoder_model_merged.onnx"], None, &["encoder_model.onnx is missing"]);
        check(&["export.json", "language_model.onnx"], None, &["transformers 5", "optimum-cli export onnx"]);
        check(&["text_model.onnx", "vision_model.onnx"], None, &["model.onnx"]);
        check(&["onnx/model_q4.onnx"], Some("fp16"), &["`fp16`", "q4"]);
    }
}
