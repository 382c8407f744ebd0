//! A model folder, looked at without the runtime.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    error::{Error, Result},
    manifest::Manifest,
};

/// How the graphs of a model lie on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// `encoder_model.onnx` and `decoder_model_merged.onnx`, as optimum exports image-to-text models.
    EncoderDecoder,
}

/// One file that defines the model's behaviour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BundleFile {
    /// Path inside the folder, with `/`.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// A model folder: what it is, which files define it, and their digests.
#[derive(Debug, Clone, Serialize)]
pub struct Bundle {
    /// The folder.
    pub folder: PathBuf,
    /// Layout of the graphs.
    pub layout: Layout,
    /// `model_type` of `config.json`; the layout's name when it states none.
    pub family: String,
    /// `model.toml`.
    pub manifest: Manifest,
    /// Files that define the behaviour (graphs, their external data, configuration, tokenizer), sorted by name.
    pub files: Vec<BundleFile>,
    /// SHA-256 over the names and digests of `files`: the identity of the model, wherever the folder lies.
    pub digest: String,
    /// Files a model of this layout needs and this folder lacks; `Model::load` refuses while there are any.
    pub missing: Vec<String>,
    #[serde(skip)]
    pub(crate) encoder: PathBuf,
    #[serde(skip)]
    pub(crate) decoder: PathBuf,
}

const LAYOUTS: &str = "encoder-decoder (encoder_model.onnx + decoder_model_merged.onnx, in the folder or under onnx/, as optimum exports)";

/// Configuration the engine reads; nothing else in the folder can change an answer.
const CONFIGURATION: [&str; 7] = [
    "config.json",
    "generation_config.json",
    "model.toml",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

impl Bundle {
    /// Looks at a model folder and hashes the files that define the model (about a second per gigabyte).
    ///
    /// # Errors
    /// [`Error::Bundle`] when a graph is missing (the message names the file and the layouts recognised), a file cannot
    /// be read or `model.toml` is wrong; [`Error::Unsupported`] for a layout this engine recognises but does not run.
    pub fn open(dir: &Path) -> Result<Self> {
        let names = list(dir)?;
        refuse_other_layouts(dir, &names)?;
        let encoder = find_graph(dir, &names, "encoder_model")?;
        let decoder = find_graph(dir, &names, "decoder_model_merged")?;
        let manifest = Manifest::read(dir)?;

        let mut defining: Vec<&String> = names
            .iter()
            .filter(|name| {
                CONFIGURATION.contains(&name.as_str())
                    || [&encoder, &decoder].iter().any(|graph| *name == *graph || is_external_data(name, graph))
            })
            .collect();
        defining.sort();
        let files = defining.iter().map(|name| hash(dir, name)).collect::<Result<Vec<_>>>()?;
        let present = |name: &str| files.iter().any(|file| file.name == name);
        let mut missing: Vec<String> = ["config.json", "tokenizer.json"]
            .iter()
            .filter(|name| !present(name))
            .map(|name| (*name).to_owned())
            .collect();
        if !present("preprocessor_config.json") && !present("processor_config.json") {
            missing.push("preprocessor_config.json".to_owned());
        }

        let family = if present("config.json") {
            let config = read_json(&dir.join("config.json"))?;
            config.get("model_type").and_then(|value| value.as_str()).map(str::to_owned)
        } else {
            None
        };
        Ok(Self {
            folder: dir.to_owned(),
            layout: Layout::EncoderDecoder,
            family: family.unwrap_or_else(|| "encoder-decoder".to_owned()),
            manifest,
            digest: digest(&files),
            files,
            missing,
            encoder: dir.join(encoder),
            decoder: dir.join(decoder),
        })
    }

    /// Name for people: the manifest's, else the folder's.
    pub fn name(&self) -> String {
        let folder = || self.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.manifest.name.clone().unwrap_or_else(folder)
    }

    /// `id2label` of `config.json` in the order of its ids; empty unless the ids count from 0 without a gap.
    pub(crate) fn labels(&self) -> Result<Vec<String>> {
        let config = read_json(&self.folder.join("config.json"))?;
        let Some(map) = config.get("id2label").and_then(|labels| labels.as_object()) else { return Ok(Vec::new()) };
        let label = |id: usize| map.get(&id.to_string())?.as_str().map(str::to_owned);
        Ok((0..map.len()).map(label).collect::<Option<Vec<_>>>().unwrap_or_default())
    }
}

/// Files of the folder and of its `onnx/`, relative, with `/`.
fn list(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (folder, prefix) in [(dir.to_owned(), ""), (dir.join("onnx"), "onnx/")] {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !prefix.is_empty() => continue,
            Err(error) => return Err(Error::bundle(folder, format!("the folder cannot be read: {error}"))),
        };
        for entry in entries {
            let entry = entry.map_err(|error| Error::bundle(&folder, error.to_string()))?;
            // Model hubs keep links to a shared store, so the target decides.
            if entry.path().is_file() {
                names.push(format!("{prefix}{}", entry.file_name().to_string_lossy()));
            }
        }
    }
    names.sort();
    Ok(names)
}

