//! Image preprocessing from the keys of a Hugging Face image processor: resize, centre crop, rescale, normalise, in
//! that order, each on or off as the model's own configuration says.

use serde_json::{Map, Value};

use crate::{
    answer::Placement,
    bundle::{Bundle, read_optional_json},
    error::{Error, Result},
    image::Image,
    resample::{Filter, resize},
};

/// Pixels ready for a vision graph: [batch, channels, height, width], row-major.
pub(crate) struct Pixels {
    pub(crate) shape: [usize; 4],
    pub(crate) values: Vec<f32>,
    /// Where each image of the request lies in them.
    pub(crate) placements: Vec<Placement>,
}

/// Target of a resize, in the forms image processors use.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Size {
    Exact { height: u32, width: u32 },
    ShortestEdge { shortest: u32, longest: Option<u32> },
    LongestEdge(u32),
}

/// A parsed image processor.
#[derive(Debug, Clone)]
pub(crate) struct Processor {
    resize: Option<(Size, Filter)>,
    center_crop: Option<(u32, u32)>,
    rescale: Option<f64>,
    normalize: Option<(Vec<f32>, Vec<f32>)>,
}

/// Keys with a meaning here; every other `do_…` that is switched on is refused, the rest describes or is not used.
const KEYS: [&str; 11] = [
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
];

/// The image processor's keys as the folder states them: `preprocessor_config.json` or, since transformers 5, the
/// `image_processor` inside `processor_config.json`.
pub(crate) fn read_keys(bundle: &Bundle) -> Result<Map<String, Value>> {
    if let Some(Value::Object(keys)) = read_optional_json(&bundle.folder.join("preprocessor_config.json"))? {
        return Ok(keys);
    }
    let path = bundle.folder.join("processor_config.json");
    match read_optional_json(&path)? {
        Some(Value::Object(mut keys)) => match keys.remove("image_processor") {
            Some(Value::Object(nested)) => Ok(nested),
            _ => Err(Error::bundle(path, "it has no `image_processor`; add the model's preprocessor_config.json")),
        },
        _ => Err(Error::bundle(&bundle.folder, "preprocessor_config.json is missing; copy it from the model's source")),
    }
}

impl Processor {
    /// Combines the folder's keys with those of a request, which win.
    ///
    /// # Errors
    /// [`Error::Request`] for an unknown key or a wrong value, [`Error::Unsupported`] for a step this engine lacks.
    pub(crate) fn new(folder: &Map<String, Value>, overrides: &Value) -> Result<Self> {
        let mut keys = folder.clone();
        match overrides {
            Value::Null => {}
            Value::Object(map) => {
                for (key, value) in map {
                    if !KEYS.contains(&key.as_str()) {
                        return Err(Error::Request(format!(
                            "processor option `{key}` is unknown; known: {}",
                            KEYS.join(", ")
                        )));
                    }
                    keys.insert(key.clone(), value.clone());
                }
            }
            _ => return Err(Error::Request("processor options must be a JSON object".to_owned())),
        }
        for (key, value) in &keys {
            if key.starts_with("do_") && value == &Value::Bool(true) && !KEYS.contains(&key.as_str()) {
                return Err(Error::unsupported(
                    format!("image processor step `{key}`"),
                    "do_resize, do_center_crop, do_rescale, do_normalize",
                    "choose a model without it, or set it to false if the model does not need it",
                ));
            }
        }
        let keys = Keys(&keys);
        let resize = keys.on("do_resize", true)?.then(|| keys.resize()).transpose()?;
        let center_crop = keys.on("do_center_crop", false)?.then(|| keys.crop()).transpose()?;
        let rescale = keys.on("do_rescale", true)?.then(|| keys.number("rescale_factor", 1.0 / 255.0)).transpose()?;
        let normalize = keys.on("do_normalize", true)?.then(|| keys.normalization()).transpose()?;
        Ok(Self { resize, center_crop, rescale, normalize })
    }

