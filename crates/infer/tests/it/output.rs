//! What a grammar makes of models that would say anything: text that is valid as a whole, or says that it was cut.

use std::{fs, path::Path};

use infer::{Answer, Bundle, Cancel, EvidenceOptions, Grammar, Model, Output, Request, SessionOptions, StoppedBy};
use serde_json::{Value, json};

use crate::support::{copy, image, model, reference, runtime};

/// Every family that writes.
const WRITING: [&str; 8] =
    ["florence2", "gemma3", "llava", "paligemma2", "qwen2_vl", "smolvlm", "ved_swin_gpt2", "ved_vit_gpt2"];

/// A report in sections and findings.
fn report() -> Value {
    let text = json!({"type": "string", "maxLength": 8});
    let finding = json!({
        "type": "object", "additionalProperties": false, "required": ["name", "presence", "laterality"],
        "properties": {
            "name": {"enum": ["effusion", "nodule"]},
            "presence": {"enum": ["present", "absent", "uncertain"]},
            "laterality": {"enum": ["left", "right", "both", "none"]},
        },
    });
    json!({
        "type": "object", "additionalProperties": false, "required": ["findings", "impression"],
        "properties": {
            "findings": {"type": "array", "items": finding, "minItems": 1, "maxItems": 2}, "impression": text,
        },
    })
}

/// What the schema says, held against a text.
fn is_report(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    let keys: Vec<&String> = value.as_object().expect(text).keys().collect();
    assert_eq!(keys, ["findings", "impression"], "{text}");
    assert!(value["impression"].as_str().is_some_and(|words| words.chars().count() <= 8), "{text}");
    let findings = value["findings"].as_array().expect(text);
    assert!((1..=2).contains(&findings.len()), "{text}");
    for finding in findings {
        let one_of = |key: &str, of: &[&str]| finding[key].as_str().is_some_and(|value| of.contains(&value));
        assert_eq!(finding.as_object().expect(text).len(), 3, "{text}");
        assert!(one_of("name", &["effusion", "nodule"]), "{text}");
        assert!(one_of("presence", &["present", "absent", "uncertain"]), "{text}");
        assert!(one_of("laterality", &["left", "right", "both", "none"]), "{text}");
    }
}

const SENTENCE: &str = "(no|small|large) (effusion|nodule)( [0-9]{1,3} mm)?\\.";

fn is_sentence(text: &str) {
    let rest = ["no ", "small ", "large "].iter().find_map(|word| text.strip_prefix(word));
    let rest = rest.and_then(|rest| rest.strip_prefix("effusion").or_else(|| rest.strip_prefix("nodule")));
    let rest = rest.and_then(|rest| rest.strip_suffix('.')).unwrap_or_else(|| panic!("{text:?}"));
    let digits = rest.strip_prefix(' ').and_then(|rest| rest.strip_suffix(" mm"));
    let is_number = |digits: &str| (1..=3).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    assert!(rest.is_empty() || digits.is_some_and(is_number), "{text:?}");
}

fn request(folder: &Path, grammar: Option<Grammar>, generation: Value) -> Request {
    let writes_freely = !folder.join("config.json").exists() || !folder.ends_with("florence2");
    let prompt = if writes_freely { "Describe the effusion." } else { "<CAPTION>" };
    let own = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ved_"));
    Request {
        images: vec![image(&folder.join("image0.png"))],
        prompt: (!own).then(|| prompt.to_owned()),
        generation,
        output: grammar.map_or(Output::Manifest, Output::Bound),
        ..Request::default()
    }
}

fn run(model: &mut Model, request: &Request) -> Answer {
    model.run(request, &Cancel::new()).expect("answers")
}

