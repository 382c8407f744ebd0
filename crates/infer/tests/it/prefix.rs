//! Another question about the same images goes on from the cache of the last, and answers what it would have answered.

use infer::{Answer, Bundle, Cancel, EvidenceOptions, Image, Model, Request, SessionOptions};
use serde_json::{Value, json};

use crate::support::{image, reference, runtime};

fn load(folder: &std::path::Path, reuse_prompts: bool) -> Model {
    let bundle = Bundle::open(folder).expect("the folder is a model");
    let options = SessionOptions { threads: 1, reuse_prompts, ..SessionOptions::default() };
    Model::load(&bundle, &runtime(), &options).expect("the model loads")
}

fn ask(images: &[Image], prompt: Option<&str>, generation: Value, samples: usize) -> Request {
    Request {
        images: images.to_vec(),
        prompt: prompt.map(str::to_owned),
        generation,
        evidence: EvidenceOptions { samples, seed: 5, ..EvidenceOptions::default() },
        ..Request::default()
    }
}

fn run(model: &mut Model, request: &Request) -> Answer {
    model.run(request, &Cancel::new()).expect("answers")
}

/// The same answer, token for token.
fn same(what: &str, with: &Answer, without: &Answer) {
    assert_eq!((&with.generated_ids, &with.text), (&without.generated_ids, &without.text), "{what}");
    for (with, without) in with.tokens.iter().zip(&without.tokens) {
        assert!((with.logprob - without.logprob).abs() <= 1e-4, "{what}: {with:?} instead of {without:?}");
    }
    assert_eq!(with.evidence.samples, without.evidence.samples, "{what}");
    assert_eq!(without.reused_prompt_tokens, 0, "{what}");
}

/// Questions about one image and then two, by which the model is known to answer alike; how many tokens were reused for
/// each.
fn questions(family: &str) -> Option<Vec<usize>> {
    let folder = reference(family)?;
    let (one, two) = (image(&folder.join("image0.png")), image(&folder.join("image1.png")));
    let (mut with, mut without) = (load(&folder, true), load(&folder, false));
    let single = ["florence2", "ved_vit_gpt2"].contains(&family);
    let words = |prompt: &'static str| match family {
        "florence2" => Some("<CAPTION>"),
        "ved_vit_gpt2" => None,
        _ => Some(prompt),
    };
    let first = words("Describe the effusion.");
    let second = words("Describe the heart and the lungs of this study in one sentence.");
    let short = || json!({"max_new_tokens": 8, "eos_token_id": null});
    let mut requests = vec![
        ask(std::slice::from_ref(&one), first, short(), 0),
        ask(std::slice::from_ref(&one), second, short(), 0),
        ask(std::slice::from_ref(&one), first, short(), 0),
        ask(std::slice::from_ref(&one), second, json!({"max_new_tokens": 8, "num_beams": 3}), 0),
        ask(std::slice::from_ref(&one), second, json!({"max_new_tokens": 8, "do_sample": true, "seed": 2}), 0),
        ask(std::slice::from_ref(&one), words("Why?"), short(), 0),
        ask(std::slice::from_ref(&one), first, short(), 3),
        // Other images, and the first again.
        ask(std::slice::from_ref(&two), first, short(), 0),
        ask(std::slice::from_ref(&one), first, short(), 0),
    ];
    if !single {
        requests.push(ask(&[one.clone(), two.clone()], first, short(), 0));
        requests.push(ask(&[one.clone(), two.clone()], second, short(), 0));
        requests.push(ask(&[two, one], second, short(), 0));
    }
    let answer = |(index, request): (usize, &Request)| {
        let found = run(&mut with, request);
        same(&format!("{family}, question {index}"), &found, &run(&mut without, request));
        found.reused_prompt_tokens
    };
    let reused = requests.iter().enumerate().map(answer).collect();
    // Whatever was asked before, the same question has the same answer, bit for bit.
    let again = run(&mut with, &requests[0]);
    let fresh = run(&mut load(&folder, true), &requests[0]);
    assert_eq!((again.tokens, again.evidence, again.logits_step1), (fresh.tokens, fresh.evidence, fresh.logits_step1));
    Some(reused)
}

#[test]
fn answers_are_the_same_with_and_without() {
    for family in ["llava", "qwen2_vl", "gemma3", "smolvlm"] {
        let Some(reused) = questions(family) else { return };
        println!("{family}: {reused:?}");
        assert_eq!(reused[0], 0, "{family}");
        assert!(reused[1..7].iter().all(|tokens| *tokens > 4), "{family}: {reused:?}");
        // Nothing of other images, or of the same in another order, is taken.
        assert_eq!((reused[7], reused[8], reused[9], reused[11]), (0, 0, 0, 0), "{family}: {reused:?}");
        assert!(reused[10] > reused[2], "{family}: {reused:?}");
    }
}

#[test]
fn nothing_is_reused_where_it_could_change_an_answer() {
    // Both ways over the prompt; an encoder of its own; read through cross attention.
    for family in ["paligemma2", "florence2", "ved_vit_gpt2"] {
        let Some(reused) = questions(family) else { return };
        assert!(reused.iter().all(|tokens| *tokens == 0), "{family}: {reused:?}");
    }
    let Some(reused) = questions("llava_quant") else { return };
    println!("llava_quant: {reused:?}");
}

#[test]
fn a_question_that_was_stopped_leaves_nothing_behind() {
    let Some(folder) = reference("llava") else { return };
    let mut model = load(&folder, true);
    let images = [image(&folder.join("image0.png"))];
    let request = |prompt| ask(&images, Some(prompt), json!({"max_new_tokens": 8, "eos_token_id": null}), 0);
    let expected = run(&mut load(&folder, false), &request("Describe the effusion."));
    for prompt in ["Describe the heart.", "Describe the lungs.", "Describe the heart."] {
        run(&mut model, &request(prompt));
        let cancel = Cancel::new();
        cancel.cancel();
        model.run(&request("Describe the effusion."), &cancel).expect_err("it was stopped");
        let wrong = Request { generation: json!({"num_beam": 2}), ..request("Describe the effusion.") };
        model.run(&wrong, &Cancel::new()).expect_err("an unknown option");
        same(prompt, &run(&mut model, &request("Describe the effusion.")), &expected);
    }
}
