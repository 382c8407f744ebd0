//! Against Transformers, and what is refused.

use std::path::Path;

use super::*;

fn template(source: &str) -> Template {
    let tokens = json!({"bos_token": "<s>", "eos_token": "</s>", "image_token": "<image>"});
    Template::new("chat_template.jinja", source, tokens.as_object().expect("an object").clone())
}

#[test]
fn renders_what_transformers_renders() {
    let cases: Value = serde_json::from_str(include_str!("../../tests/data/templates.json")).expect("valid JSON");
    let mut wrong = Vec::new();
    for case in cases.as_array().expect("cases") {
        let mut arguments = case["arguments"].clone();
        arguments["now"] = "2026-03-07T09:05:01".into();
        let source = case["template"].as_str().expect("a template");
        let found = template(source).render(&case["messages"], &arguments).map_err(|error| error.to_string());
        match (&found, case["expected"].as_str()) {
            (Ok(found), Some(expected)) if found == expected => {}
            (Err(_), None) => {}
            (_, expected) => wrong.push(format!("{source:?}\n  gives  {found:?}\n  not    {expected:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reference_models_are_asked_in_the_same_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vlm");
    if !root.exists() {
        println!("skipped: {} is not here", root.display());
        return;
    }
    let mut count = 0;
    for family in fs::read_dir(&root).expect("readable") {
        let folder = family.expect("readable").path();
        let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
        let (Some(source), Some(expected)) = (text("chat_template.jinja"), text("expected.json")) else { continue };
        let config: Value = serde_json::from_str(&text("tokenizer_config.json").unwrap_or_default()).expect("JSON");
        let expected: Value = serde_json::from_str(&expected).expect("JSON");
        let template = Template::new("chat_template.jinja", &source, special_tokens(&config));
        assert!(template.takes_parts(), "{}", folder.display());
        for case in expected["cases"].as_array().expect("cases") {
            let Some(prompt) = case["prompt_template"].as_str() else { continue };
            let found = template.render(&case["messages"], &json!({"add_generation_prompt": true}));
            assert_eq!(found.expect("renders"), prompt, "{}", folder.display());
            count += 1;
        }
    }
    assert!(count > 0, "the reference has prompts");
}

#[test]
fn says_what_went_wrong_and_where() {
    let check = |source: &str, parts: &[&str]| {
        let error = template(source).render(&json!([]), &Value::Null).expect_err(source).to_string();
        for part in ["chat_template.jinja", "line"].iter().chain(parts) {
            assert!(error.contains(part), "{part:?} not in {error:?}");
        }
    };
    check("\n\n{{ raise_exception('roles must alternate') }}", &["line 3", "roles must alternate"]);
    check("\n{% if %}", &["line 2", "syntax error"]);
    check("{{ missing.attribute }}", &["line 1", "undefined"]);
    check("{{ 'x' | nothing }}", &["line 1", "nothing"]);
    check("{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}", &["come to an end"]);
    let argument = template("x").render(&json!([]), &json!({"now": "yesterday"})).expect_err("no time").to_string();
    assert!(argument.contains("yesterday") && argument.contains("2026-11-22"), "{argument}");
}

#[test]
fn tells_templates_of_texts_from_those_of_parts() {
    let check = |source: &str, expected: bool| assert_eq!(template(source).takes_parts(), expected, "{source}");
    check("{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}", true);
    check("{% for m in messages %}{{ m.role + m.content }}{% endfor %}", false);
    check("{% for m in messages %}{{ m.content }}{% endfor %}", false);
}

#[test]
fn finds_the_template_of_a_folder() {
    let check = |files: &[(&str, &str)], expected: std::result::Result<Option<&str>, &str>| {
        let folder = tempfile::tempdir().expect("a folder");
        let mut all = vec![("encoder_model.onnx", ""), ("decoder_model_merged.onnx", ""), ("config.json", "{}")];
        all.extend(files);
        for (name, text) in &all {
            fs::write(folder.path().join(name), text).expect("written");
        }
        let bundle = Bundle::open(folder.path()).expect("a bundle");
        match (Template::load(&bundle), expected) {
            (Ok(found), Ok(expected)) => {
                let rendered = found.map(|template| template.render(&json!([]), &Value::Null).expect("renders"));
                assert_eq!(rendered.as_deref(), expected, "{files:?}");
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, expected) => panic!("{files:?}: {found:?} instead of {expected:?}"),
        }
    };
    let config =
        ("tokenizer_config.json", r#"{"bos_token": {"content": "<s>"}, "chat_template": "config {{ bos_token }}"}"#);
    let json = ("chat_template.json", r#"{"chat_template": "json {{ bos_token }}"}"#);
    let jinja = ("chat_template.jinja", "jinja");
    let list = r#"{"chat_template": [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "d"}]}"#;
    check(&[], Ok(None));
    check(&[config], Ok(Some("config <s>")));
    check(&[config, json], Ok(Some("json <s>")));
    check(&[config, json, jinja], Ok(Some("jinja")));
    check(&[("tokenizer_config.json", list)], Ok(Some("d")));
    check(&[("tokenizer_config.json", r#"{"chat_template": [{"name": "rag", "template": ""}]}"#)], Err("only rag"));
    check(&[("tokenizer_config.json", r#"{"chat_template": 3}"#)], Err("neither a text nor a list"));
    check(&[("chat_template.jinja", "a\n{% if %}")], Err("chat_template.jinja: line 2: syntax error"));
}
