//! Every reference model against what the Python libraries made of it: token for token.

use std::{collections::BTreeMap, path::Path};

use infer::{Cancel, EvidenceOptions, Model, Output, Request};
use serde_json::{Value, json};

use crate::support::{image, json, model_of, reference};

/// Numbers that may differ by so much, relative to the larger of 1 and what is expected.
fn close(found: &Value, expected: &Value, tolerance: f64, what: &str) {
    match (found, expected) {
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{what}");
            let pairs = found.iter().zip(expected).enumerate();
            pairs.for_each(|(index, (f, e))| close(f, e, tolerance, &format!("{what}[{index}]")));
        }
        _ => {
            let (f, e) = (found.as_f64().expect(what), expected.as_f64().expect(what));
            assert!((f - e).abs() <= tolerance * e.abs().max(1.0), "{what}: {f} instead of {e}");
        }
    }
}

/// A tensor in short: shape, and values and their sums within `tolerance` each.
fn close_tensor(found: &Value, expected: &Value, tolerance: f64, what: &str) {
    if expected.is_null() {
        return;
    }
    assert_eq!(found["shape"], expected["shape"], "{what}: shape");
    for field in ["min", "max", "first"] {
        close(&found[field], &expected[field], tolerance, &format!("{what}: {field}"));
    }
    let count: f64 = expected["shape"].as_array().expect(what).iter().filter_map(Value::as_f64).product();
    for field in ["sum", "abs_sum"] {
        let (f, e) = (found[field].as_f64().expect(what), expected[field].as_f64().expect(what));
        assert!((f - e).abs() <= tolerance * count, "{what}: {field} is {f} instead of {e}");
    }
}

fn request(folder: &Path, case: &Value) -> Request {
    let text = |keys: &[&str]| keys.iter().find_map(|key| case[*key].as_str()).map(str::to_owned);
    let files = match &case["images"] {
        Value::Array(files) => files.clone(),
        _ => vec![case["image"].clone()],
    };
    let labels = case["candidate_labels"].as_array().cloned().unwrap_or_default();
    // A prompt stands for itself; messages, tasks and texts are what it was made of.
    let prompt =
        if case["messages"].is_null() { text(&["text_prompt", "task", "hypothesis_template", "prompt"]) } else { None };
    let splitting = &case["do_image_splitting"];
    Request {
        images: files.iter().map(|file| image(&folder.join(file.as_str().expect("a file")))).collect(),
        prompt,
        prompt_name: None,
        messages: case["messages"].clone(),
        labels: labels.iter().map(|label| label.as_str().expect("a label").to_owned()).collect(),
        generation: case["gen"].clone(),
        processor: if splitting.is_null() {
            case["processor"].clone()
        } else {
            json!({"do_image_splitting": splitting})
        },
        template: Value::Null,
        evidence: EvidenceOptions::default(),
        output: Output::default(),
    }
}

fn check(folder: &Path, family: &str, case: &Value, model: &mut Model) {
    let precision = case["dtype_suffix"].as_str().unwrap_or_default();
    let what = format!("{} {} {} {precision}", folder.display(), case["image"], case["mode"]);
    let answer = model.run(&request(folder, case), &Cancel::new()).expect(&what);
    let found = serde_json::to_value(&answer).expect("serialises");
    // One fixture names two families that are one.
    assert!(family.split('/').any(|name| found["family"] == name), "{what}: {}", found["family"]);
    close_tensor(&found["pixel_values"], &case["pixel_values"], 1e-5, &format!("{what}: pixel_values"));
    close_tensor(&found["image_features"], &case["image_features"], 1e-3, &format!("{what}: image_features"));
    close_tensor(&found["image_embeds"], &case["image_embeds"], 1e-3, &format!("{what}: image_embeds"));
    for field in ["logits_per_image", "probs"].iter().filter(|field| !case[**field].is_null()) {
        close(&found[*field], &case[*field], 1e-3, &format!("{what}: {field}"));
    }
    let mut exact = vec!["input_ids"];
    if case["candidate_labels"].is_null() {
        exact.push("prompt");
    }
    for field in exact.into_iter().filter(|field| !case[*field].is_null()) {
        assert_eq!(found[field], case[field], "{what}: {field}");
    }
    // Kernels for few bits differ between processors: what they choose may differ too.
    let reduced = !precision.is_empty();
    if !case["logits_step1"].is_null() {
        let (found, case) = (&found["logits_step1"], &case["logits_step1"]);
        // Relative to the largest of them.
        let largest = case["top"][0][1].as_f64().expect(&what).abs().max(1.0);
        let tolerance = if reduced { 0.05 * largest } else { 1e-3 };
        close(&found["first"], &case["first"], tolerance, &format!("{what}: first"));
        if !reduced {
            close(&found["top"], &case["top"], tolerance, &format!("{what}: top"));
        }
    }
    if !reduced {
        for field in ["generated_ids", "text"].iter().filter(|field| !case[**field].is_null()) {
            assert_eq!(found[*field], case[*field], "{what}: {field}");
        }
        if !case["logprobs"].is_null() {
            close(&found["logprobs"], &case["logprobs"], 1e-3, &format!("{what}: logprobs"));
        }
    }
    let pieces: Vec<&str> = answer.tokens.iter().map(|token| &answer.text[token.text.clone()]).collect();
    assert_eq!(pieces.concat(), answer.text, "{what}: the pieces make the text");
}

fn check_family(folder: &str) {
    let Some(folder) = reference(folder) else { return };
    let expected = json(&folder.join("expected.json"));
    let family = expected["family"].as_str().expect("a family");
    let mut models: BTreeMap<&str, Model> = BTreeMap::new();
    let cases = expected["cases"].as_array().expect("cases");
    assert!(!cases.is_empty(), "{} has cases", folder.display());
    for case in cases {
        let suffix = case["dtype_suffix"].as_str().unwrap_or_default();
        let precision = Some(suffix.trim_start_matches('_')).filter(|precision| !precision.is_empty());
        check(&folder, family, case, models.entry(suffix).or_insert_with(|| model_of(&folder, precision)));
    }
}

macro_rules! families {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                check_family(stringify!($name));
            }
        )*

        #[test]
        fn every_reference_is_tested() {
            let Some(folder) = reference("") else { return };
            let tested = [$(stringify!($name)),*];
            for entry in std::fs::read_dir(folder).expect("readable") {
                let name = entry.expect("readable").file_name().to_string_lossy().into_owned();
                assert!(tested.contains(&name.as_str()), "{name} has no test");
            }
        }
    };
}

families! {
    clip_zeroshot
    florence2
    gemma3
    llava
    llava_quant
    paligemma2
    qwen2_vl
    siglip_zeroshot
    smolvlm
    ved_swin_gpt2
    ved_vit_gpt2
}
