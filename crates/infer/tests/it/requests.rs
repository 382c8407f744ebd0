//! What requests may ask of a vision language model besides a text.

use std::{fs, path::Path};

use infer::{Answer, Bundle, Cancel, EvidenceOptions, Image, Model, Request, SessionOptions};
use serde_json::{Value, json};

use crate::support::{copy, image, json, model, reference, runtime};

fn run(model: &mut Model, request: Request) -> Answer {
    model.run(&request, &Cancel::new()).expect("answers")
}

/// A question about a picture, answered in eight tokens.
fn question(picture: Image, evidence: EvidenceOptions) -> Request {
    Request {
        images: vec![picture],
        prompt: Some("Describe the effusion.".to_owned()),
        generation: json!({"max_new_tokens": 8, "eos_token_id": null}),
        evidence,
        ..Request::default()
    }
}

#[test]
fn evidence_is_what_was_asked_for() {
    let Some(folder) = reference("llava") else { return };
    let mut model = model(&folder);
    let picture = image(&folder.join("image0.png"));
    let wanted = EvidenceOptions {
        alternatives: 3,
        samples: 4,
        seed: 7,
        image_dependence: true,
        occlusion: Some([2, 3]),
        ..EvidenceOptions::default()
    };
    let answer = run(&mut model, question(picture.clone(), wanted.clone()));
    let evidence = &answer.evidence;
    assert_eq!(evidence.alternatives.len(), 3);
    assert_eq!((evidence.alternatives[0].id, evidence.samples.len()), (answer.generated_ids[0], 4));
    assert!((evidence.alternatives[0].logprob - answer.tokens[0].logprob).abs() < 1e-4);
    assert_eq!(evidence.image_dependence.len(), 8);
    assert!(evidence.image_dependence.iter().any(|difference| difference.abs() > 1e-3), "the image counts");
    let [saliency] = &evidence.saliency[..] else { panic!("one image") };
    assert_eq!((saliency.rows, saliency.cols, saliency.per_sentence.len()), (2, 3, evidence.sentences.len()));
    assert!(saliency.per_sentence.iter().flatten().any(|drop| drop.abs() > 1e-4), "covering it counts");
    assert!(evidence.sentences.iter().all(|sentence| sentence.min_logprob <= sentence.mean_logprob));

    // The same seed draws the same; what is not asked for does not come.
    assert_eq!(run(&mut model, question(picture.clone(), wanted)).evidence, answer.evidence);
    let nothing = EvidenceOptions { sentences: false, alternatives: 0, ..EvidenceOptions::default() };
    let bare = run(&mut model, question(picture, nothing));
    assert_eq!((bare.evidence, bare.text), (infer::Evidence::default(), answer.text));
}

#[test]
fn an_answer_about_a_black_image_does_not_depend_on_it() {
    for family in ["llava", "ved_vit_gpt2", "florence2", "qwen2_vl", "smolvlm"] {
        let Some(folder) = reference(family) else { return };
        let mut model = model(&folder);
        let wanted = EvidenceOptions { image_dependence: true, occlusion: Some([2, 2]), ..EvidenceOptions::default() };
        let black = Image::new(64, 48, vec![0; 64 * 48 * 3]).expect("an image");
        let answer = run(&mut model, question(black, wanted));
        assert_eq!(answer.evidence.image_dependence.len(), answer.tokens.len(), "{family}");
        // Teacher-forced in one pass, the tokens are as likely as they were one by one.
        let differences = answer.evidence.image_dependence.iter();
        let drops = answer.evidence.saliency.iter().flat_map(|saliency| saliency.per_sentence.iter().flatten());
        for difference in differences.chain(drops) {
            assert!(difference.abs() < 1e-3, "{family}: {difference}");
        }
    }
}

