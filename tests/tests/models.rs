//! Model folders through the program: what is wrong with one is said with the file and what to do, and what a model writes
//! can be held to a grammar.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use e2e::{
    daemon::{command, json},
    place,
};
use serde_json::Value;

const FAILURE: Option<i32> = Some(1);

/// A copy of a reference model, to be changed.
fn copy(family: &str) -> Result<Option<tempfile::TempDir>> {
    let Some(shared) = place::shared() else { return Ok(None) };
    let (from, dir) = (shared.join("vlm").join(family), tempfile::tempdir()?);
    for inner in ["", "onnx"] {
        fs::create_dir_all(dir.path().join(inner))?;
        for entry in fs::read_dir(from.join(inner))? {
            let path = entry?.path();
            if let Some(name) = path.file_name().filter(|_| path.is_file()) {
                // Copied as bytes: the originals may not be written to.
                fs::write(dir.path().join(inner).join(name), fs::read(&path)?)?;
            }
        }
    }
    Ok(Some(dir))
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// What `model check` and `model run` say of a folder that they refuse.
fn refusals(folder: &Path) -> Result<[String; 2]> {
    let image = path(&folder.join("image0.png"));
    let folder = path(folder);
    let said = |arguments: &[&str]| -> Result<String> {
        let output = command(arguments)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), FAILURE, "{arguments:?}: {said}");
        assert!(said.trim_end().lines().count() <= 3, "one error, not a trace: {said}");
        Ok(said)
    };
    let prompt = ["--prompt", "Describe."];
    Ok([
        said(&["model", "check", &folder])?,
        said(&[&["model", "run", &folder, "--image", &image][..], &prompt].concat())?,
    ])
}

/// A field of a message in protocol buffers' encoding, shorter than 128 bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap_or(u8::MAX);
    [&[number << 3 | 2, length][..], content].concat()
}

/// Gives a graph one more weight, of 20 bytes in a file beside it.
fn add_weights_outside(graph: &Path, file: &str) -> Result<()> {
    let entry = |key: &str, value: &str| field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
    let data = [entry("location", file), entry("offset", "0"), entry("length", "20")].concat();
    let tensor = [&[0x08, 5, 0x10, 1][..], &field(8, b"more"), &data, &[0x70, 1]].concat();
    let mut bytes = fs::read(graph)?;
    bytes.extend(field(7, &field(5, &tensor)));
    Ok(fs::write(graph, bytes)?)
}

type Change = fn(&Path) -> Result<()>;