/// File name without `onnx/`.
fn base(name: &str) -> &str {
    name.strip_prefix("onnx/").unwrap_or(name)
}

fn refuse_other_layouts(dir: &Path, names: &[String]) -> Result<()> {
    let graph = |stem: &str| names.iter().find(|name| base(name).starts_with(stem) && name.ends_with(".onnx"));
    let file = |wanted: &str| names.iter().find(|name| name.as_str() == wanted);
    let found = if let Some(name) = file("genai_config.json") {
        Some(("onnxruntime-genai", name))
    } else if let Some(name) = file("export.json") {
        Some(("transformers 5 native export", name))
    } else if let Some(name) = graph("vision_encoder").or_else(|| graph("embed_tokens")) {
        Some(("onnx-community vision encoder + language model", name))
    } else if graph("encoder_model").is_none() && graph("decoder_model").is_none() {
        graph("model").map(|name| ("single graph (zero-shot or classifier)", name))
    } else {
        None
    };
    match found {
        Some((layout, name)) => Err(Error::unsupported(
            format!("{}: layout `{layout}` (it has {name})", dir.display()),
            format!("layout {LAYOUTS}"),
            "choose or export a model in a supported layout",
        )),
        None => Ok(()),
    }
}

/// The graph called `stem` or, when there is just one of its kind, `stem_<precision>`.
fn find_graph(dir: &Path, names: &[String], stem: &str) -> Result<String> {
    let of_kind: Vec<&String> = names
        .iter()
        .filter(|name| {
            let suffix = base(name).strip_suffix(".onnx").and_then(|name| name.strip_prefix(stem));
            suffix.is_some_and(|suffix| suffix.is_empty() || is_precision(suffix))
        })
        .collect();
    let exact = of_kind.iter().find(|name| base(name).len() == stem.len() + ".onnx".len());
    match (exact, of_kind.as_slice()) {
        (Some(name), _) => Ok((*name).clone()),
        (None, [name]) => Ok((*name).clone()),
        (None, []) => {
            let onnx: Vec<&str> = names.iter().map(String::as_str).filter(|name| name.ends_with(".onnx")).collect();
            let have = if onnx.is_empty() { "no .onnx file".to_owned() } else { onnx.join(", ") };
            Err(Error::bundle(
                dir,
                format!("{stem}.onnx is missing (the folder has {have}); layouts recognised: {LAYOUTS}"),
            ))
        }
        (None, several) => {
            let several: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
            Err(Error::bundle(
                dir,
                format!("{stem}.onnx is missing and {} could stand for it; keep one of them", several.join(", ")),
            ))
        }
    }
}

/// Suffixes the exporters give to reduced precision (`_fp16`, `_quantized`, `_q4f16` …).
fn is_precision(suffix: &str) -> bool {
    ["_fp16", "_int8", "_uint8", "_quantized", "_bnb4"].contains(&suffix)
        || suffix.strip_prefix("_q").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// `graph.onnx_data`, `graph.onnx_data_1`, `graph.onnx.data`: weights ONNX Runtime reads beside the graph.
fn is_external_data(name: &str, graph: &str) -> bool {
    name.strip_prefix(graph).is_some_and(|rest| rest.starts_with("_data") || rest.starts_with(".data"))
}

fn hash(dir: &Path, name: &str) -> Result<BundleFile> {
    let path = dir.join(name);
    let fail = |error: io::Error| Error::bundle(&path, error.to_string());
    let mut file = File::open(&path).map_err(fail)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer).map_err(fail)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
    Ok(BundleFile { name: name.to_owned(), bytes, sha256: hex(&hasher.finalize()) })
}

fn digest(files: &[BundleFile]) -> String {
    // Graphs count by their own name: the same model with its graphs under onnx/ or not is the same model.
    let mut files: Vec<&BundleFile> = files.iter().collect();
    files.sort_by_key(|file| base(&file.name));
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update(base(&file.name).as_bytes());
        hasher.update([0]);
        hasher.update(file.sha256.as_bytes());
        hasher.update([b'\n']);
    }
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A JSON file of the folder.
pub(crate) fn read_json(path: &Path) -> Result<serde_json::Value> {
    let text = fs::read_to_string(path).map_err(|error| Error::bundle(path, error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| Error::bundle(path, format!("not valid JSON: {error}")))
}

/// A JSON file of the folder that may be absent.
pub(crate) fn read_optional_json(path: &Path) -> Result<Option<serde_json::Value>> {
    if path.is_file() { read_json(path).map(Some) } else { Ok(None) }
}