#[test]
fn images_are_seen_once_and_prompts_may_be_messages() {
    let Some(folder) = reference("llava") else { return };
    let mut model = model(&folder);
    let first = question(image(&folder.join("image0.png")), EvidenceOptions::default());
    let answer = run(&mut model, first.clone());
    assert!(answer.timings_ms.vision > 0.0);
    let again = run(&mut model, first.clone());
    assert_eq!((again.timings_ms.vision, &again.text), (0.0, &answer.text));
    let content = json!([{"type": "image"}, {"type": "text", "text": "Describe the effusion."}]);
    let messages = json!([{"role": "user", "content": content}]);
    let by_messages = run(&mut model, Request { prompt: None, messages, ..first.clone() });
    assert_eq!((by_messages.input_ids, by_messages.text), (answer.input_ids.clone(), answer.text.clone()));
    let rendered = answer.prompt.clone();
    let by_text = run(&mut model, Request { prompt: rendered, ..first });
    assert_eq!((by_text.input_ids, by_text.text), (answer.input_ids, answer.text));
    assert_eq!(answer.model_digest.len(), 64);
}

#[test]
fn several_images_and_none() {
    let Some(folder) = reference("llava") else { return };
    let mut model = model(&folder);
    let (one, two) = (image(&folder.join("image0.png")), image(&folder.join("image1.png")));
    let ask = |images: Vec<Image>| Request {
        images,
        generation: json!({"max_new_tokens": 4}),
        prompt: Some("Compare.".to_owned()),
        ..Request::default()
    };
    let tokens = |answer: &Answer| answer.input_ids.iter().filter(|id| **id == 4).count();
    let both = run(&mut model, ask(vec![one.clone(), two.clone()]));
    let turned = run(&mut model, ask(vec![two, one.clone()]));
    assert_eq!((tokens(&both), tokens(&turned), tokens(&run(&mut model, ask(vec![])))), (32, 32, 0));
    assert_ne!(both.logits_step1, turned.logits_step1, "the order of images counts");

    let mut check = |request: Request, part: &str| {
        let error = model.run(&request, &Cancel::new()).expect_err(part).to_string();
        assert!(error.contains(part), "{part:?} not in {error:?}");
    };
    check(
        Request { prompt: Some("<image>\n<image>\nwhat".to_owned()), ..ask(vec![one.clone()]) },
        "2 places for images",
    );
    check(Request { prompt: None, ..ask(vec![one.clone()]) }, "no prompt");
    check(Request { messages: json!([{"role": "user"}]), ..ask(vec![one.clone()]) }, "give one of them");
    check(Request { prompt_name: Some("report".to_owned()), ..ask(vec![one.clone()]) }, "give one of them");
    check(
        Request { prompt_name: Some("report".to_owned()), prompt: None, ..ask(vec![one]) },
        "[prompts] of model.toml has: none",
    );
}

fn change(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut content = json(file);
    change(&mut content);
    fs::write(file, content.to_string()).expect("written");
}

#[test]
fn an_unknown_family_runs_as_the_manifest_says_when_the_counts_agree() {
    let Some(folder) = reference("llava") else { return };
    let dir = copy(&folder);
    change(&dir.path().join("config.json"), |config| config["model_type"] = "never_heard_of".into());
    let bundle = Bundle::open(dir.path()).expect("a folder of graphs");
    let refused =
        Model::load(&bundle, &runtime(), &SessionOptions::default()).map(|_| ()).expect_err("unknown").to_string();
    assert!(refused.contains("\"never_heard_of\"") && refused.contains("family = \"llava\""), "{refused}");
    fs::write(dir.path().join("model.toml"), "family = 'llava'").expect("written");
    let ask = || question(image(&folder.join("image0.png")), EvidenceOptions::default());
    let known = run(&mut model(&folder), ask());
    let unknown = run(&mut model(dir.path()), ask());
    assert_eq!((unknown.generated_ids, unknown.family.as_str()), (known.generated_ids, "llava"));

    change(&dir.path().join("processor_config.json"), |config| config["patch_size"] = 28.into());
    let error = model(dir.path()).run(&ask(), &Cancel::new()).expect_err("the counts differ").to_string();
    assert!(error.contains("4 image tokens") && error.contains("16 features"), "{error}");
}

