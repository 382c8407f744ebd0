//! Image preprocessing from the keys of a Hugging Face image processor, step by step as its class in Transformers does
//! it: resizing as Pillow resizes, and cutting, padding and normalising as the class has it.

mod any_resolution;
mod class;
mod idefics3;
mod keys;
mod levels;
mod phi3_v;
mod pipeline;
mod plain;
mod planes;
mod qwen2_vl;
mod view;

use serde_json::{Map, Value};

use self::{
    any_resolution::AnyResolution,
    class::{Class, Kind},
    idefics3::Idefics3,
    keys::{Keys, Size},
    levels::Levels,
    phi3_v::Phi3V,
    plain::Plain,
    qwen2_vl::Qwen2Vl,
    view::View,
};
use crate::{
    bundle::{Bundle, read_optional_json},
    error::{Error, Result},
    image::Image,
    prepared::Prepared,
    resample::Filter,
};

/// A parsed image processor.
#[derive(Debug, Clone)]
pub(crate) struct Processor {
    steps: Steps,
    way: Way,
}

/// How views are made of images.
#[derive(Debug, Clone)]
enum Way {
    Plain(Plain),
    Idefics3(Idefics3),
    Qwen2Vl(Qwen2Vl),
    AnyResolution(AnyResolution),
    Phi3V(Phi3V),
}

/// The steps nearly all processors have, in this order: resize, centre crop, rescale, normalise.
#[derive(Debug, Clone)]
struct Steps {
    resize: bool,
    /// What `size` says, where the class reads it as one.
    size: Option<Size>,
    filter: Filter,
    center_crop: Option<(u32, u32)>,
    rescale: Option<f64>,
    normalize: Option<(Vec<f64>, Vec<f64>)>,
}

/// Keys with a meaning here; every other `do_…` that is switched on is refused, the rest describes or is not used.
const KEYS: [&str; 31] = [
    "image_processor_type",
    "do_resize",
    "size",
    "resample",
    "do_center_crop",
    "crop_size",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
    "do_convert_rgb",
    "do_pad",
    "pad_size",
    "crop_pct",
    "do_thumbnail",
    "do_align_long_axis",
    "image_grid_pinpoints",
    "do_image_splitting",
    "max_image_size",
    "do_pan_and_scan",
    "pan_and_scan_min_crop_size",
    "pan_and_scan_max_num_crops",
    "pan_and_scan_min_ratio_to_activate",
    "min_pixels",
    "max_pixels",
    "patch_size",
    "temporal_patch_size",
    "merge_size",
    "num_crops",
    "do_reduce_labels",
];

/// The image processor's keys as the folder states them: `image_processor` inside `processor_config.json` (since
/// transformers 5), else `preprocessor_config.json`, else onnxruntime-genai's pipeline. The name of its class is taken
/// from where Transformers takes it: the keys, `config.json`, the model's type.
///
/// # Errors
/// [`Error::Bundle`] when no file states them or one is malformed.
pub(crate) fn read_keys(bundle: &Bundle) -> Result<Map<String, Value>> {
    let path = bundle.folder.join("processor_config.json");
    let stated = read_optional_json(&path)?;
    let mut keys = match stated.as_ref().and_then(|stated| stated.get("image_processor")) {
        Some(Value::Object(nested)) => nested.clone(),
        Some(_) => return Err(Error::bundle(path, "`image_processor` is not a JSON object")),
        None => match read_optional_json(&bundle.folder.join("preprocessor_config.json"))? {
            Some(Value::Object(keys)) => keys,
            _ => match stated.as_ref().and_then(|stated| stated["processor"]["transforms"].as_array()) {
                Some(transforms) => pipeline::keys(&path, transforms)?,
                None if stated.is_some() => {
                    return Err(Error::bundle(
                        path,
                        "it has neither `image_processor` nor `processor.transforms`; add the model's \
                         preprocessor_config.json",
                    ));
                }
                None => {
                    return Err(Error::bundle(
                        &bundle.folder,
                        "preprocessor_config.json is missing; copy it from the model's source",
                    ));
                }
            },
        },
    };
    // Some exports hold the pipeline under the name of the other file.
    if let Some(transforms) = keys.get("processor").and_then(|processor| processor["transforms"].as_array()) {
        keys = pipeline::keys(&bundle.folder.join("preprocessor_config.json"), transforms)?;
    }
    if !["image_processor_type", "feature_extractor_type"]
        .iter()
        .any(|key| keys.get(*key).is_some_and(Value::is_string))
        && let Some(config) = read_optional_json(&bundle.folder.join("config.json"))?
    {
        let class = config["image_processor_type"].as_str().or_else(|| {
            let types = [&config["model_type"], &config["encoder"]["model_type"]];
            types.iter().filter_map(|name| name.as_str()).find_map(class::of_model)
        });
        if let Some(class) = class {
            keys.insert("image_processor_type".to_owned(), class.into());
        }
    }
    Ok(keys)
}