/// Whether a model's text is what a grammar asks for, or is said not to be.
fn check_valid(what: &str, answer: &Answer, is_valid: fn(&str)) -> bool {
    match answer.complete.unwrap_or_else(|| panic!("{what}: it was bound")) {
        true => is_valid(&answer.text),
        false => assert_eq!(answer.stopped_by, StoppedBy::Length, "{what}: {}", answer.text),
    }
    let pieces: Vec<&str> = answer.tokens.iter().map(|token| &answer.text[token.text.clone()]).collect();
    assert_eq!(pieces.concat(), answer.text, "{what}: the pieces make the text");
    assert!(answer.tokens.iter().all(|token| token.logprob.is_finite() && token.logprob <= 0.0), "{what}");
    answer.complete == Some(true)
}

#[test]
fn what_ends_is_valid_whatever_the_model_would_say() {
    let (mut complete, mut count) = (0, 0);
    for family in WRITING {
        let Some(folder) = reference(family) else { return };
        let mut model = model(&folder);
        let grammars = [
            (Grammar::JsonSchema(report()), is_report as fn(&str), 120),
            (Grammar::Regex(SENTENCE.to_owned()), is_sentence, 40),
        ];
        for (grammar, is_valid, length) in grammars {
            for ways in [
                json!({}),
                json!({"num_beams": 3}),
                json!({"num_beams": 4, "length_penalty": 2.0, "early_stopping": true}),
                json!({"do_sample": true, "seed": 3, "temperature": 1.5}),
                json!({"no_repeat_ngram_size": 2, "repetition_penalty": 1.5}),
                json!({"min_new_tokens": length}),
            ] {
                let mut generation = ways.clone();
                generation["max_new_tokens"] = length.into();
                let what = format!("{family} {ways} {grammar:?}");
                let request = request(&folder, Some(grammar.clone()), generation);
                let answer = run(&mut model, &request);
                complete += usize::from(check_valid(&what, &answer, is_valid));
                count += 1;
                if ways == json!({}) || ways.get("seed").is_some() {
                    assert_eq!(run(&mut model, &request).generated_ids, answer.generated_ids, "{what}: the same again");
                }
            }
        }
    }
    assert!(complete * 2 > count, "most end within the limit: {complete} of {count}");
}

#[test]
fn samples_are_bound_too() {
    for family in ["llava", "ved_vit_gpt2", "qwen2_vl"] {
        let Some(folder) = reference(family) else { return };
        let grammar = Grammar::Regex("(no|small) (effusion|nodule)\\.".to_owned());
        let evidence = EvidenceOptions { samples: 5, seed: 11, ..EvidenceOptions::default() };
        let request = Request { evidence, ..request(&folder, Some(grammar), json!({"max_new_tokens": 60})) };
        let answer = run(&mut model(&folder), &request);
        assert_eq!(answer.evidence.samples.len(), 5);
        answer.evidence.samples.iter().for_each(|sample| is_sentence(sample));
        assert_eq!(run(&mut model(&folder), &request).evidence.samples, answer.evidence.samples, "seeded");
    }
}

#[test]
fn a_text_cut_by_its_length_says_so() {
    let Some(folder) = reference("llava") else { return };
    let mut model = model(&folder);
    for beams in [1, 3] {
        let generation = json!({"max_new_tokens": 5, "num_beams": beams});
        let answer = run(&mut model, &request(&folder, Some(Grammar::JsonSchema(report())), generation));
        assert_eq!((answer.complete, answer.stopped_by, answer.tokens.len()), (Some(false), StoppedBy::Length, 5));
        assert!(answer.text.starts_with('{'), "{}", answer.text);
    }
    let free = run(&mut model, &request(&folder, None, json!({"max_new_tokens": 5})));
    assert_eq!(free.complete, None);
}

