//! Encoder-decoder models against Transformers' own output.

use infer::{Cancel, Request};
use serde_json::{Value, json};

use crate::support::{image, json, model, reference};

fn close(found: &Value, expected: &Value, relative: f64, what: &str) {
    match (found, expected) {
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{what}");
            found
                .iter()
                .zip(expected)
                .enumerate()
                .for_each(|(i, (f, e))| close(f, e, relative, &format!("{what}[{i}]")));
        }
        _ => {
            let (f, e) = (found.as_f64().expect(what), expected.as_f64().expect(what));
            assert!((f - e).abs() <= relative * e.abs().max(1.0), "{what}: {f} instead of {e}");
        }
    }
}

/// Runs the cases of a fixture whose mode is `mode` and compares ids, text, probabilities and pixels.
fn check(family: &str, mode: &str) {
    let Some(folder) = reference(family) else { return };
    let expected = json(&folder.join("expected.json"));
    let mut model = model(&folder);
    let cases = expected["cases"].as_array().expect("cases").iter().filter(|case| case["mode"] == mode);
    let mut count = 0;
    for case in cases {
        let file = case["image"].as_str().expect("a file");
        let what = format!("{family} {file} {mode}");
        let request = Request {
            images: vec![image(&folder.join(file))],
            prompt: case["prompt"].as_str().map(str::to_owned),
            generation: case["gen"].clone(),
            ..Request::default()
        };
        let answer = model.run(&request, &Cancel::new()).expect(&what);
        let found = serde_json::to_value(&answer).expect("serialises");
        for field in ["generated_ids", "text", "prompt"] {
            assert_eq!(found[field], case[field], "{what}: {field}");
        }
        assert_eq!(found["family"], expected["family"]);
        if !case["logprobs"].is_null() {
            close(&found["logprobs"], &case["logprobs"], 1e-4, &format!("{what}: logprobs"));
            for field in ["n", "first", "top", "sum"] {
                close(&found["logits_step1"][field], &case["logits_step1"][field], 1e-4, &format!("{what}: {field}"));
            }
            for field in ["shape", "sum", "abs_sum", "min", "max", "first"] {
                close(&found["pixel_values"][field], &case["pixel_values"][field], 1e-5, &format!("{what}: {field}"));
            }
        }
        let pieces: Vec<&str> = answer.tokens.iter().map(|token| &answer.text[token.text.clone()]).collect();
        assert_eq!(pieces.concat(), answer.text, "{what}: the pieces make the text");
        count += 1;
    }
    assert!(count > 0, "{family} has cases of mode {mode}");
}

#[test]
fn vit_gpt2_greedy() {
    check("ved_vit_gpt2", "greedy");
}

#[test]
fn vit_gpt2_repetition_penalty_and_ngrams() {
    check("ved_vit_gpt2", "rep_ngram");
}

#[test]
fn swin_gpt2_greedy() {
    check("ved_swin_gpt2", "greedy");
}

#[test]
fn swin_gpt2_repetition_penalty_and_ngrams() {
    check("ved_swin_gpt2", "rep_ngram");
}

#[test]
fn vit_gpt2_beam_search() {
    check("ved_vit_gpt2", "beam4");
}

#[test]
fn swin_gpt2_beam_search() {
    check("ved_swin_gpt2", "beam4");
}

#[test]
fn graphs_are_described_as_the_file_states_them() {
    let Some(folder) = reference("ved_vit_gpt2") else { return };
    let expected = &json(&folder.join("expected.json"))["graphs"];
    for graph in model(&folder).graphs() {
        let found = serde_json::to_value(graph).expect("serialises");
        assert_eq!(found["inputs"], expected[&graph.file]["inputs"]);
        // ONNX Runtime names computed dimensions or not; sizes and types are what counts.
        assert_eq!(
            found["outputs"].as_array().map(Vec::len),
            expected[&graph.file]["outputs"].as_array().map(Vec::len)
        );
    }
}

#[test]
fn the_same_request_gives_the_same_answer_and_a_prompt_continues() {
    let Some(folder) = reference("ved_vit_gpt2") else { return };
    let mut model = model(&folder);
    model.warm_up().expect("warms up");
    let images = vec![image(&folder.join("image0.png"))];
    let mut run = |prompt: Option<&str>, generation: Value| {
        let request =
            Request { images: images.clone(), prompt: prompt.map(str::to_owned), generation, ..Request::default() };
        model.run(&request, &Cancel::new()).expect("answers")
    };
    let first = run(None, json!({"max_length": 8}));
    let second = run(None, json!({"max_length": 8}));
    assert_eq!(first.tokens, second.tokens);
    assert_eq!(first.generated_ids.len(), 8);

    let prompted = run(Some("no effusion"), json!({"max_new_tokens": 4}));
    assert!(prompted.input_ids.len() > 2 && prompted.input_ids[0] == 0, "{:?}", prompted.input_ids);
    assert!(prompted.text.starts_with("no effusion"), "{:?}", prompted.text);
    assert_eq!(prompted.generated_ids.len(), prompted.input_ids.len() + 4);
    assert_eq!(prompted.tokens[0].text.start, "no effusion".len());
}

#[test]
fn says_what_is_wrong_with_a_request() {
    let Some(folder) = reference("ved_vit_gpt2") else { return };
    let mut model = model(&folder);
    let picture = image(&folder.join("image0.png"));
    let mut check = |request: Request, part: &str| {
        let error = model.run(&request, &Cancel::new()).expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    };
    let request = |generation: Value, processor: Value| Request {
        images: vec![picture.clone()],
        generation,
        processor,
        ..Request::default()
    };
    check(Request::default(), "0 images");
    check(request(json!({"do_sample": true, "num_beams": 2}), Value::Null), "do_sample");
    check(request(Value::Null, json!({"sise": 3})), "`sise` is unknown");
    check(request(Value::Null, json!({"size": {"height": 0, "width": 4}})), "`size`");
    check(request(json!({"max_length": 1}), Value::Null), "max_length 1");
    let cancel = Cancel::new();
    cancel.cancel();
    assert!(matches!(model.run(&request(Value::Null, Value::Null), &cancel), Err(infer::Error::Cancelled)));
}
