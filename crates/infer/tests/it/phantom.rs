//! The demonstration model of this repository, when it is built.

use infer::{Cancel, Image, Request};
use serde_json::json;

use crate::support::{model, present, workspace};

/// A grey ellipse on black: not a radiograph, but not constant.
fn picture() -> Image {
    let inside = |x: i32, y: i32| (x - 150).pow(2) * 2 + (y - 120).pow(2) < 12_000;
    let pixels = (0..256).flat_map(|y| (0..300).map(move |x| if inside(x, y) { 170 } else { 20 }));
    Image::new(300, 256, pixels.flat_map(|grey| [grey; 3]).collect()).expect("an image")
}

#[test]
fn says_sentences_with_attention_and_findings() {
    let Some(file) = present(workspace().join("models/phantom-cxr/encoder_model.onnx")) else { return };
    let folder = file.parent().expect("its folder");
    let mut model = model(folder);
    model.warm_up().expect("warms up");
    let run = |model: &mut infer::Model, generation| {
        let request = Request { images: vec![picture()], generation, ..Request::default() };
        model.run(&request, &Cancel::new()).expect("answers")
    };
    let answer = run(&mut model, json!(null));
    assert!(!answer.text.is_empty(), "it says something");
    assert_eq!(answer.tokens.last().map(|token| token.text.end), Some(answer.text.len()));
    assert!(answer.tokens.iter().all(|token| token.logprob <= 0.0 && answer.text.is_char_boundary(token.text.start)));

    let attention = answer.attention.expect("the decoder returns it");
    assert_eq!((attention.rows, attention.cols, attention.per_token.len()), (16, 16, answer.tokens.len()));
    for row in &attention.per_token {
        let sum: f32 = row.iter().sum();
        assert!(row.len() == 256 && (sum - 1.0).abs() < 1e-3, "attention sums to {sum}");
    }
    let logits = answer.encoder_outputs.get("finding_logits").expect("the encoder returns them");
    assert_eq!(logits.shape, [1, logits.labels.len()]);
    assert!(logits.labels.contains(&"pneumothorax".to_owned()), "{:?}", logits.labels);

    let beams = run(&mut model, json!({"num_beams": 3}));
    assert_eq!(beams.attention.map(|attention| attention.per_token.len()), Some(beams.tokens.len()));
    let total = |tokens: &[infer::Token]| tokens.iter().map(|token| token.logprob).sum::<f32>();
    let normalized = |tokens: &[infer::Token]| total(tokens) / tokens.len() as f32;
    assert!(normalized(&beams.tokens) >= normalized(&answer.tokens) - 1e-4, "beams search where greedy stops");
}
