//! `model.toml`: what a person states about a model beside its weights.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::{Map, Value};

mod ages;

pub use ages::Ages;
use ages::sexes;

use crate::{
    bundle::read_json,
    constraint::Grammar,
    error::{Error, Result},
};

/// The manifest of a model folder (`model.toml`). Every key is optional; an unknown key is an error that names the line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Manifest {
    /// Name shown in reports; the folder's name when absent.
    pub name: Option<String>,
    /// The family that it is run as, by its `model_type`, where its own is not known.
    pub family: Option<String>,
    /// Version of the weights, as their author counts.
    pub version: Option<String>,
    /// Licence of the weights, an SPDX expression where there is one.
    pub licence: Option<String>,
    /// What the model is meant for, one sentence.
    pub intended_use: Option<String>,
    /// What every reader of its output has to be told, one sentence.
    pub notice: Option<String>,
    /// DICOM modalities (0008,0060) it was made for, such as `CR`.
    pub modality: Vec<String>,
    /// Body parts (0018,0015) it was made for.
    pub body_part: Vec<String>,
    /// View positions (0018,5101) it was made for.
    pub view: Vec<String>,
    /// Ages of patients that it was made for.
    pub age: Option<Ages>,
    /// Patient's Sex (0010,0040) that it was made for: `F`, `M`, `O`.
    #[serde(deserialize_with = "sexes")]
    pub sex: Vec<String>,
    /// Prompt used when a request brings none.
    pub prompt: Option<String>,
    /// Prompts that a request may ask for by name.
    pub prompts: BTreeMap<String, String>,
    /// Labels that a zero-shot model scores when a request brings none.
    pub labels: Vec<String>,
    /// File of the folder with what the model's scores mean (`preread model calibrate` writes it); `calibration.json` when
    /// absent and there. The engine only finds it.
    pub calibration: Option<String>,
    /// Which graphs are taken where the folder has them in several precisions, by the file's suffix: `fp32` (no suffix),
    /// `fp16`, `quantized`, `q4` …; the most exact when absent.
    pub precision: Option<String>,
    /// Generation options by their Hugging Face names, over those of the model's own files.
    pub generation: Map<String, Value>,
    /// Image processor options by their Hugging Face names, over those of the model's own files.
    pub processor: Map<String, Value>,
    /// How attention is read from the graphs.
    pub attention: AttentionManifest,
    /// Which images it is given.
    pub images: ImagesManifest,
    /// What its text has to be.
    pub output: OutputManifest,
    /// From which probability on a finding counts.
    pub thresholds: ThresholdsManifest,
}

/// `[output]` of a manifest: the form of the model's text, and the grammar that holds it to that.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StatedOutput")]
pub struct OutputManifest {
    /// How the text is to be read; [`OutputManifest::form`] has the default.
    pub form: Option<OutputForm>,
    /// A JSON Schema that the text satisfies.
    pub json_schema: Option<SchemaSource>,
    /// A regular expression that the text as a whole matches (syntax of Rust's `regex`, without look-around).
    pub regex: Option<String>,
}

/// How a model's text is to be read. The engine only carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputForm {
    /// As sentences.
    #[default]
    Text,
    /// As one JSON document.
    Json,
}

/// Where a JSON Schema stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SchemaSource {
    /// In a file of the folder.
    File(String),
    /// In the manifest itself, as a table.
    Inline(Map<String, Value>),
}

/// The keys of `[output]`, before they are held against each other.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StatedOutput {
    form: Option<OutputForm>,
    json_schema: Option<SchemaSource>,
    regex: Option<String>,
}

impl TryFrom<StatedOutput> for OutputManifest {
    type Error = &'static str;