#[test]
fn what_is_wrong_with_a_model_folder_is_one_clear_error() -> Result<()> {
    fn cut(file: &Path, length: usize) -> Result<()> {
        let bytes = fs::read(file)?;
        Ok(fs::write(file, &bytes[..length.min(bytes.len())])?)
    }
    const DECODER: &str = "onnx/decoder_model_merged.onnx";
    let cases: [(&str, Change, &[&str]); 11] = [
        ("a missing graph", |dir| Ok(fs::remove_file(dir.join(DECODER))?), &["decoder_model_merged.onnx", "copy it"]),
        ("an empty graph", |dir| cut(&dir.join(DECODER), 0), &[DECODER, "empty", "copy it again"]),
        ("a graph cut short", |dir| cut(&dir.join(DECODER), 9000), &[DECODER, "cut short", "copy it again"]),
        (
            "weights cut short",
            |dir| {
                add_weights_outside(&dir.join(DECODER), "more.data")?;
                Ok(fs::write(dir.join("onnx/more.data"), "five!")?)
            },
            &["onnx/more.data has 5 bytes", "reads 20", "copy it again"],
        ),
        (
            "weights missing",
            |dir| add_weights_outside(&dir.join(DECODER), "more.data"),
            &["onnx/more.data missing", "copy from"],
        ),
        (
            "an operator set of the future",
            |dir| {
                let mut bytes = fs::read(dir.join(DECODER))?;
                bytes.extend([0x42, 0x03, 0x10, 0xe7, 0x07]);
                Ok(fs::write(dir.join(DECODER), bytes)?)
            },
            &["decoder_model_merged.onnx", "operator set", "newer ONNX Runtime"],
        ),
        ("an empty tokenizer", |dir| cut(&dir.join("tokenizer.json"), 0), &["tokenizer.json", "copy it again"]),
        (
            "another model's tokenizer",
            |dir| {
                let others = place::root().join("models/phantom-cxr/tokenizer.json");
                let mut tokenizer: Value = serde_json::from_slice(&fs::read(others)?)?;
                if let Some(vocabulary) = tokenizer["model"]["vocab"].as_object_mut() {
                    vocabulary.extend(
                        (vocabulary.len()..5000).map(|id| (format!("word{id}"), Value::from(id))).collect::<Vec<_>>(),
                    );
                }
                Ok(fs::write(dir.join("tokenizer.json"), tokenizer.to_string())?)
            },
            &["tokenizer.json", "another model's", "copy the right one"],
        ),
        (
            "a chat template that raises",
            |dir| Ok(fs::write(dir.join("chat_template.jinja"), "{{ raise_exception('roles must alternate') }}")?),
            &["chat_template.jinja", "line 1", "roles must alternate", "change the messages or correct the template"],
        ),
        (
            "a chat template that is none",
            |dir| Ok(fs::write(dir.join("chat_template.jinja"), "{% for message in messages %}")?),
            &["chat_template.jinja", "line 1"],
        ),
        (
            "a grammar that is wrong",
            |dir| Ok(fs::write(dir.join("model.toml"), "[output]\nregex = '('\n")?),
            &["model.toml", "[output] regex"],
        ),
    ];
    for (what, change, parts) in cases {
        let Some(dir) = copy("llava")? else { return Ok(()) };
        change(dir.path())?;
        for said in refusals(dir.path())? {
            for part in parts {
                assert!(said.contains(part), "{what}: {part:?} not in {said:?}");
            }
        }
    }
    Ok(())
}

/// A grey PNG of these dimensions, whatever it takes to hold it; its pixels are not all there.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 0, 0, 0, 0]);
    let mut remainder = u32::MAX;
    for byte in &header {
        remainder ^= u32::from(*byte);
        for _ in 0..8 {
            remainder = if remainder & 1 == 1 { remainder >> 1 ^ 0xedb8_8320 } else { remainder >> 1 };
        }
    }
    [&b"\x89PNG\r\n\x1a\n\0\0\0\x0d"[..], &header, &(!remainder).to_be_bytes(), b"\0\0\0\0IDAT\x35\xaf\x06\x1e"]
        .concat()
}

#[test]
fn an_image_that_is_too_small_or_too_large_is_said_to_be() -> Result<()> {
    let Some(shared) = place::shared() else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let run = |family: &str, image: &Path| {
        let folder = path(&shared.join("vlm").join(family));
        let limit = "{\"max_new_tokens\": 4}";
        command(&["model", "run", &folder, "--image", &path(image), "--prompt", "Describe.", "--gen", limit])
    };
    let large = dir.path().join("large.png");
    fs::write(&large, png_header(20_000, 20_000))?;
    let output = run("llava", &large)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), FAILURE, "{said}");
    for part in ["large.png", "20000 x 20000", "reduce it"] {
        assert!(said.contains(part), "{part:?} not in {said}");
    }
    // One grey pixel.
    let small = dir.path().join("small.png");
    let pixel: [u8; 67] = [
        0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0x0d, 0x49, 0x48, 0x44, 0x52, 0, 0, 0, 1, 0, 0, 0, 1,
        8, 0, 0, 0, 0, 0x3a, 0x7e, 0x9b, 0x55, 0, 0, 0, 0x0a, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0x68, 0, 0, 0,
        0x82, 0, 0x81, 0x77, 0xcd, 0x72, 0xb6, 0, 0, 0, 0, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
    ];
    fs::write(&small, pixel)?;
    for family in ["llava", "qwen2_vl", "smolvlm", "gemma3"] {
        let output = run(family, &small)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || said.contains("1 x 1"), "{family}: {said}");
    }
    Ok(())
}

