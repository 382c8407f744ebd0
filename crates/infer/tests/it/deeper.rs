//! Features that a vision graph returns beside the image's own, as Qwen3-VL's do: they reach the decoder, straight or through
//! the embedding graph, and tokens of no image get zeros. The next token is the sum of everything so far, modulo 16.

use std::fs;

use infer::{Cancel, Image, Request};
use serde_json::{Map, Value, json};

use crate::{
    onnx::{FLOAT, Graph, INT64},
    support::model,
};

const VOCABULARY: u32 = 16;
/// The token that stands for an image, which is one feature.
const IMAGE: u32 = 14;

/// The mean of the pixels, and twice that as the deeper feature.
fn vision() -> Vec<u8> {
    Graph::default()
        .input("pixel_values", FLOAT, &["batch", "3", "height", "width"])
        .integers("column", &[-1, 1])
        .node("ReduceMean", &["pixel_values"], "mean", &[("keepdims", 1)])
        .node("Reshape", &["mean", "column"], "image_features", &[])
        .node("Add", &["image_features", "image_features"], "deeper_features_0", &[])
        .output("image_features", FLOAT, &["tokens", "1"])
        .output("deeper_features_0", FLOAT, &["tokens", "1"])
        .finish()
}

fn embed() -> Vec<u8> {
    Graph::default()
        .input("input_ids", INT64, &["batch", "length"])
        .integers("last", &[2])
        .node("Cast", &["input_ids"], "ids", &[("to", FLOAT)])
        .node("Unsqueeze", &["ids", "last"], "inputs_embeds", &[])
        .output("inputs_embeds", FLOAT, &["batch", "length", "1"])
        .finish()
}

/// Puts the features among the tokens itself.
fn merging_embed() -> Vec<u8> {
    Graph::default()
        .input("input_ids", INT64, &["batch", "length"])
        .input("image_features", FLOAT, &["tokens", "1"])
        .input("deeper_features_0", FLOAT, &["tokens", "1"])
        .integers("first", &[0])
        .integers("last", &[2])
        .integers("one", &[1])
        .integers("image", &[i64::from(IMAGE)])
        .node("Equal", &["input_ids", "image"], "is_image", &[])
        .node("Cast", &["is_image"], "mask", &[("to", FLOAT)])
        .node("Cast", &["one"], "unit", &[("to", FLOAT)])
        .node("Sub", &["unit", "mask"], "others", &[])
        .node("Cast", &["input_ids"], "ids", &[("to", FLOAT)])
        .node("Mul", &["ids", "others"], "words", &[])
        .node("ReduceSum", &["image_features", "first"], "feature", &[("keepdims", 1)])
        .node("Mul", &["mask", "feature"], "seen", &[])
        .node("Add", &["words", "seen"], "merged", &[])
        .node("Unsqueeze", &["merged", "last"], "inputs_embeds", &[])
        .node("ReduceSum", &["deeper_features_0", "first"], "deeper_feature", &[("keepdims", 1)])
        .node("Mul", &["mask", "deeper_feature"], "deeper_seen", &[])
        .node("Unsqueeze", &["deeper_seen", "last"], "deeper_0", &[])
        .output("inputs_embeds", FLOAT, &["batch", "length", "1"])
        .output("deeper_0", FLOAT, &["batch", "length", "1"])
        .finish()
}