impl Processor {
    /// Combines the values of the class, the folder's keys and those of a request; the later win.
    ///
    /// # Errors
    /// [`Error::Request`] for an unknown key or a wrong value, [`Error::Unsupported`] for a class or a step this engine
    /// lacks.
    pub(crate) fn new(folder: &Map<String, Value>, overrides: &Value) -> Result<Self> {
        let nothing = Map::new();
        let overrides = match overrides {
            Value::Null => &nothing,
            Value::Object(map) => map,
            _ => return Err(Error::Request("processor options must be a JSON object".to_owned())),
        };
        if let Some(key) = overrides.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let known = KEYS.join(", ");
            return Err(Error::Request(format!("processor option `{key}` is unknown; known: {known}")));
        }
        let (class, keys) = combined(folder, overrides)?;
        for (key, value) in &keys {
            if key.starts_with("do_") && value == &Value::Bool(true) && !KEYS.contains(&key.as_str()) {
                return Err(Error::unsupported(
                    format!("image processor step `{key}`"),
                    "do_resize, do_center_crop, do_pad, do_rescale, do_normalize and the steps of a known class",
                    "choose a model without it, or set it to false if the model does not need it",
                ));
            }
        }
        let keys = Keys(&keys);
        let steps = Steps::new(&keys, &class)?;
        let way = match class.kind {
            Kind::Plain => Way::Plain(Plain::standard(&keys)?),
            Kind::Levit => Way::Plain(Plain::Levit),
            Kind::ConvNext => Way::Plain(Plain::conv_next(&keys)?),
            Kind::Donut => Way::Plain(Plain::donut(&keys)?),
            Kind::Llava => Way::Plain(Plain::llava(&keys)?),
            Kind::Gemma3 => Way::Plain(Plain::gemma3(&keys)?),
            Kind::LlavaNext => Way::AnyResolution(AnyResolution::new(&keys, &steps, false)?),
            Kind::LlavaOneVision => Way::AnyResolution(AnyResolution::new(&keys, &steps, true)?),
            Kind::Idefics3 => Way::Idefics3(Idefics3::new(&keys)?),
            Kind::Qwen2Vl => Way::Qwen2Vl(Qwen2Vl::new(&keys)?),
            Kind::Phi3V => Way::Phi3V(Phi3V::new(&keys)?),
        };
        Ok(Self { steps, way })
    }

    /// Prepares the images of a request for a graph that takes `channels` channels: 3, or 1 for greyscale (the last
    /// dimension but two of `pixel_values`; 3 where `pixel_values` are patches).
    ///
    /// # Errors
    /// [`Error::Request`] without an image, for one that is not what [`Image::new`] takes, and for shapes that the
    /// processor cannot bring into its own.
    pub(crate) fn prepare(&self, images: &[Image], channels: usize) -> Result<Prepared> {
        if images.is_empty() {
            return Err(Error::Request("0 images; this model reads at least one".to_owned()));
        }
        match &self.way {
            Way::Plain(way) => way.prepare(&self.steps, images, channels),
            Way::AnyResolution(way) => way.prepare(&self.steps, images, channels),
            Way::Idefics3(way) => way.prepare(&self.steps, images, channels),
            Way::Qwen2Vl(way) => way.prepare(&self.steps, images, channels),
            Way::Phi3V(way) => way.prepare(&self.steps, images, channels),
        }
    }
}

/// What an image processor makes of images, as a model's vision graph gets it: shape and values of `pixel_values`. `keys`
/// are those of a `preprocessor_config.json`.
///
/// # Errors
/// [`Error::Request`] for wrong keys and images, [`Error::Unsupported`] for a class this engine lacks.
pub fn preprocess(keys: &Value, images: &[Image]) -> Result<(Vec<usize>, Vec<f32>)> {
    let Value::Object(keys) = keys else {
        return Err(Error::Request("an image processor's keys must be a JSON object".to_owned()));
    };
    let prepared = Processor::new(keys, &Value::Null)?.prepare(images, 3)?;
    Ok((prepared.pixel_values.shape, prepared.pixel_values.values))
}