fn run_json(folder: &Path, image: &Path, more: &[&str]) -> Result<Value> {
    let (folder, image) = (path(folder), path(image));
    let arguments = [&["model", "run", &folder, "--image", &image, "--json"][..], more].concat();
    json(&command(&arguments)?)
}

#[test]
fn a_model_writes_what_a_grammar_allows() -> Result<()> {
    let Some(shared) = place::shared() else { return Ok(()) };
    let folder: PathBuf = shared.join("vlm/llava");
    let image = folder.join("image0.png");
    let dir = tempfile::tempdir()?;
    let schema = dir.path().join("schema.json");
    let stated = r#"{"type": "object", "additionalProperties": false, "required": ["presence", "laterality"],
        "properties": {"presence": {"enum": ["present", "absent"]}, "laterality": {"enum": ["left", "right"]}}}"#;
    fs::write(&schema, stated)?;
    let asked = ["--prompt", "Describe.", "--gen", "{\"max_new_tokens\": 100}"];
    let answer = run_json(&folder, &image, &[&asked[..], &["--json-schema", &path(&schema)]].concat())?;
    assert_eq!(answer["complete"], true, "{answer}");
    let text: Value = serde_json::from_str(answer["text"].as_str().unwrap_or_default())?;
    assert!(["present", "absent"].iter().any(|value| text["presence"] == *value), "{text}");
    let answer = run_json(&folder, &image, &[&asked[..], &["--regex", "(no|an) effusion\\."]].concat())?;
    assert!(["no effusion.", "an effusion."].iter().any(|text| answer["text"] == *text), "{answer}");
    let cut = ["--prompt", "Describe.", "--gen", "{\"max_new_tokens\": 2}", "--regex", "(no|an) effusion\\."];
    let answer = run_json(&folder, &image, &cut)?;
    assert_eq!((&answer["complete"], &answer["stopped_by"]), (&Value::Bool(false), &"length".into()), "{answer}");
    Ok(())
}

#[test]
fn a_check_says_what_the_manifest_leaves_out_and_asks_too_much() -> Result<()> {
    let Some(dir) = copy("ved_vit_gpt2")? else { return Ok(()) };
    fs::write(dir.path().join("model.toml"), "name = 'a'\n[images]\nlimit = 4\n")?;
    fs::write(dir.path().join("chat_template.jinja"), "{{ messages }}")?;
    let output = command(&["model", "check", &path(dir.path())])?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for part in
        ["does not say: version", "intended_use", "limit = 4", "set limit = 1", "chat_template.jinja", "model.toml"]
    {
        assert!(said.contains(part), "{part:?} not in {said}");
    }
    let checked = json(&command(&["model", "check", &path(dir.path()), "--json"])?)?;
    assert_eq!(checked["warnings"].as_array().map(Vec::len), Some(1), "{checked}");
    assert_eq!(checked["unstated"][0], "version", "{checked}");

    let Some(shared) = place::shared() else { return Ok(()) };
    let folder = shared.join("vlm/siglip_zeroshot");
    let labels = |more: &[&str]| -> Result<Value> {
        Ok(run_json(&folder, &folder.join("image0.png"), more)?["candidate_labels"].clone())
    };
    assert_eq!(labels(&["--labels", "normal,effusion"])?, serde_json::json!(["normal", "effusion"]));
    let given = ["--labels", "effusion, left", "--labels", "normal"];
    assert_eq!(labels(&given)?, serde_json::json!(["effusion, left", "normal"]));
    Ok(())
}
