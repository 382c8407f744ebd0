//! Against Transformers, and what is refused.

use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::*;
use crate::{answer::Placement, prepared::Arrangement};

fn processor(keys: Value) -> Result<Processor> {
    let Value::Object(keys) = keys else { panic!("an object") };
    Processor::new(&keys, &Value::Null)
}

/// A `width` x `height` image whose pixels count up from 0.
fn counting(width: u32, height: u32) -> Image {
    let levels = (0..width * height).map(|level| level.to_le_bytes()[0]);
    Image { width, height, rgb: levels.flat_map(|level| [level; 3]).collect() }
}

/// The noise of `tests/data/processors.py`.
fn noise(width: u32, height: u32, seed: u32, grey: bool) -> Image {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12345) & 0x7fff_ffff;
        state.to_le_bytes()[2]
    };
    let mut rgb: Vec<u8> = (0..width * height * 3).map(|_| next()).collect();
    if grey {
        rgb.chunks_exact_mut(3).for_each(|pixel| (pixel[1], pixel[2]) = (pixel[0], pixel[0]));
    }
    Image { width, height, rgb }
}

fn images(case: &Value) -> Vec<Image> {
    let number = |value: &Value| u32::try_from(value.as_u64().expect("a number")).expect("small");
    let one = |image: &Value| noise(number(&image[0]), number(&image[1]), number(&image[2]), image[3] == json!(true));
    case["images"].as_array().expect("a list").iter().map(one).collect()
}

/// What one case came to, in the words of `tests/data/processors.json`.
fn compare(case: &Value) {
    let what = format!("{} {} {} {}", case["class"], case["keys"], case["options"], case["images"]);
    let mut keys = case["keys"].as_object().expect("an object").clone();
    let class = format!("{}ImageProcessorFast", case["class"].as_str().expect("a name"));
    keys.insert("image_processor_type".to_owned(), class.into());
    let expected = &case["expected"];
    let prepared = Processor::new(&keys, &case["options"]).and_then(|processor| processor.prepare(&images(case), 3));
    if !expected["error"].is_null() {
        assert!(prepared.is_err(), "{what}: Python refuses with {}", expected["error"]);
        return;
    }
    let prepared = prepared.unwrap_or_else(|error| panic!("{what}: {error}"));
    let values = &prepared.pixel_values.values;
    assert_eq!(json!(prepared.pixel_values.shape), expected["shape"], "{what}");
    let stride = (values.len() / 16).max(1);
    for (index, expected) in expected["values"].as_array().expect("values").iter().enumerate() {
        let (found, expected) = (f64::from(values[index * stride]), expected.as_f64().expect("a number"));
        assert!((found - expected).abs() <= 2e-6, "{what}: value {} is {found}, not {expected}", index * stride);
    }
    let sum: f64 = values.iter().map(|value| f64::from(*value)).sum();
    let expected_sum = expected["sum"].as_f64().expect("a number");
    assert!((sum - expected_sum).abs() <= 1e-6 * values.len() as f64, "{what}: sum {sum}, not {expected_sum}");
    // The whole of Phi-3-vision's image is interpolated in floating point, where the order of sums shows.
    if case["class"] != json!("Phi3V") {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(json!(digest), expected["sha256"], "{what}");
    }
    let found = |key: &str| match key {
        "image_grid_thw" => json!(prepared.image_grid_thw),
        "image_sizes" => json!(prepared.image_sizes),
        _ => arrangements(&prepared.images, key),
    };
    for key in ["image_grid_thw", "image_sizes", "num_crops", "rows", "cols"] {
        if !expected[key].is_null() {
            assert_eq!(found(key), expected[key], "{what}: {key}");
        }
    }
    if let Some([shape, ones]) = expected["mask"].as_array().map(Vec::as_slice) {
        let mask = prepared.pixel_attention_mask.as_ref().expect(&what);
        let set = mask.values.iter().filter(|shown| **shown).count();
        assert_eq!((json!(mask.shape), json!(set)), (shape.clone(), ones.clone()), "{what}: mask");
    }
}

/// How images were arranged, as the reference says it.
fn arrangements(images: &[Arrangement], key: &str) -> Value {
    let number = |arrangement: &Arrangement| match (arrangement, key) {
        (Arrangement::Tiles { rows, .. }, "rows") => *rows,
        (Arrangement::Tiles { columns, .. }, "cols") => *columns,
        (Arrangement::Crops { count }, "num_crops") => *count,
        (Arrangement::Whole, _) => 0,
        _ => panic!("{arrangement:?} has no {key}"),
    };
    let numbers: Vec<usize> = images.iter().map(number).collect();
    if key == "num_crops" { json!(numbers) } else { json!([numbers]) }
}

