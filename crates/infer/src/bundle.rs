//! A model folder, looked at without the runtime.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    error::{Error, Result},
    genai::GenAi,
    known,
    layout::{self, Layout, Role, base},
    manifest::Manifest,
    onnx_file,
    template::Template,
    text::Text,
};

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
    /// The folder; in JSON with a sign for what is no UTF-8.
    #[serde(serialize_with = "shown")]
    pub folder: PathBuf,
    /// Layout of the graphs.
    pub layout: Layout,
    /// What it is run as: `family` of `model.toml`, else `model_type` of `config.json`, or `model.type` of
    /// `genai_config.json`; `encoder-decoder` when none states one.
    pub family: String,
    /// `model.toml`.
    pub manifest: Manifest,
    /// Files that define the behaviour (graphs, their weights, configuration, tokenizer), sorted by name.
    pub files: Vec<BundleFile>,
    /// SHA-256 over the names and digests of `files`: the identity of the model, wherever the folder lies.
    pub digest: String,
    /// Which file plays which part.
    pub graphs: BTreeMap<Role, String>,
    /// What the model's scores mean: the file that `calibration` of `model.toml` names, else `calibration.json` where the
    /// folder has one. Relative to the folder.
    pub calibration: Option<String>,
    /// Files a model of this layout needs and this folder lacks; `Model::load` refuses while there are any.
    pub missing: Vec<String>,
    /// Files that are there and cannot be right (empty, cut short), each with what to do; `Model::load` refuses while
    /// there are any.
    pub problems: Vec<String>,
    #[serde(skip)]
    pub(crate) genai: Option<GenAi>,
}

