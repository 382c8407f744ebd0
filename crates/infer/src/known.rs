//! Which models are run, by the `model_type` that their configuration states. A kind that is not known is refused by name:
//! run as another one it may write well and be wrong.

use serde_json::Value;

use crate::{
    bundle::Bundle,
    error::{Error, Result},
    layout::Layout,
};

/// What a folder without a `model_type` is called where its layout alone says what it is.
pub(crate) const ENCODER_DECODER: &str = "encoder-decoder";

/// Models of images and a prompt, in onnx-community's or onnxruntime-genai's layout.
const VISION_LANGUAGE: [&str; 16] = [
    "florence2",
    "gemma3",
    "gemma3_text",
    "idefics3",
    "llava",
    "llava_next",
    "llava_onevision",
    "llava_qwen2",
    "paligemma",
    "phi3_v",
    "phi3v",
    "qwen2_5_vl",
    "qwen2_vl",
    "qwen3_vl",
    "smolvlm",
    "vipllava",
];

/// Models whose decoder reads the encoder's features by cross attention, in optimum's layout.
const CROSSING: [&str; 2] = ["vision-encoder-decoder", ENCODER_DECODER];

/// Models that score images against labels in one graph.
const SCORING: [&str; 7] = ["altclip", "chinese_clip", "clip", "groupvit", "metaclip_2", "siglip", "siglip2"];

fn of(layout: Layout) -> &'static [&'static str] {
    match layout {
        Layout::VisionLanguage | Layout::GenAi => &VISION_LANGUAGE,
        Layout::EncoderDecoder => &CROSSING,
        Layout::ZeroShot => &SCORING,
    }
}

/// Refuses a folder whose kind of model is not known, unless `family` of its `model.toml` says which one it is to be run as.
///
/// # Errors
/// [`Error::Unsupported`] with the kind and the ones that are known; [`Error::Bundle`] for a `family` that is none of them, and
/// for a configuration that is no JSON.
pub(crate) fn check(bundle: &Bundle) -> Result<()> {
    let known = of(bundle.layout);
    if known.contains(&bundle.family.as_str()) {
        return Ok(());
    }
    let list = known.join(", ");
    if let Some(family) = &bundle.manifest.family {
        let problem = format!("family = {family:?} is not a family that is known; in this layout there are: {list}");
        return Err(Error::bundle(bundle.folder.join("model.toml"), problem));
    }
    // A configuration that is cut short or not there says nothing of the kind; what is missing is named by who asks.
    let config = bundle.json("config.json")?;
    if config.is_null() && bundle.genai.is_none() {
        return Ok(());
    }
    let found = match stated(&config).or_else(|| bundle.genai.as_ref().map(|genai| genai.family.as_str())) {
        Some(name) => format!("{}: model_type {name:?}{}", bundle.folder.display(), kind(&config, bundle.layout)),
        None => format!("{}: a configuration that states no model_type", bundle.folder.display()),
    };
    let example = known.iter().find(|name| **name == "llava").unwrap_or(&known[0]);
    let advice = format!(
        "run as another family it could be wrong without a word; if it is one of these under another name, write \
         family = {example:?} (or the right one) into model.toml and compare its answers with its own"
    );
    Err(Error::unsupported(found, list, advice))
}

/// The `model_type` that a configuration states.
pub(crate) fn stated(config: &Value) -> Option<&str> {
    config.get("model_type").and_then(Value::as_str)
}

/// What a model is, by the class that its configuration names, where it is none that could be run in its layout.
fn kind(config: &Value, layout: Layout) -> &'static str {
    let classes = config["architectures"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut kinds = classes.filter_map(|class| {
        Some(match class {
            _ if class.ends_with("ForImageClassification") => ", an image classifier without a text",
            _ if class.ends_with("ForObjectDetection") => ", a detector of objects without a text",
            _ if class.ends_with("Segmentation") => ", a model that segments and writes no text",
            _ if class.ends_with("ForCausalLM") => ", a language model that sees no images",
            _ => return None,
        })
    });
    match kinds.next() {
        Some(kind) => kind,
        None if layout == Layout::ZeroShot => ", in one graph that is no CLIP or SigLIP",
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_unknown_kind_is_refused_by_name_unless_the_manifest_says_what_it_is() {
        let check = |graphs: &[&str], config: &str, manifest: &str, expected: std::result::Result<&str, &[&str]>| {
            let folder = tempfile::tempdir().expect("a folder");
            for (name, text) in [("config.json", config), ("model.toml", manifest)] {
                fs::write(folder.path().join(name), text).expect("written");
            }
            graphs.iter().for_each(|graph| fs::write(folder.path().join(graph), "x").expect("written"));
            let bundle = Bundle::open(folder.path()).expect("a folder of graphs");
            match (check(&bundle), expected) {
                (Ok(()), Ok(family)) => assert_eq!(bundle.family, family),
                (Err(error), Err(parts)) => {
                    let error = error.to_string();
                    parts.iter().for_each(|part| assert!(error.contains(part), "{part:?} not in {error}"));
                }
                (found, expected) => panic!("{config} {manifest}: {found:?} instead of {expected:?}"),
            }
        };
        let reads = ["vision_encoder.onnx", "embed_tokens.onnx", "decoder_model_merged.onnx"];
        let crosses = ["encoder_model.onnx", "decoder_model_merged.onnx"];
        let scores = ["model.onnx"];
        check(&reads, r#"{"model_type": "llava"}"#, "", Ok("llava"));
        check(&reads, r#"{"model_type": "qwen2_5_vl"}"#, "", Ok("qwen2_5_vl"));
        check(&reads, r#"{"model_type": "blip-2"}"#, "", Err(&["\"blip-2\"", "family = \"llava\"", "smolvlm"]));
        check(&reads, r#"{"model_type": "granite4_vision"}"#, "family = 'llava_next'", Ok("llava_next"));
        check(
            &reads,
            r#"{"model_type": "gemma3n"}"#,
            "family = 'gemma4'",
            Err(&["model.toml", "\"gemma4\"", "gemma3"]),
        );
        check(&reads, "{}", "", Err(&["no model_type", "family = "]));
        check(&reads, r#"{"model_type": "vit"}"#, "family = 'siglip'", Err(&["\"siglip\""]));
        check(&crosses, r#"{"model_type": "vision-encoder-decoder"}"#, "", Ok("vision-encoder-decoder"));
        check(&crosses, "{}", "", Ok("encoder-decoder"));
        check(&crosses, r#"{"model_type": "whisper"}"#, "", Err(&["\"whisper\"", "vision-encoder-decoder"]));
        check(&scores, r#"{"model_type": "siglip"}"#, "", Ok("siglip"));
        let classifier = r#"{"model_type": "vit", "architectures": ["ViTForImageClassification"]}"#;
        check(&scores, classifier, "", Err(&["\"vit\", an image classifier", "clip"]));
        let detector = r#"{"model_type": "detr", "architectures": ["DetrForObjectDetection"]}"#;
        check(&scores, detector, "", Err(&["\"detr\", a detector of objects"]));
        check(&scores, r#"{"model_type": "qwen2"}"#, "", Err(&["\"qwen2\"", "no CLIP or SigLIP"]));
    }
}