#[test]
fn log_probabilities_are_the_models_own() {
    let Some(folder) = reference("llava") else { return };
    let mut model = model(&folder);
    let evidence = EvidenceOptions { alternatives: 100, ..EvidenceOptions::default() };
    let any = Some(Grammar::Regex("(.|\n)*".to_owned()));
    for beams in [1, 2] {
        let generation = json!({"max_new_tokens": 6, "num_beams": beams});
        let mut ask = |grammar: Option<Grammar>| {
            run(&mut model, &Request { evidence: evidence.clone(), ..request(&folder, grammar, generation.clone()) })
        };
        let (free, bound) = (ask(None), ask(any.clone()));
        assert_eq!(bound.logits_step1, free.logits_step1);
        let first = &bound.tokens[0];
        let known = bound.evidence.alternatives.iter().find(|other| other.id == first.id).expect("among the best");
        assert!((known.logprob - first.logprob).abs() < 1e-5, "{known:?} {first:?}");
    }
    // What is forced is as unlikely as the model finds it.
    let grammar = Some(Grammar::Regex("zq".to_owned()));
    let unlikely = run(&mut model, &request(&folder, grammar, json!({"max_new_tokens": 6})));
    let (first, likeliest) = (&unlikely.tokens[0], &unlikely.evidence.alternatives[0]);
    assert!(first.id != likeliest.id && first.logprob < likeliest.logprob, "{first:?} {likeliest:?}");
    assert!((unlikely.text.as_str(), unlikely.complete) == ("zq", Some(true)), "{}", unlikely.text);
}

#[test]
fn what_is_wrong_with_a_grammar_is_said() {
    let Some(folder) = reference("llava") else { return };
    let mut model = model(&folder);
    let mut check = |request: Request, part: &str| {
        let error = model.run(&request, &Cancel::new()).expect_err(part).to_string();
        assert!(error.starts_with("request: ") && error.contains(part), "{part:?} not in {error:?}");
    };
    check(request(&folder, Some(Grammar::Regex("(".to_owned())), Value::Null), "output grammar");
    check(request(&folder, Some(Grammar::JsonSchema(json!({"type": "nothing"}))), Value::Null), "output grammar");
    check(request(&folder, Some(Grammar::Regex("a".to_owned())), json!({"eos_token_id": null})), "eos_token_id");
    let Some(scores) = reference("clip_zeroshot") else { return };
    let mut scorer = crate::support::model(&scores);
    let labelled = Request {
        images: vec![image(&scores.join("image0.png"))],
        labels: vec!["a".to_owned()],
        output: Output::Bound(Grammar::Regex("a".to_owned())),
        ..Request::default()
    };
    let error = scorer.run(&labelled, &Cancel::new()).expect_err("no text").to_string();
    assert!(error.contains("writes no text"), "{error}");
}

#[test]
fn a_manifest_binds_what_its_model_writes() {
    let Some(folder) = reference("ved_vit_gpt2") else { return };
    let dir = copy(&folder);
    let path = dir.path().join("model.toml");
    let load = |manifest: &str| {
        fs::write(&path, manifest).expect("written");
        let bundle = Bundle::open(dir.path())?;
        Model::load(&bundle, &runtime(), &SessionOptions { threads: 1, ..SessionOptions::default() })
    };
    let ask = |output: Output| Request { output, ..request(&folder, None, json!({"max_new_tokens": 60})) };
    let mut bound = load("[output]\nregex = \"(no|small) (effusion|nodule)\\\\.\"\n").expect("loads");
    bound.warm_up().expect("warms up");
    let answer = run(&mut bound, &ask(Output::Manifest));
    assert_eq!(answer.complete, Some(true));
    is_sentence(&answer.text);
    assert_eq!(run(&mut bound, &ask(Output::Free)).complete, None);
    let other = run(&mut bound, &ask(Output::Bound(Grammar::Regex("[ab]{3}".to_owned()))));
    assert!(other.text.len() == 3 && other.complete == Some(true), "{}", other.text);

    let refused = |manifest: &str, parts: &[&str]| {
        let error = load(manifest).map(|_| ()).expect_err(manifest).to_string();
        for part in parts.iter().chain(&["model "]) {
            assert!(error.contains(part), "{part:?} not in {error:?}");
        }
    };
    refused("[output]\nregex = \"(\"\n", &["model.toml", "[output] regex", "output grammar"]);
    refused("[output]\njson_schema = { type = 'nothing' }\n", &["model.toml", "[output] json_schema"]);
    refused("[output]\njson_schema = 'report.json'\n", &["report.json", "missing", "[output] json_schema"]);
    refused("[output]\njson_schema = '../report.json'\n", &["model.toml", "../report.json", "the model's folder"]);
    refused("[output]\njson_schema = 'a'\nregex = 'b'\n", &["model.toml", "line 1", "both"]);
    fs::write(dir.path().join("report.json"), "{").expect("written");
    refused("[output]\njson_schema = 'report.json'\n", &["report.json", "not valid JSON"]);

    fs::write(dir.path().join("report.json"), report().to_string()).expect("written");
    let digest = Bundle::open(dir.path()).expect("opens").digest;
    let mut structured = load("[output]\njson_schema = 'report.json'\n").expect("loads");
    check_valid("of a file", &run(&mut structured, &ask(Output::Manifest)), is_report);
    fs::write(dir.path().join("report.json"), json!({"type": "object"}).to_string()).expect("written");
    assert_ne!(Bundle::open(dir.path()).expect("opens").digest, digest, "another schema makes another model");
}

