//! The pipeline that onnxruntime-genai hands to onnxruntime-extensions (`processor.transforms` of
//! `processor_config.json`), as keys of the image processor that does the same.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

const SUPPORTED: &str = "DecodeImage, ConvertRGB, Resize, CenterCrop, Rescale, Normalize, Permute3D, PatchImage and \
                         Phi3ImageTransform";

/// The pipeline's operations as keys.
///
/// The size of Qwen's images follows from the image, as in Python; versions of onnxruntime-extensions that take it from
/// the `width` and `height` of the file show the model a distorted image.
///
/// # Errors
/// [`Error::Bundle`] for what is not such a pipeline, [`Error::Unsupported`] for an operation this engine lacks.
pub(super) fn keys(path: &Path, transforms: &[Value]) -> Result<Map<String, Value>> {
    let mut keys = json!({
        "do_resize": false, "do_center_crop": false, "do_rescale": false, "do_normalize": false,
    });
    let nothing = Value::Null;
    for transform in transforms {
        let operation = &transform["operation"];
        let attributes = &operation["attrs"];
        let Some(name) = operation["type"].as_str() else {
            return Err(Error::bundle(path, "an entry of `processor.transforms` has no `operation.type`"));
        };
        let or = |key: &str, default: Value| match &attributes[key] {
            Value::Null => default,
            value => value.clone(),
        };
        match name {
            "DecodeImage" | "ConvertRGB" | "Permute3D" => {}
            "Resize" => {
                keys["do_resize"] = true.into();
                keys["resample"] = resample(path, attributes["interpolation"].as_str())?.into();
                if is_on(&attributes["smart_resize"]) {
                    keys["image_processor_type"] = "Qwen2VLImageProcessor".into();
                    let (least, most) = (or("min_pixels", 3136.into()), or("max_pixels", 12_845_056.into()));
                    keys["size"] = json!({"shortest_edge": least, "longest_edge": most});
                    keys["patch_size"] = or("patch_size", 14.into());
                    keys["merge_size"] = or("merge_size", 2.into());
                } else {
                    keys["size"] = json!({"height": or("height", 256.into()), "width": or("width", 256.into())});
                }
            }
            "CenterCrop" => {
                keys["do_center_crop"] = true.into();
                keys["crop_size"] = json!({"height": or("height", 224.into()), "width": or("width", 224.into())});
            }
            "Rescale" => {
                keys["do_rescale"] = true.into();
                keys["rescale_factor"] = or("rescale_factor", or("scale", (1.0 / 255.0).into()));
            }
            "Normalize" => {
                keys["do_normalize"] = true.into();
                keys["image_mean"] = or("mean", json!([0.481_454_66, 0.457_827_5, 0.408_210_73]));
                keys["image_std"] = or("std", json!([0.268_629_54, 0.261_302_58, 0.275_777_11]));
            }
            "PatchImage" => {
                keys["image_processor_type"] = "Qwen2VLImageProcessor".into();
                for key in ["patch_size", "temporal_patch_size", "merge_size"] {
                    if attributes.get(key).unwrap_or(&nothing) != &nothing {
                        keys[key] = attributes[key].clone();
                    }
                }
            }
            "Phi3ImageTransform" => {
                let crops = or("num_crops", 16.into());
                keys = json!({"image_processor_type": "Phi3VImageProcessor", "num_crops": crops});
            }
            other => {
                return Err(Error::unsupported(
                    format!("operation {other} in {}", path.display()),
                    SUPPORTED,
                    "put the preprocessor_config.json of the original model beside it in place of this file",
                ));
            }
        }
    }
    match keys {
        Value::Object(keys) => Ok(keys),
        _ => Err(Error::bundle(path, "`processor.transforms` is not a pipeline")),
    }
}

fn is_on(value: &Value) -> bool {
    value.as_bool().unwrap_or_else(|| value.as_i64().is_some_and(|number| number != 0))
}

/// Pillow's code of an interpolation.
fn resample(path: &Path, name: Option<&str>) -> Result<u8> {
    Ok(match name {
        Some("NEAREST") => 0,
        Some("LANCZOS") => 1,
        Some("LINEAR") => 2,
        Some("CUBIC") | None => 3,
        Some(other) => {
            return Err(Error::bundle(
                path,
                format!("interpolation {other:?} is unknown; it can be NEAREST, LANCZOS, LINEAR or CUBIC"),
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(transforms: Value) -> Result<Map<String, Value>> {
        keys(Path::new("processor_config.json"), transforms.as_array().expect("a list"))
    }

    #[test]
    fn operations_become_keys() {
        let check = |transforms: Value, expected: Value| {
            let found = Value::Object(of(transforms).expect("a pipeline"));
            for (key, value) in expected.as_object().expect("an object") {
                assert_eq!(&found[key], value, "{key}");
            }
        };
        let operation = |name: &str, attributes: Value| json!({"operation": {"type": name, "attrs": attributes}});
        check(
            json!([
                operation("DecodeImage", json!({"color_space": "RGB"})),
                operation("Resize", json!({"height": 448, "width": 336, "interpolation": "LINEAR"})),
                operation("CenterCrop", json!({"height": 32, "width": 32})),
                operation("Rescale", json!({"rescale_factor": 0.5})),
                operation("Normalize", json!({"mean": [0, 0, 0], "std": [1, 1, 1]})),
            ]),
            json!({
                "do_resize": true, "size": {"height": 448, "width": 336}, "resample": 2, "do_rescale": true,
                "rescale_factor": 0.5, "do_center_crop": true, "crop_size": {"height": 32, "width": 32},
                "do_normalize": true, "image_mean": [0, 0, 0], "image_std": [1, 1, 1],
            }),
        );
        check(
            json!([
                operation("Resize", json!({"smart_resize": 1, "min_pixels": 16, "patch_size": 8})),
                operation("PatchImage", json!({"temporal_patch_size": 2})),
            ]),
            json!({
                "image_processor_type": "Qwen2VLImageProcessor", "patch_size": 8, "merge_size": 2,
                "size": {"shortest_edge": 16, "longest_edge": 12_845_056}, "do_normalize": false,
            }),
        );
        check(
            json!([operation("Phi3ImageTransform", json!({"num_crops": 4}))]),
            json!({"image_processor_type": "Phi3VImageProcessor", "num_crops": 4}),
        );
    }

    #[test]
    fn says_which_operation_it_does_not_know() {
        let check = |transforms: Value, part: &str| {
            let error = of(transforms).expect_err(part).to_string();
            assert!(error.contains(part) && error.contains("processor_config.json"), "{error}");
        };
        check(json!([{"operation": {"type": "Llama3ImageTransform"}}]), "Llama3ImageTransform");
        check(json!([{"operation": {"name": "x"}}]), "operation.type");
        check(json!([{"operation": {"type": "Resize", "attrs": {"interpolation": "AREA"}}}]), "AREA");
    }
}