    /// Prepares one image for a graph that takes `channels` channels (3, or 1 for greyscale).
    pub(crate) fn apply(&self, image: &Image, channels: usize) -> Result<Pixels> {
        image.check()?;
        let resized = match self.resize {
            Some((size, filter)) => {
                let (width, height) = target(size, image)?;
                resize(image, width, height, filter)
            }
            None => image.clone(),
        };
        let scale = [(resized.width, image.width), (resized.height, image.height)]
            .map(|(to, from)| f64::from(to) / f64::from(from));
        let (cropped, offset) = match self.center_crop {
            Some((height, width)) => {
                #[expect(clippy::cast_precision_loss, reason = "a number of pixels")]
                let offset = [(resized.width, width), (resized.height, height)].map(|(of, to)| -(margin(of, to) as f64));
                (center_crop(&resized, height, width), offset)
            }
            None => (resized, [0.0; 2]),
        };
        let placement = Placement { image: 0, scale, offset, width: cropped.width, height: cropped.height };
        let (width, height) = (cropped.width as usize, cropped.height as usize);
        let mut values = Vec::with_capacity(channels * width * height);
        for channel in 0..channels {
            let table = self.table(channel, channels)?;
            let pixels = cropped.rgb.chunks_exact(3);
            match channels {
                3 => values.extend(pixels.map(|pixel| table[usize::from(pixel[channel])])),
                1 => values.extend(pixels.map(|pixel| table[usize::from(luminance(pixel))])),
                _ => {
                    return Err(Error::unsupported(
                        format!("a vision graph that takes {channels} channels"),
                        "3 (RGB) or 1 (greyscale)",
                        "choose another model",
                    ));
                }
            }
        }
        Ok(Pixels { shape: [1, channels, height, width], values, placements: vec![placement] })
    }

    /// What each of the 256 grey levels of a channel becomes.
    #[expect(clippy::cast_possible_truncation, reason = "the reference computes in single precision")]
    fn table(&self, channel: usize, channels: usize) -> Result<Vec<f32>> {
        let rescaled = (0..=u8::MAX).map(|level| match self.rescale {
            Some(factor) => (f64::from(level) * factor) as f32,
            None => f32::from(level),
        });
        let Some((mean, std)) = &self.normalize else { return Ok(rescaled.collect()) };
        let pick = |values: &[f32], key: &str| {
            let value = if values.len() == 1 { values.first() } else { values.get(channel) };
            value
                .copied()
                .filter(|_| values.len() == 1 || values.len() == channels)
                .ok_or_else(|| Error::Request(format!("{key} has {} values for {channels} channels", values.len())))
        };
        let (mean, std) = (pick(mean, "image_mean")?, pick(std, "image_std")?);
        Ok(rescaled.map(|value| (value - mean) / std).collect())
    }
}

