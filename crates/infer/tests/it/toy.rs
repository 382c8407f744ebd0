//! A model whose answers can be worked out by hand: the next token is the sum of the encoder's features and of all
//! tokens so far, modulo 16. It has everything a real decoder has: own and encoder caches, a branch switch, attention.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use infer::{Answer, Cancel, Dispatcher, Error, Image, Model, Request};
use serde_json::{Value, json};

use crate::{
    onnx::{BOOL, FLOAT, FLOAT16, Graph, INT64},
    support::model,
};

const VOCABULARY: u32 = 16;

/// Four features, each the mean of the pixels.
fn encoder() -> Vec<u8> {
    Graph::default()
        .input("pixel_values", FLOAT, &["batch", "3", "height", "width"])
        .integers("scalar", &[-1, 1, 1])
        .integers("four", &[1, 4, 1])
        .integers("pair", &[1, 2])
        .integers("row", &[-1, 1])
        .node("GlobalAveragePool", &["pixel_values"], "channels", &[])
        .node("ReduceMean", &["channels"], "mean", &[("keepdims", 1)])
        .node("Reshape", &["mean", "scalar"], "one", &[])
        .node("Expand", &["one", "four"], "last_hidden_state", &[])
        .node("Reshape", &["mean", "row"], "flat", &[])
        .node("Expand", &["flat", "pair"], "finding_logits", &[])
        .output("last_hidden_state", FLOAT, &["batch", "4", "1"])
        .output("finding_logits", FLOAT, &["batch", "2"])
        .finish()
}

/// With `switched`, the encoder's cache is zero in every step but the first, as merged exports leave it.
fn decoder(float: i64, switched: bool) -> Vec<u8> {
    let mut graph = Graph::default()
        .input("input_ids", INT64, &["batch", "length"])
        .input("encoder_hidden_states", float, &["batch", "features", "1"])
        .input("encoder_attention_mask", INT64, &["batch", "features"])
        .input("past_key_values.0.decoder.key", float, &["batch", "1", "past", "1"])
        .input("past_key_values.0.encoder.key", float, &["batch", "1", "encoder_past", "1"]);
    if switched {
        graph = graph.input("use_cache_branch", BOOL, &["1"]).node(
            "Cast",
            &["use_cache_branch"],
            "cached",
            &[("to", float)],
        );
    } else {
        graph = graph.integers("no", &[0]).node("Cast", &["no"], "cached", &[("to", float)]);
    }
    graph
        .integers("ones", &[1])
        .integers("modulus", &[i64::from(VOCABULARY)])
        .integers("vocabulary", &(0..i64::from(VOCABULARY)).collect::<Vec<_>>())
        .integers("axis1", &[1])
        .integers("axis2", &[2])
        .integers("axes13", &[1, 3])
        .integers("axes123", &[1, 2, 3])
        .integers("scalar", &[-1, 1, 1])
        .node("Cast", &["ones"], "one", &[("to", float)])
        .node("Cast", &["modulus"], "sixteen", &[("to", float)])
        .node("Cast", &["vocabulary"], "words", &[("to", float)])
        .node("Sub", &["one", "cached"], "fresh", &[])
        .node("Cast", &["input_ids"], "ids", &[("to", float)])
        .node("Unsqueeze", &["ids", "axes13"], "new", &[])
        .node("Concat", &["past_key_values.0.decoder.key", "new"], "present.0.decoder.key", &[("axis", 2)])
        .node("Unsqueeze", &["encoder_hidden_states", "axis1"], "features", &[])
        .node("Mul", &["features", "fresh"], "present.0.encoder.key", &[])
        .node("ReduceSum", &["present.0.encoder.key", "axes123"], "sum_fresh", &[])
        .node("ReduceSum", &["past_key_values.0.encoder.key", "axes123"], "sum_past", &[])
        .node("Mul", &["sum_past", "cached"], "sum_cached", &[])
        .node("ReduceSum", &["present.0.decoder.key", "axes123"], "sum_tokens", &[])
        .node("Add", &["sum_fresh", "sum_cached"], "sum_features", &[])
        .node("Add", &["sum_features", "sum_tokens"], "sum", &[])
        .node("Mod", &["sum", "sixteen"], "next", &[("fmod", 1)])
        .node("Reshape", &["next", "scalar"], "target", &[])
        .node("Sub", &["words", "target"], "distance", &[])
        .node("Mul", &["distance", "distance"], "square", &[])
        .node("Neg", &["square"], "row", &[])
        .node("Unsqueeze", &["ids", "axis2"], "column", &[])
        .node("Sub", &["column", "column"], "zeros", &[])
        .node("Add", &["zeros", "row"], "logits", &[])
        .node("Squeeze", &["encoder_hidden_states", "axis2"], "by_feature", &[])
        .node("ReduceSum", &["by_feature", "axis1"], "feature_sum", &[])
        .node("Div", &["by_feature", "feature_sum"], "share", &[])
        .node("Unsqueeze", &["share", "axis1"], "share3", &[])
        .node("Add", &["zeros", "share3"], "share_per_token", &[])
        .node("Unsqueeze", &["share_per_token", "axis1"], "cross_attentions.0", &[])
        .output("logits", float, &["batch", "length", "16"])
        .output("present.0.decoder.key", float, &["batch", "1", "total", "1"])
        .output("present.0.encoder.key", float, &["batch", "1", "features", "1"])
        .output("cross_attentions.0", float, &["batch", "1", "length", "features"])
        .finish()
}