    fn try_from(StatedOutput { form, json_schema, regex }: StatedOutput) -> Result<Self, Self::Error> {
        if json_schema.is_some() && regex.is_some() {
            return Err("[output] has both json_schema and regex; a text is held to one of them");
        }
        if form == Some(OutputForm::Json) && regex.is_some() {
            return Err("[output] has form = \"json\" and regex; hold JSON to a json_schema");
        }
        if form == Some(OutputForm::Text) && json_schema.is_some() {
            return Err("[output] has form = \"text\" and json_schema; what it asks for is JSON");
        }
        Ok(Self { form, json_schema, regex })
    }
}

impl OutputManifest {
    /// How the text is to be read: as stated, else as JSON where a schema asks for it.
    pub fn form(&self) -> OutputForm {
        let schema = self.json_schema.as_ref().map(|_| OutputForm::Json);
        self.form.or(schema).unwrap_or_default()
    }

    /// The file of the folder that it names.
    pub(crate) fn file(&self) -> Option<&str> {
        match &self.json_schema {
            Some(SchemaSource::File(name)) => Some(name),
            _ => None,
        }
    }

    /// The key that states the grammar.
    pub(crate) fn key(&self) -> &'static str {
        if self.regex.is_some() { "[output] regex" } else { "[output] json_schema" }
    }

    /// What the text is held to, if to anything.
    ///
    /// # Errors
    /// [`Error::Bundle`] for a file that is no JSON.
    pub(crate) fn grammar(&self, folder: &Path) -> Result<Option<Grammar>> {
        Ok(match (&self.json_schema, &self.regex) {
            (Some(SchemaSource::Inline(schema)), _) => Some(Grammar::JsonSchema(schema.clone().into())),
            (Some(SchemaSource::File(name)), _) => Some(Grammar::JsonSchema(read_json(&folder.join(name))?)),
            (None, Some(expression)) => Some(Grammar::Regex(expression.clone())),
            (None, None) => None,
        })
    }
}

/// `[thresholds]` of a manifest, probabilities from 0 to 1. The engine only carries them; whoever makes a report of the
/// answer reads them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ThresholdsManifest {
    /// For every finding that has none of its own.
    #[serde(deserialize_with = "probability")]
    pub probability: Option<f64>,
    /// By the finding's name.
    #[serde(deserialize_with = "probabilities")]
    pub findings: BTreeMap<String, f64>,
}

fn probability<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    checked(f64::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
}

fn probabilities<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let stated = BTreeMap::<String, f64>::deserialize(deserializer)?;
    let check = |(name, value)| Ok((name, checked(value)?));
    stated.into_iter().map(check).collect::<Result<_, String>>().map_err(D::Error::custom)
}

fn checked(probability: f64) -> Result<f64, String> {
    match (0.0..=1.0).contains(&probability) {
        true => Ok(probability),
        false => Err(format!("{probability} is no probability; write a number from 0 to 1")),
    }
}

/// `[images]` of a manifest: which images a request is made of. The engine takes what it is given; whoever makes the
/// requests reads these keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImagesManifest {
    /// Which slices of a stack or frames of a cine: `middle` (the default), `all`, `every 5 mm`, `8 evenly`.
    pub slices: Option<String>,
    /// Rows and columns of a picture of several slices; it is filled evenly unless `slices` says which.
    pub montage: Option<[u32; 2]>,
    /// Width and height of a slice's place in the montage, in pixels; 256 when absent.
    pub cell: Option<u32>,
    /// Windows: `file` (the default), `lung`, `mediastinum`, `bone`, `brain`, `liver` (CT), `40/400` (centre and width),
    /// `percentiles` or `percentiles 1 99` of the stack's values.
    pub windows: Vec<String>,
    /// What several windows become: `images` (the default), or `channels` of one image, when there are three.
    pub windows_as: Option<String>,
    /// How many images a request has at most; 1 when absent.
    pub limit: Option<u32>,
}

/// `[attention]` of a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttentionManifest {
    /// Where the map comes from; `cross_attentions` (the default) is the decoder's optional outputs of that name.
    pub source: Option<AttentionSource>,
    /// Decoder layer, counted from 0; the last one when absent.
    pub layer: Option<usize>,
    /// Rows and columns of the encoder's grid where its length does not tell (neither n² nor n²+1).
    pub grid: Option<[usize; 2]>,
}