#[test]
fn genai_names_its_own_files_and_inputs() {
    let Some(folder) = reference("llava") else { return };
    let dir = copy(&folder);
    for (from, to) in [("vision_encoder", "vision"), ("embed_tokens", "embedding"), ("decoder_model_merged", "text")] {
        let (from, to) = (dir.path().join(format!("onnx/{from}.onnx")), dir.path().join(format!("{to}.onnx")));
        fs::rename(from, to).expect("renamed");
    }
    let part =
        |file: &str, inputs: Value, outputs: Value| json!({"filename": file, "inputs": inputs, "outputs": outputs});
    let config = json!({"model": {
        "type": "llava", "eos_token_id": 2, "image_token_id": 4,
        "vision": part("vision.onnx", json!({"pixel_values": "pixel_values"}), json!({"image_features": "image_features"})),
        "embedding": part("embedding.onnx", json!({"input_ids": "input_ids"}), json!({"inputs_embeds": "inputs_embeds"})),
        "decoder": part(
            "text.onnx",
            json!({"inputs_embeds": "inputs_embeds", "past_key_names": "past_key_values.%d.key",
                "past_value_names": "past_key_values.%d.value"}),
            json!({"logits": "logits", "present_key_names": "present.%d.key", "present_value_names": "present.%d.value"}),
        ),
    }, "search": {"max_length": 512}});
    fs::write(dir.path().join("genai_config.json"), config.to_string()).expect("written");
    let ask = || question(image(&folder.join("image0.png")), EvidenceOptions::default());
    let expected = run(&mut model(&folder), ask());
    assert_eq!(run(&mut model(dir.path()), ask()).generated_ids, expected.generated_ids);
}

#[test]
fn extreme_images_are_answered_or_refused_in_words() {
    for family in ["llava", "qwen2_vl", "smolvlm", "gemma3", "siglip_zeroshot", "ved_vit_gpt2"] {
        let Some(folder) = reference(family) else { return };
        let mut model = model(&folder);
        for (width, height) in [(1, 1), (3000, 1)] {
            let picture = Image::new(width, height, vec![9; width as usize * height as usize * 3]).expect("an image");
            let mut request = question(picture, EvidenceOptions::default());
            if family == "siglip_zeroshot" {
                (request.prompt, request.labels) = (None, vec!["normal".to_owned()]);
            }
            if let Err(error) = model.run(&request, &Cancel::new()) {
                let error = error.to_string();
                assert!(error.contains(&format!("{width} x {height}")), "{family}: {error}");
            }
        }
    }
    let error = Image::new(20_000, 20_000, Vec::new()).expect_err("too large").to_string();
    assert!(error.contains("20000 x 20000") && error.contains("reduce it"), "{error}");
}

#[test]
fn labels_are_scored_for_every_image() {
    let Some(folder) = reference("clip_zeroshot") else { return };
    let mut model = model(&folder);
    let images = vec![image(&folder.join("image0.png")), image(&folder.join("image1.png"))];
    let labels: Vec<String> = ["effusion", "nothing at all to be seen"].map(str::to_owned).to_vec();
    let request = Request { images, labels, ..Request::default() };
    let answer = run(&mut model, request.clone());
    let scores = answer.zero_shot.expect("a zero-shot model");
    assert_eq!((scores.probs.len(), scores.probs[0].len()), (2, 2));
    for probabilities in &scores.probs {
        assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
    let mut check = |request: Request, part: &str| {
        let error = model.run(&request, &Cancel::new()).expect_err(part).to_string();
        assert!(error.contains(part), "{part:?} not in {error:?}");
    };
    check(Request { labels: Vec::new(), ..request.clone() }, "no labels");
    check(Request { images: Vec::new(), ..request.clone() }, "0 images");
    check(Request { prompt: Some("a radiograph".to_owned()), ..request }, "{}");
}
