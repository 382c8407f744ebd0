//! Model folders: what is recognised, what is refused and with which words.

use std::{fs, path::Path};

use infer::{Bundle, Error, Model, SessionOptions};

use crate::support::{copy, reference, runtime};

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
    check(&[("onnx/vision_encoder_q4.onnx", "")], &["embed_tokens.onnx is missing", "vision_encoder_q4.onnx"]);
    check(&[("export.json", "{}")], &["not supported", "transformers 5", "optimum-cli export onnx"]);
    check(&[("genai_config.json", "{}")], &["genai_config.json", "no `model`"]);
    let genai = r#"{"model": {"type": "gemma3", "vision": {"filename": "v.onnx"}, "embedding": {"filename": "e.onnx"},
        "decoder": {"filename": "d.onnx"}}}"#;
    check(&[("genai_config.json", genai), ("v.onnx", "")], &["e.onnx is missing", "genai_config.json names it"]);
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
fn what_is_wrong_with_a_folder_names_the_file_and_the_fix() {
    for family in ["ved_vit_gpt2", "llava", "siglip_zeroshot"] {
        let Some(whole) = reference(family) else { return };
        let graphs: Vec<String> = graphs_of(&whole);
        let check = |change: &dyn Fn(&Path), parts: &[&str]| {
            let dir = copy(&whole);
            change(dir.path());
            let opened = Bundle::open(dir.path());
            let loaded = opened.and_then(|bundle| {
                Model::load(&bundle, &runtime(), &SessionOptions { threads: 1, ..SessionOptions::default() })
            });
            let error = loaded.map(|_| ()).expect_err("refused").to_string();
            for part in parts {
                assert!(error.contains(part), "{family}: {part:?} not in {error:?}");
            }
        };
        let cut = |name: &str, to: usize| {
            let name = name.to_owned();
            move |dir: &Path| {
                let bytes = fs::read(dir.join(&name)).expect("readable");
                fs::write(dir.join(&name), &bytes[..to.min(bytes.len() - 1)]).expect("written");
            }
        };
        for graph in &graphs {
            check(
                &|dir| fs::remove_file(dir.join(graph)).expect("removed"),
                &[graph.trim_start_matches("onnx/"), "copy it"],
            );
            check(&cut(graph, 0), &[graph, "empty", "copy it again"]);
            check(&cut(graph, usize::MAX), &[graph, "cut short", "copy it again"]);
            check(
                &|dir| fs::write(dir.join(graph), "<html>not found</html>").expect("written"),
                &[graph, "not an ONNX file"],
            );
            check(
                &|dir| newer_operators(&dir.join(graph)),
                &[graph.trim_start_matches("onnx/"), "operator set", "newer ONNX Runtime"],
            );
        }
        for file in ["config.json", "tokenizer.json", "preprocessor_config.json"] {
            check(&cut(file, 0), &[file, "copy it again"]);
        }
        for file in ["config.json", "tokenizer.json"] {
            check(&cut(file, 40), &[file, "copy it again"]);
            check(&|dir| fs::remove_file(dir.join(file)).expect("removed"), &[file, "missing"]);
        }
    }
}

/// The graphs of a folder, relative.
fn graphs_of(folder: &Path) -> Vec<String> {
    Bundle::open(folder).expect("a model").graphs.into_values().collect()
}

/// Says that a graph was written for an operator set that no runtime knows.
fn newer_operators(graph: &Path) {
    let mut bytes = fs::read(graph).expect("readable");
    // Another `opset_import` of the standard operators; the last one counts.
    bytes.extend([0x42, 0x03, 0x10, 0xe7, 0x07]);
    fs::write(graph, bytes).expect("written");
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let (Some(small), Some(large)) = (reference("ved_vit_gpt2"), reference("gemma3")) else { return };
    let dir = copy(&small);
    fs::copy(large.join("tokenizer.json"), dir.path().join("tokenizer.json")).expect("copied");
    let bundle = Bundle::open(dir.path()).expect("looks like a model");
    let error = Model::load(&bundle, &runtime(), &SessionOptions { threads: 1, ..SessionOptions::default() })
        .expect_err("another's")
        .to_string();
    for part in ["tokenizer.json", "vocabulary 400", "another model's"] {
        assert!(error.contains(part), "{part:?} not in {error:?}");
    }
}