/// Which graph outputs carry attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttentionSource {
    /// `cross_attentions.N` of the decoder, [batch, heads, sequence, encoder length].
    CrossAttentions,
}

impl Manifest {
    /// What a reader of its reports should be told and it does not say, by key.
    pub fn unstated(&self) -> Vec<&'static str> {
        let stated = [
            ("name", self.name.is_some()),
            ("version", self.version.is_some()),
            ("licence", self.licence.is_some()),
            ("intended_use", self.intended_use.is_some()),
            ("notice", self.notice.is_some()),
            ("modality", !self.modality.is_empty()),
            ("body_part", !self.body_part.is_empty()),
        ];
        stated.into_iter().filter(|(_, stated)| !stated).map(|(key, _)| key).collect()
    }

    /// Parses the text of a `model.toml`.
    ///
    /// # Errors
    /// The message of the TOML parser, with line, column and the keys that exist.
    pub fn parse(text: &str) -> std::result::Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Reads `model.toml` of a folder; an absent file is an empty manifest.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("model.toml");
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).map_err(|error| Error::bundle(path, error.to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::bundle(path, error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_key() {
        let manifest = Manifest::parse(
            "name = 'a'\nmodality = ['CR', 'DX']\nprompt = 'p'\n[attention]\nsource = 'cross_attentions'\nlayer = 1\ngrid = [16, 16]\n\
             [generation]\nmax_new_tokens = 40\n[processor]\nsize = { height = 8, width = 9 }\n\
             [images]\nslices = 'all'\nmontage = [3, 4]\ncell = 128\nwindows = ['lung']\nwindows_as = 'images'\nlimit = 2\n\
             [prompts]\nimpression = 'i'\n[output]\njson_schema = { type = 'object' }\n\
             [thresholds]\nprobability = 0.5\nfindings = { nodule = 0.25 }\n",
        )
        .expect("valid");
        assert_eq!((manifest.output.form(), &manifest.prompts["impression"][..]), (OutputForm::Json, "i"));
        assert_eq!((manifest.thresholds.probability, manifest.thresholds.findings["nodule"]), (Some(0.5), 0.25));
        assert_eq!(manifest.unstated(), ["version", "licence", "intended_use", "notice", "body_part"]);
        assert_eq!(manifest.modality, ["CR", "DX"]);
        assert_eq!(manifest.attention.grid, Some([16, 16]));
        assert_eq!(manifest.generation["max_new_tokens"], 40);
        assert_eq!(manifest.processor["size"]["width"], 9);
        assert_eq!((manifest.images.montage, manifest.images.limit), (Some([3, 4]), Some(2)));
    }

    #[test]
    fn a_mistake_names_its_line() {
        let check = |text: &str, parts: &[&str]| {
            let error = Manifest::parse(text).expect_err(text).to_string();
            for part in parts {
                assert!(error.contains(part), "{part:?} not in {error}");
            }
        };
        check("name = 'a'\nlicense = 'MIT'\n", &["line 2", "licence"]);
        check("name = 'a'\n[output]\njson_schema = 'a.json'\nregex = 'b'\n", &["line 2", "both json_schema and regex"]);
        check("[output]\nform = 'json'\nregex = 'b'\n", &["line 1", "form = \"json\""]);
        check("[output]\nform = 'text'\njson_schema = {}\n", &["line 1", "form = \"text\""]);
        check("[output]\nform = 'yaml'\n", &["line 2", "yaml"]);
        check("[output]\nschema = 'a'\n", &["line 2", "json_schema"]);
        check("[thresholds]\nprobability = 50\n", &["line 2"]);
        check("[thresholds]\nprobability = 1.5\n", &["line 2", "from 0 to 1"]);
        check("[thresholds]\nfindings = { nodule = -0.5 }\n", &["line 2", "from 0 to 1"]);
    }
}
