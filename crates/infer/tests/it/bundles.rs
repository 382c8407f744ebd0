//! Model folders: what is recognised, what is refused and with which words.

use std::{fs, path::Path};

use infer::{Bundle, Error, Model, SessionOptions};

use crate::support::{reference, runtime};

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        fs::write(path, content).expect("written");
    }
    dir
}

const WHOLE: [(&str, &str); 5] = [
    ("encoder_model.onnx", "e"),
    ("decoder_model_merged.onnx", "d"),
    ("config.json", r#"{"model_type": "vision-encoder-decoder"}"#),
    ("tokenizer.json", "{}"),
    ("preprocessor_config.json", "{}"),
];

#[test]
fn the_digest_is_of_what_defines_the_model() {
    let open = |files: &[(&str, &str)]| Bundle::open(folder(files).path()).expect("a model");
    let whole = open(&WHOLE);
    assert_eq!((whole.family.as_str(), whole.missing.len(), whole.files.len()), ("vision-encoder-decoder", 0, 5));
    assert_eq!(whole.digest.len(), 64);
    assert_eq!(whole.files[0].sha256.len(), 64);

    let with = |name: &'static str, content: &'static str| {
        let mut files = WHOLE.to_vec();
        files.retain(|(existing, _)| *existing != name);
        files.push((name, content));
        open(&files).digest
    };
    assert_eq!(with("README.md", "words"), whole.digest, "words do not define a model");
    assert_ne!(with("decoder_model_merged.onnx", "other"), whole.digest);
    assert_ne!(with("decoder_model_merged.onnx_data", "weights"), whole.digest);
    assert_ne!(with("model.toml", "prompt = 'p'"), whole.digest);
    let mut moved = WHOLE.to_vec();
    moved[0].0 = "onnx/encoder_model.onnx";
    moved[1].0 = "onnx/decoder_model_merged.onnx";
    assert_eq!(open(&moved).digest, whole.digest, "a folder for the graphs does not make another model");
}

#[test]
fn refuses_with_the_file_and_the_layouts() {
    let check = |files: &[(&str, &str)], parts: &[&str]| {
        let error = Bundle::open(folder(files).path()).expect_err("refused").to_string();
        for part in parts {
            assert!(error.contains(part), "{part:?} not in {error:?}");
        }
    };
    let layouts = "encoder_model.onnx + decoder_model_merged.onnx";
    check(&[], &["encoder_model.onnx is missing", "no .onnx file", layouts]);
    check(
        &[("onnx/encoder_model.onnx", "")],
        &["decoder_model_merged.onnx is missing", "onnx/encoder_model.onnx", layouts],
    );
    check(&[("decoder_model_merged.onnx", "")], &["encoder_model.onnx is missing"]);
    check(&[("genai_config.json", "{}")], &["not supported", "onnxruntime-genai", layouts]);
    check(&[("onnx/vision_encoder_q4.onnx", "")], &["not supported", "onnx-community", "vision_encoder_q4.onnx"]);
    check(&[("export.json", "{}")], &["not supported", "transformers 5"]);
    check(&[("onnx/model.onnx", "")], &["not supported", "single graph"]);
    check(
        &[("encoder_model_fp16.onnx", ""), ("encoder_model_int8.onnx", ""), ("decoder_model_merged.onnx", "")],
        &["encoder_model_fp16.onnx", "encoder_model_int8.onnx", "keep one"],
    );
    let mut unknown_key = WHOLE.to_vec();
    unknown_key.push(("model.toml", "name = 'a'\nlicense = 'b'\n"));
    check(&unknown_key, &["model.toml", "line 2", "license"]);
    assert!(matches!(Bundle::open(Path::new("/absent")), Err(Error::Bundle { .. })));
}

#[test]
fn a_single_reduced_precision_stands_for_the_graph() {
    let mut files = WHOLE.to_vec();
    files[1].0 = "onnx/decoder_model_merged_q4f16.onnx";
    let bundle = Bundle::open(folder(&files).path()).expect("a model");
    assert!(bundle.files.iter().any(|file| file.name == files[1].0));
}

#[test]
fn a_folder_that_lacks_configuration_opens_and_does_not_load() {
    let dir = folder(&WHOLE[..3]);
    let bundle = Bundle::open(dir.path()).expect("graphs are there");
    assert_eq!(bundle.missing, ["tokenizer.json", "preprocessor_config.json"]);
    let error = Model::load(&bundle, &runtime(), &SessionOptions::default()).expect_err("incomplete").to_string();
    assert!(error.contains("tokenizer.json, preprocessor_config.json"), "{error}");
}

#[test]
fn a_broken_graph_is_named() {
    let Some(reference) = reference("ved_vit_gpt2") else { return };
    let read = |name: &str| fs::read_to_string(reference.join(name)).expect("readable");
    let dir = folder(&[
        WHOLE[0],
        WHOLE[1],
        ("config.json", &read("config.json")),
        ("tokenizer.json", &read("tokenizer.json")),
        ("preprocessor_config.json", &read("preprocessor_config.json")),
    ]);
    let bundle = Bundle::open(dir.path()).expect("looks like a model");
    let error = Model::load(&bundle, &runtime(), &SessionOptions::default()).expect_err("no graph").to_string();
    assert!(error.contains("graph encoder_model.onnx"), "{error}");
}