#[test]
fn every_class_does_what_transformers_does() {
    let cases: Value = serde_json::from_str(include_str!("../../tests/data/processors.json")).expect("valid JSON");
    cases.as_array().expect("cases").iter().for_each(compare);
}

#[test]
fn the_reference_models_see_the_same_pixels() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vlm");
    if !root.exists() {
        println!("skipped: {} is not here", root.display());
        return;
    }
    let read = |path: &Path| -> Option<Value> { serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok() };
    let mut count = 0;
    for family in std::fs::read_dir(&root).expect("readable") {
        let folder = family.expect("readable").path();
        let (Some(expected), Some(keys)) =
            (read(&folder.join("expected.json")), read(&folder.join("preprocessor_config.json")))
        else {
            continue;
        };
        let keys = keys.as_object().expect("an object");
        for case in expected["cases"].as_array().expect("cases") {
            let expected = &case["pixel_values"];
            let Some(file) = case["image"].as_str().filter(|_| !expected.is_null()) else { continue };
            let what = format!("{} {file}", folder.display());
            let image = Image::decode(&std::fs::read(folder.join(file)).expect("readable")).expect("an image");
            let mut options = json!({});
            if !case["do_image_splitting"].is_null() {
                options["do_image_splitting"] = case["do_image_splitting"].clone();
            }
            let prepared = Processor::new(keys, &options).and_then(|processor| processor.prepare(&[image], 3));
            let pixels = prepared.expect(&what).pixel_values;
            assert_eq!(json!(pixels.shape), expected["shape"], "{what}");
            let strided = expected["strided"].as_array().or(expected["first"].as_array()).expect("values");
            let stride = if expected["strided"].is_null() { 1 } else { (pixels.values.len() / strided.len()).max(1) };
            for (index, expected) in strided.iter().enumerate() {
                let (found, expected) = (f64::from(pixels.values[index * stride]), expected.as_f64().expect("value"));
                assert!((found - expected).abs() <= 1e-5, "{what}: value {index} is {found}, not {expected}");
            }
            let sum: f64 = pixels.values.iter().map(|value| f64::from(*value)).sum();
            let expected_sum = expected["sum"].as_f64().expect("a number");
            assert!((sum - expected_sum).abs() <= 1e-6 * pixels.values.len() as f64, "{what}: {sum} {expected_sum}");
            count += 1;
        }
    }
    assert!(count > 0, "the reference has cases with pixels");
}

#[test]
fn every_form_of_size() {
    let check = |keys: Value, width: u32, height: u32, expected: [usize; 2]| {
        let mut all = json!({"do_normalize": false});
        let merged = all.as_object_mut().expect("an object");
        merged.extend(keys.as_object().expect("an object").clone());
        let prepared = processor(all).expect("valid").prepare(&[counting(width, height)], 3).expect("prepared");
        assert_eq!(prepared.pixel_values.shape, [1, 3, expected[0], expected[1]], "{keys}");
    };
    check(json!({"size": 8}), 20, 10, [8, 8]);
    check(json!({"size": 8, "do_center_crop": false, "image_processor_type": "CLIPImageProcessor"}), 20, 10, [8, 16]);
    check(json!({"size": [4, 6]}), 20, 10, [4, 6]);
    check(json!({"size": [6, 4], "feature_extractor_type": "DonutFeatureExtractor"}), 20, 10, [4, 6]);
    check(json!({"size": {"height": 4, "width": 6}}), 20, 10, [4, 6]);
    check(json!({"size": {"shortest_edge": 4}}), 10, 21, [8, 4]);
    check(json!({"size": {"shortest_edge": 4, "longest_edge": 6}}), 10, 20, [6, 3]);
    check(json!({"size": {"max_height": 6, "max_width": 6}}), 20, 10, [3, 6]);
    check(json!({"do_resize": false}), 20, 10, [10, 20]);
    check(json!({"size": {"shortest_edge": 4}, "do_center_crop": true, "crop_size": 4}), 20, 10, [4, 4]);
}