fn write(dir: &Path, decoder: &[u8]) {
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let vocabulary: serde_json::Map<String, Value> = (0..VOCABULARY)
        .map(|id| (char::from(b'a' + u8::try_from(id).expect("small")).to_string(), id.into()))
        .collect();
    let files = [
        ("config.json", json!({"model_type": "vision-encoder-decoder", "id2label": {"0": "left", "1": "right"}})),
        ("generation_config.json", json!({"decoder_start_token_id": 1, "eos_token_id": 15, "max_length": 6})),
        ("preprocessor_config.json", json!({"do_resize": false, "do_rescale": false, "do_normalize": false})),
        (
            "tokenizer.json",
            json!({"version": "1.0", "added_tokens": [], "decoder": level, "pre_tokenizer": level,
            "model": {"type": "BPE", "vocab": vocabulary, "merges": []}}),
        ),
    ];
    for (name, content) in files {
        fs::write(dir.join(name), content.to_string()).expect("written");
    }
    fs::write(dir.join("encoder_model.onnx"), encoder()).expect("written");
    fs::write(dir.join("decoder_model_merged.onnx"), decoder).expect("written");
}

fn toy(decoder: &[u8]) -> Model {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), decoder);
    model(dir.path())
}

/// An image all of whose pixels are `grey`: the features sum to four times that.
fn run(model: &mut Model, grey: u8, generation: Value) -> Answer {
    let image = Image::new(4, 2, vec![grey; 24]).expect("an image");
    let request = Request { images: vec![image], generation, ..Request::default() };
    model.run(&request, &Cancel::new()).expect("answers")
}

/// What the model says after `start`, by hand.
fn by_hand(grey: u32, start: u32, length: usize) -> Vec<u32> {
    let mut ids = vec![start];
    while ids.len() < length && (ids.len() == 1 || ids.last() != Some(&15)) {
        ids.push((4 * grey + ids.iter().sum::<u32>()) % VOCABULARY);
    }
    ids
}

#[test]
fn caches_are_kept_in_every_precision_with_and_without_a_switch() {
    for (float, switched) in [(FLOAT, true), (FLOAT, false), (FLOAT16, true), (FLOAT16, false)] {
        let mut model = toy(&decoder(float, switched));
        model.warm_up().expect("warms up");
        for grey in [1, 2, 3] {
            let answer = run(&mut model, grey, Value::Null);
            let expected = by_hand(grey.into(), 1, 6);
            assert_eq!(answer.generated_ids, expected, "grey {grey}, element {float}, switched {switched}");
        }
    }
}

/// As [`encoder`], but a pixel value above 100 asks for more memory than any machine has addresses for.
fn greedy_encoder() -> Vec<u8> {
    Graph::default()
        .input("pixel_values", FLOAT, &["batch", "3", "height", "width"])
        .integers("scalar", &[-1, 1, 1])
        .integers("any", &[-1])
        .integers("zero", &[0])
        .integers("unit", &[1])
        .integers("four", &[4])
        .integers("hundred", &[100])
        .integers("everything", &[1 << 50])
        .node("ReduceMean", &["pixel_values"], "mean", &[("keepdims", 1)])
        .node("Reshape", &["mean", "scalar"], "one", &[])
        .node("Cast", &["mean"], "whole", &[("to", INT64)])
        .node("Sub", &["whole", "hundred"], "above", &[])
        .node("Max", &["above", "zero"], "excess", &[])
        .node("Mul", &["excess", "everything"], "more", &[])
        .node("Add", &["more", "four"], "wanted", &[])
        .node("Reshape", &["wanted", "any"], "length", &[])
        .node("Concat", &["unit", "length", "unit"], "shape", &[("axis", 0)])
        .node("Expand", &["one", "shape"], "last_hidden_state", &[])
        .output("last_hidden_state", FLOAT, &["batch", "features", "1"])
        .finish()
}

#[test]
fn a_graph_that_runs_out_of_memory_ends_its_request_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), &decoder(FLOAT, true));
    fs::write(dir.path().join("encoder_model.onnx"), greedy_encoder()).expect("written");
    let dispatcher = Dispatcher::start(model(dir.path()), 1).expect("starts");
    let ask = |grey: u8| {
        let image = Image::new(4, 2, vec![grey; 24]).expect("an image");
        dispatcher.submit(Request { images: vec![image], ..Request::default() }, None).expect("room").wait()
    };
    for _ in 0..2 {
        let error = ask(101).expect_err("no such memory");
        assert!(matches!(error, Error::OutOfMemory(_)), "{error}");
        assert!(error.to_string().contains("encoder_model.onnx"), "{error}");
        assert_eq!(ask(2).expect("serves on").generated_ids, by_hand(2, 1, 6));
    }
}