/// Typed access to the keys; messages name the key and what it should hold.
struct Keys<'a>(&'a Map<String, Value>);

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&self, key: &str, expected: &str) -> Error {
        let found = self.get(key).map_or_else(|| "nothing".to_owned(), Value::to_string);
        Error::Request(format!("image processor key `{key}` is {found}; expected {expected}"))
    }

    fn on(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, "true or false")),
        }
    }

    fn number(&self, key: &str, default: f64) -> Result<f64> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| self.wrong(key, "a number")),
        }
    }

    /// Whether the processor's class reads a bare number as the shorter edge, keeping the aspect ratio.
    fn keeps_aspect(&self) -> bool {
        let class = self.get("image_processor_type").or_else(|| self.get("feature_extractor_type"));
        let class = class.and_then(Value::as_str).unwrap_or_default();
        ["CLIP", "ConvNext", "Levit", "EfficientFormer", "Perceiver"].iter().any(|prefix| class.starts_with(prefix))
    }

    fn resize(&self) -> Result<(Size, Filter)> {
        let size = self.size("size", !self.keeps_aspect())?;
        let code = match self.get("resample") {
            Some(value) => value.as_u64().ok_or_else(|| self.wrong("resample", "a Pillow filter code, 0 to 5"))?,
            None => 2,
        };
        Ok((size, Filter::from_code(code)?))
    }

    fn crop(&self) -> Result<(u32, u32)> {
        match self.size("crop_size", true)? {
            Size::Exact { height, width } => Ok((height, width)),
            _ => Err(self.wrong("crop_size", "a number or {height, width}")),
        }
    }

    fn size(&self, key: &str, square: bool) -> Result<Size> {
        let expected = "a number, [width, height], {height, width}, {shortest_edge, longest_edge} or {longest_edge}";
        let edge = |value: &Value| {
            let edge =
                value.as_u64().and_then(|edge| u32::try_from(edge).ok()).filter(|edge| (1..=16384).contains(edge));
            edge.ok_or_else(|| self.wrong(key, &format!("{expected}, each from 1 to 16384 pixels")))
        };
        match self.get(key) {
            Some(Value::Number(number)) => {
                let edge = edge(&Value::Number(number.clone()))?;
                Ok(match square {
                    true => Size::Exact { height: edge, width: edge },
                    false => Size::ShortestEdge { shortest: edge, longest: None },
                })
            }
            Some(Value::Array(pair)) if pair.len() == 2 => {
                Ok(Size::Exact { width: edge(&pair[0])?, height: edge(&pair[1])? })
            }
            Some(Value::Object(map)) => {
                let part = |name: &str| map.get(name).filter(|value| !value.is_null()).map(edge).transpose();
                match (part("height")?, part("width")?, part("shortest_edge")?, part("longest_edge")?) {
                    (Some(height), Some(width), None, None) => Ok(Size::Exact { height, width }),
                    (None, None, Some(shortest), longest) => Ok(Size::ShortestEdge { shortest, longest }),
                    (None, None, None, Some(longest)) => Ok(Size::LongestEdge(longest)),
                    _ => Err(self.wrong(key, expected)),
                }
            }
            _ => Err(self.wrong(key, expected)),
        }
    }

    fn normalization(&self) -> Result<(Vec<f32>, Vec<f32>)> {
        Ok((self.channel_values("image_mean")?, self.channel_values("image_std")?))
    }

    #[expect(clippy::cast_possible_truncation, reason = "the reference computes in single precision")]
    fn channel_values(&self, key: &str) -> Result<Vec<f32>> {
        let values = match self.get(key) {
            Some(Value::Array(values)) => values.iter().map(Value::as_f64).collect(),
            Some(value) => value.as_f64().map(|value| vec![value]),
            None => None,
        };
        let values: Option<Vec<f32>> =
            values.map(|values: Vec<f64>| values.iter().map(|value| *value as f32).collect());
        let valid =
            values.filter(|values| !values.is_empty() && (key != "image_std" || values.iter().all(|v| *v != 0.0)));
        valid.ok_or_else(|| self.wrong(key, "one number per channel (no zero in image_std)"))
    }
}

/// Width and height an image is resized to.
#[expect(clippy::cast_possible_truncation, reason = "bounded by 16384 times an aspect ratio, checked")]
fn target(size: Size, image: &Image) -> Result<(u32, u32)> {
    let (width, height) = (u64::from(image.width), u64::from(image.height));
    let (short, long) = (width.min(height), width.max(height));
    let (new_short, new_long) = match size {
        Size::Exact { height, width } => return Ok((width, height)),
        Size::ShortestEdge { shortest, longest } => {
            let (shortest, scaled) = (u64::from(shortest), u64::from(shortest) * long / short);
            match longest.map(u64::from) {
                Some(longest) if scaled > longest => (longest * shortest / scaled, longest),
                _ => (shortest, scaled),
            }
        }
        Size::LongestEdge(longest) => (u64::from(longest) * short / long, u64::from(longest)),
    };
    let (width, height) = if width <= height { (new_short, new_long) } else { (new_long, new_short) };
    if width == 0 || height == 0 || width.max(height) > 65535 {
        return Err(Error::Request(format!(
            "image: {} x {} pixels would be resized to {width} x {height}; crop it to a usual shape first",
            image.width, image.height
        )));
    }
    Ok((width as u32, height as u32))
}

