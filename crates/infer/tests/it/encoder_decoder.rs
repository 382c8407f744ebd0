//! Requests to an encoder-decoder model.

use infer::{Cancel, Request};
use serde_json::{Value, json};

use crate::support::{image, json, model, reference};

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
    check(request(json!({"num_beam_groups": 2}), Value::Null), "num_beam_groups");
    check(request(Value::Null, json!({"sise": 3})), "`sise` is unknown");
    check(request(Value::Null, json!({"size": {"height": 0, "width": 4}})), "`size`");
    check(request(json!({"max_length": 1}), Value::Null), "max_length 1");
    let cancel = Cancel::new();
    cancel.cancel();
    assert!(matches!(model.run(&request(Value::Null, Value::Null), &cancel), Err(infer::Error::Cancelled)));
}