#[test]
fn evidence_comes_with_the_answer() {
    let mut model = toy(&decoder(FLOAT, true));
    let answer = run(&mut model, 2, json!({"max_length": 4}));
    assert_eq!(answer.family, "vision-encoder-decoder", "what its manifest says that it runs as");
    let text: String =
        answer.generated_ids.iter().map(|id| char::from(b'a' + u8::try_from(*id).expect("small"))).collect();
    assert_eq!(answer.text, text);
    let attention = answer.attention.expect("the decoder returns it");
    assert_eq!((attention.rows, attention.cols, attention.layer), (2, 2, 0));
    assert_eq!(attention.per_token, vec![vec![0.25; 4]; 3]);
    let findings = &answer.encoder_outputs["finding_logits"];
    assert_eq!(
        (&findings.values[..], &findings.labels[..]),
        (&[2.0, 2.0][..], &["left".to_owned(), "right".to_owned()][..])
    );
    assert_eq!(answer.image_features.map(|features| (features.shape, features.sum)), Some((vec![1, 4, 1], 8.0)));
}

#[test]
fn beams_find_the_best_sequence() {
    // Wide enough to keep every sequence of this length: the result is the best of all of them.
    let mut model = toy(&decoder(FLOAT, true));
    let options = json!({"max_length": 3, "num_beams": 16, "length_penalty": 0.0, "eos_token_id": null});
    let answer = run(&mut model, 3, options);
    let step = |ids: &[u32]| {
        let target = f64::from((12 + ids.iter().sum::<u32>()) % VOCABULARY);
        let scores: Vec<f64> = (0..VOCABULARY).map(|id| -(f64::from(id) - target).powi(2)).collect();
        let total = scores.iter().map(|score| score.exp()).sum::<f64>().ln();
        scores.into_iter().map(move |score| score - total).collect::<Vec<_>>()
    };
    let mut best = (f64::MIN, Vec::new());
    for (first, score) in (0..VOCABULARY).zip(step(&[1])) {
        for (second, next) in (0..VOCABULARY).zip(step(&[1, first])) {
            if score + next > best.0 {
                best = (score + next, vec![1, first, second]);
            }
        }
    }
    assert_eq!(answer.generated_ids, best.1);
    let total: f32 = answer.tokens.iter().map(|token| token.logprob).sum();
    assert!((f64::from(total) - best.0).abs() < 1e-4, "{total} instead of {}", best.0);
}

#[test]
fn a_decoder_the_engine_cannot_feed_is_refused_by_name() {
    let check = |graph: Graph, parts: &[&str]| {
        let dir = tempfile::tempdir().expect("a folder");
        write(dir.path(), &graph.finish());
        let bundle = infer::Bundle::open(dir.path()).expect("looks like a model");
        let runtime = crate::support::runtime();
        let error =
            Model::load(&bundle, &runtime, &infer::SessionOptions { threads: 1, ..infer::SessionOptions::default() })
                .expect_err("refused");
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{part:?} not in {error}");
        }
    };
    let ids = || Graph::default().input("input_ids", INT64, &["batch", "length"]);
    let out = |graph: Graph| {
        graph.node("Identity", &["input_ids"], "logits", &[]).output("logits", INT64, &["batch", "length"])
    };
    check(out(ids()), &["inputs input_ids;", "encoder_hidden_states"]);
    let whole = || ids().input("encoder_hidden_states", FLOAT, &["batch", "features", "1"]);
    check(out(whole()), &["without past_key_values", "export"]);
    check(out(whole().input("inputs_embeds", FLOAT, &["batch", "length", "1"])), &["inputs_embeds"]);
    let past = whole().input("past_key_values.0.key", FLOAT, &["batch", "1", "past", "1"]);
    check(out(past), &["returns present.0.key"]);
}

#[test]
fn deadline_and_cancellation_stop_between_tokens() {
    let mut model = toy(&decoder(FLOAT, true));
    let endless = Request {
        images: vec![Image::new(1, 1, vec![1; 3]).expect("an image")],
        generation: json!({"max_new_tokens": 1_000_000, "eos_token_id": null}),
        ..Request::default()
    };
    let began = Instant::now();
    let late = model.run(&endless, &Cancel::at(began + Duration::from_millis(30)));
    assert!(matches!(late, Err(Error::DeadlineExceeded)), "{late:?}");
    let cancel = Cancel::new();
    let from_elsewhere = cancel.clone();
    let canceller = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        from_elsewhere.cancel();
    });
    let cancelled = model.run(&endless, &cancel);
    canceller.join().expect("cancels");
    assert!(matches!(cancelled, Err(Error::Cancelled)), "{cancelled:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "both stop long before a million tokens");
    // Nothing of a stopped run is left behind.
    assert_eq!(run(&mut model, 2, Value::Null).generated_ids, by_hand(2, 1, 6));
}