/// What a crop from the middle cuts off at the beginning; less than 0 where it adds.
fn margin(of: u32, to: u32) -> i64 {
    (i64::from(of) - i64::from(to)).div_euclid(2)
}

/// Cuts the middle out; what lies outside the image is black.
fn center_crop(image: &Image, height: u32, width: u32) -> Image {
    let (top, left) = (margin(image.height, height), margin(image.width, width));
    let mut rgb = Vec::with_capacity(height as usize * width as usize * 3);
    for y in 0..i64::from(height) {
        for x in 0..i64::from(width) {
            let inside = |position: i64, limit: u32| usize::try_from(position).ok().filter(|p| *p < limit as usize);
            match (inside(y + top, image.height), inside(x + left, image.width)) {
                (Some(y), Some(x)) => {
                    let at = (y * image.width as usize + x) * 3;
                    rgb.extend_from_slice(&image.rgb[at..at + 3]);
                }
                _ => rgb.extend_from_slice(&[0; 3]),
            }
        }
    }
    Image { width, height, rgb }
}

/// Pillow's `convert("L")`.
#[expect(clippy::cast_possible_truncation, reason = "the weights sum to 65536")]
fn luminance(pixel: &[u8]) -> u8 {
    let weighted = u32::from(pixel[0]) * 19595 + u32::from(pixel[1]) * 38470 + u32::from(pixel[2]) * 7471;
    ((weighted + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn processor(keys: Value) -> Result<Processor> {
        let Value::Object(keys) = keys else { panic!("an object") };
        Processor::new(&keys, &Value::Null)
    }

    /// A `width` x `height` image whose pixels count up from 0.
    fn counting(width: u32, height: u32) -> Image {
        let levels = (0..width * height).map(|level| level.to_le_bytes()[0]);
        Image { width, height, rgb: levels.flat_map(|level| [level; 3]).collect() }
    }

    #[test]
    fn every_form_of_size() {
        let check = |keys: Value, width: u32, height: u32, expected: [usize; 2]| {
            let mut all = json!({"do_normalize": false});
            let merged = all.as_object_mut().expect("an object");
            merged.extend(keys.as_object().expect("an object").clone());
            let pixels = processor(all).expect("valid").apply(&counting(width, height), 3).expect("prepared");
            assert_eq!(pixels.shape, [1, 3, expected[0], expected[1]], "{keys}");
        };
        check(json!({"size": 8}), 20, 10, [8, 8]);
        check(json!({"size": 8, "image_processor_type": "CLIPImageProcessor"}), 20, 10, [8, 16]);
        check(json!({"size": [6, 4]}), 20, 10, [4, 6]);
        check(json!({"size": {"height": 4, "width": 6}}), 20, 10, [4, 6]);
        check(json!({"size": {"shortest_edge": 4}}), 10, 21, [8, 4]);
        check(json!({"size": {"shortest_edge": 4, "longest_edge": 6}}), 10, 20, [6, 3]);
        check(json!({"size": {"longest_edge": 6}}), 20, 10, [3, 6]);
        check(json!({"do_resize": false}), 20, 10, [10, 20]);
        check(json!({"size": {"shortest_edge": 4}, "do_center_crop": true, "crop_size": 4}), 20, 10, [4, 4]);
    }

    #[test]
    fn crops_around_the_middle_and_pads_with_black() {
        let check = |height: u32, width: u32, expected: &[u8]| {
            let cropped = center_crop(&counting(4, 2), height, width);
            let levels: Vec<u8> = cropped.rgb.chunks_exact(3).map(|pixel| pixel[0]).collect();
            assert_eq!(levels, expected);
        };
        check(1, 2, &[1, 2]);
        check(2, 4, &[0, 1, 2, 3, 4, 5, 6, 7]);
        check(4, 2, &[0, 0, 1, 2, 5, 6, 0, 0]);
        check(1, 7, &[0, 0, 0, 1, 2, 3, 0]);
    }

    #[test]
    fn says_where_the_image_went() {
        let check = |keys: Value, scale: [f64; 2], offset: [f64; 2], size: (u32, u32)| {
            let mut all = json!({"do_normalize": false});
            all.as_object_mut().expect("an object").extend(keys.as_object().expect("an object").clone());
            let pixels = processor(all).expect("valid").apply(&counting(20, 10), 3).expect("prepared");
            let [placement] = &pixels.placements[..] else { panic!("one image") };
            let Placement { image: 0, width, height, .. } = *placement else { panic!("the only image") };
            assert_eq!((placement.scale, placement.offset, (width, height)), (scale, offset, size), "{keys}");
        };
        check(json!({"do_resize": false}), [1.0, 1.0], [0.0, 0.0], (20, 10));
        check(json!({"size": 8}), [0.4, 0.8], [0.0, 0.0], (8, 8));
        let crop = |size: u32| json!({"size": {"shortest_edge": 5}, "do_center_crop": true, "crop_size": size});
        check(crop(5), [0.5, 0.5], [-2.0, 0.0], (5, 5));
        // The crop goes beyond the image: black above and below.
        check(crop(8), [0.5, 0.5], [-1.0, 2.0], (8, 8));
    }

    #[test]
    fn rescales_then_normalises_each_channel() {
        let image = Image { width: 1, height: 1, rgb: vec![255, 0, 51] };
        let values = |keys: Value, channels: usize| {
            processor(keys).expect("valid").apply(&image, channels).expect("prepared").values
        };
        let normalise = json!({"do_resize": false, "image_mean": [0.5, 0.0, 0.1], "image_std": [0.5, 1.0, 0.1]});
        assert_eq!(values(normalise, 3), [1.0, 0.0, 1.0]);
        assert_eq!(
            values(json!({"do_resize": false, "do_rescale": false, "do_normalize": false}), 3),
            [255.0, 0.0, 51.0]
        );
        assert_eq!(values(json!({"do_resize": false, "do_rescale": false, "do_normalize": false}), 1), [82.0]);
    }

    #[test]
    fn says_which_key_is_wrong() {
        let check = |keys: Value, part: &str| {
            let error = processor(keys).expect_err(part).to_string();
            assert!(error.contains(part), "{part:?} not in {error:?}");
        };
        let sized = |key: &str, value: Value| json!({"size": 8, "image_mean": 0.5, "image_std": 0.5, key: value});
        check(json!({"do_resize": true}), "`size` is nothing");
        check(sized("do_resize", json!("yes")), "`do_resize` is \"yes\"; expected true or false");
        check(sized("size", json!({"height": 3})), "shortest_edge");
        check(sized("size", json!(100_000)), "16384");
        check(sized("resample", json!(9)), "resample 9");
        check(sized("image_std", json!([0.5, 0.0, 0.5])), "`image_std`");
        check(sized("image_mean", Value::Null), "`image_mean` is nothing");
        check(sized("do_pad", json!(true)), "image processor step `do_pad`");
        let error = processor(json!({"size": 8, "image_mean": [0.5, 0.5], "image_std": 0.5})).expect("parses");
        assert!(error.apply(&counting(1, 1), 3).is_err());
    }

    #[test]
    fn extreme_shapes_are_refused_not_allocated() {
        let keys = json!({"size": {"shortest_edge": 16384}, "do_normalize": false});
        let error = processor(keys).expect("valid").apply(&counting(1000, 1), 3).map(|_| ()).expect_err("too wide");
        assert!(error.to_string().contains("1000 x 1 pixels would be resized"), "{error}");
    }
}