/// The class and all its keys. A key whose value is `null` is one that is not there.
fn combined(folder: &Map<String, Value>, overrides: &Map<String, Value>) -> Result<(Class, Map<String, Value>)> {
    let name = |keys: &Map<String, Value>, key: &str| keys.get(key).and_then(Value::as_str).map(str::to_owned);
    let name = name(overrides, "image_processor_type")
        .or_else(|| name(folder, "image_processor_type"))
        .or_else(|| name(folder, "feature_extractor_type"));
    let class = class::class(name.as_deref())?;
    let mut keys = class.defaults.clone();
    let mut merge = |map: &Map<String, Value>| {
        let mut map = map.clone();
        // Donut counts columns first.
        if class.kind == Kind::Donut
            && let Some(Value::Array(size)) = map.get_mut("size")
        {
            size.reverse();
        }
        if class.kind == Kind::Qwen2Vl && map.get("size").is_none_or(Value::is_null) {
            map.insert("size".to_owned(), keys.get("size").cloned().unwrap_or_default());
        }
        qwen2_vl::fold_pixels(&mut map);
        keys.extend(map.into_iter().filter(|(_, value)| !value.is_null()));
    };
    if class.kind == Kind::Gemma3 {
        // Gemma3Processor's own values of these take the place of the folder's; only a request changes them.
        let is_own = |key: &str| key == "do_pan_and_scan" || key.starts_with("pan_and_scan");
        merge(
            &folder.iter().filter(|(key, _)| !is_own(key)).map(|(key, value)| (key.clone(), value.clone())).collect(),
        );
    } else {
        merge(folder);
    }
    merge(overrides);
    Ok((class, keys))
}

impl Steps {
    fn new(keys: &Keys<'_>, class: &Class) -> Result<Self> {
        let resize = keys.on("do_resize", true)?;
        let needs_size = resize || matches!(class.kind, Kind::LlavaNext | Kind::LlavaOneVision);
        let size = match class.kind {
            // Numbers of pixels, not sides.
            Kind::Qwen2Vl | Kind::Phi3V => None,
            _ => needs_size.then(|| keys.size("size", class.square)).transpose()?,
        };
        let knows_longest = class.kind == Kind::Idefics3;
        if !knows_longest && matches!(size, Some(Size::LongestEdge(_))) {
            return Err(keys.wrong("size", "{height, width}, {shortest_edge, longest_edge} or {max_height, max_width}"));
        }
        let center_crop = keys.on("do_center_crop", false)?.then(|| keys.exact("crop_size")).transpose()?;
        let rescale = keys.on("do_rescale", true)?.then(|| keys.number("rescale_factor", 1.0 / 255.0)).transpose()?;
        let normalize = keys.on("do_normalize", true)?;
        let values = || Ok((keys.channel_values("image_mean")?, keys.channel_values("image_std")?));
        Ok(Self {
            resize,
            size,
            filter: keys.filter()?,
            center_crop,
            rescale,
            normalize: normalize.then(values).transpose()?,
        })
    }

    fn levels(&self, channels: usize) -> Result<Levels> {
        Levels::new(self.rescale, self.normalize.as_ref(), channels)
    }

    fn resize(&self, view: &View) -> Result<View> {
        match self.size {
            Some(size) if self.resize => {
                let (width, height) = target(size, view)?;
                view.resize(width, height, self.filter)
            }
            _ => Ok(view.clone()),
        }
    }

    fn crop(&self, view: View) -> View {
        match self.center_crop {
            Some((height, width)) => view.center_crop(height, width),
            None => view,
        }
    }

    /// Resized and cropped.
    fn view(&self, view: &View) -> Result<View> {
        Ok(self.crop(self.resize(view)?))
    }
}

/// Width and height a view is resized to.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the reference cuts; casts saturate")]
fn target(size: Size, view: &View) -> Result<(u64, u64)> {
    let (width, height) = (f64::from(view.width()), f64::from(view.height()));
    let (short, long) = (width.min(height), width.max(height));
    let place = |short: f64, long: f64| {
        let (short, long) = (short as u64, long as u64);
        if width <= height { (short, long) } else { (long, short) }
    };
    Ok(match size {
        Size::Exact { height, width } => (width.into(), height.into()),
        Size::ShortestEdge { shortest, longest: None } => {
            let shortest = f64::from(shortest);
            place(shortest, shortest * long / short)
        }
        Size::ShortestEdge { shortest, longest: Some(longest) } => {
            let (shortest, longest) = (f64::from(shortest), f64::from(longest));
            if long / short * shortest > longest {
                // Rounded for the shorter edge, not for the longer.
                let exact = longest * short / long;
                let rounded = exact.round_ties_even();
                if short == rounded { place(short, long) } else { place(rounded, exact * long / short) }
            } else if short == shortest {
                place(short, long)
            } else {
                place(shortest, shortest * long / short)
            }
        }
        Size::Within { height: most_height, width: most_width } => {
            let scale = (f64::from(most_height) / height).min(f64::from(most_width) / width);
            ((width * scale) as u64, (height * scale) as u64)
        }
        Size::LongestEdge(_) => {
            return Err(Error::Request("image processor key `size`: {longest_edge} needs {shortest_edge}".to_owned()));
        }
    })
}

#[cfg(test)]
mod tests;
