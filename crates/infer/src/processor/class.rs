//! The image processors of Transformers, by the name of their class, with the keys each has when a folder is silent
//! (class attributes of 5.23). What differs between their Torchvision and their Pillow form follows the Pillow form,
//! which is the one that reads 8-bit levels and that a class falls back to: `Fast` at the end of a name says nothing.

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// What a processor does besides the common steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Levit,
    ConvNext,
    Donut,
    Llava,
    LlavaNext,
    LlavaOneVision,
    Gemma3,
    Idefics3,
    Qwen2Vl,
    Phi3V,
}

/// What a folder's class stands for: its kind, and the values of its keys where the folder has none.
pub(super) struct Class {
    pub(super) kind: Kind,
    pub(super) defaults: Map<String, Value>,
    /// A bare number as `size` is a square, not the shorter edge.
    pub(super) square: bool,
}

const SUPPORTED: &str = "the image processors of ViT, DeiT, Swin, BEiT, BiT, BLIP, CLIP, SigLIP, PVT, LeViT, ConvNeXt, \
                         Donut, LLaVA, LLaVA-NeXT, LLaVA-OneVision, Gemma 3, Idefics3, SmolVLM, Qwen2-VL and \
                         Phi-3-vision";

const HALF: [f64; 3] = [0.5, 0.5, 0.5];
const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];
const CLIP_MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