/// `deeper`: what the input of the deeper features is called.
fn decoder(deeper: &str) -> Vec<u8> {
    Graph::default()
        .input("inputs_embeds", FLOAT, &["batch", "length", "1"])
        .input(deeper, FLOAT, &["batch", "length", "1"])
        .input("past_key_values.0.key", FLOAT, &["batch", "1", "past", "1"])
        .integers("modulus", &[i64::from(VOCABULARY)])
        .integers("vocabulary", &(0..i64::from(VOCABULARY)).collect::<Vec<_>>())
        .integers("axis1", &[1])
        .integers("axes123", &[1, 2, 3])
        .integers("scalar", &[-1, 1, 1])
        .node("Cast", &["modulus"], "sixteen", &[("to", FLOAT)])
        .node("Cast", &["vocabulary"], "words", &[("to", FLOAT)])
        .node("Add", &["inputs_embeds", deeper], "hidden", &[])
        .node("Unsqueeze", &["hidden", "axis1"], "new", &[])
        .node("Concat", &["past_key_values.0.key", "new"], "present.0.key", &[("axis", 2)])
        .node("ReduceSum", &["present.0.key", "axes123"], "sum", &[])
        .node("Mod", &["sum", "sixteen"], "next", &[("fmod", 1)])
        .node("Reshape", &["next", "scalar"], "target", &[])
        .node("Sub", &["words", "target"], "distance", &[])
        .node("Mul", &["distance", "distance"], "square", &[])
        .node("Neg", &["square"], "row", &[])
        .node("Sub", &["inputs_embeds", "inputs_embeds"], "zeros", &[])
        .node("Add", &["zeros", "row"], "logits", &[])
        .output("logits", FLOAT, &["batch", "length", "16"])
        .output("present.0.key", FLOAT, &["batch", "1", "total", "1"])
        .finish()
}

/// What a model of these graphs says of an image of one level.
fn answer(embed: &[u8], decoder: &[u8], grey: u8, generation: &Value) -> Vec<u32> {
    let dir = tempfile::tempdir().expect("a folder");
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let vocabulary: Map<String, Value> = (0..VOCABULARY)
        .map(|id| (char::from(b'a' + u8::try_from(id).expect("small")).to_string(), id.into()))
        .collect();
    let files = [
        ("config.json", json!({"model_type": "toy", "image_token_id": IMAGE}).to_string().into_bytes()),
        ("model.toml", b"family = 'llava'".to_vec()),
        ("preprocessor_config.json", br#"{"do_resize": false, "do_rescale": false, "do_normalize": false}"#.to_vec()),
        (
            "tokenizer.json",
            json!({"version": "1.0", "added_tokens": [], "decoder": level, "pre_tokenizer": level,
                "model": {"type": "BPE", "vocab": vocabulary, "merges": []}})
            .to_string()
            .into_bytes(),
        ),
        ("vision_encoder.onnx", vision()),
        ("embed_tokens.onnx", embed.to_vec()),
        ("decoder_model_merged.onnx", decoder.to_vec()),
    ];
    for (name, content) in files {
        fs::write(dir.path().join(name), content).expect("written");
    }
    let image = Image::new(4, 2, vec![grey; 24]).expect("an image");
    let request = Request {
        images: vec![image],
        // The image's token, then 2 and 1.
        prompt: Some("ocb".to_owned()),
        generation: generation.clone(),
        ..Request::default()
    };
    model(dir.path()).run(&request, &Cancel::new()).expect("answers").generated_ids
}

#[test]
fn they_reach_the_decoder_and_tokens_of_no_image_get_zeros() {
    for grey in [1, 2, 5] {
        let mut expected: Vec<u32> = Vec::new();
        while expected.len() < 5 {
            expected.push((3 * u32::from(grey) + 2 + 1 + expected.iter().sum::<u32>()) % VOCABULARY);
        }
        let check = |embed: &[u8], deeper: &str, generation: Value| {
            let found = answer(embed, &decoder(deeper), grey, &generation);
            assert_eq!(found, expected, "grey {grey}, by way of {deeper}, {generation}");
        };
        let greedy = || json!({"max_new_tokens": 5, "eos_token_id": []});
        check(&embed(), "deeper_features_0", greedy());
        check(&embed(), "deeper_features_0", json!({"max_new_tokens": 5, "eos_token_id": [], "num_beams": 2}));
        check(&merging_embed(), "deeper_0", greedy());
    }
}