/// Configuration the engine reads; nothing else in the folder but graphs and their weights can change an answer.
const CONFIGURATION: [&str; 11] = [
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "genai_config.json",
    "generation_config.json",
    "model.toml",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

fn shown<S: serde::Serializer>(path: &Path, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

impl Bundle {
    /// Looks at a model folder and hashes the files that define the model (about a second per gigabyte). Where the
    /// folder has graphs of several precisions, `model.toml` says which, else the most exact are taken.
    ///
    /// # Errors
    /// [`Error::Bundle`] when a graph is missing (the message names the file and the layouts recognised), a file cannot
    /// be read or `model.toml` is wrong; [`Error::Unsupported`] for a layout this engine recognises but does not run.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_precision(dir, None)
    }

    /// As [`Bundle::open`], with graphs of a precision by its file suffix: `fp32` (no suffix), `fp16`, `quantized`, `q4` ….
    ///
    /// # Errors
    /// As [`Bundle::open`], and [`Error::Bundle`] when no graph has that precision.
    pub fn open_precision(dir: &Path, precision: Option<&str>) -> Result<Self> {
        let names = list(dir)?;
        let manifest = Manifest::read(dir)?;
        let layout = layout::recognise(dir, &names)?;
        let genai = if layout == Layout::GenAi { Some(GenAi::read(&dir.join("genai_config.json"))?) } else { None };
        let graphs = match &genai {
            Some(genai) => genai.graphs(dir, &names)?,
            None => layout::graphs(dir, &names, layout, precision.or(manifest.precision.as_deref()))?,
        };
        let (mut missing, mut problems) = (Vec::new(), Vec::new());
        let mut defining: Vec<String> =
            names.iter().filter(|name| CONFIGURATION.contains(&name.as_str())).cloned().collect();
        for graph in graphs.values() {
            defining.push(graph.clone());
            defining.extend(names.iter().filter(|name| is_external_data(name, graph)).cloned());
            defining.extend(weights(dir, graph, &mut missing, &mut problems));
        }
        let calibration = manifest.calibration.clone();
        let calibration = calibration.or_else(|| names.iter().find(|name| *name == "calibration.json").cloned());
        for (key, name) in [("calibration", calibration.as_deref()), ("[output] json_schema", manifest.output.file())] {
            defining.extend(named(dir, key, name, &mut missing)?);
        }
        defining.sort();
        defining.dedup();
        let files = defining.iter().map(|name| hash(dir, name)).collect::<Result<Vec<_>>>()?;
        let present = |name: &str| files.iter().any(|file| file.name == name);
        if genai.is_none() && !present("config.json") {
            missing.push("config.json".to_owned());
        }
        if !present("tokenizer.json") {
            missing.push("tokenizer.json".to_owned());
        }
        if !present("preprocessor_config.json") && !present("processor_config.json") {
            missing.push("preprocessor_config.json".to_owned());
        }
        problems.extend(
            files
                .iter()
                .filter(|file| file.bytes == 0 && !graphs.values().any(|graph| *graph == file.name))
                .map(|file| format!("{} is empty; copy it again from the model's source", file.name)),
        );
        let family = family(dir, present("config.json"), genai.as_ref());
        let family = manifest.family.clone().unwrap_or(family);
        Ok(Self {
            folder: dir.to_owned(),
            layout,
            family,
            manifest,
            digest: digest(&files),
            files,
            graphs,
            calibration,
            missing,
            problems,
            genai,
        })
    }

    /// Name for people: the manifest's, else the folder's.
    pub fn name(&self) -> String {
        let folder = || self.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.manifest.name.clone().unwrap_or_else(folder)
    }

    /// Size of everything that defines the model: graphs, weights, tokenizer and configuration, in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Whether it is of a kind that is known, and everything a model of this layout needs is there.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a kind that is not known, [`Error::Bundle`] naming what is missing or broken.
    pub fn check(&self) -> Result<()> {
        known::check(self)?;
        if !self.missing.is_empty() {
            let missing = self.missing.join(", ");
            return Err(Error::bundle(&self.folder, format!("{missing} missing; copy from the model's source")));
        }
        if self.problems.is_empty() { Ok(()) } else { Err(Error::bundle(&self.folder, self.problems.join("; "))) }
    }

    /// Reads the tokenizer and the chat template and tries them, so that one that does not come to an end, or asks for
    /// more memory than a text is worth, is found out before the first study.
    ///
    /// # Errors
    /// [`Error::Bundle`] naming the file and what is wrong with it.
    pub fn check_texts(&self) -> Result<()> {
        self.check()?;
        Text::load(self)?;
        Template::load(self).map(|_| ())
    }

    /// Where the graph of a part lies.
    pub(crate) fn graph(&self, role: Role) -> Option<PathBuf> {
        self.graphs.get(&role).map(|name| self.folder.join(name))
    }

    /// A JSON file of the folder; `null` when it is absent.
    pub(crate) fn json(&self, name: &str) -> Result<Value> {
        Ok(read_optional_json(&self.folder.join(name))?.unwrap_or_default())
    }

    /// `id2label` of `config.json` in the order of its ids; empty unless the ids count from 0 without a gap.
    pub(crate) fn labels(&self) -> Result<Vec<String>> {
        let config = self.json("config.json")?;
        let Some(map) = config.get("id2label").and_then(|labels| labels.as_object()) else { return Ok(Vec::new()) };
        let label = |id: usize| map.get(&id.to_string())?.as_str().map(str::to_owned);
        Ok((0..map.len()).map(label).collect::<Option<Vec<_>>>().unwrap_or_default())
    }
}

fn family(dir: &Path, has_config: bool, genai: Option<&GenAi>) -> String {
    let config = if has_config { read_json(&dir.join("config.json")).unwrap_or_default() } else { Value::Null };
    let stated = known::stated(&config).map(str::to_owned);
    stated.or_else(|| genai.map(|genai| genai.family.clone())).unwrap_or_else(|| known::ENCODER_DECODER.to_owned())
}

/// The files that hold a graph's weights. What is wrong with the graph or with them goes to `problems`, what is not there
/// to `missing`.
fn weights(dir: &Path, graph: &str, missing: &mut Vec<String>, problems: &mut Vec<String>) -> Vec<String> {
    let file = match onnx_file::inspect(&dir.join(graph)) {
        Ok(file) => file,
        Err(problem) => {
            problems.push(format!("{graph}: {problem}"));
            return Vec::new();
        }
    };
    let folder = graph.strip_suffix(base(graph)).unwrap_or_default();
    let mut names = Vec::new();
    for (location, needed) in file.weights {
        if !is_inside(&location) {
            problems.push(format!("{graph}: its weights lie outside the folder; export the model again"));
            continue;
        }
        let name = format!("{folder}{}", location.trim_start_matches("./"));
        match fs::metadata(dir.join(&name)) {
            Ok(found) if found.len() < needed => problems.push(format!(
                "{name} has {} bytes, {graph} reads {needed}; it was cut short or is another model's: copy it again",
                found.len()
            )),
            Ok(_) => names.push(name),
            Err(_) => missing.push(name),
        }
    }
    names
}

/// A file that a key of `model.toml` names; one that is not there goes to `missing`.
///
/// # Errors
/// [`Error::Bundle`] for a name that leads out of the folder.
fn named(dir: &Path, key: &str, name: Option<&str>, missing: &mut Vec<String>) -> Result<Option<String>> {
    let Some(name) = name else { return Ok(None) };
    if !is_inside(name) {
        let problem = format!("{key} = {name:?} is no file of the model's folder; put it there and write its name");
        return Err(Error::bundle(dir.join("model.toml"), problem));
    }
    if dir.join(name).is_file() {
        return Ok(Some(name.to_owned()));
    }
    missing.push(format!("{name} ({key} of model.toml)"));
    Ok(None)
}

/// Whether a relative path stays in its folder.
fn is_inside(path: &str) -> bool {
    let stays = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    !path.is_empty() && Path::new(path).components().all(stays)
}

/// `graph.onnx_data`, `graph.onnx_data_1`, `graph.onnx.data`: what weights beside a graph are usually called.
fn is_external_data(name: &str, graph: &str) -> bool {
    name.strip_prefix(graph).is_some_and(|rest| rest.starts_with("_data") || rest.starts_with(".data"))
}

/// Whether a path has the form of a name on a model hub, `organisation/model`.
fn is_hub_id(path: &Path) -> bool {
    let mut parts = path.components();
    let is_name = |part: Option<Component<'_>>| matches!(part, Some(Component::Normal(_)));
    is_name(parts.next()) && is_name(parts.next()) && parts.next().is_none()
}

/// Files of the folder and of its `onnx/`, relative, with `/`.
fn list(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (folder, prefix) in [(dir.to_owned(), ""), (dir.join("onnx"), "onnx/")] {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !prefix.is_empty() => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_hub_id(dir) => {
                let problem = "there is no such folder; if that is a model's name on Hugging Face, get its files first (`hf \
                               download NAME --local-dir DIR`, from a repository with ONNX graphs) and name the folder: \
                               preread downloads nothing";
                return Err(Error::bundle(folder, problem));
            }
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
pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).map_err(|error| Error::bundle(path, error.to_string()))?;
    serde_json::from_str(&text)
        .map_err(|error| Error::bundle(path, format!("not valid JSON: {error}; copy it again from the model's source")))
}

/// A JSON file of the folder that may be absent.
pub(crate) fn read_optional_json(path: &Path) -> Result<Option<Value>> {
    if path.is_file() { read_json(path).map(Some) } else { Ok(None) }
}