/// The class of `image_processor_type`. Without a name the keys have to say everything.
///
/// # Errors
/// [`Error::Unsupported`] for a class whose steps this engine does not have.
pub(super) fn class(name: Option<&str>) -> Result<Class> {
    let Some(name) = name else {
        return Ok(Class { kind: Kind::Plain, defaults: Map::new(), square: true });
    };
    let base = name.strip_suffix("Fast").or_else(|| name.strip_suffix("Pil")).unwrap_or(name);
    let base = base.strip_suffix("ImageProcessor").or_else(|| base.strip_suffix("FeatureExtractor")).unwrap_or(base);
    let (kind, square, resample, size, crop, (mean, std)) = match base {
        "ViT" => (Kind::Plain, true, 2, json!({"height": 224, "width": 224}), None, (HALF, HALF)),
        "DeiT" => (Kind::Plain, true, 3, json!({"height": 256, "width": 256}), Some(224), (HALF, HALF)),
        "Beit" => (Kind::Plain, true, 3, json!({"height": 224, "width": 224}), None, (HALF, HALF)),
        "Pvt" => (Kind::Plain, true, 3, json!({"height": 224, "width": 224}), None, (IMAGENET_MEAN, IMAGENET_STD)),
        "Siglip" => (Kind::Plain, false, 3, json!({"height": 224, "width": 224}), None, (HALF, HALF)),
        "Blip" => (Kind::Plain, true, 3, json!({"height": 384, "width": 384}), None, (CLIP_MEAN, CLIP_STD)),
        "CLIP" | "ChineseCLIP" | "Bit" => {
            (Kind::Plain, false, 3, json!({"shortest_edge": 224}), Some(224), (CLIP_MEAN, CLIP_STD))
        }
        "Levit" => (Kind::Levit, false, 3, json!({"shortest_edge": 224}), Some(224), (IMAGENET_MEAN, IMAGENET_STD)),
        "ConvNext" => (Kind::ConvNext, false, 3, json!({"shortest_edge": 384}), None, (HALF, HALF)),
        "Donut" => (Kind::Donut, true, 2, json!({"height": 2560, "width": 1920}), None, (HALF, HALF)),
        "Llava" => (Kind::Llava, false, 3, json!({"shortest_edge": 224}), Some(224), (CLIP_MEAN, CLIP_STD)),
        "LlavaNext" => (Kind::LlavaNext, false, 3, json!({"shortest_edge": 224}), Some(224), (CLIP_MEAN, CLIP_STD)),
        "LlavaOnevision" => {
            (Kind::LlavaOneVision, false, 3, json!({"height": 384, "width": 384}), None, (CLIP_MEAN, CLIP_STD))
        }
        "Gemma3" => (Kind::Gemma3, true, 2, json!({"height": 224, "width": 224}), None, (HALF, HALF)),
        "Idefics3" | "SmolVLM" => (Kind::Idefics3, true, 1, json!({"longest_edge": 4 * 364}), None, (HALF, HALF)),
        "Qwen2VL" | "Qwen2_5_VL" | "Qwen2_5VL" | "Qwen3VL" => {
            let size = json!({"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280});
            (Kind::Qwen2Vl, false, 3, size, None, (CLIP_MEAN, CLIP_STD))
        }
        "Phi3V" => (Kind::Phi3V, true, 2, json!({"height": 336, "width": 336}), None, (CLIP_MEAN, CLIP_STD)),
        _ => {
            let advice = match base {
                "Pix2Struct" => {
                    "Pix2Struct cuts flattened patches of any shape and draws the question into the image; choose a \
                     model that reads pixel_values"
                }
                _ => "choose another model, or set image_processor_type to one of these if its steps are the same",
            };
            return Err(Error::unsupported(format!("image processor {name}"), SUPPORTED, advice));
        }
    };
    let mut defaults = json!({
        "do_resize": true, "do_rescale": true, "do_normalize": true, "rescale_factor": 1.0 / 255.0,
        "resample": resample, "size": size, "image_mean": mean, "image_std": std,
    });
    if let Some(edge) = crop {
        defaults["crop_size"] = json!({"height": edge, "width": edge});
        defaults["do_center_crop"] = true.into();
    }
    let more = match kind {
        Kind::ConvNext => json!({"crop_pct": 224.0 / 256.0}),
        Kind::Donut => json!({"do_thumbnail": true, "do_align_long_axis": false, "do_pad": true}),
        Kind::LlavaNext => {
            json!({"image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]})
        }
        Kind::LlavaOneVision => json!({"image_grid_pinpoints": squares(384, 6)}),
        // Gemma3Processor's own, which replace those of the folder.
        Kind::Gemma3 => json!({
            "do_pan_and_scan": false, "pan_and_scan_min_crop_size": 256, "pan_and_scan_max_num_crops": 4,
            "pan_and_scan_min_ratio_to_activate": 1.2,
        }),
        Kind::Idefics3 => {
            json!({"max_image_size": {"longest_edge": 364}, "do_image_splitting": true, "do_pad": true})
        }
        Kind::Qwen2Vl => json!({"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}),
        Kind::Phi3V => json!({"num_crops": 1}),
        Kind::Plain | Kind::Levit | Kind::Llava => json!({}),
    };
    let (Value::Object(mut defaults), Value::Object(more)) = (defaults, more) else { unreachable!("objects above") };
    defaults.extend(more);
    Ok(Class { kind, defaults, square })
}

/// Every resolution of 1 to `most` squares of `side` pixels a side.
fn squares(side: u32, most: u32) -> Vec<[u32; 2]> {
    (1..=most).flat_map(|rows| (1..=most).map(move |columns| [rows * side, columns * side])).collect()
}

/// The class that stands behind a model's `model_type` where neither the folder's processor nor its configuration
/// names one.
pub(super) fn of_model(model_type: &str) -> Option<&'static str> {
    Some(match model_type {
        "vit" | "swin" | "swinv2" | "trocr" | "vit_mae" | "vit_msn" | "dinat" | "ijepa" => "ViTImageProcessor",
        "deit" => "DeiTImageProcessor",
        "beit" | "data2vec-vision" => "BeitImageProcessor",
        "bit" | "dinov2" | "focalnet" | "hiera" => "BitImageProcessor",
        "blip" | "blip-2" | "instructblip" => "BlipImageProcessor",
        "clip" | "florence2" | "git" | "vipllava" | "metaclip_2" | "altclip" | "groupvit" => "CLIPImageProcessor",
        "siglip" | "paligemma" | "gemma3n" | "colpali" => "SiglipImageProcessor",
        "levit" => "LevitImageProcessor",
        "convnext" | "convnextv2" | "cvt" | "resnet" | "regnet" => "ConvNextImageProcessor",
        "donut-swin" => "DonutImageProcessor",
        "llava" => "LlavaImageProcessor",
        "llava_next" | "granite4_vision" => "LlavaNextImageProcessor",
        "llava_onevision" => "LlavaOnevisionImageProcessor",
        "gemma3" | "shieldgemma2" => "Gemma3ImageProcessor",
        "idefics3" => "Idefics3ImageProcessor",
        "smolvlm" => "SmolVLMImageProcessor",
        "qwen2_vl" | "qwen2_5_vl" | "qwen3_vl" | "qwen3_5" | "colqwen2" => "Qwen2VLImageProcessor",
        "phi3_v" => "Phi3VImageProcessor",
        _ => return None,
    })
}