#[test]
fn says_where_the_image_went() {
    let check = |keys: Value, scale: [f64; 2], offset: [f64; 2], size: (u32, u32)| {
        let mut all = json!({"do_normalize": false});
        all.as_object_mut().expect("an object").extend(keys.as_object().expect("an object").clone());
        let prepared = processor(all).expect("valid").prepare(&[counting(20, 10)], 3).expect("prepared");
        let Placement { image: 0, width, height, scale: found, offset: at } = prepared.placements[0] else {
            panic!("the only image")
        };
        assert_eq!((found, at, (width, height)), (scale, offset, size), "{keys}");
    };
    check(json!({"do_resize": false}), [1.0, 1.0], [0.0, 0.0], (20, 10));
    check(json!({"size": 8}), [0.4, 0.8], [0.0, 0.0], (8, 8));
    let crop = |size: u32| json!({"size": {"shortest_edge": 5}, "do_center_crop": true, "crop_size": size});
    check(crop(5), [0.5, 0.5], [-2.0, 0.0], (5, 5));
    // The crop goes beyond the image: black above and below.
    check(crop(8), [0.5, 0.5], [-1.0, 2.0], (8, 8));
    let padded = json!({"image_processor_type": "LlavaImageProcessor", "size": 40, "crop_size": 40, "do_pad": true});
    check(padded, [2.0, 2.0], [0.0, 10.0], (40, 40));
}

#[test]
fn every_tile_says_where_the_image_lies_in_it() {
    let keys = json!({
        "image_processor_type": "SmolVLMImageProcessor", "size": {"longest_edge": 40},
        "max_image_size": {"longest_edge": 20},
    });
    let prepared = processor(keys).expect("valid").prepare(&[counting(20, 10)], 3).expect("prepared");
    assert_eq!(prepared.images, [Arrangement::Tiles { rows: 1, columns: 2 }]);
    let places: Vec<_> = prepared.placements.iter().map(|place| (place.scale, place.offset)).collect();
    assert_eq!(places, [([2.0; 2], [0.0, 0.0]), ([2.0; 2], [-20.0, 0.0]), ([1.0, 2.0], [0.0, 0.0])]);
}

#[test]
fn rescales_then_normalises_each_channel() {
    let image = Image { width: 1, height: 1, rgb: vec![255, 0, 51] };
    let values = |keys: Value, channels: usize| {
        let prepared = processor(keys).expect("valid").prepare(std::slice::from_ref(&image), channels);
        prepared.expect("prepared").pixel_values.values
    };
    let normalise = json!({"do_resize": false, "image_mean": [0.5, 0.0, 0.1], "image_std": [0.5, 1.0, 0.1]});
    assert_eq!(values(normalise, 3), [1.0, 0.0, 1.0]);
    let nothing = json!({"do_resize": false, "do_rescale": false, "do_normalize": false});
    assert_eq!(values(nothing.clone(), 3), [255.0, 0.0, 51.0]);
    assert_eq!(values(nothing, 1), [82.0]);
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
    check(sized("size", json!({"longest_edge": 3})), "max_height");
    check(sized("size", json!(100_000)), "16384");
    check(sized("resample", json!(9)), "resample 9");
    check(sized("image_std", json!([0.5, 0.0, 0.5])), "`image_std`");
    check(sized("image_mean", Value::Null), "`image_mean` is nothing");
    check(sized("do_flip_channel_order", json!(true)), "image processor step `do_flip_channel_order`");
    check(json!({"image_processor_type": "Pix2StructImageProcessor"}), "flattened patches");
    check(json!({"image_processor_type": "MllamaImageProcessor"}), "SigLIP");
    check(json!({"image_processor_type": "Qwen2VLImageProcessor", "size": {"height": 3, "width": 3}}), "longest_edge");
    let error = processor(json!({"size": 8, "image_mean": [0.5, 0.5], "image_std": 0.5})).expect("parses");
    assert!(error.prepare(&[counting(1, 1)], 3).is_err());
    assert!(error.prepare(&[], 3).is_err());
}

#[test]
fn extreme_shapes_are_refused_not_allocated() {
    let check = |keys: Value, width: u32, part: &str| {
        let error = processor(keys).expect("valid").prepare(&[counting(width, 1)], 3).map(|_| ()).expect_err(part);
        assert!(error.to_string().contains(part), "{error}");
    };
    let large = json!({"size": {"shortest_edge": 16384}, "do_normalize": false});
    check(large, 1000, "1000 x 1 pixels would be resized");
    check(json!({"image_processor_type": "Qwen2VLImageProcessor"}), 1000, "1000 times as long as wide");
    let phi = json!({"image_processor_type": "Phi3VImageProcessor", "num_crops": 4});
    check(phi, 20_000, "would be resized to 1344 x 0");
}