#[test]
fn a_manifest_states_prompts_labels_and_calibration() {
    let Some(folder) = reference("llava") else { return };
    let dir = copy(&folder);
    fs::write(
        dir.path().join("model.toml"),
        "prompt = 'Describe.'\n[prompts]\nimpression = 'What is the impression?'\nreport = 'Report.'\n",
    )
    .expect("written");
    let mut model = model(dir.path());
    let ask = |prompt: Option<&str>, name: Option<&str>| Request {
        prompt: prompt.map(str::to_owned),
        prompt_name: name.map(str::to_owned),
        ..request(&folder, None, json!({"max_new_tokens": 2}))
    };
    let shown = |answer: Answer| answer.prompt.unwrap_or_default();
    assert!(shown(run(&mut model, &ask(None, None))).contains("Describe."));
    assert!(shown(run(&mut model, &ask(None, Some("impression")))).contains("What is the impression?"));
    let error = model.run(&ask(None, Some("findings")), &Cancel::new()).expect_err("unknown").to_string();
    assert!(error.contains("\"findings\"") && error.contains("impression, report"), "{error}");
    let error = model.run(&ask(Some("Why?"), Some("report")), &Cancel::new()).expect_err("both").to_string();
    assert!(error.contains("give one of them"), "{error}");

    let bundle = |manifest: &str| {
        fs::write(dir.path().join("model.toml"), manifest).expect("written");
        Bundle::open(dir.path()).expect("opens")
    };
    assert_eq!(bundle("").calibration, None);
    assert_eq!(bundle("calibration = 'other.json'\n").missing, ["other.json (calibration of model.toml)"]);
    fs::write(dir.path().join("calibration.json"), "{}").expect("written");
    let found = bundle("");
    assert_eq!(found.calibration.as_deref(), Some("calibration.json"));
    assert!(found.files.iter().any(|file| file.name == "calibration.json"), "its digest counts");

    let Some(scores) = reference("siglip_zeroshot") else { return };
    let dir = copy(&scores);
    fs::write(dir.path().join("model.toml"), "labels = ['effusion, left', 'normal']\n").expect("written");
    let mut scorer = crate::support::model(dir.path());
    scorer.warm_up().expect("warms up");
    let request = |labels: &[&str]| Request {
        images: vec![image(&scores.join("image0.png"))],
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        ..Request::default()
    };
    let labels = |answer: Answer| answer.zero_shot.expect("scores").labels;
    assert_eq!(labels(run(&mut scorer, &request(&[]))), ["effusion, left", "normal"]);
    assert_eq!(labels(run(&mut scorer, &request(&["nodule"]))), ["nodule"]);
    fs::write(dir.path().join("model.toml"), "[output]\nform = 'text'\n").expect("written");
    let error = Model::load(&Bundle::open(dir.path()).expect("opens"), &runtime(), &SessionOptions::default())
        .expect_err("it writes nothing")
        .to_string();
    assert!(error.contains("model.toml") && error.contains("[output]"), "{error}");
}
